"""The parts of an export, which are the same for every search space."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Exported:
    """An architecture as a module that needs torch alone.

    Attributes:
        source: the file that is copied as model.py; it reads architecture.json and config.json beside it.
        example: the file of enas/export/examples that is copied as example.py, which loads model.py.
        weights: of the module, by name.
        settings: its arguments, and all else in config.json that model.py or a reader needs.
        title, summary: for the model card.
        make: (model.py as a module) to the network without its weights.
        inputs: examples of inputs by name, to trace it.
        dynamic: for each input, the names of the dimensions that may have any size.
        outputs: the names of the outputs.
    """

    source: Path
    example: str
    weights: dict[str, Tensor]
    settings: dict[str, Any]
    title: str
    summary: str
    make: Callable[[ModuleType], nn.Module]
    inputs: dict[str, Tensor]
    dynamic: tuple[dict[int, str], ...]
    outputs: tuple[str, ...]

"""What an export consists of, whatever the search space."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Signature:
    """How the module is made and called, for formats that trace it.

    Attributes:
        make: given model.py as a module, the network.
        inputs: examples, by name.
        dynamic: for each of them, the dimensions of any size, with a name each.
        outputs: the names of what comes out.
    """

    make: Callable[[ModuleType], nn.Module]
    inputs: dict[str, Tensor]
    dynamic: tuple[dict[int, str], ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Exported:
    """An architecture as source and weights.

    Attributes:
        source: model.py, which needs torch alone.
        example: example.py, which loads it.
        weights: of the module of model.py, by name.
        settings: its arguments, and what else a reader of config.json wants to know.
        title, summary: for the model card.
        signature: see `Signature`.
    """

    source: str
    example: str
    weights: dict[str, Tensor]
    settings: dict[str, Any]
    title: str
    summary: str
    signature: Signature

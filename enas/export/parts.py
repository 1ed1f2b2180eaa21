"""What an export consists of, whatever the search space."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Exported:
    """An architecture as source and weights.

    Attributes:
        source: model.py, which needs torch alone.
        example: example.py, which loads it.
        weights: of the module of model.py, by name.
        settings: its arguments, and what else a reader of config.json wants to know.
        title, summary: for the model card.
    """

    source: str
    example: str
    weights: dict[str, Tensor]
    settings: dict[str, Any]
    title: str
    summary: str

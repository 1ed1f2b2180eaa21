"""The registry of search spaces: a frozen `SearchSpace` holds everything specific to one.

Your own space registers the same way from outside the package; see `examples/own_space.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enas.errors import UserError
from enas.search.architecture import Architecture
from enas.search.formats import FORMATS, Format
from enas.search.metric import Metric
from enas.search.settings import SharedOptimisation
from enas.settings import ConfigLike, Settings

if TYPE_CHECKING:
    from enas.search.problem import Problem  # loads torch


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """A search space, and everything that the package does with it.

    Attributes:
        name: its name in messages.
        settings: the `Settings` classes of its parts, in addition to those of every run.
        train_types: the values of train_type.
        problem: returns the part that needs torch, and imports it: commands that only read flags do without.
        optim: the `Settings` class that says how the models are trained.
        selected_by: the settings, by name, that choose it, such as {"network_type": "cnn", "cnn_space": "macro"}; by
            default network_type with the name of the space.
        formats: published formats of its architectures, by name.
        parts: (settings) to the names that the ablation {part_word}_replacement tries by `replace_part`, see
            `enas.search.graph`; None if there is no such ablation.
        check: raises UserError for settings that do not go together in this space.
    """

    name: str
    settings: tuple[type[Settings], ...]
    architecture: type[Architecture]
    train_types: tuple[str, ...]
    problem: Callable[[], Problem]
    optim: type[SharedOptimisation]
    metric: Metric
    selected_by: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, Format] = field(default_factory=dict)
    parts: Callable[[ConfigLike], tuple[str, ...]] | None = None
    check: Callable[[ConfigLike], None] = lambda config: None

    def __post_init__(self) -> None:
        object.__setattr__(self, "selected_by", dict(self.selected_by) or {"network_type": self.name})


SPACES: dict[str, SearchSpace] = {}


def register(space: SearchSpace) -> SearchSpace:
    """Add a search space to those that flags can choose, and return it; UserError if its name is taken."""
    if space.name in SPACES:
        raise UserError(f"search space {space.name} is registered already; choose another name")
    SPACES[space.name] = space
    FORMATS.update(space.formats)
    return space


def network_types() -> tuple[str, ...]:
    """Return the values of --network_type."""
    return tuple(dict.fromkeys(space.selected_by["network_type"] for space in SPACES.values()))


def space_for(settings: Mapping[str, Any]) -> SearchSpace:
    """Return the search space that settings choose; UserError if none is registered for them."""
    for space in SPACES.values():
        if all(settings[name] == value for name, value in space.selected_by.items()):
            return space
    rule = f"it must be one of {', '.join(network_types())}; --use loads your own"
    raise UserError(f"network_type is {settings['network_type']!r}; {rule}")

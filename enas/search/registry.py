"""The registry of search spaces: a `SearchSpace` has all that is specific to one. See `examples/own_space.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from enas.errors import UserError
from enas.search.architecture import Architecture
from enas.search.formats import FORMATS, Format
from enas.search.metric import Metric
from enas.search.own_code import note_owner
from enas.search.settings import SharedOptimisation
from enas.settings import ConfigLike, Settings

if TYPE_CHECKING:
    from enas.search.problem import Make, Problem  # loads torch


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """A search space, and everything that the package does with it."""

    name: str  # in messages
    settings: tuple[type[Settings], ...]  # the classes of its parts, in addition to those of every run
    architecture: type[Architecture]
    train_types: tuple[str, ...]  # the values of train_type
    problem: Callable[[], "Problem"]  # imports the part that needs torch: commands that only read flags do without
    optim: type[SharedOptimisation]  # how the models are trained
    metric: Metric
    # The settings that choose it, like {"network_type": "cnn", "cnn_space": "macro"}; by default network_type `name`.
    selected_by: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, Format] = field(default_factory=dict)  # published formats of its architectures, by name
    # The names that the ablation {part_word}_replacement tries by `Graph.replace_part`; None if there is no such one.
    parts: Callable[[ConfigLike], tuple[str, ...]] | None = None
    check: Callable[[ConfigLike], None] = lambda config: None  # UserError for settings that do not go together
    controllers: Mapping[str, "Make"] = field(default_factory=dict)  # added by `register_controller`, by train type
    by_command: bool = True  # whether commands can make the models; if not, they were given in Python


SPACES: dict[str, SearchSpace] = {}
ALIASES = {"enas": "orig", "regular": "orig"}  # other names of train types
# From M architectures and the task's own rewards of them, a tensor [M], to M rewards, each of its architecture alone.
Reward = Callable[[Sequence[Any], Any], Any]
REWARDS: dict[str, Callable[[ConfigLike], Reward]] = {}
STRATEGIES: dict[str, "Make"] = {}  # makers of controllers for every search space, by train type


def register(space: SearchSpace) -> SearchSpace:
    """Add a search space to those that flags can choose, and return it; UserError if its name is taken."""
    if space.name in SPACES:
        raise UserError(f"search space {space.name} is registered already; choose another name")
    note_owner(space.name)
    types, controllers = (*space.train_types, *STRATEGIES), {**STRATEGIES, **space.controllers}
    chosen = dict(space.selected_by) or {"network_type": space.name}
    SPACES[space.name] = space = replace(space, train_types=types, controllers=controllers, selected_by=chosen)
    space.architecture.draw = lambda *drawing: space.problem().draw(*drawing)
    FORMATS.update(space.formats)
    return space


def register_controller(space: str | None, train_type: str, make: "Make") -> None:
    """Let `--train_type` choose the controller that `make` returns for the search space rnn, macro, micro, or your own.

    None is every search space, the tables of `enas strategies` included. UserError if there is no such search space, or
    the train type is taken or no identifier.
    """
    import_module("enas.config")  # which registers the package's own search spaces
    known = [one for one in SPACES.values() if space in (None, one.name)]
    if not known:
        raise UserError(f"there is no search space {space}; there are {', '.join(SPACES)}")
    taken = {*ALIASES, *(name for one in known for name in one.train_types)}
    if train_type in taken or not train_type.isidentifier():
        raise UserError(f"train_type {train_type!r} cannot be registered; choose another name, like my_controller")
    note_owner(train_type)
    if space is None:
        STRATEGIES[train_type] = make
    for one in known:
        controllers = {**one.controllers, train_type: make}
        SPACES[one.name] = replace(one, train_types=(*one.train_types, train_type), controllers=controllers)


def register_reward(name: str, make: Callable[[ConfigLike], Reward]) -> None:
    """Let `--reward NAME` choose the function that `make` returns, given the settings; a name may be given anew."""
    note_owner(name)
    REWARDS[name] = make


def reward_named(name: str) -> Callable[[ConfigLike], Reward]:
    """Return the maker of a registered reward function; UserError if there is none."""
    if name not in REWARDS:
        raise UserError(f"reward is {name!r}, which is not registered; --use loads its file, or give reward=function")
    return REWARDS[name]


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

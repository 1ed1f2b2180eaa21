"""The registry of search spaces: a frozen `SearchSpace` holds everything specific to one.

Your own space registers the same way from outside the package; see `examples/own_space.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from enas.errors import UserError
from enas.rnn.formats import FORMATS
from enas.search.architecture import Architecture
from enas.search.controllers import Controller, ControllerConfig, IndependentController, RandomController
from enas.search.cost import Cost
from enas.search.exported import Exported
from enas.search.formats import Format
from enas.search.optim import SharedOptimisation
from enas.search.scratch import TO_THE_END, ScratchConfig
from enas.search.space import Space
from enas.search.task import Metric, Task
from enas.settings import ConfigLike, Settings


class Data(Protocol):
    """What `SearchSpace.load_data` returns.

    Where it has an `identity` too (`enas.data.identity`), a run refuses to go on with other data.
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """What to log about the data, one line each."""


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """The ablation that replaces what nodes apply.

    Attributes:
        ablation: its name, and that of its script.
        names: what there is to replace by, given the settings of the run.
        apply: (architecture, name, node or None for all nodes) to the edited copy.
    """

    ablation: str
    names: Callable[[ConfigLike], tuple[str, ...]]
    apply: Callable[[Any, str, Any], Architecture]


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """A search space, and everything that the package does with it.

    Attributes:
        name: what messages call it.
        settings: the `Settings` classes of its parts, in addition to those of every run.
        architecture: its class of architectures.
        controllers: by train type, what makes the controller.
        load_data: reads the data.
        search_task: makes the problem with the shared model; given settings, data and device.
        scratch_task: makes the problem with a model of one architecture; given settings, data, architecture and device.
        optim: the `Settings` class that says how the models are trained.
        selected_by: the settings, by name, that choose it, such as {"network_type": "cnn", "cnn_space": "macro"}; by
            default network_type with the name of the space.
        scratch: when averaging begins and training ends, for one architecture from scratch.
        metric: what scores measure.
        draw: (architecture, path, title) to the picture written.
        formats: published formats of its architectures, by name.
        replacement: the ablation that replaces what nodes apply; None where there is none.
        cost: (settings, data) to what tells the cost of an architecture as a run from scratch trains it; None where
            that is not known.
        export: (architecture, weights by name, settings) to what `enas.export` writes; None where it cannot.
        baselines: by name, what makes an architecture that is not searched but can be trained in the place of one.
        has_validation: whether runs with these settings have validation data; a search needs it.
        check: raises UserError for settings that do not go together in this space.
    """

    name: str
    settings: tuple[type[Settings], ...]
    architecture: type[Architecture]
    controllers: Mapping[str, Callable[[ConfigLike], Controller[Any]]]
    load_data: Callable[[ConfigLike], Data]
    search_task: Callable[[ConfigLike, Any, torch.device], Task]
    scratch_task: Callable[[ConfigLike, Any, Any, torch.device], Task]
    optim: type[SharedOptimisation]
    metric: Metric
    draw: Callable[[Any, Path, str], Path]
    selected_by: Mapping[str, str] = field(default_factory=dict)
    scratch: Callable[[ConfigLike], ScratchConfig] = lambda config: TO_THE_END
    formats: Mapping[str, Format] = field(default_factory=dict)
    replacement: Replacement | None = None
    cost: Callable[[ConfigLike, Any], Callable[[Any], Cost]] | None = None
    export: Callable[[Any, Mapping[str, torch.Tensor], ConfigLike], Exported] | None = None
    baselines: Mapping[str, Callable[[ConfigLike], Architecture]] = field(default_factory=dict)
    has_validation: Callable[[ConfigLike], bool] = lambda config: True
    check: Callable[[ConfigLike], None] = lambda config: None

    def __post_init__(self) -> None:
        object.__setattr__(self, "selected_by", dict(self.selected_by) or {"network_type": self.name})


SPACES: dict[str, SearchSpace] = {}


def trained(
    space: Callable[[ConfigLike], Space[Any]],
    lstm: Callable[[Any, Any], Controller[Any]],
    part: type[ControllerConfig],
    independent: Callable[[Any, ConfigLike], Controller[Any]] = lambda space, config: IndependentController(space),
) -> Callable[[ConfigLike], Controller[Any]]:
    """What makes the trained controller of a space, of the type that controller_type says.

    Args:
        space: makes what is sampled.
        lstm: (space, settings of `part`) to a controller, for controller_type lstm.
        part: the `Settings` class of that controller.
        independent: (space, settings) to a controller, for controller_type independent.
    """

    def make(config: ConfigLike) -> Controller[Any]:
        if config.controller_type == "independent":
            return independent(space(config), config)
        return lstm(space(config), config[part])

    return make


def uniform(space: Callable[[ConfigLike], Space[Any]]) -> Callable[[ConfigLike], Controller[Any]]:
    """What makes the controller of train_type random."""
    return lambda config: RandomController(space(config), config.shared_balanced)


def register(space: SearchSpace) -> SearchSpace:
    """Add a search space to those that flags can choose; UserError when its name is taken. Returns it."""
    if space.name in SPACES:
        raise UserError(f"search space {space.name} is registered already; choose another name")
    SPACES[space.name] = space
    FORMATS.update(space.formats)
    return space


def network_types() -> tuple[str, ...]:
    """The values of --network_type."""
    return tuple(dict.fromkeys(space.selected_by["network_type"] for space in SPACES.values()))


def space_for(settings: Mapping[str, Any]) -> SearchSpace:
    """The search space that settings choose; UserError when none is registered for them."""
    for space in SPACES.values():
        if all(settings[name] == value for name, value in space.selected_by.items()):
            return space
    raise UserError(f"network_type is {settings['network_type']!r}; it must be one of {', '.join(network_types())}")

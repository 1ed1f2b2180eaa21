"""The part of a search space that needs torch: its data, models, controllers, pictures and exports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from enas.search.architecture import Architecture
from enas.search.controllers import Controller, IndependentController, LSTMController, RandomController
from enas.search.cost import Cost
from enas.search.settings import ControllerConfig
from enas.search.space import Space
from enas.search.task import Task
from enas.settings import ConfigLike

Make = Callable[[Any, ConfigLike], Controller[Any]]  # from a space of decisions, and settings, to the controller
RUNNING = """
The search normalised by the statistics of each batch. Here running statistics of training {} take their place, so that
an answer does not depend on its neighbours. Validation with the weights here{}: {:.4f} with batch statistics, {:.4f}
with running ones."""


@dataclass(frozen=True)
class Exported:
    """An architecture as a module that needs torch alone."""

    source: Path  # the file that is copied as model.py; it reads config.json beside it
    usage: str  # lines of Python, run beside model.py
    weights: dict[str, Tensor]  # the module's weights, by name
    settings: dict[str, Any]  # the content of config.json: the module's arguments, and facts for a reader
    title: str  # the title of the model card
    summary: str  # the first sentence of the model card
    make: Callable[[ModuleType], nn.Module]  # from model.py as a module to the network without its weights
    inputs: dict[str, Tensor]  # example inputs by name, to trace the network
    dynamic: tuple[dict[int, str], ...]  # for each input, the names of the dimensions that may have any size
    outputs: tuple[str, ...]  # the names of the outputs
    files: dict[str, str] = field(default_factory=dict)  # the user's own code that model.py reads, by name of its file

    def module(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode."""
        model = ModuleType("model")  # its name in an exported folder: the ONNX exporter writes names and paths down
        with TemporaryDirectory() as folder:
            model.__file__ = str(Path(folder) / "model.py")
            for name, text in self.files.items():
                (Path(folder) / name).write_text(text, encoding="utf-8")
            exec(compile(self.source.read_text(encoding="utf-8"), "model.py", "exec"), model.__dict__)
            module = self.make(model).eval()
        module.load_state_dict(self.weights)
        return module


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The other half of a `SearchSpace`."""

    space: Callable[[ConfigLike], Space[Any]]  # the space of decisions, of the settings' train type if it matters
    # A run logs the data's `notes`, lines, and goes on only with the same `identity`, if any (`enas.data.identity`).
    load_data: Callable[[ConfigLike], Any]
    # (settings, data, device, architecture) to the task; its model has that architecture alone, or all if it is None.
    task: Callable[[ConfigLike, Any, torch.device, Any], Task]
    draw: Callable[[Any, Path, str], Path]  # (architecture, path, title) to the picture written
    # (settings, data) to a function that returns an architecture's cost from scratch; None if costs are not known.
    cost: Callable[[ConfigLike, Any], Callable[[Any], Cost]] | None = None
    # (architecture, weights by name, settings, data) to the content of an export; None if there is none.
    export: Callable[[Any, Mapping[str, Tensor], ConfigLike, Any], Exported] | None = None
    # The controllers of the train types that no registered one has, by controller_type.
    lstm: Make = lambda space, config: LSTMController(space, config[ControllerConfig])
    independent: Make = lambda space, config: IndependentController(space)
    # Architectures that are not searched but can be trained from scratch, by name.
    baselines: Mapping[str, Callable[[ConfigLike], Architecture]] = field(default_factory=dict)

    def controller(self, config: ConfigLike, space: Space[Any] | None = None) -> Controller[Any]:
        """Return the controller that train_type names, the problem's own or a registered one, with new parameters."""
        space = space or self.space(config)
        if make := config.space.controllers.get(config.train_type):
            return make(space, config)
        if config.train_type == "random":
            return RandomController(space, over=config.uniform_over)
        return (self.independent if config.controller_type == "independent" else self.lstm)(space, config)

"""The convolutional search spaces on images: data, models, controllers (paper sections 2.3 and 2.4)."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Module

from enas.cnn import cost
from enas.cnn.controllers import MacroController, MicroController, skip_penalty
from enas.cnn.drawing import macro_graph, micro_graph
from enas.cnn.export import exported
from enas.cnn.images import ImageDataset, load_images
from enas.cnn.macro import MacroNetwork, MacroSpace
from enas.cnn.micro import MicroNetwork, MicroSpace
from enas.cnn.model import reductions
from enas.cnn.scratch import MacroCNN, MicroCNN
from enas.cnn.settings import (
    MacroConfig,
    MacroControllerConfig,
    MicroCNNConfig,
    MicroConfig,
    MicroControllerConfig,
    ScratchCNNConfig,
    VisionTaskConfig,
)
from enas.cnn.shared import SharedMacroCNN, SharedMicroCNN
from enas.cnn.task import ScratchVisionTask, VisionTask
from enas.errors import UserError
from enas.pictures.drawing import write_graph
from enas.search.architecture import Architecture
from enas.search.controllers import Controller, IndependentController
from enas.search.cost import Cost
from enas.search.problem import Problem, trained, uniform
from enas.search.space import Space
from enas.settings import ConfigLike


def load_data(config: ConfigLike) -> ImageDataset:
    """The images."""
    sizes = {"image_size": config.image_size, "valid_size": config.valid_size}
    return load_images(config.dataset, data_dir=config.data_dir, **sizes)


def macro_cost(config: ConfigLike, images: ImageDataset) -> Callable[[MacroNetwork], Cost]:
    """What tells the cost of a macro network of its final size, per image."""
    num_classes, size, widths = len(images.classes), images.train.size, config[ScratchCNNConfig].widths()
    return lambda network: cost.macro_cost(network, num_classes, widths, size)


def micro_cost(config: ConfigLike, images: ImageDataset) -> Callable[[MicroNetwork], Cost]:
    """What tells the cost of a micro network of its final size, per image."""
    num_classes, size, sizes = len(images.classes), images.train.size, config[MicroCNNConfig]
    reduces = reductions(sizes.scratch_cnn_num_layers)
    return lambda network: cost.micro_cost(network, num_classes, reduces, sizes.channels, size)


def _convolutional(
    space: Callable[[ConfigLike], Space[Any]],
    controller: Callable[[ConfigLike], Controller[Any]],
    shared: Callable[[int, ConfigLike], Module],
    scratch: Callable[[Any, int, ConfigLike], Module],
    **rest: Any,
) -> Problem:
    """One of the two problems.

    Args:
        space: makes what is sampled.
        controller: makes the trained controller.
        shared: (number of classes, settings) to the shared model.
        scratch: (network, number of classes, settings) to the model of one network, of its final size.
        rest: of `Problem`.
    """

    def search_task(config: ConfigLike, images: ImageDataset, device: torch.device) -> VisionTask:
        if len(images.valid) == 0:
            raise UserError("valid_size is 0; a search rewards networks for their accuracy on held-out images")
        model = shared(len(images.classes), config)
        return VisionTask(images, model.to(device), config[VisionTaskConfig], config.random_seed)

    def scratch_task(
        config: ConfigLike, images: ImageDataset, network: Architecture, device: torch.device
    ) -> ScratchVisionTask:
        model = scratch(network, len(images.classes), config)
        return ScratchVisionTask(images, model.to(device), config[VisionTaskConfig], config.random_seed)

    return Problem(
        controllers={"orig": controller, "random": uniform(space)},
        load_data=load_data,
        search_task=search_task,
        scratch_task=scratch_task,
        export=exported,
        **rest,
    )


def _macro_space(config: ConfigLike) -> MacroSpace:
    return MacroSpace(config[MacroConfig].num_layers)


def _micro_space(config: ConfigLike) -> MicroSpace:
    return MicroSpace(config.cnn_num_blocks, cell_output=config.cell_output)


def _independent_macro(space: MacroSpace, config: ConfigLike) -> IndependentController[MacroNetwork]:
    return IndependentController(space, skip_penalty(space, config.cnn_skip_target), config.cnn_skip_weight)


MACRO = _convolutional(
    _macro_space,
    controller=trained(_macro_space, MacroController, MacroControllerConfig, _independent_macro),
    shared=lambda num_classes, config: SharedMacroCNN(num_classes, config[MacroConfig]),
    scratch=lambda network, num_classes, config: MacroCNN(network, num_classes, config[ScratchCNNConfig]),
    draw=lambda network, path, title: write_graph(macro_graph(network, title=title), path),
    cost=macro_cost,
)
MICRO = _convolutional(
    _micro_space,
    controller=trained(_micro_space, MicroController, MicroControllerConfig),
    shared=lambda num_classes, config: SharedMicroCNN(num_classes, config[MicroConfig]),
    scratch=lambda network, num_classes, config: MicroCNN(network, num_classes, config[MicroCNNConfig]),
    draw=lambda network, path, title: write_graph(micro_graph(network, title=title), path),
    cost=micro_cost,
)

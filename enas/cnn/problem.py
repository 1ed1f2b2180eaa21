"""The convolutional search spaces on images: data, models, controllers (paper sections 2.3 and 2.4)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from graphviz import Digraph
from torch.nn import Module

from enas.cnn.controllers import MacroController, MicroController, skip_penalty
from enas.cnn.cost import macro_cost, micro_cost
from enas.cnn.drawing import macro_graph, micro_graph
from enas.cnn.export import exported
from enas.cnn.images import ImageDataset, load_images
from enas.cnn.macro import MacroNetwork, MacroSpace
from enas.cnn.micro import MicroSpace
from enas.cnn.model import MacroCNN, MicroCNN, SharedMacroCNN, SharedMicroCNN
from enas.cnn.settings import (
    MacroConfig,
    MacroControllerConfig,
    MicroCNNConfig,
    MicroConfig,
    MicroControllerConfig,
    ScratchCNNConfig,
    VisionTaskConfig,
)
from enas.cnn.task import ScratchVisionTask, VisionTask
from enas.errors import UserError
from enas.pictures.drawing import write_graph
from enas.search.architecture import Architecture
from enas.search.controllers import IndependentController
from enas.search.cost import Cost
from enas.search.problem import Problem, trained, uniform
from enas.search.space import Space
from enas.settings import ConfigLike, Settings


def _convolutional(
    space: Callable[[ConfigLike], Space[Any]],
    controller: tuple[Any, ...],
    shared_model: Callable[[int, Any], Module],
    shared_sizes: type[Settings],
    scratch_model: Callable[[Any, int, Any], Module],
    scratch_sizes: type[Settings],
    cost: Callable[..., Cost],
    draw: Callable[..., Digraph],
) -> Problem:
    """One of the two problems.

    Args:
        controller: the arguments of `trained` besides `space`.
        shared_model: (number of classes, `shared_sizes`) to the model with the weights of every network.
        scratch_model: (network, number of classes, `scratch_sizes`) to the model of one network, of that `cost`.
        draw: (network, title=…) to its picture.
    """

    def load_data(config: ConfigLike) -> ImageDataset:
        sizes = {"image_size": config.image_size, "valid_size": config.valid_size}
        return load_images(config.dataset, data_dir=config.data_dir, **sizes)

    def search_task(config: ConfigLike, images: ImageDataset, device: torch.device) -> VisionTask:
        if len(images.valid) == 0:
            raise UserError("valid_size is 0; a search rewards networks for their accuracy on held-out images")
        model = shared_model(len(images.classes), config[shared_sizes])
        return VisionTask(images, model.to(device), config[VisionTaskConfig], config.random_seed)

    def scratch_task(
        config: ConfigLike, images: ImageDataset, network: Architecture, device: torch.device
    ) -> ScratchVisionTask:
        model = scratch_model(network, len(images.classes), config[scratch_sizes])
        return ScratchVisionTask(images, model.to(device), config[VisionTaskConfig], config.random_seed)

    return Problem(
        controllers={"orig": trained(space, *controller), "random": uniform(space)},
        load_data=load_data,
        search_task=search_task,
        scratch_task=scratch_task,
        draw=lambda network, path, title: write_graph(draw(network, title=title), path),
        cost=lambda config, images: partial(
            cost, num_classes=len(images.classes), config=config[scratch_sizes], size=images.train.size
        ),
        export=exported,
    )


def _independent_macro(space: MacroSpace, config: ConfigLike) -> IndependentController[MacroNetwork]:
    return IndependentController(space, skip_penalty(space, config.cnn_skip_target), config.cnn_skip_weight)


MACRO = _convolutional(
    lambda config: MacroSpace(config[MacroConfig].num_layers),
    (MacroController, MacroControllerConfig, _independent_macro),
    SharedMacroCNN,
    MacroConfig,
    MacroCNN,
    ScratchCNNConfig,
    cost=macro_cost,
    draw=macro_graph,
)
MICRO = _convolutional(
    lambda config: MicroSpace(config.cnn_num_blocks, cell_output=config.cell_output),
    (MicroController, MicroControllerConfig),
    SharedMicroCNN,
    MicroConfig,
    MicroCNN,
    MicroCNNConfig,
    cost=micro_cost,
    draw=micro_graph,
)

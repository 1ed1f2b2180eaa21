"""The convolutional search spaces on images: whole networks (paper section 2.3) and cells (section 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Module

from enas.cnn import cost
from enas.cnn import export as convolutional
from enas.cnn.controllers import (
    MacroController,
    MacroControllerConfig,
    MicroController,
    MicroControllerConfig,
    skip_penalty,
)
from enas.cnn.formats import MACRO_FORMATS, MICRO_FORMATS
from enas.cnn.images import ImageConfig, ImageDataset, load_images
from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroNetwork
from enas.cnn.model import reductions
from enas.cnn.operation_names import MACRO_OPERATIONS, MICRO_OPERATIONS
from enas.cnn.scratch import MacroCNN, MicroCNN, MicroCNNConfig, ScratchCNNConfig
from enas.cnn.shared import MacroConfig, MicroConfig, SharedMacroCNN, SharedMicroCNN, check_thirds
from enas.cnn.task import ScratchVisionTask, VisionTask, VisionTaskConfig
from enas.errors import UserError
from enas.pictures.drawing import macro_graph, micro_graph, write_graph
from enas.search.architecture import Architecture
from enas.search.controllers import Controller, IndependentController
from enas.search.cost import Cost
from enas.search.optim import ImageOptimConfig
from enas.search.registry import Replacement, SearchSpace, trained, uniform
from enas.search.space import MacroSpace, MicroSpace, MicroSpaceConfig, Space
from enas.search.task import check_not_alone
from enas.settings import ConfigLike, Settings


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


def check(config: ConfigLike) -> None:
    """Refuse settings of several parts that do not go together."""
    check_not_alone(config.values, "it must be at least 2 for network_type cnn, which normalises by its statistics")


def check_micro(config: ConfigLike) -> None:
    """As `check`; and the normal cells must divide in three."""
    check(config)
    check_thirds("cnn_num_layers", config[MicroConfig].num_layers)


def _convolutional(
    name: str,
    *,
    space: Callable[[ConfigLike], Space[Any]],
    own_settings: tuple[type[Settings], ...],
    controller: Callable[[ConfigLike], Controller[Any]],
    shared: Callable[[int, ConfigLike], Module],
    scratch: Callable[[Any, int, ConfigLike], Module],
    operations: list[str],
    **rest: Any,
) -> SearchSpace:
    """The search space that cnn_space `name` chooses.

    Args:
        name: of it.
        space: makes what is sampled.
        own_settings: the `Settings` classes that the other convolutional space does not have.
        controller: makes the trained controller.
        shared: (number of classes, settings) to the shared model.
        scratch: (network, number of classes, settings) to the model of one network, of its final size.
        operations: what nodes choose among.
        rest: of `SearchSpace`.
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

    return SearchSpace(
        name=name,
        selected_by={"network_type": "cnn", "cnn_space": name},
        settings=(ImageConfig, VisionTaskConfig, ImageOptimConfig, *own_settings),
        controllers={"orig": controller, "random": uniform(space)},
        load_data=load_data,
        search_task=search_task,
        scratch_task=scratch_task,
        optim=ImageOptimConfig,
        metric=VisionTask.metric,
        export=convolutional.exported,
        replacement=Replacement(
            ablation="operation_replacement",
            names=lambda config: tuple(operations),
            apply=lambda network, operation, node: network.replace_operations(operation, node),
        ),
        has_validation=lambda config: config.valid_size > 0,
        **rest,
    )


def _macro_space(config: ConfigLike) -> MacroSpace:
    return MacroSpace(config[MacroConfig].num_layers)


def _micro_space(config: ConfigLike) -> MicroSpace:
    return MicroSpace(config.cnn_num_blocks, cell_output=config.cell_output)


def _independent_macro(space: MacroSpace, config: ConfigLike) -> IndependentController[MacroNetwork]:
    return IndependentController(space, skip_penalty(space, config.cnn_skip_target), config.cnn_skip_weight)


MACRO = _convolutional(
    "macro",
    space=_macro_space,
    own_settings=(MacroConfig, ScratchCNNConfig, MacroControllerConfig),
    controller=trained(_macro_space, MacroController, MacroControllerConfig, _independent_macro),
    shared=lambda num_classes, config: SharedMacroCNN(num_classes, config[MacroConfig]),
    scratch=lambda network, num_classes, config: MacroCNN(network, num_classes, config[ScratchCNNConfig]),
    operations=MACRO_OPERATIONS,
    architecture=MacroNetwork,
    draw=lambda network, path, title: write_graph(macro_graph(network, title=title), path),
    formats=MACRO_FORMATS,
    cost=macro_cost,
    check=check,
)

MICRO = _convolutional(
    "micro",
    space=_micro_space,
    own_settings=(MicroSpaceConfig, MicroConfig, MicroCNNConfig, MicroControllerConfig),
    controller=trained(_micro_space, MicroController, MicroControllerConfig),
    shared=lambda num_classes, config: SharedMicroCNN(num_classes, config[MicroConfig]),
    scratch=lambda network, num_classes, config: MicroCNN(network, num_classes, config[MicroCNNConfig]),
    operations=MICRO_OPERATIONS,
    architecture=MicroNetwork,
    draw=lambda network, path, title: write_graph(micro_graph(network, title=title), path),
    formats=MICRO_FORMATS,
    cost=micro_cost,
    check=check_micro,
)

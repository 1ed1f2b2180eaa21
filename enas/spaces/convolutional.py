"""The convolutional search spaces on images: whole networks (paper section 2.3) and cells (section 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from enas.controllers import (
    Controller,
    IndependentController,
    MacroController,
    MacroControllerConfig,
    MicroController,
    MicroControllerConfig,
    RandomController,
    skip_penalty,
)
from enas.cost import Cost
from enas.data.image import ImageConfig, ImageDataset, load_images
from enas.errors import UserError
from enas.export import convolutional
from enas.models import cost
from enas.models.cnn import reductions
from enas.models.scratch_cnn import MacroCNN, MicroCNN, MicroCNNConfig, ScratchCNNConfig
from enas.models.shared_cnn import MacroConfig, MicroConfig, SharedMacroCNN, SharedMicroCNN, check_thirds
from enas.pictures.drawing import macro_graph, micro_graph, write_graph
from enas.search_space import MacroNetwork, MicroNetwork
from enas.search_space.cnn_formats import MACRO_FORMATS, MICRO_FORMATS
from enas.search_space.decisions import MacroSpace, MicroSpace, MicroSpaceConfig
from enas.search_space.operations import MACRO_OPERATIONS, MICRO_OPERATIONS
from enas.spaces.registry import Replacement, SearchSpace, register
from enas.tasks.base import check_not_alone
from enas.tasks.vision import ScratchVisionTask, VisionTask, VisionTaskConfig
from enas.training.optim import ImageOptimConfig

if TYPE_CHECKING:
    from enas.config import Config


def load_data(config: Config) -> ImageDataset:
    """The images."""
    sizes = {"image_size": config.image_size, "valid_size": config.valid_size}
    return load_images(config.dataset, data_dir=config.data_dir, **sizes)


def _search_task(config: Config, images: ImageDataset, model: torch.nn.Module, device: torch.device) -> VisionTask:
    """The task with the shared model; UserError when there are no validation images to reward networks on."""
    if len(images.valid) == 0:
        raise UserError("valid_size is 0; a search rewards networks for their accuracy on held-out images")
    return VisionTask(images, model.to(device), config[VisionTaskConfig], config.random_seed)


def _scratch_task(
    config: Config, images: ImageDataset, model: torch.nn.Module, device: torch.device
) -> ScratchVisionTask:
    return ScratchVisionTask(images, model.to(device), config[VisionTaskConfig], config.random_seed)


def macro_search_task(config: Config, images: ImageDataset, device: torch.device) -> VisionTask:
    """The task with the shared model of the macro space."""
    return _search_task(config, images, SharedMacroCNN(len(images.classes), config[MacroConfig]), device)


def macro_scratch_task(
    config: Config, images: ImageDataset, network: MacroNetwork, device: torch.device
) -> ScratchVisionTask:
    """The task with a model of one macro network, of its final size."""
    return _scratch_task(config, images, MacroCNN(network, len(images.classes), config[ScratchCNNConfig]), device)


def micro_search_task(config: Config, images: ImageDataset, device: torch.device) -> VisionTask:
    """The task with the shared model of the micro space."""
    return _search_task(config, images, SharedMicroCNN(len(images.classes), config[MicroConfig]), device)


def micro_scratch_task(
    config: Config, images: ImageDataset, network: MicroNetwork, device: torch.device
) -> ScratchVisionTask:
    """The task with a model of one micro network, of its final size."""
    return _scratch_task(config, images, MicroCNN(network, len(images.classes), config[MicroCNNConfig]), device)


def macro_cost(config: Config, images: ImageDataset) -> Callable[[MacroNetwork], Cost]:
    """What tells the cost of a macro network of its final size, per image."""
    num_classes, size, widths = len(images.classes), images.train.size, config[ScratchCNNConfig].widths()
    return lambda network: cost.macro_cost(network, num_classes, widths, size)


def micro_cost(config: Config, images: ImageDataset) -> Callable[[MicroNetwork], Cost]:
    """What tells the cost of a micro network of its final size, per image."""
    num_classes, size, sizes = len(images.classes), images.train.size, config[MicroCNNConfig]
    reduces = reductions(sizes.scratch_cnn_num_layers)
    return lambda network: cost.micro_cost(network, num_classes, reduces, sizes.channels, size)


def _macro_space(config: Config) -> MacroSpace:
    return MacroSpace(config[MacroConfig].num_layers)


def _micro_space(config: Config) -> MicroSpace:
    return MicroSpace(config.cnn_num_blocks, cell_output=config.cell_output)


def macro_controller(config: Config) -> Controller[MacroNetwork]:
    """The trained controller of the macro space."""
    space = _macro_space(config)
    if config.controller_type == "independent":
        return IndependentController(space, skip_penalty(space, config.cnn_skip_target), config.cnn_skip_weight)
    return MacroController(space, config[MacroControllerConfig])


def micro_controller(config: Config) -> Controller[MicroNetwork]:
    """The trained controller of the micro space."""
    if config.controller_type == "independent":
        return IndependentController(_micro_space(config))
    return MicroController(_micro_space(config), config[MicroControllerConfig])


def check(config: Config) -> None:
    """Refuse settings of several parts that do not go together."""
    check_not_alone(config.values, "it must be at least 2 for network_type cnn, which normalises by its statistics")


def check_micro(config: Config) -> None:
    """As `check`; and the normal cells must divide in three."""
    check(config)
    check_thirds("cnn_num_layers", config[MicroConfig].num_layers)


MACRO = register(
    SearchSpace(
        name="macro",
        selected_by={"network_type": "cnn", "cnn_space": "macro"},
        settings=(
            ImageConfig,
            VisionTaskConfig,
            ImageOptimConfig,
            MacroConfig,
            ScratchCNNConfig,
            MacroControllerConfig,
        ),
        architecture=MacroNetwork,
        controllers={
            "orig": macro_controller,
            "random": lambda config: RandomController(_macro_space(config), config.shared_balanced),
        },
        load_data=load_data,
        search_task=macro_search_task,
        scratch_task=macro_scratch_task,
        optim=ImageOptimConfig,
        metric=VisionTask.metric,
        draw=lambda network, path, title: write_graph(macro_graph(network, title=title), path),
        formats=MACRO_FORMATS,
        cost=macro_cost,
        export=convolutional.exported,
        replacement=Replacement(
            ablation="operation_replacement",
            names=lambda config: tuple(MACRO_OPERATIONS),
            apply=MacroNetwork.replace_operations,
        ),
        has_validation=lambda config: config.valid_size > 0,
        check=check,
    )
)

MICRO = register(
    SearchSpace(
        name="micro",
        selected_by={"network_type": "cnn", "cnn_space": "micro"},
        settings=(
            ImageConfig,
            VisionTaskConfig,
            ImageOptimConfig,
            MicroSpaceConfig,
            MicroConfig,
            MicroCNNConfig,
            MicroControllerConfig,
        ),
        architecture=MicroNetwork,
        controllers={
            "orig": micro_controller,
            "random": lambda config: RandomController(_micro_space(config), config.shared_balanced),
        },
        load_data=load_data,
        search_task=micro_search_task,
        scratch_task=micro_scratch_task,
        optim=ImageOptimConfig,
        metric=VisionTask.metric,
        draw=lambda network, path, title: write_graph(micro_graph(network, title=title), path),
        formats=MICRO_FORMATS,
        cost=micro_cost,
        export=convolutional.exported,
        replacement=Replacement(
            ablation="operation_replacement",
            names=lambda config: tuple(MICRO_OPERATIONS),
            apply=MicroNetwork.replace_operations,
        ),
        has_validation=lambda config: config.valid_size > 0,
        check=check_micro,
    )
)

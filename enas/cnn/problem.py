"""The convolutional search spaces on images: data, models, controllers (paper sections 2.3 and 2.4)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from graphviz import Digraph
from torch.nn import Module

from enas.cnn import settings
from enas.cnn.controllers import MacroController, MicroController, skip_penalty
from enas.cnn.cost import macro_cost, micro_cost
from enas.cnn.drawing import macro_graph, micro_graph
from enas.cnn.export import exported
from enas.cnn.images import ImageDataset, load_images
from enas.cnn.macro import MacroSpace
from enas.cnn.micro import MicroSpace
from enas.cnn.model import MacroCNN, MicroCNN, SharedMacroCNN, SharedMicroCNN
from enas.cnn.task import ScratchVisionTask, VisionTask
from enas.errors import UserError
from enas.pictures.drawing import write_graph
from enas.search.controllers import IndependentController
from enas.search.cost import Cost
from enas.search.problem import Make, Problem
from enas.search.settings import ControllerConfig
from enas.search.space import Space
from enas.settings import ConfigLike, Settings


def _convolutional(
    space: Callable[[ConfigLike], Space[Any]],
    controllers: Mapping[str, Make],
    shared: tuple[Callable[..., Module], type[Settings]],
    alone: tuple[Callable[..., Module], type[Settings]],
    cost: Callable[..., Cost],
    draw: Callable[..., Digraph],
) -> Problem:
    """Make the problem of macro or of micro networks; each model comes with the class of its settings."""
    (make_shared, shared_sizes), (make_alone, sizes) = shared, alone

    def task(config: ConfigLike, images: ImageDataset, device: torch.device, network: Any) -> VisionTask:
        if network is not None:
            kind, model = ScratchVisionTask, make_alone(network, len(images.classes), config[sizes])
        elif len(images.valid) == 0:
            raise UserError("valid_size is 0; a search is rewarded on held-out images, and needs at least 1")
        elif max(images.train.size) < 5:  # halved twice, a map has one value, too few for the statistics of one image
            raise UserError(f"{images.name}: images have {max(images.train.size)} pixels a side; a search needs 5")
        else:
            kind, model = VisionTask, make_shared(len(images.classes), config[shared_sizes])
        return kind(images, model.to(device), config[settings.VisionTaskConfig], config.random_seed)

    return Problem(
        space=space,
        **controllers,
        load_data=lambda config: load_images(
            config.dataset, data_dir=config.data_dir, image_size=config.image_size, valid_size=config.valid_size
        ),
        task=task,
        draw=lambda network, path, title: write_graph(draw(network, title=title), path),
        cost=lambda config, images: partial(
            cost, num_classes=len(images.classes), config=config[sizes], size=images.train.size
        ),
        export=exported,
    )


MACRO = _convolutional(
    lambda config: MacroSpace(config[settings.MacroConfig].num_layers, config[settings.MacroConfig].operations),
    {
        "lstm": lambda space, config: MacroController(space, config[settings.MacroControllerConfig]),
        "independent": lambda space, c: IndependentController(
            space, skip_penalty(space, c.cnn_skip_target), c.cnn_skip_weight
        ),
    },
    (SharedMacroCNN, settings.MacroConfig),
    (MacroCNN, settings.ScratchCNNConfig),
    macro_cost,
    macro_graph,
)
MICRO = _convolutional(
    lambda config: MicroSpace(config.cnn_num_blocks, config[settings.MicroConfig].operations, config.cell_output),
    {"lstm": lambda space, config: MicroController(space, config[ControllerConfig])},
    (SharedMicroCNN, settings.MicroConfig),
    (MicroCNN, settings.MicroCNNConfig),
    micro_cost,
    micro_graph,
)

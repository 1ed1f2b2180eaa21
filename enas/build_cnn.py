"""From settings to the parts of a convolutional search: images, shared CNN, controllers of networks and cells."""

import torch

from enas.config import Config
from enas.controllers import (
    Controller,
    MacroController,
    MicroController,
    RandomMacroController,
    RandomMicroController,
)
from enas.data.augment import AugmentConfig
from enas.data.image import ImageDataset, load_images
from enas.models.shared_cnn import MacroConfig, MicroConfig, SharedMacroCNN, SharedMicroCNN
from enas.models.standalone_cnn import MacroCNN, MacroCNNConfig, MicroCNN, MicroCNNConfig
from enas.optim import RestartSchedule, make_optimizer
from enas.pick import controller_config
from enas.scratch import ScratchConfig
from enas.search_space import MacroNetwork, MicroNetwork
from enas.tasks.vision import ScratchVisionTask, VisionTask, VisionTaskConfig

Network = MacroNetwork | MicroNetwork

SPACES = {"macro": MacroNetwork, "micro": MicroNetwork}


def load_data(config: Config) -> tuple[ImageDataset, list[str]]:
    """The images, and notes on them for people."""
    images = load_images(
        config.dataset, data_dir=config.data_dir, image_size=config.image_size, valid_size=config.valid_size
    )
    return images, list(images.notes)


def settle(config: Config, data: ImageDataset, device: torch.device) -> tuple[Config, list[str]]:
    """The settings, in which there is nothing to choose."""
    return config, []


def search_task(config: Config, data: ImageDataset, device: torch.device) -> VisionTask:
    """The problem with the shared model; ValueError when there are no validation images to reward networks on."""
    if len(data.valid) == 0:
        raise ValueError("valid_size is 0; a search rewards networks for their accuracy on held-out images")
    num_classes, dropout = len(data.classes), config.cnn_dropout
    if config.cnn_space == "macro":
        shape = MacroConfig(num_layers=config.cnn_num_layers or 12, filters=config.cnn_hid or 36, dropout=dropout)
        model = SharedMacroCNN(num_classes, shape)
    else:
        shape = MicroConfig(
            num_layers=config.cnn_num_layers or 6,
            channels=config.cnn_hid or 20,
            num_blocks=config.cnn_num_blocks,
            dropout=dropout,
        )
        model = SharedMicroCNN(num_classes, shape)
    return VisionTask(data, model.to(device), _task_config(config))


def scratch_task(config: Config, data: ImageDataset, architecture: Network, device: torch.device) -> ScratchVisionTask:
    """The problem with a new network of the architecture, of its final size."""
    num_classes, dropout = len(data.classes), config.scratch_cnn_dropout
    if dropout == -1:
        dropout = 0.5 if config.cnn_space == "macro" else 0.2
    if isinstance(architecture, MacroNetwork):
        shape = MacroCNNConfig(filters=config.scratch_cnn_hid or 96, dropout=dropout)
        model = MacroCNN(architecture, num_classes, shape)
    else:
        shape = MicroCNNConfig(
            num_layers=config.scratch_cnn_num_layers,
            channels=config.scratch_cnn_hid or 36,
            dropout=dropout,
            drop_path=config.scratch_cnn_drop_path,
            auxiliary_weight=config.scratch_cnn_auxiliary_weight,
        )
        model = MicroCNN(architecture, num_classes, shape)
    return ScratchVisionTask(data, model.to(device), _task_config(config))


def _task_config(config: Config) -> VisionTaskConfig:
    augment = AugmentConfig(crop_padding=config.cnn_crop_padding, flip=config.cnn_flip, cutout=config.cnn_cutout)
    return VisionTaskConfig(
        batch_size=config.batch_size,
        random_seed=config.random_seed,
        augment=augment,
        steps_per_epoch=config.shared_max_step,
        num_epochs=config.max_epoch,
    )


def controller(config: Config) -> Controller:
    """The controller of the run's train type and space."""
    num_layers, num_blocks, output = config.cnn_num_layers or 12, config.cnn_num_blocks, config.cell_output
    if config.train_type == "random":
        if config.cnn_space == "macro":
            return RandomMacroController(num_layers)
        return RandomMicroController(num_blocks, cell_output=output)
    if config.cnn_space == "macro":
        return MacroController(num_layers, controller_config(config), skip_target=config.cnn_skip_target)
    return MicroController(num_blocks, controller_config(config), cell_output=output)


def shared_optimizer(config: Config, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimiser of ω, or of one network's weights: SGD with Nesterov momentum (paper section 3.2)."""
    return make_optimizer("momentum", model.parameters(), weight_decay=config.cnn_l2_reg)


def steps_per_epoch(config: Config, task: VisionTask) -> int:
    """Shared-parameter steps of an epoch."""
    return task.steps_per_epoch


def shared_schedule(config: Config, task: VisionTask) -> RestartSchedule:
    """Its learning rate."""
    return RestartSchedule(
        lr_max=config.cnn_lr_max,
        lr_min=config.cnn_lr_min,
        period=config.cnn_lr_period,
        steps_per_epoch=steps_per_epoch(config, task),
    )


def trainer_settings(config: Config) -> dict:
    """What the loop takes from settings of this half alone."""
    return {"shared_grad_clip": config.cnn_grad_clip, "penalty_weight": config.cnn_skip_weight}


def scratch_config(config: Config) -> ScratchConfig:
    """Never early: each cosine period is worst at its start and best at its end.

    Weights are not averaged: running averages of batch statistics would not fit them.
    """
    return ScratchConfig(asgd_patience=0, early_stop=0)


def read_dag_path(config: Config) -> Network:
    """The network in the JSON file that `dag_path` names.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or no network of the space in it.
    """
    return SPACES[config.cnn_space].load(config.dag_path)


read_architecture = VisionTask.read_architecture

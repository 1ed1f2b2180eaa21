"""From settings to objects: the one place where the halves, recurrent and convolutional, and the loop come together."""

from pathlib import Path
from types import ModuleType

import torch

from enas import build_cnn, build_rnn
from enas.checkpoint import Checkpoints
from enas.config import Config
from enas.controllers import Controller
from enas.logbook import Logbook
from enas.optim import ControllerSchedule, make_optimizer
from enas.pick import pick
from enas.scratch import ScratchTrainer
from enas.trainer import Task, Trainer, TrainerConfig

_HALVES = {"rnn": build_rnn, "cnn": build_cnn}


def half(config: Config) -> ModuleType:
    """The module that makes the parts of a run's `network_type`; both have the same functions."""
    return _HALVES[config.network_type]


def pick_device(num_gpu: int) -> torch.device:
    """The CPU for 0, a GPU for 1, and for −1 a GPU when there is one; ValueError when there are fewer."""
    available = torch.cuda.device_count()
    if num_gpu > available:
        raise ValueError(f"num_gpu is {num_gpu}, but this machine has {available}; --num_gpu 0 uses the CPU")
    if num_gpu > 1:
        raise ValueError(f"num_gpu is {num_gpu}; a run uses one GPU at most")
    return torch.device("cuda" if available and num_gpu != 0 else "cpu")


def build_trainer(config: Config, task: Task, controller: Controller, logbook: Logbook | None, folder: Path) -> Trainer:
    """The alternating loop, with its optimisers and schedules."""
    return Trainer(
        task,
        controller,
        controller_optimizer=_controller_optimizer(config, controller) if controller.is_trained else None,
        controller_schedule=ControllerSchedule(
            lr=config.controller_lr,
            cosine=config.controller_lr_cosine,
            lr_max=config.controller_lr_max,
            lr_min=config.controller_lr_min,
            period=config.controller_lr_period,
        ),
        **_loop_parts(config, task, logbook, folder),
    )


def _controller_optimizer(config: Config, controller: Controller) -> torch.optim.Optimizer:
    betas = (config.controller_adam_beta1, config.controller_adam_beta2)
    return make_optimizer(config.controller_optim, controller.parameters(), betas=betas, eps=config.controller_adam_eps)


def build_scratch_trainer(
    config: Config, task: Task, architecture, logbook: Logbook | None, folder: Path
) -> ScratchTrainer:
    """The loop that trains one architecture alone."""
    parts = _loop_parts(config, task, logbook, folder)
    return ScratchTrainer(task, architecture, scratch=half(config).scratch_config(config), **parts)


def _loop_parts(config: Config, task: Task, logbook: Logbook | None, folder: Path) -> dict:
    return {
        "shared_optimizer": half(config).shared_optimizer(config, task.model),
        "shared_schedule": half(config).shared_schedule(config, task),
        "config": pick(
            TrainerConfig,
            config,
            shared_max_step=half(config).steps_per_epoch(config, task),
            **half(config).trainer_settings(config),
        ),
        "header": {name: getattr(config, name) for name in ("network_type", "dataset", "train_type", "mode")},
        "logbook": logbook,
        "checkpoints": Checkpoints(folder / "checkpoints", config.max_save_num),
        "folder": folder,
    }

"""What the controllers of the small presets learn: a planted architecture, under noise that hides it from averages."""

from pathlib import Path

import pytest
import torch
from torch import nn

from enas.config import Config, read_preset
from enas.search.checkpoint import Checkpoints
from enas.search.controllers import RandomController
from enas.search.cost import SizeBudget
from enas.search.metric import ACCURACY
from enas.search.settings import SizeConfig
from enas.search.task import Task
from enas.search.trainer import Trainer

NOISE = 3.0  # times the standard deviation between architectures


class Planted(Task):
    """Quality is the share of decisions that are those of one architecture; minibatches differ in how hard they are."""

    metric = ACCURACY
    steps_per_epoch = 1

    def __init__(self, space):
        self.space = space
        self.model = nn.Linear(1, 1)
        uniform = RandomController(space)
        self.best = uniform.sample(1).architectures[0]
        qualities = self.qualities(uniform.sample(1000).architectures)
        self.mean, self.std = qualities.mean(), qualities.std()

    def qualities(self, architectures) -> torch.Tensor:
        rows = torch.tensor([list(self.space.encode(one)) for one in architectures])
        return (rows == torch.tensor(self.space.encode(self.best))).float().mean(1)

    def rewards(self, architectures):
        return self.qualities(architectures) + NOISE * self.std * torch.randn(1)

    def shared_loss(self, architectures):
        pytest.fail("the controller alone is trained")

    def evaluate(self, architecture, split, max_batches=None):
        pytest.fail("nothing is derived")


def learned(config: Config, seed: int) -> float:
    """How many standard deviations above the uniform mean the policy's samples are after the preset's updates."""
    torch.manual_seed(seed)
    controller = config.space.problem().controller(config)
    task = Planted(controller.space)
    parts = {"checkpoints": Checkpoints(Path("nowhere")), "size": SizeBudget(config[SizeConfig], None)}
    trainer = Trainer(task, controller, config, **parts)
    for epoch in range(config.max_epoch):
        trainer.progress.epoch, trainer.progress.controller_sample = epoch, 0
        trainer.train_controller()
    with torch.no_grad():
        qualities = task.qualities(controller.sample(200).architectures)
    return float((qualities.mean() - task.mean) / task.std)


@pytest.mark.parametrize(
    "name", ["demo", "small", "ptb_small", "demo_cnn", "small_cnn", "cifar_macro_small", "cifar_micro_small"]
)
def test_a_preset_finds_what_is_planted(name):
    assert learned(Config(**read_preset(name)), 1) > 3


def test_a_moving_average_does_not():
    """So the test above can fail: with what this preset had before, the noise is all that there is to learn."""
    before = {"baseline": "ema", "advantage_spread_decay": 0.0, "controller_lr": 0.003, "entropy_coeff": 1e-4}
    config = Config(**{**read_preset("demo_cnn"), **before, "controller_max_step": 100, "controller_start": 0.0})
    assert max(learned(config, seed) for seed in (1, 2)) < 2.5

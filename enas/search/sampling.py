"""Sampling from a policy that may have diverged."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from enas.errors import TrainingDivergedError
from enas.search.controllers import Controller, Sample
from enas.search.ranks import seeded


def sample(controller: Controller[Any], num: int) -> Sample[Any]:
    """`num` architectures; TrainingDivergedError where the controller's parameters give no probabilities."""
    try:
        return controller.sample(num)
    except RuntimeError:  # what torch says of probabilities that are not numbers
        check_finite(controller)
        raise


def apart() -> AbstractContextManager[None]:
    """Inside this block draw on the CPU from numbers of their own, the same in every block of a run.

    What is drawn for an evaluation then moves no draw of the training.
    """
    return seeded((torch.initial_seed() + 1) % 2**63, torch.device("cpu"))


def check_finite(controller: Controller[Any]) -> None:
    """Raise TrainingDivergedError unless the controller's parameters are finite."""
    # Their norm: parameters may be finite, and so large that what is computed with them is not.
    if not torch.isfinite(torch.nn.utils.get_total_norm(list(controller.parameters()))):
        raise TrainingDivergedError(
            "training diverged: the controller's parameters are not finite; lower controller_lr (with "
            "controller_lr_cosine controller_lr_max), or controller_grad_clip"
        )

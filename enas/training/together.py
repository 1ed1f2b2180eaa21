"""Several architectures trained from scratch in one process, each with its own weights, step by step side by side.

One recurrent cell leaves most of a GPU idle: its products are small, and each waits for the one before it. Those of
several cells go at once. Each training draws its own random numbers, and ends as it would alone, to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from enas.errors import Interrupted
from enas.training.checkpoint import Draws
from enas.training.scratch import ScratchTrainer


@dataclass(frozen=True)
class Member:
    """One of the trainings.

    Attributes:
        trainer: what trains, from its beginning.
        draws: its random numbers.
    """

    trainer: ScratchTrainer
    draws: Draws


def train_together(members: Sequence[Member]) -> None:
    """Train all of them to their end.

    Args:
        members: whose tasks are of one class and of the same settings.

    Raises:
        Interrupted: SIGINT or SIGTERM came, and everything is saved.
        TrainingDivergedError: of the first that diverges; the others end with it.
    """
    with members[0].trainer.signals_noted():
        _save(members)
        while running := [member for member in members if not member.trainer.is_finished()]:
            # After a return to its last checkpoint one of them has more steps left than the others.
            while stepping := [member for member in running if member.trainer.has_steps_left()]:
                step_together(stepping)
                _stop_if_asked(members)
            for member in running:
                with member.draws:
                    member.trainer.finish_epoch()


def _stop_if_asked(members: Sequence[Member]) -> None:
    if signum := members[0].trainer.asked_to_stop():
        _save(members)
        raise Interrupted(signum, "the runs are saved, and each can be resumed")


def _save(members: Sequence[Member]) -> None:
    for member in members:
        with member.draws:
            member.trainer.save()


def step_together(members: Sequence[Member]) -> None:
    """A step of each training."""
    trainers = [member.trainer for member in members]
    tasks, architectures = [one.task for one in trainers], [one.architecture for one in trainers]
    losses = type(tasks[0]).losses_side_by_side(tasks, architectures, [member.draws for member in members])
    torch.autograd.backward([loss for loss, _ in losses])
    for member, (loss, value) in zip(members, losses, strict=True):
        with member.draws:
            member.trainer.update_shared(loss, value)

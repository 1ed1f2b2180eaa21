"""The interface between a problem and the training loop."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from enas.errors import UserError
from enas.search.metric import Metric
from enas.search.ranks import ALONE, ARCHITECTURES, BATCH, Ranks


class Task(ABC):
    """A problem: a model with the shared parameters ω (or the weights of one architecture), and data to train it on."""

    metric: ClassVar[Metric]  # the metric that `evaluate` returns
    model: nn.Module  # holds the parameters ω
    steps_per_epoch: int  # steps of ω in an epoch
    has_validation: bool = True  # only the training of one architecture from scratch can do without validation data
    lr_scale: float = 1.0  # factor on the learning rate, for the minibatch that `shared_loss` read last
    precision: str = "float32"  # of products and convolutions in `shared_loss`, `rewards`, `rank` and `evaluate`
    precisions: tuple[str, ...] = ("float32",)  # the values that `precision` may have
    divisible_batch: int = 0  # the size of a minibatch that processes may share; 0 if they cannot share one
    smallest_part: int = 1  # of a minibatch, for one process
    reward: str = ""  # the name of the function that `rewards` and `rank` go by, if there is one
    ranks: Ranks = ALONE  # the processes that share the work of `shared_loss`
    divided: int = ARCHITECTURES  # the dimension along which they divide it, see `divide`

    def divide(self, ranks: Ranks, dim: int) -> None:
        """Share the work of `shared_loss` among processes.

        With `dim` ARCHITECTURES each process is given its own architectures. With BATCH there is one architecture, and
        each process takes its part of the minibatch; UserError if it has no equal parts.
        """
        if dim == BATCH and ranks.size > 1 and not self.divisible_batch:
            raise UserError("this task does not divide its minibatches among processes; train it in one")
        least = ranks.size * self.smallest_part
        if dim == BATCH and ranks.size > 1 and (self.divisible_batch % ranks.size or self.divisible_batch < least):
            reason = f"{ranks.size} processes train one architecture on equal parts of it"
            right = f"it must be a multiple of {ranks.size}, and at least {least}"
            raise UserError(f"batch_size is {self.divisible_batch}; {reason}, so {right}")
        self.ranks, self.divided = ranks, dim

    @property
    def rank_metric(self) -> Metric:
        """The metric that `rank` returns; by default `metric`."""
        return self.metric

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    @abstractmethod
    def shared_loss(self, architectures: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Return M architectures' loss on the next training minibatch, and the value for `epoch_metric`: scalars."""

    @abstractmethod
    def rewards(self, architectures: Sequence[Any]) -> Tensor:
        """Return each of M architectures' reward on the next validation minibatch, ω in evaluation mode: [M]."""

    def rank(self, architectures: Sequence[Any], max_batches: int | None = None) -> list[float]:
        """Return each architecture's `rank_metric` on the first `max_batches` validation minibatches, or on all."""
        return [self.evaluate(architecture, "valid", max_batches) for architecture in architectures]

    def as_rewards(self, scores: Tensor) -> Tensor:
        """Return the rewards that go with values of `rank_metric`, higher for better, on the scale of `rewards`."""
        return scores if self.rank_metric.higher_is_better else -scores

    @abstractmethod
    def evaluate(self, architecture: Any, split: str, max_batches: int | None = None) -> float:
        """Return the metric on a split, "train", "valid" or "test", or on its first `max_batches` minibatches."""

    def epoch_metric(self, mean_value: float) -> float:
        """Return the training metric, given the mean of `shared_loss`'s second value; by default that mean."""
        return mean_value

    def forget_state(self) -> None:
        """Carry no state into the next minibatch, after one whose loss was not finite; by default there is none."""
        return

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on exactly: the model under "model", and other tensors and plain data."""
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`, whose tensors may be on the CPU."""
        self.model.load_state_dict(state["model"])

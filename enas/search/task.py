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
    """A problem: a model with the shared parameters ω (or those of one architecture), and data to train it on.

    Attributes:
        metric: what `evaluate` measures.
        model: the parameters ω.
        steps_per_epoch: shared-parameter steps of an epoch.
        has_validation: whether there is validation data; only one architecture from scratch can do without.
        lr_scale: factor on the learning rate of the minibatch that `shared_loss` read last.
        precision: of the products and convolutions of `shared_loss`, `rewards`, `rank` and `evaluate`.
        precisions: the values that `precision` may have.
        divisible_batch: the size of a minibatch that processes may share; 0 when they cannot share one.
        ranks, divided: the processes that share the work of `shared_loss`, and how, see `divide`.
    """

    metric: ClassVar[Metric]
    model: nn.Module
    steps_per_epoch: int
    has_validation: bool = True
    lr_scale: float = 1.0
    precision: str = "float32"
    precisions: tuple[str, ...] = ("float32",)
    divisible_batch: int = 0
    ranks: Ranks = ALONE
    divided: int = ARCHITECTURES

    def divide(self, ranks: Ranks, dim: int) -> None:
        """Share the work of `shared_loss` among processes, of which each then computes a part.

        Args:
            ranks: the processes.
            dim: what is divided: ARCHITECTURES, each process being given its own, or BATCH, where there is one
                architecture, and each process takes its part of the minibatch.

        Raises:
            UserError: the minibatch cannot be divided into equal parts.
        """
        if dim == BATCH and ranks.size > 1 and not self.divisible_batch:
            raise UserError("this task does not divide its minibatches among processes; train it in one")
        if dim == BATCH and self.divisible_batch % ranks.size:
            raise UserError(
                f"batch_size is {self.divisible_batch}; {ranks.size} processes train one architecture on equal parts "
                f"of it, so it must be a multiple of {ranks.size}"
            )
        self.ranks, self.divided = ranks, dim

    @property
    def rank_metric(self) -> Metric:
        """What `rank` measures; by default `metric`."""
        return self.metric

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    @abstractmethod
    def shared_loss(self, architectures: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """The loss of M architectures on the next training minibatch, and what `epoch_metric` averages: scalars."""

    @abstractmethod
    def rewards(self, architectures: Sequence[Any]) -> Tensor:
        """The reward of each of M architectures on the next validation minibatch, ω in evaluation mode: [M]."""

    def rank(self, architectures: Sequence[Any], max_batches: int | None = None) -> list[float]:
        """`rank_metric` of each architecture on the same first `max_batches` validation minibatches, or on all."""
        return [self.evaluate(architecture, "valid", max_batches) for architecture in architectures]

    @abstractmethod
    def evaluate(self, architecture: Any, split: str, max_batches: int | None = None) -> float:
        """The metric on a split, "train", "valid" or "test"; `max_batches` shortens it to its first minibatches."""

    def epoch_metric(self, mean_value: float) -> float:
        """The training metric that a mean of `shared_loss`'s second value stands for; by default that mean."""
        return mean_value

    def forget_state(self) -> None:
        """Carry no state into the next minibatch, after one whose loss was not finite; by default there is none."""
        return

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly: the model under "model", and other tensors and plain data."""
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.model.load_state_dict(state["model"])

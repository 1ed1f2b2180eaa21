"""Training one architecture from scratch: the search's loop, with averaging and early stopping."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from enas.errors import TrainingDivergedError
from enas.search.controllers import FixedController
from enas.search.derive import Derivation
from enas.search.settings import ScratchConfig
from enas.search.task import Task
from enas.search.trainer import Trainer


class ScratchTrainer(Trainer):
    """Trains the weights of one architecture; evaluates, and saves, after every epoch.

    Args:
        task: the problem, with a model that has weights for the architecture.
        architecture: what to train.
        scratch: see `ScratchConfig`.
        parts: as for `Trainer`.
    """

    def __init__(self, task: Task, architecture: Any, *, scratch: ScratchConfig, **parts: Any):
        super().__init__(task, FixedController(architecture), **parts)
        self.architecture = architecture
        self.scratch = scratch
        self.average: AveragedModel | None = None

    def is_finished(self) -> bool:
        """Whether `max_epoch` is reached, or no epoch has been better for `early_stop` of them."""
        patience = self.scratch.scratch_early_stop
        has_stalled = patience > 0 and self.progress.epoch - self.best_epoch() >= patience
        return has_stalled or super().is_finished()

    def is_time_to_evaluate(self) -> bool:
        """Always: averaging, early stop and the choice of the best epoch need every epoch's validation."""
        return True

    def best_epoch(self) -> int:
        """The epoch that validated best, the first of equals; 0 before there is one. The newest without validation."""
        if not self.task.has_validation:
            return self.progress.epoch
        best, chosen = None, 0
        for epoch, score in enumerate(self._validations(), start=1):
            if self.task.metric.is_better(score, best):
                best, chosen = score, epoch
        return chosen

    def _validations(self) -> list[float]:
        scores = [entry[f"validation_{self.task.metric.name}"] for entry in self.progress.history]
        return [score for score in scores if score is not None]

    def step_shared(self) -> None:
        """Update the weights, and their average once there is one."""
        super().step_shared()
        if self.average is not None:
            self.average.update_parameters(self.task.model)

    def derive(self) -> Derivation:
        """The architecture, and its metric on validation: that of the averaged weights once there are some.

        Without validation data nothing is evaluated.
        """
        if not self.task.has_validation:
            return Derivation(self.architecture, None)
        with self._averaged_weights():
            return Derivation(self.architecture, self.task.evaluate(self.architecture, "valid"))

    def record(self, derived: Derivation) -> bool:
        """Write the score down; begin to average when validation no longer improves.

        Without validation data the newest weights count as the best.
        """
        if derived.score is None:
            self.progress.architecture = self.architecture.to_dict()
            return True
        before = self._validations()
        is_best = super().record(derived)
        if self.average is None and self._nonmono_triggered(before):
            self.average = AveragedModel(self.task.model)
            self.logbook.info(f"epoch {self.progress.epoch}: no better than before; weights are averaged from here on")
        return is_best

    def _nonmono_triggered(self, before: list[float]) -> bool:
        patience = self.scratch.scratch_asgd_patience
        if patience == 0:
            return False
        return any(self.task.metric.is_better(score, self.progress.validation) for score in before[:-patience])

    def write_architecture(self, architecture: Any, score: float) -> None:
        """Do nothing: the architecture never changes, and is written down when the run starts."""

    def test(self) -> float:
        """The metric on the test split of the epoch that validated best, whose weights the model then has.

        Without validation data that is the last epoch.

        Raises:
            TrainingDivergedError: no epoch validated with a finite number.
        """
        if self.task.has_validation and self.progress.best is None:
            raise TrainingDivergedError(
                f"{self.folder}: no epoch has a finite validation {self.task.metric.name}; nothing to test"
            )
        best = self.checkpoints.load_best(self.task.device)
        self.task.load_state_dict(best["task"])
        self._load_average(best["average"])
        with self._averaged_weights():
            return self.task.evaluate(self.architecture, "test")

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """The model holds its averaged weights inside this block."""
        if self.average is None:
            yield
            return
        weights = list(self.task.model.parameters())
        own = [weight.detach().clone() for weight in weights]
        _assign(weights, self.average.module.parameters())
        try:
            yield
        finally:
            _assign(weights, own)

    def results(self) -> dict[str, Any]:
        """What results.json holds; `validation_…` is of the best epoch, `best_epoch`."""
        return {
            **super().results(),
            f"validation_{self.task.metric.name}": self.progress.best,
            "measured_with": f"weights from scratch, epoch {self.best_epoch()}",
            "best_epoch": self.best_epoch(),
            "num_parameters": sum(weight.numel() for weight in self.task.model.parameters()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything the run needs to go on as if it had never stopped."""
        average = None if self.average is None else self.average.state_dict()
        return {**super().state_dict(), "average": average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        self._load_average(state["average"])

    def _load_average(self, state: dict[str, Any] | None) -> None:
        self.average = None
        if state is not None:
            self.average = AveragedModel(self.task.model)
            self.average.load_state_dict(state)


@torch.no_grad()
def _assign(weights: Iterable[torch.Tensor], values: Iterable[torch.Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)

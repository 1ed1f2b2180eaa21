"""Training one architecture from scratch, with averaging and early stopping."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel

from enas.errors import TrainingDivergedError
from enas.search.checkpoint import Checkpoints
from enas.search.task import Task
from enas.search.training import Training
from enas.settings import ConfigLike


class ScratchTrainer(Training):
    """Trains the weights of one architecture; evaluates, and saves, after every epoch.

    Args:
        task: the problem, with a model that has weights for the architecture.
        architecture: what to train.
        config: the settings of the run; its space says when averaging begins and training ends.
        parts: of `Training`; the processes divide each minibatch.

    Attributes:
        average: the averaged model, once there is one.
    """

    def __init__(self, task: Task, architecture: Any, config: ConfigLike, **parts: Any):
        super().__init__(task, config, **parts)
        self.architecture = architecture
        self.scratch = config.space.scratch(config)
        self.average: AveragedModel | None = None

    def train(self) -> dict[str, Any]:
        with self.signals.noted():
            self.begin()
            while not self.is_finished():
                self.train_shared()
                self.finish_epoch()
                self.stop_if_asked()
        return self.results()

    def train_shared(self) -> None:
        """Train for the rest of the epoch's steps."""
        for _ in self.steps_left():
            self.shared_step([self.architecture] * self.config.shared_num_sample)
            self.stop_if_asked()

    def is_finished(self) -> bool:
        """Whether `max_epoch` is reached, or no epoch has been better for `scratch_early_stop` of them."""
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

    def evaluate(self, entry: dict[str, Any]) -> bool:
        """Validate, with the averaged weights once there are some; begin to average when that no longer improves.

        Without validation data the newest weights count as the best.
        """
        entry.update(self.cost(self.architecture))
        if not self.task.has_validation:
            self.take(self.architecture, None)
            return True
        before = self._validations()
        with self._averaged_weights():
            score = self.task.evaluate(self.architecture, "valid")
        entry[f"validation_{self.task.metric.name}"] = score
        is_best = self._scored(self.architecture, score)
        if self.average is None and self._nonmono_triggered(before):
            self.average = AveragedModel(self.task.model)
            self.logbook.info(f"epoch {self.progress.epoch}: no better than before; weights are averaged from here on")
        return is_best

    def _nonmono_triggered(self, before: list[float]) -> bool:
        patience = self.scratch.scratch_asgd_patience
        if patience == 0:
            return False
        return any(self.task.metric.is_better(score, self.progress.validation) for score in before[:-patience])

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
        best = cast("Checkpoints", self.checkpoints).load_best(self.task.device)
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
        average = None if self.average is None else self.average.state_dict()
        return {**super().state_dict(), "average": average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._load_average(state["average"])
        super().load_state_dict(state)

    def _load_average(self, state: dict[str, Any] | None) -> None:
        self.average = None
        if state is not None:
            self.average = AveragedModel(self.task.model)
            self.average.load_state_dict(state)


@torch.no_grad()
def _assign(weights: Iterable[torch.Tensor], values: Iterable[torch.Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)

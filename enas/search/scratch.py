"""Training one architecture from scratch, with averaging and early stopping."""

from typing import Any

from torch.optim.swa_utils import AveragedModel

from enas.errors import TrainingDivergedError, UserError
from enas.files import reading
from enas.search.settings import TO_THE_END, ScratchConfig
from enas.search.task import Task
from enas.search.training import Training
from enas.settings import ConfigLike


class ScratchTrainer(Training):
    """Trains the weights of one architecture; evaluates, and saves, after every epoch.

    The arguments are those of `Training`, and the architecture. The task's model has weights for it. A space with the
    settings of `ScratchConfig` averages and may end early. Processes divide each minibatch.
    """

    def __init__(self, task: Task, architecture: Any, config: ConfigLike, **parts: Any):
        super().__init__(task, config, **parts)
        self.architecture = architecture
        self.scratch = config[ScratchConfig] if ScratchConfig in config.space.settings else TO_THE_END
        self.average: AveragedModel | None = None  # once averaging has begun

    def train_shared(self) -> None:
        for _ in self.steps_left():
            self.shared_step([self.architecture] * self.config.shared_num_sample)
            self.stop_if_asked()

    def is_finished(self) -> bool:
        """Whether `max_epoch` is reached, or the last `scratch_early_stop` epochs were no better than one before."""
        patience = self.scratch.scratch_early_stop
        has_stalled = patience > 0 and self.progress.epoch - self.best_epoch() >= patience
        return has_stalled or super().is_finished()

    def is_time_to_evaluate(self) -> bool:
        """Return True: averaging, early stop and the choice of the best epoch need every epoch's validation."""
        return True

    def best_epoch(self) -> int:
        """Return the epoch that validated best, 0 while none has; without validation data, the newest epoch."""
        if not self.task.has_validation:
            return self.progress.epoch
        return 0 if self.progress.best is None else 1 + self._validations().index(self.progress.best)

    def _validations(self) -> list[float]:
        scores = [entry[f"validation_{self.task.metric.name}"] for entry in self.progress.history]
        return [score for score in scores if score is not None]

    def step_shared(self) -> None:
        super().step_shared()
        if self.average is not None:
            self.average.update_parameters(self.task.model)

    def evaluate(self, entry: dict[str, Any]) -> bool:
        """Validate with the averaged weights, once there are some; begin to average when the score stops improving."""
        entry.update(self.cost(self.architecture))
        if not self.task.has_validation:
            self.take(self.architecture, None)
            return True
        before, score = self._validations(), self.score(self.architecture, "valid")
        entry[f"validation_{self.task.metric.name}"] = score
        patience = self.scratch.scratch_asgd_patience
        earlier = before[:-patience] if patience else []
        if self.average is None and any(self.task.metric.is_better(one, score) for one in earlier):
            self.average = AveragedModel(self.task.model)
            self.logbook.info(f"epoch {self.progress.epoch}: no better than before; weights are averaged from here on")
        return self.take(self.architecture, score)

    def score(self, architecture: Any, split: str) -> float:
        """Return the architecture's metric on a split, by the averaged weights if any; UserError for another one."""
        if architecture != self.architecture:
            raise UserError(f"{self.folder}: has the weights of one architecture, and cannot score others")
        own = self.task.model
        self.task.model = own if self.average is None else self.average.module
        try:
            return self.task.evaluate(architecture, split)
        finally:
            self.task.model = own

    def load_best(self) -> None:
        """Take the weights of the best epoch, or the last without validation; TrainingDivergedError without a score."""
        name = self.task.metric.name
        if self.task.has_validation and self.progress.best is None:
            raise TrainingDivergedError(f"{self.folder}: no epoch has a finite validation {name}; nothing to test")
        path, best = self.checkpoints.best()
        with reading(path):
            self.task.load_state_dict(best["task"])
            self._load_average(best["average"])

    def results(self) -> dict[str, Any]:
        """Return the content of results.json; `validation_…` is the score of the best epoch, `best_epoch`."""
        return {
            **super().results(),
            f"validation_{self.task.metric.name}": self.progress.best,
            "measured_with": f"weights from scratch, epoch {self.best_epoch()}",
            "best_epoch": self.best_epoch(),
            "num_parameters": sum(weight.numel() for weight in self.task.model.parameters()),
        }

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "average": self.average and self.average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._load_average(state["average"])
        super().load_state_dict(state)

    def _load_average(self, state: dict[str, Any] | None) -> None:
        self.average = None
        if state is not None:
            self.average = AveragedModel(self.task.model)
            self.average.load_state_dict(state)

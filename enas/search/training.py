"""What a search and a run from scratch share: the step of ω, what happens where it diverges, and checkpoints."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from enas.data.identity import digest
from enas.errors import Interrupted, TrainingDivergedError
from enas.search.architecture import architecture_from_dict
from enas.search.checkpoint import Checkpoints, checkpoint_name, random_states, restore_random_states
from enas.search.optim import clip_gradient, make_optimizer, set_lr
from enas.search.progress import Progress, describe
from enas.search.ranks import ALONE, Ranks
from enas.search.record import NoLogbook
from enas.search.settings import TrainerConfig
from enas.search.signals import Signals
from enas.search.size import UNLIMITED, SizeBudget
from enas.search.task import Task
from enas.settings import ConfigLike

SKIPS_BEFORE_ROLLBACK = 5
ROLLBACKS_BEFORE_END = 3
HEADER = ("network_type", "dataset", "train_type", "mode")  # what results.json says of a run besides its results


class Training(ABC):
    """Trains ω epoch by epoch, and can go on exactly where it was.

    Args:
        task: the problem, with the model.
        config: the settings of the run.
        logbook: where the run is written down.
        checkpoints: where it is saved; without them it is not, and cannot recover.
        folder: of the run.
        ranks: the processes that train together.
        size: what architectures cost, and may cost.

    Attributes:
        progress: how far it is.
        signals: ask it to stop.
    """

    def __init__(
        self,
        task: Task,
        config: ConfigLike,
        *,
        logbook: NoLogbook | None = None,
        checkpoints: Checkpoints | None = None,
        folder: Path = Path(),
        ranks: Ranks = ALONE,
        size: SizeBudget = UNLIMITED,
    ):
        self.task = task
        self.config = config[TrainerConfig]
        self.header = {name: getattr(config, name) for name in HEADER}
        self.logbook = logbook or NoLogbook()
        self.checkpoints = checkpoints
        self.folder = folder
        self.ranks = ranks
        self.size = size
        self.shared_optim = config[config.space.optim]
        self.shared_parameters = list(task.model.parameters())  # looking for them takes half a step of a micro network
        self.shared_optimizer = make_optimizer(parameters=self.shared_parameters, **self.shared_optim.optimizer)
        self.progress = Progress()
        self.signals = Signals()
        self._resumed_at = time.monotonic()

    @abstractmethod
    def train(self) -> dict[str, Any]:
        """Run to the end; returns what results.json holds.

        Raises:
            Interrupted: SIGINT or SIGTERM came, and everything is saved.
            TrainingDivergedError: see there.
        """

    @abstractmethod
    def evaluate(self, entry: dict[str, Any]) -> bool:
        """Evaluate, and write the scores into the epoch's entry; returns whether they are the best of the run."""

    def is_finished(self) -> bool:
        """Whether training is over."""
        return self.progress.epoch >= self.config.max_epoch

    def is_time_to_evaluate(self) -> bool:
        """Whether the epoch just finished is one to evaluate, draw and save after."""
        return self.progress.epoch % self.config.save_epoch == 0 or self.is_finished()

    def begin(self) -> None:
        """Save a run that has not begun: one that diverges at once has something to return to."""
        if self.progress == Progress():
            self.save()

    def steps_left(self) -> Iterator[None]:
        """Once for each step of ω that is left in the epoch, with a progress bar."""

        def left() -> Iterator[None]:
            # A return to the last checkpoint replaces self.progress, and the count goes on from there.
            while self.progress.shared_step < self.task.steps_per_epoch:
                yield

        yield from self.logbook.progress(left(), "shared", self.task.steps_per_epoch - self.progress.shared_step)

    def shared_step(self, architectures: Sequence[Any], meanwhile: Callable[[], None] | None = None) -> None:
        """One step of ω on the next minibatch, with architectures of this process.

        `meanwhile` is called while a GPU, where there is one, still works at the gradient.
        """
        progress = self.progress
        loss, value = self.task.shared_loss(architectures)
        loss.backward()
        lr = self.shared_optim.rate(progress.epoch + 1, progress.total_shared_steps, self.task.steps_per_epoch)
        lr *= progress.lr_scale * self.task.lr_scale
        set_lr(self.shared_optimizer, lr)
        loss, value = self.ranks.average(self.task.model, loss, value)
        trained = [parameter for parameter in self.shared_parameters if parameter.grad is not None]
        norm = clip_gradient(trained, self.shared_optim.max_norm)
        if meanwhile is not None:
            meanwhile()
        # All at once: each number that is read makes Python wait for the GPU.
        loss, norm, value = torch.stack([loss.detach(), norm, value]).tolist()
        progress.shared_step += 1
        progress.total_shared_steps += 1
        if not math.isfinite(loss + norm):
            self._skip_step()
            return
        progress.skipped_in_a_row = 0
        self.step_shared()
        for parameter in trained:
            parameter.grad = None  # the next forward pass needs the memory
        progress.value_sum += value
        progress.value_count += 1
        if progress.total_shared_steps % self.config.log_step == 0:
            metric = self.task.epoch_metric(value)
            values = {"loss": loss, self.task.metric.name: metric, "grad_norm": norm, "lr": lr}
            self.logbook.scalars("shared", values, progress.total_shared_steps)

    def step_shared(self) -> None:
        """Update ω by its gradient."""
        self.shared_optimizer.step()

    def _skip_step(self) -> None:
        progress = self.progress
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        self.shared_optimizer.zero_grad(set_to_none=True)
        self.task.forget_state()
        self.logbook.info(f"step {progress.total_shared_steps}: loss or gradient is not finite; the step is skipped")
        if progress.skipped_in_a_row >= SKIPS_BEFORE_ROLLBACK:
            self._roll_back()

    def _roll_back(self) -> None:
        skipped, rollbacks, lr_scale = self.progress.skipped, self.progress.rollbacks + 1, self.progress.lr_scale / 2
        seconds = self.wall_seconds()
        if rollbacks > ROLLBACKS_BEFORE_END or self.checkpoints is None:
            raise TrainingDivergedError(
                f"training diverged: {SKIPS_BEFORE_ROLLBACK} steps in a row were not finite, after "
                f"{rollbacks - 1} returns to the last checkpoint; lower the shared learning rate or gradient clip"
            )
        self.load_state_dict(self.checkpoints.load_newest(self.logbook.info, self.task.device))
        self.progress.skipped, self.progress.rollbacks, self.progress.lr_scale = skipped, rollbacks, lr_scale
        self.progress.seconds = seconds
        self.logbook.info(f"back to the last checkpoint, shared learning rate × {lr_scale}")

    def finish_epoch(self) -> None:
        """Add the epoch to the history; evaluate, write and save when it is time."""
        progress, metric = self.progress, self.task.metric.name
        train = self.task.epoch_metric(progress.value_sum / progress.value_count) if progress.value_count else None
        entry = progress.close_epoch(metric, train)
        is_time, is_best = self.is_time_to_evaluate(), False
        if is_time:
            self.check_ranks()
            is_best = self.evaluate(entry)
        entry["wall_seconds"] = round(self.wall_seconds(), 1)
        self.logbook.info(describe(entry, self.config.max_epoch))
        if is_time:
            self.logbook.results(self.results())
            self.save(is_best)

    def take(self, architecture: Any, score: float | None) -> bool:
        """Make an architecture that of the run; `score` is its metric on all of validation, with the weights of now.

        Returns whether the score is the best so far.
        """
        progress, metric = self.progress, self.task.metric
        progress.architecture, progress.validation = architecture.to_dict(), score
        progress.measured_with = f"shared weights, epoch {progress.epoch}, step {progress.total_shared_steps}"
        return score is not None and metric.is_better(score, progress.best)

    def _scored(self, architecture: Any, score: float) -> bool:
        """As `take`, and write the score down, and that it is the best."""
        is_best = self.take(architecture, score)
        validation = {f"validation_{self.task.metric.name}": score}
        self.logbook.scalars("eval", validation, self.progress.total_shared_steps)
        if is_best:
            self.progress.best = score
        return is_best

    def cost(self, architecture: Any) -> dict[str, int]:
        """What results.json says of the size of an architecture; nothing where that is not known."""
        cost = None if architecture is None else self.size.cost(architecture)
        return {} if cost is None else cost.to_dict()

    def results(self) -> dict[str, Any]:
        """Return the content of results.json; `architecture` is the run's, and `validation_…` its score.

        `wall_seconds` runs to the end of the last finished epoch, its evaluation included.
        """
        progress, metric = self.progress, self.task.metric.name
        return {
            **self.header,
            "epoch": progress.epoch,
            "architecture": progress.architecture,
            **self.cost(progress.architecture and architecture_from_dict(progress.architecture)),
            f"validation_{metric}": progress.validation,
            "measured_with": progress.measured_with,
            f"test_{metric}": None,
            "wall_seconds": progress.history[-1]["wall_seconds"] if progress.history else 0.0,
            "history": progress.history,
        }

    def wall_seconds(self) -> float:
        """Seconds of training and evaluating, those before a resume included."""
        return self.progress.seconds + time.monotonic() - self._resumed_at

    def save(self, is_best: bool = False) -> None:
        """Write a checkpoint."""
        if self.checkpoints is None:
            return
        self.check_ranks()
        name = checkpoint_name(self.progress.epoch, self.progress.step)
        if is_best:
            self.progress.bests.append(name)
        self.checkpoints.save(self.state_dict(), name, self.progress.bests)

    def stop_if_asked(self) -> None:
        """Save and raise Interrupted where a signal has come, in any of the processes."""
        if signum := self.ranks.largest(self.signals.received):  # all stop at the same step
            self.save()
            raise Interrupted(signum, "the run is saved and can be resumed")

    def alike(self) -> dict[str, str]:
        """Digests, by name, of what must be the same in all processes."""
        return {"random numbers": digest(torch.get_rng_state().numpy())}

    def check_ranks(self) -> None:
        """Raise UserError, naming the ranks, where the processes differ in what must be alike."""
        if self.ranks.size > 1:
            self.ranks.check_alike(
                self.alike(),
                f"the run after epoch {self.progress.epoch}",
                "machines of other kinds may round differently; --load_path goes on from the newest checkpoint",
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything the run needs to go on as if it had never stopped."""
        return {
            "task": self.task.state_dict(),
            "shared_optimizer": self.shared_optimizer.state_dict(),
            "progress": {**asdict(self.progress), "seconds": self.wall_seconds()},
            "random": random_states(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.task.load_state_dict(state["task"])
        self.shared_optimizer.load_state_dict(state["shared_optimizer"])
        self.progress = Progress(**state["progress"])
        self._resumed_at = time.monotonic()
        restore_random_states(state["random"])
        self.ranks.share_device_draws(self.task.device)

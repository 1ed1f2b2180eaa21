"""The common part of a search and of a run from scratch: steps of ω, recovery from divergence, epochs, checkpoints."""

import math
import reprlib
import shlex
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from enas.data.identity import digest
from enas.errors import Interrupted, TrainingDivergedError, UserError
from enas.search.architecture import architecture_from_dict
from enas.search.checkpoint import Checkpoints, checkpoint_name, random_states, restore_random_states
from enas.search.cost import SizeBudget
from enas.search.optim import make_optimizer, set_lr
from enas.search.record import NoLogbook, Progress, describe, describe_comparison, epoch_of, flat, time_left
from enas.search.settings import TrainerConfig
from enas.search.task import Task
from enas.settings import ConfigLike
from enas.signals import handled

SKIPS_BEFORE_ROLLBACK = 5
ROLLBACKS_BEFORE_END = 3
RESUMED_BY = {"train": "search", "single": "single", "train_scratch": "scratch"}  # commands by mode


class Training(ABC):
    """Trains ω epoch by epoch, and can go on exactly from its `checkpoints`, which lie in a folder of the run."""

    def __init__(self, task: Task, config: ConfigLike, checkpoints: Checkpoints, size: SizeBudget):
        self.task = task
        self.config = config[TrainerConfig]
        self.use_flag = f" --use {shlex.quote(','.join(config.use))}" if config.use else ""
        self.header = {key: getattr(config, key) for key in ("network_type", "dataset", "train_type", "mode")}
        self.logbook = NoLogbook()
        self.checkpoints = checkpoints
        self.folder = checkpoints.folder.parent
        self.ranks = checkpoints.ranks  # the processes that train together
        self.size = size
        self.space: Any = config.space
        self.shared_optim = config[self.space.optim]
        # Listed once: walking a micro model takes half as long as a step.
        self.shared_parameters, self.buffers = list(task.model.parameters()), list(task.model.buffers())
        self.shared_optimizer = make_optimizer(parameters=self.shared_parameters, **self.shared_optim.optimizer)
        self.progress = Progress()  # how far the run is
        self.signum = 0  # of a signal that asks the run to stop
        # Called with an epoch's entry of the history, to which it adds the numbers that it returns.
        self.on_epoch: Callable[[dict[str, Any]], Mapping[str, float] | None] = lambda entry: None
        self._begun = _now()

    def train(self) -> dict[str, Any]:
        """Train ω and θ in turn to the end of the run or of `stop_epoch`, and return the content of results.json.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGHUP came, and everything is saved.
            TrainingDivergedError: losses stayed non-finite after several returns to the last checkpoint.
        """
        with handled(self._note):
            if self.progress == Progress():
                self.save()  # so that a run that diverges at once has something to return to
            while not (self.is_finished() or self.is_paused()):
                self.train_shared()
                self.train_controller()
                self.finish_epoch()
                self.stop_if_asked()
        return self.results()

    @abstractmethod
    def train_shared(self) -> None:
        """Train ω for the rest of the epoch's steps."""

    def train_controller(self) -> None:
        """Train θ for the rest of the epoch's samples, ω fixed; one architecture needs no controller."""
        return

    @abstractmethod
    def evaluate(self, entry: dict[str, Any]) -> bool:
        """Evaluate, write the scores into the epoch's entry, and return whether they are the best of the run."""

    def is_finished(self) -> bool:
        return self.progress.epoch >= self.config.max_epoch

    def is_paused(self) -> bool:
        """Whether `stop_epoch` is reached before the end."""
        return 0 < self.config.stop_epoch <= self.progress.epoch and not self.is_finished()

    def is_time_to_evaluate(self) -> bool:
        """Whether to evaluate, draw and save after the epoch just finished."""
        return self.progress.epoch % self.config.save_epoch == 0 or self.is_finished()

    def steps_left(self) -> Iterable[bool]:
        """Yield once for each step of ω that is left in the epoch, with a progress bar."""
        steps = self.task.steps_per_epoch
        # A return to the last checkpoint replaces self.progress, and the count goes on from there.
        left = iter(lambda: self.progress.shared_step < steps, False)
        return self.logbook.progress(left, self.stage("shared weights"), steps - self.progress.shared_step)

    def stage(self, name: str) -> str:
        """Return the epoch that is under way, the time left, and which part of the epoch it is."""
        progress, most = self.progress, self.config.max_epoch
        last = progress.history[-1] if progress.history else None
        return f"{epoch_of(progress.epoch + 1, most)}{time_left(last, most)}: {name}"

    def shared_step(self, architectures: Sequence[Any], meanwhile: Callable[[], None] | None = None) -> None:
        """Update ω on the next minibatch, if all is finite; call `meanwhile` while a GPU works at the gradient."""
        progress, before = self.progress, [buffer.clone() for buffer in self.buffers]
        loss, value = self.task.shared_loss(architectures)
        loss.backward()
        lr = self.shared_optim.rate(progress.epoch + 1, progress.total_shared_steps, self.task.steps_per_epoch)
        lr *= progress.lr_scale * self.task.lr_scale
        set_lr(self.shared_optimizer, lr)
        loss, value = self.ranks.average(self.task.model, loss, value)
        trained = [parameter for parameter in self.shared_parameters if parameter.grad is not None]
        norm = clip_grad_norm_(trained, getattr(self.shared_optim, self.shared_optim.max_norm) or math.inf)
        if meanwhile is not None:
            meanwhile()
        # All at once: reading a number makes Python wait for the GPU.
        loss, norm, value = torch.stack([loss.detach(), norm.to(loss.device), value]).tolist()
        progress.shared_step += 1
        progress.total_shared_steps += 1
        if not math.isfinite(loss + norm):
            for buffer, kept in zip(self.buffers, before, strict=True):
                buffer.copy_(kept)  # running statistics, which the forward pass has changed
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
        before, clocks = self.progress, self.clocks()
        # No step was finite after a later checkpoint, so that its weights may be broken.
        below = before.total_shared_steps - SKIPS_BEFORE_ROLLBACK
        if before.rollbacks == ROLLBACKS_BEFORE_END:
            steps = f"{SKIPS_BEFORE_ROLLBACK} steps in a row were not finite, after {before.rollbacks} returns"
            advice = "lower the shared learning rate or gradient clip"
            raise TrainingDivergedError(f"training diverged: {steps} to the last checkpoint; {advice}")
        self.load_state_dict(self.checkpoints.newest(self.logbook.info, below)[1])
        self.progress = replace(self.progress, skipped=before.skipped, rollbacks=before.rollbacks + 1, **clocks)
        self.progress.lr_scale = before.lr_scale / 2
        self.logbook.info(f"back to the last checkpoint, shared learning rate × {self.progress.lr_scale}")

    def finish_epoch(self) -> None:
        """Add the epoch to the history; evaluate, write and save if it is time to."""
        progress, metric = self.progress, self.task.metric.name
        train = self.task.epoch_metric(progress.value_sum / progress.value_count) if progress.value_count else None
        entry = progress.close_epoch(metric, train)
        is_time, is_best = self.is_time_to_evaluate(), False
        if is_time:
            self.check_ranks()
            is_best = self.evaluate(entry)
        entry |= {name: round(seconds, 3) for name, seconds in self.clocks().items()}
        self.logbook.info(describe(entry, metric, self.config.max_epoch))
        if "place" in entry:
            self.logbook.note(describe_comparison(entry))
        self._add_numbers(entry, is_best)
        if is_time or self.is_paused():
            self.logbook.results(self.results())
            self.save(is_best)

    def _add_numbers(self, entry: dict[str, Any], is_best: bool) -> None:
        """Add the numbers of `on_epoch`, which moves no random numbers, to history and curves; save if it raises."""
        states = random_states()
        try:
            found = self.on_epoch(entry) or {}
            try:
                numbers = {name: float(value) for name, value in found.items()}
            except (AttributeError, TypeError, ValueError):
                wrong = f"on_epoch returned {reprlib.repr(found)}"
                raise UserError(f"{wrong}; it must return numbers by name, or None") from None
            if taken := numbers.keys() & {*entry, *flat(entry)}:
                raise UserError(f"on_epoch: the history has {', '.join(sorted(taken))} already; choose other names")
        except BaseException:
            self.logbook.results(self.results())
            restore_random_states(states)
            self.save(is_best)
            raise
        restore_random_states(states)
        entry.update(numbers)
        self.logbook.scalars("", numbers, self.progress.total_shared_steps)

    def take(self, architecture: Any, score: float | None) -> bool:
        """Make `architecture` the run's, with its score on all of validation, if any; return whether it is the best."""
        progress, metric = self.progress, self.task.metric
        progress.architecture, progress.validation = architecture.to_dict(), score
        progress.measured_with = f"shared weights, epoch {progress.epoch}, step {progress.total_shared_steps}"
        if score is None:
            return False
        self.logbook.scalars("eval", {f"validation_{metric.name}": score}, progress.total_shared_steps)
        if is_best := metric.is_better(score, progress.best):
            progress.best = score
        return is_best

    def score(self, architecture: Any, split: str) -> float:
        return self.task.evaluate(architecture, split)

    def cost(self, architecture: Any) -> dict[str, int]:
        """Return the entries of results.json on the size of an architecture; none if its cost is not known."""
        cost = architecture and self.size.cost(architecture)
        return vars(cost) if cost else {}

    def results(self) -> dict[str, Any]:
        """Return the content of results.json; `architecture` is the run's, and `validation_…` its score."""
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

    def clocks(self) -> dict[str, Any]:
        """Return the seconds of training and evaluating, and those of a core, both with those before a resume."""
        return {name: getattr(self.progress, name) + now - self._begun[name] for name, now in _now().items()}

    def save(self, is_best: bool = False) -> None:
        self.check_ranks()
        name = checkpoint_name(self.progress.epoch, self.progress.step)
        if is_best:
            self.progress.bests.append(name)
        self.checkpoints.save(self.state_dict(), name, self.progress.bests)

    def _note(self, signum: int, _frame: object) -> None:
        signal.signal(signum, signal.SIG_DFL)  # a second one of a kind ends the process at once
        self.signum = signum

    def stop_if_asked(self) -> None:
        """Save and raise Interrupted if a signal has come, in any of the processes."""
        if signum := self.ranks.largest(self.signum):  # all stop at the same step
            self.save()
            raise Interrupted(signum, f"the run is saved and can be resumed: {self.resumed_by()}")

    def resumed_by(self) -> str:
        """Return the command that goes on with the run, to `stop_epoch` if that is still to come."""
        if not self.space.by_command:
            return f"enas.search_module(…, load_path={str(self.folder)!r})"
        launcher, command = "python" if self.ranks.size == 1 else "torchrun …", RESUMED_BY[self.header["mode"]]
        pause = f" --stop_epoch {self.config.stop_epoch}" if self.progress.epoch < self.config.stop_epoch else ""
        return f"{launcher} -m enas {command} --load_path {shlex.quote(str(self.folder))}{self.use_flag}{pause}"

    def alike(self) -> dict[str, str]:
        """Return digests, by name, of the states that must be the same in all processes."""
        return {"random numbers": digest(torch.get_rng_state().numpy())}

    def check_ranks(self) -> None:
        """Raise UserError, naming the ranks, if the processes' `alike` differ."""
        if self.ranks.size > 1:
            remedy = "machines of other kinds may round differently; --load_path goes on from the newest checkpoint"
            self.ranks.check_alike(self.alike(), f"the run after epoch {self.progress.epoch}", remedy)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the run needs to go on as if it had never stopped."""
        return {
            "task": self.task.state_dict(),
            "shared_optimizer": self.shared_optimizer.state_dict(),
            "progress": {**asdict(self.progress), **self.clocks()},
            "random": random_states(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.task.load_state_dict(state["task"])
        self.shared_optimizer.load_state_dict(state["shared_optimizer"])
        self.progress = Progress(**state["progress"])
        self._begun = _now()
        restore_random_states(state["random"])
        # The GPUs of all processes draw the same.
        if self.ranks.size > 1 and (device := self.task.device).type == "cuda":
            torch.cuda.set_rng_state(self.ranks.from_first(lambda: torch.cuda.get_rng_state(device)).cpu(), device)


def _now() -> dict[str, float]:
    return {"wall_seconds": time.monotonic(), "cpu_seconds": time.process_time()}

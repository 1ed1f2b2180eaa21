"""The alternating loop of ENAS (paper section 2.3); it knows neither text nor images.

Each epoch trains the shared parameters ω on sampled architectures, then the controller θ on the rewards of others,
and every `save_epoch` epochs derives the best architecture, evaluates, draws and saves.
"""

import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from enas.checkpoint import Checkpoints, random_states, restore_random_states
from enas.controllers import Controller
from enas.logbook import Logbook, NoLogbook, format_score, write_json
from enas.optim import ControllerSchedule, SharedSchedule, clip_gradient, set_lr
from enas.reinforce import Baseline, policy_loss, returns

SKIPS_BEFORE_ROLLBACK = 5
ROLLBACKS_BEFORE_END = 3


class TrainingDivergedError(RuntimeError):
    """Losses stayed non-finite, however often training went back and halved the learning rate."""


class Interrupted(Exception):
    """SIGINT or SIGTERM came; the run is saved. `status` is the exit status, 130 or 143."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name}; the run is saved and can be resumed")
        self.status = 128 + signum


class Task(Protocol):
    """What the loop needs of a problem; `enas.tasks` has them.

    `shared_loss` returns the loss, and a value whose mean over an epoch `epoch_metric` makes the training metric of.
    """

    metric: str
    model: torch.nn.Module
    lr_scale: float
    has_validation: bool

    def shared_loss(self, architectures: list) -> tuple[Tensor, Tensor]: ...
    def forget_state(self) -> None: ...
    def rewards(self, architectures: list) -> Tensor: ...
    def rank(self, architectures: list, max_batches: int) -> list[float]: ...
    def evaluate(self, architecture, split: str, max_batches: int | None = None) -> float: ...
    def is_better(self, score: float, than: float | None) -> bool: ...
    def epoch_metric(self, mean_value: float) -> float: ...
    def draw(self, architecture, path: Path, title: str) -> Path: ...
    def read_architecture(self, data: dict): ...
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Lengths and coefficients of the loop; `enas.config.Config` explains each under the same name."""

    max_epoch: int
    save_epoch: int
    log_step: int
    shared_max_step: int
    shared_num_sample: int
    shared_grad_clip: float
    controller_max_step: int
    controller_num_aggregate: int
    controller_grad_clip: float
    entropy_coeff: float
    entropy_mode: str
    penalty_weight: float
    ema_baseline_decay: float
    discount: float
    derive_num_sample: int
    derive_max_batches: int


@dataclass
class Progress:
    """How far a run is, and what its unfinished epoch has gathered: plain numbers, saved with every checkpoint."""

    epoch: int = 0  # finished
    shared_step: int = 0  # of this epoch
    controller_sample: int = 0  # of this epoch
    total_shared_steps: int = 0
    total_controller_updates: int = 0
    value_sum: float = 0.0
    value_count: int = 0
    reward_sum: float = 0.0
    entropy_sum: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    lr_scale: float = 1.0
    seconds: float = 0.0
    validation: float | None = None
    best: float | None = None
    architecture: dict | None = None
    history: list[dict] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Updates of ω and of θ so far: where the run is, in TensorBoard and in the names of checkpoints."""
        return self.total_shared_steps + self.total_controller_updates


class Trainer:
    """Trains ω and θ in turn.

    Args:
        task: the problem, with the shared model.
        controller: what samples; one without parameters is not trained.
        shared_optimizer, controller_optimizer: the latter None for a controller without parameters.
        shared_schedule, controller_schedule: their learning rates; likewise.
        config: see `TrainerConfig`.
        header: what results.json says of the run besides its results.
        logbook, checkpoints, folder: where the run is written down; without a folder nothing is drawn or saved.
    """

    def __init__(
        self,
        task: Task,
        controller: Controller,
        *,
        shared_optimizer: torch.optim.Optimizer,
        shared_schedule: SharedSchedule,
        controller_optimizer: torch.optim.Optimizer | None,
        controller_schedule: ControllerSchedule | None,
        config: TrainerConfig,
        header: dict | None = None,
        logbook: Logbook | NoLogbook | None = None,
        checkpoints: Checkpoints | None = None,
        folder: Path | None = None,
    ):
        self.task = task
        self.controller = controller
        self.shared_optimizer = shared_optimizer
        self.shared_schedule = shared_schedule
        self.controller_optimizer = controller_optimizer
        self.controller_schedule = controller_schedule
        self.config = config
        self.header = header or {}
        self.logbook = logbook or NoLogbook()
        self.checkpoints = checkpoints
        self.folder = folder
        self.baseline = Baseline(config.ema_baseline_decay)
        self.progress = Progress()
        self.written: dict[str, Path] = {}
        self._resumed_at = time.monotonic()
        self._signal: int | None = None

    def train(self) -> dict:
        """Run to `max_epoch`; returns what results.json holds.

        Raises:
            Interrupted: SIGINT or SIGTERM came, and everything is saved.
            TrainingDivergedError: see there.
        """
        handlers = {signum: signal.signal(signum, self._on_signal) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            if self.progress == Progress():
                self.save()
            while not self.is_finished():
                self.train_shared()
                self.train_controller()
                self.finish_epoch()
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
        return self.results()

    def is_finished(self) -> bool:
        """Whether training is over."""
        return self.progress.epoch >= self.config.max_epoch

    def is_time_to_evaluate(self) -> bool:
        """Whether the epoch just finished is one to derive, evaluate, draw and save after."""
        return self.progress.epoch % self.config.save_epoch == 0 or self.is_finished()

    def train_shared(self) -> None:
        """Train ω for what is left of `shared_max_step` minibatches, on one freshly sampled architecture each."""
        progress, config = self.progress, self.config
        bar = self.logbook.progress(range(progress.shared_step, config.shared_max_step), "shared")
        for _ in bar:
            with torch.no_grad():
                architectures = self.controller.sample(config.shared_num_sample).architectures
            self._shared_step(architectures)
            if self.progress is not progress:
                return self.train_shared()
            self._stop_if_asked()
        return None

    def _shared_step(self, architectures: list) -> None:
        progress = self.progress
        loss, value = self.task.shared_loss(architectures)
        lr = self.shared_schedule(progress.epoch + 1, progress.total_shared_steps)
        lr *= progress.lr_scale * self.task.lr_scale
        set_lr(self.shared_optimizer, lr)
        self.shared_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = clip_gradient(self.task.model.parameters(), self.config.shared_grad_clip)
        progress.shared_step += 1
        progress.total_shared_steps += 1
        if not torch.isfinite(loss + norm):
            return self._skip_step()
        progress.skipped_in_a_row = 0
        self.step_shared()
        progress.value_sum += float(value)
        progress.value_count += 1
        if progress.total_shared_steps % self.config.log_step == 0:
            metric = self.task.epoch_metric(float(value))
            values = {"loss": float(loss.detach()), self.task.metric: metric, "grad_norm": float(norm), "lr": lr}
            self.logbook.scalars("shared", values, progress.step)
        return None

    def step_shared(self) -> None:
        """Update ω by the gradient that is there."""
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
        if rollbacks > ROLLBACKS_BEFORE_END or self.checkpoints is None:
            raise TrainingDivergedError(
                f"training diverged: {SKIPS_BEFORE_ROLLBACK} steps in a row were not finite, after "
                f"{rollbacks - 1} returns to the last checkpoint; lower the shared learning rate or gradient clip"
            )
        device = next(self.task.model.parameters()).device
        self.load_state_dict(self.checkpoints.load_newest(self.logbook.info, device))
        self.progress.skipped, self.progress.rollbacks, self.progress.lr_scale = skipped, rollbacks, lr_scale
        self.logbook.info(f"back to the last checkpoint, shared learning rate × {lr_scale}")

    def train_controller(self) -> None:
        """Train θ on what is left of `controller_max_step` sampled architectures, ω fixed and in evaluation mode."""
        if not self.controller.is_trained:
            return
        progress, config = self.progress, self.config
        set_lr(self.controller_optimizer, self.controller_schedule(progress.epoch + 1))
        steps = range(progress.controller_sample, config.controller_max_step, config.controller_num_aggregate)
        for start in self.logbook.progress(steps, "controller"):
            num = min(config.controller_num_aggregate, config.controller_max_step - start)
            self._controller_update(num)
            progress.controller_sample += num
            self._stop_if_asked()

    def _controller_update(self, num: int) -> None:
        progress, config = self.progress, self.config
        sample = self.controller.sample(num)
        rewards = self.task.rewards(sample.architectures)  # [M]
        as_reward = config.entropy_mode == "reward"
        earned = returns(rewards, sample.log_probs, config.entropy_coeff if as_reward else 0.0, config.discount)
        if not torch.isfinite(rewards).all():
            return self._skip_update("a reward")
        advantage = self.baseline.advantage(earned)  # [M, D]
        loss = policy_loss(sample.log_probs, advantage)
        if not as_reward:
            loss = loss - config.entropy_coeff * sample.entropies.sum(1).mean()
        if sample.penalty is not None:
            loss = loss + config.penalty_weight * sample.penalty.mean()
        self.controller_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = clip_gradient(self.controller.parameters(), config.controller_grad_clip)
        if not torch.isfinite(norm):
            return self._skip_update("the gradient")
        self.controller_optimizer.step()

        reward, entropy = float(rewards.mean()), float(sample.entropies.detach().sum(1).mean())
        progress.total_controller_updates += 1
        progress.reward_sum += reward * num
        progress.entropy_sum += entropy * num
        if progress.total_controller_updates % max(1, config.log_step // config.controller_num_aggregate) == 0:
            values = {
                "loss": float(loss.detach()),
                "reward": reward,
                "entropy": entropy,
                "advantage": float(advantage.mean()),
                "baseline": float(self.baseline.value.mean()),
            }
            self.logbook.scalars("controller", values, progress.step)
        return None

    def _skip_update(self, what: str) -> None:
        self.logbook.info(f"controller update {self.progress.total_controller_updates}: {what} is not finite; skipped")

    def finish_epoch(self) -> None:
        """Close the epoch's books; derive, evaluate, draw and save when it is time."""
        progress, config = self.progress, self.config
        progress.epoch += 1
        is_time = self.is_time_to_evaluate()
        entry = self._close_epoch()
        is_best = False
        if is_time:
            is_best = self.derive_and_record()
            entry[f"validation_{self.task.metric}"] = progress.validation
        self.logbook.info(describe(entry, config.max_epoch))
        if is_time:
            self.logbook.results(self.results())
            self.save(is_best)

    def _close_epoch(self) -> dict:
        progress, metric, samples = self.progress, self.task.metric, self.progress.controller_sample
        train = self.task.epoch_metric(progress.value_sum / progress.value_count) if progress.value_count else None
        entry = {
            "epoch": progress.epoch,
            f"train_{metric}": train,
            f"validation_{metric}": None,
            "reward": progress.reward_sum / samples if samples else None,
            "entropy": progress.entropy_sum / samples if samples else None,
            "wall_seconds": round(self.wall_seconds(), 1),
        }
        progress.history.append(entry)
        progress.shared_step = progress.controller_sample = progress.value_count = 0
        progress.value_sum = progress.reward_sum = progress.entropy_sum = 0.0
        return entry

    def derive(self) -> tuple:
        """Sample `derive_num_sample` architectures, take the best on the same few validation minibatches.

        Returns:
            the architecture, and its metric on the whole of validation.
        """
        with torch.no_grad():
            candidates = self.controller.sample(self.config.derive_num_sample).architectures
        candidates = list(dict.fromkeys(candidates))
        scores = self.task.rank(candidates, self.config.derive_max_batches)
        chosen = 0
        for index, score in enumerate(scores):
            if self.task.is_better(score, scores[chosen]):
                chosen = index
        return candidates[chosen], self.task.evaluate(candidates[chosen], "valid")

    def derive_and_record(self) -> bool:
        """Derive, and write the outcome down everywhere; returns whether it is the best of the run so far."""
        progress, metric = self.progress, self.task.metric
        architecture, score = self.derive()
        progress.validation, progress.architecture = score, architecture.to_dict()
        is_best = self.task.is_better(score, progress.best)
        if is_best:
            progress.best = score
        self.logbook.scalars("eval", {f"validation_{metric}": score}, progress.step)
        if self.folder is not None:
            self.draw(architecture, score)
        return is_best

    def draw(self, architecture, score: float) -> None:
        """Leave the architecture as a file and as a picture."""
        progress = self.progress
        name = f"{progress.epoch}-{progress.total_shared_steps}-{score:.4f}-best"
        title = f"epoch {progress.epoch}, step {progress.total_shared_steps}, {self.task.metric} {format_score(score)}"
        path = self.folder / "architectures" / f"{name}.json"
        write_json(path, architecture.to_dict())
        picture = self.task.draw(architecture, self.folder / "networks" / f"{name}.png", title)
        self.logbook.picture("derive/best", picture, progress.step)
        self.written = {"architecture": path, "picture": picture}

    def results(self) -> dict:
        """What results.json holds; `validation_…` is of the architecture derived last."""
        progress, metric = self.progress, self.task.metric
        return {
            **self.header,
            "epoch": progress.epoch,
            "architecture": progress.architecture,
            f"validation_{metric}": progress.validation,
            f"test_{metric}": None,
            "wall_seconds": round(self.wall_seconds(), 1),
            "history": progress.history,
        }

    def wall_seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.progress.seconds + time.monotonic() - self._resumed_at

    def save(self, is_best: bool = False) -> None:
        """Write a checkpoint."""
        if self.checkpoints is None:
            return
        progress = self.progress
        self.checkpoints.save(self.state_dict(), epoch=progress.epoch, step=progress.step, is_best=is_best)

    def state_dict(self) -> dict:
        """Everything the run needs to go on as if it had never stopped."""
        optimizer = self.controller_optimizer
        return {
            "task": self.task.state_dict(),
            "controller": self.controller.state_dict(),
            "shared_optimizer": self.shared_optimizer.state_dict(),
            "controller_optimizer": optimizer.state_dict() if optimizer else None,
            "baseline": self.baseline.state_dict(),
            "progress": {**asdict(self.progress), "seconds": self.wall_seconds()},
            "random": random_states(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`."""
        self.task.load_state_dict(state["task"])
        self.controller.load_state_dict(state["controller"])
        self.shared_optimizer.load_state_dict(state["shared_optimizer"])
        if self.controller_optimizer:
            self.controller_optimizer.load_state_dict(state["controller_optimizer"])
        self.baseline.load_state_dict(state["baseline"])
        self.progress = Progress(**state["progress"])
        self._resumed_at = time.monotonic()
        restore_random_states(state["random"])

    def _on_signal(self, signum: int, frame) -> None:
        # A second signal of the kind means now.
        signal.signal(signum, signal.SIG_DFL)
        self._signal = signum

    def _stop_if_asked(self) -> None:
        if self._signal is not None:
            self.save()
            raise Interrupted(self._signal)


def describe(entry: dict, max_epoch: int) -> str:
    """A history entry as a line for people."""
    parts = [f"epoch {entry['epoch']}/{max_epoch}"]
    for name, value in entry.items():
        if name not in ("epoch", "wall_seconds") and value is not None:
            parts.append(
                f"{name.replace('_', ' ')} {value:.4g}" if abs(value) < 10 else f"{name.replace('_', ' ')} {value:.1f}"
            )
    return ", ".join(parts) + f" ({entry['wall_seconds']:.0f} s)"

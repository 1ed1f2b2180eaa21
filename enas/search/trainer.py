"""The alternating loop of ENAS (paper section 2.2), the same for text and images.

Each epoch trains the shared parameters ω on sampled architectures, then the controller θ on the rewards of new ones,
and every `save_epoch` epochs derives the best architecture, evaluates, draws and saves.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from enas.data.identity import digest
from enas.errors import Interrupted, TrainingDivergedError, UserError
from enas.files import write_json
from enas.search.architecture import architecture_from_dict
from enas.search.checkpoint import Checkpoints, checkpoint_name, random_states, restore_random_states
from enas.search.controllers import Controller, RandomController
from enas.search.cost import Cost
from enas.search.derive import Derivation, Deriver
from enas.search.optim import clip_gradient, make_optimizer, set_lr
from enas.search.ranks import ALONE, Ranks
from enas.search.record import LARGEST_WRITTEN_OUT, NoLogbook, format_score
from enas.search.reinforce import Baseline, policy_loss, returns
from enas.search.sampling import check_finite, sample
from enas.search.settings import (
    ControllerOptimConfig,
    DeriveConfig,
    ReinforceConfig,
    SharedOptimisation,
    TrainerConfig,
)
from enas.search.size import UNLIMITED, SizeBudget
from enas.search.space import Space
from enas.search.task import Task

SKIPS_BEFORE_ROLLBACK = 5
ROLLBACKS_BEFORE_END = 3


@dataclass
class Progress:
    """How far a run is, and the sums of its unfinished epoch: plain numbers, saved in every checkpoint."""

    epoch: int = 0  # finished
    shared_step: int = 0  # of this epoch
    controller_sample: int = 0  # of this epoch
    total_shared_steps: int = 0
    total_controller_updates: int = 0
    value_sum: float = 0.0
    value_count: int = 0
    num_rewarded: int = 0  # samples of this epoch that updated θ
    reward_sum: float = 0.0
    entropy_sum: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    lr_scale: float = 1.0
    seconds: float = 0.0
    validation: float | None = None
    best: float | None = None
    architecture: dict[str, Any] | None = None  # of the run, with its `validation`
    measured_with: str = ""  # the weights of that validation
    bests: list[str] = field(default_factory=list)  # names of the checkpoints that were the best when they were written
    decisions: list[list[Any]] = field(default_factory=list[Any])  # epoch, and the probabilities of each decision
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Updates of ω and of θ so far: where the run is, in TensorBoard and in the names of checkpoints."""
        return self.total_shared_steps + self.total_controller_updates


class Trainer:
    """Trains ω and θ in turn.

    Args:
        task: the problem, with the shared model.
        controller: what samples; one without parameters is not trained.
        config: see `TrainerConfig`.
        reinforce: see `ReinforceConfig`.
        derive: see `DeriveConfig`.
        shared_optim, controller_optim: how ω and θ are trained.
        draw: makes a picture of an architecture: (architecture, path, title) to the file written.
        header: what results.json says of the run besides its results.
        space: what the controller samples. Uniform samples of it are what ω trains on before `controller_start`, and
            what the policy is compared with; None does neither.
        draw_policy: makes a picture of the policy over time: (space, decisions as in `Progress`, path) to the file
            written.
        logbook, checkpoints, folder: where the run is written down; without a folder nothing is drawn or saved.
        ranks: the processes that train together, each with its own `shared_num_sample` architectures of a step.
        size: what architectures cost, and may cost.

    Attributes:
        output_files: files that the run has written, by kind.
        deriver: derives, see `enas.search.derive`.
        drawn: the architectures of the next shared step, of all processes, where they are sampled already.
    """

    def __init__(
        self,
        task: Task,
        controller: Controller[Any],
        *,
        config: TrainerConfig,
        reinforce: ReinforceConfig,
        derive: DeriveConfig,
        shared_optim: SharedOptimisation,
        controller_optim: ControllerOptimConfig,
        draw: Callable[[Any, Path, str], Path] | None = None,
        header: dict[str, Any] | None = None,
        space: Space[Any] | None = None,
        draw_policy: Callable[[Space[Any], list[Any], Path], Path] | None = None,
        logbook: NoLogbook | None = None,
        checkpoints: Checkpoints | None = None,
        folder: Path | None = None,
        ranks: Ranks = ALONE,
        size: SizeBudget = UNLIMITED,
    ):
        self.task = task
        self.size = size
        self.ranks = ranks
        self.controller = controller
        self.config = config
        self.reinforce = reinforce
        if space is None and controller.is_trained and config.controller_start > 0:
            raise UserError(
                "controller_start needs uniform samples, and the controller names no space to draw them from"
            )
        self.deriver = Deriver(task, controller, derive, space, ranks, size)
        self.draw_policy = draw_policy
        self.shared_optim = shared_optim
        self.controller_optim = controller_optim
        self.shared_parameters = list(task.model.parameters())  # looking for them takes half a step of a micro network
        self.shared_optimizer = make_optimizer(parameters=self.shared_parameters, **shared_optim.optimizer)
        self.controller_optimizer = None
        if controller.is_trained:
            self.controller_optimizer = make_optimizer(parameters=controller.parameters(), **controller_optim.optimizer)
        self.draw = draw
        self.header = header or {}
        self.logbook = logbook or NoLogbook()
        self.checkpoints = checkpoints
        self.folder = folder
        self.baseline = Baseline(reinforce)
        self.progress = Progress()
        self.drawn: list[Any] | None = None
        self.output_files: dict[str, Path] = {}
        self._resumed_at = time.monotonic()
        self._signal: int | None = None

    def train(self) -> dict[str, Any]:
        """Run to `max_epoch`; returns what results.json holds.

        Raises:
            Interrupted: SIGINT or SIGTERM came, and everything is saved.
            TrainingDivergedError: see there.
        """
        with self._signals_noted():
            if self.progress == Progress():
                self.save()
            while not self.is_finished():
                self.train_shared()
                self.train_controller()
                self.finish_epoch()
                self._stop_if_asked()
        return self.results()

    def is_finished(self) -> bool:
        """Whether training is over."""
        return self.progress.epoch >= self.config.max_epoch

    def _warm_up_epochs(self) -> int:
        """Epochs before θ trained, whatever the run's length has become since; as planned where it has not trained."""
        progress = self.progress
        if progress.total_controller_updates == 0:
            return self.config.warm_up_epochs
        finished = (epoch for epoch, entry in enumerate(progress.history) if entry["reward"] is not None)
        return next(finished, progress.epoch)

    def is_warming_up(self) -> bool:
        """Whether ω still trains on uniform architectures, and θ not at all."""
        return self.controller.is_trained and self.progress.epoch < self._warm_up_epochs()

    def is_time_to_evaluate(self) -> bool:
        """Whether the epoch just finished is one to derive, evaluate, draw and save after."""
        return self.progress.epoch % self.config.save_epoch == 0 or self.is_finished()

    def train_shared(self) -> None:
        """Train ω for the rest of the epoch's steps, each on freshly sampled architectures and the next minibatch."""
        num_left = self.task.steps_per_epoch - self.progress.shared_step
        for _ in self.logbook.progress(self._shared_steps_left(), "shared", num_left):
            if self.drawn is None:
                self._draw()
            architectures, self.drawn = self.drawn, None
            is_last = self.progress.shared_step + 1 == self.task.steps_per_epoch
            self.shared_step(self.ranks.share(architectures), None if is_last else self._draw)
            self._stop_if_asked()

    def _draw(self) -> None:
        """Sample the architectures of the next shared step."""
        source = self.controller
        if self.is_warming_up():
            source = RandomController(self.deriver.space, self.config.shared_balanced)
        with torch.no_grad():
            self.drawn = sample(source, self._num_shared).architectures

    @property
    def _num_shared(self) -> int:
        """Architectures of a shared step, those of all processes."""
        return self.config.shared_num_sample * self.ranks.size

    def _shared_steps_left(self) -> Iterator[None]:
        # A return to the last checkpoint replaces self.progress, and the count goes on from there.
        while self.progress.shared_step < self.task.steps_per_epoch:
            yield

    def shared_step(self, architectures: list[Any], meanwhile: Callable[[], None] | None = None) -> None:
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
            self.logbook.scalars("shared", values, progress.step)

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

    def train_controller(self) -> None:
        """Train θ on the rest of `controller_max_step` sampled architectures; ω is fixed and in evaluation mode."""
        if not self.controller.is_trained or self.is_warming_up():
            return
        set_lr(self.controller_optimizer, self.controller_optim.rate(self.progress.epoch + 1))
        num_left = self.config.controller_max_step - self.progress.controller_sample
        for num in self.logbook.progress(self.reinforce.updates(num_left), "controller"):
            self.update_controller(num)
            self.progress.controller_sample += num
            self._stop_if_asked()

    def update_controller(self, num: int) -> None:
        """One update of θ by `num` sampled architectures, scored on the next validation minibatch."""
        progress, config = self.progress, self.config
        sampled = sample(self.controller, num)
        rewards = self.ranks.divided(self.task.rewards, sampled.architectures).cpu()  # [M]
        rewards = rewards + self.size.reward(sampled.architectures)
        if not torch.isfinite(rewards).all():
            self._skip_update("a reward")
            return
        as_reward = self.reinforce.entropy_mode == "reward"
        entropy_weight = self.reinforce.entropy_coeff
        gains = returns(rewards, sampled.log_probs, entropy_weight if as_reward else 0.0, self.reinforce.discount)
        advantage = self.baseline.advantage(gains)  # [M, D]
        loss = policy_loss(sampled.log_probs, advantage)
        if not as_reward:
            loss = loss - entropy_weight * sampled.entropies.sum(1).mean()
        if sampled.penalty is not None:
            loss = loss + self.controller.penalty_weight * sampled.penalty.mean()
        self.controller_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = clip_gradient(self.controller.parameters(), self.controller_optim.controller_grad_clip)
        if not torch.isfinite(norm):
            self._skip_update("the gradient")
            return
        self.controller_optimizer.step()
        check_finite(self.controller)

        reward, entropy = float(rewards.mean()), float(sampled.entropies.detach().sum(1).mean())
        progress.total_controller_updates += 1
        progress.num_rewarded += num
        progress.reward_sum += reward * num
        progress.entropy_sum += entropy * num
        if progress.total_controller_updates % max(1, config.log_step // self.reinforce.controller_num_aggregate) == 0:
            values = {
                "loss": float(loss.detach()),
                "reward": reward,
                "entropy": entropy,
                "advantage": float(advantage.mean()),
                "baseline": float(self.baseline.value.mean()),
            }
            self.logbook.scalars("controller", values, progress.step)

    def _skip_update(self, what: str) -> None:
        self.logbook.info(f"controller update {self.progress.total_controller_updates}: {what} is not finite; skipped")

    def finish_epoch(self) -> None:
        """Add the epoch to the history; derive, evaluate, draw and save when it is time."""
        progress, config = self.progress, self.config
        progress.epoch += 1
        is_time = self.is_time_to_evaluate()
        entry = self._close_epoch()
        is_best = False
        if is_time:
            self.check_ranks()
            derived = self.derive()
            is_best = self.record(derived)
            entry[f"validation_{self.task.metric.name}"] = derived.score
            entry.update({**derived.comparison, **self._cost(derived.architecture)})
        entry["wall_seconds"] = round(self.wall_seconds(), 1)
        self.logbook.info(describe(entry, config.max_epoch))
        if is_time:
            self.logbook.results(self.results())
            self.save(is_best)

    def _close_epoch(self) -> dict[str, Any]:
        progress, metric, num = self.progress, self.task.metric.name, self.progress.num_rewarded
        train = self.task.epoch_metric(progress.value_sum / progress.value_count) if progress.value_count else None
        entry = {
            "epoch": progress.epoch,
            f"train_{metric}": train,
            f"validation_{metric}": None,
            "reward": progress.reward_sum / num if num else None,
            "entropy": progress.entropy_sum / num if num else None,
        }
        progress.history.append(entry)
        progress.shared_step = progress.controller_sample = progress.value_count = progress.num_rewarded = 0
        progress.value_sum = progress.reward_sum = progress.entropy_sum = 0.0
        return entry

    def derive(self) -> Derivation:
        """Derive from the policy as it is, and compare it with uniform sampling."""
        return self.deriver.derive(compare=True)

    def record(self, derived: Derivation) -> bool:
        """Write down what was derived, and return whether it is the best of the run so far."""
        compared = {
            f"{who}_{name}": value
            for who in ("policy", "uniform")
            for name, value in derived.comparison.get(who, {}).items()
        }
        self.logbook.scalars("eval", compared, self.progress.step)
        is_writing = self.folder is not None and self.ranks.is_first
        if is_writing:
            self._write_policy(derived.probabilities)
        if derived.architecture is None:
            self.logbook.info(derived.problem)
            return False
        if is_writing:
            self.write_architecture(derived.architecture, derived.score)
        return self._record_score(derived)

    def _record_score(self, derived: Derivation) -> bool:
        progress, metric = self.progress, self.task.metric
        self.take(derived.architecture, derived.score)
        self.logbook.scalars("eval", {f"validation_{metric.name}": derived.score}, progress.step)
        is_best = metric.is_better(derived.score, progress.best)
        if is_best:
            progress.best = derived.score
        return is_best

    def take(self, architecture: Any, score: float | None) -> None:
        """Make an architecture that of the run; `score` is its metric on all of validation, with the weights of now."""
        progress = self.progress
        progress.architecture, progress.validation = architecture.to_dict(), score
        progress.measured_with = f"shared weights, epoch {progress.epoch}, step {progress.total_shared_steps}"

    def _cost(self, architecture: Any) -> dict[str, int]:
        cost = None if architecture is None else self.size.cost(architecture)
        return {} if cost is None else cost.to_dict()

    def _write_policy(self, probabilities: list[list[float]]) -> None:
        """Draw the probability of each choice, epoch by epoch."""
        if not probabilities or self.draw_policy is None:
            return
        earlier = [entry for entry in self.progress.decisions if entry[0] < self.progress.epoch]
        self.progress.decisions = [*earlier, [self.progress.epoch, probabilities]]
        path = self.draw_policy(self.deriver.space, self.progress.decisions, self.folder / "policy.png")
        self.logbook.picture("derive/policy", path, self.progress.step)
        self.output_files["policy"] = path

    def write_architecture(self, architecture: Any, score: float) -> None:
        """Write the architecture as a JSON file and a picture."""
        progress = self.progress
        name = f"{progress.epoch}-{progress.total_shared_steps}-{_in_name(score)}-best"
        title = (
            f"epoch {progress.epoch}, step {progress.total_shared_steps}, {self.task.metric.name} {format_score(score)}"
        )
        cost = self.size.cost(architecture)
        if cost is not None:
            title = f"{title}\n{cost}"
        path = self.folder / "architectures" / f"{name}.json"
        write_json(path, architecture.to_dict())
        self.output_files = {"architecture": path}
        if self.draw is not None:
            picture = self.draw(architecture, self.folder / "networks" / f"{name}.png", title)
            self.logbook.picture("derive/best", picture, progress.step)
            self.output_files["picture"] = picture

    def results(self) -> dict[str, Any]:
        """Return the content of results.json; `architecture` is the run's, and `validation_…` its score.

        `wall_seconds` runs to the end of the last finished epoch, its evaluation included.
        """
        progress, metric = self.progress, self.task.metric.name
        return {
            **self.header,
            "epoch": progress.epoch,
            "architecture": progress.architecture,
            **self._cost(progress.architecture and architecture_from_dict(progress.architecture)),
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

    def check_ranks(self) -> None:
        """Raise UserError, naming the ranks, where the processes no longer have the same θ and random numbers."""
        if self.ranks.size == 1:
            return
        parts = {
            "controller": digest(*(weight.cpu().numpy() for weight in self.controller.state_dict().values())),
            "random numbers": digest(torch.get_rng_state().numpy()),
        }
        self.ranks.check_alike(
            parts,
            f"the run after epoch {self.progress.epoch}",
            "machines of other kinds may round differently; --load_path goes on from the newest checkpoint",
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything the run needs to go on as if it had never stopped."""
        optimizer = self.controller_optimizer
        return {
            "task": self.task.state_dict(),
            "controller": self.controller.state_dict(),
            "shared_optimizer": self.shared_optimizer.state_dict(),
            "controller_optimizer": optimizer.state_dict() if optimizer else None,
            "baseline": self.baseline.state_dict(),
            "progress": {**asdict(self.progress), "seconds": self.wall_seconds()},
            "drawn": None if self.drawn is None else [one.to_dict() for one in self.drawn],
            "random": random_states(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.task.load_state_dict(state["task"])
        self.controller.load_state_dict(state["controller"])
        self.shared_optimizer.load_state_dict(state["shared_optimizer"])
        if self.controller_optimizer:
            self.controller_optimizer.load_state_dict(state["controller_optimizer"])
        self.baseline.load_state_dict(state["baseline"])
        self.progress = Progress(**state["progress"])
        drawn = state["drawn"] or []
        # Another number of processes needs another number of architectures: the next step samples them anew.
        fits = len(drawn) == self._num_shared
        self.drawn = [architecture_from_dict(one) for one in drawn] if fits else None
        self._resumed_at = time.monotonic()
        restore_random_states(state["random"])
        self.ranks.share_device_draws(self.task.device)

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the run after the step in progress; a second one of a kind ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can handle signals
            return
        handlers = {signum: signal.signal(signum, self._on_signal) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    def _on_signal(self, signum: int, frame: object) -> None:
        signal.signal(signum, signal.SIG_DFL)
        self._signal = signum

    def asked_to_stop(self) -> int:
        """The signal that has come, in any of the processes; 0 for none."""
        return self.ranks.largest(self._signal or 0)  # one process that is told to stop stops all, at the same step

    def _stop_if_asked(self) -> None:
        if signum := self.asked_to_stop():
            self.save()
            raise Interrupted(signum, "the run is saved and can be resumed")


_APART = ("epoch", "wall_seconds", "place", "parameters", "multiply_adds")


def describe(entry: dict[str, Any], max_epoch: int) -> str:
    """A history entry as a log line."""
    parts = [f"epoch {entry['epoch']}/{max_epoch}"]
    for name, value in entry.items():
        if not isinstance(value, (dict, str)) and name not in _APART and value is not None:
            parts.append(f"{name.replace('_', ' ')} {_short(value)}")
    if "place" in entry:
        parts.append(describe_comparison(entry))
    if "parameters" in entry:
        parts.append(str(Cost(entry["parameters"], entry["multiply_adds"])))
    return ", ".join(parts) + f" ({entry['wall_seconds']:.0f} s)"


def describe_comparison(comparison: dict[str, Any]) -> str:
    """`Derivation.comparison` as a part of a log line."""
    policy, uniform = (_spread(comparison[who]) for who in ("policy", "uniform"))
    metric, place = comparison["compared_by"].replace("_", " "), comparison["place"]
    derived = "nothing derived" if place is None else f"derived in place {place} among those"
    return f"median {metric} of the policy {policy}, of uniform {uniform}, {derived}"


def _in_name(score: float) -> str:
    return f"{score:.4f}" if abs(score) < LARGEST_WRITTEN_OUT else f"{score:.4e}"


def _short(value: float) -> str:
    return f"{value:.1f}" if 10 <= abs(value) < LARGEST_WRITTEN_OUT else f"{value:.4g}"


def _spread(values: dict[str, float]) -> str:
    median, lower, upper, best = (
        _short(values[name]) for name in ("median", "lower_quartile", "upper_quartile", "best")
    )
    return f"{median} (quartiles {lower} and {upper}, best {best})"

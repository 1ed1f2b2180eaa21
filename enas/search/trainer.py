"""The alternating search of ENAS (paper section 2.2), the same for text and images; `Training.train` is the loop.

Each epoch trains the shared parameters ω on sampled architectures, then the controller θ on the rewards of new ones,
and every `save_epoch` epochs derives the best architecture.
"""

import json
import math
import reprlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from enas.data.identity import digest
from enas.errors import UserError
from enas.search.architecture import architecture_from_dict
from enas.search.controllers import Controller, RandomController
from enas.search.derive import Derivation, Deriver
from enas.search.metric import Metric
from enas.search.record import LARGEST_WRITTEN_OUT, flat, format_score
from enas.search.registry import reward_named
from enas.search.settings import DeriveConfig, ReinforceConfig
from enas.search.task import Task
from enas.search.training import Training
from enas.settings import ConfigLike


class Trainer(Training):
    """Trains ω and θ in turn (paper section 2.2).

    The arguments are those of `Training`, and the controller. Uniform samples of its space train ω before
    `controller_start`, and are a share, `shared_uniform`, afterwards. Each process has its own `shared_num_sample`.
    """

    def __init__(self, task: Task, controller: Controller[Any], config: ConfigLike, **parts: Any):
        super().__init__(task, config, **parts)
        self.header["reward"] = config.reward
        self.controller = controller
        controller.prepare(config)
        self.updates = config[ReinforceConfig]
        self.judge = cast(Task, Rewarded(task, config)) if config.reward else task  # rewards and ranks architectures
        self.deriver = Deriver(self.judge, controller, config[DeriveConfig], self.ranks, self.size, config.uniform_over)
        self.num_shared = self.config.shared_num_sample * self.ranks.size  # architectures of a step, all processes'
        self.drawn: list[Any] = []  # the architectures of the next step, if they are sampled already

    def train_shared(self) -> None:
        """Train ω for the rest of the epoch's steps, each on freshly sampled architectures and the next minibatch."""
        for _ in self.steps_left():
            if not self.drawn:
                self._draw()
            architectures, self.drawn = self.ranks.share(self.drawn), []
            is_last = self.progress.shared_step + 1 == self.task.steps_per_epoch
            self.shared_step(architectures, None if is_last else self._draw)
            self.stop_if_asked()

    def train_controller(self) -> None:
        """Train θ on the rest of `controller_max_step` sampled architectures; ω is fixed and in evaluation mode."""
        if not self.controller.is_trained or self.is_warming_up():
            return
        self.controller.epoch = self.progress.epoch + 1
        updates = self.updates.updates(self.config.controller_max_step - self.progress.controller_sample)
        for num in self.logbook.progress(updates, self.stage("controller"), len(updates)):
            self.update_controller(num)
            self.progress.controller_sample += num
            self.stop_if_asked()

    def update_controller(self, num: int) -> None:
        """Let the controller learn once from `num` sampled architectures, scored on the next validation minibatch."""
        sampled = self.controller.sample(num)
        rewards = self.ranks.divided(self.judge.rewards, sampled.architectures).cpu()
        rewards = rewards + self.size.reward(sampled.architectures)
        progress, reward = self.progress, float(rewards.mean())
        try:
            if not torch.isfinite(rewards).all():
                raise FloatingPointError("a reward is not finite")
            values = self.controller.learn(sampled, rewards)
        except FloatingPointError as error:
            self.logbook.info(f"controller update {progress.total_controller_updates}: {error}; skipped")
            return
        self.controller.check_finite()
        progress.total_controller_updates += 1
        progress.num_rewarded += num
        progress.reward_sum += reward * num
        progress.entropy_sum += values.get("entropy", math.nan) * num
        updates_apart = max(1, self.config.log_step // self.updates.controller_num_aggregate)
        if progress.total_controller_updates % updates_apart == 0:
            self.logbook.scalars("controller", {"reward": reward, **values}, progress.total_controller_updates)

    def is_warming_up(self) -> bool:
        """Whether ω still trains on uniform architectures, and θ does not train yet."""
        is_yet_to_learn = self.controller.is_trained and self.progress.total_controller_updates == 0
        return is_yet_to_learn and self.progress.epoch < self.config.warm_up_epochs

    def _draw(self) -> None:
        """Sample a step's architectures: from the policy, and uniformly over labels, which name weights to train."""
        self.controller.epoch = self.progress.epoch + 1
        num, share = self.num_shared, self.config.shared_uniform
        num_uniform = num if self.is_warming_up() or isinstance(self.controller, RandomController) else 0
        if share and not num_uniform:
            num_uniform = int((torch.rand(num) < share).sum())
        uniform = RandomController(self.controller.space, over="labels")
        self.drawn = []
        with torch.no_grad():
            for source, count in ((uniform, num_uniform), (self.controller, num - num_uniform)):
                self.drawn += source.sample(count).architectures if count else []

    def derive(self, incumbent: Any = None) -> Derivation:
        """Derive from the policy as it is, and compare it with uniform sampling."""
        return self.deriver.derivation(self.deriver.shortlist(incumbent))

    def evaluate(self, entry: dict[str, Any]) -> bool:
        derived = self.derive()
        entry[f"validation_{self.task.metric.name}"] = derived.score
        entry.update({**derived.comparison, **self.cost(derived.architecture)})
        return self.record(derived)

    def record(self, derived: Derivation) -> bool:
        """Write down the derived architecture, and return whether it is the best of the run so far."""
        progress, step = self.progress, self.progress.total_shared_steps
        metric = derived.comparison.get("compared_by")
        compared = {f"{who}_{metric}": derived.comparison.get(who, {}) for who in ("policy", "uniform")}
        self.logbook.scalars("eval", flat(compared), step)
        if derived.probabilities:
            earlier = [entry for entry in progress.decisions if entry[0] < progress.epoch]
            progress.decisions = [*earlier, [progress.epoch, derived.probabilities]]
            space, warm_up = self.controller.space, self.config.warm_up_epochs
            self.logbook.policy(space, progress.decisions, derived.architecture, warm_up, step)
        if derived.architecture is None or derived.score is None:
            self.logbook.info(derived.problem)
            return False
        score, cost = derived.score, self.size.cost(derived.architecture)
        short = f"{score:.4f}" if abs(score) < LARGEST_WRITTEN_OUT else f"{score:.4e}"
        title = f"epoch {progress.epoch}, step {step}, {self.task.metric.name} {format_score(score)}"
        title += "" if cost is None else f"\n{cost}"
        self.logbook.derived(derived.architecture, f"{progress.epoch}-{step}-{short}-best", title, step)
        return self.take(derived.architecture, score)

    def alike(self) -> dict[str, str]:
        state = json.dumps(self.controller.state_dict(), default=torch.Tensor.tolist)
        return {"controller": digest(state.encode()), **super().alike()}

    def state_dict(self) -> dict[str, Any]:
        own = {"controller": self.controller.state_dict(), "drawn": [one.to_dict() for one in self.drawn] or None}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.controller.load_state_dict(state["controller"])
        super().load_state_dict(state)
        self.controller.epoch = max(1, self.progress.epoch)
        drawn = [architecture_from_dict(one) for one in state["drawn"] or ()]
        # Another number of processes needs another number of architectures: the next step samples them anew.
        self.drawn = drawn if len(drawn) == self.num_shared else []


class Rewarded:
    """A task whose `rewards` and `rank` are those of the run's reward function; all else is the task's own."""

    def __init__(self, task: Task, config: ConfigLike):
        self.task, self.reward, self.rank_metric = task, config.reward, Metric(config.reward, 4, higher_is_better=True)
        self.function = cache(lambda: reward_named(config.reward)(config))  # an export does without the function

    def rewards(self, architectures: Sequence[Any]) -> Tensor:
        return self._of(architectures, self.task.rewards(architectures).cpu())

    def rank(self, architectures: Sequence[Any], max_batches: int | None = None) -> list[float]:
        scores = torch.tensor(self.task.rank(architectures, max_batches), dtype=torch.float64)
        return self._of(architectures, self.task.as_rewards(scores)).tolist()

    def as_rewards(self, scores: Tensor) -> Tensor:
        return scores

    def _of(self, architectures: Sequence[Any], scores: Tensor) -> Tensor:
        found = self.function()(architectures, scores)
        with suppress(RuntimeError, TypeError, ValueError):  # which torch raises for anything but numbers
            found = torch.as_tensor(found).to(scores)
        if getattr(found, "shape", None) != scores.shape:
            what = f"the shape {list(found.shape)}" if isinstance(found, Tensor) else reprlib.repr(found)
            wanted = f"{len(scores)} numbers, one an architecture"
            raise UserError(f"reward {self.reward} returned {what}; it must return {wanted}")
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

"""The alternating loop of ENAS (paper section 2.2), the same for text and images.

Each epoch trains the shared parameters ω on sampled architectures, then the controller θ on the rewards of new ones,
and every `save_epoch` epochs derives the best architecture.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch

from enas.data.identity import digest
from enas.errors import UserError
from enas.search.architecture import architecture_from_dict
from enas.search.controllers import Controller, RandomController, Sample, check_finite, sample
from enas.search.derive import Derivation, Deriver
from enas.search.optim import clip_gradient, make_optimizer, set_lr
from enas.search.record import LARGEST_WRITTEN_OUT, format_score
from enas.search.reinforce import Baseline, policy_loss, returns
from enas.search.settings import ControllerOptimConfig, DeriveConfig, ReinforceConfig
from enas.search.space import Space
from enas.search.task import Task
from enas.search.training import Training
from enas.settings import ConfigLike


class Trainer(Training):
    """Trains ω and θ in turn.

    Args:
        task: the problem, with the shared model.
        controller: what samples; one without parameters is not trained. Uniform samples of its space are what ω trains
            on before `controller_start`, and what the policy is compared with; one without a space does neither.
        config: the settings of the run.
        parts: of `Training`; each process has its own `shared_num_sample` architectures of a step.

    Attributes:
        deriver: derives, see `enas.search.derive`.
        drawn: the architectures of the next shared step, of all processes, where they are sampled already.
    """

    def __init__(self, task: Task, controller: Controller[Any], config: ConfigLike, **parts: Any):
        super().__init__(task, config, **parts)
        self.controller = controller
        self.reinforce = config[ReinforceConfig]
        space = getattr(controller, "space", None)
        if space is None and controller.is_trained and self.config.controller_start > 0:
            raise UserError(
                "controller_start needs uniform samples, and the controller names no space to draw them from"
            )
        self.deriver = Deriver(task, controller, config[DeriveConfig], space, self.ranks, self.size)
        self.controller_optim = config[ControllerOptimConfig]
        self.controller_optimizer: torch.optim.Optimizer | None = None
        if controller.is_trained:
            self.controller_optimizer = make_optimizer(
                parameters=controller.parameters(), **self.controller_optim.optimizer
            )
        self.baseline = Baseline(self.reinforce)
        self.drawn: list[Any] | None = None

    def train(self) -> dict[str, Any]:
        with self.signals.noted():
            self.begin()
            while not self.is_finished():
                self.train_shared()
                self.train_controller()
                self.finish_epoch()
                self.stop_if_asked()
        return self.results()

    def train_shared(self) -> None:
        """Train ω for the rest of the epoch's steps, each on freshly sampled architectures and the next minibatch."""
        for _ in self.steps_left():
            architectures, self.drawn = self.drawn or self._sampled(), None
            is_last = self.progress.shared_step + 1 == self.task.steps_per_epoch
            self.shared_step(self.ranks.share(architectures), None if is_last else self._draw)
            self.stop_if_asked()

    def train_controller(self) -> None:
        """Train θ on the rest of `controller_max_step` sampled architectures; ω is fixed and in evaluation mode."""
        if self.controller_optimizer is None or self.is_warming_up():
            return
        set_lr(self.controller_optimizer, self.controller_optim.rate(self.progress.epoch + 1))
        num_left = self.config.controller_max_step - self.progress.controller_sample
        for num in self.logbook.progress(self.reinforce.updates(num_left), "controller"):
            self.update_controller(num)
            self.progress.controller_sample += num
            self.stop_if_asked()

    def update_controller(self, num: int) -> None:
        """One update of θ by `num` sampled architectures, scored on the next validation minibatch."""
        optimizer = cast("torch.optim.Optimizer", self.controller_optimizer)
        sampled = sample(self.controller, num)
        rewards = self.rewards(sampled.architectures)
        if not torch.isfinite(rewards).all():
            self._skip_update("a reward")
            return
        loss, advantage = self.controller_loss(sampled, rewards)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = clip_gradient(self.controller.parameters(), self.controller_optim.controller_grad_clip)
        if not torch.isfinite(norm):
            self._skip_update("the gradient")
            return
        optimizer.step()
        check_finite(self.controller)
        self._note_update(sampled, rewards, loss, advantage)

    def rewards(self, architectures: Sequence[Any]) -> torch.Tensor:
        """The reward of each of M architectures, [M]: what the task measures, and what their size adds."""
        return self.ranks.divided(self.task.rewards, architectures).cpu() + self.size.reward(architectures)

    def controller_loss(self, sampled: Sample[Any], rewards: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What an update of θ minimises, a scalar, and the advantage of each decision [M, D]."""
        as_reward = self.reinforce.entropy_mode == "reward"
        entropy_weight = self.reinforce.entropy_coeff
        gains = returns(rewards, sampled.log_probs, entropy_weight if as_reward else 0.0, self.reinforce.discount)
        advantage = self.baseline.advantage(gains)
        loss = policy_loss(sampled.log_probs, advantage)
        if not as_reward:
            loss = loss - entropy_weight * sampled.entropies.sum(1).mean()
        if sampled.penalty is not None:
            loss = loss + self.controller.penalty_weight * sampled.penalty.mean()
        return loss, advantage

    def _note_update(
        self, sampled: Sample[Any], rewards: torch.Tensor, loss: torch.Tensor, advantage: torch.Tensor
    ) -> None:
        progress, num = self.progress, len(rewards)
        reward, entropy = float(rewards.mean()), float(sampled.entropies.detach().sum(1).mean())
        progress.total_controller_updates += 1
        progress.num_rewarded += num
        progress.reward_sum += reward * num
        progress.entropy_sum += entropy * num
        updates_apart = max(1, self.config.log_step // self.reinforce.controller_num_aggregate)
        if progress.total_controller_updates % updates_apart == 0:
            values = {
                "loss": float(loss.detach()),
                "reward": reward,
                "entropy": entropy,
                "baseline": float(cast("torch.Tensor", self.baseline.value).mean()),
            }
            if self.reinforce.baseline != "leave_one_out":  # whose advantages sum to 0
                values["advantage"] = float(advantage.mean())
            self.logbook.scalars("controller", values, progress.total_controller_updates)

    def _skip_update(self, what: str) -> None:
        self.logbook.info(f"controller update {self.progress.total_controller_updates}: {what} is not finite; skipped")

    def is_warming_up(self) -> bool:
        """Whether ω still trains on uniform architectures, and θ not at all."""
        return self.controller.is_trained and self.progress.epoch < self._warm_up_epochs()

    def _warm_up_epochs(self) -> int:
        """Epochs before θ trained, whatever the run's length has become since; as planned where it has not trained."""
        progress = self.progress
        if progress.total_controller_updates == 0:
            return self.config.warm_up_epochs
        finished = (epoch for epoch, entry in enumerate(progress.history) if entry["reward"] is not None)
        return next(finished, progress.epoch)

    def _draw(self) -> None:
        self.drawn = self._sampled()

    def _sampled(self) -> list[Any]:
        """The architectures of the next shared step."""
        source = self.controller
        if self.is_warming_up():
            source = RandomController(cast("Space[Any]", self.deriver.space), self.config.shared_balanced)
        with torch.no_grad():
            return sample(source, self._num_shared).architectures

    @property
    def _num_shared(self) -> int:
        """Architectures of a shared step, those of all processes."""
        return self.config.shared_num_sample * self.ranks.size

    def derive(self) -> Derivation:
        """Derive from the policy as it is, and compare it with uniform sampling."""
        return self.deriver.derive(compare=True)

    def evaluate(self, entry: dict[str, Any]) -> bool:
        derived = self.derive()
        entry[f"validation_{self.task.metric.name}"] = derived.score
        entry.update({**derived.comparison, **self.cost(derived.architecture)})
        return self.record(derived)

    def record(self, derived: Derivation) -> bool:
        """Write down what was derived, and return whether it is the best of the run so far."""
        progress = self.progress
        compared = {
            f"{who}_{derived.comparison['compared_by']}_{name}": value
            for who in ("policy", "uniform")
            for name, value in derived.comparison.get(who, {}).items()
        }
        self.logbook.scalars("eval", compared, progress.total_shared_steps)
        if derived.probabilities:
            earlier = [entry for entry in progress.decisions if entry[0] < progress.epoch]
            progress.decisions = [*earlier, [progress.epoch, derived.probabilities]]
            self.logbook.policy(
                self.deriver.space,
                progress.decisions,
                derived.architecture,
                self._warm_up_epochs(),
                progress.total_shared_steps,
            )
        if derived.architecture is None or derived.score is None:
            self.logbook.info(derived.problem)
            return False
        self._write(derived.architecture, derived.score)
        return self._scored(derived.architecture, derived.score)

    def _write(self, architecture: Any, score: float) -> None:
        progress, cost = self.progress, self.size.cost(architecture)
        short = f"{score:.4f}" if abs(score) < LARGEST_WRITTEN_OUT else f"{score:.4e}"
        name = f"{progress.epoch}-{progress.total_shared_steps}-{short}-best"
        title = f"epoch {progress.epoch}, step {progress.total_shared_steps}, "
        title += f"{self.task.metric.name} {format_score(score)}" + (f"\n{cost}" if cost is not None else "")
        self.logbook.derived(architecture, name, title, progress.total_shared_steps)

    def alike(self) -> dict[str, str]:
        weights = (weight.cpu().numpy() for weight in self.controller.state_dict().values())
        return {"controller": digest(*weights), **super().alike()}

    def state_dict(self) -> dict[str, Any]:
        optimizer = self.controller_optimizer
        return {
            **super().state_dict(),
            "controller": self.controller.state_dict(),
            "controller_optimizer": optimizer.state_dict() if optimizer else None,
            "baseline": self.baseline.state_dict(),
            "drawn": None if self.drawn is None else [one.to_dict() for one in self.drawn],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.controller.load_state_dict(state["controller"])
        if self.controller_optimizer:
            self.controller_optimizer.load_state_dict(state["controller_optimizer"])
        self.baseline.load_state_dict(state["baseline"])
        super().load_state_dict(state)
        drawn = state["drawn"] or []
        # Another number of processes needs another number of architectures: the next step samples them anew.
        fits = len(drawn) == self._num_shared
        self.drawn = [architecture_from_dict(one) for one in drawn] if fits else None

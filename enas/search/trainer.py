"""The alternating search of ENAS (paper section 2.2), the same for text and images; `Training.train` is the loop.

Each epoch trains the shared parameters ω on sampled architectures, then the controller θ on the rewards of new ones,
and every `save_epoch` epochs derives the best architecture.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch

from enas.data.identity import digest
from enas.search.architecture import architecture_from_dict
from enas.search.controllers import Controller, RandomController, Sample
from enas.search.derive import Derivation, Deriver
from enas.search.optim import clip_gradient, make_optimizer, set_lr
from enas.search.record import LARGEST_WRITTEN_OUT, format_score
from enas.search.reinforce import Baseline, policy_loss, returns
from enas.search.settings import ControllerOptimConfig, DeriveConfig, ReinforceConfig
from enas.search.task import Task
from enas.search.training import Training
from enas.settings import ConfigLike


class Trainer(Training):
    """Trains ω and θ in turn (paper section 2.2).

    The arguments are those of `Training`, and the controller, which is trained if it has parameters. Uniform samples of
    its space train ω before `controller_start`, and a share of them, `shared_uniform`, afterwards; the policy is
    compared with others. Each process has its own `shared_num_sample` architectures of a step.
    """

    def __init__(self, task: Task, controller: Controller[Any], config: ConfigLike, **parts: Any):
        super().__init__(task, config, **parts)
        self.controller = controller
        self.reinforce = config[ReinforceConfig]
        self.deriver = Deriver(task, controller, config[DeriveConfig], self.ranks, self.size, config.uniform_over)
        self.controller_optim = optim = config[ControllerOptimConfig]
        weights = list(controller.parameters())
        self.controller_optimizer = make_optimizer(parameters=weights, **optim.optimizer) if weights else None
        self.baseline = Baseline(self.reinforce)
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
        if self.controller_optimizer is None or self.is_warming_up():
            return
        set_lr(self.controller_optimizer, self.controller_optim.rate(self.progress.epoch + 1))
        num_left = self.config.controller_max_step - self.progress.controller_sample
        updates = self.reinforce.updates(num_left)
        for num in self.logbook.progress(updates, self.stage("controller"), len(updates)):
            self.update_controller(num)
            self.progress.controller_sample += num
            self.stop_if_asked()

    def update_controller(self, num: int) -> None:
        """Update θ once by `num` sampled architectures, scored on the next validation minibatch."""
        optimizer = cast("torch.optim.Optimizer", self.controller_optimizer)
        sampled = self.controller.sample(num)
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
        self.controller.check_finite()
        self._note_update(sampled, rewards, loss, advantage)

    def rewards(self, architectures: Sequence[Any]) -> torch.Tensor:
        """Return the reward of each of M architectures, [M]: the task's, and a term for their size."""
        return self.ranks.divided(self.task.rewards, architectures).cpu() + self.size.reward(architectures)

    def controller_loss(self, sampled: Sample[Any], rewards: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of an update of θ, a scalar, and the advantage of each decision [M, D]."""
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
        """Whether ω still trains on uniform architectures, and θ does not train yet."""
        if not self.controller.is_trained or self.progress.total_controller_updates > 0:
            return False
        return self.progress.epoch < self.config.warm_up_epochs

    def _draw(self) -> None:
        """Sample the architectures of the next step of ω, from the policy and uniformly."""
        config, num, share = self.config, self.num_shared, self.config.shared_uniform
        num_uniform = num if self.is_warming_up() else 0
        if share and self.controller.is_trained and not num_uniform:
            num_uniform = int((torch.rand(num) < share).sum())
        uniform = RandomController(self.controller.space, config.shared_balanced, over=config.uniform_over)
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
                self.controller.space,
                progress.decisions,
                derived.architecture,
                self.config.warm_up_epochs,
                progress.total_shared_steps,
            )
        if derived.architecture is None or derived.score is None:
            self.logbook.info(derived.problem)
            return False
        score, cost = derived.score, self.size.cost(derived.architecture)
        short = f"{score:.4f}" if abs(score) < LARGEST_WRITTEN_OUT else f"{score:.4e}"
        name = f"{progress.epoch}-{progress.total_shared_steps}-{short}-best"
        title = f"epoch {progress.epoch}, step {progress.total_shared_steps}, "
        title += f"{self.task.metric.name} {format_score(score)}" + (f"\n{cost}" if cost is not None else "")
        self.logbook.derived(derived.architecture, name, title, progress.total_shared_steps)
        return self.take(derived.architecture, score)

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
            "drawn": [one.to_dict() for one in self.drawn] or None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.controller.load_state_dict(state["controller"])
        if self.controller_optimizer:
            self.controller_optimizer.load_state_dict(state["controller_optimizer"])
        self.baseline.load_state_dict(state["baseline"])
        super().load_state_dict(state)
        drawn = state["drawn"] or []
        # Another number of processes needs another number of architectures: the next step samples them anew.
        fits = len(drawn) == self.num_shared
        self.drawn = [architecture_from_dict(one) for one in drawn] if fits else []

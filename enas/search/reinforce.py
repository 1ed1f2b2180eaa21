"""REINFORCE (Williams 1992, paper section 2.2) for the controller. Shapes: M architectures, D decisions."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from enas.search.optim import make_optimizer, set_lr
from enas.search.settings import ControllerOptimConfig, ReinforceConfig


def returns(reward: Tensor, log_probs: Tensor, entropy_coeff: float, discount: float) -> Tensor:
    """Return the return of each decision, [M, D]: the discounted sum of its own reward and those of later decisions.

    The reward, [M], comes with the last of the D decisions, which a small cell may not make. Each decision earns
    `entropy_coeff` × its sampled entropy, −log p of the choice (`log_probs`, [M, D] in nats), at once (paper section
    3.1): at discount 1 the expected gradient is the entropy's. The full entropy of a decision, the same for every
    choice, would not give that gradient.
    """
    immediate = -entropy_coeff * log_probs.detach()
    total = reward.to(immediate)
    steps = []
    for index in reversed(range(immediate.shape[1])):
        total = immediate[:, index] + total
        steps.append(total)
        total = discount * total
    return torch.stack(steps[::-1], dim=1)


@dataclass
class Baseline:
    """Turns returns into advantages; kept for the whole run.

    With leave_one_out it subtracts the mean of the others (Kool et al. 2019): M/(M−1) times the difference to the mean.
    """

    config: ReinforceConfig
    value: Tensor | None = None  # the moving average of returns, [D], or their mean in the newest update
    square: Tensor | None = None  # the moving average of squared advantages, a scalar

    def advantage(self, returns: Tensor) -> Tensor:
        """Subtract the baseline from returns [M, D], update it with them, and scale the difference: [M, D]."""
        # In float64: rounding would give equal returns an advantage, which is then scaled up to 1.
        mean, is_first = returns.double().mean(0).to(returns), False
        if self.config.baseline == "leave_one_out":
            self.value = mean
            difference = (returns - mean) * len(returns) / max(1, len(returns) - 1)
        else:
            # A run's first returns are compared with their own mean, which says nothing about the size of the next.
            is_first, before = self.value is None, mean if self.value is None else self.value
            self.value = before + (1 - self.config.ema_baseline_decay) * (mean - before)
            difference = returns - before
        decay = self.config.advantage_spread_decay
        if decay == 0:
            return difference
        square = difference.square().mean()
        square = square if self.square is None else decay * self.square + (1 - decay) * square
        self.square = None if is_first else square
        return difference / square.sqrt().clamp(min=1e-12)


def policy_loss(log_probs: Tensor, advantage: Tensor) -> Tensor:
    """Return −Σ_d log π(decision d) · advantage d, averaged over M, a scalar: both arguments are [M, D]."""
    return -(log_probs * advantage.detach()).sum(1).mean()


class Reinforce(nn.Module):
    """Updates the parameters θ of a controller; keeps their optimiser and the baseline. PPO uses both."""

    def __init__(self, weights: list[nn.Parameter], config: ReinforceConfig, optim: ControllerOptimConfig):
        super().__init__()
        self.weights, self.config, self.optim = weights, config, optim
        self.optimizer = make_optimizer(parameters=weights, **optim.optimizer)
        self.baseline = Baseline(config)

    def advantage(self, rewards: Tensor, log_probs: Tensor) -> Tensor:
        """Return the advantage of each decision, [M, D], and move the baseline; the arguments are [M] and [M, D]."""
        entropy_weight = self.config.entropy_coeff if self.config.entropy_mode == "reward" else 0.0
        return self.baseline.advantage(returns(rewards, log_probs, entropy_weight, self.config.discount))

    def step(self, loss: Tensor, epoch: int) -> None:
        """Step against the gradient of `loss`, at the rate of `epoch`; FloatingPointError if it is not finite."""
        set_lr(self.optimizer, self.optim.rate(epoch))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not torch.isfinite(nn.utils.clip_grad_norm_(self.weights, self.optim.controller_grad_clip or math.inf)):
            raise FloatingPointError("the gradient is not finite")
        self.optimizer.step()

    def get_extra_state(self) -> dict[str, Any]:
        averages = {"value": self.baseline.value, "square": self.baseline.square}
        return {"optimizer": self.optimizer.state_dict(), "baseline": averages}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline = Baseline(self.config, **state["baseline"])

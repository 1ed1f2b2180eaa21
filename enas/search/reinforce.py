"""REINFORCE (Williams 1992) for the controller: return, baseline, policy loss, step (paper section 2.2).

Shapes: M architectures, D decisions.
"""

from typing import Any

import torch
from torch import Tensor, nn

from enas.search.optim import clip_gradient, make_optimizer, set_lr
from enas.search.settings import ControllerOptimConfig, ReinforceConfig


def returns(reward: Tensor, log_probs: Tensor, entropy_coeff: float, discount: float) -> Tensor:
    """Return the return of each decision, [M, D]: the discounted sum of its own reward and those of later decisions.

    The reward comes with the last decision. Each decision earns `entropy_coeff` × its sampled entropy, −log p of the
    choice, at once (paper section 3.1). Its expectation is the entropy, and at discount 1 the expected gradient is the
    entropy's. The full entropy of a decision, the same for every choice, would not give that gradient.

    Args:
        reward: [M]. log_probs: of the choices in nats, [M, D], detached by this function.
    """
    immediate = -entropy_coeff * log_probs.detach()
    total = reward.to(immediate)
    steps = []
    for index in reversed(range(immediate.shape[1])):
        total = immediate[:, index] + total
        steps.append(total)
        total = discount * total
    return torch.stack(steps[::-1], dim=1)


class Baseline:
    """Turns returns into advantages; kept for the whole run.

    Attributes:
        value: the moving average of returns, [D]; with leave_one_out their mean in the newest update.
    """

    def __init__(self, config: ReinforceConfig):
        self.config = config
        self.value: Tensor | None = None
        self._square: Tensor | None = None  # the moving average of squared advantages, a scalar

    def advantage(self, returns: Tensor) -> Tensor:
        """Subtract the baseline from returns [M, D], update it with them, and scale the difference: [M, D]."""
        difference = self._leave_one_out(returns) if self.config.baseline == "leave_one_out" else self._ema(returns)
        decay = self.config.advantage_spread_decay
        if decay == 0:
            return difference
        square = difference.square().mean()
        self._square = square if self._square is None else decay * self._square + (1 - decay) * square
        return difference / self._square.sqrt().clamp(min=1e-12)

    def _ema(self, returns: Tensor) -> Tensor:
        # The first returns of a run are compared with their own mean.
        mean = returns.mean(0)
        before = mean if self.value is None else self.value
        decay = self.config.ema_baseline_decay
        self.value = decay * before + (1 - decay) * mean
        return returns - before

    def _leave_one_out(self, returns: Tensor) -> Tensor:
        """Subtract the mean of the other returns (Kool et al. 2019): M/(M−1) times the difference to the mean."""
        self.value = returns.mean(0)
        return (returns - self.value) * len(returns) / max(1, len(returns) - 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages, [D] and a scalar; None if there is none yet, or none is kept."""
        return {"value": self.value, "square": self._square}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.value, self._square = state["value"], state["square"]


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
        if not torch.isfinite(clip_gradient(self.weights, self.optim.controller_grad_clip)):
            raise FloatingPointError("the gradient is not finite")
        self.optimizer.step()

    def get_extra_state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "baseline": self.baseline.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline.load_state_dict(state["baseline"])

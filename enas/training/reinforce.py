"""REINFORCE (Williams 1992) for the controller: reward, return, baseline, policy loss (paper section 2.2).

Shapes: M architectures, D decisions.
"""

import torch
from torch import Tensor

from enas.errors import UserError


def perplexity_reward(perplexity: Tensor, c: float, square: bool) -> Tensor:
    """R = c / validation perplexity (paper section 2.2), or c / its square (Zoph & Le 2017): same shape."""
    return c / (perplexity**2 if square else perplexity)


def returns(reward: Tensor, log_probs: Tensor, entropy_coeff: float, discount: float) -> Tensor:
    """The return of each decision: the discounted sum of the rewards of it and of later decisions.

    The reward comes with the last decision; each decision earns `entropy_coeff` × its sampled entropy, −log p of the
    choice, at once (paper section 3.1). Its expectation is the entropy, and so is that of its gradient at discount 1,
    which the full entropy of the decision, having the same value for every choice, would not have.

    Args:
        reward: [M]. log_probs: of the choices in nats, [M, D], detached by this function.

    Returns:
        [M, D].
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
    """The moving average of returns, one number for each decision, kept for the whole run.

    Args:
        decay: the share of the old value that stays, `ema_baseline_decay`.
    """

    def __init__(self, decay: float):
        if not 0 <= decay < 1:
            raise UserError(f"ema_baseline_decay is {decay}; it must lie in [0, 1)")
        self.decay = decay
        self.value: Tensor | None = None

    def advantage(self, returns: Tensor) -> Tensor:
        """Subtract the baseline from returns [M, D], then update it with them.

        The first returns of a run are compared with their own mean.
        """
        mean = returns.mean(0)
        before = mean if self.value is None else self.value
        self.value = self.decay * before + (1 - self.decay) * mean
        return returns - before

    def state_dict(self) -> dict:
        """The moving average, [D] or None."""
        return {"value": self.value}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`."""
        self.value = state["value"]


def policy_loss(log_probs: Tensor, advantage: Tensor) -> Tensor:
    """−Σ_d log π(decision d) · advantage d, averaged over M: both arguments are [M, D]."""
    return -(log_probs * advantage.detach()).sum(1).mean()

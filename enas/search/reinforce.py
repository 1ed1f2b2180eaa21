"""REINFORCE (Williams 1992) for the controller: reward, return, baseline, policy loss (paper section 2.2).

Shapes: M architectures, D decisions.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from enas.search.controllers import TRAINED
from enas.settings import ABOVE_ZERO, Settings, setting

WITH_ENTROPY = TRAINED | {"entropy_coeff": ABOVE_ZERO}


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(Settings):
    """How rewards become advantages, and entropy is kept up.

    With `entropy_mode` "regularizer" each decision's entropy enters the loss, given the decisions drawn before it. That
    leaves out how those decisions change it, so for the LSTM the gradient is not that of the entropy: over ten
    controllers of 8 units that prefer some cells, it has 0.85 to 1.17 of the length, and a cosine of 0.96 or more.
    For independent decisions it is that of the entropy.
    """

    controller_num_aggregate: int = setting(
        1, "architectures scored together and averaged in one update", at_least=1, only=TRAINED
    )
    baseline: str = setting(
        "ema",
        "what advantages are measured from: a moving average of returns, or the others of the same update",
        choices=("ema", "leave_one_out"),
        only=TRAINED,
    )
    ema_baseline_decay: float = setting(
        0.95, "share of the baseline that an update keeps", at_least=0, below=1, only=TRAINED | {"baseline": "ema"}
    )
    advantage_spread_decay: float = setting(
        0.0,
        "advantages are divided by their running root mean square, of which this share stays; 0 leaves them",
        at_least=0,
        below=1,
        only=TRAINED,
    )
    entropy_coeff: float = setting(1e-4, "weight of the controller's entropy", at_least=0, only=TRAINED)
    entropy_mode: str = setting(
        "reward",
        "entropy joins the reward, or as a regularizer the loss; only the first has the entropy's own gradient",
        choices=("reward", "regularizer"),
        only=WITH_ENTROPY,
    )
    discount: float = setting(
        1.0, "discount of the reward from decision to decision", at_least=0, at_most=1, only=TRAINED
    )

    def updates(self, num: int) -> list[int]:
        """How many of `num` architectures each update scores: `controller_num_aggregate`, and the last one the rest.

        With leave_one_out one left over joins the update before it, because alone it has nothing to compare with.
        """
        whole, rest = divmod(num, self.controller_num_aggregate)
        sizes = [self.controller_num_aggregate] * whole
        if rest == 1 and whole and self.baseline == "leave_one_out":
            return [*sizes[:-1], sizes[-1] + 1]
        return [*sizes, rest] if rest else sizes


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
    """What advantages are measured from; kept for the whole run.

    Args:
        config: see `ReinforceConfig`.

    Attributes:
        value: the moving average of returns, [D]; with leave_one_out their mean in the newest update.
    """

    def __init__(self, config: ReinforceConfig):
        self.config = config
        self.value: Tensor | None = None
        self._square: Tensor | None = None  # of advantages, a moving average

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
        """Each return less the mean of the others (Kool et al. 2019): M/(M−1) times the difference to the mean."""
        self.value = returns.mean(0)
        return (returns - self.value) * len(returns) / max(1, len(returns) - 1)

    def state_dict(self) -> dict[str, Any]:
        """The averages: [D], and a scalar; None before the first update or where there is none."""
        return {"value": self.value, "square": self._square}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.value = _on_cpu(state["value"])
        self._square = _on_cpu(state["square"])


def _on_cpu(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.cpu()


def policy_loss(log_probs: Tensor, advantage: Tensor) -> Tensor:
    """−Σ_d log π(decision d) · advantage d, averaged over M: both arguments are [M, D]."""
    return -(log_probs * advantage.detach()).sum(1).mean()

"""A budget on the size of architectures: soft in the reward, hard in deriving."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from enas.search.cost import Cost
from enas.search.settings import SizeConfig


class SizeBudget:
    """The budget, with what tells the cost of an architecture.

    Args:
        config: see `SizeConfig`.
        cost: of an architecture; None where it is not known, and nothing is then limited.
    """

    def __init__(self, config: SizeConfig, cost: Callable[[Any], Cost] | None = None):
        self.config = config
        self._cost = cost
        targets = {"parameters": config.max_parameters, "flops": config.max_flops}
        self._targets = {name: target for name, target in targets.items() if target and cost is not None}

    def cost(self, architecture: Any) -> Cost | None:
        """Of an architecture, where it is known."""
        return self._cost and self._cost(architecture)

    def reward(self, architectures: Sequence[Any]) -> Tensor | float:
        """What is added to the rewards of M architectures: β · Σ |cost / target − 1| over the targets, [M]; or 0."""
        if not self._targets or self.config.size_beta == 0:
            return 0.0
        distances = [sum(abs(found / target - 1) for found, target in self._against(one)) for one in architectures]
        return self.config.size_beta * torch.tensor(distances)

    def fits(self, architecture: Any) -> bool:
        """Whether no target is exceeded."""
        return all(found <= target for found, target in self._against(architecture))

    def _against(self, architecture: Any) -> list[tuple[int, int]]:
        """What an architecture costs, and the target, for each target."""
        cost = self.cost(architecture) if self._targets else None
        return [(getattr(cost, name), target) for name, target in self._targets.items()]

    def misfits(self, architectures: Sequence[Any]) -> str:
        """What to say where none of some architectures fits."""
        limits = " and ".join(f"max_{name} {target:,}" for name, target in self._targets.items())
        smallest = min(filter(None, map(self.cost, architectures)), key=lambda cost: cost.parameters)
        return (
            f"none of {len(architectures)} samples keeps to {limits}, the one of fewest parameters has "
            f"{smallest.parameters:,} and {smallest.flops:,} FLOPs; nothing is derived"
        )


UNLIMITED = SizeBudget(SizeConfig())

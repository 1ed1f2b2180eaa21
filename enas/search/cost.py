"""The cost of using an architecture, and a budget on it: soft in the reward, hard in deriving."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from enas.search.settings import SizeConfig


@dataclass(frozen=True)
class Cost:
    """The cost of one architecture, or of a part of it."""

    parameters: int = 0  # number of trained parameters, without those of heads that only training uses
    multiply_adds: int = 0  # in the forward pass of one token or image

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.multiply_adds + other.multiply_adds)

    def __str__(self) -> str:
        return f"{_short(self.parameters)} parameters, {_short(self.multiply_adds)} multiply-adds"

    @property
    def flops(self) -> int:
        """Floating-point operations, two for each multiply-add."""
        return 2 * self.multiply_adds


def _short(number: int) -> str:
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return str(number)


class SizeBudget:
    """Limits on the cost of architectures; if `cost` is None, costs are not known and nothing is limited."""

    def __init__(self, config: SizeConfig, cost: Callable[[Any], Cost | None] | None):
        self.cost = cost or (lambda architecture: None)
        self._beta = config.size_beta
        targets = {"parameters": config.max_parameters, "flops": config.max_flops}
        self._targets = {name: target for name, target in targets.items() if target and cost is not None}

    def reward(self, architectures: Sequence[Any]) -> Tensor | float:
        """Return a term of the rewards of M architectures: β · Σ |cost / target − 1| over the targets, [M]; or 0."""
        if not self._targets or self._beta == 0:
            return 0.0
        distances = [sum(abs(found / target - 1) for found, target in self._against(one)) for one in architectures]
        return self._beta * torch.tensor(distances)

    def fits(self, architecture: Any) -> bool:
        return all(found <= target for found, target in self._against(architecture))

    def _against(self, architecture: Any) -> list[tuple[int, int]]:
        cost = self.cost(architecture) if self._targets else None
        return [(getattr(cost, name), target) for name, target in self._targets.items()]

    def misfits(self, architectures: Sequence[Any]) -> str:
        """Return the message that no architecture of several fits."""
        limits = " and ".join(f"max_{name} {target:,}" for name, target in self._targets.items())
        smallest = min(filter(None, map(self.cost, architectures)), key=lambda cost: cost.parameters)
        none = f"none of {len(architectures)} different samples keeps to {limits}; the one with fewest parameters has"
        return f"{none} {smallest.parameters:,} parameters and {smallest.flops:,} FLOPs; nothing is derived"

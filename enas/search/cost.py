"""What an architecture costs when it is used."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Cost:
    """Of one architecture, or a part of it.

    Attributes:
        parameters: how many numbers are trained, those of heads that only training uses left out.
        multiply_adds: of the forward pass of one token or image.
    """

    parameters: int = 0
    multiply_adds: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.multiply_adds + other.multiply_adds)

    def __str__(self) -> str:
        return f"{_short(self.parameters)} parameters, {_short(self.multiply_adds)} multiply-adds"

    @property
    def flops(self) -> int:
        """Floating-point operations, two for each multiply-add."""
        return 2 * self.multiply_adds

    def to_dict(self) -> dict[str, int]:
        """JSON-ready."""
        return asdict(self)


def _short(number: int) -> str:
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return str(number)

"""Search spaces as rows of decisions: the choices of a controller, in the order in which it makes them."""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from enas.errors import UserError
from enas.search.architecture import Architecture

TRIES_PER_TWIN = 8
ArchT = TypeVar("ArchT", bound=Architecture)


class Space(ABC, Generic[ArchT]):
    """Architectures as rows of D decisions."""

    first_allowed: int = 0  # the lowest choice of the first decision that is ever made

    @property
    @abstractmethod
    def sizes(self) -> list[int]:
        """The number of choices of each decision, D integers."""

    @property
    def allowed(self) -> list[range]:
        """The choices of each decision that are ever made, D ranges."""
        first, *rest = self.sizes
        return [range(self.first_allowed, first), *map(range, rest)]

    @abstractmethod
    def encode(self, architecture: ArchT) -> Sequence[int]:
        """Return the decisions that make `architecture`; UserError if it is outside the space."""

    @abstractmethod
    def decode(self, decisions: Sequence[int]) -> ArchT:
        """Return the architecture that D decisions make."""

    def row(self, architecture: ArchT) -> list[int]:
        """Return D decisions that make `architecture`, 0 for each that is not made."""
        made = self.encode(architecture)
        return [*made, *[0] * (len(self.sizes) - len(made))]

    def twins(self, architecture: ArchT, num: int) -> list[ArchT]:
        """Return up to `num` architectures of one function, `architecture` first; every call returns the same ones."""
        rng, found = random.Random(0), {architecture: None}
        for _ in range(TRIES_PER_TWIN * (num - 1)):
            other = architecture.relabelled(rng)
            if len(found) < num and other not in found:
                with suppress(UserError):  # it lies outside of the space
                    self.encode(other)
                    found[other] = None
        return [*found]

    def draw(self, rng: random.Random) -> ArchT:
        """Draw each function equally often, and each of its labellings; by default each architecture is a function."""
        return self.decode([*map(rng.choice, self.allowed)])

    @property
    def choices(self) -> list[list[str]]:
        """Names of the choices of each decision, for pictures: D lists; "" is the choice to leave something out."""
        return [[f"decision {index}: {choice}" for choice in range(size)] for index, size in enumerate(self.sizes)]

    def num_made(self, first: Any) -> Any:
        """Return the number of decisions made if the first one is `first`, an integer or a tensor; all D by default."""
        return len(self.sizes)


class NamedSpace(Space[ArchT]):
    """A dataclass that defines `choices`, and has fields for its size and for the names of parts."""

    size_field: ClassVar[str] = "num_blocks"  # also the property of architectures that must have the same value
    parts_field: ClassVar[str] = "operations"  # holds the names of the parts that nodes may have
    smallest: ClassVar[int] = 1  # the smallest size
    smallest_for: ClassVar[str] = ""  # the case that the error about a smaller size names

    def __post_init__(self) -> None:
        size = getattr(self, self.size_field)
        if size < self.smallest:
            raise UserError(f"{self.size_field} is {size}; it must be at least {self.smallest}{self.smallest_for}")

    def encode(self, architecture: Any) -> Sequence[int]:
        decisions = architecture.encode(getattr(self, self.parts_field))
        size, known = getattr(architecture, self.size_field), self._known_sizes
        if size not in known:
            have = f"{known[0]} to {known[-1]}" if len(known) > 1 else known[0]
            raise UserError(f"{self.size_field} is {size}, but the space has {have}")
        return decisions

    def row(self, architecture: Any) -> list[int]:
        row = super().row(architecture)
        if self.decode(row) != architecture:
            raise UserError("the architecture is not in the space, whose cell_output may be another one")
        return row

    @property
    def _known_sizes(self) -> range:
        most = getattr(self, self.size_field)
        return range(self.smallest if self.first_allowed else most, most + 1)

    @cached_property
    def sizes(self) -> list[int]:
        return [len(names) for names in self.choices]

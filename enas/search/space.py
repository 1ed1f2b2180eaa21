"""Search spaces as rows of decisions: what a controller chooses among, in the order in which it chooses."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from enas.errors import UserError
from enas.search.architecture import Architecture

ArchT = TypeVar("ArchT", bound=Architecture)


class Space(ABC, Generic[ArchT]):
    """Architectures as rows of D decisions.

    Attributes:
        first_allowed: choices of the first decision below this one are never made.
    """

    first_allowed: int = 0

    @property
    @abstractmethod
    def sizes(self) -> list[int]:
        """The number of choices of each decision, D integers."""

    @abstractmethod
    def encode(self, architecture: ArchT) -> Sequence[int]:
        """The decisions that make `architecture`; UserError when it is outside the space."""

    @abstractmethod
    def decode(self, decisions: Sequence[int]) -> ArchT:
        """The architecture that D decisions make."""

    @property
    def choices(self) -> list[list[str]]:
        """What pictures call the choices of each decision: D lists; "" for that of leaving something out."""
        return [[f"decision {index}: {choice}" for choice in range(size)] for index, size in enumerate(self.sizes)]

    def num_made(self, first: Any) -> Any:
        """How many decisions are made, given the first one (an integer or a tensor of them); None means all D."""
        return

    def connection(self, index: int) -> int | None:
        """The node whose input decision `index` chooses among the nodes before it; None for any other decision."""
        return None


class NamedSpace(Space[ArchT]):
    """A space in which `choices` names what is chosen among; a dataclass one of whose fields is its size.

    Attributes:
        size_field: the name of that field, and of the property of architectures that must have the same value.
        parts_field: the name of the field with the names of the parts that nodes may have.
        smallest: the least that it may be, with `smallest_for` saying when.
    """

    size_field: ClassVar[str] = "num_blocks"
    parts_field: ClassVar[str] = "operations"
    smallest: ClassVar[int] = 1
    smallest_for: ClassVar[str] = ""

    def __post_init__(self) -> None:
        size = getattr(self, self.size_field)
        if size < self.smallest:
            raise UserError(f"{self.size_field} is {size}; it must be at least {self.smallest}{self.smallest_for}")

    def encode(self, architecture: Any) -> Sequence[int]:
        decisions = architecture.encode(getattr(self, self.parts_field))
        size, most = getattr(architecture, self.size_field), getattr(self, self.size_field)
        least = self.smallest if self.first_allowed else most
        if not least <= size <= most:
            known = most if least == most else f"{least} to {most}"
            raise UserError(f"{self.size_field} is {size}, but the space has {known}")
        return decisions

    @cached_property
    def sizes(self) -> list[int]:
        return [len(names) for names in self.choices]

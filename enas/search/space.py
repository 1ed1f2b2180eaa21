"""Search spaces as rows of decisions: what a controller chooses among, in the order in which it chooses."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroNetwork
from enas.cnn.operation_names import MACRO_OPERATIONS, MICRO_OPERATIONS
from enas.errors import UserError
from enas.rnn.cell import ACTIVATIONS, PAPER_ACTIVATIONS, RNNCell
from enas.search.architecture import Architecture, CellOutputConfig
from enas.settings import SPACE, setting

ArchT = TypeVar("ArchT", bound=Architecture)

MIN_BLOCKS = 3  # nodes of the smallest cell of a FlexibleRNNSpace

# The node that node j reads, for each shape of a hardcoded cell.
SHAPES = {
    "chain": lambda node: node - 1,
    "tree": lambda node: (node - 1) // 2,
}


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
        size_field: the name of that field.
        smallest: the least that it may be, with `smallest_for` saying when.
    """

    size_field: ClassVar[str] = "num_blocks"
    smallest: ClassVar[int] = 1
    smallest_for: ClassVar[str] = ""

    def __post_init__(self) -> None:
        size = getattr(self, self.size_field)
        if size < self.smallest:
            raise UserError(f"{self.size_field} is {size}; it must be at least {self.smallest}{self.smallest_for}")

    @cached_property
    def sizes(self) -> list[int]:
        return [len(names) for names in self.choices]


@dataclass(frozen=True, kw_only=True)
class RNNSpaceConfig(CellOutputConfig):
    """The recurrent search space (paper section 2.1)."""

    num_blocks: int = setting(12, "nodes of a cell", at_least=1, kind=SPACE)
    shared_rnn_activations: tuple[str, ...] = setting(
        PAPER_ACTIVATIONS, "activations to choose from, separated by commas", kind=SPACE
    )
    architecture: str = setting(
        "chain", "connections of a hardcoded cell", choices=tuple(SHAPES), only={"train_type": "hardcoded"}, kind=SPACE
    )

    def check(self) -> None:
        names = self.shared_rnn_activations
        if not names:
            raise UserError("shared_rnn_activations is (); it must name at least one")
        if not set(names) <= set(ACTIVATIONS) or len(set(names)) < len(names):
            rule = f"it must be different names out of {', '.join(ACTIVATIONS)}"
            raise UserError(f"shared_rnn_activations is {names!r}; {rule}")


@dataclass(frozen=True)
class RNNSpace(NamedSpace[RNNCell]):
    """Cells of `num_blocks` nodes: activation of node 0, then previous node and activation of each further node."""

    num_blocks: int
    activations: tuple[str, ...] = PAPER_ACTIVATIONS
    cell_output: str = "loose_ends"

    @property
    def choices(self) -> list[list[str]]:
        choices = []
        for node in range(self.num_blocks):
            choices += [[f"{node} reads {earlier}" for earlier in range(node)]] if node else []
            choices.append([f"{node} {name}" for name in self.activations])
        return choices

    def encode(self, architecture: RNNCell) -> tuple[int, ...]:
        decisions = architecture.encode(self.activations)
        if architecture.num_blocks != self.num_blocks:
            raise _other_size(architecture, self.num_blocks)
        return decisions

    def decode(self, decisions: Sequence[int]) -> RNNCell:
        return RNNCell.decode(decisions, self.activations, self.cell_output)

    def connection(self, index: int) -> int | None:
        return (index + 1) // 2 if index % 2 else None


@dataclass(frozen=True)
class FlexibleRNNSpace(RNNSpace):
    """Cells of 3 … `num_blocks` nodes: the number of nodes first (choice k is k+1 nodes), then as in `RNNSpace`."""

    smallest = MIN_BLOCKS
    smallest_for = " for train_type flexible"
    first_allowed = MIN_BLOCKS - 1

    @property
    def choices(self) -> list[list[str]]:
        return [[f"{num} nodes" for num in range(1, self.num_blocks + 1)], *super().choices]

    def encode(self, architecture: RNNCell) -> tuple[int, ...]:
        if not MIN_BLOCKS <= architecture.num_blocks <= self.num_blocks:
            raise _other_size(architecture, f"{MIN_BLOCKS} to {self.num_blocks}")
        return (architecture.num_blocks - 1, *architecture.encode(self.activations))

    def decode(self, decisions: Sequence[int]) -> RNNCell:
        return super().decode(decisions[1 : self.num_made(decisions[0])])

    def num_made(self, first: Any) -> Any:
        return 2 * (first + 1)  # the size, and 2n−1 decisions for n nodes

    def connection(self, index: int) -> int | None:
        return super().connection(index - 1) if index else None


@dataclass(frozen=True)
class HardcodedRNNSpace(RNNSpace):
    """Cells whose connections are given by a shape, "chain" or "tree": only the activations are chosen."""

    shape: str = field(kw_only=True)

    @property
    def previous(self) -> tuple[int, ...]:
        """The node that each of nodes 1 … N−1 reads."""
        return tuple(map(SHAPES[self.shape], range(1, self.num_blocks)))

    @property
    def choices(self) -> list[list[str]]:
        return super().choices[::2]

    def encode(self, architecture: RNNCell) -> tuple[int, ...]:
        decisions = super().encode(architecture)
        if architecture.previous != self.previous:
            raise UserError(f"the cell is not a {self.shape}: its nodes read {list(architecture.previous)}")
        return decisions[::2]

    def decode(self, decisions: Sequence[int]) -> RNNCell:
        return RNNCell(tuple(self.activations[code] for code in decisions), self.previous, self.cell_output)

    def connection(self, index: int) -> int | None:
        return None


def _other_size(cell: RNNCell, known: object) -> UserError:
    return UserError(f"the cell has {cell.num_blocks} nodes, but the space has cells of {known}")


@dataclass(frozen=True)
class MacroSpace(NamedSpace[MacroNetwork]):
    """Networks of `num_layers` layers: for each its operation, then whether it skips from each earlier one."""

    size_field = "num_layers"

    num_layers: int
    operations: tuple[str, ...] = field(default_factory=lambda: tuple(MACRO_OPERATIONS))

    @property
    def choices(self) -> list[list[str]]:
        choices = []
        for layer in range(self.num_layers):
            choices.append([f"{layer} {name}" for name in self.operations])
            choices += [["", f"{layer} skips from {earlier}"] for earlier in range(layer)]
        return choices

    def encode(self, architecture: MacroNetwork) -> tuple[int, ...]:
        decisions = architecture.encode(self.operations)
        if architecture.num_layers != self.num_layers:
            known = f"the space has networks of {self.num_layers}"
            raise UserError(f"the network has {architecture.num_layers} layers, but {known}")
        return decisions

    def decode(self, decisions: Sequence[int]) -> MacroNetwork:
        return MacroNetwork.decode(decisions, self.operations)


@dataclass(frozen=True, kw_only=True)
class MicroSpaceConfig(CellOutputConfig):
    """The micro search space (paper section 2.4)."""

    cnn_num_blocks: int = setting(5, "cnn, micro: nodes of a cell", at_least=1, kind=SPACE)


@dataclass(frozen=True)
class MicroSpace(NamedSpace[MicroNetwork]):
    """Pairs of cells of `num_blocks` nodes: for each node its two inputs, then its two operations."""

    num_blocks: int
    operations: tuple[str, ...] = field(default_factory=lambda: tuple(MICRO_OPERATIONS))
    cell_output: str = "loose_ends"

    @property
    def choices(self) -> list[list[str]]:
        choices = []
        for cell in ("normal", "reduction"):
            for node in range(2, self.num_blocks + 2):
                places = [f"{cell} {node}{place}" for place in "ab"]
                choices += [[f"{place} reads {earlier}" for earlier in range(node)] for place in places]
                choices += [[f"{place} {name}" for name in self.operations] for place in places]
        return choices

    def encode(self, architecture: MicroNetwork) -> list[int]:
        decisions = architecture.encode(self.operations)
        if architecture.normal.num_blocks != self.num_blocks:
            known = f"the space has cells of {self.num_blocks}"
            raise UserError(f"the cells have {architecture.normal.num_blocks} nodes, but {known}")
        return _swap_inner(decisions)

    def decode(self, decisions: Sequence[int]) -> MicroNetwork:
        return MicroNetwork.decode(_swap_inner(decisions), self.operations, self.cell_output)


def _swap_inner(decisions: Sequence[int]) -> list[int]:
    """From input, operation, input, operation of each node to its inputs, then its operations; and back."""
    return [decisions[index + offset] for index in range(0, len(decisions), 4) for offset in (0, 2, 1, 3)]

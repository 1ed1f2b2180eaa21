"""The micro search space (paper section 2.4): convolutional cells, and networks of a pair of cells."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations_with_replacement, product
from math import comb
from typing import Any, ClassVar, NamedTuple

from enas.cnn.operation_names import MICRO_OPERATIONS
from enas.errors import UserError
from enas.search.architecture import Architecture, check_encodable
from enas.search.graph import Cell
from enas.search.space import NamedSpace

# The labels of a cell's two inputs: the output of the cell before the previous one, and of the previous one.
CELL_INPUTS = (0, 1)
CELL_NAMES = ("normal", "reduction")
Pairs = dict[int, Sequence[tuple[int, str]]]  # the (source, operation) pairs of each node


class Edge(NamedTuple):
    """The operation that a node applies to its first (slot 0) or second input (slot 1), the label of the source."""

    node: int
    slot: int
    source: int
    operation: str

    @property
    def key(self) -> str:
        """The name of the edge's weights, such as "4_0_2_sep3x3"."""
        return "_".join(map(str, self))

    def stride(self, of_cell: int) -> int:
        """Return the operation's stride in a cell of stride `of_cell`, which only operations on cell inputs have."""
        return of_cell if self.source in CELL_INPUTS else 1


@dataclass(frozen=True)
class MicroCell(Cell):
    """A convolutional cell: B nodes after two inputs; each adds two operations on two earlier labels.

    Labels 0 and 1 are the cell's inputs, the outputs of the two cells before it, the older one first; node k has label
    k+2. The output of a node is operations[k][0](inputs[k][0]) + operations[k][1](inputs[k][1]).

    When a node is removed, a node that read it as its first input reads its first input instead, and a node that read
    it as its second input its second, so that both stay in the cell.

    The output of the cell concatenates nodes along the depth, and never a cell input: those that no node reads (the
    paper), or with cell_output "all" all nodes, as DARTS does.
    """

    type_name: ClassVar = "cnn_micro_cell"
    title: ClassVar = "a convolutional cell"
    keys: ClassVar = ("num_blocks", "nodes", "inputs", "operations", "cell_output")
    known_parts: ClassVar = MICRO_OPERATIONS
    first_label: ClassVar = len(CELL_INPUTS)

    inputs: tuple[tuple[int, int], ...]  # for each node, the labels that it reads; both may be the same
    operations: tuple[tuple[str, str], ...]  # for each node, the operations applied to these, from `MICRO_OPERATIONS`
    cell_output: str = "loose_ends"
    nodes: tuple[int, ...] = ()  # labels in the large graph, which name shared weights: 2 … B+1 if none is removed

    def __post_init__(self) -> None:
        pairs, operations = (tuple(map(tuple, pairs)) for pairs in (self.inputs, self.operations))
        size = len(pairs)
        self._complete(size, inputs=pairs, operations=operations)
        if len(operations) != size:
            raise UserError(f"a cell of {size} nodes needs {size} pairs of operations, not {len(operations)}")
        self._check_labels(size)
        known = CELL_INPUTS
        for node, inputs, names in zip(self.nodes, pairs, operations, strict=True):
            if (len(inputs), len(names)) != (2, 2):
                raise UserError(f"node {node} needs two inputs and two operations, not {len(inputs)} and {len(names)}")
            if strange := [label for label in inputs if type(label) is not int or label not in known]:
                where = "neither a cell input (0, 1) nor an earlier node of the cell"
                raise UserError(f"node {node} reads {strange[0]!r}, which is {where}")
            self._check_parts(names)
            known += (node,)
        self._check_output()

    @property
    def _read(self) -> set[int]:
        return {label for pair in self.inputs for label in pair}

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Both edges of each node, node by node."""
        return tuple(Edge(node, slot, *pair) for node, pairs in self.pairs.items() for slot, pair in enumerate(pairs))

    def encode(self, operations: Sequence[str] = MICRO_OPERATIONS) -> tuple[int, ...]:
        """Return the authors' 4B integers: first input, first operation, second input, second operation of each node.

        UserError if an operation is not among `operations`, or if nodes were removed (the integers cannot say which).
        """
        self.check_numbered("encoding")
        check_encodable({edge.operation for edge in self.edges}, operations)
        return tuple(code for edge in self.edges for code in (edge.source, operations.index(edge.operation)))

    @classmethod
    def decode(
        cls, decisions: Sequence[int], operations: Sequence[str] = MICRO_OPERATIONS, cell_output: str = "loose_ends"
    ) -> "MicroCell":
        """Return the cell that `encode` maps to `decisions`; UserError if the integers do not make one."""
        decisions = cls._integers(decisions)
        if len(decisions) % 4:
            raise UserError(f"a cell is four integers a node; got {len(decisions)}")
        names = [cls._named(code, operations) for code in decisions[1::2]]
        pairs = (tuple(zip(each[0::2], each[1::2], strict=True)) for each in (decisions[0::2], names))
        return cls(*pairs, cell_output)

    def replace_part(self, part: str, node: int | None = None) -> "MicroCell":
        """As `Graph.replace_part`, for both operations of a node."""
        return super().replace_part((part, part), node)

    def canonical(self) -> "MicroCell":
        """As `Architecture.canonical`: the order of nodes, and of a node's two inputs, is a label.

        Of all orders, the one whose list of sources and operations comes first in the alphabet stands for the cell.
        """
        return self.of_pairs(_first_order(self.pairs), self.cell_output)

    def relabelled(self, rng: random.Random, *, is_uniform: bool = False) -> "MicroCell":
        """As `Architecture.relabelled`, nodes and inputs in another order; if `is_uniform`, all equally likely."""

        @cache
        def num_orders(done: frozenset[int]) -> int:
            return sum(num_orders(done | {node}) for node in _ready(old, (*done,))) or 1

        old, labels, pairs = self.pairs, CELL_INPUTS, []
        while ready := _ready(old, labels):
            weights = [num_orders(frozenset((*labels, node))) for node in ready if is_uniform]
            node = rng.choices([*ready], weights)[0] if is_uniform else rng.choice([*ready])
            pairs.append(rng.sample(ready[node], 2))
            labels += (node,)
        return self.of_pairs(pairs, self.cell_output)

    @property
    def pairs(self) -> Pairs:
        """The two (source, operation) pairs of each node."""
        rows = zip(self.nodes, self.inputs, self.operations, strict=True)
        return {node: tuple(zip(sources, names, strict=True)) for node, sources, names in rows}

    @classmethod
    def of_pairs(cls, pairs: Iterable[Sequence[tuple[int, str]]], cell_output: str) -> "MicroCell":
        """Return the cell whose nodes have these two (source, operation) pairs each."""
        both = (tuple((one[part], other[part]) for one, other in pairs) for part in (0, 1))
        return cls(*both, cell_output)

    def renumber(self) -> "MicroCell":
        """Return the same cell with labels 2 … B+1, for training it from scratch after nodes were removed."""
        labels = CELL_INPUTS + self.nodes
        return replace(self, inputs=tuple(tuple(map(labels.index, pair)) for pair in self.inputs), nodes=())

    def _bridged(self, node: int, position: int) -> dict[str, Any]:
        one, other = self.inputs[position]
        rest = self.inputs[:position] + self.inputs[position + 1 :]
        return {"inputs": tuple((one if a == node else a, other if b == node else b) for a, b in rest)}


def _ready(old: Pairs, labels: tuple[int, ...]) -> Pairs:
    """Return the nodes that can follow `labels`, which are in their new order, with sorted pairs of new labels."""
    return {
        node: tuple(sorted((labels.index(source), name) for source, name in pairs))
        for node, pairs in old.items()
        if node not in labels and all(source in labels for source, _ in pairs)
    }


def _first_order(old: Pairs, labels: tuple[int, ...] = CELL_INPUTS) -> tuple[Any, ...]:
    """Return the pairs of the nodes after `labels` in the order that sorts first."""
    if not (ready := _ready(old, labels)):
        return ()
    first, read = min(ready.values()), {source for pairs in old.values() for source, _ in pairs}
    alike = [node for node, pairs in ready.items() if pairs == first]
    loose = [node for node in alike if node not in read]  # whichever comes first, the rest is the same
    nodes = [*(node for node in alike if node in read), *loose[:1]]
    return first, *min(_first_order(old, (*labels, node)) for node in nodes)


@cache
def _next_level(left: int, labels: int, last: int, operations: tuple[str, ...]) -> tuple[list[Any], list[int]]:
    """Return the pairs that read one of the `last` labels, and how many cells begin with 1 … `left` nodes of them."""
    choices = combinations_with_replacement(product(range(labels), operations), 2)
    pairs = [pair for pair in choices if pair[1][0] >= labels - last]
    rests = [sum(_next_level(left - num, labels + num, num, operations)[1]) or 1 for num in range(1, left + 1)]
    return pairs, [comb(len(pairs) + num, num + 1) * ways for num, ways in enumerate(rests)]


@dataclass(frozen=True)
class MicroNetwork(Architecture):
    """The two cells that a network of the micro space is built of; a node is named by its cell, too: ("normal", 3)."""

    type_name: ClassVar = "cnn_micro"
    title: ClassVar = "a micro network"
    keys: ClassVar = ("normal", "reduction")
    node_word: ClassVar = "node"
    part_word: ClassVar = "operation"

    normal: MicroCell  # keeps height and width
    reduction: MicroCell  # halves height and width: its operations on the cell's inputs have stride 2

    def __post_init__(self) -> None:
        for name, cell in self.cells.items():
            if not isinstance(cell, MicroCell):
                raise UserError(f"the {name} cell must be a MicroCell, not {type(cell).__name__}")

    @property
    def cells(self) -> dict[str, MicroCell]:
        return {"normal": self.normal, "reduction": self.reduction}

    @property
    def num_blocks(self) -> int:
        """The number of nodes of the normal cell."""
        return self.normal.num_blocks

    @property
    def nodes(self) -> tuple[tuple[str, int], ...]:
        """All nodes: pairs of a cell's name and a label."""
        return tuple((name, node) for name, cell in self.cells.items() for node in cell.nodes)

    def encode(self, operations: Sequence[str] = MICRO_OPERATIONS) -> tuple[int, ...]:
        """Return the integers of both cells, see `MicroCell.encode`; UserError if the cells differ in size."""
        if self.normal.num_blocks != self.reduction.num_blocks:
            sizes = f"{self.normal.num_blocks} and {self.reduction.num_blocks}"
            raise UserError(f"a network of cells of {sizes} nodes has no encoding; both must have as many")
        return self.normal.encode(operations) + self.reduction.encode(operations)

    @classmethod
    def decode(
        cls, decisions: Sequence[int], operations: Sequence[str] = MICRO_OPERATIONS, cell_output: str = "loose_ends"
    ) -> "MicroNetwork":
        """Return the network that `encode` maps to `decisions`; UserError if the integers do not make one."""
        if len(decisions) % 8:
            raise UserError(f"a network is two cells of four integers a node; got {len(decisions)} integers")
        half = len(decisions) // 2
        return cls(*(MicroCell.decode(part, operations, cell_output) for part in (decisions[:half], decisions[half:])))

    def replace_part(self, part: str, node: tuple[str, int] | None = None) -> "MicroNetwork":
        """As `MicroCell.replace_part`; a node is a pair of a cell's name and a label."""
        if node is None:
            return MicroNetwork(*(cell.replace_part(part) for cell in self.cells.values()))
        name, label = self._known(node)
        return replace(self, **{name: self.cells[name].replace_part(part, label)})

    def remove_node(self, node: tuple[str, int]) -> "MicroNetwork":
        """As `MicroCell.remove_node`; a node is a pair of a cell's name and a label."""
        name, label = self._known(node)
        try:
            return replace(self, **{name: self.cells[name].remove_node(label)})
        except UserError as error:
            raise UserError(f"{name} cell: {error}") from None

    def canonical(self) -> "MicroNetwork":
        return MicroNetwork(self.normal.canonical(), self.reduction.canonical())

    def relabelled(self, rng: random.Random) -> "MicroNetwork":
        return MicroNetwork(self.normal.relabelled(rng), self.reduction.relabelled(rng))

    def renumber(self) -> "MicroNetwork":
        return MicroNetwork(self.normal.renumber(), self.reduction.renumber())

    def _known(self, node: tuple[str, int]) -> tuple[str, int]:
        if node not in self.nodes:
            known = ", ".join(f"{name} {label}" for name, label in self.nodes)
            raise UserError(f"the network has no node {node!r}; its nodes are {known}")
        return node


@dataclass(frozen=True)
class MicroSpace(NamedSpace[MicroNetwork]):
    """Pairs of cells of `num_blocks` nodes: for each node its two inputs, then its two operations."""

    num_blocks: int
    operations: tuple[str, ...] = field(default_factory=lambda: tuple(MICRO_OPERATIONS))
    cell_output: str = "loose_ends"

    @property
    def choices(self) -> list[list[str]]:
        choices = []
        for cell in CELL_NAMES:
            for node in range(2, self.num_blocks + 2):
                places = [f"{cell} {node}{place}" for place in "ab"]
                choices += [[f"{place} reads {earlier}" for earlier in range(node)] for place in places]
                choices += [[f"{place} {name}" for name in self.operations] for place in places]
        return choices

    def encode(self, architecture: MicroNetwork) -> list[int]:
        return _swap_inner(super().encode(architecture))

    def decode(self, decisions: Sequence[int]) -> MicroNetwork:
        return MicroNetwork.decode(_swap_inner(decisions), self.operations, self.cell_output)

    def draw(self, rng: random.Random) -> MicroNetwork:
        return MicroNetwork(self._cell(rng), self._cell(rng))

    def _cell(self, rng: random.Random) -> MicroCell:
        """Draw level by level: a level is a multiset of pairs, so that only nodes of equal pairs can be exchanged."""
        pairs, last, exchange = list[Any](), (first := len(CELL_INPUTS)), dict[int, int]()
        while left := self.num_blocks - len(pairs):
            known, ways = _next_level(left, first + len(pairs), last, tuple(sorted(self.operations)))
            last = rng.choices(range(1, left + 1), ways)[0]
            places = sorted(rng.sample(range(len(known) + last - 1), last))  # of a multiset, by stars and bars
            pairs += [known[place - index] for index, place in enumerate(places)]
        # Exchanges of alike nodes give other multisets for the same function, but for those that change none.
        for pair in dict.fromkeys(pairs):
            images = [tuple(sorted((exchange.get(source, source), name) for source, name in other)) for other in pairs]
            alike, changed = ([at for at, other in enumerate(some, first) if other == pair] for some in (pairs, images))
            if len(changed) != len(alike):
                return self._cell(rng)
            exchange |= zip(changed, rng.sample(alike, len(alike)), strict=True)
        return MicroCell.of_pairs(pairs, self.cell_output).relabelled(rng, is_uniform=True)


def _swap_inner(decisions: Sequence[int]) -> list[int]:
    """Turn input, operation, input, operation of each node into its inputs, then its operations, and back."""
    return [decisions[index + offset] for index in range(0, len(decisions), 4) for offset in (0, 2, 1, 3)]

"""The recurrent search space (paper section 2.1): cells, spaces of cells, and the LSTM they are compared with."""

import random
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate
from typing import Any, ClassVar, NamedTuple

from enas.errors import UserError
from enas.search.architecture import Architecture, check_encodable
from enas.search.graph import Cell
from enas.search.space import NamedSpace
from enas.settings import ConfigLike


class Activation(NamedTuple):
    """An activation of nodes: a function, or its dotted name, and the colour of the nodes in drawings."""

    function: str | Callable[..., Any]
    colour: str


# A new activation needs an entry here and nothing else. The first colours are of the Okabe-Ito palette, lightened for
# black text; their lightness differs too, for colour-blind readers and grey prints.
ACTIVATIONS = {
    "tanh": Activation("torch.tanh", "#7CC0EE"),
    "ReLU": Activation("torch.relu", "#FFD24D"),
    "identity": Activation("torch.clone", "#F5F5F5"),
    "sigmoid": Activation("torch.sigmoid", "#E08A5B"),
    "GELU": Activation("torch.nn.functional.gelu", "#B5E0CF"),
    "SiLU": Activation("torch.nn.functional.silu", "#CC9DBE"),
}
PAPER_ACTIVATIONS = ("tanh", "ReLU", "identity", "sigmoid")
Tree = tuple[str, tuple["Tree", ...]]  # the activation of a node, and the trees of the nodes that read it


@dataclass(frozen=True)
class RNNCell(Cell):
    """A recurrent cell: a tree of nodes inside the complete graph of the search space.

    Node 0 reads the input and the previous state; every other node reads one earlier node. When a node is removed, its
    readers read the node that it read. The output is the mean of the nodes that no node reads ("loose_ends", the
    paper), or of nodes 1 … N−1 ("all", the authors' later code; node 0 in a cell of one node).
    """

    type_name: ClassVar = "rnn_cell"
    title: ClassVar = "a recurrent cell"
    keys: ClassVar = ("num_blocks", "nodes", "activations", "previous", "cell_output")
    part_word: ClassVar = "activation"
    known_parts: ClassVar = ACTIVATIONS
    root_reads: ClassVar = "the input and the previous state"

    activations: tuple[str, ...]  # of each node, N names from `ACTIVATIONS`
    previous: tuple[int, ...]  # the node that each of nodes 1 … N−1 reads, N−1 labels
    cell_output: str = "loose_ends"
    nodes: tuple[int, ...] = ()  # labels, which name shared weights: 0 … N−1 unless nodes were removed

    def __post_init__(self) -> None:
        activations = tuple(self.activations)
        self._complete(len(activations), activations=activations, previous=tuple(self.previous))
        self._check_parts(activations)
        size = self.num_blocks
        if len(self.previous) != size - 1:
            raise UserError(f"a cell of {size} nodes needs {size - 1} previous nodes, not {len(self.previous)}")
        self._check_labels(size)
        for position, (node, previous) in enumerate(zip(self.nodes[1:], self.previous, strict=True), start=1):
            if type(previous) is not int or previous not in self.nodes[:position]:
                raise UserError(f"node {node} reads node {previous!r}, which is not an earlier node of the cell")
        self._check_output()

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The (previous, node) pairs of labels, N−1 of them: the shared weights in use."""
        return tuple(zip(self.previous, self.nodes[1:], strict=True))

    @property
    def parents(self) -> tuple[int, ...]:
        """The position (not label) of the node that each of nodes 1 … N−1 reads."""
        return tuple(self.nodes.index(label) for label in self.previous)

    @property
    def _read(self) -> tuple[int, ...]:
        return self.previous

    @property
    def output_nodes(self) -> tuple[int, ...]:
        """Labels of the nodes whose mean is the output and the next state."""
        return super().output_nodes if self.cell_output == "loose_ends" else self.nodes[1:] or self.nodes

    def encode(self, activations: Sequence[str] = PAPER_ACTIVATIONS) -> tuple[int, ...]:
        """Return the controller's decisions: activation of node 0, then previous and activation of each other node.

        An activation is its index in `activations`. UserError if that has no such activation, or if nodes were removed.
        """
        self.check_numbered("encoding")
        check_encodable(self.activations, activations)
        first, *codes = (activations.index(name) for name in self.activations)
        return (first, *(decision for pair in zip(self.previous, codes, strict=True) for decision in pair))

    @classmethod
    def decode(
        cls, decisions: Sequence[int], activations: Sequence[str] = PAPER_ACTIVATIONS, cell_output: str = "loose_ends"
    ) -> "RNNCell":
        """Return the cell that `encode` maps to `decisions` (2N−1 integers); UserError if they do not make a cell."""
        decisions = cls._integers(decisions)
        if len(decisions) % 2 == 0:
            raise UserError(f"a cell is an odd number of integers, 2N-1 for N nodes; got {len(decisions)}")
        names = tuple(cls._named(code, activations) for code in decisions[:1] + decisions[2::2])
        return cls(names, tuple(decisions[1::2]), cell_output)

    def canonical(self) -> "RNNCell":
        """As `Architecture.canonical`: the nodes that read a node are sorted, and labels are breadth first."""
        return RNNCell.of_tree(self.tree, self.cell_output)

    @property
    def tree(self) -> "Tree":
        """The cell as a tree without labels, the same for all cells of one function."""
        readers: list[list[Tree]] = [[] for _ in self.activations]
        for position, parent in reversed([*enumerate(self.parents, start=1)]):
            readers[parent].append((self.activations[position], tuple(readers[position])))
        return _sorted((self.activations[0], tuple(readers[0])))

    @classmethod
    def of_tree(cls, tree: "Tree", cell_output: str, rng: random.Random | None = None) -> "RNNCell":
        """Return the cell of this tree, labelled breadth first, or with `rng` in one of all orders, equally likely."""
        nodes, ready = [], [(tree, 0)]
        while ready:
            # A node comes first in a share of the orders that is its share of the nodes left, with those below it.
            index = rng.choices(range(len(ready)), [_size(subtree) for subtree, _ in ready])[0] if rng else 0
            (activation, below), read = ready.pop(index)
            ready += [(subtree, len(nodes)) for subtree in below]
            nodes.append((activation, read))
        activations, previous = zip(*nodes, strict=True)
        return cls(activations, previous[1:], cell_output)

    def relabelled(self, rng: random.Random) -> "RNNCell":
        """As `Architecture.relabelled`; each order of the nodes is equally likely."""
        return RNNCell.of_tree(self.tree, self.cell_output, rng)

    def renumber(self) -> "RNNCell":
        """Return the cell with labels 0 … N−1, for training from scratch after nodes were removed."""
        return replace(self, previous=self.parents, nodes=())

    def _bridged(self, node: int, position: int) -> dict[str, Any]:
        parent = self.previous[position - 1]
        rest = self.previous[: position - 1] + self.previous[position:]
        return {"previous": tuple(parent if label == node else label for label in rest)}


@dataclass(frozen=True)
class LSTMBaseline(Architecture):
    """A plain LSTM of one layer with `hidden` units; UserError unless that is a positive integer."""

    type_name: ClassVar = "lstm"
    title: ClassVar = "an LSTM"
    keys: ClassVar = ("hidden",)

    hidden: int

    def __post_init__(self) -> None:
        if type(self.hidden) is not int or self.hidden < 1:
            raise UserError(f"hidden of an LSTM is {self.hidden!r}; it must be a positive integer")

    def embed(self, config: ConfigLike) -> int:
        """Return the embedding size of its language model: H, whatever shared_embed says, if weights are tied."""
        return self.hidden if config.tie_weights else config.shared_embed


def _sorted(tree: Tree) -> Tree:
    return tree[0], tuple(sorted(map(_sorted, tree[1])))


def _size(tree: Tree) -> int:
    return 1 + sum(map(_size, tree[1]))


@cache
def _splits(size: int, colours: int) -> tuple[list[tuple[int, int]], list[int]]:
    """Return pairs (d, j), for j equal trees of d nodes each that hang from the root, and the sums of their weights.

    Weights are d · T(d) · T(size − jd), where T is `num_trees` (Nijenhuis and Wilf 1978, chapter 29).
    """
    for smaller in range(2, size):
        _splits(smaller, colours)  # from below, or else Python refuses so deep a recursion
    pairs = [(below, copies) for below in range(1, size) for copies in range(1, (size - 1) // below + 1)]
    weights = (num * num_trees(num, colours) * num_trees(size - copies * num, colours) for num, copies in pairs)
    return pairs, [*accumulate(weights)]


def num_trees(size: int, colours: int) -> int:
    """Return the number of trees of `size` nodes that have one of some activations each."""
    return _splits(size, colours)[1][-1] // (size - 1) if size > 1 else colours


def random_tree(size: int, names: Sequence[str], rng: random.Random) -> Tree:
    """Draw one of `num_trees` uniformly; it is not sorted."""
    if size == 1:
        return rng.choice(names), ()
    pairs, sums = _splits(size, len(names))
    num, copies = pairs[bisect(sums, rng.randrange(sums[-1]))]
    activation, below = random_tree(size - copies * num, names, rng)
    return activation, (*below, *[random_tree(num, names, rng)] * copies)


SHAPES = {"chain": lambda node: node - 1, "tree": lambda node: (node - 1) // 2}  # the node that a node reads


@dataclass(frozen=True)
class RNNSpace(NamedSpace[RNNCell]):
    """Cells of `num_blocks` nodes: activation of node 0, then previous node and activation of each further node."""

    parts_field = "activations"

    num_blocks: int
    activations: tuple[str, ...] = PAPER_ACTIVATIONS
    cell_output: str = "loose_ends"

    @property
    def choices(self) -> list[list[str]]:
        choices = []
        for node in range(self.num_blocks):
            choices.append([f"{node} reads {earlier}" for earlier in range(node)])
            choices.append([f"{node} {name}" for name in self.activations])
        return choices[1:]  # node 0 reads no node

    def decode(self, decisions: Sequence[int]) -> RNNCell:
        return RNNCell.decode(decisions, self.activations, self.cell_output)

    def draw(self, rng: random.Random) -> RNNCell:
        """As `Space.draw`; where sizes differ, each size is equally likely, and each function of that size."""
        tree = random_tree(rng.choice(self._known_sizes), self.activations, rng)
        return RNNCell.of_tree(tree, self.cell_output, rng)


@dataclass(frozen=True)
class FlexibleRNNSpace(RNNSpace):
    """Cells of 3 … `num_blocks` nodes: the number of nodes first (choice k is k+1 nodes), then as in `RNNSpace`."""

    smallest = 3
    smallest_for = " for train_type flexible"
    first_allowed = smallest - 1

    @property
    def choices(self) -> list[list[str]]:
        return [[f"{num} nodes" for num in range(1, self.num_blocks + 1)], *super().choices]

    def encode(self, architecture: RNNCell) -> Sequence[int]:
        return (architecture.num_blocks - 1, *super().encode(architecture))

    def decode(self, decisions: Sequence[int]) -> RNNCell:
        return super().decode(decisions[1 : self.num_made(decisions[0])])

    def num_made(self, first: Any) -> Any:
        return 2 * (first + 1)  # the number n of nodes, and 2n−1 decisions


@dataclass(frozen=True)
class HardcodedRNNSpace(RNNSpace):
    """Cells of one shape, "chain" or "tree": only the activations are chosen."""

    shape: str = field(kw_only=True)

    @property
    def previous(self) -> tuple[int, ...]:
        """The node that each of nodes 1 … N−1 reads."""
        return tuple(map(SHAPES[self.shape], range(1, self.num_blocks)))

    @property
    def choices(self) -> list[list[str]]:
        return super().choices[::2]

    def encode(self, architecture: RNNCell) -> Sequence[int]:
        decisions = super().encode(architecture)
        if architecture.previous != self.previous:
            raise UserError(f"the cell is not a {self.shape}: its nodes read {list(architecture.previous)}")
        return decisions[::2]

    def decode(self, decisions: Sequence[int]) -> RNNCell:
        return RNNCell(tuple(self.activations[code] for code in decisions), self.previous, self.cell_output)

    def draw(self, rng: random.Random) -> RNNCell:
        return RNNCell.of_tree(self._random_tree(0, rng), self.cell_output)

    def _random_tree(self, node: int, rng: random.Random) -> Tree:
        """Draw the tree from `node` down; readers of a node are in the order of their labels."""
        readers = [reader for reader, read in enumerate(self.previous, start=1) if read == node]
        while True:
            below = tuple(self._random_tree(reader, rng) for reader in readers)
            # Two different trees of one shape come in both orders. Trees of one size have one shape.
            if len({*map(_sorted, below)}) <= len({*map(_size, below)}) or rng.random() < 0.5:
                return rng.choice(self.activations), below

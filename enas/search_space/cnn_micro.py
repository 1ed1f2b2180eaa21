"""The micro search space (paper section 2.4): what a convolutional cell is, and the pair of them that is searched."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from enas.errors import UserError
from enas.search_space.architecture import CELL_OUTPUTS, Architecture, as_integers, check_encodable
from enas.search_space.operations import MICRO_OPERATIONS

# The labels of a cell's two inputs: the output of the cell before the previous one, and of the previous one.
CELL_INPUTS = (0, 1)
CELL_NAMES = ("normal", "reduction")


class Edge(NamedTuple):
    """What a node of a cell does with one of its two inputs.

    Attributes:
        node: the node's label.
        slot: 0 for its first input, 1 for its second.
        source: the label it reads there.
        operation: what it applies.
    """

    node: int
    slot: int
    source: int
    operation: str

    @property
    def key(self) -> str:
        """The name of the edge's weights, such as "4_0_2_sep3x3"."""
        return "_".join(map(str, self))


@dataclass(frozen=True)
class MicroCell(Architecture):
    """A convolutional cell: B nodes after two inputs; each adds two operations on two earlier labels.

    Labels 0 and 1 are the cell's inputs, the outputs of the two cells before it, the older one first; node k has label
    k+2. The output of a node is operations[k][0](inputs[k][0]) + operations[k][1](inputs[k][1]).

    Attributes:
        inputs: the pair of labels that each node reads, B pairs; both may be the same.
        operations: the pair of operations applied to them, B pairs of names from `MICRO_OPERATIONS`.
        cell_output: "loose_ends" concatenates, along the depth, the nodes that no node reads (the paper);
            "all" concatenates all nodes, as DARTS does. A cell input is never concatenated.
        nodes: the label of each node in the large graph, which names its shared weights.
            Labels increase. They are 2 … B+1 unless nodes were removed.

    Raises:
        UserError: when the parts do not form a cell.
    """

    type_name: ClassVar = "cnn_micro_cell"
    title: ClassVar = "a convolutional cell"
    keys: ClassVar = ("num_blocks", "nodes", "inputs", "operations", "cell_output")

    inputs: tuple[tuple[int, int], ...]
    operations: tuple[tuple[str, str], ...]
    cell_output: str = "loose_ends"
    nodes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(tuple(pair) for pair in self.inputs))
        object.__setattr__(self, "operations", tuple(tuple(pair) for pair in self.operations))
        first = len(CELL_INPUTS)
        object.__setattr__(self, "nodes", tuple(self.nodes) or tuple(range(first, first + len(self.inputs))))
        self.validate()

    def validate(self) -> None:
        """Raise UserError, naming the part that is wrong, unless this is a cell."""
        if not self.inputs:
            raise UserError("a cell needs at least one node")
        if len(self.operations) != self.num_blocks:
            raise UserError(
                f"a cell of {self.num_blocks} nodes needs {self.num_blocks} pairs of operations, "
                f"not {len(self.operations)}"
            )
        self._validate_labels()
        for position, node in enumerate(self.nodes):
            self._validate_node(position, node)
        if self.cell_output not in CELL_OUTPUTS:
            raise UserError(f"cell_output is {self.cell_output!r}; it must be one of {', '.join(CELL_OUTPUTS)}")

    def _validate_labels(self) -> None:
        if any(type(label) is not int for label in self.nodes):
            raise UserError("node labels must be integers")
        increasing = all(a < b for a, b in itertools.pairwise(self.nodes))
        if len(self.nodes) != self.num_blocks or self.nodes[0] < len(CELL_INPUTS) or not increasing:
            raise UserError(f"node labels must be 2 or more and increase, one a node; got {list(self.nodes)}")

    def _validate_node(self, position: int, node: int) -> None:
        inputs, operations = self.inputs[position], self.operations[position]
        if len(inputs) != 2 or len(operations) != 2:
            counts = f"{len(inputs)} and {len(operations)}"
            raise UserError(f"node {node} needs two inputs and two operations, not {counts}")
        for label in inputs:
            if type(label) is not int or label not in CELL_INPUTS + self.nodes[:position]:
                raise UserError(
                    f"node {node} reads {label!r}, which is neither a cell input (0, 1) nor an earlier node of the cell"
                )
        for operation in operations:
            if operation not in MICRO_OPERATIONS:
                raise UserError(f"unknown operation {operation!r}; known: {', '.join(MICRO_OPERATIONS)}")

    @property
    def num_blocks(self) -> int:
        """The number of nodes, B."""
        return len(self.inputs)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Both edges of each node, node by node."""
        return tuple(
            Edge(node, slot, source, operation)
            for node, sources, operations in zip(self.nodes, self.inputs, self.operations, strict=True)
            for slot, (source, operation) in enumerate(zip(sources, operations, strict=True))
        )

    @property
    def loose_ends(self) -> tuple[int, ...]:
        """Labels of the nodes that no node reads, increasing. Cell inputs are not among them."""
        read = {label for pair in self.inputs for label in pair}
        return tuple(label for label in self.nodes if label not in read)

    @property
    def output_nodes(self) -> tuple[int, ...]:
        """Labels of the nodes that are concatenated, increasing."""
        return self.loose_ends if self.cell_output == "loose_ends" else self.nodes

    def encode(self, operations: Sequence[str] = MICRO_OPERATIONS) -> tuple[int, ...]:
        """The authors' integers: first input, first operation, second input, second operation of each node.

        Args:
            operations: the names that the operation integers index.

        Returns:
            4B integers.

        Raises:
            UserError: when an operation is not among `operations`, or nodes were removed (the integers cannot
                say which).
        """
        if self != self.renumber():
            raise UserError("a cell with removed nodes has no encoding; renumber() it first")
        check_encodable({name for pair in self.operations for name in pair}, operations)
        decisions = []
        for inputs, names in zip(self.inputs, self.operations, strict=True):
            decisions += [inputs[0], operations.index(names[0]), inputs[1], operations.index(names[1])]
        return tuple(decisions)

    @classmethod
    def decode(
        cls,
        decisions: Sequence[int],
        operations: Sequence[str] = MICRO_OPERATIONS,
        cell_output: str = "loose_ends",
    ) -> "MicroCell":
        """The cell that `encode` maps to `decisions` (4B integers).

        Raises:
            UserError: when the integers do not make a cell.
        """
        decisions = as_integers(decisions, "a cell")
        if len(decisions) % 4:
            raise UserError(f"a cell is four integers a node; got {len(decisions)}")
        for code in decisions[1::2]:
            if not 0 <= code < len(operations):
                raise UserError(f"operation number {code} is not in 0 … {len(operations) - 1}")
        names = [operations[code] for code in decisions[1::2]]
        return cls(
            tuple(zip(decisions[0::4], decisions[2::4], strict=True)),
            tuple(zip(names[0::2], names[1::2], strict=True)),
            cell_output,
        )

    def replace_operations(self, operation: str, node: int | None = None) -> "MicroCell":
        """A copy with both operations of `node` (a label), or of every node, replaced.

        Raises:
            UserError: for an unknown operation or a node that the cell does not have.
        """
        if node is None:
            return replace(self, operations=((operation, operation),) * self.num_blocks)
        position = self._position(node)
        before, after = self.operations[:position], self.operations[position + 1 :]
        return replace(self, operations=(*before, (operation, operation), *after))

    def remove_node(self, node: int) -> "MicroCell":
        """A copy without `node` (a label).

        A node that read it as its first input now reads its first input, and as its second input its second, so that
        what both of them brought stays in the cell. The other labels stay.

        Raises:
            UserError: for the only node, or a node the cell does not have.
        """
        position = self._position(node)
        if self.num_blocks == 1:
            raise UserError(f"node {node} cannot be removed: the cell has no other node")
        removed = self.inputs[position]
        rest = self.inputs[:position] + self.inputs[position + 1 :]
        return replace(
            self,
            inputs=tuple(
                (removed[0] if first == node else first, removed[1] if second == node else second)
                for first, second in rest
            ),
            operations=self.operations[:position] + self.operations[position + 1 :],
            nodes=self.nodes[:position] + self.nodes[position + 1 :],
        )

    def renumber(self) -> "MicroCell":
        """The same cell with labels 2 … B+1, for training it from scratch after nodes were removed."""
        labels = CELL_INPUTS + self.nodes
        inputs = tuple((labels.index(first), labels.index(second)) for first, second in self.inputs)
        return replace(self, inputs=inputs, nodes=())

    def _position(self, node: int) -> int:
        if type(node) is not int or node not in self.nodes:
            raise UserError(f"the cell has no node {node}; its nodes are {', '.join(map(str, self.nodes))}")
        return self.nodes.index(node)


@dataclass(frozen=True)
class MicroNetwork(Architecture):
    """The two cells that a network of the micro space is built of.

    A node of the network is named by the cell and its label in it: ("normal", 3).

    Attributes:
        normal: the cell that keeps height and width.
        reduction: the cell that halves them: its operations on the cell's inputs have stride 2.

    Raises:
        UserError: when a part is not a cell.
    """

    type_name: ClassVar = "cnn_micro"
    title: ClassVar = "a micro network"
    keys: ClassVar = ("normal", "reduction")
    node_word: ClassVar = "node"
    part_word: ClassVar = "operation"
    known_operations: ClassVar = MICRO_OPERATIONS

    normal: MicroCell
    reduction: MicroCell

    def __post_init__(self) -> None:
        for name in CELL_NAMES:
            if not isinstance(getattr(self, name), MicroCell):
                raise UserError(f"the {name} cell must be a MicroCell, not {type(getattr(self, name)).__name__}")

    @property
    def nodes(self) -> tuple[tuple[str, int], ...]:
        """The nodes of both cells: pairs of a cell's name and a label."""
        return tuple((name, node) for name in CELL_NAMES for node in getattr(self, name).nodes)

    def encode(self, operations: Sequence[str] = MICRO_OPERATIONS) -> tuple[int, ...]:
        """The integers of the normal cell, then those of the reduction cell: 8B, see `MicroCell.encode`.

        Raises:
            UserError: when a cell has no encoding, or the two differ in size (the integers cannot say where the
                one ends).
        """
        if self.normal.num_blocks != self.reduction.num_blocks:
            sizes = f"{self.normal.num_blocks} and {self.reduction.num_blocks}"
            raise UserError(f"a network of cells of {sizes} nodes has no encoding; both must have as many")
        return self.normal.encode(operations) + self.reduction.encode(operations)

    @classmethod
    def decode(
        cls,
        decisions: Sequence[int],
        operations: Sequence[str] = MICRO_OPERATIONS,
        cell_output: str = "loose_ends",
    ) -> "MicroNetwork":
        """The network that `encode` maps to `decisions` (8B integers).

        Raises:
            UserError: when the integers do not make a network.
        """
        if len(decisions) % 8:
            raise UserError(f"a network is two cells of four integers a node; got {len(decisions)} integers")
        half = len(decisions) // 2
        cells = (MicroCell.decode(part, operations, cell_output) for part in (decisions[:half], decisions[half:]))
        return cls(*cells)

    def replace_operations(self, operation: str, node: tuple[str, int] | None = None) -> "MicroNetwork":
        """A copy with both operations of `node` (a cell's name and a label), or of every node, replaced.

        Raises:
            UserError: for an unknown operation or a node that the network does not have.
        """
        if node is None:
            return MicroNetwork(*(getattr(self, name).replace_operations(operation) for name in CELL_NAMES))
        name, label = self._known(node)
        return replace(self, **{name: getattr(self, name).replace_operations(operation, label)})

    def remove_node(self, node: tuple[str, int]) -> "MicroNetwork":
        """A copy without `node` (a cell's name and a label), see `MicroCell.remove_node`.

        Raises:
            UserError: for the only node of its cell, or a node the network does not have.
        """
        name, label = self._known(node)
        try:
            return replace(self, **{name: getattr(self, name).remove_node(label)})
        except UserError as error:
            raise UserError(f"{name} cell: {error}") from None

    def renumber(self) -> "MicroNetwork":
        """The same network with labels 2 … B+1 in each cell, for training it from scratch after nodes were removed."""
        return MicroNetwork(self.normal.renumber(), self.reduction.renumber())

    def _known(self, node: tuple[str, int]) -> tuple[str, int]:
        if node not in self.nodes:
            known = ", ".join(f"{name} {label}" for name, label in self.nodes)
            raise UserError(f"the network has no node {node!r}; its nodes are {known}")
        return node

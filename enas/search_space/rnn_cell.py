"""The recurrent search space (paper section 2.1): what a recurrent cell is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from enas.errors import UserError
from enas.search_space.architecture import CELL_OUTPUTS, Architecture, as_integers, check_encodable


@dataclass(frozen=True)
class Activation:
    """An activation of the recurrent search space.

    Attributes:
        function: what it computes of a tensor; or the name of such a function, found when it is first used.
        colour: of its nodes in drawings.
    """

    function: str | Callable[..., Any]
    colour: str


# Every activation that a cell may have; a new one needs an entry here and nothing else. The colours are blue, yellow,
# near white and vermilion of the Okabe-Ito palette, lightened for black text; their lightness differs too, so that they
# stay apart for colour-blind readers and in a grey print.
ACTIVATIONS = {
    "tanh": Activation("torch.tanh", "#7CC0EE"),
    "ReLU": Activation("torch.relu", "#FFD24D"),
    "identity": Activation("torch.clone", "#F5F5F5"),
    "sigmoid": Activation("torch.sigmoid", "#E08A5B"),
    "GELU": Activation("torch.nn.functional.gelu", "#B5E0CF"),
    "SiLU": Activation("torch.nn.functional.silu", "#CC9DBE"),
}
PAPER_ACTIVATIONS = ("tanh", "ReLU", "identity", "sigmoid")


@dataclass(frozen=True)
class RNNCell(Architecture):
    """A recurrent cell: a tree of nodes inside the complete graph of the search space.

    Node 0 reads the input and the previous state; every other node reads one earlier node.

    Attributes:
        activations: the activation of each node, N names from `ACTIVATIONS`.
        previous: the node that each of nodes 1 … N−1 reads, N−1 labels.
        cell_output: "loose_ends" averages the nodes that no node reads (the paper);
            "all" averages nodes 1 … N−1 (node 0 in a cell of one node), as later authors' code does.
        nodes: the label of each node in the large graph, which names its shared weights.
            Labels increase and start at 0. They are 0 … N−1 unless nodes were removed.

    Raises:
        UserError: when the parts do not form a cell.
    """

    type_name: ClassVar = "rnn_cell"
    title: ClassVar = "a recurrent cell"
    keys: ClassVar = ("num_blocks", "nodes", "activations", "previous", "cell_output")
    node_word: ClassVar = "node"
    part_word: ClassVar = "activation"

    activations: tuple[str, ...]
    previous: tuple[int, ...]
    cell_output: str = "loose_ends"
    nodes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "activations", tuple(self.activations))
        object.__setattr__(self, "previous", tuple(self.previous))
        object.__setattr__(self, "nodes", tuple(self.nodes) or tuple(range(len(self.activations))))
        self.validate()

    def validate(self) -> None:
        """Raise UserError, naming the part that is wrong, unless this is a cell."""
        if not self.activations:
            raise UserError("a cell needs at least one node")
        for activation in self.activations:
            if activation not in tuple(ACTIVATIONS):  # not by its hash: JSON may hold a list here
                raise UserError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
        if len(self.previous) != self.num_blocks - 1:
            raise UserError(
                f"a cell of {self.num_blocks} nodes needs {self.num_blocks - 1} previous nodes, "
                f"not {len(self.previous)}"
            )
        self._validate_labels()
        if self.cell_output not in CELL_OUTPUTS:
            raise UserError(f"cell_output is {self.cell_output!r}; it must be one of {', '.join(CELL_OUTPUTS)}")

    def _validate_labels(self) -> None:
        if any(type(label) is not int for label in self.nodes + self.previous):
            raise UserError("node labels and previous nodes must be integers")
        increasing = all(a < b for a, b in zip(self.nodes, self.nodes[1:], strict=False))
        if len(self.nodes) != self.num_blocks or self.nodes[0] != 0 or not increasing:
            raise UserError(f"node labels must increase from 0, one a node; got {list(self.nodes)}")
        for position, (node, previous) in enumerate(zip(self.nodes[1:], self.previous, strict=True), start=1):
            if previous not in self.nodes[:position]:
                raise UserError(f"node {node} reads node {previous}, which is not an earlier node of the cell")

    @property
    def num_blocks(self) -> int:
        """The number of nodes, N."""
        return len(self.activations)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The (previous, node) pairs of labels, N−1 of them: the shared weights in use."""
        return tuple(zip(self.previous, self.nodes[1:], strict=True))

    @property
    def parents(self) -> tuple[int, ...]:
        """For each of nodes 1 … N−1 the position (not label) of the node it reads."""
        return tuple(self.nodes.index(label) for label in self.previous)

    @property
    def loose_ends(self) -> tuple[int, ...]:
        """Labels of the nodes that no node reads, increasing."""
        return tuple(label for label in self.nodes if label not in self.previous)

    @property
    def output_nodes(self) -> tuple[int, ...]:
        """Labels of the nodes whose mean is the output and the next state."""
        if self.cell_output == "loose_ends":
            return self.loose_ends
        return self.nodes[1:] or self.nodes

    def encode(self, activations: Sequence[str] = PAPER_ACTIVATIONS) -> tuple[int, ...]:
        """The controller's decisions: activation of node 0, then previous and activation of each.

        Args:
            activations: the names that the activation integers index.

        Raises:
            UserError: when an activation is not among `activations`, or nodes were removed (the
                integers cannot say which).
        """
        if self.nodes != tuple(range(self.num_blocks)):
            raise UserError("a cell with removed nodes has no encoding; renumber() it first")
        check_encodable(self.activations, activations)
        codes = [activations.index(name) for name in self.activations]
        decisions = codes[:1]
        for previous, code in zip(self.previous, codes[1:], strict=True):
            decisions += [previous, code]
        return tuple(decisions)

    @classmethod
    def decode(
        cls,
        decisions: Sequence[int],
        activations: Sequence[str] = PAPER_ACTIVATIONS,
        cell_output: str = "loose_ends",
    ) -> "RNNCell":
        """The cell that `encode` maps to `decisions` (2N−1 integers).

        Raises:
            UserError: when the integers do not make a cell.
        """
        decisions = as_integers(decisions, "a cell")
        if len(decisions) % 2 == 0:
            raise UserError(f"a cell is an odd number of integers, 2N-1 for N nodes; got {len(decisions)}")
        codes = decisions[:1] + decisions[2::2]
        for code in codes:
            if not 0 <= code < len(activations):
                raise UserError(f"activation number {code} is not in 0 … {len(activations) - 1}")
        return cls(tuple(activations[code] for code in codes), tuple(decisions[1::2]), cell_output)

    def replace_activations(self, activation: str, node: int | None = None) -> "RNNCell":
        """A copy with the activation of `node` (a label), or of every node, replaced.

        Raises:
            UserError: for an unknown activation or a node that the cell does not have.
        """
        if node is None:
            return replace(self, activations=(activation,) * self.num_blocks)
        position = self._position(node)
        return replace(self, activations=(*self.activations[:position], activation, *self.activations[position + 1 :]))

    def remove_node(self, node: int) -> "RNNCell":
        """A copy without `node` (a label); nodes that read it now read the node that it read.

        The other labels stay, so that each remaining pair keeps naming its own shared weights.

        Raises:
            UserError: for node 0, the only one that reads the input, or a node the cell does not have.
        """
        position = self._position(node)
        if position == 0:
            raise UserError("node 0 cannot be removed: only it reads the input and the previous state")
        parent = self.previous[position - 1]
        previous = self.previous[: position - 1] + self.previous[position:]
        return replace(
            self,
            activations=self.activations[:position] + self.activations[position + 1 :],
            previous=tuple(parent if label == node else label for label in previous),
            nodes=self.nodes[:position] + self.nodes[position + 1 :],
        )

    def renumber(self) -> "RNNCell":
        """The same cell with labels 0 … N−1, for training it from scratch after nodes were removed."""
        return replace(self, previous=self.parents, nodes=())

    def _position(self, node: int) -> int:
        if type(node) is not int or node not in self.nodes:
            raise UserError(f"the cell has no node {node}; its nodes are {', '.join(map(str, self.nodes))}")
        return self.nodes.index(node)

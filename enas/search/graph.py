"""Architectures of labelled nodes: the common part of recurrent cells, convolutional cells and macro networks."""

import operator
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from enas.errors import UserError
from enas.search.architecture import CELL_OUTPUTS, MOST_NODES, Architecture


@dataclass(frozen=True)
class Graph(Architecture):
    """Nodes inside the large graph of a search space; each has a label there, and applies a named part.

    A label names shared weights, so the other labels stay when a node is removed.
    """

    whole: ClassVar[str] = "cell"  # the name of a graph in messages
    node_word: ClassVar[str] = "node"  # the name of a node; the plural is the name of the field of labels
    part_word: ClassVar[str] = "operation"  # the name of a part; the plural is the name of the field of parts
    known_parts: ClassVar[Collection[str]]  # the names that parts may have
    first_label: ClassVar[int] = 0  # the label of the first node if none was removed
    root_reads: ClassVar[str] = ""  # the input that only the first node reads, which is never removed; "" if all may

    @property
    def nodes(self) -> tuple[int, ...]:
        """The labels of the nodes, increasing."""
        return getattr(self, f"{self.node_word}s")

    @property
    def _parts(self) -> tuple[Any, ...]:
        return getattr(self, f"{self.part_word}s")

    def _complete(self, count: int, **fields: Any) -> None:
        """Set fields, and number the `count` nodes unless they have labels; UserError for none, or above MOST_NODES."""
        if not 0 < count <= MOST_NODES:
            raise UserError(f"a {self.whole} has 1 to {MOST_NODES} {self.node_word}s, not {count:,}")
        labels = tuple(self.nodes) or tuple(range(self.first_label, self.first_label + count))
        for name, value in {**fields, f"{self.node_word}s": labels}.items():
            object.__setattr__(self, name, value)

    def _check_parts(self, names: Sequence[Any]) -> None:
        for name in names:
            if name not in tuple(self.known_parts):  # not by its hash: JSON may hold a list here
                known = f"known: {', '.join(self.known_parts)}; --use loads your own"
                raise UserError(f"unknown {self.part_word} {name!r}; {known}")

    def _check_labels(self, count: int) -> None:
        labels, word, first = self.nodes, self.node_word, self.first_label
        if any(type(label) is not int for label in labels):
            raise UserError(f"{word} labels must be integers")
        starts_right = labels[0] == first if self.root_reads else labels[0] >= first
        if len(labels) != count or not starts_right or list(labels) != sorted({*labels}):
            rule = f"increase from {first}" if self.root_reads else f"be {first} or more and increase"
            raise UserError(f"{word} labels must {rule}, one a {word}; got {list(labels)}")

    def check_numbered(self, what: str) -> None:
        """Raise UserError if nodes were removed, in which case the graph has no `what`."""
        if self.nodes[-1] != self.first_label + len(self.nodes) - 1:
            raise UserError(f"a {self.whole} with removed nodes has no {what}; renumber() it first")

    @classmethod
    def _integers(cls, decisions: Sequence[int]) -> list[int]:
        try:
            return [operator.index(decision) for decision in decisions]
        except TypeError:
            raise UserError(f"a {cls.whole} is a list of integers; got {decisions!r}") from None

    @classmethod
    def _named(cls, code: int, names: Sequence[str], where: str = "") -> str:
        if not 0 <= code < len(names):
            raise UserError(f"{cls.part_word} number {code}{where} is not in 0 … {len(names) - 1}")
        return names[code]

    def replace_part(self, part: Any, node: int | None = None) -> Self:
        """Return a copy in which `node` (a label), or every node, has `part`; UserError for an unknown node or part."""
        parts = (part,) * len(self._parts)
        if node is not None:
            position = self._position(node)
            parts = (*self._parts[:position], part, *self._parts[position + 1 :])
        return replace(self, **{f"{self.part_word}s": parts})

    def remove_node(self, node: int) -> Self:
        """Return a copy without `node` (a label); the subclass says what the nodes that read `node` read instead.

        UserError if `node` is unknown, the only node, or the only one that reads the input.
        """
        position = self._position(node)
        if self.root_reads and position == 0:
            raise UserError(f"{self.node_word} 0 cannot be removed: only it reads {self.root_reads}")
        if len(self.nodes) == 1:
            raise UserError(f"{self.node_word} {node} cannot be removed: the {self.whole} has no other node")
        rest = {f"{self.part_word}s": self._parts, f"{self.node_word}s": self.nodes}
        rest = {name: values[:position] + values[position + 1 :] for name, values in rest.items()}
        return replace(self, **rest, **self._bridged(node, position))

    @abstractmethod
    def _bridged(self, node: int, position: int) -> dict[str, Any]:
        """Return the fields that say what nodes read, by name, without `node`, which is at `position`."""

    def _position(self, node: int) -> int:
        if type(node) is not int or node not in self.nodes:
            known = f"its {self.node_word}s are {', '.join(map(str, self.nodes))}"
            raise UserError(f"the {self.whole} has no {self.node_word} {node}; {known}")
        return self.nodes.index(node)


class Cell(Graph):
    """A graph with several output nodes, which `cell_output` chooses."""

    cell_output: str

    @property
    def num_blocks(self) -> int:
        return len(self._parts)

    @property
    @abstractmethod
    def _read(self) -> Collection[int]:
        """The labels that nodes read."""

    @property
    def loose_ends(self) -> tuple[int, ...]:
        """Labels of the nodes that no node reads, increasing."""
        return tuple(label for label in self.nodes if label not in self._read)

    @property
    def output_nodes(self) -> tuple[int, ...]:
        """Labels of the nodes that make the output, increasing."""
        return self.loose_ends if self.cell_output == "loose_ends" else self.nodes

    def _check_output(self) -> None:
        if self.cell_output not in CELL_OUTPUTS:
            raise UserError(f"cell_output is {self.cell_output!r}; it must be one of {', '.join(CELL_OUTPUTS)}")

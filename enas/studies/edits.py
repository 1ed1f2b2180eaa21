"""Variants of an architecture: one edit each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from enas.errors import UserError

Node = int | tuple[str, int]


class Editable(Protocol):
    """What an ablation needs of an architecture.

    Attributes:
        title: what messages call the architecture.
        node_word: what a node is called: node, or layer.
        part_word: what a node applies: activation, or operation.
    """

    title: str
    node_word: str
    part_word: str

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What `remove_node` takes."""

    def remove_node(self, node: Node) -> Self:
        """A copy without `node`; UserError, which says why, when it cannot be removed."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""


@dataclass(frozen=True)
class Variant:
    """An architecture, and how it came from the one that is studied.

    Attributes:
        edit: in words; "unedited" for the architecture itself.
        node: the node or layer that was edited, None for all of them or none. A node of a micro network is named with
            its cell: "normal 3".
        replacement: what took the place of an activation or operation, None where nothing did.
        architecture: the outcome.
    """

    edit: str
    node: int | str | None
    replacement: str | None
    architecture: Editable


def removals(architecture: Editable) -> tuple[list[Variant], list[str]]:
    """List the architecture, then a copy without each node; and one line for each node that cannot be removed."""
    variants, kept = [_unedited(architecture)], []
    for node in architecture.nodes:
        try:
            smaller = architecture.remove_node(node)
        except UserError as error:
            kept.append(str(error))
        else:
            edit = f"without {architecture.node_word} {_label(node)}"
            variants.append(Variant(edit, _label(node), None, smaller))
    return variants, kept


def replacements(
    architecture: Editable, replace: Callable[[Editable, str, Node | None], Editable], names: Sequence[str]
) -> list[Variant]:
    """List the architecture, then copies with the parts of all nodes replaced by each of `names`, then of one node.

    In a micro network both operations of a node are replaced.
    """
    word = architecture.node_word
    return [
        _unedited(architecture),
        *(Variant(f"all {name}", None, name, replace(architecture, name, None)) for name in names),
        *(
            Variant(f"{word} {_label(node)} {name}", _label(node), name, replace(architecture, name, node))
            for node in architecture.nodes
            for name in names
        ),
    ]


def _unedited(architecture: Editable) -> Variant:
    return Variant("unedited", None, None, architecture)


def _label(node: Node) -> int | str:
    return node if isinstance(node, int) else " ".join(map(str, node))

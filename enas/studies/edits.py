"""Variants of an architecture: one edit each."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from enas.errors import UserError

Node = int | tuple[str, int]


class Editable(Protocol):
    """An `Architecture` that an ablation can study. `remove_node` raises UserError, saying why, when it cannot."""

    title: str
    node_word: str  # what a node is called: node, or layer
    part_word: str  # what a node applies: activation, or operation

    @property
    def nodes(self) -> tuple[Node, ...]: ...

    def remove_node(self, node: Node) -> Self: ...

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Variant:
    """An architecture, and how it came from the one that is studied.

    Attributes:
        edit: in words; "unedited" for the architecture itself.
        architecture: the outcome.
        node: the node or layer that was edited, None for all of them or none. A node of a micro network is named with
            its cell: "normal 3".
        replacement: what took the place of an activation or operation, None where nothing did.
    """

    edit: str
    architecture: Editable
    node: int | str | None = None
    replacement: str | None = None


def removals(architecture: Editable) -> tuple[list[Variant], list[str]]:
    """List the architecture, then a copy without each node; and one line for each node that cannot be removed."""
    variants, kept = [Variant("unedited", architecture)], []
    for node in architecture.nodes:
        try:
            smaller = architecture.remove_node(node)
        except UserError as error:
            kept.append(str(error))
        else:
            label = _label(node)
            variants.append(Variant(f"without {architecture.node_word} {label}", smaller, label))
    return variants, kept


def replacements(
    architecture: Editable, replace: Callable[[Editable, str, Node | None], Editable], names: Sequence[str]
) -> list[Variant]:
    """List the architecture, then copies with the parts of all nodes replaced by each of `names`, then of one node.

    In a micro network both operations of a node are replaced.
    """
    variants = [Variant("unedited", architecture)]
    variants += [Variant(f"all {name}", replace(architecture, name, None), None, name) for name in names]
    for node, name in itertools.product(architecture.nodes, names):
        edit = f"{architecture.node_word} {_label(node)} {name}"
        variants.append(Variant(edit, replace(architecture, name, node), _label(node), name))
    return variants


def _label(node: Node) -> int | str:
    return node if isinstance(node, int) else " ".join(map(str, node))

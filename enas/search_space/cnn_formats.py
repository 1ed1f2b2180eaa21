"""Convolutional architectures as others publish them: text in, text out.

- `enas_macro` (Pham et al. 2018): integers; of each layer its operation, then 0 or 1 for each earlier layer.
- `enas_macro_code` (the authors' code): the same integers, of which layer k's are read as skips from the stem and from
  layers 0 … k−2.
- `enas_micro` (same): integers; of each node input, operation, input, operation. Two cells, parted by `;`, `|` or a new
  line.
- `darts_cnn` (Liu et al. 2019): `Genotype(normal=[('sep_conv_3x3', 1), …], normal_concat=range(2, 6), reduce=[…],
  reduce_concat=range(2, 6))`.
"""

import ast
import re
import reprlib
from collections.abc import Callable
from dataclasses import replace

from enas.search_space.cnn_macro import MacroNetwork
from enas.search_space.cnn_micro import MicroCell, MicroNetwork
from enas.search_space.notation import expression, genotype, integers, is_call, joined, literal, require_output

# The numbers and names of operations belong to each published format; the order of MACRO_OPERATIONS is our own.
ENAS_MACRO_OPERATIONS = ("conv3x3", "sep3x3", "conv5x5", "sep5x5", "avg3x3", "max3x3")
ENAS_MICRO_OPERATIONS = ("sep3x3", "sep5x5", "avg3x3", "max3x3", "identity")
DARTS_OPERATIONS = {
    "sep_conv_3x3": "sep3x3",
    "sep_conv_5x5": "sep5x5",
    "avg_pool_3x3": "avg3x3",
    "max_pool_3x3": "max3x3",
    "skip_connect": "identity",
}
LONGEST_RANGE = 1000  # more nodes than any cell has
EXAMPLE_GENOTYPE = "Genotype(normal=[…], …)"
GENOTYPE_PARTS = ("normal", "normal_concat", "reduce", "reduce_concat")


def read_enas_macro(text: str) -> MacroNetwork:
    """The network of the authors' integers; ValueError when they are none.

    Digit j of a layer is the skip from layer j, counted from 0, as the paper has it.
    """
    return MacroNetwork.decode(integers(text), ENAS_MACRO_OPERATIONS)


def write_enas_macro(network: MacroNetwork) -> str:
    """The authors' integers, which `read_enas_macro` reads; ValueError when layers were removed."""
    return joined(network.encode(ENAS_MACRO_OPERATIONS))


def read_enas_macro_code(text: str) -> MacroNetwork:
    """The network of the authors' integers as their code builds it; ValueError when they are none.

    It keeps the stem's output before those of the layers, so that digit 0 of a layer is the skip from the stem, and
    digit j the one from layer j−1.
    """
    network = read_enas_macro(text)
    return replace(network, skips=tuple(tuple(digit - 1 for digit in digits) for digits in network.skips))


def write_enas_macro_code(network: MacroNetwork) -> str:
    """The authors' integers, which `read_enas_macro_code` reads.

    Raises:
        ValueError: when layers were removed, or a layer skips from the one before it, which this reading cannot say.
    """
    for layer, skips in zip(network.layers, network.skips, strict=True):
        if layer - 1 in skips and layer > 0:
            raise ValueError(f"layer {layer} skips from layer {layer - 1}, for which this format has no digit")
    return write_enas_macro(replace(network, skips=tuple(tuple(s + 1 for s in skips) for skips in network.skips)))


def read_enas_micro(text: str) -> MicroNetwork:
    """The network of the authors' integers: the normal cell, then the reduction cell; ValueError when they are none.

    With nothing between them, the cells are the two halves of the integers.
    """
    parts = [part for part in re.split(r"[;|\n]", text) if part.strip()]
    if len(parts) == 1:
        return MicroNetwork.decode(integers(text), ENAS_MICRO_OPERATIONS)
    if len(parts) != 2:
        raise ValueError(f"a network is two cells, normal and reduction; found {len(parts)}")
    return MicroNetwork(*(MicroCell.decode(integers(part), ENAS_MICRO_OPERATIONS) for part in parts))


def write_enas_micro(network: MicroNetwork) -> str:
    """The authors' integers, the cells parted by `; `, which `read_enas_micro` reads.

    Raises:
        ValueError: when nodes were removed, or the output of a cell is not its loose ends.
    """
    for cell in (network.normal, network.reduction):
        require_output(cell, "loose_ends")
    return "; ".join(joined(cell.encode(ENAS_MICRO_OPERATIONS)) for cell in (network.normal, network.reduction))


def read_darts_cnn(text: str) -> MicroNetwork:
    """The network of a DARTS genotype.

    Pairs of operation and input, two a node, where 0 and 1 are the cell's inputs, the older one first. A concat names
    either all nodes or the loose ends; where these are the same, the cell is one of cell_output=all, as every cell
    that DARTS found.

    Raises:
        ValueError: when the text is no genotype, or one outside the search space, such as one with dil_conv_3x3.
    """
    parts = _genotype(text)
    return MicroNetwork(
        _darts_cell(parts["normal"], parts["normal_concat"]), _darts_cell(parts["reduce"], parts["reduce_concat"])
    )


def write_darts_cnn(network: MicroNetwork) -> str:
    """A genotype that `read_darts_cnn` reads as `network`, or as one that computes the same; see there.

    Raises:
        ValueError: when nodes were removed.
    """
    if network != network.renumber():
        raise ValueError("a network with removed nodes has no genotype; renumber() it first")
    names = {operation: name for name, operation in DARTS_OPERATIONS.items()}
    parts = []
    for part, cell in (("normal", network.normal), ("reduce", network.reduction)):
        pairs = [
            (names[operation], label)
            for inputs, operations in zip(cell.inputs, cell.operations, strict=True)
            for label, operation in zip(inputs, operations, strict=True)
        ]
        parts += [f"{part}={pairs!r}", f"{part}_concat={list(cell.output_nodes)!r}"]
    return f"Genotype({', '.join(parts)})"


def _genotype(text: str) -> dict[str, list]:
    """The four parts of a genotype, each a list."""
    parts = genotype(expression(text, EXAMPLE_GENOTYPE), text, EXAMPLE_GENOTYPE)
    if set(parts) != set(GENOTYPE_PARTS):
        raise ValueError(f"a genotype has {', '.join(GENOTYPE_PARTS)}; found {', '.join(parts) or 'none of them'}")
    return {name: _list(name, parts[name]) for name in GENOTYPE_PARTS}


def _list(name: str, value: ast.expr) -> list:
    """What a part of a genotype lists; a range is written out, but never longer than any cell."""
    if is_call(value, "range") and not value.keywords:
        return _range(name, [literal(bound, name) for bound in value.args])
    items = literal(value, name)
    if not isinstance(items, (list, tuple)):
        raise ValueError(f"{name} is {reprlib.repr(items)}; it must be a list")
    return list(items)


def _range(name: str, bounds: list) -> list[int]:
    try:
        return list(range(*bounds)[:LONGEST_RANGE])
    except (ValueError, TypeError):
        raise ValueError(f"{name} must consist of names in quotes and integers") from None


def _darts_cell(pairs: list, concat: list) -> MicroCell:
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f"{reprlib.repr(pair)} is no pair of operation and input like ('sep_conv_3x3', 1)")
    if len(pairs) % 2:
        raise ValueError(f"a cell is two pairs of operation and input a node; got {len(pairs)} pairs")
    operations = [_darts_operation(name) for name, _ in pairs]
    labels = [label for _, label in pairs]
    everything = MicroCell(_twos(labels), _twos(operations), "all")
    for cell in (everything, MicroCell(everything.inputs, everything.operations, "loose_ends")):
        if all(type(label) is int for label in concat) and tuple(sorted(concat)) == cell.output_nodes:
            return cell
    raise ValueError(
        f"concat is {reprlib.repr(concat)}; it must name all of nodes {joined(everything.output_nodes)}, "
        f"or the loose ends {joined(everything.loose_ends)}, and nothing else"
    )


def _darts_operation(name) -> str:
    if not isinstance(name, str) or name not in DARTS_OPERATIONS:
        raise ValueError(f"operation {reprlib.repr(name)} is not in the space; known: {', '.join(DARTS_OPERATIONS)}")
    return DARTS_OPERATIONS[name]


def _twos(items: list) -> tuple[tuple, ...]:
    return tuple(zip(items[0::2], items[1::2], strict=True))


# For each format its reader and its writer.
CNN_FORMATS: dict[str, tuple[Callable, Callable]] = {
    "enas_macro": (read_enas_macro, write_enas_macro),
    "enas_macro_code": (read_enas_macro_code, write_enas_macro_code),
    "enas_micro": (read_enas_micro, write_enas_micro),
    "darts_cnn": (read_darts_cnn, write_darts_cnn),
}

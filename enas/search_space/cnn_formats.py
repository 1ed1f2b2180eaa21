"""Convolutional architectures as others publish them: text in, text out.

- `enas_macro` (Pham et al. 2018): integers; of each layer its operation, then 0 or 1 for each earlier layer.
- `enas_macro_code` (the authors' code): the same integers, of which layer k's are read as skips from the stem and from
  layers 0 … k−2.
- `enas_micro` (same): integers; of each node input, operation, input, operation. Two cells, parted by `;`, `|` or a new
  line.
- `darts_cnn` (Liu et al. 2019): `Genotype(normal=[('sep_conv_3x3', 1), …], normal_concat=range(2, 6), reduce=[…],
  reduce_concat=range(2, 6))`.
"""

import re
from dataclasses import replace
from typing import Any

from enas.errors import UserError
from enas.search_space.cnn_macro import MacroNetwork
from enas.search_space.cnn_micro import MicroCell, MicroNetwork
from enas.search_space.notation import Format, genotype, integers, joined, require_output, unzipped, with_output

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
EXAMPLE_GENOTYPE = "Genotype(normal=[…], …)"
GENOTYPE_PARTS = ("normal", "normal_concat", "reduce", "reduce_concat")


def read_enas_macro(text: str) -> MacroNetwork:
    """The network of the authors' integers; UserError when they are none.

    Digit j of a layer is the skip from layer j, counted from 0, as the paper has it.
    """
    return MacroNetwork.decode(integers(text), ENAS_MACRO_OPERATIONS)


def write_enas_macro(network: MacroNetwork) -> str:
    """The authors' integers, which `read_enas_macro` reads; UserError when layers were removed."""
    return joined(network.encode(ENAS_MACRO_OPERATIONS))


def read_enas_macro_code(text: str) -> MacroNetwork:
    """The network of the authors' integers as their code builds it; UserError when they are none.

    It keeps the stem's output before those of the layers, so that digit 0 of a layer is the skip from the stem, and
    digit j the one from layer j−1.
    """
    network = read_enas_macro(text)
    return replace(network, skips=tuple(tuple(digit - 1 for digit in digits) for digits in network.skips))


def write_enas_macro_code(network: MacroNetwork) -> str:
    """The authors' integers, which `read_enas_macro_code` reads.

    Raises:
        UserError: when layers were removed, or a layer skips from the one before it, which this reading cannot say.
    """
    for layer, skips in zip(network.layers, network.skips, strict=True):
        if layer - 1 in skips and layer > 0:
            raise UserError(f"layer {layer} skips from layer {layer - 1}, for which this format has no digit")
    return write_enas_macro(replace(network, skips=tuple(tuple(s + 1 for s in skips) for skips in network.skips)))


def read_enas_micro(text: str) -> MicroNetwork:
    """The network of the authors' integers: the normal cell, then the reduction cell; UserError when they are none.

    With nothing between them, the cells are the two halves of the integers.
    """
    parts = [part for part in re.split(r"[;|\n]", text) if part.strip()]
    if len(parts) == 1:
        return MicroNetwork.decode(integers(text), ENAS_MICRO_OPERATIONS)
    if len(parts) != 2:
        raise UserError(f"a network is two cells, normal and reduction; found {len(parts)}")
    return MicroNetwork(*(MicroCell.decode(integers(part), ENAS_MICRO_OPERATIONS) for part in parts))


def write_enas_micro(network: MicroNetwork) -> str:
    """The authors' integers, the cells parted by `; `, which `read_enas_micro` reads.

    Raises:
        UserError: when nodes were removed, or the output of a cell is not its loose ends.
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
        UserError: when the text is not a genotype, or is one outside the search space, such as one with dil_conv_3x3.
    """
    parts = genotype(text, GENOTYPE_PARTS, EXAMPLE_GENOTYPE)
    if len(parts) < len(GENOTYPE_PARTS):
        raise UserError(f"a genotype has {', '.join(GENOTYPE_PARTS)}; found a list")
    cells = (_darts_cell(parts[name], parts[f"{name}_concat"]) for name in ("normal", "reduce"))
    return MicroNetwork(*cells)


def write_darts_cnn(network: MicroNetwork) -> str:
    """A genotype that `read_darts_cnn` reads as `network`, or as one that computes the same; see there.

    Raises:
        UserError: when nodes were removed.
    """
    if network != network.renumber():
        raise UserError("a network with removed nodes has no genotype; renumber() it first")
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


def _darts_cell(pairs: list[Any], concat: list[Any]) -> MicroCell:
    operations, labels = unzipped(pairs, DARTS_OPERATIONS, "operation")
    if len(pairs) % 2:
        raise UserError(f"a cell is two pairs of operation and node for each node; got {len(pairs)} pairs")
    everything = MicroCell(_twos(labels), _twos(operations), "all")
    return with_output(concat, everything, replace(everything, cell_output="loose_ends"))


def _twos(items: list[Any]) -> tuple[tuple[Any, ...], ...]:
    return tuple(zip(items[0::2], items[1::2], strict=True))


MACRO_FORMATS = {
    "enas_macro": Format(MacroNetwork, read_enas_macro, write_enas_macro),
    "enas_macro_code": Format(MacroNetwork, read_enas_macro_code, write_enas_macro_code),
}
MICRO_FORMATS = {
    "enas_micro": Format(MicroNetwork, read_enas_micro, write_enas_micro),
    "darts_cnn": Format(MicroNetwork, read_darts_cnn, write_darts_cnn),
}

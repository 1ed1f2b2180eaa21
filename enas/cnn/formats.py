"""Convolutional architectures as others publish them: text in, text out.

- `enas_macro` (Pham et al. 2018): integers; of each layer its operation, then 0 or 1 for each earlier layer. Digit j of
  a layer is the skip from layer j, counted from 0, as the paper has it.
- `enas_macro_code` (the authors' code): the same integers as their code builds the network. It keeps the stem's output
  before those of the layers, so that digit 0 of a layer is the skip from the stem, and digit j the one from layer j−1.
- `enas_micro` (same): integers; of each node input, operation, input, operation. Two cells, the normal one first,
  parted by `;`, `|` or a new line; with nothing between them, they are the two halves of the integers.
- `darts_cnn` (Liu et al. 2019): `Genotype(normal=[('sep_conv_3x3', 1), …], normal_concat=range(2, 6), reduce=[…],
  reduce_concat=range(2, 6))`. Two pairs of operation and input a node, where 0 and 1 are the cell's inputs, the older
  one first. A concat names all nodes or the loose ends. Operations of other spaces, like dil_conv_3x3, are refused.
"""

import re
from dataclasses import replace
from functools import partial
from typing import Any

from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroCell, MicroNetwork
from enas.errors import UserError
from enas.search.formats import Format, genotype, integers, joined, unzipped, with_only, with_output, zipped

# The operations of each published format, in the order of its numbers; the order of MACRO_OPERATIONS is our own.
ENAS_MACRO_OPERATIONS = ("conv3x3", "sep3x3", "conv5x5", "sep5x5", "avg3x3", "max3x3")
ENAS_MICRO_OPERATIONS = ("sep3x3", "sep5x5", "avg3x3", "max3x3", "identity")
_DARTS_NAMES = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "skip_connect")
DARTS_OPERATIONS = dict(zip(_DARTS_NAMES, ENAS_MICRO_OPERATIONS, strict=True))
GENOTYPE_PARTS = ("normal", "normal_concat", "reduce", "reduce_concat")


def _read_macro(text: str, shift: int = 0) -> MacroNetwork:
    """Read a network in which digit j of a layer is the skip from layer j + shift."""
    network = MacroNetwork.decode(integers(text), ENAS_MACRO_OPERATIONS)
    return replace(network, skips=tuple(tuple(digit + shift for digit in digits) for digits in network.skips))


def _write_macro(network: MacroNetwork, shift: int = 0) -> str:
    for layer, skips in zip(network.layers, network.skips, strict=True):
        if layer + shift in skips:
            raise UserError(f"layer {layer} skips from layer {layer + shift}, for which this format has no digit")
    digits = tuple(tuple(label - shift for label in labels) for labels in network.skips)
    return joined(replace(network, skips=digits).encode(ENAS_MACRO_OPERATIONS))


def _read_micro(text: str) -> MicroNetwork:
    parts = [part for part in re.split(r"[;|\n]", text) if part.strip()]
    if len(parts) == 1:
        return MicroNetwork.decode(integers(text), ENAS_MICRO_OPERATIONS)
    if len(parts) != 2:
        raise UserError(f"a network is two cells, normal and reduction; found {len(parts)}")
    return MicroNetwork(*(MicroCell.decode(integers(part), ENAS_MICRO_OPERATIONS) for part in parts))


def _write_micro(network: MicroNetwork) -> str:
    cells = [with_only("loose_ends", cell) for cell in network.cells.values()]
    return "; ".join(joined(cell.encode(ENAS_MICRO_OPERATIONS)) for cell in cells)


def _read_darts(text: str) -> MicroNetwork:
    parts = genotype(text, GENOTYPE_PARTS, "Genotype(normal=[…], …)")
    if len(parts) < len(GENOTYPE_PARTS):
        raise UserError(f"a genotype has {', '.join(GENOTYPE_PARTS)}; found a list")
    return MicroNetwork(*(_darts_cell(parts[name], parts[f"{name}_concat"]) for name in ("normal", "reduce")))


def _darts_cell(pairs: list[Any], concat: list[Any]) -> MicroCell:
    columns = unzipped(pairs, DARTS_OPERATIONS, "operation")
    if len(pairs) % 2:
        raise UserError(f"a cell is two pairs of operation and node for each node; got {len(pairs)} pairs")
    operations, inputs = (tuple(zip(column[0::2], column[1::2], strict=True)) for column in columns)
    return with_output(concat, MicroCell(inputs, operations, "all"))


def _write_darts(network: MicroNetwork) -> str:
    if network != network.renumber():
        raise UserError("a network with removed nodes has no genotype; renumber() it first")
    parts = []
    for part, cell in (("normal", network.normal), ("reduce", network.reduction)):
        pairs = zipped(sum(cell.operations, ()), sum(cell.inputs, ()), DARTS_OPERATIONS)
        parts += [f"{part}={pairs!r}", f"{part}_concat={list(cell.output_nodes)!r}"]
    return f"Genotype({', '.join(parts)})"


MACRO_FORMATS = {
    "enas_macro": Format(MacroNetwork, _read_macro, _write_macro),
    "enas_macro_code": Format(MacroNetwork, partial(_read_macro, shift=-1), partial(_write_macro, shift=-1)),
}
MICRO_FORMATS = {
    "enas_micro": Format(MicroNetwork, _read_micro, _write_micro),
    "darts_cnn": Format(MicroNetwork, _read_darts, _write_darts),
}

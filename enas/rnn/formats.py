"""Recurrent cells as others publish them: text in, text out.

`enas` (Pham et al. 2018) is integers: the activation of node 0, then previous node and activation of each other node.
`enas_lm`, the authors' later code, leaves node 0 out. `darts` (Liu et al. 2019) is a genotype.
"""

from enas.errors import UserError
from enas.rnn.cell import RNNCell
from enas.search.formats import Format, genotype, integers, joined, unzipped, with_only, with_output, zipped

ENAS_LM_ACTIVATIONS = ("tanh", "ReLU", "sigmoid", "identity")
DARTS_ACTIVATIONS = {"tanh": "tanh", "relu": "ReLU", "sigmoid": "sigmoid", "identity": "identity"}
FIXED_ROOT = "tanh"  # the activation of node 0 in enas_lm and darts, whose texts leave it out
EXAMPLE_GENOTYPE = "Genotype(recurrent=[('relu', 0), ('tanh', 1)], concat=range(1, 3))"


def _read_enas_lm(text: str) -> RNNCell:
    pairs = integers(text)
    if not pairs or len(pairs) % 2:
        raise UserError(f"a cell is pairs of previous node and activation, 2N-2 integers; got {len(pairs)}")
    return RNNCell.decode([ENAS_LM_ACTIVATIONS.index(FIXED_ROOT), *pairs], ENAS_LM_ACTIVATIONS, "all")


def _write_enas_lm(cell: RNNCell) -> str:
    _require_root(cell)
    with_only("all", cell)
    if cell.num_blocks == 1:
        raise UserError("a cell of one node has no pairs to write; it needs at least two nodes")
    return joined(cell.encode(ENAS_LM_ACTIVATIONS)[1:])


def _read_darts(text: str) -> RNNCell:
    parts = genotype(text, ("recurrent", "concat"), EXAMPLE_GENOTYPE)
    names, previous = unzipped(parts["recurrent"], DARTS_ACTIVATIONS, "activation")
    cell = RNNCell((FIXED_ROOT, *names), tuple(previous), "all")
    return with_output(parts["concat"], cell) if "concat" in parts else cell


def _write_darts(cell: RNNCell) -> str:
    _require_root(cell)
    cell.check_numbered("genotype")
    pairs = zipped(cell.activations[1:], cell.previous, DARTS_ACTIVATIONS)
    everything, outputs = range(1, cell.num_blocks), cell.output_nodes
    concat = everything if outputs == tuple(everything) else list(outputs)
    return f"Genotype(recurrent={pairs!r}, concat={concat!r})"


def _require_root(cell: RNNCell) -> None:
    if cell.activations[0] != FIXED_ROOT:
        raise UserError(f"the activation of node 0 is {cell.activations[0]}; this format has only {FIXED_ROOT} there")


RNN_FORMATS = {
    "enas": Format(
        RNNCell, lambda text: RNNCell.decode(integers(text)), lambda it: joined(with_only("loose_ends", it).encode())
    ),
    "enas_lm": Format(RNNCell, _read_enas_lm, _write_enas_lm),
    "darts": Format(RNNCell, _read_darts, _write_darts),
}

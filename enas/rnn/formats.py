"""Recurrent cells as others publish them: text in, text out.

| format | text | source |
|---|---|---|
| `enas` | integers: activation of node 0, then previous node and activation of each node | Pham et al. 2018 |
| `enas_lm` | integers: previous node and activation of each node after node 0 | their later code |
| `darts` | `Genotype(recurrent=[('relu', 0), …], concat=range(1, 9))` | Liu et al. 2019 |
"""

from enas.errors import UserError
from enas.rnn.cell import RNNCell
from enas.search.formats import Format, genotype, integers, joined, unzipped, with_only, with_output, zipped

# The numbers and names of activations belong to each published format; the order of ACTIVATIONS is our own.
ENAS_ACTIVATIONS = ("tanh", "ReLU", "identity", "sigmoid")
ENAS_LM_ACTIVATIONS = ("tanh", "ReLU", "sigmoid", "identity")
DARTS_ACTIVATIONS = {"tanh": "tanh", "relu": "ReLU", "sigmoid": "sigmoid", "identity": "identity"}
FIXED_ROOT = "tanh"  # node 0 of enas_lm and darts, which their texts do not mention
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
    everything = range(1, cell.num_blocks)
    concat = everything if cell.output_nodes == tuple(everything) else list(cell.output_nodes)
    return f"Genotype(recurrent={pairs!r}, concat={concat!r})"


def _require_root(cell: RNNCell) -> None:
    if cell.activations[0] != FIXED_ROOT:
        raise UserError(f"the activation of node 0 is {cell.activations[0]}; this format has only {FIXED_ROOT} there")


RNN_FORMATS = {
    "enas": Format(
        RNNCell,
        lambda text: RNNCell.decode(integers(text), ENAS_ACTIVATIONS),
        lambda cell: joined(with_only("loose_ends", cell).encode(ENAS_ACTIVATIONS)),
    ),
    "enas_lm": Format(RNNCell, _read_enas_lm, _write_enas_lm),
    "darts": Format(RNNCell, _read_darts, _write_darts),
}

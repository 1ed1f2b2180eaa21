"""Hypothesis strategies for architectures."""

from hypothesis import strategies as st

from enas.rnn.cell import PAPER_ACTIVATIONS, RNNCell
from enas.rnn.export import functions
from enas.rnn.reference import Nodes
from enas.search.architecture import CELL_OUTPUTS


@st.composite
def cells(
    draw, max_blocks: int = 12, *, min_blocks: int = 1, gaps: bool = False, activations=PAPER_ACTIVATIONS
) -> RNNCell:
    """Recurrent cells of `min_blocks` to `max_blocks` nodes.

    Labels are 0 … N−1; with `gaps` they may jump, as they do after nodes were removed.
    """
    num_blocks = draw(st.integers(min_blocks, max_blocks))
    steps = draw(_exactly(num_blocks - 1, st.integers(1, 3 if gaps else 1)))
    nodes = [0]
    for step in steps:
        nodes.append(nodes[-1] + step)
    return RNNCell(
        activations=tuple(draw(_exactly(num_blocks, st.sampled_from([*activations])))),
        previous=tuple(draw(st.sampled_from(nodes[:position])) for position in range(1, num_blocks)),
        cell_output=draw(st.sampled_from(CELL_OUTPUTS)),
        nodes=tuple(nodes),
    )


def _exactly(length: int, elements: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(elements, min_size=length, max_size=length)


def nodes(cell: RNNCell) -> Nodes:
    """The cell as `rnn_reference` has it."""
    return Nodes.of(cell.to_dict(), functions(cell))

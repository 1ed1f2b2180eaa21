"""Hypothesis strategies for architectures."""

from hypothesis import strategies as st

from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroCell, MicroNetwork
from enas.cnn.operation_names import MACRO_OPERATIONS, MICRO_OPERATIONS
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
    return Nodes.of(cell.to_dict(), functions(cell)[0])


@st.composite
def macro_networks(draw, *, min_layers: int = 1, max_layers: int = 8, gaps: bool = False) -> MacroNetwork:
    """Macro networks of `min_layers` to `max_layers` layers; with `gaps` some others may have been removed."""
    num_layers = draw(st.integers(min_layers, max_layers))
    layers = [0]
    for _ in range(num_layers - 1):
        layers.append(layers[-1] + draw(st.integers(1, 3 if gaps else 1)))
    return MacroNetwork(
        operations=tuple(draw(st.sampled_from(MACRO_OPERATIONS)) for _ in layers),
        skips=tuple(
            tuple(label for label in layers[:position] if draw(st.booleans())) for position in range(num_layers)
        ),
        layers=tuple(layers),
        num_layers=layers[-1] + 1 + (draw(st.integers(0, 3)) if gaps else 0),
    )


@st.composite
def micro_cells(
    draw, *, min_blocks: int = 1, max_blocks: int = 6, gaps: bool = False, cell_outputs: tuple[str, ...] = CELL_OUTPUTS
) -> MicroCell:
    """Convolutional cells of `min_blocks` to `max_blocks` nodes; with `gaps` others may have been removed."""
    labels = [0, 1]
    inputs, operations = [], []
    for _ in range(draw(st.integers(min_blocks, max_blocks))):
        inputs.append(tuple(draw(st.sampled_from(labels)) for _ in range(2)))
        operations.append(tuple(draw(st.sampled_from(MICRO_OPERATIONS)) for _ in range(2)))
        labels.append(labels[-1] + draw(st.integers(1, 3 if gaps else 1)))
    return MicroCell(tuple(inputs), tuple(operations), draw(st.sampled_from(cell_outputs)), tuple(labels[2:]))


@st.composite
def micro_networks(draw, *, gaps: bool = False, cell_outputs: tuple[str, ...] = CELL_OUTPUTS) -> MicroNetwork:
    """Micro networks, whose two cells have equally many nodes."""
    size = draw(st.integers(1, 5))
    cells = micro_cells(min_blocks=size, max_blocks=size, gaps=gaps, cell_outputs=cell_outputs)
    return MicroNetwork(draw(cells), draw(cells))

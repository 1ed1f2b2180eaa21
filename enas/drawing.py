"""Pictures of architectures, in the manner of the paper's Figures 1 and 6."""

import shutil
from pathlib import Path

import graphviz

from enas.files import atomic_write
from enas.search_space.rnn_cell import RNNCell

# Blue, yellow and vermilion of the Okabe-Ito palette, lightened for black text, and near white. Their
# lightness differs too: they stay apart for colour-blind readers and in a grey print.
ACTIVATION_COLOURS = {
    "tanh": "#7CC0EE",
    "ReLU": "#FFD24D",
    "identity": "#F5F5F5",
    "sigmoid": "#E08A5B",
}
INPUTS = ("x[t]", "h[t-1]")
MEAN = "avg"
OUTPUT = "h[t]"

_GRAPH_STYLE = {
    "dpi": "150",
    "pad": "0.2",
    "nodesep": "0.25",
    "ranksep": "0.35",
    "ordering": "out",
    "fontname": "Helvetica",
    "fontsize": "16",
    "labelloc": "t",
}
_NODE_STYLE = {
    "shape": "box",
    "style": "rounded,filled",
    "fillcolor": "white",
    "color": "#333333",
    "fontname": "Helvetica",
    "fontsize": "16",
    "height": "0.45",
    "margin": "0.15,0.05",
}
# The layout pulls heavy edges short: a node stays right below the one it reads, and only the grey
# edges into the mean run far.
_EDGE_STYLE = {"color": "#333333", "penwidth": "1.4", "arrowsize": "0.8", "weight": "16"}
_MEAN_EDGE_STYLE = {"color": "#888888", "penwidth": "1.1", "weight": "1"}


def dot_available() -> bool:
    """Whether the Graphviz program `dot`, which turns drawings into pictures, is installed."""
    return shutil.which("dot") is not None


def draw_cell(cell: RNNCell, path: str | Path, *, title: str | None = None) -> Path:
    """Draw a recurrent cell as a PNG, or write its .dot source where `dot` cannot make one.

    The file appears whole or not at all; its folder is made when missing.

    Args:
        cell: the cell to draw.
        path: where the picture goes; ends in .png.
        title: a line above the cell, such as "epoch 4, step 1600, perplexity 143.2".

    Returns:
        The file written: `path`, or the same name ending in .dot.

    Raises:
        ValueError: when `path` does not end in .png.
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"{path}: a picture's name must end in .png")
    graph = cell_graph(cell, title=title)
    try:
        return _write_atomically(path, graph.pipe(format="png"))
    except (graphviz.ExecutableNotFound, graphviz.CalledProcessError):
        # A missing program, or one built without PNG support, is no reason to end a search.
        return _write_atomically(path.with_suffix(".dot"), graph.source.encode())


def cell_graph(cell: RNNCell, *, title: str | None = None) -> graphviz.Digraph:
    """The drawing of a recurrent cell as a Graphviz graph, which a notebook shows as it is."""
    graph = graphviz.Digraph("cell", graph_attr=_GRAPH_STYLE, node_attr=_NODE_STYLE, edge_attr=_EDGE_STYLE)
    if title:
        # The empty line keeps the title clear of the boxes; Graphviz has no margin for it.
        graph.attr(label=graphviz.escape(f"{title}\n\n"))
    _add_boxes(graph, cell)
    _add_edges(graph, cell)
    return graph


def _add_boxes(graph: graphviz.Digraph, cell: RNNCell) -> None:
    for name in INPUTS:
        graph.node(name)
    for node, activation in zip(cell.nodes, cell.activations, strict=True):
        graph.node(str(node), label=f"{node}: {activation}", fillcolor=ACTIVATION_COLOURS[activation])
    graph.node(MEAN)
    graph.node(OUTPUT)


def _add_edges(graph: graphviz.Digraph, cell: RNNCell) -> None:
    for name in INPUTS:
        graph.edge(name, str(cell.nodes[0]))
    for previous, node in cell.edges:
        graph.edge(str(previous), str(node))
    for node in cell.output_nodes:
        graph.edge(str(node), MEAN, **_MEAN_EDGE_STYLE)
    graph.edge(MEAN, OUTPUT)


def _write_atomically(path: Path, content: bytes) -> Path:
    with atomic_write(path) as file:
        file.write(content)
    return path

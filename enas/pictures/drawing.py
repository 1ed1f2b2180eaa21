"""Pictures of architectures, in the style of Figures 1, 3, 5 and 6 of the paper."""

import itertools
from pathlib import Path

import graphviz

from enas.cnn.macro import STEM, MacroNetwork, reduction_layers
from enas.cnn.micro import CELL_INPUTS, CELL_NAMES, MicroCell, MicroNetwork
from enas.cnn.operation_names import OPERATIONS
from enas.errors import UserError
from enas.files import atomic_write
from enas.rnn.cell import ACTIVATIONS, RNNCell

INPUTS = ("x[t]", "h[t-1]")
MEAN = "avg"
OUTPUT = "h[t]"
MICRO_INPUTS = ("h[i-1]", "h[i]")
MICRO_OUTPUT = "h[i+1]"

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
_SKIP_EDGE_STYLE = {"color": "#8FA3B8", "penwidth": "1.2", "arrowsize": "0.7"}
_REDUCTION_STYLE = {
    "label": "reduce",
    "shape": "invtrapezium",
    "style": "filled",
    "fillcolor": "#D9D9D9",
    "fixedsize": "true",
}
_ADD_STYLE = {"shape": "ellipse", "style": "filled", "margin": "0.02"}
_CELL_STYLE = {"color": "#BBBBBB", "style": "rounded", "margin": "16"}
# Of a macro network, in points: the distance from box to box, and the width of a box.
_ROW = 56
_BOX_WIDTH = 136
_POINTS_PER_INCH = 72


def cell_graph(cell: RNNCell, *, title: str | None = None) -> graphviz.Digraph:
    """The drawing of a recurrent cell as a Graphviz graph, which a notebook shows as it is."""
    graph = new_graph("cell", title)
    for name in INPUTS:
        graph.node(name)
    for node, activation in zip(cell.nodes, cell.activations, strict=True):
        graph.node(str(node), label=f"{node}: {activation}", fillcolor=ACTIVATIONS[activation].colour)
    graph.node(MEAN)
    graph.node(OUTPUT)
    for name in INPUTS:
        graph.edge(name, str(cell.nodes[0]))
    for previous, node in cell.edges:
        graph.edge(str(previous), str(node))
    for node in cell.output_nodes:
        graph.edge(str(node), MEAN, **_MEAN_EDGE_STYLE)
    graph.edge(MEAN, OUTPUT)
    return graph


def macro_graph(network: MacroNetwork, *, title: str | None = None) -> graphviz.Digraph:
    """The drawing of a macro network as a Graphviz graph, whose positions `neato -n2` keeps as they are.

    `dot` cannot draw it: where there are many skips, it leads them through the chain of layers.
    """
    graph = new_graph("network", title)
    graph.engine = "neato"
    chain = _chain(network)
    heights = {name: -_ROW * row for row, (name, _) in enumerate(chain)}
    for name, style in chain:
        graph.node(name, pos=f"0,{heights[name]}", width=f"{_BOX_WIDTH / _POINTS_PER_INCH}", **style)
    for (above, _), (below, _) in itertools.pairwise(chain):
        graph.edge(above, below)
    for layer, skips in zip(network.layers, network.skips, strict=True):
        for earlier in skips:
            side = -1 if earlier == STEM or network.layers.index(earlier) % 2 else 1
            arc = _arc(heights[str(earlier)], heights[str(layer)], side)
            graph.edge(str(earlier), str(layer), pos=arc, **_SKIP_EDGE_STYLE)
    return graph


def _chain(network: MacroNetwork) -> list[tuple[str, dict[str, str]]]:
    """The boxes from the image to the softmax, top to bottom: names and attributes."""
    chain: list[tuple[str, dict[str, str]]] = [("image", {})]
    if network.reads_stem:
        chain.append((str(STEM), {"label": "stem"}))
    operations = dict(zip(network.layers, network.operations, strict=True))
    reductions = reduction_layers(network.num_layers)
    for layer in range(network.num_layers):
        if layer in operations:
            operation = OPERATIONS[operations[layer]]
            chain.append((str(layer), {"label": f"{layer}: {operation.label}", "fillcolor": operation.colour}))
        if layer in reductions:
            chain.append((f"reduction {reductions.index(layer)}", _REDUCTION_STYLE))
    return [*chain, ("softmax", {})]


def _arc(top: float, bottom: float, side: int) -> str:
    """Graphviz's spline of a skip at heights `top` to `bottom`, on the right (side 1) or on the left (−1).

    It leaves below the middle of its box and arrives above the middle of the other, which keeps incoming and outgoing
    skips of a layer apart. Longer skips swing further out.
    """
    top, bottom = top - _ROW / 12, bottom + _ROW / 12
    edge = _BOX_WIDTH / 2
    out = side * (edge + 20 + 0.42 * (top - bottom))
    tip, end = side * edge, side * (edge + 8)
    return f"e,{tip:g},{bottom:g} {side * edge:g},{top:g} {out:g},{top:g} {out:g},{bottom:g} {end:g},{bottom:g}"


def micro_graph(network: MicroNetwork, *, title: str | None = None) -> graphviz.Digraph:
    """The drawing of a micro network as a Graphviz graph, which a notebook shows as it is."""
    graph = new_graph("network", title)
    for name in CELL_NAMES:
        with graph.subgraph(name=f"cluster_{name}", graph_attr=_CELL_STYLE) as cluster:
            cluster.attr(label=f"{name} cell")
            _add_micro_cell(cluster, f"{name} ", getattr(network, name))
    return graph


def _add_micro_cell(graph: graphviz.Digraph, prefix: str, cell: MicroCell) -> None:
    with graph.subgraph(graph_attr={"rank": "source"}) as top:
        for label, name in zip(CELL_INPUTS, MICRO_INPUTS, strict=True):
            top.node(f"{prefix}{label}", label=name)
    for node, slot, source, operation in cell.edges:
        if slot == 0:
            graph.node(f"{prefix}{node}", label=f"{node}: add", **_ADD_STYLE)
        box = f"{prefix}{node} {slot}"
        graph.node(box, label=OPERATIONS[operation].label, fillcolor=OPERATIONS[operation].colour)
        graph.edge(f"{prefix}{source}", box)
        graph.edge(box, f"{prefix}{node}")
    graph.node(f"{prefix}concat", label="concat")
    for node in cell.output_nodes:
        graph.edge(f"{prefix}{node}", f"{prefix}concat", **_MEAN_EDGE_STYLE)
    graph.node(f"{prefix}output", label=MICRO_OUTPUT)
    graph.edge(f"{prefix}concat", f"{prefix}output")


def new_graph(name: str, title: str | None = None) -> graphviz.Digraph:
    """An empty graph in the style of all drawings here, with a title above it."""
    graph = graphviz.Digraph(name, graph_attr=_GRAPH_STYLE, node_attr=_NODE_STYLE, edge_attr=_EDGE_STYLE)
    if title:
        # The empty line keeps the title clear of the boxes; Graphviz has no margin for it.
        graph.attr(label=graphviz.escape(f"{title}\n\n"))
    return graph


def write_graph(graph: graphviz.Digraph, path: str | Path) -> Path:
    """Write a graph as a PNG or SVG, or its .dot source if `dot` cannot make one.

    The file is written whole or not at all; a missing folder is made.

    Args:
        graph: the drawing.
        path: where the picture goes; ends in .png or .svg.

    Returns:
        The file written: `path`, or the same name ending in .dot.

    Raises:
        UserError: `path` ends in something else, or cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise UserError(f"{path}: a picture's name must end in .png or .svg")
    try:
        content = graph.pipe(format=path.suffix[1:], neato_no_op=2 if graph.engine == "neato" else None)
    except (graphviz.ExecutableNotFound, graphviz.CalledProcessError):
        # A missing program, or one built without the format, must not end a search.
        path, content = path.with_suffix(".dot"), graph.source.encode()
    with atomic_write(path) as file:
        file.write(content)
    return path

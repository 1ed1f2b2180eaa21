"""Pictures of convolutional networks and cells, in the style of Figures 3, 5 and 6 of the paper."""

import itertools

import graphviz

from enas.cnn.macro import STEM, MacroNetwork
from enas.cnn.micro import CELL_INPUTS, MicroCell, MicroNetwork
from enas.cnn.network import macro_layers
from enas.cnn.operation_names import OPERATIONS
from enas.pictures.drawing import LIGHT_EDGE_STYLE, new_graph

_SKIP_COLOUR = "#8FA3B8"
_SKIP_EDGE_STYLE = {"color": _SKIP_COLOUR, "penwidth": "1.2", "arrowsize": "0.7"}
_SQUARE_STYLE = {"label": "", "shape": "square", "style": "filled", "width": "0.25", "height": "0.25"}
_REDUCE = {"label": "reduce", "shape": "invtrapezium", "style": "filled", "fillcolor": "#D9D9D9", "fixedsize": "true"}
_ADD_STYLE = {"shape": "ellipse", "style": "filled", "margin": "0.02"}
_CELL_STYLE = {"color": "#BBBBBB", "style": "rounded", "margin": "16"}
_INPUT_STYLE = {"label": "", "style": "invis", "margin": "1"}
_ROW, _BOX_WIDTH, _SQUARE = 56, 136, 22  # points: from box to box, the width of a box, and from square to square
_MOST_ARCS = 12  # layers; arcs of more hide each other


def macro_graph(network: MacroNetwork, *, title: str | None = None) -> graphviz.Digraph:
    """Draw a macro network as a Graphviz graph, whose positions `neato -n2` keeps as they are.

    Skips are arcs, or beside a deep network the squares of a triangle: to the left of a layer's number those that the
    layer reads are filled, and below it those that read the layer. `dot` would lead many skips through the chain.
    """
    graph = new_graph("network", title)
    graph.engine = "neato"
    chain = _chain(network)
    is_deep = len(network.layers) > _MOST_ARCS
    heights = {name: -_ROW * row * (0.8 if is_deep else 1) for row, (name, _) in enumerate(chain)}
    for name, style in chain:
        graph.node(name, pos=f"0,{heights[name]:g}", width=f"{_BOX_WIDTH / 72}", **style)
    for (above, _), (below, _) in itertools.pairwise(chain):
        graph.edge(above, below)
    (_add_triangle if is_deep else _add_arcs)(graph, network, heights)
    return graph


def _chain(network: MacroNetwork) -> list[tuple[str, dict[str, str]]]:
    """Return the boxes from the image to the softmax, top to bottom: names and attributes."""
    chain: list[tuple[str, dict[str, str]]] = [("image", {})]
    if network.reads_stem:
        chain.append((str(STEM), {"label": "stem"}))
    reductions = itertools.count()
    for layer, operation, _, reduced in macro_layers(vars(network)):
        if operation:
            label, colour = OPERATIONS[operation]
            chain.append((str(layer), {"label": f"{layer}: {label}", "fillcolor": colour}))
        if reduced:
            chain.append((f"reduction {next(reductions)}", _REDUCE))
    return [*chain, ("softmax", {})]


def _add_triangle(graph: graphviz.Digraph, network: MacroNetwork, heights: dict[str, float]) -> None:
    legend = "filled: the layer of the row reads the layer of the column"
    graph.node("legend", label=legend, shape="plain", pos=f"{_BOX_WIDTH / 2 + 11 * _SQUARE},0")
    readable = ((STEM,) if network.reads_stem else ()) + network.layers
    skips = dict(zip(network.layers, network.skips, strict=True))
    for row, layer in enumerate(readable):
        for column, earlier in enumerate(readable[: row + 1]):
            place = {"pos": f"{_BOX_WIDTH / 2 + _SQUARE * (column + 1)},{heights[str(layer)]:g}"}
            if earlier == layer:
                graph.node(f"of {layer}", label="stem" if layer == STEM else str(layer), shape="plain", **place)
            else:
                colour = {"fillcolor": _SKIP_COLOUR if earlier in skips[layer] else "white", "color": "#CCCCCC"}
                graph.node(f"{earlier} to {layer}", **_SQUARE_STYLE, **colour, **place)


def _add_arcs(graph: graphviz.Digraph, network: MacroNetwork, heights: dict[str, float]) -> None:
    # A skip leaves below the middle of its box and arrives above that of the other, which keeps a layer's skips apart.
    for layer, skips in zip(network.layers, network.skips, strict=True):
        for earlier in skips:
            side = -1 if earlier == STEM or network.layers.index(earlier) % 2 else 1
            top, bottom = heights[str(earlier)] - _ROW / 12, heights[str(layer)] + _ROW / 12
            tip, end, out = (side * (_BOX_WIDTH / 2 + beyond) for beyond in (0, 8, 20 + 0.42 * (top - bottom)))
            arc = f"e,{tip:g},{bottom:g} {tip:g},{top:g} {out:g},{top:g} {out:g},{bottom:g} {end:g},{bottom:g}"
            graph.edge(str(earlier), str(layer), pos=arc, **_SKIP_EDGE_STYLE)


def micro_graph(network: MicroNetwork, *, title: str | None = None) -> graphviz.Digraph:
    """Draw a micro network, one cell below the other, as a Graphviz graph, which a notebook shows as it is."""
    graph = new_graph("network", title)
    graph.attr(ordering="", ranksep="0.6")
    for name, cell in network.cells.items():
        style = {**_CELL_STYLE, "label": f"{name} cell"}
        with graph.subgraph(name=f"cluster_{name}", graph_attr=style) as cluster:
            _add_micro_cell(cluster, f"{name} ", cell)
    for label in CELL_INPUTS:
        graph.edge("normal output", f"reduction {label}", style="invis")
    return graph


def _add_micro_cell(graph: graphviz.Digraph, prefix: str, cell: MicroCell) -> None:
    # The operations that read an input stand together, so that no arrow of one input crosses one of the other.
    groups = {label: graphviz.Digraph(f"cluster_{prefix}{label}", graph_attr=_INPUT_STYLE) for label in CELL_INPUTS}
    for label, name in zip(CELL_INPUTS, ("h[i-1]", "h[i]"), strict=True):
        groups[label].node(f"{prefix}{label}", label=name)
    for node, slot, source, operation in cell.edges:
        box, (label, colour) = f"{prefix}{node} {slot}", OPERATIONS[operation]
        groups.get(source, graph).node(box, label=label, fillcolor=colour)
        graph.node(f"{prefix}{node}", label=f"{node}: add", **_ADD_STYLE)
        graph.edge(f"{prefix}{source}", box)
        graph.edge(box, f"{prefix}{node}")
    for group in groups.values():
        graph.subgraph(group)
    graph.node(f"{prefix}concat", label="concat")
    for node in cell.output_nodes:
        graph.edge(f"{prefix}{node}", f"{prefix}concat", **LIGHT_EDGE_STYLE)
    graph.node(f"{prefix}output", label="h[i+1]")
    graph.edge(f"{prefix}concat", f"{prefix}output")

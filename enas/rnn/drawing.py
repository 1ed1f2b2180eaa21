"""Pictures of recurrent cells, in the style of Figure 1 of the paper."""

import graphviz

from enas.pictures.drawing import LIGHT_EDGE_STYLE, new_graph
from enas.rnn.cell import ACTIVATIONS, RNNCell

INPUTS = ("x[t]", "h[t-1]")
MEAN = "avg"
OUTPUT = "h[t]"


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
        graph.edge(str(node), MEAN, **LIGHT_EDGE_STYLE)
    graph.edge(MEAN, OUTPUT)
    return graph

"""Pictures of recurrent cells, in the style of Figure 1 of the paper."""

import graphviz

from enas.pictures.drawing import LIGHT_EDGE_STYLE, new_graph
from enas.rnn.cell import ACTIVATIONS, RNNCell


def cell_graph(cell: RNNCell, *, title: str | None = None) -> graphviz.Digraph:
    """Draw a recurrent cell as a Graphviz graph, which a notebook shows as it is."""
    graph = new_graph("cell", title)
    for name in ("x[t]", "h[t-1]"):
        graph.edge(name, str(cell.nodes[0]))
    for node, activation in zip(cell.nodes, cell.activations, strict=True):
        graph.node(str(node), label=f"{node}: {activation}", fillcolor=ACTIVATIONS[activation].colour)
    for previous, node in cell.edges:
        graph.edge(str(previous), str(node))
    for node in cell.output_nodes:
        graph.edge(str(node), "avg", **LIGHT_EDGE_STYLE)
    graph.edge("avg", "h[t]")
    return graph

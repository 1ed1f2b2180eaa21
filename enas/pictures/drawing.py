"""The style of all drawings of architectures, and how they are written."""

from pathlib import Path
from subprocess import SubprocessError, TimeoutExpired, run

import graphviz

from enas.errors import UserError
from enas.files import atomic_write

LONGEST_DRAWING = 20  # seconds
_hanging: set[str] = set()  # programs that have not ended in this time, and are not begun again
_BEGINS = {".png": b"\x89PNG\r\n", ".svg": b"<?xml"}
_FONT = {"fontname": "Helvetica", "fontsize": "16"}
_LAYOUT = {"dpi": "150", "pad": "0.2", "nodesep": "0.25", "ranksep": "0.35", "ordering": "out", "labelloc": "t"}
_BOX = {"shape": "box", "style": "rounded,filled", "fillcolor": "white", "height": "0.45", "margin": "0.15,0.05"}
# Heavy edges are pulled short: a node stays right below the one it reads, and only grey edges, into the mean, run far.
_EDGE_STYLE = {"color": "#333333", "penwidth": "1.4", "arrowsize": "0.8", "weight": "16"}
LIGHT_EDGE_STYLE = {"color": "#888888", "penwidth": "1.1", "weight": "1"}


def new_graph(name: str, title: str | None = None) -> graphviz.Digraph:
    """Return an empty graph in the style of all drawings here, with a title above it."""
    node_style = {**_BOX, **_FONT, "color": "#333333"}
    graph = graphviz.Digraph(name, graph_attr=_LAYOUT | _FONT, node_attr=node_style, edge_attr=_EDGE_STYLE)
    if title:
        # The empty line keeps the title clear of the boxes; Graphviz has no margin for it.
        graph.attr(label=graphviz.escape(f"{title}\n\n"))
    return graph


def write_graph(graph: graphviz.Digraph, path: str | Path) -> Path:
    """Write a graph as a PNG or SVG, or its .dot source if `dot` cannot make one; returns the file written.

    The file is written whole or not at all; a missing folder is made. UserError for another ending, or if that fails.
    """
    path = Path(path)
    if path.suffix not in _BEGINS:
        raise UserError(f"{path}: a picture's name must end in .png or .svg")
    command = [graph.engine, f"-T{path.suffix[1:]}", *(["-n2"] if graph.engine == "neato" else [])]
    source, content = graph.source.encode(), b""
    try:  # Digraph.pipe has no limit of time
        if graph.engine not in _hanging:
            content = run(command, input=source, capture_output=True, check=True, timeout=LONGEST_DRAWING).stdout
    except TimeoutExpired:
        _hanging.add(graph.engine)
    except (OSError, SubprocessError):
        pass  # a missing program, or one without the format, must not end a search
    if not content.startswith(_BEGINS[path.suffix]):
        path, content = path.with_suffix(".dot"), source
    with atomic_write(path) as file:
        file.write(content)
    return path

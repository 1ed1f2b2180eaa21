"""Drawings of architectures: what is in them, where it is, and what is left on disk."""

import os
import re
from itertools import groupby, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from PIL import Image
from strategies import cells, macro_networks, micro_networks
from tiny import needs_dot

from enas.cnn.drawing import macro_graph, micro_graph
from enas.cnn.macro import STEM, MacroNetwork
from enas.cnn.micro import CELL_INPUTS, MicroCell, MicroNetwork
from enas.cnn.network import reduction_layers
from enas.cnn.operation_names import MACRO_OPERATIONS, OPERATIONS
from enas.pictures import drawing
from enas.pictures.drawing import write_graph
from enas.rnn.cell import ACTIVATIONS, RNNCell
from enas.rnn.drawing import cell_graph

pytestmark = pytest.mark.usefixtures("rendered")

TITLE = "epoch 4, step 1600, perplexity 143.2"
CELL = RNNCell(("tanh", "ReLU", "sigmoid", "identity"), (0, 1, 0))
CHAIN = RNNCell(("tanh",) * 12, tuple(range(11)))
STAR = RNNCell(("sigmoid",) * 12, (0,) * 11)
DENSE = MacroNetwork(MACRO_OPERATIONS * 2, tuple(tuple(range(layer)) for layer in range(12)))
DEEP = MacroNetwork(MACRO_OPERATIONS * 4, tuple((0, layer - 1) if layer > 1 else () for layer in range(24)))
MACRO = MacroNetwork(("conv3x3", "max3x3", "sep5x5"), ((), (0,), (0,)))
CONVOLUTIONAL = MicroCell(((0, 1), (2, 0)), (("sep3x3", "max3x3"), ("identity", "avg3x3")))
MICRO = MicroNetwork(CONVOLUTIONAL, CONVOLUTIONAL.replace_part("sep5x5"))


def edges_of(graph) -> list[tuple[str, str]]:
    """The edges of a drawing, by name, in order."""
    return re.findall(r'^\s*"?([^"\n]+?)"? -> "?([^"\n]+?)"?(?: \[.*\])?$', graph.source, re.MULTILINE)


def boxes_of(graph) -> dict[str, tuple[str, str]]:
    """Label and colour of each coloured box, by name."""
    box = r'^\s*"?([^"\n]+?)"? \[label=(?:"(.+?)"|(\S+)) (?:.*? )?fillcolor="(.*?)"'
    found = re.findall(box, graph.source, re.MULTILINE)
    return {name: (quoted or label, colour) for name, quoted, label, colour in found}


def places_of(graph) -> dict[str, tuple[float, float]]:
    """The centre of each box, in inches from the left and above the bottom of the drawing."""
    plain = graph.pipe(format="plain", encoding="utf-8", neato_no_op=2 if graph.engine == "neato" else None)
    found = re.findall(r'^node (?:"([^"]+)"|(\S+)) (\S+) (\S+)', plain, re.MULTILINE)
    return {quoted or name: (float(x), float(y)) for quoted, name, x, y in found}


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_edges_of_small_architectures():
    assert edges_of(cell_graph(CELL)) == [
        ("x[t]", "0"), ("h[t-1]", "0"), ("0", "1"), ("1", "2"), ("0", "3"), ("2", "avg"), ("3", "avg"), ("avg", "h[t]"),
    ]  # fmt: skip
    chain = ["image", "0", "reduction 0", "1", "reduction 1", "2", "softmax"]
    assert edges_of(macro_graph(MACRO)) == [*pairwise(chain), ("0", "1"), ("0", "2")]
    stem = macro_graph(MacroNetwork(MACRO.operations, ((), (), (STEM, 0))))
    assert edges_of(stem) == [*pairwise(["image", "-1", *chain[1:]]), ("-1", "2"), ("0", "2")]
    assert "label=stem" in stem.source
    cell = [("0", "2 0"), ("2 0", "2"), ("1", "2 1"), ("2 1", "2")]
    cell += [("2", "3 0"), ("3 0", "3"), ("0", "3 1"), ("3 1", "3"), ("3", "concat"), ("concat", "output")]
    expected = [(f"{name} {a}", f"{name} {b}") for name in ("normal", "reduction") for a, b in cell]
    *found, above, beside = edges_of(micro_graph(MICRO))
    assert found == expected and micro_graph(MICRO).source.count('" [style=invis]') == 2
    assert (above, beside) == (("normal output", "reduction 0"), ("normal output", "reduction 1"))


@given(cells(gaps=True))
def test_a_cell_has_its_nodes_edges_and_mean(cell):
    edges = edges_of(cell_graph(cell))
    assert [(int(a), int(b)) for a, b in edges if a.isdigit() and b.isdigit()] == list(cell.edges)
    assert [int(a) for a, b in edges if b == "avg"] == list(cell.output_nodes)
    assert len(edges) == len(cell.edges) + len(cell.output_nodes) + 3
    assert boxes_of(cell_graph(cell)) == {
        str(node): (f"{node}: {activation}", ACTIVATIONS[activation].colour)
        for node, activation in zip(cell.nodes, cell.activations, strict=True)
    }


@given(macro_networks(gaps=True))
def test_a_macro_network_is_a_chain_of_its_layers_and_reductions_and_its_skips(network):
    """A reduction is where the model has it, however many layers were removed before or after it."""
    found = edges_of(macro_graph(network))
    chain = ["image"]
    for layer in range(network.num_layers):
        chain += [str(layer)] * (layer in network.layers)
        chain += [f"reduction {sum(name.startswith('red') for name in chain)}"] * (
            layer in reduction_layers(network.num_layers)
        )
    skips = [(str(j), str(k)) for k, labels in zip(network.layers, network.skips, strict=True) for j in labels]
    assert found == [*pairwise([*chain, "softmax"]), *skips]
    boxes = boxes_of(macro_graph(network))
    for layer, operation in zip(network.layers, network.operations, strict=True):
        assert boxes[str(layer)] == (f"{layer}: {OPERATIONS[operation][0]}", OPERATIONS[operation][1])


@given(micro_networks(gaps=True))
def test_a_micro_cell_joins_its_inputs_by_its_operations(network):
    found, boxes = edges_of(micro_graph(network)), boxes_of(micro_graph(network))
    for name, cell in (("normal", network.normal), ("reduction", network.reduction)):
        for node, inputs, operations in zip(cell.nodes, cell.inputs, cell.operations, strict=True):
            for side in (0, 1):
                box = f"{name} {node} {side}"
                assert {(f"{name} {inputs[side]}", box), (box, f"{name} {node}")} <= set(found)
                assert boxes[box] == OPERATIONS[operations[side]]
        concat = [int(a.split()[1]) for a, b in found if b == f"{name} concat"]
        assert concat == list(cell.output_nodes)


def test_colours_differ():
    for colours in ([part.colour for part in ACTIVATIONS.values()], [colour for _, colour in OPERATIONS.values()]):
        assert len(set(colours)) == len(colours)


# --- where it is ------------------------------------------------------------------------------------------------------


@needs_dot
@pytest.mark.parametrize(
    ("graph", "order"),
    [
        (cell_graph(STAR), ["x[t]", "0", "1", "avg", "h[t]"]),
        (micro_graph(MICRO), [f"normal {name}" for name in ("0", "2 0", "2", "3 0", "3", "concat", "output")]),
    ],
    ids=["cell", "micro"],
)
def test_cells_run_from_top_to_bottom(graph, order):
    place = places_of(graph)
    heights = [place[name][1] for name in order]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == len(heights)
    first = [y for name, (_, y) in place.items() if not name.startswith("reduction")]
    assert heights[0] == max(first) and heights[-1] == min(first)


@needs_dot
def test_the_cells_of_a_micro_network_stand_one_below_the_other():
    place = places_of(micro_graph(MICRO))
    assert max(y for name, (_, y) in place.items() if name.startswith("reduction")) < place["normal output"][1]


@needs_dot
@given(micro_networks())
@settings(max_examples=5)
def test_no_arrow_of_one_input_crosses_one_of_the_other(network):
    """The boxes that read an input stand together, in each row."""
    place = places_of(micro_graph(network))
    for name, cell in network.cells.items():
        reads = {f"{name} {node} {slot}": source for node, slot, source, _ in cell.edges if source in CELL_INPUTS}
        for height in {place[box][1] for box in reads}:
            row = sorted((place[box][0], source) for box, source in reads.items() if place[box][1] == height)
            assert len([*groupby(source for _, source in row)]) <= 2


@needs_dot
def test_a_deep_network_has_a_square_for_each_pair_beside_its_layers():
    graph = macro_graph(DEEP)
    place = places_of(graph)
    assert not any(a.isdigit() and int(b) > int(a) + 1 for a, b in edges_of(graph) if b.isdigit())
    filled = set(re.findall(r'"(\d+ to \d+)" \[label="" color="#CCCCCC" fillcolor="#8FA3B8"', graph.source))
    assert filled == {f"{earlier} to {layer}" for layer, skips in enumerate(DEEP.skips) for earlier in skips}
    for layer in range(24):
        assert place[f"of {layer}"][1] == place[str(layer)][1]  # its number ends the row of its box
        for earlier in range(layer):
            assert place[f"{earlier} to {layer}"] == (place[f"of {earlier}"][0], place[str(layer)][1])


@needs_dot
def test_layers_stand_in_a_column_and_skips_stay_clear_of_the_layers_they_pass():
    """A curve lies between its end points and beyond the boxes' sides: all of its control points do."""
    plain = macro_graph(DENSE).pipe(format="plain", encoding="utf-8", neato_no_op=2)
    boxes = {
        name: (float(x), float(y), float(width))
        for name, x, y, width in re.findall(r'^node "?([^" ]+(?: \d)?)"? (\S+) (\S+) (\S+)', plain, re.MULTILINE)
    }
    assert len({x for x, _, _ in boxes.values()}) == 1
    skips = re.findall(r"^edge (\d+) (\d+) 4 ((?:-?[\d.]+ ){8})", plain, re.MULTILINE)
    curves = [
        (start, end, [float(number) for number in points.split()])
        for start, end, points in skips
        if len({float(x) for x in points.split()[::2]}) > 1  # the chain's edges are straight
    ]
    assert len(curves) == 66
    for start, end, points in curves:
        x, _, width = boxes[start]
        assert all(abs(across - x) >= width / 2 - 1e-3 for across in points[::2])
        assert all(boxes[end][1] < height < boxes[start][1] for height in points[1::2])


# --- files ------------------------------------------------------------------------------------------------------------


@needs_dot
@pytest.mark.parametrize("title", ['a "quoted" name', r"back\slash \N \G", "<b>not HTML</b>", "café 例", None])
def test_a_title_is_drawn_as_it_is(tmp_path, title):
    svg = write_graph(cell_graph(CELL, title=title), tmp_path / "cell.svg").read_text(encoding="utf-8")
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]
    boxes = {*boxes_of(cell_graph(CELL))}
    assert len(texts) == len(boxes) + 4 + (title is not None)
    assert title is None or title in texts


GRAPHS = {
    "cell": cell_graph(CELL, title=TITLE),
    "chain": cell_graph(CHAIN, title=TITLE),
    "macro": macro_graph(MACRO, title=TITLE),
    "dense": macro_graph(DENSE, title=TITLE),
    "deep": macro_graph(DEEP, title=TITLE),
    "micro": micro_graph(MICRO, title=TITLE),
}


@needs_dot
@pytest.mark.parametrize("name", GRAPHS)
def test_a_picture_is_a_png_of_sensible_size(tmp_path, name):
    path = write_graph(GRAPHS[name], tmp_path / "made" / "4-1600-143.2-best.png")
    with Image.open(path, formats=["PNG"]) as picture:
        assert min(picture.size) > 300 and max(picture.size) < 4000
    assert [*(tmp_path / "made").iterdir()] == [path]


@pytest.mark.parametrize(
    "dot",
    [None, "#!/bin/sh\nexit 1\n", "#!/bin/sh\n", "#!/bin/sh\necho no picture\n", "#!/bin/nothing\n"],
    ids=["missing", "broken", "silent", "another program", "not a program"],
)
@pytest.mark.parametrize("name", ["cell", "macro"])
def test_without_graphviz_the_source_is_written(tmp_path, monkeypatch, name, dot):
    programs, path = tmp_path / "bin", tmp_path / "pictures" / "4-1600-143.2-best.png"
    programs.mkdir()
    for program in ("dot", "neato") if dot else ():
        (programs / program).write_text(dot)
        (programs / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    for graph in (GRAPHS["chain"], GRAPHS[name]):  # the second replaces the first
        assert write_graph(graph, path) == path.with_suffix(".dot")
    assert path.with_suffix(".dot").read_text(encoding="utf-8") == GRAPHS[name].source
    assert TITLE in GRAPHS[name].source
    assert os.listdir(path.parent) == ["4-1600-143.2-best.dot"]


def test_a_graphviz_that_hangs_is_waited_for_once(tmp_path, monkeypatch):
    program = tmp_path / "dot"
    program.write_text(f"#!/bin/sh\necho begun >> {tmp_path}/begun\nexec /bin/sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(drawing, "LONGEST_DRAWING", 1)
    monkeypatch.setattr(drawing, "_hanging", set())
    for name in ("one", "two"):
        assert write_graph(GRAPHS["cell"], tmp_path / f"{name}.png") == tmp_path / f"{name}.dot"
    assert (tmp_path / "begun").read_text() == "begun\n"


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cell\.pdf: a picture's name must end in \.png or \.svg"):
        write_graph(GRAPHS["cell"], tmp_path / "cell.pdf")
    assert os.listdir(tmp_path) == []

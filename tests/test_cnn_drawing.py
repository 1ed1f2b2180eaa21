"""Drawings of convolutional architectures: what is in them, and where it is."""

import re
from itertools import combinations, pairwise

import pytest
from cnn_strategies import macro_networks, micro_networks
from hypothesis import given
from PIL import Image

from enas.pictures.drawing import (
    dot_available,
    draw_macro,
    draw_micro,
    macro_graph,
    micro_graph,
)
from enas.search_space import MACRO_OPERATIONS, MICRO_OPERATIONS, STEM, MacroNetwork, MicroCell, MicroNetwork
from enas.search_space.operations import OPERATIONS

pytestmark = pytest.mark.usefixtures("rendered")
needs_dot = pytest.mark.skipif(not dot_available(), reason="the Graphviz program `dot` is not installed")

COLOURS = {name: operation.colour for name, operation in OPERATIONS.items()}
TITLE = "epoch 4, step 1600, accuracy 0.71"
DENSE = MacroNetwork(MACRO_OPERATIONS * 2, tuple(tuple(range(layer)) for layer in range(12)))
SMALL = MacroNetwork(("conv3x3", "max3x3", "sep5x5"), ((), (0,), (0,)))
CELL = MicroCell(((0, 1), (2, 0)), (("sep3x3", "max3x3"), ("identity", "avg3x3")))
MICRO = MicroNetwork(CELL, CELL.replace_operations("sep5x5"))


def edges(graph) -> list[tuple[str, str]]:
    """The edges of a drawing, by name, in order."""
    return re.findall(r'^\s*"?([^"\n]+?)"? -> "?([^"\n]+?)"?(?: \[.*\])?$', graph.source, re.MULTILINE)


def test_every_operation_has_a_label_and_a_colour_legible_under_black():
    assert set(OPERATIONS) == {*MACRO_OPERATIONS, *MICRO_OPERATIONS}
    assert all((luminance(colour) + 0.05) / 0.05 >= 7 for colour in COLOURS.values())  # WCAG 2.1, level AAA
    for one, other in combinations(COLOURS.values(), 2):
        assert one != other


@pytest.mark.parametrize(("small", "large"), [("conv3x3", "conv5x5"), ("sep3x3", "sep5x5"), ("avg3x3", "max3x3")])
def test_two_operations_of_one_hue_are_told_apart_in_grey(small, large):
    lighter, darker = (luminance(COLOURS[name]) + 0.05 for name in (small, large))
    assert lighter / darker > 1.25


def luminance(colour: str) -> float:
    """The relative luminance of a colour #RRGGBB, 0 to 1 (WCAG 2.1)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# Macro


def test_edges_of_a_small_network():
    chain = ["image", "0", "reduction 0", "1", "reduction 1", "2", "softmax"]
    assert edges(macro_graph(SMALL)) == [*pairwise(chain), ("0", "1"), ("0", "2")]
    for layer, operation in enumerate(SMALL.operations):
        [line] = [line for line in macro_graph(SMALL).source.splitlines() if f'label="{layer}: ' in line]
        assert OPERATIONS[operation].label in line and COLOURS[operation] in line


def test_the_stem_is_drawn_where_it_is_skipped_from():
    network = MacroNetwork(SMALL.operations, ((), (), (STEM, 0)))
    found = edges(macro_graph(network))
    assert found[:3] == [("image", "-1"), ("-1", "0"), ("0", "reduction 0")]
    assert ("-1", "2") in found
    assert 'label="stem"' in macro_graph(network).source or "label=stem" in macro_graph(network).source


@given(macro_networks(gaps=True))
def test_a_network_is_a_chain_of_its_layers_and_its_skips(network):
    found = edges(macro_graph(network))
    skips = [(str(j), str(k)) for k, labels in zip(network.layers, network.skips, strict=True) for j in labels]
    chain = found[: len(found) - len(skips)]
    assert found[len(chain) :] == skips
    assert all(above[1] == below[0] for above, below in pairwise(chain))
    names = [chain[0][0], *(below for _, below in chain)]
    assert [int(name) for name in names if name.isdigit()] == list(network.layers)
    assert sum(name.startswith("reduction") for name in names) == network.stages[-1]


def test_a_reduction_stays_where_it_is_when_the_layer_before_it_is_removed():
    names = [below for _, below in edges(macro_graph(DENSE.remove_node(3)))]
    assert names[3:6] == ["reduction 0", "4", "5"]


@needs_dot
def test_skips_stay_clear_of_the_layers_they_pass():
    """A curve lies between its end points and beyond the boxes' sides: all of its control points do."""
    plain = macro_graph(DENSE).pipe(format="plain", encoding="utf-8", neato_no_op=2)
    boxes = {
        name: (float(x), float(y), float(width))
        for name, x, y, width in re.findall(r'^node "?([^" ]+(?: \d)?)"? (\S+) (\S+) (\S+)', plain, re.MULTILINE)
    }
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


# Micro


def test_edges_of_a_small_cell():
    cell = [("0", "2 0"), ("2 0", "2"), ("1", "2 1"), ("2 1", "2")]
    cell += [("2", "3 0"), ("3 0", "3"), ("0", "3 1"), ("3 1", "3"), ("3", "concat"), ("concat", "output")]
    expected = [(f"{name} {a}", f"{name} {b}") for name in ("normal", "reduction") for a, b in cell]
    assert edges(micro_graph(MICRO)) == expected


@given(micro_networks(gaps=True))
def test_a_cell_joins_its_inputs_by_its_operations(network):
    source = micro_graph(network).source
    found = edges(micro_graph(network))
    for name, cell in (("normal", network.normal), ("reduction", network.reduction)):
        for node, inputs, operations in zip(cell.nodes, cell.inputs, cell.operations, strict=True):
            for side in (0, 1):
                box = f"{name} {node} {side}"
                assert {(f"{name} {inputs[side]}", box), (box, f"{name} {node}")} <= set(found)
                [line] = [line for line in source.splitlines() if line.strip().startswith(f'"{box}" [')]
                assert OPERATIONS[operations[side]].label in line and COLOURS[operations[side]] in line
        concat = [int(a.split()[1]) for a, b in found if b == f"{name} concat"]
        assert concat == list(cell.output_nodes)


@needs_dot
def test_inputs_are_on_top_the_output_at_the_bottom_and_the_cells_side_by_side():
    plain = micro_graph(MICRO).pipe(format="plain", encoding="utf-8")
    found = re.findall(r'^node "([^"]+)" (\S+) (\S+)', plain, re.MULTILINE)
    across = {name: float(x) for name, x, _ in found}
    height = {name: float(y) for name, _, y in found}
    for cell in ("normal", "reduction"):
        of_cell = [y for name, y in height.items() if name.startswith(cell)]
        assert height[f"{cell} 0"] == height[f"{cell} 1"] == max(of_cell)
        assert height[f"{cell} output"] == min(of_cell)
    assert max(x for name, x in across.items() if name.startswith("normal")) < across["reduction 0"]


# Files


@needs_dot
@pytest.mark.parametrize(
    ("draw", "network"),
    [(draw_macro, SMALL), (draw_macro, DENSE), (draw_micro, MICRO)],
    ids=["small", "dense", "micro"],
)
def test_picture_is_a_png_of_sensible_size(tmp_path, draw, network):
    path = draw(network, tmp_path / "network.png", title=TITLE)
    assert path == tmp_path / "network.png"
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert 300 < picture.width < 4000
        assert 300 < picture.height < 4000


@pytest.mark.parametrize(
    ("draw", "graph", "network"), [(draw_macro, macro_graph, SMALL), (draw_micro, micro_graph, MICRO)]
)
def test_without_graphviz_the_source_is_written(tmp_path, monkeypatch, draw, graph, network):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = draw(network, tmp_path / "network.png", title=TITLE)
    assert path == tmp_path / "network.dot"
    assert path.read_text(encoding="utf-8") == graph(network, title=TITLE).source
    assert TITLE in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"network\.pdf: a picture's name must end in \.png"):
        draw(network, tmp_path / "network.pdf")

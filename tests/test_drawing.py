"""Drawings of recurrent cells: what is in them, and what is left on disk."""

import os
import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from PIL import Image
from strategies import cells

from enas.pictures.drawing import cell_graph, dot_available, draw_cell
from enas.search_space.rnn_cell import ACTIVATIONS, PAPER_ACTIVATIONS, RNNCell

pytestmark = pytest.mark.usefixtures("rendered")
needs_dot = pytest.mark.skipif(not dot_available(), reason="the Graphviz program `dot` is not installed")

TITLE = "epoch 4, step 1600, perplexity 143.2"
CELL = RNNCell(("tanh", "ReLU", "sigmoid", "identity"), (0, 1, 0))
CHAIN = RNNCell(("tanh",) * 12, tuple(range(11)))
STAR = RNNCell(("sigmoid",) * 12, (0,) * 11)


def test_boxes_carry_number_activation_and_colour():
    source = cell_graph(CELL).source
    assert _labels(source) == {"0": "0: tanh", "1": "1: ReLU", "2": "2: sigmoid", "3": "3: identity"}
    for node, activation in zip(CELL.nodes, CELL.activations, strict=True):
        line = next(line for line in source.splitlines() if f'"{node}: {activation}"' in line)
        assert ACTIVATIONS[activation].colour in line


def test_edges_of_a_small_cell():
    assert _edges(cell_graph(CELL).source) == [
        ("x[t]", "0"),
        ("h[t-1]", "0"),
        ("0", "1"),
        ("1", "2"),
        ("0", "3"),
        ("2", "avg"),
        ("3", "avg"),
        ("avg", "h[t]"),
    ]


@given(cells(gaps=True))
def test_edges_are_those_of_the_cell(cell):
    edges = _edges(cell_graph(cell).source)
    between_nodes = [(int(a), int(b)) for a, b in edges if a.isdigit() and b.isdigit()]
    into_mean = [int(a) for a, b in edges if b == "avg"]
    assert between_nodes == list(cell.edges)
    assert into_mean == list(cell.output_nodes)
    assert len(edges) == len(between_nodes) + len(into_mean) + 3
    assert set(_labels(cell_graph(cell).source)) == {str(node) for node in cell.nodes}


def test_cell_output_all_averages_inner_nodes_too():
    cell = RNNCell(CELL.activations, CELL.previous, cell_output="all")
    assert [a for a, b in _edges(cell_graph(cell).source) if b == "avg"] == ["1", "2", "3"]


def test_removed_nodes_leave_the_other_numbers():
    source = cell_graph(CELL.remove_node(1)).source
    assert _labels(source) == {"0": "0: tanh", "2": "2: sigmoid", "3": "3: identity"}
    assert ("0", "2") in _edges(source)


def test_the_same_cell_is_drawn_the_same():
    assert cell_graph(CELL, title=TITLE).source == cell_graph(CELL, title=TITLE).source


def test_title_only_when_given():
    assert TITLE in cell_graph(CELL, title=TITLE).source
    assert not re.search(r"^\tlabel=", cell_graph(CELL).source, re.MULTILINE)


@needs_dot
@pytest.mark.parametrize("title", [TITLE, 'a "quoted" name', r"back\slash \N \G", "<b>not HTML</b>", "café 例"])
def test_title_is_drawn_as_it_is(title):
    svg = cell_graph(CELL, title=title).pipe(format="svg")
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]
    assert title in texts


@needs_dot
def test_inputs_are_on_top_and_output_at_the_bottom():
    height = _heights(cell_graph(STAR))
    assert height["x[t]"] == height["h[t-1]"] == max(height.values())
    assert height["0"] > height["1"] > height["avg"] > height["h[t]"] == min(height.values())


@needs_dot
def test_a_node_stays_right_below_the_one_it_reads():
    cell = RNNCell(("tanh",) * 6, (0, 1, 2, 3, 0))
    height = _heights(cell_graph(cell))
    assert height["5"] == height["1"]


def test_colours_of_activations_are_legible_and_those_of_the_paper_told_apart_in_grey():
    luminances = {name: _luminance(activation.colour) for name, activation in ACTIVATIONS.items()}
    assert all((luminance + 0.05) / 0.05 >= 7 for luminance in luminances.values())  # WCAG 2.1, level AAA
    assert len({activation.colour for activation in ACTIVATIONS.values()}) == len(ACTIVATIONS)
    for one, other in combinations([luminances[name] for name in PAPER_ACTIVATIONS], 2):
        assert (max(one, other) + 0.05) / (min(one, other) + 0.05) > 1.25


@needs_dot
@pytest.mark.parametrize("cell", [CELL, CHAIN, STAR, RNNCell(("tanh",), ())], ids=["small", "chain", "star", "one"])
def test_picture_is_a_png_of_sensible_size(tmp_path, cell):
    path = draw_cell(cell, tmp_path / "cell.png", title=TITLE)
    assert path == tmp_path / "cell.png"
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert 300 < picture.width < 4000
        assert 300 < picture.height < 4000
    assert os.listdir(tmp_path) == ["cell.png"]


@needs_dot
def test_a_longer_chain_is_a_taller_picture(tmp_path):
    with (
        Image.open(draw_cell(CELL, tmp_path / "small.png")) as small,
        Image.open(draw_cell(CHAIN, tmp_path / "tall.png")) as tall,
    ):
        assert tall.height > 1.5 * small.height


def test_without_dot_the_source_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not dot_available()
    path = draw_cell(CELL, tmp_path / "4-1600-143.2-best.png", title=TITLE)
    assert path == tmp_path / "4-1600-143.2-best.dot"
    assert path.read_text(encoding="utf-8") == cell_graph(CELL, title=TITLE).source
    assert os.listdir(tmp_path) == [path.name]


def test_where_dot_fails_the_source_is_written(tmp_path, monkeypatch):
    programs, pictures = tmp_path / "bin", tmp_path / "pictures"
    programs.mkdir()
    broken = programs / "dot"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    assert draw_cell(CELL, pictures / "cell.png") == pictures / "cell.dot"
    assert os.listdir(pictures) == ["cell.dot"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    path = draw_cell(CELL, tmp_path / "cell.png")
    before = path.read_bytes()

    def full_disk(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr("enas.runs.files.os.replace", full_disk)
    with pytest.raises(ValueError, match="no space"):
        draw_cell(STAR, tmp_path / "cell.png")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["cell.dot"]


def test_a_second_drawing_replaces_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    draw_cell(CELL, tmp_path / "cell.png")
    path = draw_cell(STAR, tmp_path / "cell.png")
    assert path.read_text(encoding="utf-8") == cell_graph(STAR).source


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cell\.pdf: a picture's name must end in \.png"):
        draw_cell(CELL, tmp_path / "cell.pdf")
    assert os.listdir(tmp_path) == []


def _labels(source: str) -> dict[str, str]:
    """The label of each numbered box in a .dot source."""
    return dict(re.findall(r'^\t(\d+) \[.*?label="([^"]*)"', source, re.MULTILINE))


def _edges(source: str) -> list[tuple[str, str]]:
    """The edges in a .dot source, by name, in order."""
    found = re.findall(r'^\t"?([^"\n]+?)"? -> "?([^"\n]+?)"?(?: \[.*\])?$', source, re.MULTILINE)
    return [(start, end) for start, end in found]


def _heights(graph) -> dict[str, float]:
    """The height of each box's centre, in inches above the bottom of the drawing."""
    plain = graph.pipe(format="plain", encoding="utf-8")
    return {name: float(y) for name, y in re.findall(r'^node "?([^" ]+)"? \S+ (\S+)', plain, re.MULTILINE)}


def _luminance(colour: str) -> float:
    """The relative luminance of a colour #RRGGBB, 0 to 1 (WCAG 2.1)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

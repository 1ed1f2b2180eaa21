"""Plots: what their artists show, and what they do with values that are not finite."""

import itertools
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image

from enas.pictures.plots import bars_figure, table_figure, write_figure

ROWS, COLUMNS = ["0", "1", "2"], ["tanh", "ReLU"]
VALUES = [[143.2, 150.0], [140.0, 143.2], [143.2, 160.5]]
OWN = ["tanh", "ReLU", "tanh"]
TABLE = {
    "own": OWN,
    "baseline": 143.2,
    "metric": "perplexity",
    "higher_is_better": False,
    "names": ("node", "activation"),
    "title": "one activation replaced",
}
# The same differences, but in shares, of which more is better.
SHARES = [[0.6, 0.65], [0.55, 0.6], [0.6, 0.1]]
ACCURACY = {**TABLE, "baseline": 0.6, "metric": "accuracy", "higher_is_better": True, "names": ("layer", "operation")}

LABELS = ["node 1", "node 2", "node 3"]
SERIES = {"validation": [150.0, 145.0, 160.0], "test": [146.0, 141.0, 157.0]}
BARS = {
    "baseline": {"validation": 143.2, "test": 139.5},
    "metric": "perplexity",
    "title": "one node removed",
}


def changed(values: list[list[float]], row: int, column: int, value: float) -> list[list[float]]:
    """A copy with one value changed."""
    copy = [list(line) for line in values]
    copy[row][column] = value
    return copy


def colours(figure) -> np.ndarray:
    """The colour of every cell of a table, [R, C, 4]."""
    (image,) = figure.axes[0].images
    return image.to_rgba(image.get_array())


def texts(figure) -> dict[tuple[int, int], str]:
    """What is written in every cell of a table, by row and column."""
    return {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in figure.axes[0].texts}


def heights(figure) -> list[list[float]]:
    """The heights of the bars of each series."""
    return [[bar.get_height() for bar in container] for container in figure.axes[0].containers]


def lines(figure) -> list[float]:
    """The heights of the horizontal lines."""
    return [line.get_ydata()[0] for line in figure.axes[0].lines]


# --- tables -----------------------------------------------------------------------------------------------------------


def test_every_value_is_written_in_its_cell():
    values = changed(changed(VALUES, 0, 1, 52345.6), 2, 1, 0.91234)
    written = texts(table_figure(ROWS, COLUMNS, values, **TABLE))
    assert written == {
        (0, 0): "143.2", (0, 1): "52346",
        (1, 0): "140", (1, 1): "143.2",
        (2, 0): "143.2", (2, 1): "0.9123",
    }  # fmt: skip


def test_rows_and_columns_are_named():
    axes = table_figure(ROWS, COLUMNS, VALUES, **TABLE).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ROWS
    assert [label.get_text() for label in axes.get_xticklabels()] == COLUMNS
    assert axes.get_title() == "one activation replaced"


@given(
    values=st.lists(st.lists(st.floats(100, 190), min_size=2, max_size=2), min_size=3, max_size=3),
    largest=st.sampled_from([1.0, 1e4]),
)
def test_colour_is_the_side_of_the_baseline_and_the_distance_from_it(values, largest):
    """On a linear and on a logarithmic scale: the more above, the redder; as far below, as blue."""
    values[0] = [143.2, 143.2 + 100 * largest]
    (image,) = table_figure(ROWS, COLUMNS, values, **TABLE).axes[0].images
    places = np.asarray(image.norm(image.get_array()))
    differences = np.array(values) - 143.2
    assert places[0, 0] == pytest.approx(0.5)
    assert places[0, 1] == pytest.approx(1)
    assert (np.sign(places - 0.5)[abs(differences) > 1e-6] == np.sign(differences)[abs(differences) > 1e-6]).all()
    assert (np.diff(places.ravel()[differences.ravel().argsort()]) >= 0).all()
    assert np.asarray(image.norm(-differences)) == pytest.approx(1 - places)


@pytest.mark.parametrize("largest", [160.0, 50_000.0])
def test_above_is_red_below_is_blue_and_the_baseline_is_neutral(largest):
    painted = colours(table_figure(ROWS, COLUMNS, changed(VALUES, 2, 1, largest), **TABLE))
    neutral, above, below = painted[0, 0], painted[2, 1], painted[1, 0]
    assert np.ptp(neutral[:3]) < 0.02 and neutral[:3].min() > 0.9
    assert above[0] > above[2] + 0.25
    assert below[2] > below[0] + 0.05


def test_of_what_is_better_higher_above_is_blue_and_below_is_red():
    painted = colours(table_figure(ROWS, COLUMNS, SHARES, **ACCURACY))
    neutral, above, below = painted[0, 0], painted[0, 1], painted[2, 1]
    assert np.ptp(neutral[:3]) < 0.02 and neutral[:3].min() > 0.9
    assert above[2] > above[0] + 0.02
    assert below[0] > below[2] + 0.25
    grey = colours(table_figure(ROWS, COLUMNS, changed(SHARES, 1, 0, math.nan), **ACCURACY))[1, 0]
    assert to_hex(grey) == to_hex("0.75")


def test_shares_stand_on_linear_scales():
    table, bar = table_figure(ROWS, COLUMNS, SHARES, **ACCURACY).axes
    (image,) = table.images
    assert np.asarray(image.norm(image.get_array()))[0, 1] == pytest.approx(0.5 + 0.5 * 0.05 / 0.5)
    assert table.get_xlabel() == "operation of the layer (outlined: its own)"
    assert (table.get_ylabel(), bar.get_ylabel()) == ("layer", "accuracy\nminus the unedited one's, 0.6")
    axes = bars_figure(["a", "b"], {"test": [0.1, 0.9]}, **{**BARS, "baseline": {"test": 0.92}}).axes[0]
    assert axes.get_yscale() == "linear" and axes.get_ylim()[0] == 0


def test_small_differences_show_beside_huge_ones():
    painted = colours(table_figure(ROWS, COLUMNS, changed(VALUES, 2, 1, 1e6), **TABLE))
    assert np.abs(painted[1, 0] - painted[0, 0]).max() > 0.05  # 140 beside 143.2
    assert np.abs(painted[0, 1] - painted[0, 0]).max() > 0.05  # 150 beside 143.2


def test_a_table_that_nothing_changed_is_neutral():
    painted = colours(table_figure(ROWS, COLUMNS, [[143.2] * 2] * 3, **TABLE))
    assert np.ptp(painted[..., :3]) < 0.02


def test_numbers_are_legible_on_their_colours():
    shades = [[float(value)] for value in range(100, 187, 2)]
    figure = table_figure([""] * len(shades), ["tanh"], shades, **{**TABLE, "own": [None] * len(shades)})
    painted = colours(figure)
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        brightness = painted[row, column, :3] @ [0.299, 0.587, 0.114]
        assert abs(brightness - (text.get_color() == "white")) > 0.45


def test_the_colour_bar_says_what_it_is():
    table, bar = table_figure(ROWS, COLUMNS, VALUES, **TABLE).axes
    assert bar.get_ylabel() == "perplexity\nminus the unedited one's, 143.2"
    assert bar.get_ylim() == pytest.approx((-17.3, 17.3))
    assert table.get_xlabel() == "activation of the node (outlined: its own)"


def test_the_cells_own_activations_are_outlined():
    figure = table_figure(ROWS, COLUMNS, VALUES, **{**TABLE, "own": ["tanh", None, "ReLU"]})
    outlined = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert [(patch.get_xy(), patch.get_width(), patch.get_height()) for patch in outlined] == [
        ((-0.5, -0.5), 1, 1),
        ((0.5, 1.5), 1, 1),
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_grey_and_said(value):
    figure = table_figure(ROWS, COLUMNS, changed(VALUES, 1, 0, value), **TABLE)
    assert to_hex(colours(figure)[1, 0]) == to_hex("0.75")
    assert texts(figure)[1, 0] == str(value)
    assert figure.axes[1].get_ylabel().endswith("(grey: not finite)")
    others = colours(figure)[[0, 0, 2, 2], [0, 1, 0, 1]]
    assert others == pytest.approx(colours(table_figure(ROWS, COLUMNS, VALUES, **TABLE))[[0, 0, 2, 2], [0, 1, 0, 1]])


def test_a_table_of_nothing_finite(tmp_path):
    path = write_figure(table_figure(ROWS, COLUMNS, [[math.nan, math.inf]] * 3, **TABLE), tmp_path / "table.png")
    assert path.is_file()


# --- bars -------------------------------------------------------------------------------------------------------------


def test_bars_stand_side_by_side_in_their_groups():
    figure = bars_figure(LABELS, SERIES, **BARS)
    assert heights(figure) == list(SERIES.values())
    validation, test = figure.axes[0].containers
    for group, (left, right) in enumerate(zip(validation, test, strict=True)):
        assert left.get_x() + left.get_width() == pytest.approx(right.get_x()) == pytest.approx(group)
        assert left.get_x() > group - 0.5 and right.get_x() + right.get_width() < group + 0.5


@pytest.mark.parametrize("label", ["tanh", "node normal 2", "node reduction 12"])
def test_labels_of_groups_do_not_overlap(label):
    figure = bars_figure([label] * 10, {name: [1.0] * 10 for name in SERIES}, **BARS)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_lines_are_the_unedited_cell_in_the_colour_of_its_bars():
    figure = bars_figure(LABELS, SERIES, **BARS)
    assert lines(figure) == [143.2, 139.5]
    for line, container in zip(figure.axes[0].lines, figure.axes[0].containers, strict=True):
        assert to_hex(line.get_color()) == to_hex(container[0].get_facecolor())
        assert tuple(line.get_xdata()) == (0, 1)  # from side to side
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {
        "validation",
        "test",
        "validation, unedited: 143.2",
        "test, unedited: 139.5",
    }


def test_values_are_written_on_the_bars():
    written = [text.get_text() for text in bars_figure(LABELS, SERIES, **BARS).axes[0].texts]
    assert written == ["150", "145", "160", "146", "141", "157"]


def test_values_of_one_size_stand_on_a_linear_axis_that_says_where_it_starts():
    axes = bars_figure(LABELS, SERIES, **BARS).axes[0]
    bottom, top = axes.get_ylim()
    assert axes.get_yscale() == "linear"
    assert bottom == pytest.approx(139.5 - (160.0 - 139.5))
    assert top > 160.0
    assert axes.get_ylabel() == "perplexity (the axis does not start at 0)"


def test_values_that_differ_by_less_than_three_may_start_at_zero():
    axes = bars_figure(["a", "b"], {"test": [100.0, 290.0]}, **{**BARS, "baseline": {"test": 120.0}}).axes[0]
    assert axes.get_yscale() == "linear" and axes.get_ylim()[0] == 0
    assert axes.get_ylabel() == "perplexity"


@pytest.mark.parametrize("largest", [450.0, 52_345.0, 1.3e6, 1e12])
def test_values_of_different_sizes_stand_on_a_logarithmic_axis_with_plain_numbers(largest):
    figure = bars_figure(LABELS, {**SERIES, "test": [largest, 141.0, 157.0]}, **BARS)
    axes = figure.axes[0]
    bottom, top = axes.get_ylim()
    assert axes.get_yscale() == "log"
    assert 0 < bottom < 139.5 and top > largest
    figure.draw_without_rendering()
    shown = [label.get_text() for label in axes.get_yticklabels() if bottom <= label.get_position()[1] <= top]
    assert len([text for text in shown if text]) >= 2
    assert all(re.fullmatch(r"\d+|\de\+\d\d", text) for text in shown)


def test_the_baseline_counts_for_the_scale():
    assert (
        bars_figure(LABELS, SERIES, **{**BARS, "baseline": {"validation": 20, "test": 20}}).axes[0].get_yscale()
        == "log"
    )


def test_a_zero_is_shown_on_a_linear_axis():
    axes = bars_figure(["a", "b"], {"test": [0.0, 0.9]}, **{**BARS, "baseline": {"test": 0.92}}).axes[0]
    assert axes.get_yscale() == "linear" and axes.get_ylim()[0] == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_has_no_bar_and_is_said(value):
    figure = bars_figure(LABELS, {**SERIES, "test": [146.0, value, 157.0]}, **BARS)
    assert math.isnan(heights(figure)[1][1])
    assert heights(figure)[0] == SERIES["validation"]
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["node 1", f"node 2\ntest: {value}", "node 3"]
    assert figure.axes[0].texts[4].get_text() == ""
    assert figure.axes[0].get_ylim() == bars_figure(LABELS, SERIES, **BARS).axes[0].get_ylim()


def test_an_unedited_cell_that_is_not_finite_has_no_line_and_is_said():
    figure = bars_figure(LABELS, SERIES, **{**BARS, "baseline": {"validation": 143.2, "test": math.inf}})
    assert math.isnan(lines(figure)[1])
    assert "test, unedited: inf" in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("value", [math.nan, 0.0, 143.2])
def test_bars_that_are_all_the_same(tmp_path, value):
    bars = {**BARS, "baseline": {"test": value}}
    assert write_figure(bars_figure(LABELS, {"test": [value] * 3}, **bars), tmp_path / "bars.png").is_file()


# --- files ------------------------------------------------------------------------------------------------------------


def _table(**changes):
    return table_figure(ROWS, COLUMNS, VALUES, **{**TABLE, **changes})


def _bars(**changes):
    return bars_figure(LABELS, SERIES, **{**BARS, **changes})


@pytest.mark.parametrize("make", [_table, _bars])
def test_a_plot_is_a_png_and_the_same_one_again(tmp_path, make):
    path = write_figure(make(title="no formula: $\\frac$"), tmp_path / "made" / "plot.png")
    first = path.read_bytes()
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG" and 400 < picture.width < 3000 and 400 < picture.height < 3000
    assert write_figure(make(title="no formula: $\\frac$"), path).read_bytes() == first
    assert os.listdir(path.parent) == ["plot.png"]


@pytest.mark.parametrize("baseline", [math.inf, math.nan])
def test_a_table_around_an_unedited_score_that_is_not_finite_is_grey(tmp_path, baseline):
    figure = table_figure(ROWS, COLUMNS, VALUES, **{**TABLE, "baseline": baseline})
    assert np.ptp(colours(figure).reshape(-1, 4), axis=0).max() == 0
    assert write_figure(figure, tmp_path / "table.png").is_file()


def test_pyplot_and_its_state_stay_out():
    code = "import sys, enas.pictures.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT).returncode == 0

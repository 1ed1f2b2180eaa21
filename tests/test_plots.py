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

pytestmark = pytest.mark.usefixtures("rendered")

ROWS, COLUMNS = ["0", "1", "2"], ["tanh", "ReLU"]
VALUES = [[143.2, 150.0], [140.0, 143.2], [143.2, 160.5]]
TABLE = {
    "own": ["tanh", None, "ReLU"],
    "baseline": 143.2,
    "metric": "perplexity",
    "higher_is_better": False,
    "names": ("node", "activation"),
    "title": "one activation replaced",
}
LABELS = ["node 1", "node 2", "node 3"]
SERIES = {"validation": [150.0, 145.0, 160.0], "test": [146.0, 141.0, 157.0]}
BARS = {"baseline": {"validation": 143.2, "test": 139.5}, "metric": "perplexity", "title": "one node removed"}


def table(values=VALUES, rows=ROWS, columns=COLUMNS, **changes):
    """A table's figure, its axes, and its image."""
    figure = table_figure(rows, columns, values, **{**TABLE, **changes})
    return figure, figure.axes[0], figure.axes[0].images[0]


def bars(values=SERIES, labels=LABELS, **changes):
    """The figure of bars, and its axes."""
    figure = bars_figure(labels, values, **{**BARS, **changes})
    return figure, figure.axes[0]


def changed(row: int, column: int, value: float) -> list[list[float]]:
    """VALUES with one of them changed."""
    copy = [list(line) for line in VALUES]
    copy[row][column] = value
    return copy


def colours(image) -> np.ndarray:
    """The colour of every cell of a table, [R, C, 4]."""
    return image.to_rgba(image.get_array())


def written_in(axes) -> dict[tuple[int, int], str]:
    """The text in every cell of a table, by row and column."""
    return {text.get_position()[::-1]: text.get_text() for text in axes.texts}


def ticks(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_table_says_what_its_rows_columns_cells_and_colours_are():
    figure, axes, _ = table(changed(0, 1, 52345.6))
    assert (ticks(axes.yaxis), ticks(axes.xaxis)) == (ROWS, COLUMNS)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("node", "activation of the node (outlined: its own)")
    assert axes.get_title() == "one activation replaced"
    assert figure.axes[1].get_ylabel() == "perplexity\nminus the unedited one's, 143.2"
    assert written_in(axes) == {
        (0, 0): "143.2", (0, 1): "52346",
        (1, 0): "140", (1, 1): "143.2",
        (2, 0): "143.2", (2, 1): "160.5",
    }  # fmt: skip
    assert [text.get_color() for text in axes.texts] == ["black", "white", *["black"] * 4]  # white on the darkest
    outlined = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    corners = [(patch.get_xy(), patch.get_width(), patch.get_height()) for patch in outlined]
    assert corners == [((-0.5, -0.5), 1, 1), ((0.5, 1.5), 1, 1)]


@given(
    values=st.lists(st.lists(st.floats(100, 190), min_size=2, max_size=2), min_size=3, max_size=3),
    largest=st.sampled_from([1.0, 1e4]),
)
def test_colour_is_the_side_of_the_baseline_and_the_distance_from_it(values, largest):
    """On a linear and on a logarithmic scale: 0 is in the middle, and as far above as below are equally far from it."""
    values[0] = [143.2, 143.2 + 100 * largest]
    _, _, image = table(values)
    places, differences = np.asarray(image.norm(image.get_array())), np.array(values) - 143.2
    assert places[0] == pytest.approx([0.5, 1])
    assert (np.sign(places - 0.5)[abs(differences) > 1e-6] == np.sign(differences)[abs(differences) > 1e-6]).all()
    assert (np.diff(places.ravel()[differences.ravel().argsort()]) >= 0).all()
    assert np.asarray(image.norm(-differences)) == pytest.approx(1 - places)


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_worse_is_red_and_better_is_blue(higher_is_better):
    _, _, image = table(higher_is_better=higher_is_better)
    red, _, blue, _ = np.moveaxis(colours(image), -1, 0)
    above, below = (red > blue)[2, 1], (red > blue)[1, 0]
    assert (above, below) == (not higher_is_better, higher_is_better)


def test_small_differences_show_beside_huge_ones_and_shares_stand_on_a_linear_scale():
    _, _, image = table(changed(2, 1, 1e6))
    places = np.asarray(image.norm(image.get_array()))
    assert places[1, 0] < 0.48 and places[0, 1] > 0.52  # 140 and 150 beside 143.2
    _, _, image = table([[0.6, 0.65], [0.55, 0.6], [0.6, 0.1]], baseline=0.6)
    assert np.asarray(image.norm(image.get_array()))[0, 1] == pytest.approx(0.5 + 0.5 * 0.05 / 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_grey_and_said(value):
    figure, axes, image = table(changed(1, 0, value))
    assert np.argwhere(image.get_array().mask).tolist() == [[1, 0]]
    assert colours(image)[1, 0, :3] == pytest.approx([0.75] * 3)
    assert written_in(axes)[1, 0] == str(value)
    assert figure.axes[1].get_ylabel().endswith("(grey: not finite)")
    usual = table()[2]
    assert colours(image)[[0, 2]] == pytest.approx(colours(usual)[[0, 2]])


# --- bars -------------------------------------------------------------------------------------------------------------


def test_bars_stand_side_by_side_in_their_groups_and_lines_are_the_unedited_scores():
    figure, axes = bars()
    assert [[bar.get_height() for bar in container] for container in axes.containers] == list(SERIES.values())
    for group, (left, right) in enumerate(zip(*axes.containers, strict=True)):
        assert left.get_x() + left.get_width() == pytest.approx(right.get_x()) == pytest.approx(group)
        assert left.get_x() > group - 0.5 and right.get_x() + right.get_width() < group + 0.5
    assert [text.get_text() for text in axes.texts] == ["150", "145", "160", "146", "141", "157"]
    assert (ticks(axes.xaxis), axes.get_title()) == (LABELS, "one node removed")
    assert [(line.get_ydata()[0], *line.get_xdata()) for line in axes.lines] == [(143.2, 0, 1), (139.5, 0, 1)]
    for line, container in zip(axes.lines, axes.containers, strict=True):
        assert to_hex(line.get_color()) == to_hex(container[0].get_facecolor())
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {
        "validation", "test", "validation, unedited: 143.2", "test, unedited: 139.5",
    }  # fmt: skip


@pytest.mark.parametrize("label", ["tanh", "node normal 2", "node reduction 12"])
def test_labels_of_groups_do_not_overlap(label):
    figure, axes = bars({name: [1.0] * 10 for name in SERIES}, [label] * 10)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("values", "baseline", "bottom", "label"),
    [
        ([150.0, 145.0, 160.0], 139.5, 139.5 - (160.0 - 139.5), "perplexity (the axis does not start at 0)"),
        ([100.0, 290.0, 150.0], 120.0, 0, "perplexity"),
        ([0.0, 0.9, 0.5], 0.92, 0, "perplexity"),
        ([0.1, 0.9, 0.5], 0.92, 0, "perplexity"),
        ([0.0] * 3, 0.0, 0, "perplexity"),
        ([143.2] * 3, 143.2, 0, "perplexity"),
    ],
)
def test_values_of_one_size_stand_on_a_linear_axis_that_says_where_it_starts(values, baseline, bottom, label):
    _, axes = bars({"test": values}, baseline={"test": baseline})
    assert (axes.get_yscale(), axes.get_ylabel()) == ("linear", label)
    assert axes.get_ylim()[0] == pytest.approx(bottom) and axes.get_ylim()[1] > max(values)


@pytest.mark.parametrize(
    ("largest", "baseline"), [(450.0, 139.5), (52_345.0, 139.5), (1.3e6, 139.5), (1e12, 139.5), (146.0, 20.0)]
)
def test_values_of_different_sizes_stand_on_a_logarithmic_axis_with_plain_numbers(largest, baseline):
    figure, axes = bars({**SERIES, "test": [largest, 141.0, 157.0]}, baseline={"validation": 143.2, "test": baseline})
    bottom, top = axes.get_ylim()
    assert axes.get_yscale() == "log"
    assert 0 < bottom < baseline and top > max(largest, 160)
    figure.draw_without_rendering()
    shown = [label.get_text() for label in axes.get_yticklabels() if bottom <= label.get_position()[1] <= top]
    assert len([text for text in shown if text]) >= 2
    assert all(re.fullmatch(r"\d+|\de\+\d\d", text) for text in shown)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_has_no_bar_no_line_and_is_said(value):
    figure, axes = bars({**SERIES, "test": [146.0, value, 157.0]}, baseline={"validation": 143.2, "test": value})
    validation, test = ([bar.get_height() for bar in container] for container in axes.containers)
    assert math.isnan(test[1]) and validation == SERIES["validation"]
    assert ticks(axes.xaxis) == ["node 1", f"node 2\ntest: {value}", "node 3"]
    assert axes.texts[4].get_text() == ""
    assert [math.isnan(line.get_ydata()[0]) for line in axes.lines] == [False, True]
    assert f"test, unedited: {value}" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert axes.get_ylim() == pytest.approx((143.2 - (160 - 143.2), 160 + 0.25 * 2 * (160 - 143.2)))


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "figure",
    [
        lambda: table(title="no formula: $\\frac$")[0],
        lambda: bars(title="no formula: $\\frac$")[0],
        lambda: table([[143.2] * 2] * 3)[0],
        lambda: table([[math.nan, math.inf]] * 3)[0],
        lambda: table(baseline=math.inf)[0],
        lambda: bars({"test": [math.nan] * 3}, baseline={"test": math.nan})[0],
    ],
)
def test_a_plot_is_a_png_and_the_same_one_again(tmp_path, figure):
    path = write_figure(figure(), tmp_path / "made" / "plot.png")
    first = path.read_bytes()
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG" and 400 < picture.width < 3000 and 400 < picture.height < 3000
    assert write_figure(figure(), path).read_bytes() == first
    assert os.listdir(path.parent) == ["plot.png"]


def test_pyplot_and_its_state_stay_out():
    code = "import sys, enas.pictures.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT).returncode == 0

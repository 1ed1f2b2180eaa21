"""Plots: what their artists show, and what they do with values that are not finite."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from enas.cnn.macro import MacroSpace
from enas.pictures.plots import bars_figure, policy_figure, table_figure, write_figure
from enas.rnn.cell import RNNSpace

pytestmark = pytest.mark.usefixtures("rendered")

ROWS, COLUMNS = ["0", "1", "2"], ["tanh", "ReLU"]
VALUES = np.array([[143.2, 150.0], [140.0, 143.2], [143.2, 160.5]])
TABLE = {
    "own": ["tanh", None, "ReLU"],
    "baseline": 143.2,
    "metric": "perplexity",
    "higher_is_better": False,
    "names": ("node", "activation"),
    "title": "no formula: $\\frac$",
}
LABELS = ["node 1", "node 2", "node 3"]
SERIES = {"validation": [150.0, 145.0, 160.0], "test": [146.0, 141.0, 157.0]}
CHANCES = [[0.25] * 4, [1.0], [0.25] * 4]  # a policy of cells of two nodes
BARS = {"baseline": {"validation": 143.2, "test": 139.5}, "metric": "perplexity", "title": TABLE["title"]}


def table(values=VALUES, **changes):
    """A table's figure, its axes, and its image."""
    figure = table_figure(ROWS, COLUMNS, values, **{**TABLE, **changes})
    return figure, figure.axes[0], figure.axes[0].images[0]


def bars(values=SERIES, labels=LABELS, **changes):
    """The figure of bars, and its axes."""
    figure = bars_figure(labels, values, **{**BARS, **changes})
    return figure, figure.axes[0]


def changed(row: int, column: int, value: float) -> np.ndarray:
    """VALUES with one of them changed."""
    copy = VALUES.copy()
    copy[row, column] = value
    return copy


def places(image) -> np.ndarray:
    """Where on the colour scale each cell of a table is, 0 to 1."""
    return np.asarray(image.norm(image.get_array()))


def texts(labels) -> list[str]:
    return [label.get_text() for label in labels]


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_a_table_says_what_its_rows_columns_cells_and_colours_are(higher_is_better):
    """Red is worse."""
    figure, axes, image = table(changed(0, 1, 52345.6), higher_is_better=higher_is_better)
    assert (texts(axes.get_yticklabels()), texts(axes.get_xticklabels())) == (ROWS, COLUMNS)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("node", "activation of the node (outlined: its own)")
    assert figure.axes[1].get_ylabel() == "perplexity\nminus the unedited one's, 143.2"
    assert texts(axes.texts) == ["143.2", "52346", "140", "143.2", "143.2", "160.5"]
    assert [patch.get_xy() for patch in axes.patches] == [(-0.5, -0.5), (0.5, 1.5)]
    red, _, blue, _ = image.cmap(1.0)
    assert (red > blue) != higher_is_better


@given(
    values=st.lists(st.lists(st.floats(100, 190), min_size=2, max_size=2), min_size=3, max_size=3),
    largest=st.sampled_from([1.0, 1e4]),
)
def test_colour_is_the_side_of_the_baseline_and_the_distance_from_it(values, largest):
    """On a linear and on a logarithmic scale: 0 is in the middle, and as far above as below are equally far from it."""
    values[0] = [143.2, 143.2 + 100 * largest]
    image, differences = table(values)[2], np.array(values) - 143.2
    assert places(image)[0] == pytest.approx([0.5, 1])
    is_different = abs(differences) > 1e-6
    assert (np.sign(places(image) - 0.5)[is_different] == np.sign(differences)[is_different]).all()
    assert (np.diff(places(image).ravel()[differences.ravel().argsort()]) >= 0).all()
    assert np.asarray(image.norm(-differences)) == pytest.approx(1 - places(image))


def test_small_differences_show_beside_huge_ones_and_shares_stand_on_a_linear_scale():
    found = places(table(changed(2, 1, 1e6))[2])
    assert found[1, 0] < 0.48 and found[0, 1] > 0.52  # 140 and 150 beside 143.2
    found = places(table([[0.6, 0.65], [0.55, 0.6], [0.6, 0.1]], baseline=0.6)[2])
    assert found[0, 1] == pytest.approx(0.5 + 0.5 * 0.05 / 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_said_and_changes_no_other(value):
    figure, axes, image = table(changed(1, 0, value))
    assert np.argwhere(image.get_array().mask).tolist() == [[1, 0]] and texts(axes.texts)[2] == str(value)
    assert figure.axes[1].get_ylabel().endswith("(grey: not finite)")
    assert places(image)[[0, 2]] == pytest.approx(places(table()[2])[[0, 2]])
    figure, axes = bars({**SERIES, "test": [146.0, value, 157.0]}, baseline={"validation": 143.2, "test": value})
    validation, test = ([bar.get_height() for bar in container] for container in axes.containers)
    assert math.isnan(test[1]) and validation == SERIES["validation"]
    assert texts(axes.get_xticklabels()) == ["node 1", f"node 2\ntest: {value}", "node 3"]
    assert [math.isnan(line.get_ydata()[0]) for line in axes.lines] == [False, True]
    assert f"test, unedited: {value}" in texts(figure.legends[0].get_texts())
    assert axes.get_ylim() == pytest.approx((143.2 - (160 - 143.2), 160 + 0.25 * 2 * (160 - 143.2)))


def test_bars_stand_side_by_side_in_their_groups_and_lines_are_the_unedited_scores():
    figure, axes = bars()
    assert [[bar.get_height() for bar in container] for container in axes.containers] == list(SERIES.values())
    for group, (left, right) in enumerate(zip(*axes.containers, strict=True)):
        assert left.get_x() + left.get_width() == pytest.approx(right.get_x()) == pytest.approx(group)
    assert texts(axes.texts) == ["150", "145", "160", "146", "141", "157"]
    assert [line.get_ydata()[0] for line in axes.lines] == [143.2, 139.5]
    assert set(texts(figure.legends[0].get_texts())) == {
        "validation", "test", "validation, unedited: 143.2", "test, unedited: 139.5",
    }  # fmt: skip
    assert bars(labels=[f"node reduction {name}" for name in LABELS])[0].get_figwidth() > figure.get_figwidth()


@pytest.mark.parametrize(
    ("values", "baseline", "bottom", "label"),
    [
        ([150.0, 145.0, 160.0], 139.5, 139.5 - (160.0 - 139.5), "perplexity (the axis does not start at 0)"),
        ([100.0, 290.0, 150.0], 120.0, 0, "perplexity"),
        ([0.1, 0.9, 0.5], 0.92, 0, "perplexity"),
        ([0.0] * 3, 0.0, 0, "perplexity"),
        ([143.2] * 3, 143.2, 0, "perplexity"),
    ],
)
def test_values_of_one_size_stand_on_a_linear_axis_that_says_where_it_starts(values, baseline, bottom, label):
    _, axes = bars({"test": values}, baseline={"test": baseline})
    assert (axes.get_yscale(), axes.get_ylabel()) == ("linear", label)
    assert axes.get_ylim()[0] == pytest.approx(bottom) and axes.get_ylim()[1] > max(values)


@pytest.mark.parametrize(("largest", "baseline"), [(450.0, 139.5), (1.3e6, 139.5), (1e12, 139.5), (146.0, 20.0)])
def test_values_of_different_sizes_stand_on_a_logarithmic_axis_with_plain_numbers(largest, baseline):
    figure, axes = bars({**SERIES, "test": [largest, 141.0, 157.0]}, baseline={"validation": 143.2, "test": baseline})
    bottom, top = axes.get_ylim()
    assert axes.get_yscale() == "log" and 0 < bottom < baseline and top > max(largest, 160)
    figure.draw_without_rendering()
    shown = [one.get_text() for one in axes.get_yticklabels() if bottom <= one.get_position()[1] <= top]
    assert len(shown) >= 2 and all(re.fullmatch(r"\d+|\de\+\d\d", text) for text in shown)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: table()[0],
        lambda: table([[math.nan, math.inf]] * 3, baseline=math.inf)[0],
        lambda: bars({"test": [math.nan] * 3}, baseline={"test": math.nan})[0],
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_plot_is_a_png_and_the_same_one_again(tmp_path, figure):
    path = write_figure(figure(), tmp_path / "made" / "plot.png")
    first = path.read_bytes()
    with Image.open(path, formats=["PNG"]) as picture:
        assert min(picture.size) > 400 and max(picture.size) < 3000
    assert write_figure(figure(), path).read_bytes() == first and [*path.parent.iterdir()] == [path]


def test_a_policy_has_a_row_for_each_choice_and_a_column_for_each_evaluation():
    """A decision without a choice has no row, and one of two whether something is there has one."""
    evaluations = [[2, [[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]], [4, [[0.1, 0.9], [0.4, 0.6], [0.7, 0.3]]]]
    axes = policy_figure(MacroSpace(2, ("conv3x3", "max3x3")).choices, evaluations).axes[0]
    assert texts(axes.get_yticklabels()) == ["0 conv3x3", "0 max3x3", "1 conv3x3", "1 max3x3", "1 skips from 0"]
    shown = np.array(axes.images[0].get_array())
    assert shown.T.tolist() == [[0.2, 0.8, 0.5, 0.5, 0.1], [0.1, 0.9, 0.4, 0.6, 0.3]]
    assert texts(axes.get_xticklabels()) == ["2", "4"]
    found = texts(policy_figure(RNNSpace(2).choices, [[1, CHANCES]]).axes[0].get_yticklabels())
    assert len(found) == 8 and "1 reads 0" not in found


def test_a_long_run_has_a_picture_of_its_policy_no_wider_than_a_screen():
    wide, wider = (policy_figure(RNNSpace(2).choices, [[epoch, CHANCES] for epoch in range(num)]) for num in (100, 400))
    assert wide.get_size_inches().tolist() == wider.get_size_inches().tolist()
    assert len(wider.axes[0].get_xticklabels()) <= 20


def test_pyplot_and_its_state_stay_out():
    code = "import sys, enas.pictures.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT).returncode == 0

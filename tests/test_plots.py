"""Plots: what their artists show, and what they do with values that are not finite."""

import math
import re
import subprocess
import sys
from itertools import chain, product

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from enas.cnn.macro import MacroSpace
from enas.pictures.plots import bars_figure, policy_figure, table_figure, write_figure
from enas.rnn.cell import RNNSpace
from enas.search.metric import ACCURACY, PERPLEXITY

pytestmark = pytest.mark.usefixtures("rendered")

ROWS, COLUMNS = ["0", "1", "2"], ["tanh", "ReLU"]
VALUES = np.array([[143.2, 150.0], [140.0, 143.2], [143.2, 160.5]])
TABLE = {
    "own": [("0", "tanh"), ("2", "ReLU")],
    "baseline": 143.2,
    "metric": PERPLEXITY,
    "split": "validation",
    "names": ("node", "activation"),
    "title": "no formula: $\\frac$",
}
LABELS = ["node 1", "node 2", "node 3"]
SERIES = {"validation": [150.0, 145.0, 160.0], "test": [146.0, 141.0, 157.0]}
CHANCES = [[0.25] * 4, [1.0], [0.25] * 4]  # a policy of cells of two nodes
BARS = {"baseline": {"validation": 143.2, "test": 139.5}, "metric": PERPLEXITY, "title": TABLE["title"]}


def table(values=VALUES, **changes):
    """A table's figure, its axes, and its image."""
    scores = dict(zip(product(ROWS, COLUMNS), np.ravel(values), strict=True))
    figure = table_figure(scores, **{**TABLE, **changes})
    return figure, figure.axes[0], figure.axes[0].images[0]


def bars(values=SERIES, labels=LABELS, **changes):
    """The figure of bars, and its axes."""
    settings = {**BARS, **changes}
    differences = {name: [score - settings["baseline"][name] for score in scores] for name, scores in values.items()}
    figure = bars_figure(labels, differences, **settings)
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


@pytest.mark.parametrize("metric", [PERPLEXITY, ACCURACY])
def test_a_table_says_what_its_rows_columns_cells_and_colours_are(metric):
    """Red is worse."""
    figure, axes, image = table(changed(0, 1, 52345.6), metric=metric)
    assert (texts(axes.get_yticklabels()), texts(axes.get_xticklabels())) == (ROWS, COLUMNS)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("node", "activation of the node (outlined: its own)")
    label = f"change of validation {metric.name} from\n143.20, logarithmic beyond ±17"
    assert figure.axes[1].get_ylabel() == label
    assert texts(axes.texts) == ["143.20", "52345.60", "140.00", "143.20", "143.20", "160.50"]
    assert [patch.get_xy() for patch in axes.patches] == [(-0.5, -0.5), (0.5, 1.5)]
    red, _, blue, _ = image.cmap(1.0)
    assert (red > blue) != metric.higher_is_better


@given(
    values=st.lists(st.lists(st.floats(100, 190), min_size=2, max_size=2), min_size=3, max_size=3),
    largest=st.sampled_from([1.0, 1e4]),
)
def test_colour_is_the_side_of_the_baseline_and_the_distance_from_it(values, largest):
    """0 is in the middle, and as far above as below are equally far from it."""
    values[0] = [143.2, 143.2 + 100 * largest]
    image, differences = table(values)[2], np.array(values) - 143.2
    assert places(image)[0] == pytest.approx([0.5, 1])
    is_different = abs(differences) > 1e-6
    assert (np.sign(places(image) - 0.5)[is_different] == np.sign(differences)[is_different]).all()
    assert (np.diff(places(image).ravel()[differences.ravel().argsort()]) >= 0).all()
    assert np.asarray(image.norm(-differences)) == pytest.approx(1 - places(image))


@pytest.mark.parametrize("outlier", [1e6, 190.0])
def test_one_outlier_leaves_colour_to_the_others(outlier):
    found = places(table(changed(2, 1, outlier))[2])
    assert found[1, 0] < 0.47 and found[0, 1] > 0.53  # 140 and 150 beside 143.2


def test_changes_of_one_size_have_colours_in_proportion():
    assert places(table([[0.6, 0.7], [0.5, 0.6], [0.6, 0.65]], baseline=0.6)[2])[2, 1] == pytest.approx(0.75)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_said_and_changes_no_other(value):
    figure, axes, image = table(changed(1, 0, value))
    assert np.argwhere(image.get_array().mask).tolist() == [[1, 0]] and texts(axes.texts)[2] == str(value)
    assert places(image)[[0, 2]] == pytest.approx(places(table()[2])[[0, 2]])
    figure, axes = bars({**SERIES, "test": [146.0, value, 157.0]}, baseline={"validation": 143.2, "test": value})
    validation, test = ([bar.get_height() for bar in container] for container in axes.containers)
    assert test == [0, 0, 0] and validation == pytest.approx([6.8, 1.8, 16.8])
    assert texts(axes.texts)[4].lstrip("+") == "nan"
    assert f"test, unedited: {value}" in texts(figure.legends[0].get_texts())


def test_bars_stand_side_by_side_in_their_groups_and_are_the_changes():
    figure, axes = bars()
    validation, test = ([bar.get_height() for bar in container] for container in axes.containers)
    assert validation == pytest.approx([6.8, 1.8, 16.8]) and test == pytest.approx([6.5, 1.5, 17.5])
    for group, (left, right) in enumerate(zip(*axes.containers, strict=True)):
        assert left.get_x() + left.get_width() == pytest.approx(right.get_x()) == pytest.approx(group)
    assert texts(axes.texts) == ["+6.80", "+1.80", "+16.80", "+6.50", "+1.50", "+17.50"]
    assert [line.get_ydata()[0] for line in axes.lines] == [0]
    assert axes.get_ylabel() == "change of perplexity (lower is better)"
    assert texts(figure.legends[0].get_texts()) == ["validation, unedited: 143.20", "test, unedited: 139.50"]
    assert bars(labels=[f"node reduction {name}" for name in LABELS])[0].get_figwidth() > figure.get_figwidth()


@pytest.mark.parametrize("values", [SERIES, {name: [130.0, 141.5, 130.5] for name in SERIES}])
def test_no_line_crosses_a_number(values):
    figure, axes = bars(values)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent().transformed(axes.transData.inverted()) for text in axes.texts]
    bottom, top = axes.get_ylim()
    for box in boxes:
        assert not box.y0 <= 0 <= box.y1 and bottom < box.y0 and box.y1 < top
    assert not any(line.get_visible() for line in axes.get_ygridlines())


@pytest.mark.parametrize(
    ("largest", "scale"), [(143.5, "linear"), (160.0, "linear"), (1e3, "symlog"), (1e12, "symlog")]
)
def test_changes_of_different_sizes_stand_on_a_logarithmic_axis_with_plain_numbers(largest, scale):
    figure, axes = bars({**SERIES, "test": [largest, 141.0, 135.0]})
    bottom, top = axes.get_ylim()
    assert ("logarithmic beyond ±" in axes.get_ylabel()) == (scale == "symlog")
    assert axes.get_yscale() == scale and bottom < -4.5 and top > largest - 139.5
    figure.draw_without_rendering()
    shown = [one.get_text() for one in axes.get_yticklabels() if bottom <= one.get_position()[1] <= top]
    assert len(shown) >= 3 and all(re.fullmatch(r"−?[\d.]+(e\+\d\d)?|-?[\d.]+(e\+\d\d)?", text) for text in shown)


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


def test_the_derived_choices_and_the_time_before_the_controller_trains_are_marked():
    evaluations = [[epoch, [[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]] for epoch in (2, 4, 6)]
    choices = MacroSpace(2, ("conv3x3", "max3x3")).choices
    figure = policy_figure(choices, evaluations, (1, 0, 1), 4)
    (dots,), (hatched,) = figure.axes[0].lines[-1:], figure.axes[0].patches
    assert dots.get_xydata().tolist() == [[2, 1], [2, 2], [2, 4]]
    assert (hatched.get_x(), hatched.get_width(), hatched.get_hatch()) == (-0.5, 2, "///")
    assert figure.get_suptitle().endswith("(dot: derived last; hatched: before the controller trains)")
    assert not policy_figure(choices, evaluations).axes[0].patches


def test_many_choices_stand_in_panels_and_no_decision_in_two():
    choices = MacroSpace(12).choices
    chances = [[1 / len(names)] * len(names) for names in choices]
    *panels, _ = policy_figure(choices, [[1, chances]]).axes
    labels = [texts(axes.get_yticklabels()) for axes in panels]
    assert list(map(len, labels)) == [46, 50, 42] and "skips" in labels[1][0]
    assert [*chain(*labels)] == [name for names in choices for name in names if name]


def test_a_long_run_has_a_picture_of_its_policy_no_wider_than_a_screen():
    wide, wider = (policy_figure(RNNSpace(2).choices, [[epoch, CHANCES] for epoch in range(num)]) for num in (100, 400))
    assert wide.get_size_inches().tolist() == wider.get_size_inches().tolist()
    assert len(wider.axes[0].get_xticklabels()) <= 20


def test_pyplot_and_its_state_stay_out():
    code = "import sys, enas.pictures.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT).returncode == 0

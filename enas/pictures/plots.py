"""The style of all plots; the table and the bars of an ablation; and the policy of a controller.

Figures are made without pyplot, so that a plot keeps no global state and needs no display.
"""

import io
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from enas.files import atomic_write
from enas.search.metric import Metric
from enas.search.record import format_score

# Of changes that differ by a larger factor than this, a linear axis shows only the largest.
LARGEST_LINEAR_RATIO = 30
# The Okabe-Ito palette, without black.
SERIES_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
# The label and the colour of each way to choose an architecture, the same in all figures.
METHOD_STYLES = {
    "search": ("search", "#0072B2"),
    "random_shared": ("search, no\ncontroller", "#E69F00"),
    "finalists": ("search and\nfinalists", "#009E73"),
    "uniform": ("one random", "0.45"),
    "random_budget": ("best random\nat equal time", "#D55E00"),
    "halving": ("random, halved\nat equal time", "#882255"),
    "lstm": ("LSTM", "#CC79A7"),
}

_PANEL_ROWS = 48  # choices that stand in one panel of a policy

plain_style = matplotlib.style.context("default")  # whatever a matplotlibrc says; for all that makes or writes a figure


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of this size in inches, and its panels, row by row."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(axis="y", alpha=0.3)
    return figure, panels


@plain_style
def png_of(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG, whole or not at all; returns `path`."""
    with atomic_write(path) as file:
        file.write(png_of(figure))
    return path


@plain_style
def table_figure(
    values: Mapping[tuple[str, str], float],
    *,
    own: Collection[tuple[str, str]],
    baseline: float,
    metric: Metric,
    split: str,
    names: tuple[str, str],
    title: str,
) -> Figure:
    """Draw a heat map of nodes × activations, or layers × operations: the scores with that of one node replaced.

    `values` has the scores by (row, column), row by row; `names` are of rows and of columns, such as "node" and
    "activation"; the nodes with their `own` activations are outlined. Colour is the change from the unedited score,
    `baseline`: red for worse, blue for better, grey if either is not finite. It grows linearly up to the median change
    and by the logarithm beyond, so that one outlier leaves colour to the others.
    """
    rows, columns = map(list, map(dict.fromkeys, zip(*values, strict=True)))
    scores = np.array([*values.values()], dtype=float).reshape(len(rows), len(columns))
    with np.errstate(invalid="ignore"):  # the difference of two diverged scores
        changes = np.ma.masked_invalid(scores - baseline)
    typical, largest = _sizes(changes.compressed())
    norm = SymLogNorm(linthresh=typical, vmin=-largest, vmax=largest)
    # Blue and red around a near white are told apart by colour-blind readers too.
    colours = matplotlib.colormaps["RdBu" if metric.higher_is_better else "RdBu_r"].with_extremes(bad="0.75")
    figure, (axes,) = new_figure(3.2 + 1.1 * len(columns), max(3.6, 1.8 + 0.42 * len(rows)))
    axes.grid(visible=False)
    image = axes.imshow(changes, cmap=colours, norm=norm, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=f"{names[1]} of the {names[0]} (outlined: its own)", ylabel=names[0])
    axes.set_title(title, parse_math=False)
    is_dark = np.ma.filled(abs(norm(changes) - 0.5) > 0.33, fill_value=False)
    for (row, column), score in np.ndenumerate(scores):
        colour = "white" if is_dark[row, column] else "black"
        axes.text(column, row, format_score(score), ha="center", va="center", color=colour)
        if (rows[row], columns[column]) in own:
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=2.5, clip_on=False))
    label = f"change of {split} {metric.name} from\n{format_score(baseline)}, logarithmic beyond ±{typical:.2g}"
    ticks = sorted({-largest, -typical, 0.0, typical, largest})
    figure.colorbar(image, ticks=ticks, format="{x:.2g}", label=label).minorticks_off()
    return figure


def _sizes(changes: Iterable[float]) -> tuple[float, float]:
    """Return the median and the largest size of the finite changes, leaving out 0; 1 and 1 where there is none."""
    sizes = [abs(change) for change in changes if change and math.isfinite(change)] or [1.0]
    largest = max(sizes)
    return max(float(np.quantile(sizes, 0.5, method="lower")), 1e-9 * largest), largest


@plain_style
def bars_figure(
    labels: Sequence[str], changes: dict[str, list[float]], *, baseline: dict[str, float], metric: Metric, title: str
) -> Figure:
    """Draw groups of bars around 0, one bar a series: the change from the unedited score.

    Each series, such as validation and test, has an unedited score in `baseline` and a change for each group of bars,
    which `labels` name. The axis is logarithmic beyond the median change when changes differ by more than
    `LARGEST_LINEAR_RATIO`. A change that is not finite is written where its bar would be.
    """
    group = max(0.8, 0.095 * (max(map(len, labels), default=0) + 2))  # inches; a letter takes 0.095
    figure, (axes,) = new_figure(max(6.4, 1.5 + group * len(labels)), 4.8)
    axes.grid(visible=False)  # no line crosses a number
    for index, (name, some) in enumerate(changes.items()):
        places = np.arange(len(labels)) + 0.4 * (index - (len(changes) - 1) / 2)
        heights = [change if math.isfinite(change) else 0.0 for change in some]
        label = f"{name}, unedited: {format_score(baseline[name])}"
        bars = axes.bar(places, heights, 0.4, color=("0.35", "0.7")[index], label=label)
        numbers = [f"{change:+.{metric.decimals}f}".replace("-", "−") for change in some]  # as the axis has it
        axes.bar_label(bars, numbers, rotation=90, padding=4, fontsize=8)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_title(title, parse_math=False)
    axes.set_ylabel(f"change of {metric.name} ({'higher' if metric.higher_is_better else 'lower'} is better)")
    typical, largest = _sizes(itertools.chain(*changes.values()))
    if largest > LARGEST_LINEAR_RATIO * typical:
        axes.set_yscale("symlog", linthresh=typical)
        axes.set_ylabel(f"{axes.get_ylabel()},\nlogarithmic beyond ±{typical:.2g}")
        axes.use_sticky_edges = False  # beside a huge change, a small one would count as the edge 0
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.25)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


@plain_style
def policy_figure(
    choices: list[list[str]], decisions: Sequence[Any], derived: Sequence[int] = (), warm_up_epochs: int = 0
) -> Figure:
    """Draw a heat map of the probability of every choice at every evaluation, in panels side by side.

    `choices` has the names of each decision's choices, see `Space.choices`, and `decisions` for each evaluation its
    epoch, and the probabilities of each decision's choices. The `derived` choices are marked in the last column. The
    columns of the `warm_up_epochs`, before the controller trains, are hatched. A decision with one choice has no row,
    and a decision between two has one if the first is "".
    """
    epochs, marked = [epoch for epoch, _ in decisions], dict(enumerate(derived))
    rows = [
        (index, name, [chances[index][choice] for _, chances in decisions], marked.get(index) == choice)
        for index, names in enumerate(choices)
        for choice, name in enumerate(names)
        if name and len(names) > 1
    ]
    most = -(-len(rows) // -(-len(rows) // _PANEL_ROWS))
    panels: list[Any] = [[]]
    for _, decision in itertools.groupby(rows, key=lambda row: row[0]):
        if len(panels[-1]) >= most:
            panels.append([])
        panels[-1] += decision
    width = 1.2 + min(14.0, len(panels) * (1.6 + 0.3 * len(epochs)))
    figure, all_axes = new_figure(max(4.0, width), max(2.6, 1.4 + 0.19 * max(map(len, panels))), 1, len(panels))
    every = -(-len(epochs) // 20)
    num_untrained = sum(epoch <= warm_up_epochs for epoch in epochs)
    for axes, panel in zip(all_axes, panels, strict=True):
        indices, names, chances, is_derived = zip(*panel, strict=True)
        image = axes.imshow(chances, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        axes.grid(visible=False)
        for border in np.flatnonzero(np.diff(indices)):
            axes.axhline(border + 0.5, color="0.3", linewidth=0.6)
        dots = np.flatnonzero(is_derived)
        axes.plot([len(epochs) - 1] * len(dots), dots, "o", color="#D55E00", markersize=4)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_xticks(range(0, len(epochs), every), [str(epoch) for epoch in epochs[::every]], fontsize=8)
        axes.set_xlabel("epoch")
        if num_untrained:
            axes.axvspan(-0.5, num_untrained - 0.5, fill=False, hatch="///", edgecolor="0.5", linewidth=0)
    untrained = "; hatched: before the controller trains" if num_untrained else ""
    figure.suptitle(f"probability of each choice\n(dot: derived last{untrained})", fontsize=9)
    figure.colorbar(image, ax=all_axes, aspect=40)
    return figure

"""The style of all plots; the table and the bars of an ablation; and the policy of a controller.

Figures are made without pyplot, so that a plot keeps no global state and needs no display.
"""

import io
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from enas.files import atomic_write
from enas.search.metric import Metric
from enas.search.record import format_score

# Of changes that differ by a larger factor than this, a linear axis shows only the largest.
LARGEST_LINEAR_RATIO = 30
# Blue and red around a near white, told apart by colour-blind readers too. Red is the higher end.
COLOUR_MAP = matplotlib.colormaps["RdBu_r"].with_extremes(bad="0.75")
# The Okabe-Ito palette, without black.
SERIES_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
# The label and the colour of each way to choose an architecture, the same in all figures.
METHOD_STYLES = {
    "search": ("search", "#0072B2"),
    "ema": ("search, moving\naverage", "#56B4E9"),
    "independent": ("search, no\nLSTM", "#F0E442"),
    "random_shared": ("search, no\ncontroller", "#E69F00"),
    "finalists": ("search and\nfinalists", "#009E73"),
    "uniform": ("one random", "0.45"),
    "random_budget": ("best random\nat equal time", "#D55E00"),
    "lstm": ("LSTM", "#CC79A7"),
}

_LETTER = 0.095  # inches, about the width of one in a group's label
_PANEL_ROWS = 48  # choices that stand in one panel of a policy


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of this size in inches, and its panels, row by row."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(axis="y", alpha=0.3)
    return figure, panels


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


def table_figure(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    own: Sequence[str | None],
    baseline: float,
    metric: Metric,
    split: str,
    names: tuple[str, str],
    title: str,
) -> Figure:
    """Draw a heat map of nodes × activations, or layers × operations: the scores with that of one node replaced.

    Colour is the change of the unedited score: neutral where there is none, red where it is worse, blue where it is
    better. It grows linearly up to the median change and by the logarithm beyond, so that one outlier leaves colour to
    the others. A value that is not finite is grey.

    Args:
        rows, columns: the R nodes, and the C activations or operations.
        values: the scores, [R, C].
        own: for each row the column of the node's own activation, which is outlined; None outlines none.
        baseline: the unedited score; if it is not finite, the whole table is grey.
        names: what a row is, and what a column is, such as "node" and "activation".
    """
    scores = np.array(values, dtype=float)  # [R, C]
    with np.errstate(invalid="ignore"):  # the difference of two diverged scores
        changes = np.ma.masked_invalid(scores - baseline)
    typical, largest = _sizes(changes.compressed())
    norm = SymLogNorm(linthresh=typical, vmin=-largest, vmax=largest)

    figure, (axes,) = new_figure(3.2 + 1.1 * len(columns), max(3.6, 1.8 + 0.42 * len(rows)))
    axes.grid(visible=False)
    colour_map = COLOUR_MAP.reversed() if metric.higher_is_better else COLOUR_MAP
    image = axes.imshow(changes, cmap=colour_map, norm=norm, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(f"{names[1]} of the {names[0]} (outlined: its own)")
    axes.set_ylabel(names[0])
    axes.set_title(title, parse_math=False)
    colours = image.to_rgba(changes)  # [R, C, 4]
    for (row, column), score in np.ndenumerate(scores):
        colour = "black" if colours[row, column, :3] @ (0.299, 0.587, 0.114) > 0.5 else "white"
        axes.text(column, row, format_score(score), ha="center", va="center", color=colour)
    for row, name in enumerate(own):
        if name is not None:
            corner = (columns.index(name) - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=2.5, clip_on=False))
    missing = "" if np.isfinite(scores).all() else "\n(grey: not finite)"
    ticks = sorted({-largest, -typical, 0.0, typical, largest})
    bar = figure.colorbar(image, label=f"change of {split} {metric.name}\nfrom {format_score(baseline)}{missing}")
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks], minor=False)
    bar.minorticks_off()
    return figure


def _sizes(changes: Iterable[float]) -> tuple[float, float]:
    """Return the median and the largest size of the finite changes, leaving out 0; 1 and 1 where there is none."""
    sizes = [abs(change) for change in changes if change and math.isfinite(change)]
    return (float(np.quantile(sizes, 0.5, method="lower")), max(sizes)) if sizes else (1.0, 1.0)


def bars_figure(
    labels: Sequence[str],
    values: dict[str, Sequence[float]],
    *,
    baseline: dict[str, float],
    metric: Metric,
    title: str,
) -> Figure:
    """Draw groups of bars around 0, one bar a series: the change from the unedited score.

    The axis is logarithmic beyond the median change when changes differ by more than `LARGEST_LINEAR_RATIO`. A value
    that is not finite has no bar, and its group's label says what it is.

    Args:
        labels: of the groups, G of them.
        values: the scores of each series, such as validation and test, G each.
        baseline: the unedited score of each series.
    """
    texts = list(labels)
    for name, scores in values.items():
        pairs = zip(texts, scores, strict=True)
        texts = [text if math.isfinite(score) else f"{text}\n{name}: {score}" for text, score in pairs]
    longest = max((len(line) for text in texts for line in text.splitlines()), default=0)
    group = max(0.4 * len(values), _LETTER * (longest + 2))
    figure, (axes,) = new_figure(max(6.4, 1.5 + group * len(labels)), 4.8)
    axes.grid(visible=False)  # no line crosses a number
    width = 0.8 / len(values)
    changes = {name: [score - baseline[name] for score in scores] for name, scores in values.items()}
    for index, (name, some) in enumerate(changes.items()):
        places = np.arange(len(labels)) + (index - (len(values) - 1) / 2) * width
        shown = [change if math.isfinite(change) else math.nan for change in some]
        label = f"{name}, unedited: {format_score(baseline[name])}"
        bars = axes.bar(places, shown, width, color=("0.35", "0.7")[index], label=label)
        numbers = [f"{change:+.{metric.decimals}f}" if math.isfinite(change) else "" for change in shown]
        axes.bar_label(bars, numbers, rotation=90, padding=4, fontsize=8)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(labels)), texts)
    axes.set_title(title, parse_math=False)
    typical, largest = _sizes(change for some in changes.values() for change in some)
    if largest > LARGEST_LINEAR_RATIO * typical:
        axes.set_yscale("symlog", linthresh=typical)
        axes.use_sticky_edges = False  # beside a huge change, a small one would count as the edge 0
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.25)
    better = "higher" if metric.higher_is_better else "lower"
    axes.set_ylabel(f"change of {metric.name} ({better} is better)")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


def policy_figure(
    choices: Sequence[Sequence[str]],
    decisions: Sequence[Sequence[Any]],
    derived: Sequence[int] = (),
    warm_up_epochs: int = 0,
) -> Figure:
    """Draw a heat map of the probability of every choice at every evaluation, in panels side by side.

    A decision with one choice has no row, and one between two of which the first is "" has one.

    Args:
        choices: the names of each decision's choices; see `Space.choices`.
        decisions: for each evaluation its epoch, and for each decision the probabilities of its choices.
        derived: the decisions of the derived architecture, whose choices are marked in the last column.
        warm_up_epochs: epochs before the controller trains; their columns are hatched.
    """
    epochs, marked = [epoch for epoch, _ in decisions], dict(enumerate(derived))
    rows = [
        (index, name, [chances[index][choice] for _, chances in decisions], marked.get(index) == choice)
        for index, names in enumerate(choices)
        for choice, name in enumerate(names)
        if name and len(names) > 1
    ]
    most = -(-len(rows) // -(-len(rows) // _PANEL_ROWS))
    panels = [rows[:1]]
    for above, row in itertools.pairwise(rows):
        if len(panels[-1]) >= most and row[0] != above[0]:
            panels.append([])
        panels[-1].append(row)
    width = 1.2 + min(14.0, len(panels) * (1.6 + 0.3 * len(epochs)))
    figure, all_axes = new_figure(max(4.0, width), max(2.6, 1.4 + 0.19 * max(map(len, panels))), 1, len(panels))
    num_untrained = sum(epoch <= warm_up_epochs for epoch in epochs)
    for axes, panel in zip(all_axes, panels, strict=True):
        image = _draw_policy(axes, panel, epochs)
        if num_untrained:
            axes.axvspan(-0.5, num_untrained - 0.5, fill=False, hatch="///", edgecolor="0.5", linewidth=0)
    untrained = "; hatched: before the controller trains" if num_untrained else ""
    figure.suptitle(f"probability of each choice\n(dot: derived{untrained})", fontsize=9)
    figure.colorbar(image, ax=all_axes, aspect=40)
    return figure


def _draw_policy(axes: Axes, rows: Sequence[Any], epochs: Sequence[int]) -> AxesImage:
    """Draw some choices: the index of the decision, the name, the probability at each epoch, whether it is derived."""
    indices, names, chances, is_derived = zip(*rows, strict=True)
    image = axes.imshow(chances, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(visible=False)
    for border in np.flatnonzero(np.diff(indices)):
        axes.axhline(border + 0.5, color="0.3", linewidth=0.6)
    marked = np.flatnonzero(is_derived)
    axes.plot([len(epochs) - 1] * len(marked), marked, "o", color="#D55E00", markersize=4)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    every = -(-len(epochs) // 20)
    axes.set_xticks(range(0, len(epochs), every), [str(epoch) for epoch in epochs[::every]], fontsize=8)
    axes.set_xlabel("epoch")
    return image

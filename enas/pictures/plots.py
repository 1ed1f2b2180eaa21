"""Plots: for an ablation a table of scores, and bars with the unedited score as a line; and the policy of a controller.

Figures are made without pyplot, so that a plot keeps no global state and needs no display.
"""

import io
import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import CenteredNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from enas.files import atomic_write

# Of values that differ by a larger factor than this, a linear scale shows only the largest.
LARGEST_LINEAR_RATIO = 3
# Blue and red around a near white, told apart by colour-blind readers too. Red is the higher end.
COLOUR_MAP = matplotlib.colormaps["RdBu_r"].with_extremes(bad="0.75")
# The Okabe-Ito palette, without black.
SERIES_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")

_LETTER = 0.095  # inches, about the width of one in a group's label
_WIDEST = 14.0  # inches of a policy; more evaluations get narrower columns
# Keeps the line of the unedited one out of the numbers.
_LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}


def new_figure(width: float, height: float, dpi: int = 150) -> tuple[Figure, Axes]:
    """A figure of this size in inches, and its axes."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    return figure, figure.add_subplot()


def png_of(figure: Figure) -> bytes:
    """A figure as the content of a PNG file."""
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
    metric: str,
    higher_is_better: bool,
    names: tuple[str, str],
    title: str,
) -> Figure:
    """A heat map of nodes × activations, or layers × operations: the scores with that of one node replaced.

    Colour is the difference to the unedited score: neutral where there is none, red where it is worse, blue where it
    is better; on a logarithmic scale when values differ by more than `LARGEST_LINEAR_RATIO`. A value that is not
    finite is grey.

    Args:
        rows, columns: the R nodes, and the C activations or operations.
        values: the scores, [R, C].
        own: for each row the column of the node's own activation, which is outlined; None outlines none.
        baseline: the unedited score; if it is not finite, the whole table is grey.
        names: what a row is, and what a column is, such as "node" and "activation".
    """
    scores = np.array(values, dtype=float)  # [R, C]
    with np.errstate(invalid="ignore"):  # what diverged less what diverged
        differences = np.ma.masked_invalid(scores - baseline)
    norm = _difference_norm(scores[~np.ma.getmaskarray(differences)], baseline)

    figure, axes = new_figure(3.2 + 1.1 * len(columns), max(3.6, 1.8 + 0.42 * len(rows)))
    colour_map = COLOUR_MAP.reversed() if higher_is_better else COLOUR_MAP
    image = axes.imshow(differences, cmap=colour_map, norm=norm, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(f"{names[1]} of the {names[0]} (outlined: its own)")
    axes.set_ylabel(names[0])
    axes.set_title(title, parse_math=False)
    colours = image.to_rgba(differences)  # [R, C, 4]
    for (row, column), score in np.ndenumerate(scores):
        axes.text(column, row, _text(score), ha="center", va="center", color=_legible_on(colours[row, column]))
    for row, name in enumerate(own):
        if name is not None:
            corner = (columns.index(name) - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=2.5))
    missing = "" if np.isfinite(scores).all() else "\n(grey: not finite)"
    figure.colorbar(image, label=f"{metric}\nminus the unedited one's, {_text(baseline)}{missing}")
    return figure


def _difference_norm(finite: np.ndarray, baseline: float) -> Normalize:
    """From differences of finite scores to the baseline to colours, 0 to the middle one."""
    sizes = np.abs(finite - baseline)
    largest = sizes.max(initial=0) or 1.0
    if not sizes.any() or not _needs_log([*finite, baseline]):
        return CenteredNorm(halfrange=largest)
    # The linear part takes in the tenth of the differences that is smallest: one close to 0 must not stretch the scale.
    return SymLogNorm(linthresh=np.quantile(sizes[sizes > 0], 0.1), vmin=-largest, vmax=largest)


def _needs_log(numbers: Sequence[float]) -> bool:
    """Whether large values would hide small ones on a linear scale. Shares, at most 1, never need a logarithmic one."""
    return min(numbers) > 0 and max(numbers) > max(1, LARGEST_LINEAR_RATIO * min(numbers))


def _text(score: float) -> str:
    """Four digits, and no exponent where the number is about as short without."""
    return f"{score:.0f}" if 1e4 <= score < 1e7 else f"{score:.4g}"


def _legible_on(colour: np.ndarray) -> str:
    red, green, blue, _ = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def bars_figure(
    labels: Sequence[str],
    values: dict[str, Sequence[float]],
    *,
    baseline: dict[str, float],
    metric: str,
    title: str,
) -> Figure:
    """Groups of bars, one bar a series, and a dashed line for the unedited score in each series.

    The axis is logarithmic when values differ by more than `LARGEST_LINEAR_RATIO` and exceed 1; otherwise it starts
    where the differences can be seen, and says so when that is not 0. A value that is not finite has no bar, and its
    group's label says what it is.

    Args:
        labels: of the groups, G of them.
        values: the scores of each series, such as validation and test, G each; none is negative.
        baseline: the unedited score of each series.
    """
    texts = list(labels)
    for name, scores in values.items():
        pairs = zip(texts, scores, strict=True)
        texts = [text if math.isfinite(score) else f"{text}\n{name}: {score}" for text, score in pairs]
    longest = max((len(line) for text in texts for line in text.splitlines()), default=0)
    group = max(0.4 * len(values), _LETTER * (longest + 2))
    figure, axes = new_figure(max(6.4, 1.5 + group * len(labels)), 4.8)
    width = 0.8 / len(values)
    for index, (name, scores) in enumerate(values.items()):
        colour = SERIES_COLOURS[index]
        places = np.arange(len(labels)) + (index - (len(values) - 1) / 2) * width
        bars = axes.bar(places, _shown(scores), width, color=colour, alpha=0.6, label=name)
        numbers = [_text(score) if math.isfinite(score) else "" for score in scores]
        axes.bar_label(bars, numbers, rotation=90, padding=4, fontsize=8, bbox=_LABEL_BOX)
        (unedited,) = _shown([baseline[name]])
        axes.axhline(unedited, color=colour, linestyle="--", label=f"{name}, unedited: {_text(baseline[name])}")
    axes.set_xticks(range(len(labels)), texts)
    axes.set_title(title, parse_math=False)
    _scale_values(axes, [*baseline.values(), *chain(*values.values())], metric)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


def _shown(scores: Sequence[float]) -> list[float]:
    return [score if math.isfinite(score) else math.nan for score in scores]


def _scale_values(axes: Axes, numbers: Sequence[float], metric: str) -> None:
    """Scale and name the value axis, with room above the bars for the numbers written there."""
    axes.set_ylabel(metric)
    finite = [number for number in numbers if math.isfinite(number)]
    if not finite:
        return
    low, high = min(finite), max(finite)
    if _needs_log(finite):
        axes.set_yscale("log")
        # On a short axis powers of ten alone might leave no number at all; on a long one more would not fit.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e4 * low else (1,)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(low * (low / high) ** 0.2, high * (high / low) ** 0.3)
        return
    start = max(0.0, 2 * low - high) if high > low else 0.0
    axes.set_ylim(start, (high + 0.25 * (high - start)) or 1.0)
    if start > 0:
        axes.set_ylabel(f"{metric} (the axis does not start at 0)")


def policy_figure(choices: Sequence[Sequence[str]], decisions: Sequence[Sequence[Any]]) -> Figure:
    """A heat map of the probability of every choice at every evaluation.

    A decision with one choice has no row, and one between two of which the first is "" has one.

    Args:
        choices: the names of each decision's choices; see `Space.choices`.
        decisions: for each evaluation its epoch, and for each decision the probabilities of its choices.
    """
    labels: list[str] = []
    rows, borders = [], []
    for index, names in enumerate(choices):
        if len(names) == 1:
            continue
        first = 0 if len(names) != 2 or names[0] else 1
        labels += names[first:]
        rows += [[chances[index][choice] for _, chances in decisions] for choice in range(first, len(names))]
        borders.append(len(rows) - 0.5)
    epochs = [epoch for epoch, _ in decisions]
    width, height = min(_WIDEST, max(4.0, 2.6 + 0.25 * len(epochs))), max(2.4, 1.2 + 0.17 * len(rows))
    figure, axes = new_figure(width, height, dpi=100)
    image = axes.imshow(np.array(rows), aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for border in borders[:-1]:
        axes.axhline(border, color="0.3", linewidth=0.6)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    every = -(-len(epochs) // 20)
    axes.set_xticks(range(0, len(epochs), every), [str(epoch) for epoch in epochs[::every]], fontsize=7)
    axes.set_xlabel("epoch")
    axes.set_title("probability of each choice", fontsize=9)
    figure.colorbar(image, ax=axes)
    return figure

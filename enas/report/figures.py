"""The curves of a page."""

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from enas.pictures.plots import SERIES_COLOURS, new_figure
from enas.report.record import Record

Line = dict[str, Any]  # arguments of matplotlib's errorbar


def curves(records: Sequence[Record]) -> list[Figure]:
    """Scores, rewards, entropy, and seconds an epoch: a figure each, the runs side by side."""
    figures = {}
    for name in dict.fromkeys(record.metric.name for record in records):
        alike = [record for record in records if record.metric.name == name]
        figures[name] = _lines(alike, f"train_{name}", "train", linestyle=":")
        figures[name] += _lines(alike, f"validation_{name}", "validation")
    figures |= {name: _lines(records, name, name) for name in ("reward", "entropy")}
    times = _lines(records, "wall_seconds")
    for line in times:
        line["y"] = [end - start for start, end in itertools.pairwise([0, *line["y"]])]
    figures["seconds an epoch"] = times
    return [_figure(lines, name) for name, lines in figures.items() if lines]


def _lines(records: Sequence[Record], name: str, label: str = "", **style: Any) -> list[Line]:
    lines = []
    for record, colour in zip(records, itertools.cycle(SERIES_COLOURS), strict=False):
        epochs, values = record.curve(name)
        if values:
            title = " · ".join(filter(None, [label, record.name if len(records) > 1 or not label else ""]))
            escaped = title.replace("$", r"\$")  # two would begin and end a formula
            lines.append({"x": epochs, "y": values, "label": escaped, "color": colour, **style})
    return lines


def comparison(record: Record) -> Figure | None:
    """Median and quartiles of the policy's samples and of uniform ones over the epochs; None where there are none."""
    lines = []
    for who, colour in (("policy", SERIES_COLOURS[0]), ("uniform", "0.5")):
        epochs, medians = record.curve(who, "median")
        lower, upper = (record.curve(who, f"{end}_quartile")[1] for end in ("lower", "upper"))
        below = [median - end for end, median in zip(lower, medians, strict=True)]
        above = [end - median for end, median in zip(upper, medians, strict=True)]
        if medians:
            line = {"x": epochs, "y": medians, "yerr": [below, above], "capsize": 3}
            lines.append({**line, "label": who, "color": colour})
    return _figure(lines, record.curve("compared_by")[1][0].replace("_", " ")) if lines else None


def _figure(lines: Sequence[Line], y_title: str) -> Figure:
    figure, axes = new_figure(5.4, 3.8)
    for line in lines:
        axes.errorbar(**line, marker="o", markersize=3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(alpha=0.3)
    axes.set(xlabel="epoch", ylabel=y_title)
    is_long = max(len(line["label"]) for line in lines) > 24
    figure.legend(loc="outside upper center", ncols=1 if is_long else 2, fontsize=8)
    return figure

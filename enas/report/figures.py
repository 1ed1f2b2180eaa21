"""The curves of a page."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from enas.pictures.plots import METHOD_STYLES, SERIES_COLOURS, new_figure
from enas.report.record import Record

Line = dict[str, Any]  # arguments of matplotlib's errorbar


def curves(records: Sequence[Record]) -> list[Figure]:
    """Draw scores and rewards, by metric, entropy, and seconds an epoch: a figure each, the runs side by side."""
    metrics = list(dict.fromkeys(record.config.space.metric.name for record in records))
    rewards = {metric: "reward" if len(metrics) == 1 else f"reward ({metric})" for metric in metrics}
    lines: dict[str, list[Line]] = {
        name: [] for name in (*metrics, *rewards.values(), "entropy (nats)", "seconds an epoch")
    }
    for record, colour in zip(records, itertools.cycle(SERIES_COLOURS), strict=False):
        metric, (epochs, ends) = record.config.space.metric.name, record.curve("wall_seconds")
        seconds = [end - start for start, end in itertools.pairwise([0, *ends])]
        for figure, label, (x, y), style in (
            (metric, "train", record.curve(f"train_{metric}"), ":"),
            (metric, "validation", record.curve(f"validation_{metric}"), "-"),
            (rewards[metric], "", record.curve("reward"), "-"),
            ("entropy (nats)", "", record.curve("entropy"), "-"),
            ("seconds an epoch", "", (epochs, seconds), "-"),
        ):
            title = " · ".join(filter(None, [label, record.name if len(records) > 1 or not label else ""]))
            escaped = title.replace("$", r"\$")  # two would begin and end a formula
            if y:
                lines[figure].append({"x": x, "y": y, "label": escaped, "color": colour, "linestyle": style})
    return [_figure(some, name) for name, some in lines.items() if some]


def comparison(record: Record) -> Figure | None:
    """Draw median and quartiles of the policy's and of uniform samples over the epochs; None where there are none."""
    lines = []
    for who, method in (("uniform", "uniform"), ("policy", "search")):
        epochs, found = record.curve(who)
        if found and "median" in found[0]:  # earlier versions wrote means only
            parts = ("lower_quartile", "median", "upper_quartile")
            lower, y, upper = np.array([[one[part] for one in found] for part in parts], dtype=float)  # null is NaN
            line = {"x": epochs, "y": y, "yerr": [y - lower, upper - y], "capsize": 3}
            lines.append({**line, "label": who, "color": METHOD_STYLES[method][1]})
    return _figure(lines, record.curve("compared_by")[1][0].replace("_", " ")) if lines else None


def _figure(lines: Sequence[Line], y_title: str) -> Figure:
    figure, (axes,) = new_figure(5.4, 3.8)
    for line in lines:
        axes.errorbar(**line, marker="o", markersize=3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set(xlabel="epoch", ylabel=y_title)
    figure.legend(loc="outside upper center", fontsize=8)
    return figure

"""How time grows with a size: log-log plots."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from enas.pictures.plots import SERIES_COLOURS, new_figure, write_figure

WORDS = {
    "shared_hid": "hidden units",
    "num_blocks": "nodes",
    "samples": "architectures at once",
    "vocabulary": "words of the vocabulary",
    "cnn_hid": "filters of the first layers",
    "cnn_num_layers": "layers, or normal cells",
    "batch_size": "images a step",
}


def exponent(values: list[float], milliseconds: list[float]) -> float:
    """Return the slope of the last doubling in a log-log plot: 1 where time is proportional to the size."""
    (x0, x1), (y0, y1) = np.log(values[-2:]), np.log(milliseconds[-2:])
    return float((y1 - y0) / (x1 - x0))


def growth_figure(growth: dict[str, list[dict]]) -> Figure:
    """Draw a panel for each size; `growth` is what results hold: points with "value" and "rows"."""
    rows = -(-len(growth) // 2)
    figure, panels = new_figure(9, 3.6 * rows, rows, min(2, len(growth)))
    for axes, (name, points) in zip(panels, growth.items(), strict=False):
        values = [point["value"] for point in points]
        for index, row in enumerate(points[0]["rows"]):
            times = [point["rows"][index]["milliseconds"] for point in points]
            label = f"{row['name']}: twice as much takes {2 ** exponent(values, times):.1f} times as long"
            axes.plot(values, times, marker="o", color=SERIES_COLOURS[index], label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.minorticks_off()
        axes.set_xlabel(WORDS.get(name, name))
        axes.set_ylabel("milliseconds")
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))
    for axes in panels[len(growth) :]:
        axes.remove()
    return figure


def write_growth(growth: dict[str, list[dict]], path: Path) -> Path:
    """Draw it as a PNG."""
    return write_figure(growth_figure(growth), path)

"""How time grows with a size: log-log plots with the exponent."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from enas.pictures.plots import write_figure


def exponent(values: list[float], milliseconds: list[float]) -> float:
    """The slope of the last doubling in a log-log plot: 1 where time is proportional to the size."""
    (x0, x1), (y0, y1) = np.log(values[-2:]), np.log(milliseconds[-2:])
    return float((y1 - y0) / (x1 - x0))


def growth_figure(growth: dict[str, list[dict]]) -> Figure:
    """A panel for each size; `growth` is what results hold: points with "value" and "rows"."""
    figure = Figure(figsize=(4.2 * len(growth), 3.8), dpi=120, layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(growth), squeeze=False)[0], growth.items(), strict=True):
        values = [point["value"] for point in points]
        for index, row in enumerate(points[0]["rows"]):
            times = [point["rows"][index]["milliseconds"] for point in points]
            axes.plot(values, times, marker="o", label=f"{row['name']}: exponent {exponent(values, times):.2f}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.minorticks_off()
        axes.set_xlabel(name)
        axes.set_ylabel("ms")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    return figure


def write_growth(growth: dict[str, list[dict]], path: Path) -> Path:
    """Draw it as a PNG."""
    return write_figure(growth_figure(growth), path)

"""The page: its curves, and figures and tables put into a template."""

import base64
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from enas.errors import UserError
from enas.files import atomic_write, reading
from enas.pictures.plots import METHOD_STYLES, SERIES_COLOURS, new_figure, plain_style, png_of
from enas.report.animation import open_picture, select
from enas.report.record import Record, read_ablations, read_evaluations, read_runs, settings_table
from enas.search.record import format_score
from enas.settings import place

# So that a page about two runs stays below 1 MB.
FRAMES = 12  # pictures of architectures, divided among the runs
WIDTH = 1000  # pixels
COLOURS = 128


def report(
    load_path: Sequence[str | Path] | str | Path,
    output: str | Path,
    *,
    log_dir: str | Path = "logs",
    results_dir: str | Path = "analysis_results",
) -> Path:
    """Write a page about runs, which needs nothing but a browser: no network, no other file.

    It begins with a sentence on each run, and shows the curves, the architecture over time, the controller's
    probabilities, the ablations and evaluations that belong to the runs, and the settings that differ from the default.
    UserError when there is no such run, it has no results yet, or `output` cannot be written.

    Args:
        load_path: a run or several, searches or from scratch: names in `log_dir` or paths; if empty, the newest run.
        output: where the page goes, which is returned; ends in .html. A page that is there is replaced.
        results_dir: where ablations and evaluations lie.
    """
    output = Path(place(output, "output"))
    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"output is {output}; its name must end in .html")
    records = read_runs([load_path] if isinstance(load_path, str | Path) else load_path or [""], log_dir)
    environment = Environment(
        loader=PackageLoader("enas.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "score": lambda value: "–" if value is None else format_score(value),
        "count": lambda value: f"{value:,}" if isinstance(value, int) else "–",
        "inline": _inline,
    }
    ablations, evaluations = (read(records, Path(place(results_dir))) for read in (read_ablations, read_evaluations))
    paths = [*(one.folder / "results.json" for one in records), *(one.path for one in (*ablations, *evaluations))]
    with reading(*paths, alone=False):
        page = environment.get_template("page.html").render(
            title=", ".join(record.name for record in records),
            records=records,
            frames=[select(record.pictures, max(1, FRAMES // len(records))) for record in records],
            settings=settings_table(records),
            curves=curves(records),
            comparisons=[comparison(record) for record in records],
            ablations=ablations,
            evaluations=evaluations,
        )
    with atomic_write(output) as file:
        file.write(page.encode())
    return output


def _inline(picture: Path | Figure) -> str:
    """Return a picture of few colours as an address that holds all of it; UserError for a file that is no PNG."""
    image = open_picture(picture if isinstance(picture, Path) else io.BytesIO(png_of(picture)))
    image.thumbnail((WIDTH, 4 * WIDTH))
    content = io.BytesIO()
    image.quantize(COLOURS, Image.Quantize.FASTOCTREE).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def curves(records: Sequence[Record]) -> list[Figure]:
    """Draw scores and rewards, by metric, entropy, and seconds an epoch: a figure each, the runs side by side."""
    metrics = list(dict.fromkeys(record.config.space.metric.name for record in records))
    rewards = {metric: "reward" if len(metrics) == 1 else f"reward ({metric})" for metric in metrics}
    names = (*metrics, *rewards.values(), "entropy (nats)", "seconds an epoch")
    lines: dict[str, list[dict[str, Any]]] = {name: [] for name in names}  # arguments of matplotlib's errorbar
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
        if found:
            parts = ("lower_quartile", "median", "upper_quartile")
            lower, y, upper = np.array([[one[part] for one in found] for part in parts], dtype=float)  # null is NaN
            line = {"x": epochs, "y": y, "yerr": [y - lower, upper - y], "capsize": 3}
            lines.append({**line, "label": who, "color": METHOD_STYLES[method][1]})
    return _figure(lines, record.curve("compared_by")[1][0].replace("_", " ")) if lines else None


@plain_style
def _figure(lines: Sequence[dict[str, Any]], y_title: str) -> Figure:
    figure, (axes,) = new_figure(5.4, 3.8)
    for line in lines:
        axes.errorbar(**line, marker="o", markersize=3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set(xlabel="epoch", ylabel=y_title)
    figure.legend(loc="outside upper center", fontsize=8)
    return figure

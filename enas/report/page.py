"""The page: the folders of runs, ablations and evaluations are read, and put as figures and tables into a template."""

import base64
import io
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from enas.config import Config, named, without_effect
from enas.errors import UserError
from enas.files import atomic_write, read_json, reading
from enas.pictures.plots import METHOD_STYLES, SERIES_COLOURS, new_figure, plain_style, png_of
from enas.report.animation import open_picture, select
from enas.runs.final import pictures_of
from enas.runs.folder import find_run, saved_config
from enas.search.record import format_score
from enas.settings import USE, place

# So that a page about two runs stays below 1 MB.
FRAMES = 12  # pictures of architectures, divided among the runs
WIDTH = 1000  # pixels
COLOURS = 128


@dataclass(frozen=True)
class Record:
    """A run."""

    name: str  # on the page
    folder: Path
    config: Config
    results: dict[str, Any]  # of results.json
    pictures: list[Path]  # of its architecture, oldest first
    policy: Path | None  # the picture of the controller's probabilities, where the controller learns

    def curve(self, name: str) -> tuple[list[int], list[Any]]:
        """Return the epochs at which an entry of the history has a value, and the values."""
        entries = [entry for entry in self.results["history"] if entry.get(name) is not None]
        return [entry["epoch"] for entry in entries], [entry[name] for entry in entries]


def read_runs(load_paths: Sequence[str | Path], log_dir: str | Path) -> list[Record]:
    """Read runs; UserError for one that is missing, damaged, or has no results yet."""
    folders = [find_run({"load_path": path, "log_dir": log_dir}) for path in load_paths]
    names = [folder.resolve().name for folder in folders]
    records = []
    for name, folder in zip(names, folders, strict=True):
        config, path = saved_config(folder), folder / "results.json"
        if not path.is_file():
            raise UserError(f"{folder}: has no results yet; its first epoch has not ended")
        pictures = pictures_of(folder) or sorted(folder.glob("architecture.png"))
        shown = name if len(set(names)) == len(names) else str(folder)
        records.append(Record(shown, folder, config, read_json(path), pictures, next(folder.glob("policy.png"), None)))
    return records


def settings_table(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """Return the settings that differ from the defaults in a run, each with its value in every run."""
    configs = [record.config for record in records]
    shown = [{name: value for name, value in one.to_dict().items() if not without_effect(name, one)} for one in configs]
    defaults = {name: list(one) if isinstance(one, tuple) else one for name, one in Config().values.items()}
    return [
        (name, [str(one.get(name, "–")) for one in shown])
        for name in dict.fromkeys(itertools.chain(*shown))
        if name not in named(USE) and any(one.get(name, defaults[name]) != defaults[name] for one in shown)
    ]


@dataclass(frozen=True)
class Study:
    """An ablation or an evaluation: its results.json, and the plots that lie beside it."""

    name: str
    metric: str
    results: dict[str, Any]
    path: Path

    @property
    def pictures(self) -> list[Path]:
        """The plots, the main ones first; the test scores of single nodes are in the table."""
        plots = [path for path in self.path.parent.glob("*.png") if path.name != "nodes_test.png"]
        return sorted(plots, key=lambda path: (path.name.startswith("ranking"), path.name))


def read_ablations(records: Sequence[Record], results_dir: Path) -> list[Study]:
    """Read the ablations that belong to `records`, finished or not."""
    found = []
    for record, path in itertools.product(records, sorted(results_dir.glob("*/*/results.json"))):
        content, run, metric = read_json(path), record.folder.resolve(), record.config.space.metric.name
        # The name of the run is followed by nothing, or _train_scratch, or the name of an architecture's file.
        if f"{content.get('run')}_".startswith(f"{run.name}_"):
            with reading(path, path.with_name("params.json")):
                # Runs of two log_dirs can have the same name. Where a run has been moved, the name has to do.
                params = read_json(path.with_name("params.json"))
                weights = Path(params.get("weights") or params.get("load_path") or run).resolve()
                if f"validation_{metric}" in content["rows"][0] and (weights == run or not weights.exists()):
                    name = f"{content['ablation'].replace('_', ' ')} · {path.parent.name}"
                    found.append(Study(name, metric, content, path))
    return found


def read_evaluations(records: Sequence[Record], results_dir: Path) -> list[Study]:
    """Read the search evaluations on the dataset of any of these runs."""
    datasets, found = {record.config.dataset for record in records}, []
    for path in sorted((results_dir / "search_evaluation").glob("*/results.json")):
        content = read_json(path)
        if content.get("methods") and content.get("dataset") in datasets:
            with reading(path):
                found.append(Study(path.parent.name, content["metric"], content, path))
    return found


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
    records = read_runs([load_path] if isinstance(load_path, str | os.PathLike) else load_path or [""], log_dir)
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
            escaped = " " * title.startswith("_") + title.replace("$", r"\$")  # hides labels, begins formulas
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

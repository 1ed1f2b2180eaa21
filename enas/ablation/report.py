"""The output of an ablation: files, a printed table, plots."""

import csv
import io
import itertools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enas.ablation.study import SPLITS, Study
from enas.config import named
from enas.pictures.plots import bars_figure, table_figure, write_figure
from enas.runs.files import atomic_write, finite, read_json, write_json
from enas.runs.folder import only_user
from enas.settings import USE

RESULTS_DIR = Path("analysis_results")


@contextmanager
def opened(ablation: str, study: Study) -> Iterator[Path]:
    """The folder `RESULTS_DIR`/ABLATION/STUDY of this ablation, or STUDY-2 and so on where another one lies there.

    Raises:
        UserError: it cannot be written to, or another process does.
    """
    asked = json.loads(json.dumps(finite(_asked(ablation, study))))
    for number in itertools.count(1):
        folder = RESULTS_DIR / ablation / (study.name if number == 1 else f"{study.name}-{number}")
        params = folder / "params.json"
        if not params.is_file() or _same(read_json(params), asked):
            break
    with only_user(folder):
        write_json(params, asked)
        yield folder


def _asked(ablation: str, study: Study) -> dict[str, Any]:
    """Everything that the scores depend on."""
    what = {"ablation": ablation, "architecture": study.architecture.to_dict(), **study.origin}
    return {**study.config.to_dict(), **what}


def _same(saved: dict[str, Any], asked: dict[str, Any]) -> bool:
    here = (named(USE) - {"mode"}) | {"dag_path"}
    return isinstance(saved, dict) and all(saved.get(name) == asked.get(name) for name in {*saved, *asked} - here)


def known(folder: Path) -> list[dict[str, Any]]:
    """The rows that an earlier call wrote there."""
    path = folder / "results.json"
    rows = read_json(path)["rows"] if path.is_file() else []
    scores = tuple(f"{split}_" for split in SPLITS)
    return [
        {name: math.nan if value is None and name.startswith(scores) else value for name, value in row.items()}
        for row in rows
    ]


def write_rows(folder: Path, ablation: str, study: Study, rows: list[dict[str, Any]]) -> None:
    """Write the rows there are so far."""
    write_json(folder / "results.json", {"ablation": ablation, "run": study.name, "rows": rows})


def write_table(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows as a table for other programs."""
    columns = [name for name in rows[0] if name != "architecture"]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with atomic_write(folder / "results.csv") as file:
        file.write(text.getvalue().encode())


def print_table(study: Study, rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table for people."""
    metric, decimals = study.metric.name, study.metric.decimals
    width = max(len(row["edit"]) for row in rows)
    costs = "  parameters  multiply-adds" if "parameters" in rows[0] else ""
    print(f"{'':{width}}  validation   change        test   change{costs}   ({metric})")
    for row in rows:
        numbers = [
            f"{row[f'{name}_{metric}']:10.{decimals}f} {row[f'{name}_change']:+8.{decimals}f}" for name in SPLITS
        ]
        cost = f"  {row['parameters']:10,}  {row['multiply_adds']:13,}" if costs else ""
        print(f"{row['edit']:{width}}  {'  '.join(numbers)}{cost}")


def plot_replacements(folder: Path, study: Study, rows: list[dict[str, Any]]) -> None:
    """Plot bars of the variants with everything replaced, and tables of those with one node replaced, a split each."""
    part, node = study.architecture.part_word, study.architecture.node_word
    whole = [row for row in rows if row["node"] is None and row[part]]
    labels = [row[part] for row in whole]
    _plot_bars(folder / "all_nodes.png", study, whole, rows[0], labels, f"all {part}s replaced")
    for split in SPLITS:
        title = f"{study.name}: one {node}'s {part} replaced"
        _plot_nodes(folder / f"nodes_{split}.png", study, rows, split, title)


def plot_removals(folder: Path, study: Study, rows: list[dict[str, Any]]) -> None:
    """Plot bars of the variants with one node removed."""
    node, removed = study.architecture.node_word, rows[1:]
    labels = [f"{node} {row['node']}" for row in removed]
    _plot_bars(folder / "nodes.png", study, removed, rows[0], labels, f"one {node} removed")


def _plot_bars(
    path: Path, study: Study, rows: list[dict[str, Any]], unedited: dict[str, Any], labels: list[str], what: str
) -> None:
    metric = study.metric.name
    figure = bars_figure(
        labels,
        {name: [row[f"{name}_{metric}"] for row in rows] for name in SPLITS},
        baseline={name: unedited[f"{name}_{metric}"] for name in SPLITS},
        metric=metric,
        title=f"{study.name}: {what}",
    )
    write_figure(figure, path)


def _plot_nodes(path: Path, study: Study, rows: list[dict[str, Any]], split: str, title: str) -> None:
    part, metric = study.architecture.part_word, study.metric
    by_edit = {(row["node"], row[part]): row for row in rows if row["node"] is not None}
    nodes, names = (list(dict.fromkeys(key[index] for key in by_edit)) for index in (0, 1))
    figure = table_figure(
        [str(node) for node in nodes],
        names,
        [[by_edit[node, name][f"{split}_{metric.name}"] for name in names] for node in nodes],
        own=[_own([by_edit[node, name] for name in names], rows[0], part) for node in nodes],
        baseline=rows[0][f"{split}_{metric.name}"],
        metric=f"{split} {metric.name}",
        higher_is_better=metric.higher_is_better,
        names=(study.architecture.node_word, part),
        title=title,
    )
    write_figure(figure, path)


def _own(rows: list[dict[str, Any]], unedited: dict[str, Any], part: str) -> str | None:
    """Find the replacement that changed nothing."""
    return next((row[part] for row in rows if row["architecture"] == unedited["architecture"]), None)

"""The output of an ablation: files, a printed table, plots."""

import csv
import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enas.config import named
from enas.files import atomic_write, finite, read_json, write_json
from enas.pictures.plots import bars_figure, table_figure, write_figure
from enas.runs.folder import only_user
from enas.settings import USE
from enas.studies.study import SPLITS, Study

RESULTS_DIR = Path("analysis_results")


@contextmanager
def opened(ablation: str, study: Study) -> Iterator[Path]:
    """The folder `RESULTS_DIR`/ABLATION/STUDY of this ablation, or STUDY-2 and so on where another one lies there.

    UserError when it cannot be written to, or another process writes there.
    """
    what = {"ablation": ablation, "architecture": study.architecture.to_dict(), **study.origin}
    asked = finite({**study.config.to_dict(), **what})  # everything that the scores depend on
    here = (named(USE) - {"mode"}) | {"dag_path"}
    for number in itertools.count(1):
        folder = RESULTS_DIR / ablation / (study.name if number == 1 else f"{study.name}-{number}")
        params = folder / "params.json"
        saved = read_json(params) if params.is_file() else asked
        if isinstance(saved, dict) and all(saved.get(name) == asked.get(name) for name in {*saved, *asked} - here):
            break
    with only_user(folder):
        write_json(params, asked)
        yield folder


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
    metric, decimals, has_cost = study.metric.name, study.metric.decimals, "parameters" in rows[0]
    width = max(len(row["edit"]) for row in rows)
    line = f"{{:{width}}}  {{:>10}} {{:>8}}  {{:>10}} {{:>8}}" + ("  {:>10}  {:>13}" if has_cost else "")
    titles = line.format("", "validation", "change", "test", "change", "parameters", "multiply-adds")
    print(f"{titles}   ({metric})")
    for row in rows:
        scores = [(row[f"{split}_{metric}"], row[f"{split}_change"]) for split in SPLITS]
        numbers = [text for score, change in scores for text in (f"{score:.{decimals}f}", f"{change:+.{decimals}f}")]
        costs = [f"{row[name]:,}" for name in ("parameters", "multiply_adds") if has_cost]
        print(line.format(row["edit"], *numbers, *costs))


def plot_replacements(folder: Path, study: Study, rows: list[dict[str, Any]]) -> None:
    """Plot bars of the variants with everything replaced, and tables of those with one node replaced, a split each."""
    part = study.architecture.part_word
    whole = [row for row in rows if row["node"] is None and row[part]]
    _plot_bars(folder / "all_nodes.png", study, rows[0], {row[part]: row for row in whole}, f"all {part}s replaced")
    for split in SPLITS:
        _plot_nodes(folder / f"nodes_{split}.png", study, rows, split)


def plot_removals(folder: Path, study: Study, rows: list[dict[str, Any]]) -> None:
    """Plot bars of the variants with one node removed."""
    node = study.architecture.node_word
    removed = {f"{node} {row['node']}": row for row in rows[1:]}
    _plot_bars(folder / "nodes.png", study, rows[0], removed, f"one {node} removed")


def _plot_bars(path: Path, study: Study, unedited: dict[str, Any], rows: dict[str, dict[str, Any]], what: str) -> None:
    metric = study.metric.name
    figure = bars_figure(
        [*rows],
        {split: [row[f"{split}_{metric}"] for row in rows.values()] for split in SPLITS},
        baseline={split: unedited[f"{split}_{metric}"] for split in SPLITS},
        metric=study.metric,
        title=f"{study.name}: {what}",
    )
    write_figure(figure, path)


def _plot_nodes(path: Path, study: Study, rows: list[dict[str, Any]], split: str) -> None:
    part, node_word, metric = study.architecture.part_word, study.architecture.node_word, study.metric
    by_edit = {(row["node"], row[part]): row for row in rows if row["node"] is not None}
    nodes, names = map(list, map(dict.fromkeys, zip(*by_edit, strict=True)))
    # A node's own part is the replacement that changed nothing.
    own = {node: name for (node, name), row in by_edit.items() if row["architecture"] == rows[0]["architecture"]}
    figure = table_figure(
        [str(node) for node in nodes],
        names,
        [[by_edit[node, name][f"{split}_{metric.name}"] for name in names] for node in nodes],
        own=[own.get(node) for node in nodes],
        baseline=rows[0][f"{split}_{metric.name}"],
        metric=metric,
        split=split,
        names=(node_word, part),
        title=f"{study.name}: one {node_word}'s {part} replaced",
    )
    write_figure(figure, path)

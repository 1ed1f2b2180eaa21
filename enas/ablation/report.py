"""The output of an ablation: files, a printed table, plots."""

import csv
import io
from pathlib import Path

from enas.ablation.study import SPLITS, Study
from enas.pictures.plots import bars_figure, table_figure, write_figure
from enas.runs.files import atomic_write, write_json

RESULTS_DIR = Path("analysis_results")


def write(ablation: str, study: Study, rows: list[dict], max_batches: int | None) -> Path:
    """Write the rows to `RESULTS_DIR`/ABLATION/RUN/ and print them as a table; return that folder."""
    folder = RESULTS_DIR / ablation / study.name
    write_json(folder / "params.json", {**study.config.to_dict(), "ablation": ablation, "max_batches": max_batches})
    write_json(folder / "results.json", {"ablation": ablation, "run": study.name, "rows": rows})
    columns = [name for name in rows[0] if name != "architecture"]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with atomic_write(folder / "results.csv") as file:
        file.write(text.getvalue().encode())
    _print_table(study, rows)
    print(f"wrote {folder}: params.json, results.json, results.csv and plots")
    return folder


def _print_table(study: Study, rows: list[dict]) -> None:
    metric, decimals = study.metric.name, study.metric.decimals
    width = max(len(row["edit"]) for row in rows)
    print(f"{'':{width}}  validation   change        test   change   ({metric})")
    for row in rows:
        numbers = [
            f"{row[f'{name}_{metric}']:10.{decimals}f} {row[f'{name}_change']:+8.{decimals}f}" for name in SPLITS
        ]
        print(f"{row['edit']:{width}}  {'  '.join(numbers)}")


def plot_replacements(folder: Path, study: Study, rows: list[dict]) -> None:
    """Plot bars of the variants with everything replaced, and tables of those with one node replaced, a split each."""
    part, node = study.architecture.part_word, study.architecture.node_word
    whole = [row for row in rows if row["node"] is None and row[part]]
    labels = [row[part] for row in whole]
    _plot_bars(folder / "all_nodes.png", study, whole, rows[0], labels, f"all {part}s replaced")
    for split in SPLITS:
        title = f"{study.name}: one {node}'s {part} replaced"
        _plot_nodes(folder / f"nodes_{split}.png", study, rows, split, title)


def plot_removals(folder: Path, study: Study, rows: list[dict]) -> None:
    """Plot bars of the variants with one node removed."""
    node, removed = study.architecture.node_word, rows[1:]
    labels = [f"{node} {row['node']}" for row in removed]
    _plot_bars(folder / "nodes.png", study, removed, rows[0], labels, f"one {node} removed")


def _plot_bars(path: Path, study: Study, rows: list[dict], unedited: dict, labels: list[str], what: str) -> None:
    metric = study.metric.name
    figure = bars_figure(
        labels,
        {name: [row[f"{name}_{metric}"] for row in rows] for name in SPLITS},
        baseline={name: unedited[f"{name}_{metric}"] for name in SPLITS},
        metric=metric,
        title=f"{study.name}: {what}",
    )
    write_figure(figure, path)


def _plot_nodes(path: Path, study: Study, rows: list[dict], split: str, title: str) -> None:
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


def _own(rows: list[dict], unedited: dict, part: str) -> str | None:
    """Find the replacement that changed nothing."""
    return next((row[part] for row in rows if row["architecture"] == unedited["architecture"]), None)

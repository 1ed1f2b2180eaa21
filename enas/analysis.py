"""Ablation studies: what a derived cell's activations, and its nodes, are worth.

from enas import analysis
analysis.node_removal({"load_path": "ptb_orig_2026-11-24_12-00-00"})
"""

import csv
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from enas import run
from enas.cli import guarded
from enas.config import Config, from_mapping, make_parser, with_variation
from enas.files import atomic_write
from enas.logbook import progress_bar, write_json
from enas.plots import plot_bars, plot_table
from enas.run_folder import SEARCHES, choose_run, run_config, scratch_config
from enas.search_space import RNNCell

RESULTS_DIR = Path("analysis_results")
SPLITS = {"validation": "valid", "test": "test"}
MODES = ("derive", "train_scratch")
METRIC = "perplexity"


@dataclass(frozen=True)
class Variant:
    """A cell, and how it came from the one that is studied.

    Attributes:
        edit: in words; "unedited" for the cell itself.
        node: the node that was edited, None for all of them or none.
        activation: what took an activation's place, None where nothing did.
        cell: the outcome.
    """

    edit: str
    node: int | None
    activation: str | None
    cell: RNNCell


@dataclass(frozen=True)
class Study:
    """What the variants of a cell are scored with.

    Attributes:
        name: of the run, or of the file, that the cell comes from.
        config: the settings in force.
        cell: the cell that is studied.
        score: its perplexity, and that of any variant, on validation and test.
    """

    name: str
    config: Config
    cell: RNNCell
    score: Callable[[RNNCell], dict[str, float]]


def activation_replacement(settings: dict, max_batches: int | None = None) -> list[dict]:
    """Score the cell with all its activations replaced by each in turn, then with those of single nodes replaced.

    Args:
        settings: as on the command line: mode derive scores with the shared weights of the run that load_path names
            (or the newest), mode train_scratch trains every variant anew; dag_path names another cell to study.
        max_batches: of each split, in mode derive; all unless given.

    Returns:
        the rows of results.json, which lies in analysis_results/activation_replacement/RUN/ with plots and a table.

    Raises:
        ValueError, FileNotFoundError: with a line that names what is wrong and what would be right.
    """
    study = begin(settings, max_batches)
    rows = _score(study, activation_variants(study.cell, study.config.shared_rnn_activations))
    folder = _write("activation_replacement", study, rows, max_batches)
    whole = [row for row in rows if row["node"] is None and row["activation"]]
    _plot_bars(folder / "all_nodes.png", study, whole, [row["activation"] for row in whole], "all activations replaced")
    for split in SPLITS:
        _plot_nodes(folder / f"nodes_{split}.png", study, rows, split)
    return rows


def node_removal(settings: dict, max_batches: int | None = None) -> list[dict]:
    """Score the cell without each of its nodes in turn, its children reading its parent.

    They do so through the shared weights of that pair. Arguments, files and errors are those of
    `activation_replacement`.
    """
    study = begin(settings, max_batches)
    if study.cell.num_blocks == 1:
        raise ValueError("the cell has one node, 0, which cannot be removed: it alone reads the input")
    rows = _score(study, removal_variants(study.cell))
    print("node 0 stays: it alone reads the input and the previous state, and cannot be removed")
    folder = _write("node_removal", study, rows, max_batches)
    removed = rows[1:]
    _plot_bars(folder / "nodes.png", study, removed, [f"node {row['node']}" for row in removed], "one node removed")
    return rows


def activation_variants(cell: RNNCell, activations: tuple[str, ...]) -> list[Variant]:
    """The cell; with all its activations replaced by each of `activations`; with each node's replaced alone."""
    variants = [Variant("unedited", None, None, cell)]
    variants += [Variant(f"all {name}", None, name, cell.replace_activations(name)) for name in activations]
    variants += [
        Variant(f"node {node} {name}", node, name, cell.replace_activations(name, node))
        for node in cell.nodes
        for name in activations
    ]
    return variants


def removal_variants(cell: RNNCell) -> list[Variant]:
    """The cell; without each of its nodes but 0, one at a time."""
    removed = [Variant(f"without node {node}", node, None, cell.remove_node(node)) for node in cell.nodes[1:]]
    return [Variant("unedited", None, None, cell), *removed]


def begin(settings: dict, max_batches: int | None = None) -> Study:
    """Find the cell, and what to score it with. Arguments and errors are those of `activation_replacement`."""
    mode = settings.get("mode", "derive")
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; an ablation takes {' or '.join(MODES)}")
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches is {max_batches}; it must be at least 1")
    if mode == "derive":
        return _with_shared_weights(settings, max_batches)
    if max_batches is not None:
        raise ValueError(
            "max_batches has no effect in mode train_scratch; --max_epoch and --shared_max_step shorten it"
        )
    return _from_scratch(settings)


def _with_shared_weights(settings: dict, max_batches: int | None) -> Study:
    dag_path = settings.get("dag_path")
    folder = choose_run(settings, SEARCHES)
    config = run_config(folder, {name: value for name, value in settings.items() if name != "dag_path"})
    trainer, warnings = run.restore(config, folder)
    for line in warnings:
        print(line)
    cell = RNNCell.load(dag_path) if dag_path else trainer.derive()[0]

    def score(variant: RNNCell) -> dict[str, float]:
        return {name: trainer.task.evaluate(variant, split, max_batches) for name, split in SPLITS.items()}

    return Study(_name(folder, dag_path), config, cell, score)


def _from_scratch(settings: dict) -> Study:
    dag_path = settings.get("dag_path")
    if dag_path and not settings.get("load_path"):
        folder, cell, config = None, RNNCell.load(dag_path), from_mapping(settings, "settings")
    else:
        folder = choose_run(settings, SEARCHES)
        cell = RNNCell.load(dag_path) if dag_path else run.derived_architecture(folder, settings)
        config = scratch_config(folder, settings)

    def score(variant: RNNCell) -> dict[str, float]:
        results = run.train_alone(config, variant)
        return {name: results[f"{name}_{METRIC}"] for name in SPLITS}

    return Study(_name(folder, dag_path), config, cell, score)


def _name(folder: Path | None, dag_path: str | None) -> str:
    return "_".join([part for part in (folder and folder.resolve().name, dag_path and Path(dag_path).stem) if part])


def _score(study: Study, variants: list[Variant]) -> list[dict]:
    """One row a variant, in order; the first one is the cell itself, and the changes are from it."""
    rows: list[dict] = []
    for variant in progress_bar(variants, "variants"):
        scores = study.score(variant.cell)
        base = rows[0] if rows else {f"{name}_{METRIC}": value for name, value in scores.items()}
        rows.append(
            {
                "edit": variant.edit,
                "node": variant.node,
                "activation": variant.activation,
                **{f"{name}_{METRIC}": value for name, value in scores.items()},
                **{f"{name}_change": value - base[f"{name}_{METRIC}"] for name, value in scores.items()},
                "architecture": variant.cell.to_dict(),
            }
        )
    return rows


def _write(ablation: str, study: Study, rows: list[dict], max_batches: int | None) -> Path:
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
    _print_table(rows)
    print(f"wrote {folder}: params.json, results.json, results.csv and plots")
    return folder


def _print_table(rows: list[dict]) -> None:
    width = max(len(row["edit"]) for row in rows)
    print(f"{'':{width}}  validation   change        test   change   ({METRIC})")
    for row in rows:
        numbers = [f"{row[f'{name}_{METRIC}']:10.2f} {row[f'{name}_change']:+8.2f}" for name in SPLITS]
        print(f"{row['edit']:{width}}  {'  '.join(numbers)}")


def _plot_bars(path: Path, study: Study, rows: list[dict], labels: list[str], what: str) -> None:
    plot_bars(
        labels,
        {name: [row[f"{name}_{METRIC}"] for row in rows] for name in SPLITS},
        baseline={name: rows[0][f"{name}_{METRIC}"] - rows[0][f"{name}_change"] for name in SPLITS},
        metric=METRIC,
        title=f"{study.name}: {what}",
        path=path,
    )


def _plot_nodes(path: Path, study: Study, rows: list[dict], split: str) -> None:
    cell, activations = study.cell, study.config.shared_rnn_activations
    scores = {(row["node"], row["activation"]): row[f"{split}_{METRIC}"] for row in rows}
    plot_table(
        [str(node) for node in cell.nodes],
        activations,
        [[scores[node, name] for name in activations] for node in cell.nodes],
        own=[name if name in activations else None for name in cell.activations],
        baseline=rows[0][f"{split}_{METRIC}"],
        metric=f"{split} {METRIC}",
        title=f"{study.name}: one node's activation replaced",
        path=path,
    )


def main(ablation: Callable[[dict, int | None], list[dict]], argv: list[str] | None = None) -> int:
    """Run an ablation as the flags say; returns the exit status, as `enas.cli.main` does."""
    return guarded(lambda: ablation(*_flags(sys.argv[1:] if argv is None else argv, ablation.__doc__.splitlines()[0])))


def _flags(argv: list[str], description: str) -> tuple[dict, int | None]:
    parser = make_parser(description)
    help = "minibatches of each split to score on, in mode derive (default: all)"
    parser.add_argument("--max_batches", type=int, metavar="N", help=help)
    settings = with_variation(parser.given(argv))
    return settings, settings.pop("max_batches", None)

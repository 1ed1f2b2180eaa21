"""Ablation studies: what a derived architecture's activations or operations, and its nodes, are worth.

from enas.studies.ablations import node_removal
node_removal(load_path="ptb_orig_2026-11-24_12-00-00")
"""

from collections.abc import Callable, Sequence
from typing import Any

from enas.errors import UserError
from enas.files import read_json, write_json
from enas.runs.folder import say
from enas.runs.opening import undisturbed
from enas.studies import report
from enas.studies.study import Study, Variant, begin, removals, replacements, score_variants

Rows = list[dict[str, Any]]


@undisturbed()
def activation_replacement(*, max_batches: int | None = None, **settings: Any) -> Rows:
    """Score the cell with all its activations replaced by each in turn, then with those of single nodes replaced.

    Args:
        max_batches: of each split, in mode derive; all unless given.
        settings: as on the command line: mode derive scores with the shared weights of the run that load_path names
            (or the newest), mode train_scratch trains every variant from scratch; dag_path names another
            architecture to study.

    Returns:
        the rows of results.json, written to analysis_results/activation_replacement/RUN/ with plots and a table. Mode
        train_scratch has a folder RUN_train_scratch. Rows are written as they come, and the same call goes on after the
        last one; with other settings or data, or more of the search trained, it takes a folder RUN-2 and so on.
    """
    return _replacement("activation_replacement", settings, max_batches)


@undisturbed()
def operation_replacement(*, max_batches: int | None = None, **settings: Any) -> Rows:
    """Score the network with all its operations replaced by each in turn, then with those of single layers or nodes.

    A micro network's nodes have two operations; both are replaced. Arguments and files are those of
    `activation_replacement`.
    """
    return _replacement("operation_replacement", settings, max_batches)


def _replacement(ablation: str, settings: dict[str, Any], max_batches: int | None) -> Rows:
    study = begin(settings, max_batches, ablation)
    variants = replacements(study.architecture, study.config.space.parts(study.config))
    return _scored(ablation, study, variants, report.plot_replacements)


@undisturbed()
def node_removal(*, max_batches: int | None = None, **settings: Any) -> Rows:
    """Score the architecture without each of its nodes, or layers, in turn.

    Nodes that read the removed node read its input instead, through the shared weights of that pair; see `remove_node`
    of each architecture. Arguments and files are those of `activation_replacement`.
    """
    study = begin(settings, max_batches)
    variants, kept = removals(study.architecture)
    if len(variants) == 1:
        raise UserError(f"{study.architecture.title} with nothing to remove: {'; '.join(kept)}")
    return _scored("node_removal", study, variants, report.plot_removals, kept)


def _scored(
    ablation: str, study: Study, variants: list[Variant], plot: Callable[..., None], notes: Sequence[str] = ()
) -> Rows:
    """The rows of all variants, written as they come, then printed and plotted."""
    with report.opened(ablation, study) as folder:
        path, rows = folder / "results.json", []
        known = read_json(path)["rows"] if path.is_file() else []
        for rows in score_variants(study, variants, known):
            write_json(path, {"ablation": ablation, "run": study.name, "rows": rows})
        say(notes)
        report.print_table(study, rows)
        report.write_table(folder, rows)
        plot(folder, study, rows)
        print(f"wrote {folder}: params.json, results.json, results.csv and plots")
    return rows

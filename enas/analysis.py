"""Ablation studies: what a derived architecture's activations or operations, and its nodes, are worth.

from enas import analysis
analysis.node_removal({"load_path": "ptb_orig_2026-11-24_12-00-00"})
"""

import sys
from collections.abc import Callable

from enas.ablation.report import plot_removals, plot_replacements, write
from enas.ablation.study import begin, score_variants
from enas.ablation.variants import activation_variants, operation_variants, removal_variants
from enas.cli import guarded
from enas.config import make_parser, with_variation


def activation_replacement(settings: dict, max_batches: int | None = None) -> list[dict]:
    """Score the cell with all its activations replaced by each in turn, then with those of single nodes replaced.

    Args:
        settings: as on the command line: mode derive scores with the shared weights of the run that load_path names
            (or the newest), mode train_scratch trains every variant anew; dag_path names another architecture to
            study.
        max_batches: of each split, in mode derive; all unless given.

    Returns:
        the rows of results.json, which lies in analysis_results/activation_replacement/RUN/ with plots and a table.

    Raises:
        ValueError, FileNotFoundError: with a line that names what is wrong and what would be right.
    """
    study = begin(settings, max_batches, "rnn")
    rows = score_variants(study, activation_variants(study.architecture, study.config.shared_rnn_activations))
    plot_replacements(write("activation_replacement", study, rows, max_batches), study, rows)
    return rows


def operation_replacement(settings: dict, max_batches: int | None = None) -> list[dict]:
    """Score the network with all its operations replaced by each in turn, then with those of single layers or nodes.

    A micro network's nodes have two operations; both are replaced. Arguments, files and errors are those of
    `activation_replacement`.
    """
    study = begin(settings, max_batches, "cnn")
    rows = score_variants(study, operation_variants(study.architecture))
    plot_replacements(write("operation_replacement", study, rows, max_batches), study, rows)
    return rows


def node_removal(settings: dict, max_batches: int | None = None) -> list[dict]:
    """Score the architecture without each of its nodes, or layers, in turn.

    What read a node reads what that node read, through the shared weights of that pair; `remove_node` of each
    architecture says more. Arguments, files and errors are those of `activation_replacement`.
    """
    study = begin(settings, max_batches)
    variants, kept = removal_variants(study.architecture)
    if len(variants) == 1:
        raise ValueError(f"{study.architecture.title} with nothing to remove: {'; '.join(kept)}")
    rows = score_variants(study, variants)
    for reason in kept:
        print(reason)
    plot_removals(write("node_removal", study, rows, max_batches), study, rows)
    return rows


def main(ablation: Callable[[dict, int | None], list[dict]], argv: list[str] | None = None) -> int:
    """Run an ablation as the flags say; returns the exit status, as `enas.cli.main` does."""
    return guarded(lambda: ablation(*_flags(sys.argv[1:] if argv is None else argv, ablation.__doc__.splitlines()[0])))


def _flags(argv: list[str], description: str) -> tuple[dict, int | None]:
    parser = make_parser(description)
    help = "minibatches of each split to score on, in mode derive (default: all)"
    parser.add_argument("--max_batches", type=int, metavar="N", help=help)
    settings = with_variation(parser.given(argv))
    return settings, settings.pop("max_batches", None)

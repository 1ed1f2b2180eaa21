"""Does the policy get better? Its expected score from scratch after every epoch, exact by a table of all functions.

python -m benchmarks.policy --config cells4 --table ablation_studies/tables/cells4.json --output policy --seeds 10

The expected score of a policy is Σ over functions of its probability × the mean validation of the function's trainings
from scratch. The variants differ in the architectures that train ω once the controller trains: the policy's, uniform
ones, half of each; one has no controller. Each search is a JSON file in OUTPUT; the same command goes on.
"""

import argparse
import itertools
import math
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from enas.config import Config
from enas.errors import UserError
from enas.files import read_json, write_json
from enas.guard import guarded
from enas.pictures.plots import SERIES_COLOURS, new_figure, write_figure
from enas.runs import run as runs
from enas.search.rungs import halve, rungs_to
from enas.studies.statistics import tau
from enas.studies.truth import Table, budget_of, digest_of, load_table, side_by_side

VARIANTS: dict[str, dict[str, Any]] = {
    "ω on the policy's samples": {"shared_uniform": 0.0},
    "ω on half of each": {"shared_uniform": 0.5},
    "ω on uniform samples": {"shared_uniform": 1.0},
    "no controller": {"train_type": "random"},
}
CANDIDATES = 27


def cells_of(config: Config) -> list[Any]:
    """List all labelled architectures of the space."""
    space = config.space.problem().space(config)
    return [space.decode(row) for row in itertools.product(*map(range, space.sizes))]


def searched(settings: dict[str, Any]) -> dict[str, Any]:
    """Search, and return the facts that a table judges.

    Returns:
        "probabilities", of each function after each epoch; "shared", the metric of each with the shared weights on all
        of validation; "derived" and "candidates", the numbers of functions; and "seconds" of a core. Functions are in
        the order in which the space lists them.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Config(**settings, log_dir=folder, save_epoch=1)
        cells = cells_of(config.replace(train_type="orig"))
        number = {one: place for place, one in enumerate(dict.fromkeys(cell.canonical() for cell in cells))}
        places = [number[cell.canonical()] for cell in cells]
        outcome: dict[str, Any] = {"probabilities": []}

        def look(run: runs.Run, entry: dict[str, Any]) -> None:
            training: Any = run._opened()
            if training.controller.is_trained:
                chances = np.bincount(places, np.exp(run.log_prob(cells)))
                outcome["probabilities"].append([float(f"{chance:.4g}") for chance in chances])
            if entry["epoch"] < config.max_epoch:
                return
            outcome["seconds"] = training.clocks()["cpu_seconds"]
            outcome["shared"] = [round(score, 3) for score in run.score([*number])]
            for name, is_uniform in (("candidates", False), ("candidates_uniform", True)):
                more = {"derive_shortlist": CANDIDATES, "derive_uniform": is_uniform}
                deriver = replace(training.deriver, config=replace(training.deriver.config, **more))
                outcome[name] = [number[one.canonical()] for one in deriver.shortlist().ranking]

        found = runs.train(config, on_epoch=look, quiet=True)
        return {**outcome, "derived": number[found.architecture.canonical()]}


def judged(outcome: dict[str, Any], truth: np.ndarray, curves: list[list[float]], config: Config) -> dict[str, Any]:
    """Return an outcome's figures: the expected score of each epoch, ranks and score of what was chosen, and τ."""
    metric, sign = config.space.metric, _sign(config)
    ranks = np.argsort(np.argsort(sign * truth)) + 1
    figures: dict[str, Any] = {
        "expected": [float(np.dot(row, truth) / sum(row)) for row in outcome["probabilities"]],
        "derived": int(ranks[outcome["derived"]]),
        "score": float(truth[outcome["derived"]]),
        "tau": tau(np.array(outcome["shared"], dtype=float), truth)["tau"],
        "seconds": outcome["seconds"],
    }
    for name in ("candidates", "candidates_uniform"):
        last = halve(outcome[name], rungs_to(len(curves[0])), partial(_read, curves, sign), metric)
        figures[f"halved_{name}"] = int(ranks[last])
    return figures


def _read(curves: list[list[float]], sign: int, some: list[int], epochs: int) -> dict[int, float]:
    return {one: sign * min(sign * score for score in curves[one][:epochs]) for one in some}


def _sign(config: Config) -> int:
    """Return the factor that makes a lower score the better one."""
    return -1 if config.space.metric.higher_is_better else 1


def policy_figure(figures: dict[str, list[dict[str, Any]]], truth: np.ndarray, config: Config) -> Figure:
    """Draw the expected score of each variant's policy after each epoch: the mean over seeds, and their range.

    Without a controller there is no policy, and a level line is the mean score of the functions that were derived.
    """
    figure, (axes,) = new_figure(7.2, 4.4)
    for (name, some), colour in zip(figures.items(), SERIES_COLOURS, strict=False):
        lines = np.array([one["expected"] for one in some])
        if lines.size:
            epochs = range(1, lines.shape[1] + 1)
            axes.plot(epochs, lines.mean(0), color=colour, marker="o", label=name)
            axes.fill_between(epochs, lines.min(0), lines.max(0), color=colour, alpha=0.15, linewidth=0)
        else:
            derived = np.mean([one["score"] for one in some])
            axes.axhline(derived, color=colour, linestyle="-.", label=f"{name}: the derived functions")
    axes.axhline(truth.mean(), color="0.45", linestyle="--", label="uniform over functions")
    axes.axhline(_sign(config) * (_sign(config) * truth).min(), color="0.45", linestyle=":", label="best function")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"expected {config.space.metric.name} from scratch")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.1))  # left of the lines, above the best function
    return figure


def table_of(figures: dict[str, list[dict[str, Any]]], num: int) -> list[str]:
    """Return the lines of a Markdown table: a row for each variant."""
    head = ["search", "policy at the end", "derived: ranks", "best 5 %", "27 halved", "27 with uniform ones", "τ", "s"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, some in figures.items():
        last = [one["expected"][-1] for one in some if one["expected"]]
        ranks = [one["derived"] for one in some]
        row = [
            name,
            f"{np.mean(last):.2f} ± {np.std(last, ddof=1):.2f}" if len(last) > 1 else "",
            " ".join(map(str, ranks)),
            f"{sum(rank <= max(1, round(0.05 * num)) for rank in ranks)} of {len(ranks)}",
            *[" ".join(str(one[f"halved_{key}"]) for one in some) for key in ("candidates", "candidates_uniform")],
            f"{np.mean([one['tau'] for one in some]):.2f}",
            f"{np.mean([one['seconds'] for one in some]):.0f}",
        ]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def truth_of(table: Table, config: Config) -> tuple[np.ndarray, list[list[float]]]:
    """Return the mean validation of each function, and the curve of its first training, in the order of the space."""
    functions = [*dict.fromkeys(cell.canonical() for cell in cells_of(config))]
    scores = table.scores("validation")
    known = table.functions
    if missing := sum(one not in known or (known[one][0], 1) not in table.runs for one in functions):
        raise UserError(f"{table.path}: lacks trainings of {missing} functions; docs/tables.md says how to complete it")
    sign = _sign(config)
    worst = sign * max(sign * score for score in scores.values() if math.isfinite(score))
    truth = [scores[one] if math.isfinite(scores[one]) else worst for one in functions]
    rows, epochs = table.functions, max(len(run["curve"]) for run in table.runs.values())
    curves = [table.runs[rows[one][0], 1]["curve"] for one in functions]
    # Old tables have no curves, and a diverged training has a short one.
    full = [
        curve if epochs and len(curve) == epochs else [score] * max(1, epochs)
        for curve, score in zip(curves, truth, strict=True)
    ]
    return np.array(truth), full


def main(argv: list[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="cells4", help="preset of the searches")
    parser.add_argument("--table", required=True, help="complete table of trainings from scratch")
    parser.add_argument("--output", required=True, type=Path, help="folder for the outcomes and the figure")
    parser.add_argument("--seeds", type=int, default=10, help="searches of each variant")
    parser.add_argument("--jobs", type=int, default=1, help="searches side by side")
    parser.add_argument("--data_dir", default="data", help="folder of all datasets")
    given = parser.parse_args(argv)
    return guarded(lambda: compare(given))


def compare(given: argparse.Namespace) -> None:
    """Search what is left, then print the table and draw the figure; UserError if the table is incomplete."""
    common = {"config": given.config, "data_dir": given.data_dir}
    config = Config(**common)
    given.output.mkdir(parents=True, exist_ok=True)
    files = {
        (name, seed): given.output / f"{given.config}-{digest_of([budget_of(config), VARIANTS[name]])[:8]}-{seed}.json"
        for seed in range(1, given.seeds + 1)
        for name in VARIANTS
    }
    tasks = {
        path: (searched, {**common, **VARIANTS[name], "random_seed": seed})
        for (name, seed), path in files.items()
        if not path.is_file()
    }
    truth, curves = truth_of(load_table(given.table), config)
    side_by_side(given.jobs, "loky", tasks, write_json, "searches")
    figures = defaultdict(list)
    for (name, _), path in files.items():
        figures[name].append(judged(read_json(path), truth, curves, config))
    print(*table_of(figures, len(truth)), sep="\n")
    write_json(given.output / "figures.json", figures)
    write_figure(policy_figure(figures, truth, config), given.output / "policy.png")


if __name__ == "__main__":
    sys.exit(main())

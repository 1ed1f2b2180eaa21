"""The output of a search evaluation: a printed table and plots."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from enas.ablation.truth import Table
from enas.cost import Cost
from enas.pictures.plots import write_figure
from enas.tasks.base import Metric

METHOD_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
_BEST_TENTH = 0.1


def write(folder: Path, results: dict[str, Any], table: Table, metric: Metric) -> None:
    """Print the results as a table, and plot them into `folder`."""
    for line in report(results, metric):
        print(line)
    if results["methods"]:
        write_figure(scores_figure(results, table, metric), folder / "scores.png")
    for name in results["tau"]:
        write_figure(ranking_figure(results, table, metric, name), folder / f"ranking_{name}.png")
    print(f"wrote {folder}: results.json and plots")


def report(results: dict[str, Any], metric: Metric) -> list[str]:
    """The lines of the printed table: what each method reached, and how it compares with the first."""
    num, decimals = results["architectures"], metric.decimals
    tenth = max(1, round(_BEST_TENTH * num))
    lines = [f"{metric.name} from scratch; ranks among {num} architectures; the best tenth are the first {tenth}"]
    lines.append(f"{'method':15} {'split':10} {'mean':>9} {'std':>8}  {'ranks':36} in the best tenth")
    for name, found in results["methods"].items():
        for split, prefix in (("validation", ""), ("test", "test_")):
            scores, ranks = np.array(found[f"{prefix}scores"]), found[f"{prefix}ranks"]
            some = " ".join(map(str, ranks[:10])) + (" …" if len(ranks) > 10 else "")
            inside = f"{sum(rank <= tenth for rank in ranks)} of {len(ranks)}"
            mean = f"{scores.mean():.{decimals}f}"
            std = f"{scores.std(ddof=1):.{decimals}f}" if len(scores) > 1 else "–"
            lines.append(f"{name:15} {split:10} {mean:>9} {std:>8}  {some:36} {inside}")
    for name, found in results["methods"].items():
        if "parameters" in found:
            average = Cost(*(round(np.mean(found[key])) for key in ("parameters", "multiply_adds")))
            lines.append(f"{name:15} {average}")
    for one in results["comparisons"]:
        interval = _interval(one["interval"], f"+.{decimals}f")
        difference = f"{one['difference']:+.{decimals}f}{interval}"
        lines.append(f"{one['of']} − {one['with']}, {one['split']}: {difference}, p = {one['p']:.3g} (Wilcoxon)")
    for name, all_of_it in results["tau"].items():
        lines.append(f"τ of {name}: {_tau(all_of_it)}, within the best fifth {_tau(results['tau_top'][name])}")
    return lines


def _tau(found: dict[str, Any]) -> str:
    return f"{found['tau']:.2f}{_interval(found['interval'], '.2f')}"


def _interval(ends: list[float] | None, style: str) -> str:
    return "" if ends is None else f" [{ends[0]:{style}}, {ends[1]:{style}}]"


def scores_figure(results: dict[str, Any], table: Table, metric: Metric) -> Figure:
    """What each method reached, one dot a seed, beside all architectures of the table."""
    methods = results["methods"]
    figure = Figure(figsize=(1.8 + 1.2 * (1 + len(methods)), 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    rng = np.random.default_rng(0)
    columns = {f"all {len(table.architectures)}": table.scores("validation")}
    columns |= {name.replace("_", "\n"): found["scores"] for name, found in methods.items()}
    for place, ((name, scores), colour) in enumerate(zip(columns.items(), ("0.6", *METHOD_COLOURS), strict=False)):
        offsets = rng.uniform(-0.18, 0.18, len(scores))
        axes.scatter(place + offsets, scores, s=14, color=colour, alpha=0.7, linewidths=0, label=name)
        axes.hlines(np.mean(scores), place - 0.3, place + 0.3, color="black", linewidth=1.5)
    axes.set_xticks(range(len(columns)), list(columns))
    better = "higher" if metric.higher_is_better else "lower"
    axes.set_ylabel(f"validation {metric.name} from scratch ({better} is better)")
    axes.set_title(f"{results['dataset']}: one dot for each seed, lines are means")
    return figure


def ranking_figure(results: dict[str, Any], table: Table, metric: Metric, name: str) -> Figure:
    """Each architecture of the table: its score by the shared weights of a method against that from scratch."""
    figure = Figure(figsize=(5.2, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(table.scores("validation"), results["shared"][name], s=14, color=METHOD_COLOURS[0], alpha=0.7)
    axes.set_xlabel(f"validation {metric.name} from scratch")
    axes.set_ylabel(f"by the shared weights of {name}")
    axes.set_title(f"{results['dataset']}: τ {_tau(results['tau'][name])}")
    return figure

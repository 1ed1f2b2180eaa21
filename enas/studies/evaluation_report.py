"""The output of a search evaluation: a printed table and plots."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from enas.pictures.plots import METHOD_STYLES, new_figure, write_figure
from enas.search.cost import Cost
from enas.search.metric import Metric
from enas.studies.statistics import FEWEST_FOR_WILCOXON

PREFIXES = {"validation": "", "test": "test_"}  # of the names of results, by split
BEST = {"best_tenth": 0.1, "best_5_percent": 0.05, "best_1_percent": 0.01}  # shares of a table
FEWEST_FOR_PERCENT = 100  # functions in a table from which the smaller shares are printed
_LINE = "{:15} {:10} {:>9} {:>8}  {:44} {}"


def write(folder: Path, results: dict[str, Any], truth: dict[str, np.ndarray], metric: Metric) -> None:
    """Print the results as a table, and plot them into `folder`; `truth` has the scores of each row, by split."""
    print(*report(results, metric), sep="\n")
    if results["methods"]:
        write_figure(scores_figure(results, truth, metric), folder / "scores.png")
    for name in results["tau"]:
        write_figure(ranking_figure(results, truth, metric, name), folder / f"ranking_{name}.png")
    print(f"wrote {folder}: results.json and plots")


def report(results: dict[str, Any], metric: Metric) -> Iterator[str]:
    """Yield the lines of the printed table: the scores of each method, and how it compares with the first."""
    num, decimals, names = results["architectures"], metric.decimals, _shares(results)
    sizes = ", ".join(f"{_words(name)} are the first {results[name]}" for name in names)
    yield f"{metric.name} from scratch; ranks among {num} functions; {sizes}"
    if results["diverged"]:
        yield f"{results['diverged']} of {num} functions diverged; controls and τ leave them out"
    yield _LINE.format("method", "split", "mean", "std", "ranks", "in " + ", ".join(map(_words, names)))
    for name, found in results["methods"].items():
        for split, prefix in PREFIXES.items():
            mean, std, kind, inside = (_expected if "drawn" in found else _reached)(results, found, prefix)
            deviation = "–" if std is None else f"{std:.{decimals}f}"
            yield _LINE.format(name, split, f"{mean:.{decimals}f}", deviation, kind, inside)
            if long := found.get(f"long_{prefix}scores"):
                mean, deviation = np.mean(long), f"{np.std(long, ddof=1):.{decimals}f}" if len(long) > 1 else "–"
                after = f"after {results['longer']} times the epochs"
                yield _LINE.format("", split, f"{mean:.{decimals}f}", deviation, after, "").rstrip()
    for name, found in results["methods"].items():
        if "parameters" in found:
            yield f"{name:15} {Cost(*(round(np.mean(found[key])) for key in ('parameters', 'multiply_adds')))}"
    for one in results["comparisons"]:
        difference = f"{one['difference']:+.{decimals}f}{_interval(one['interval'], f'+.{decimals}f')}"
        # Fewer seeds do not show whether t is right, so their interval is not called one of 95 %.
        level = "95 %" if one["seeds"] >= FEWEST_FOR_WILCOXON else "t interval"
        p = "" if one["p"] is None else f" ({level}, n = {one['seeds']}), p = {one['p']:.2g} (Student's t)"
        signed = "" if one["wilcoxon"] is None else f", {one['wilcoxon']:.2g} (Wilcoxon)"
        yield f"{one['of']} − {one['with']}, {one['split']}: {difference}{p}{signed}"
    for name, found in results["tau"].items():
        yield f"τ of {name}: {_tau(found)}, within the best fifth {_tau(results['tau_top'][name])}"


def _reached(results: dict[str, Any], found: dict[str, Any], prefix: str) -> tuple[float, float | None, str, str]:
    """Return mean and standard deviation over seeds, the ranks, and how many are in the best shares."""
    scores, ranks = np.array(found[f"{prefix}scores"]), found[f"{prefix}ranks"]
    some = " ".join(map(str, ranks[:10])) + (" …" if len(ranks) > 10 else "")
    halved = f"of {_span(found['halved'])}: " if "halved" in found else ""
    inside = [sum(rank <= results[name] for rank in ranks) for name in _shares(results)]
    shares = ", ".join(f"{num} of {len(ranks)}" for num in inside)
    return scores.mean(), scores.std(ddof=1) if len(scores) > 1 else None, halved + some, shares


def _expected(results: dict[str, Any], found: dict[str, Any], prefix: str) -> tuple[float, float | None, str, str]:
    """Return mean and standard deviation of a draw's score, the kind of draw, and the shares of draws that are best."""
    best_of = "" if max(found["drawn"]) == 1 else f"best of {_span(found['drawn'])}, "
    kind = "exact, over all" if results["is_complete"] else "expected, over these"
    if results["is_complete"] and found["error"] > 0:
        kind = f"± {found[f'{prefix}error']:.2g}, over all"
    inside = ", ".join(f"{found[f'{prefix}in_{name}']:.0%}" for name in _shares(results))
    return found[f"{prefix}mean"], found[f"{prefix}std"], f"{best_of}{kind} {results['architectures']}", inside


def _span(numbers: list[int]) -> str:
    fewest, most = min(numbers), max(numbers)
    return str(most) if fewest == most else f"{fewest} to {most}"


def _shares(results: dict[str, Any]) -> list[str]:
    """List the names of the best shares that are printed."""
    return [*BEST] if results["architectures"] >= FEWEST_FOR_PERCENT else ["best_tenth"]


def _words(name: str) -> str:
    return f"the {name.replace('_', ' ').replace('percent', '%')}"


def _tau(found: dict[str, Any]) -> str:
    return f"{found['tau']:.2f}{_interval(found['interval'], '.2f')}"


def _interval(ends: list[float] | None, style: str) -> str:
    return "" if ends is None else f" [{ends[0]:{style}}, {ends[1]:{style}}]"


def scores_figure(results: dict[str, Any], truth: dict[str, np.ndarray], metric: Metric) -> Figure:
    """Scores of each method on each split, a dot for each seed, beside all of the table; an expectation's quartiles."""
    columns: dict[str, tuple[str, dict[str, Any]]] = {f"all {results['architectures']}": ("0.7", {})}
    for name, (label, colour) in METHOD_STYLES.items():
        if name in results["methods"]:
            columns[label] = (colour, results["methods"][name])
    figure, panels = new_figure(1.8 + 1.2 * len(columns), 7.2, rows=2)
    rng = np.random.default_rng(0)
    for axes, (split, prefix) in zip(panels, PREFIXES.items(), strict=True):
        for place, (colour, found) in enumerate(columns.values()):
            scores = found.get(f"{prefix}scores", truth[split])
            if "drawn" in found:
                lower, _, upper = found[f"{prefix}quartiles"]
                axes.vlines(place, lower, upper, color=colour, linewidth=6)
            else:
                offsets = rng.uniform(-0.18, 0.18, len(scores))
                axes.scatter(place + offsets, scores, s=16, color=colour, linewidths=0)
            mean = found.get(f"{prefix}mean", np.nanmean(scores))
            axes.hlines(mean, place - 0.3, place + 0.3, color="black", linewidth=1.5)
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set_ylabel(f"{split} {metric.name}")
    better = "higher" if metric.higher_is_better else "lower"
    panels[0].set_title(
        f"{results['dataset']}, from scratch ({better} is better)\ndots: seeds; lines: means; bars: quartiles of draws"
    )
    return figure


def ranking_figure(results: dict[str, Any], truth: dict[str, np.ndarray], metric: Metric, name: str) -> Figure:
    """Each architecture of the table: its score by the shared weights of a method against that from scratch."""
    figure, (axes,) = new_figure(5.2, 4.8)
    label, colour = METHOD_STYLES[name]
    axes.scatter(truth["validation"], results["shared"][name], s=16, color=colour)
    axes.set_xlabel(f"validation {metric.name} from scratch")
    axes.set_ylabel(f"by the shared weights: {label.replace(chr(10), ' ')}")
    axes.set_title(f"{results['dataset']}: τ {_tau(results['tau'][name])}")
    return figure

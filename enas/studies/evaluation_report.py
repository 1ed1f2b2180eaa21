"""The output of a search evaluation: a printed table and plots."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from enas.pictures.plots import METHOD_STYLES, new_figure, plain_style
from enas.search.cost import Cost
from enas.search.metric import Metric
from enas.studies.statistics import FEWEST_FOR_WILCOXON

PREFIXES = {"validation": "", "test": "test_"}  # of the names of results, by split
ROWS = {"validation": "", "test": "test_", "validation, longer": "long_", "test, longer": "long_test_"}
BEST = {"best_tenth": 0.1, "best_5_percent": 0.05, "best_1_percent": 0.01}  # shares of a table
FEWEST_FOR_PERCENT = 100  # functions in a table from which the smaller shares are printed
_LINE = "{:15} {:18} {:>9} {:>8}  {:44} {}"


def report(results: dict[str, Any], metric: Metric) -> Iterator[str]:
    """Yield the lines of the printed table: the scores of each method, and how it compares with the first."""
    num, decimals = results["architectures"], metric.decimals
    bests = [*BEST] if num >= FEWEST_FOR_PERCENT else ["best_tenth"]
    names = ", ".join(bests).replace("_percent", " %").replace("best_", "")
    firsts = ", ".join(str(results[best]) for best in bests)
    yield f"{metric.name} from scratch; ranks among {num} functions; the best {names} are the first {firsts}"
    if results["diverged"]:
        yield f"{results['diverged']} of {num} functions have no score; controls and τ leave them out"
    if results["longer"] > 1:
        yield f"longer: {results['longer']} times the epochs"
    yield _LINE.format("method", "split", "mean", "std", "ranks", f"in the best {names}")
    for name, found in results["methods"].items():
        for split, prefix in ROWS.items():
            if f"{prefix}scores" in found:
                mean, std, kind, inside = _summary(results, found, prefix, bests)
                deviation = "–" if std is None else f"{std:.{decimals}f}"
                yield _LINE.format(name, split, f"{mean:.{decimals}f}", deviation, kind, inside).rstrip()
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


def _summary(
    results: dict[str, Any], found: dict[str, Any], prefix: str, bests: list[str]
) -> tuple[float, float | None, str, str]:
    """Return mean and standard deviation over seeds or draws, the ranks or the kind of draw, and how many are best."""
    fewest, most = min(found.get("drawn", [1])), max(found.get("drawn", [1]))
    best_of = "" if most == 1 else f"best of {fewest}, " if fewest == most else f"best of {fewest} to {most}, "
    if "mean" in found:
        kind = "exact, over all" if results["is_complete"] else "expected, over these"
        if results["is_complete"] and found["error"] > 0:
            kind = f"± {found[f'{prefix}error']:.2g}, over all"
        inside = ", ".join(f"{found[f'{prefix}in_{best}']:.0%}" for best in bests) + " of draws"
        return found[f"{prefix}mean"], found[f"{prefix}std"], f"{best_of}{kind} {results['architectures']}", inside
    scores, ranks = np.array(found[f"{prefix}scores"]), found.get(f"{prefix}ranks", [])
    some = best_of + " ".join(map(str, ranks[:10])) + (" …" if len(ranks) > 10 else "") if ranks else ""
    inside = ", ".join(str(sum(rank <= results[best] for rank in ranks)) for best in bests) + f" of {len(ranks)}"
    return scores.mean(), scores.std(ddof=1) if len(scores) > 1 else None, some, inside if ranks else ""


def _tau(found: dict[str, Any]) -> str:
    return f"{found['tau']:.2f}{_interval(found['interval'], '.2f')}"


def _interval(ends: list[float] | None, style: str) -> str:
    return "" if ends is None else f" [{ends[0]:{style}}, {ends[1]:{style}}]"


@plain_style
def scores_figure(results: dict[str, Any], truth: dict[str, np.ndarray], metric: Metric) -> Figure:
    """Draw each method's scores, a dot a seed, beside the table's, `truth`, by split; quartiles for an expectation."""
    columns: dict[str, tuple[str, dict[str, Any]]] = {f"all {results['architectures']}": ("0.7", {})}
    for name, (label, colour) in METHOD_STYLES.items():
        if name in results["methods"]:
            columns[label] = (colour, results["methods"][name])
    figure, panels = new_figure(1.8 + 1.2 * len(columns), 7.2, rows=2)
    rng = np.random.default_rng(0)
    for axes, (split, prefix) in zip(panels, PREFIXES.items(), strict=True):
        for place, (colour, found) in enumerate(columns.values()):
            scores = found.get(f"{prefix}scores", truth[split])
            if "mean" in found:
                lower, _, upper = found[f"{prefix}quartiles"]
                axes.vlines(place, lower, upper, color=colour, linewidth=6)
            else:
                offsets = rng.uniform(-0.18, 0.18, len(scores))
                axes.scatter(place + offsets, scores, s=16, color=colour, linewidths=0)
            mean = found.get(f"{prefix}mean", np.nanmean(scores))
            axes.hlines(mean, place - 0.3, place + 0.3, color="black", linewidth=1.5)
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set_ylabel(f"{split} {metric.name}")
    better = f"{'higher' if metric.higher_is_better else 'lower'} is better"
    key = "dots: seeds; lines: means; bars: quartiles of draws"
    panels[0].set_title(f"{results['dataset']}, from scratch ({better})\n{key}")
    return figure


@plain_style
def ranking_figure(results: dict[str, Any], truth: dict[str, np.ndarray], metric: Metric, name: str) -> Figure:
    """Draw each architecture of the table: its score by a method's shared weights against its score from scratch."""
    figure, (axes,) = new_figure(5.2, 4.8)
    label, colour = METHOD_STYLES[name]
    axes.scatter(truth["validation"], results["shared"][name], s=16, color=colour)
    axes.set_xlabel(f"validation {metric.name} from scratch")
    axes.set_ylabel(f"by the shared weights: {label.replace(chr(10), ' ')}")
    axes.set_title(f"{results['dataset']}: τ {_tau(results['tau'][name])}")
    return figure

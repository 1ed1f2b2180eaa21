"""Is one method better than another, and does one ranking agree with another? With intervals."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from enas.search.metric import Metric
from enas.search.rungs import halve

FEWEST_FOR_TAU = 8  # architectures below which τ gets no interval: its coverage falls short
FEWEST_FOR_WILCOXON = 6  # seeds below which its p, and an honest 95 %, cannot be had: p is at least 1/16
ROUNDING = 1e-9
NEGLIGIBLE = 0.01  # share of the squared spread of a mean, as halving's error of `DRAWS` has
DRAWS = 20_000  # random draws that estimate halving's chances
QUARTILES = (0.25, 0.5, 0.75)


def paired(ours: ArrayLike, theirs: ArrayLike, error: float = 0.0, num: int = 2) -> dict[str, Any]:
    """Compare two methods seed by seed.

    Args:
        ours, theirs: the scores of each seed.
        error: the standard error of the difference that all seeds share, from `num` architectures.

    Returns:
        the number of "seeds"; "difference", the mean of ours − theirs; its 95 % "interval" by Student's t (with an
        error, by Welch's degrees of freedom); "p" of the same test, two-sided; and "wilcoxon", p of the signed-rank
        test, from `FEWEST_FOR_WILCOXON` seeds on, unless there is an error, which it cannot know. All are None for one
        seed, if a score is not finite, and if all seeds have the same difference, to rounding, which tells nothing of
        further ones (with an error, "wilcoxon" alone is None); if it is 0, p is 1.
    """
    differences = np.subtract(ours, theirs)
    seeds, difference = len(differences), float(differences.mean())
    compared: dict[str, Any] = {"seeds": seeds, "difference": difference, "interval": None, "p": None, "wilcoxon": None}
    if seeds < 2 or not np.isfinite([*differences, error]).all():
        return compared
    rounding = ROUNDING * max(np.abs(ours).max(), np.abs(theirs).max())
    spread = differences.var(ddof=1) / seeds if np.ptp(differences) > rounding else 0.0
    squared = error**2
    if squared <= NEGLIGIBLE * spread and seeds >= FEWEST_FOR_WILCOXON:
        compared["wilcoxon"] = float(stats.wilcoxon(differences).pvalue) if spread else None
    if spread + squared == 0:
        return {**compared, "p": None if abs(difference) > rounding else 1.0}
    freedom = (spread + squared) ** 2 / (spread**2 / (seeds - 1) + squared**2 / max(1, num - 1))
    scale = math.sqrt(spread + squared)
    interval = stats.t.interval(0.95, freedom, difference, scale)
    p = 2 * stats.t.sf(abs(difference) / scale, freedom)
    return {**compared, "interval": [*map(float, interval)], "p": float(p)}


def shared_error(found: Sequence[Any], trainings: Mapping[Any, Sequence[float]]) -> float:
    """Return the standard error of the seeds' mean score that their spread does not show.

    If seeds `found` the same function, the same `trainings` judge them. The variance of a training is pooled over the
    functions that have several, and 0 without any. The result is the root of the mean covariance of two seeds' scores.
    """
    several = [some for some in trainings.values() if len(some) > 1 and np.isfinite(some).all()]
    variance = sum(len(some) * np.var(some) for some in several) / max(1, sum(len(some) - 1 for some in several))
    shared = sum(num * (num - 1) / len(trainings[one]) for one, num in Counter(found).items())
    return math.sqrt(variance * shared / max(1, len(found) * (len(found) - 1)))


def best_of(first: ArrayLike, num: int, higher_is_better: bool) -> np.ndarray:
    """Return the probability of each architecture to be the best by `first` of `num`, or all, drawn uniformly.

    The draws are different architectures. Equal ones are equally likely.
    """
    goodness = np.asarray(first) if higher_is_better else -np.asarray(first)
    size, num = len(goodness), min(num, len(goodness))
    total = math.comb(size, num)
    ends = (np.searchsorted(np.sort(goodness), goodness, side).tolist() for side in ("left", "right"))
    # One of several equals is chosen when all of the draw are among the equals and the worse ones, but not all worse.
    wins = [(math.comb(b, num) - math.comb(a, num), total * (b - a)) for a, b in zip(*ends, strict=True)]
    return np.array([some / of for some, of in wins])


def best_by_halving(curves: Sequence[Sequence[float]], num: int, rungs: Sequence[int], metric: Metric) -> np.ndarray:
    """Return the share of `DRAWS` draws of `num` architectures, or all, in which each is left by successive halving.

    The draws are the same at every call. `curves` has the validation after each epoch; the best so far counts.
    """
    best, rng = np.fmax if metric.higher_is_better else np.fmin, np.random.default_rng(0)
    known = {epochs: [best.reduce(curve[:epochs]) for curve in curves] for epochs in rungs}
    wins = np.zeros(len(curves))
    for _ in range(DRAWS):
        drawn = rng.permutation(len(curves))[:num].tolist()
        wins[halve(drawn, rungs, lambda left, epochs: {one: known[epochs][one] for one in left}, metric)] += 1
    return wins / DRAWS


def distribution(scores: ArrayLike, chances: np.ndarray) -> dict[str, Any]:
    """Return "mean", "std" and "quartiles" of scores that come with these probabilities."""
    values = np.asarray(scores, dtype=float)
    mean = float(chances @ values)
    order = np.argsort(values)
    reached = np.searchsorted(np.cumsum(chances[order]), np.multiply(QUARTILES, chances.sum()) - 1e-12)
    quartiles = values[order][reached].tolist()
    return {"mean": mean, "std": math.sqrt(chances @ (values - mean) ** 2), "quartiles": quartiles}


def standard_error(statistic: Callable[[np.ndarray], float], num: int) -> float:
    """Return the standard error of a statistic of `num` rows, given the rows' indices, by leaving out each in turn.

    This is the jackknife (Tukey 1958); for a mean it is the usual error. One row has an unknown error, NaN.
    """
    if num < 2:
        return math.nan
    left = np.array([statistic(np.delete(np.arange(num), row)) for row in range(num)])
    return math.sqrt((num - 1) / num * ((left - left.mean()) ** 2).sum())


def kendall(one: np.ndarray, other: np.ndarray) -> float:
    """Return Kendall's τ-b; NaN of fewer than two rows."""
    return float(stats.kendalltau(one, other).statistic) if len(one) > 1 else math.nan


def tau(ours: ArrayLike, truth: ArrayLike) -> dict[str, Any]:
    """Return Kendall's "tau" between two scorings of the same architectures, and its 95 % "interval".

    The interval is by the jackknife over architectures on Fisher's scale, with Student's t. It is None below
    `FEWEST_FOR_TAU`, if τ is not a number, and if it is the same whichever architecture is left out.
    """
    one, other = np.asarray(ours, dtype=float), np.asarray(truth, dtype=float)
    num, found = len(one), kendall(one, other)
    error = standard_error(lambda rows: kendall(one[rows], other[rows]), num) if num >= FEWEST_FOR_TAU else 0.0
    if not error > ROUNDING:
        return {"tau": found, "interval": None}
    ends = stats.t.interval(0.95, num - 1, math.atanh(found), error / (1 - found**2))
    return {"tau": found, "interval": [*map(math.tanh, ends)]}


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values that allow for their number (Holm 1979): the i-th smallest of n is multiplied by n + 1 − i."""
    raised = np.maximum.accumulate(np.sort(ps) * np.arange(len(ps), 0, -1)).clip(max=1.0)
    return raised[np.argsort(np.argsort(ps))].tolist()

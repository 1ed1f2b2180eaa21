"""Is one method better than another, and does one ranking agree with another? With intervals."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

RESAMPLES = 2000


def paired(ours: ArrayLike, theirs: ArrayLike) -> dict[str, float | list[float] | None]:
    """Compare two methods seed by seed.

    Returns:
        "difference", the mean of ours − theirs; its 95 % bootstrap "interval"; and "p" of Wilcoxon's signed-rank test,
        two-sided (1 where all differences are 0).
    """
    differences = np.subtract(ours, theirs)
    p = float(stats.wilcoxon(differences).pvalue) if np.any(differences) else 1.0
    return {"difference": float(differences.mean()), "interval": interval(np.mean, differences), "p": p}


def tau(ours: ArrayLike, truth: ArrayLike) -> dict[str, float | list[float] | None]:
    """Kendall's τ between two scorings of the same architectures, with a 95 % bootstrap interval over architectures."""
    return {"tau": _tau(np.asarray(ours), np.asarray(truth)), "interval": interval(_tau, ours, truth)}


def _tau(ours: np.ndarray, truth: np.ndarray) -> float:
    return float(stats.kendalltau(ours, truth).statistic)


def interval(statistic: Callable[..., float], *samples: ArrayLike) -> list[float] | None:
    """The 95 % percentile bootstrap interval of a statistic of one sample, or of paired ones; None of fewer than 3."""
    arrays = [np.asarray(sample, dtype=float) for sample in samples]
    num = len(arrays[0])
    if num < 3:
        return None
    rng = np.random.default_rng(0)
    rows = rng.integers(num, size=(RESAMPLES, num))
    found = [statistic(*(array[row] for array in arrays)) for row in rows]
    return [float(value) for value in np.nanquantile(found, (0.025, 0.975))]

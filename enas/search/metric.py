"""Metrics: names, print formats and directions of scores."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A metric."""

    name: str  # in results, curves and messages
    decimals: int  # digits after the point in tables
    higher_is_better: bool

    def is_better(self, score: float, than: float | None) -> bool:
        """Whether `score` is better than another. Any number beats None and NaN; NaN beats nothing."""
        if math.isnan(score) or than is None or math.isnan(than):
            return not math.isnan(score)
        return score > than if self.higher_is_better else score < than


PERPLEXITY = Metric("perplexity", decimals=2, higher_is_better=False)
ACCURACY = Metric("accuracy", decimals=4, higher_is_better=True)
LOG_LIKELIHOOD = Metric("log_likelihood", decimals=4, higher_is_better=True)

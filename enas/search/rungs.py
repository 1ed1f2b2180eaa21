"""Successive halving (Jamieson & Talwalkar 2016): train all a little, keep the best third, train these for longer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from enas.search.derive import ordered
from enas.search.metric import Metric

FACTOR = 3  # one of so many goes on to the next rung, which has so many times the epochs
Train = Callable[[Sequence[Any], int], Mapping[Any, float]]  # from candidates and epochs to the metric of each


def rungs_to(last: int) -> list[int]:
    """Return the epochs of the rungs, increasing, to the `last` one: 1, 3, 9 for 9."""
    rungs = [last]
    while rungs[0] >= FACTOR:
        rungs.insert(0, rungs[0] // FACTOR)
    return rungs


def halve(candidates: Sequence[Any], rungs: Sequence[int], train: Train, metric: Metric) -> Any:
    """Return the candidate, out of at least one, with which successive halving ends; `rungs` are epochs, increasing.

    `train` trains each to so many epochs in all. It is called once for each rung, until one candidate is left.
    """
    left = [*candidates]
    for epochs in rungs:
        if len(left) == 1:
            break
        left = ordered(train(left, epochs), metric)[: max(1, len(left) // FACTOR)]
    return left[0]


def cost_to_the_end(num: int, rungs: Sequence[int]) -> int:
    """Return the epochs that successive halving of `num` candidates trains in all, the last one to the last rung."""
    total = before = 0
    for epochs in rungs:
        total, before, num = total + num * (epochs - before), epochs, max(1, num // FACTOR)
    return total

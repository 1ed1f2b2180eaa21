"""Deriving (paper section 2.2): the best of many samples of the policy; and how the policy compares with chance."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean
from typing import Any

import torch

from enas.search.controllers import Controller, RandomController, Sample
from enas.search.cost import SizeBudget
from enas.search.metric import Metric
from enas.search.ranks import Ranks, apart
from enas.search.settings import DeriveConfig
from enas.search.task import Task

QUARTILES = {"median": 0.5, "lower_quartile": 0.25, "upper_quartile": 0.75}


@dataclass(frozen=True)
class Derivation:
    """The result of deriving.

    `comparison` is that of the policy with uniform sampling: "policy" and "uniform", each the `summary` of equally many
    architectures on the same minibatches; "compared_by", the metric's name; "place", the rank of the derived one among
    the uniform ones, 1 for the best; "samples", and the number of their "functions". It is empty if θ is not trained.
    """

    architecture: Any  # None if no candidate keeps to the size budget
    score: float | None  # the architecture's metric on all of validation
    comparison: dict[str, Any] = field(default_factory=dict)
    probabilities: list[list[float]] = field(default_factory=list)  # of each choice of each decision, sample mean
    problem: str = ""  # the reason why nothing was derived


@dataclass(frozen=True)
class Shortlist:
    """The candidates for the last stage of deriving."""

    sampled: Sample[Any]  # all samples
    scores: dict[Any, float]  # of the samples and their twins, on the first few validation minibatches
    ranking: list[Any]  # the best functions, each by its best labelling, in order of their means on all of validation
    incumbent: Any  # the run's architecture so far; None if there is none, or it exceeds the size budget
    known: dict[Any, float]  # metrics on all of validation, of the incumbent and of the ranking's first

    def best(self, num: int) -> list[Any]:
        """Return the first `num` of the ranking, and the incumbent, which takes the place of its twin."""
        return [*{one.canonical(): one for one in [*self.ranking[:num], self.incumbent] if one is not None}.values()]


@dataclass
class Deriver:
    """Derives from a policy."""

    task: Task  # scores architectures
    controller: Controller[Any]  # the policy
    config: DeriveConfig
    ranks: Ranks  # the processes that divide the candidates among them
    size: SizeBudget  # the budget that a derived architecture keeps to
    uniform_over: str  # how the policy's rivals are drawn, see `RandomController.over`

    def shortlist(self, incumbent: Any = None) -> Shortlist:
        """Sample `derive_num_sample` architectures; keep the functions that score best on the same few minibatches.

        With `derive_uniform` as many uniform ones are candidates, too, those that the policy is compared with.
        Labellings of a function have different shared weights. A function's score is the mean over its sampled
        labellings, filled with twins to `derive_labellings`; on all of validation, over its `derive_labellings` best.
        Architectures that exceed the size budget are no candidates. `incumbent` is a candidate without being sampled.
        """
        with torch.no_grad(), apart():
            sampled = self.controller.sample(self.config.derive_num_sample)
        num, by = self.config.derive_labellings, self.task.rank_metric
        uniform = self._uniform() if self.config.derive_uniform and self.controller.is_trained else []
        candidates = self._candidates([*sampled.architectures, *uniform], num)
        scores = self._rank([*sampled.architectures, *chain(*candidates)])
        best = [some[:num] for some in by_means(candidates, scores, by)[: self.config.derive_shortlist]]
        if len(best) > 1:
            best = by_means(best, self._scores([*chain(*best)], self.task.rank), by)
        ranking = [labellings[0] for labellings in best]
        incumbent = incumbent if incumbent is not None and self.size.fits(incumbent) else None
        known: dict[Any, float] = {}
        self._evaluate(known, [incumbent, *ranking[:1]])
        return Shortlist(sampled, scores, ranking, incumbent, known)

    def derivation(self, found: Shortlist, chosen: Any = None) -> Derivation:
        """Derive `chosen`; by default the better of the shortlist's first and the incumbent, which wins ties."""
        first = found.ranking[0] if found.ranking else None
        if chosen is None:
            rivals = [one for one in (found.incumbent, first) if one is not None]
            own = self.task.reward and (self._scores(rivals, self.task.rank), self.task.rank_metric)
            scores, by = own or (found.known, self.task.metric)
            chosen = next(iter(ordered({one: scores[one] for one in rivals}, by)), None)
        self._evaluate(found.known, [chosen])
        score, scores = found.known.get(chosen), found.scores
        problem = "" if chosen is not None else self.size.misfits(list(scores))
        if not self.controller.is_trained:
            return Derivation(chosen, score, problem=problem)
        if chosen is not None and chosen not in scores:
            scores = scores | self._rank([chosen])
        comparison = self._compare(found.sampled.architectures, scores, chosen)
        probabilities = [[round(p, 4) for p in each.mean(0).tolist()] for each in found.sampled.probabilities]
        return Derivation(chosen, score, comparison, probabilities, problem)

    def _candidates(self, sampled: Iterable[Any], num: int) -> list[list[Any]]:
        """Return the sampled labellings of each function that keeps to the size budget, filled up by twins to `num`."""
        functions: dict[Any, list[Any]] = {}
        for one in filter(self.size.fits, dict.fromkeys(sampled)):
            functions.setdefault(one.canonical(), []).append(one)
        for labellings in functions.values():
            twins = self.controller.space.twins(labellings[0], num)
            labellings += [one for one in twins if one not in labellings][: max(0, num - len(labellings))]
        return [*functions.values()]

    def _evaluate(self, known: dict[Any, float], some: Iterable[Any]) -> None:
        missing = [one for one in some if one is not None and one not in known]
        known.update(self._scores(missing, lambda part: [self.task.evaluate(one, "valid") for one in part]))

    def _rank(self, architectures: Iterable[Any]) -> dict[Any, float]:
        return self._scores(architectures, lambda some: self.task.rank(some, self.config.derive_max_batches))

    def _scores(self, architectures: Iterable[Any], score: Callable[[Sequence[Any]], list[float]]) -> dict[Any, float]:
        different = [*dict.fromkeys(architectures)]
        if not different:  # as after a sample of a whole space; no task scores none
            return {}
        values = self.ranks.divided(lambda some: torch.tensor(score(some), dtype=torch.float64), different)
        return dict(zip(different, values.tolist(), strict=True))

    def _uniform(self) -> list[Any]:
        """Draw the same architectures at every evaluation, without the run's random numbers."""
        generator = torch.Generator().manual_seed(torch.initial_seed())
        chance = RandomController(self.controller.space, generator=generator, over=self.uniform_over)
        return chance.sample(self.config.derive_num_sample).architectures

    def _compare(self, sampled: list[Any], scores: dict[Any, float], derived: Any) -> dict[str, Any]:
        uniform = self._uniform()
        known, metric = scores | self._rank([one for one in uniform if one not in scores]), self.task.rank_metric
        by_chance = [known[one] for one in uniform]
        place = None if derived is None else 1 + sum(metric.is_better(score, scores[derived]) for score in by_chance)
        policy = summary([scores[one] for one in sampled], metric)
        compared = {"policy": policy, "uniform": summary(by_chance, metric), "compared_by": metric.name, "place": place}
        return {**compared, "samples": len(sampled), "functions": len({one.canonical() for one in sampled})}


def ordered(scores: Mapping[Any, float], metric: Metric) -> list[Any]:
    """Return the keys of `scores`, best first, NaN last; equals keep their order."""
    sign = -1 if metric.higher_is_better else 1
    return sorted(scores, key=lambda one: (math.isnan(scores[one]), sign * scores[one]))


def by_means(groups: Iterable[Sequence[Any]], scores: Mapping[Any, float], metric: Metric) -> list[Any]:
    """Return groups, as tuples, in order of their mean scores, and each in order of its own, best first, NaN last."""
    inside = (tuple(ordered({one: scores[one] for one in group}, metric)) for group in groups)
    return ordered({group: fmean(scores[one] for one in group) for group in inside}, metric)


def summary(scores: list[float], metric: Metric) -> dict[str, float]:
    """Return "mean", "std", "median", "lower_quartile", "upper_quartile" and "best" of scores.

    Median and quartiles, each the score nearest to that rank, count a diverged architecture as the worst.
    """
    values = torch.tensor(scores, dtype=torch.float64)
    worst = -math.inf if metric.higher_is_better else math.inf
    comparable = values.nan_to_num(worst, math.inf, -math.inf)
    quartiles = {name: comparable.quantile(rank, interpolation="nearest").item() for name, rank in QUARTILES.items()}
    best = comparable.max() if metric.higher_is_better else comparable.min()
    return {"mean": values.mean().item(), "std": values.std(correction=0).item(), **quartiles, "best": best.item()}

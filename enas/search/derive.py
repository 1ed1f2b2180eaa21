"""Deriving (paper section 2.2): the best of many samples of the policy; and how the policy compares with chance."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from enas.search.controllers import Controller, RandomController, Sample, sample
from enas.search.metric import Metric
from enas.search.ranks import ALONE, Ranks, apart
from enas.search.settings import DeriveConfig
from enas.search.size import UNLIMITED, SizeBudget
from enas.search.space import Space
from enas.search.task import Task

QUARTILES = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)


@dataclass(frozen=True)
class Derivation:
    """What deriving found.

    Attributes:
        architecture: the derived one; None where no candidate keeps to the size budget.
        score: its metric on the whole of validation; None where there is none.
        comparison: of the policy with uniform sampling: "policy" and "uniform", each the `summary` of as many
            architectures on the same minibatches; "compared_by", the metric; and "place", that of the derived one among
            the uniform ones, 1 for the best. Empty where nothing is trained, or nobody asked.
        probabilities: of each choice of each decision, averaged over the sample; empty where nothing is trained.
        problem: why nothing was derived; empty where something was.
        beaten: the best sample and its score, where the incumbent, which was not sampled, is derived.
    """

    architecture: Any
    score: float | None
    comparison: dict[str, Any] = field(default_factory=dict)
    probabilities: list[list[float]] = field(default_factory=list)
    problem: str = ""
    beaten: tuple[Any, float] | None = None


@dataclass(frozen=True)
class Shortlist:
    """The last stage of deriving.

    Attributes:
        sampled: all samples, with their `scores` on the first few validation minibatches.
        ranking: the best of them, in the order of what rewards measure on all of validation.
        incumbent: the architecture that the run has, where it keeps to the size budget.
        known: the metric on all of validation, at least of the incumbent and the first of the ranking.
    """

    sampled: Sample[Any]
    scores: dict[Any, float]
    ranking: list[Any]
    incumbent: Any
    known: dict[Any, float]

    def best(self, num: int) -> list[Any]:
        """The first `num` of the ranking, and the incumbent."""
        return list(dict.fromkeys([*self.ranking[:num], *([] if self.incumbent is None else [self.incumbent])]))


class Deriver:
    """Derives from a policy.

    Args:
        task: scores architectures.
        controller: the policy.
        config: see `DeriveConfig`.
        space: what the controller samples; None compares with nothing.
        ranks: the processes that divide the candidates among them.
        size: the budget that a derived architecture keeps to.
    """

    def __init__(
        self,
        task: Task,
        controller: Controller[Any],
        config: DeriveConfig,
        space: Space[Any] | None = None,
        ranks: Ranks = ALONE,
        size: SizeBudget = UNLIMITED,
    ):
        self.task = task
        self.ranks = ranks
        self.size = size
        self.controller = controller
        self.config = config
        self.space = space

    def derive(self, compare: bool = False, incumbent: Any = None) -> Derivation:
        """The better of the first of the shortlist and the incumbent, which wins ties."""
        return self.derivation(self.shortlist(incumbent), compare=compare)

    def shortlist(self, incumbent: Any = None) -> Shortlist:
        """Sample `derive_num_sample` architectures; keep the best on the same few minibatches.

        Those that exceed the size budget are no candidates. `incumbent` is one, sampled or not.
        """
        with torch.no_grad(), apart():
            sampled = sample(self.controller, self.config.derive_num_sample)
        scores = self._rank(sampled.architectures)
        candidates = {one: score for one, score in scores.items() if self.size.fits(one)}
        ranking, known = self._ranked(ordered(candidates, self.task.rank_metric)[: self.config.derive_shortlist])
        if incumbent is not None and not self.size.fits(incumbent):
            incumbent = None
        self._evaluate(known, dict.fromkeys([incumbent, *ranking[:1]]))
        return Shortlist(sampled, scores, ranking, incumbent, known)

    def derivation(self, found: Shortlist, chosen: Any = None, compare: bool = False) -> Derivation:
        """What deriving found, where `chosen` was taken from a shortlist; by default what `derive` says."""
        first = found.ranking[0] if found.ranking else None
        if chosen is None:
            rivals = [one for one in (found.incumbent, first) if one is not None]
            chosen = next(iter(ordered({one: found.known[one] for one in rivals}, self.task.metric)), None)
        self._evaluate(found.known, [chosen])
        is_beaten = first not in (None, chosen) and chosen == found.incumbent
        beaten = (first, found.known[first]) if is_beaten else None
        score, scores = found.known.get(chosen), found.scores
        problem = "" if chosen is not None else self.size.misfits(list(scores))
        if self.space is None or not self.controller.is_trained:
            return Derivation(chosen, score, problem=problem, beaten=beaten)
        if chosen is not None and chosen not in scores:
            scores = scores | self._rank([chosen])
        comparison = self._compare(found.sampled, scores, chosen) if compare else {}
        probabilities = [[round(p, 4) for p in each.mean(0).tolist()] for each in found.sampled.probabilities]
        return Derivation(chosen, score, comparison, probabilities, problem, beaten)

    def _evaluate(self, known: dict[Any, float], some: Iterable[Any]) -> None:
        """Add the metric of some architectures to those that are known."""
        missing = [one for one in some if one is not None and one not in known]
        if missing:
            known.update(self._scores(missing, lambda part: [self.task.evaluate(one, "valid") for one in part]))

    def _ranked(self, shortlist: list[Any]) -> tuple[list[Any], dict[Any, float]]:
        """Order a shortlist by what rewards measure, on all of validation; return it with the metrics known by then."""
        if len(shortlist) < 2:
            return shortlist, {}
        if self.task.rank_metric is self.task.metric:
            known: dict[Any, float] = {}
            self._evaluate(known, shortlist)
            return ordered(known, self.task.metric), known
        return ordered(self._scores(shortlist, self.task.rank), self.task.rank_metric), {}

    def _rank(self, architectures: list[Any]) -> dict[Any, float]:
        """The score of each different architecture on the first few validation minibatches."""
        different = list(dict.fromkeys(architectures))
        return self._scores(different, lambda some: self.task.rank(some, self.config.derive_max_batches))

    def _scores(self, architectures: list[Any], score: Callable[[Sequence[Any]], list[float]]) -> dict[Any, float]:
        values = self.ranks.divided(lambda some: torch.tensor(score(some), dtype=torch.float64), architectures)
        return dict(zip(architectures, values.tolist(), strict=True))

    def _compare(self, sampled: Sample[Any], scores: dict[Any, float], derived: Any) -> dict[str, Any]:
        # The same uniform architectures at every evaluation, by draws that are none of the run's.
        chance = RandomController(cast("Space[Any]", self.space), generator=torch.Generator().manual_seed(0))
        uniform = chance.sample(self.config.derive_num_sample).architectures
        uniform_scores, metric = self._rank(uniform), self.task.rank_metric
        return {
            "policy": summary([scores[one] for one in sampled.architectures], metric),
            "uniform": summary([uniform_scores[one] for one in uniform], metric),
            "compared_by": metric.name,
            "place": None
            if derived is None
            else 1 + sum(metric.is_better(uniform_scores[one], scores[derived]) for one in uniform),
        }


def ordered(scores: Mapping[Any, float], metric: Metric) -> list[Any]:
    """The keys of `scores`, best first; those without a number last, and equals as they come."""
    sign = -1 if metric.higher_is_better else 1
    return sorted(scores, key=lambda one: (math.isnan(scores[one]), sign * scores[one]))


def summary(scores: list[float], metric: Metric) -> dict[str, float]:
    """Return "mean", "std", "median", "lower_quartile", "upper_quartile" and "best" of scores.

    One diverged architecture moves the mean anywhere. Median and quartiles count it as the worst; each is the score
    nearest to that rank.
    """
    values = torch.tensor(scores, dtype=torch.float64)
    comparable = values.nan_to_num(
        nan=-math.inf if metric.higher_is_better else math.inf, posinf=math.inf, neginf=-math.inf
    )
    lower, median, upper = torch.quantile(comparable, QUARTILES, interpolation="nearest").tolist()
    best = comparable.max() if metric.higher_is_better else comparable.min()
    return {
        "mean": float(values.mean()),
        "std": float(values.std(correction=0)),
        "median": median,
        "lower_quartile": lower,
        "upper_quartile": upper,
        "best": float(best),
    }

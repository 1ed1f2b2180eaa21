"""The settings of an evaluation of searches, and of a comparison of strategies."""

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from enas.errors import UserError
from enas.settings import Settings, setting
from enas.strategies import TRAIN_TYPES

# The settings of each search that differ from those of the search that is evaluated.
SEARCH_CHANGES = {"search": {}, "random_shared": {"train_type": "random"}}
# The same of each strategy that is no train type; halving takes shorter looks than a search has.
STRATEGY_CHANGES = {
    "uniform": {"train_type": "random", "uniform_over": "functions"},
    "enas": {"controller_type": "lstm"},
    "logits": {"controller_type": "independent"},
    "halving": {},
}
# Controls that are expectations over the table: a draw of a few seeds would be luck. So is halving where it can be.
EXPECTED = ("uniform", "random_budget")
TIMED = ("random_budget", "halving")  # take the time of the first method
CONTROLS = (*EXPECTED, "halving", "lstm")
METHODS = (*SEARCH_CHANGES, "finalists", *CONTROLS)
LONGER = ("search", "finalists", "lstm")  # methods whose architectures `longer` trains for longer
_path = partial(setting, "", is_path=True)
BACKENDS = {"loky": "joblib", "ray": "ray", "dask": "distributed", "sequential": "joblib"}  # the package of each


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Settings):
    """The methods to compare, the table of trainings that judges them, and the processes that do the work."""

    budget: str = _path("preset in configs/ by which an architecture is trained from scratch")
    table: str = _path("JSON file of architectures trained by budget; trainings that it lacks come first")
    num_truth: int = setting(0, "functions in the table, drawn uniformly; 0 is the whole space", at_least=0)
    truth_seeds: int = setting(2, "trainings of each architecture of the table, with seeds 1, 2, …", at_least=1)
    truth_share: float = setting(
        1.0, "share of the table, the best by seed 1, that is trained with the further truth_seeds", above=0, at_most=1
    )
    seeds: int = setting(5, "trials of each method, with seeds 1, 2, …", at_least=1)
    methods: tuple[str, ...] = setting(
        ("search", "random_shared", "uniform", "random_budget", "halving"),
        f"methods to compare, the first with each other one: {', '.join(METHODS)}; none makes the table only",
    )
    finalists: int = setting(
        27, "best candidates of a search to halve from scratch: a third is kept at epochs such as 1, 3, 9", at_least=1
    )
    longer: int = setting(
        1, f"also train the architectures of {', '.join(LONGER)} for so many times the epochs; 1 does not", at_least=1
    )
    jobs: int = setting(1, "trainings side by side", at_least=1)
    backend: str = setting("loky", "joblib back end; ray and dask are for a cluster", choices=[*BACKENDS])
    output: str = _path("folder of the results; analysis_results/search_evaluation/TABLE by default")

    def check(self) -> None:
        for name in ("budget", "table"):
            if not getattr(self, name):
                raise UserError(f"{name} is missing; --{name} names it, and --help says what it is")
        for name in self.methods:
            if name not in METHODS:
                raise UserError(f"methods: unknown method {name!r}; there are {', '.join(METHODS)}")
        if find_spec(BACKENDS[self.backend]) is None:
            raise UserError(f"backend {self.backend} is not installed; pip install 'enas[{self.backend}]'")
        timed = [name for name in TIMED if name in self.methods]
        if timed and not set(self.methods) - set(CONTROLS):
            raise UserError(f"methods: {timed[0]} takes the time of a search, and there is none; add search")


@dataclass(frozen=True, kw_only=True)
class StrategiesConfig(Settings):
    """The strategies to compare, what they look at, and how often."""

    table: str = setting("", "trainings of a whole space: a JSON file, or a name like cells3 or nas_bench_201/cifar10")
    queries: int = setting(500, "looks of each search: at the score of a training, or by a run's weights", at_least=1)
    seeds: int = setting(500, "searches of each strategy, with seeds 1, 2, …", at_least=2)
    strategies: tuple[str, ...] = setting(
        (), f"strategies to compare, by default all: {', '.join([*STRATEGY_CHANGES, *TRAIN_TYPES])}, or your own"
    )
    jobs: int = setting(1, "searches side by side", at_least=1)

"""Does a search beat random? Searches and controls, judged by what their architectures reach from scratch.

from enas.studies.search_evaluation import evaluate
evaluate(config="cells3", budget="cells3_final", table="ablation_studies/tables/cells3.json", seeds=10)
"""

import contextlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from enas.config import Config, effect_notes, with_variation
from enas.data.identity import digest, identity_of
from enas.errors import UserError
from enas.files import make_writable, read_json, write_json
from enas.runs import run
from enas.runs.folder import saved_config
from enas.runs.launch import check_not_launched
from enas.runs.opening import cost_of, read_run
from enas.runs.process import undisturbed
from enas.search.architecture import Architecture, architecture_from_dict
from enas.search.derive import ordered
from enas.studies import evaluation_report, truth
from enas.studies.settings import CONTROLS, EXPECTED, SEARCHES, EvaluationConfig
from enas.studies.statistics import best_of, distribution, paired, standard_error, tau
from enas.studies.truth import Table, Workers, architectures_of, complete

RESULTS_DIR = Path("analysis_results") / "search_evaluation"
TOP = 0.2  # the share of the table that the second τ looks at
BEST_TENTH = 0.1
MADE_WITH = ("settings", "data")
OWN = ("dag_path", "load_path", "log_dir", "mode", "random_seed")  # of a search, which an evaluation sets itself
PREFIXES = {"validation": "", "test": "test_"}  # of the names of results, by split
# Finalists are trained with seeds of their own: those of the table would judge what they have chosen.
FINALIST_SEED = 1_000_000
SAMPLES_PER_FINALIST = 100


def evaluate(**settings: Any) -> dict[str, Any]:
    """Search and sample with several seeds, and look up or train from scratch what each method found.

    Args:
        settings: of `EvaluationConfig`, and of the search as on the command line, its `config` included.

    Returns:
        what results.json holds: for each method "scores", the validation metric from scratch (a mean over
        `truth_seeds`), "ranks" among the table, 1 for the best, the same of the test split as "test_scores" and
        "test_ranks", "architectures", and their "parameters" and "multiply_adds". The controls uniform and
        random_budget are no draws but expectations over the table: "drawn", of how many architectures the best by its
        first training is taken, "scores", the expectation for each seed, and "mean", "std", "quartiles" and
        "in_best_tenth" of what a draw reaches; they are exact where the table "is_complete". Further "tau" and
        "tau_top" between the ranking by the shared weights and that from scratch, overall and within the best fifth;
        and "comparisons" of the first method with the others, on the test split too.

    Raises:
        UserError: with a line that names what is wrong and what would be right.
    """
    check_not_launched("an evaluation, whose --jobs are trainings side by side,")
    names = {spec.name: spec for spec in fields(EvaluationConfig)}
    evaluation = EvaluationConfig(**{name: value for name, value in settings.items() if name in names})
    given = with_variation({name: value for name, value in settings.items() if name not in (*names, *OWN)})
    search = Config(**given)
    for line in (*_idle(settings, evaluation), *effect_notes(given, search)):
        print(line)
    places = {name: getattr(search, name) for name in ("data_dir", "num_gpu")}
    budget = Config(**{**with_variation({"config": evaluation.budget}), **places})
    return _Evaluation(evaluation, search, budget).run()


def _idle(settings: dict[str, Any], evaluation: EvaluationConfig) -> list[str]:
    """Log lines on what an evaluation does not read."""
    own = [name for name in OWN if name in settings and settings[name] != getattr(Config(), name)]
    lines = [f"no effect in an evaluation, which sets these itself: {', '.join(own)}"] if own else []
    if "finalists" in settings and "finalists" not in evaluation.methods:
        lines.append("no effect without the method finalists: finalists")
    return lines


class _Evaluation:
    """One evaluation: the table, then the searches, then the trainings that are still missing."""

    def __init__(self, config: EvaluationConfig, search: Config, budget: Config):
        self.config = config
        self.search = search
        self.budget = budget
        self.metric = search.space.metric
        self.workers = Workers(config.jobs, config.backend)
        self.truth_seeds = range(1, config.truth_seeds + 1)
        self.seeds = range(1, config.seeds + 1)
        self.folder = Path(config.output) if config.output else RESULTS_DIR / Path(config.table).stem
        space = search.space.problem().controllers["random"](search).space
        self.table = Table.open(Path(config.table), budget)
        self.table.fill(architectures_of(space, config.num_truth), config.num_truth)
        # What methods found outside of the table.
        self.found = Table.open(self.folder / "found.json", budget)
        self.finalists = Table.open(self.folder / "finalists.json", budget)
        self.made_with = self._made_with()

    def run(self) -> dict[str, Any]:
        if self.config.dry_run:
            return self._say_what_is_left()
        for folder in (self.folder, self.table.path.parent):
            make_writable(folder)
        data = self.budget.space.problem().load_data(self.budget)
        identity, self.cost = identity_of(data), cost_of(self.budget, data)
        for table in (self.table, self.found, self.finalists):
            table.check_data(self.budget.dataset, identity)
        complete(self.table, self.budget, self.table.missing(self.truth_seeds), self.workers)
        if not self._trained():
            raise UserError(
                f"{self.table.path}: every training diverged; lower the learning rate in {self.config.budget}"
            )
        self._search_all()
        self._train_finalists()
        names = [name for name in self.config.methods if name not in EXPECTED]
        chosen = {name: [self._chosen(name, seed) for seed in self.seeds] for name in names}
        self._train_found(chosen)
        results = self._results(chosen)
        write_json(self.folder / "results.json", results)
        evaluation_report.write(self.folder, results, self._truth("validation"), self.metric)
        return results

    def _truth(self, split: str) -> list[float]:
        return self.table.scores(split, self.truth_seeds)

    def _say_what_is_left(self) -> dict[str, Any]:
        trainings = len(self.table.missing(self.truth_seeds))
        searches = len(self._searches_left())
        hours = f", about {trainings * self.table.seconds / self.config.jobs / 3600:.1f} h" if self.table.runs else ""
        most = self.config.finalists * len(self.seeds) if "finalists" in self.config.methods else 0
        finalists = f", up to {most} trainings of finalists" if most else ""
        print(f"{trainings} trainings of {self.table.path}{hours}; {searches} searches{finalists}; then what they find")
        return {"trainings": trainings, "searches": searches}

    # --- searches -----------------------------------------------------------------------------------------------------

    def _made_with(self) -> dict[str, Any]:
        """Settings and data of the searches in the folder; UserError where these are not the settings asked for."""
        path, searches = self.folder / "search.json", self.folder / "searches"
        if not any(searches.glob("*")):
            return {}
        if not path.is_file():
            raise UserError(f"{searches}: nothing says what these searches were made with; name another output")
        made_with = read_json(path)
        if not isinstance(made_with, dict) or not all(isinstance(made_with.get(key), dict) for key in MADE_WITH):
            raise UserError(f"{path}: does not say what the searches were made with; name another output")
        truth.check_settings(path, made_with["settings"], truth.budget(self.search), "output")
        return made_with

    def _note_what_searches_are_made_with(self) -> None:
        identity, path = identity_of(self.search.space.problem().load_data(self.search)), self.folder / "search.json"
        if self.made_with:
            truth.check_data(path, self.made_with["data"], identity, self.search.dataset, "output")
            return
        write_json(path, {"settings": truth.budget(self.search), "data": identity.short()})

    def _searches_left(self) -> dict[tuple[str, int], tuple[Any, ...]]:
        rows = [architecture.to_dict() for architecture in self.table.architectures]
        tasks = {}
        for name in dict.fromkeys("search" if name == "finalists" else name for name in self.config.methods):
            for seed in self.seeds:
                if name in SEARCHES and not self._has_ranked(name, seed, rows):
                    settings = {**self.search.to_dict(), **SEARCHES[name], "random_seed": seed}
                    tasks[name, seed] = (search_and_rank, {**settings, "log_dir": self._log_dir(name, seed)}, rows)
        return tasks

    def _has_ranked(self, name: str, seed: int, rows: list[dict[str, Any]]) -> bool:
        """Whether a search has ended, and scored these very rows."""
        return self._outcome_path(name, seed).is_file() and self._outcome(name, seed).get("rows") == _digest(rows)

    def _search_all(self) -> None:
        def done(key: tuple[str, int], outcome: dict[str, Any]) -> None:
            write_json(self._outcome_path(*key), outcome)

        self._note_what_searches_are_made_with()
        self.workers.run(self._searches_left(), done, "searches")

    def _log_dir(self, name: str, seed: int) -> str:
        return str(self.folder / "searches" / f"{name}-{seed}")

    def _outcome_path(self, name: str, seed: int) -> Path:
        return self.folder / "searches" / f"{name}-{seed}.json"

    def _outcome(self, name: str, seed: int) -> dict[str, Any]:
        return read_json(self._outcome_path(name, seed))

    # --- finalists ----------------------------------------------------------------------------------------------------

    def _train_finalists(self) -> None:
        """Of each search, the best candidates by its shared weights; each is trained once."""
        if "finalists" not in self.config.methods:
            return
        tasks = {}
        for seed in self.seeds:
            if not self._finalists_path(seed).is_file():
                log_dir = self._log_dir("search", seed)
                if not _begun({"log_dir": log_dir}):
                    raise UserError(f"{log_dir}: the search is gone; remove {log_dir}.json to search again")
                tasks[seed] = (best_candidates, log_dir, self.config.finalists)

        def done(seed: int, found: list[dict[str, Any]]) -> None:
            write_json(self._finalists_path(seed), {"architectures": found})

        self.workers.run(tasks, done, "candidates")
        for seed in self.seeds:
            self.finalists.add(self._finalists(seed))
        missing = [pair for seed in self.seeds for pair in self._final_runs(seed) if pair not in self.finalists.runs]
        complete(self.finalists, self.budget, missing, self.workers)

    def _finalists_path(self, seed: int) -> Path:
        return self.folder / "searches" / f"finalists{self.config.finalists}-{seed}.json"

    def _finalists(self, seed: int) -> list[Architecture]:
        return [architecture_from_dict(one) for one in read_json(self._finalists_path(seed))["architectures"]]

    def _final_runs(self, seed: int) -> list[tuple[int, int]]:
        """The (row, seed) pairs of the trainings of the finalists of a search."""
        rows = [self.finalists.architectures.index(one) for one in self._finalists(seed)]
        return [(row, FINALIST_SEED + seed) for row in rows]

    # --- what each method chooses -------------------------------------------------------------------------------------

    def _chosen(self, method: str, seed: int) -> Architecture:
        if method in SEARCHES:
            return architecture_from_dict(self._outcome(method, seed)["architecture"])
        if method == "finalists":
            row, _ = self._best(self.finalists, self._final_runs(seed))
            return self.finalists.architectures[row]
        return self.search.space.problem().baselines["lstm"](self.budget)

    def _best(self, table: Table, trainings: list[tuple[int, int]]) -> tuple[int, int]:
        """The (row, seed) pair that validates best."""
        return ordered({one: table.runs[one]["validation"] for one in trainings}, self.metric)[0]

    def _num_drawn(self, method: str, seed: int) -> int:
        """The number of architectures, each trained once, of which a control takes the best.

        For random_budget they take the time of the first method's search, and of training the architecture it finds.
        """
        if method == "uniform":
            return 1
        first = next(name for name in self.config.methods if name not in CONTROLS)
        searched = int(self._outcome("search" if first == "finalists" else first, seed)["seconds"] / self.table.seconds)
        # What finalists end in is trained already.
        return searched + (len(self._final_runs(seed)) if first == "finalists" else 1)

    def _train_found(self, chosen: dict[str, list[Architecture]]) -> None:
        known = set(self.table.architectures)
        self.found.add(one for found in chosen.values() for one in found if one not in known)
        complete(self.found, self.budget, self.found.missing(self.truth_seeds), self.workers)

    # --- figures ------------------------------------------------------------------------------------------------------

    def _results(self, chosen: dict[str, list[Architecture]]) -> dict[str, Any]:
        methods = {
            name: self._expected(name) if name in EXPECTED else self._reached(chosen[name])
            for name in self.config.methods
        }
        first, *others = [*methods] or [""]
        return {
            "dataset": self.search.dataset,
            "metric": self.metric.name,
            "architectures": len(self.table.architectures),
            "is_complete": self.is_complete,
            "diverged": len(self.table.architectures) - len(self._trained()),
            "best_tenth": self._tenth,
            "training_seconds": self.table.seconds,
            "methods": methods,
            "comparisons": [self._compared(methods, first, other, split) for other in others for split in PREFIXES],
            **self._correlations(),
        }

    @property
    def is_complete(self) -> bool:
        """Whether the table has all architectures there are."""
        return self.config.num_truth == 0

    @property
    def _tenth(self) -> int:
        return max(1, round(BEST_TENTH * len(self.table.architectures)))

    def _reached(self, found: list[Architecture]) -> dict[str, Any]:
        """Scores, ranks and costs of a method's architectures, one for each seed."""
        reached: dict[str, Any] = {}
        for split, prefix in PREFIXES.items():
            table, known = self._truth(split), self._by_architecture(split)
            reached[f"{prefix}scores"] = [known[one] for one in found]
            reached[f"{prefix}ranks"] = [self._rank(known[one], table) for one in found]
        reached["architectures"] = [one.to_dict() for one in found]
        if self.cost is not None:
            costs = [self.cost(one).to_dict() for one in found]
            reached.update({key: [cost[key] for cost in costs] for key in costs[0]})
        return reached

    def _trained(self) -> list[int]:
        """The rows of the table that did not diverge."""
        scores = zip(*(self._truth(split) for split in PREFIXES), strict=True)
        return [row for row, both in enumerate(scores) if np.isfinite(both).all()]

    def _expected(self, name: str) -> dict[str, Any]:
        """Scores of a control in expectation, over all draws of architectures that do not diverge."""
        rows = np.array(self._trained())
        drawn = [min(len(rows), self._num_drawn(name, seed)) for seed in self.seeds]
        chances = np.mean([self._chances(rows, num) for num in drawn], axis=0)
        expected: dict[str, Any] = {"drawn": drawn}
        for split, prefix in PREFIXES.items():
            table = np.array(self._truth(split))
            expected[f"{prefix}scores"] = [float(self._chances(rows, num) @ table[rows]) for num in drawn]
            expected.update({f"{prefix}{key}": value for key, value in distribution(table[rows], chances).items()})
            ranks = np.array([self._rank(score, table[rows]) for score in table[rows]])
            expected[f"{prefix}in_best_tenth"] = float(chances[ranks <= self._tenth].sum())
            # A complete table holds all there is to draw; a sampled one is itself a draw.
            expected[f"{prefix}error"] = 0.0 if self.is_complete else self._sampling_error(rows, drawn, table)
        if self.cost is not None:
            costs = [self.cost(self.table.architectures[row]).to_dict() for row in rows]
            expected.update({key: round(float(chances @ [cost[key] for cost in costs])) for key in costs[0]})
        return expected

    def _chances(self, rows: np.ndarray, num: int) -> np.ndarray:
        first = [self.table.runs[row, self.truth_seeds[0]]["validation"] for row in rows]
        return best_of(first, min(num, len(rows)), self.metric.higher_is_better)

    def _sampling_error(self, rows: np.ndarray, drawn: list[int], table: np.ndarray) -> float:
        """The standard error of a control's expectation, whose architectures are a sample."""

        def expectation(some: np.ndarray) -> float:
            return float(np.mean([self._chances(rows[some], num) @ table[rows[some]] for num in drawn]))

        return standard_error(expectation, len(rows))

    def _compared(self, methods: dict[str, Any], first: str, other: str, split: str) -> dict[str, Any]:
        key = f"{PREFIXES[split]}scores"
        error = math.hypot(*(methods[name].get(f"{PREFIXES[split]}error", 0.0) for name in (first, other)))
        num = len(self.table.architectures)
        found = paired(methods[first][key], methods[other][key], error, num)
        return {"of": first, "with": other, "split": split, **found}

    def _by_architecture(self, split: str) -> dict[Architecture, float]:
        return {
            one: score
            for table in (self.found, self.table)
            for one, score in zip(table.architectures, table.scores(split, self.truth_seeds), strict=True)
        }

    def _rank(self, score: float, table: Sequence[float]) -> int:
        return 1 + sum(self.metric.is_better(other, score) for other in table)

    def _correlations(self) -> dict[str, Any]:
        """Kendall's τ between each search's mean scores by shared weights and the table, and its best fifth.

        Architectures that diverged are left out.
        """
        rows = self._trained()
        scores = np.array(self._truth("validation"))[rows]
        order = np.argsort(-scores if self.metric.higher_is_better else scores)
        best = order[: max(3, round(TOP * len(order)))]
        found: dict[str, dict[str, Any]] = {"tau": {}, "tau_top": {}, "shared": {}}
        for name in self.config.methods:
            if name not in SEARCHES:
                continue
            shared = np.array([self._outcome(name, seed)["shared"] for seed in self.seeds], dtype=float)
            mean = shared.mean(0)[rows]
            each = [tau(row[rows], scores)["tau"] for row in shared]
            found["tau"][name] = {**tau(mean, scores), "seeds": each}
            found["tau_top"][name] = tau(mean[best], scores[best])
            found["shared"][name] = shared.mean(0).tolist()
        return found


@undisturbed()
def search_and_rank(settings: dict[str, Any], architectures: list[dict[str, Any]]) -> dict[str, Any]:
    """Search, or go on with the search in `log_dir`, and score architectures with the shared weights.

    Args:
        settings: of the search; log_dir is its alone.
        architectures: as `to_dict` gives them.

    Returns:
        "architecture", the derived one; "seconds"; "policy" and "uniform" of the last evaluation, where there are; and
        "shared", the metric of each of `architectures` on all of validation, and "rows", the digest of these.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        begun = _begun(settings)
        results = run.resume(begun[0]) if begun else run.train(Config(**settings))
        (folder,) = _begun(settings)
        trainer = read_run(saved_config(folder), folder)
        shared = [trainer.task.evaluate(architecture_from_dict(one), "valid") for one in architectures]
    last = results["history"][-1]
    return {
        "architecture": results["architecture"],
        "seconds": results["wall_seconds"],
        **{name: last.get(name) for name in ("policy", "uniform", "place")},
        "shared": shared,
        "rows": _digest(architectures),
    }


def _digest(rows: list[dict[str, Any]]) -> str:
    return digest(json.dumps(rows, sort_keys=True).encode())


@undisturbed()
def best_candidates(log_dir: str, num: int) -> list[dict[str, Any]]:
    """Of the search in `log_dir`, the best `num` candidates or fewer, best first on the whole of validation."""
    (folder,) = _begun({"log_dir": log_dir})
    # Of a policy that is almost sure, most samples are the same architecture.
    config = saved_config(folder).replace(derive_num_sample=SAMPLES_PER_FINALIST * num, derive_shortlist=num)
    return [one.to_dict() for one in read_run(config, folder).deriver.shortlist().ranking]


def _begun(settings: dict[str, Any]) -> list[Path]:
    """The run in the log_dir of a search, where it has saved something."""
    return [path for path in Path(settings["log_dir"]).glob("*") if any(path.glob("checkpoints/*.pt"))]

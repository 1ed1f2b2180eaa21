"""Does a search beat random? Searches and controls, judged by the scores of their architectures from scratch.

from enas.studies.search_evaluation import evaluate
evaluate(config="cells3", budget="cells3_final", table="ablation_studies/tables/cells3.json", seeds=10)
"""

import contextlib
import io
import itertools
import json
import math
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from enas.config import Config, effect_notes, with_variation
from enas.data.identity import digest
from enas.errors import UserError
from enas.files import finite, make_writable, read_json, write_json
from enas.runs import run
from enas.runs.folder import check_not_launched, saved_config, say
from enas.runs.opening import cost_of, read_run, undisturbed
from enas.search.architecture import Architecture, architecture_from_dict
from enas.search.derive import ordered
from enas.studies import evaluation_report
from enas.studies.evaluation_report import PREFIXES
from enas.studies.settings import CONTROLS, EXPECTED, SEARCHES, EvaluationConfig
from enas.studies.statistics import best_of, distribution, paired, standard_error, tau
from enas.studies.truth import Table, architectures_of, budget_of, checked_data, read_made, side_by_side

RESULTS_DIR = Path("analysis_results") / "search_evaluation"
TOP = 0.2  # the share of the table that the second τ looks at
BEST_TENTH = 0.1
OWN = ("dag_path", "load_path", "log_dir", "mode", "random_seed")  # settings of a search that an evaluation sets
# Finalists are trained with seeds of their own: the seeds of the table judge the architecture that is chosen.
FINALIST_SEED = 1_000_000
SAMPLES_PER_FINALIST = 100


def evaluate(**settings: Any) -> dict[str, Any]:
    """Search and sample with several seeds, and look up the architectures in the table, or train them from scratch.

    Args:
        settings: those of `EvaluationConfig`, and of the search as on the command line, its `config` included.

    Returns:
        the content of results.json. Each method has "scores", the validation metric from scratch (a mean over
        `truth_seeds`), and "ranks" among the table, 1 for the best, both for the test split too; "architectures", and
        their "parameters" and "multiply_adds". The controls uniform and random_budget are expectations over the table,
        exact if it "is_complete". They take the best of the "drawn" architectures by its first training; "scores" has
        the expectation for each seed; "mean", "std", "quartiles" and "in_best_tenth" describe the score of a draw.
        "tau" and "tau_top" compare the ranking by shared weights with that from scratch, overall and within the best
        fifth; "comparisons" are between the first method and each other one.
    """
    check_not_launched("an evaluation, whose --jobs are trainings side by side,")
    names = {spec.name for spec in fields(EvaluationConfig)}
    evaluation = EvaluationConfig(**{name: value for name, value in settings.items() if name in names})
    given = with_variation({name: value for name, value in settings.items() if name not in {*names, *OWN}})
    search = Config(**given)
    own = [name for name in OWN if name in settings and settings[name] != getattr(Config(), name)]
    if own:
        print(f"no effect in an evaluation, which sets these itself: {', '.join(own)}")
    if "finalists" in settings and "finalists" not in evaluation.methods:
        print("no effect without the method finalists: finalists")
    say(effect_notes(given, search))
    places = {name: getattr(search, name) for name in ("data_dir", "num_gpu")}
    budget = Config(**{**with_variation({"config": evaluation.budget}), **places})
    return _Evaluation(evaluation, search, budget).run()


class _Evaluation:
    """One evaluation: the table, then the searches, then the trainings that are still missing."""

    def __init__(self, config: EvaluationConfig, search: Config, budget: Config):
        self.config = config
        self.search = search
        self.budget = budget
        self.metric = search.space.metric
        self.work = partial(side_by_side, config.jobs, config.backend)
        self.truth_seeds = range(1, config.truth_seeds + 1)
        self.seeds = range(1, config.seeds + 1)
        self.folder = Path(config.output) if config.output else RESULTS_DIR / Path(config.table).stem
        self.searches = self.folder / "searches"
        space = search.space.problem().space(search.replace(train_type="random"))
        self.table = Table(Path(config.table), budget)
        self.table.add(architectures_of(space, config.num_truth), config.num_truth)
        self.found = Table(self.folder / "found.json", budget)  # architectures that methods found outside of the table
        self.finalists = Table(self.folder / "finalists.json", budget)
        self.final_runs: dict[int, list[tuple[int, int]]] = {}  # by seed, (row, seed) of the finalists' trainings
        # By NAME-SEED, the outcomes of searches, and of choosing finalists.
        self.outcomes = {path.stem: read_json(path) for path in self.searches.glob("*.json")}
        has_begun = any(self.searches.glob("*"))
        self.search_data = read_made(self.folder / "search.json", search, "output")["data"] if has_begun else None

    def run(self) -> dict[str, Any]:
        if self.config.dry_run:
            return self._say_what_is_left()
        for folder in (self.folder, self.table.path.parent):
            make_writable(folder)
        data = self.budget.space.problem().load_data(self.budget)
        for table in (self.table, self.found, self.finalists):
            table.data = checked_data(table.path, table.data if table.runs else None, table.config, data, "table")
        self.table.train(self.table.pairs(self.truth_seeds), self.work)
        self.cost = cost_of(self.budget, data)
        self._read_table()
        path, data = self.folder / "search.json", self.search.space.problem().load_data(self.search)
        digests = checked_data(path, self.search_data, self.search, data, "output")
        write_json(path, {"settings": budget_of(self.search), "data": digests})
        self.work(self._searches_left(), self._note_outcome, "searches")
        if "finalists" in self.config.methods:
            self._train_finalists()
        names = [name for name in self.config.methods if name not in EXPECTED]
        chosen = {name: [self._chosen(name, seed) for seed in self.seeds] for name in names}
        known = set(self.table.architectures)
        self.found.add(one for found in chosen.values() for one in found if one not in known)
        self.found.train(self.found.pairs(self.truth_seeds), self.work)
        results = self._results(chosen)
        write_json(self.folder / "results.json", results)
        evaluation_report.write(self.folder, results, self.truth, self.metric)
        return results

    def _say_what_is_left(self) -> dict[str, Any]:
        trainings = set(self.table.pairs(self.truth_seeds)) - self.table.runs.keys()
        searches = self._searches_left()
        new = searches.keys() - self.outcomes.keys()  # the others only score rows
        each = np.mean([one["seconds"] for one in self.outcomes.values() if "seconds" in one] or [math.nan])
        most = self.config.finalists * len(self.seeds) if "finalists" in self.config.methods else 0
        print(
            f"{len(trainings)} trainings of {self.table.path}{self._hours(len(trainings) * self.table.seconds)}; "
            f"{len(searches)} searches{self._hours(len(new) * each)}"
            f"{f', up to {most} trainings of finalists' if most else ''}; then what they find"
        )
        return {"trainings": len(trainings), "searches": len(searches)}

    def _hours(self, seconds: float) -> str:
        return "" if math.isnan(seconds) else f", about {seconds / self.config.jobs / 3600:.1f} h"

    def _searches_left(self) -> dict[str, tuple[Any, ...]]:
        """Return the tasks of the searches that have not ended, or not scored the very rows of the table."""
        rows = [one.to_dict() for one in self.table.architectures]
        scored, tasks = _digest(rows), {}
        names = dict.fromkeys("search" if name == "finalists" else name for name in self.config.methods)
        for name, seed in itertools.product((name for name in names if name in SEARCHES), self.seeds):
            key = f"{name}-{seed}"
            if self.outcomes.get(key, {}).get("rows") != scored:
                changes = {**SEARCHES[name], "random_seed": seed, "log_dir": str(self.searches / key)}
                tasks[key] = (search_and_rank, {**self.search.to_dict(), **changes}, rows)
        return tasks

    def _note_outcome(self, key: str, outcome: dict[str, Any]) -> None:
        write_json(self.searches / f"{key}.json", outcome)
        self.outcomes[key] = finite(outcome)  # as it will be read

    def _train_finalists(self) -> None:
        """Train the best candidates of each search by its shared weights, each once."""
        shortlists = {seed: f"finalists{self.config.finalists}-{seed}" for seed in self.seeds}
        tasks = {}
        for seed, key in shortlists.items():
            log_dir = str(self.searches / f"search-{seed}")
            if key not in self.outcomes:
                if not _begun(log_dir):
                    raise UserError(f"{log_dir}: the search is gone; remove {log_dir}.json to search again")
                tasks[key] = (best_candidates, log_dir, self.config.finalists)
        self.work(tasks, self._note_outcome, "candidates")
        for seed, key in shortlists.items():
            found = [architecture_from_dict(one) for one in self.outcomes[key]["architectures"]]
            self.finalists.add(found)
            rows = map(self.finalists.architectures.index, found)
            self.final_runs[seed] = [(row, FINALIST_SEED + seed) for row in rows]
        self.finalists.train(itertools.chain(*self.final_runs.values()), self.work)

    def _chosen(self, method: str, seed: int) -> Architecture:
        if method in SEARCHES:
            return architecture_from_dict(self.outcomes[f"{method}-{seed}"]["architecture"])
        if method == "finalists":
            scores: Any = {pair: self.finalists.runs[pair]["validation"] for pair in self.final_runs[seed]}
            return self.finalists.architectures[ordered(scores, self.metric)[0][0]]
        return self.search.space.problem().baselines["lstm"](self.budget)

    def _num_drawn(self, method: str, seed: int) -> int:
        """Return the number of architectures, each trained once, of which a control takes the best.

        For random_budget they take the time of the first method's search, and of training the architecture it finds.
        """
        if method == "uniform":
            return 1
        first = next(name for name in self.config.methods if name not in CONTROLS)
        search = "search" if first == "finalists" else first
        # The last architecture of finalists is trained already.
        trained = len(self.final_runs[seed]) if first == "finalists" else 1
        return int(self.outcomes[f"{search}-{seed}"]["seconds"] / self.table.seconds) + trained

    def _read_table(self) -> None:
        """Note the table's scores, and its rows that did not diverge: controls and τ leave the others out."""
        self.truth = {split: np.array(self.table.scores(split, self.truth_seeds)) for split in PREFIXES}
        self.rows = np.flatnonzero(np.isfinite([*self.truth.values()]).all(0))
        if not self.rows.size:
            advice = f"lower the learning rate in {self.config.budget}"
            raise UserError(f"{self.table.path}: every training diverged; {advice}")
        self.first = np.array(self.table.scores("validation", self.truth_seeds[:1]))[self.rows]
        self.tenth = max(1, round(BEST_TENTH * len(self.table.architectures)))
        self.is_complete = self.config.num_truth == 0  # the table then has all architectures of the space

    def _results(self, chosen: dict[str, list[Architecture]]) -> dict[str, Any]:
        num = len(self.table.architectures)
        methods = {
            name: self._reached(chosen[name]) if name in chosen else self._expected(name)
            for name in self.config.methods
        }
        first, *others = [*methods] or [""]
        return {
            "dataset": self.search.dataset,
            "metric": self.metric.name,
            "architectures": num,
            "is_complete": self.is_complete,
            "diverged": num - len(self.rows),
            "best_tenth": self.tenth,
            "training_seconds": self.table.seconds,
            "methods": methods,
            "comparisons": [self._compared(methods, first, other, split) for other in others for split in PREFIXES],
            **self._correlations(),
        }

    def _reached(self, found: list[Architecture]) -> dict[str, Any]:
        """Return the scores, ranks and costs of a method's architectures, one for each seed."""
        reached: dict[str, Any] = {}
        for split, prefix in PREFIXES.items():
            known = dict(zip(self.found.architectures, self.found.scores(split, self.truth_seeds), strict=True))
            known |= zip(self.table.architectures, self.truth[split].tolist(), strict=True)
            scores = [known[one] for one in found]
            reached |= {f"{prefix}scores": scores, f"{prefix}ranks": self._ranks(scores, split).tolist()}
        return {**reached, "architectures": [one.to_dict() for one in found], **self._costs(found)}

    def _expected(self, name: str) -> dict[str, Any]:
        """Return the scores of a control in expectation, over all draws of architectures that do not diverge."""
        drawn = [min(len(self.rows), self._num_drawn(name, seed)) for seed in self.seeds]
        each = [best_of(self.first, num, self.metric.higher_is_better) for num in drawn]
        chances = np.mean(each, axis=0)
        expected: dict[str, Any] = {"drawn": drawn}
        for split, prefix in PREFIXES.items():
            scores = self.truth[split][self.rows]
            reached = {
                "scores": [float(some @ scores) for some in each],
                **distribution(scores, chances),
                "in_best_tenth": float(chances[self._ranks(scores, split) <= self.tenth].sum()),
                # A complete table holds all there is to draw; a sampled one is itself a draw.
                "error": 0.0 if self.is_complete else standard_error(partial(self._mean, drawn, scores), len(scores)),
            }
            expected |= {f"{prefix}{key}": value for key, value in reached.items()}
        costs = self._costs([self.table.architectures[row] for row in self.rows])
        return {**expected, **{key: round(float(chances @ values)) for key, values in costs.items()}}

    def _costs(self, architectures: list[Architecture]) -> dict[str, list[int]]:
        costs = [self.cost(one).to_dict() for one in architectures] if self.cost else [{}]
        return {key: [cost[key] for cost in costs] for key in costs[0]}

    def _mean(self, drawn: list[int], scores: np.ndarray, some: np.ndarray) -> float:
        """Return the mean over `drawn` of the expected score, among `some` rows."""
        first, is_higher = self.first[some], self.metric.higher_is_better
        return float(np.mean([best_of(first, num, is_higher) @ scores[some] for num in drawn]))

    def _ranks(self, scores: ArrayLike, split: str) -> np.ndarray:
        """Return the place of each score among the table's, 1 for the best; NaN comes after every number."""
        sign = -1 if self.metric.higher_is_better else 1
        return 1 + np.searchsorted(np.sort(sign * self.truth[split]), np.multiply(sign, scores))

    def _compared(self, methods: dict[str, Any], first: str, other: str, split: str) -> dict[str, Any]:
        scores, error = (f"{PREFIXES[split]}{what}" for what in ("scores", "error"))
        ours, theirs = methods[first], methods[other]
        both = math.hypot(ours.get(error, 0.0), theirs.get(error, 0.0))
        compared = paired(ours[scores], theirs[scores], both, len(self.table.architectures))
        return {"of": first, "with": other, "split": split, **compared}

    def _correlations(self) -> dict[str, Any]:
        """Return Kendall's τ between each search's mean scores by shared weights and the table, and its best fifth."""
        scores = self.truth["validation"][self.rows]
        order = np.argsort(-scores if self.metric.higher_is_better else scores)
        best = order[: max(3, round(TOP * len(order)))]
        found: dict[str, dict[str, Any]] = {"tau": {}, "tau_top": {}, "shared": {}}
        for name in (name for name in self.config.methods if name in SEARCHES):
            shared = np.array([self.outcomes[f"{name}-{seed}"]["shared"] for seed in self.seeds], dtype=float)
            mean = shared.mean(0)[self.rows]
            each = [tau(row[self.rows], scores)["tau"] for row in shared]
            found["tau"][name] = {**tau(mean, scores), "seeds": each}
            found["tau_top"][name] = tau(mean[best], scores[best])
            found["shared"][name] = shared.mean(0).tolist()
        return found


@undisturbed()
def search_and_rank(settings: dict[str, Any], architectures: list[dict[str, Any]]) -> dict[str, Any]:
    """Search, or go on with the search in `log_dir`, and score architectures (dictionaries) by shared weights.

    Returns:
        "architecture", the derived one; "seconds"; "policy", "uniform" and "place" of the last evaluation; "shared",
        the metric of each of `architectures` on all of validation; and "rows", their digest.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        begun = _begun(settings["log_dir"])
        results = run.resume(begun[0]) if begun else run.train(Config(**settings))
        (folder,) = _begun(settings["log_dir"])
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
def best_candidates(log_dir: str, num: int) -> dict[str, Any]:
    """Return the best `num` candidates, or fewer, of the search in `log_dir`: best first on the whole of validation."""
    (folder,) = _begun(log_dir)
    # Most samples of a policy that is almost sure are the same architecture.
    config = saved_config(folder).replace(derive_num_sample=SAMPLES_PER_FINALIST * num, derive_shortlist=num)
    trainer = read_run(config, folder)
    return {"architectures": [one.to_dict() for one in trainer.deriver.shortlist().ranking]}


def _begun(log_dir: str) -> list[Path]:
    """Find the run in the log_dir of a search, if it has saved something."""
    return [path for path in Path(log_dir).glob("*") if any(path.glob("checkpoints/*.pt"))]

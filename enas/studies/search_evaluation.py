"""Does a search beat random? Searches and controls, judged by what their architectures reach from scratch.

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

from enas.config import Config, effect_notes, with_variation
from enas.data.identity import digest, identity_of
from enas.errors import UserError
from enas.files import make_writable, read_json, write_json
from enas.runs import run
from enas.runs.folder import saved_config, say
from enas.runs.launch import check_not_launched
from enas.runs.opening import cost_of, read_run
from enas.runs.process import undisturbed
from enas.search.architecture import Architecture, architecture_from_dict
from enas.search.derive import ordered
from enas.studies import evaluation_report, truth
from enas.studies.evaluation_report import PREFIXES
from enas.studies.settings import CONTROLS, EXPECTED, SEARCHES, EvaluationConfig
from enas.studies.statistics import best_of, distribution, paired, standard_error, tau
from enas.studies.truth import Table, architectures_of, complete, side_by_side

RESULTS_DIR = Path("analysis_results") / "search_evaluation"
TOP = 0.2  # the share of the table that the second τ looks at
BEST_TENTH = 0.1
OWN = ("dag_path", "load_path", "log_dir", "mode", "random_seed")  # of a search, which an evaluation sets itself
# Finalists are trained with seeds of their own: those of the table would judge what they have chosen.
FINALIST_SEED = 1_000_000
SAMPLES_PER_FINALIST = 100


def evaluate(**settings: Any) -> dict[str, Any]:
    """Search and sample with several seeds, and look up or train from scratch what each method found.

    Args:
        settings: of `EvaluationConfig`, and of the search as on the command line, its `config` included.

    Returns:
        what results.json holds: for each method "scores", the validation metric from scratch (a mean over
        `truth_seeds`), "ranks" among the table, 1 for the best, both for the test split too, "architectures", and their
        "parameters" and "multiply_adds". The controls uniform and random_budget are expectations over the table, exact
        if it "is_complete": "drawn", of how many architectures the best by its first training is taken, "scores", the
        expectation for each seed, and "mean", "std", "quartiles" and "in_best_tenth" of what a draw reaches. "tau" and
        "tau_top" compare the ranking by shared weights with that from scratch, overall and within the best fifth;
        "comparisons" are of the first method with the others.
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
        self.searches, self.shortlist = self.folder / "searches", f"finalists{config.finalists}"
        space = search.space.problem().controllers["random"](search).space
        self.table = Table.open(Path(config.table), budget)
        self.table.add(architectures_of(space, config.num_truth), config.num_truth)
        self.found = Table.open(self.folder / "found.json", budget)  # what methods found outside of the table
        self.finalists = Table.open(self.folder / "finalists.json", budget)
        self.search_data = self._search_data()

    def run(self) -> dict[str, Any]:
        if self.config.dry_run:
            return self._say_what_is_left()
        for folder in (self.folder, self.table.path.parent):
            make_writable(folder)
        data = self.budget.space.problem().load_data(self.budget)
        for table in (self.table, self.found, self.finalists):
            table.check_data(self.budget.dataset, identity_of(data))
        self._complete(self.table)
        self._read_table()
        self.cost = cost_of(self.budget, data)
        self._search_all()
        self._train_finalists()
        names = [name for name in self.config.methods if name not in EXPECTED]
        chosen = {name: [self._chosen(name, seed) for seed in self.seeds] for name in names}
        known = set(self.table.architectures)
        self.found.add(one for found in chosen.values() for one in found if one not in known)
        self._complete(self.found)
        results = self._results(chosen)
        write_json(self.folder / "results.json", results)
        evaluation_report.write(self.folder, results, self.truth, self.metric)
        return results

    def _complete(self, table: Table) -> None:
        complete(table, self.budget, table.missing(self.truth_seeds), self.work)

    def _say_what_is_left(self) -> dict[str, Any]:
        trainings = len(self.table.missing(self.truth_seeds))
        searches = len(self._searches_left())
        hours = f", about {trainings * self.table.seconds / self.config.jobs / 3600:.1f} h" if self.table.runs else ""
        most = self.config.finalists * len(self.seeds) if "finalists" in self.config.methods else 0
        finalists = f", up to {most} trainings of finalists" if most else ""
        print(f"{trainings} trainings of {self.table.path}{hours}; {searches} searches{finalists}; then what they find")
        return {"trainings": trainings, "searches": searches}

    def _search_data(self) -> dict[str, str] | None:
        """The data of the searches in the folder, None where there are none; UserError for other settings' searches."""
        path = self.folder / "search.json"
        if not any(self.searches.glob("*")):
            return None
        try:
            made_with = read_json(path)
            settings, data = dict(made_with["settings"]), dict(made_with["data"])
        except (UserError, KeyError, TypeError, ValueError):
            raise UserError(
                f"{self.searches}: nothing says what these searches were made with; name another output"
            ) from None
        truth.check_settings(path, settings, truth.budget(self.search), "output")
        return data

    def _search_all(self) -> None:
        path, identity = self.folder / "search.json", identity_of(self.search.space.problem().load_data(self.search))
        if self.search_data is None:
            write_json(path, {"settings": truth.budget(self.search), "data": identity.short()})
        else:
            truth.check_data(path, self.search_data, identity, self.search.dataset, "output")
        self.work(self._searches_left(), self._note_outcome, "searches")

    def _searches_left(self) -> dict[tuple[str, int], tuple[Any, ...]]:
        """The searches that have not ended, or not scored the very rows of the table."""
        rows = [architecture.to_dict() for architecture in self.table.architectures]
        names = dict.fromkeys("search" if name == "finalists" else name for name in self.config.methods)
        tasks = {}
        for name, seed in itertools.product((name for name in names if name in SEARCHES), self.seeds):
            if self._outcome(name, seed).get("rows") != _digest(rows):
                changes = {**SEARCHES[name], "random_seed": seed, "log_dir": str(self._place(name, seed))}
                tasks[name, seed] = (search_and_rank, {**self.search.to_dict(), **changes}, rows)
        return tasks

    def _place(self, name: str, seed: int, suffix: str = "") -> Path:
        return self.searches / f"{name}-{seed}{suffix}"

    def _outcome(self, name: str, seed: int) -> dict[str, Any]:
        """The outcome of a search, or of choosing finalists; empty before its end."""
        path = self._place(name, seed, ".json")
        return read_json(path) if path.is_file() else {}

    def _note_outcome(self, key: tuple[str, int], outcome: dict[str, Any]) -> None:
        write_json(self._place(*key, ".json"), outcome)

    def _train_finalists(self) -> None:
        """Of each search, the best candidates by its shared weights; each is trained once."""
        if "finalists" not in self.config.methods:
            return
        tasks = {}
        for seed in self.seeds:
            if not self._outcome(self.shortlist, seed):
                log_dir = str(self._place("search", seed))
                if not _begun(log_dir):
                    raise UserError(f"{log_dir}: the search is gone; remove {log_dir}.json to search again")
                tasks[self.shortlist, seed] = (best_candidates, log_dir, self.config.finalists)
        self.work(tasks, self._note_outcome, "candidates")
        missing = [pair for seed in self.seeds for pair in self._final_runs(seed) if pair not in self.finalists.runs]
        complete(self.finalists, self.budget, missing, self.work)

    def _final_runs(self, seed: int) -> list[tuple[int, int]]:
        """The (row, seed) pairs of the trainings of the finalists of a search."""
        found = [architecture_from_dict(one) for one in self._outcome(self.shortlist, seed)["architectures"]]
        self.finalists.add(found)
        return [(self.finalists.architectures.index(one), FINALIST_SEED + seed) for one in found]

    def _chosen(self, method: str, seed: int) -> Architecture:
        if method in SEARCHES:
            return architecture_from_dict(self._outcome(method, seed)["architecture"])
        if method == "finalists":
            scores: Any = {pair: self.finalists.runs[pair]["validation"] for pair in self._final_runs(seed)}
            return self.finalists.architectures[ordered(scores, self.metric)[0][0]]
        return self.search.space.problem().baselines["lstm"](self.budget)

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

    def _read_table(self) -> None:
        """Note the scores of the table, and its rows that did not diverge: controls and τ leave the others out."""
        self.truth = {split: np.array(self.table.scores(split, self.truth_seeds)) for split in PREFIXES}
        self.rows = np.flatnonzero(np.isfinite([*self.truth.values()]).all(0))
        if not self.rows.size:
            raise UserError(
                f"{self.table.path}: every training diverged; lower the learning rate in {self.config.budget}"
            )
        self.first = np.array([self.table.runs[row, self.truth_seeds[0]]["validation"] for row in self.rows.tolist()])
        self.num = len(self.table.architectures)
        self.tenth = max(1, round(BEST_TENTH * self.num))
        self.is_complete = self.config.num_truth == 0  # the table then has all architectures there are

    def _results(self, chosen: dict[str, list[Architecture]]) -> dict[str, Any]:
        methods = {
            name: self._expected(name) if name in EXPECTED else self._reached(chosen[name])
            for name in self.config.methods
        }
        first, *others = [*methods] or [""]
        return {
            "dataset": self.search.dataset,
            "metric": self.metric.name,
            "architectures": self.num,
            "is_complete": self.is_complete,
            "diverged": self.num - len(self.rows),
            "best_tenth": self.tenth,
            "training_seconds": self.table.seconds,
            "methods": methods,
            "comparisons": [self._compared(methods, first, other, split) for other in others for split in PREFIXES],
            **self._correlations(),
        }

    def _reached(self, found: list[Architecture]) -> dict[str, Any]:
        """Scores, ranks and costs of a method's architectures, one for each seed."""
        reached: dict[str, Any] = {}
        for split, prefix in PREFIXES.items():
            known: dict[Architecture, float] = {}
            for table in (self.found, self.table):
                known |= zip(table.architectures, table.scores(split, self.truth_seeds), strict=True)
            reached[f"{prefix}scores"] = [known[one] for one in found]
            reached[f"{prefix}ranks"] = [self._rank(known[one], split) for one in found]
        return {**reached, "architectures": [one.to_dict() for one in found], **self._costs(found)}

    def _expected(self, name: str) -> dict[str, Any]:
        """Scores of a control in expectation, over all draws of architectures that do not diverge."""
        drawn = [min(len(self.rows), self._num_drawn(name, seed)) for seed in self.seeds]
        chances = np.mean([self._chances(num) for num in drawn], axis=0)
        expected: dict[str, Any] = {"drawn": drawn}
        for split, prefix in PREFIXES.items():
            scores = self.truth[split][self.rows]
            expected[f"{prefix}scores"] = [float(self._chances(num) @ scores) for num in drawn]
            expected |= {f"{prefix}{key}": value for key, value in distribution(scores, chances).items()}
            ranks = np.array([self._rank(score, split) for score in scores])
            expected[f"{prefix}in_best_tenth"] = float(chances[ranks <= self.tenth].sum())
            # A complete table holds all there is to draw; a sampled one is itself a draw.
            error = 0.0 if self.is_complete else standard_error(partial(self._expectation, drawn, scores), len(scores))
            expected[f"{prefix}error"] = error
        costs = self._costs([self.table.architectures[row] for row in self.rows])
        return {**expected, **{key: round(float(chances @ each)) for key, each in costs.items()}}

    def _costs(self, architectures: list[Architecture]) -> dict[str, list[int]]:
        costs = [self.cost(one).to_dict() for one in architectures] if self.cost else [{}]
        return {key: [cost[key] for cost in costs] for key in costs[0]}

    def _rank(self, score: float, split: str) -> int:
        return 1 + sum(self.metric.is_better(other, score) for other in self.truth[split].tolist())

    def _chances(self, num: int, some: Any = slice(None)) -> np.ndarray:
        """The chance of each row, or of `some` of them, to be the best of `num` by its first training."""
        first = self.first[some]
        return best_of(first, min(num, len(first)), self.metric.higher_is_better)

    def _expectation(self, drawn: list[int], scores: np.ndarray, some: np.ndarray) -> float:
        """The mean over draws of the expected score, among `some` rows."""
        return float(np.mean([self._chances(num, some) @ scores[some] for num in drawn]))

    def _compared(self, methods: dict[str, Any], first: str, other: str, split: str) -> dict[str, Any]:
        scores, error = (f"{PREFIXES[split]}{what}" for what in ("scores", "error"))
        ours, theirs = methods[first], methods[other]
        both = math.hypot(ours.get(error, 0.0), theirs.get(error, 0.0))
        return {"of": first, "with": other, "split": split, **paired(ours[scores], theirs[scores], both, self.num)}

    def _correlations(self) -> dict[str, Any]:
        """Kendall's τ between each search's mean scores by shared weights and the table, and its best fifth."""
        scores = self.truth["validation"][self.rows]
        order = np.argsort(-scores if self.metric.higher_is_better else scores)
        best = order[: max(3, round(TOP * len(order)))]
        found: dict[str, dict[str, Any]] = {"tau": {}, "tau_top": {}, "shared": {}}
        for name in (name for name in self.config.methods if name in SEARCHES):
            shared = np.array([self._outcome(name, seed)["shared"] for seed in self.seeds], dtype=float)
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
        "architecture", the derived one; "seconds"; what the last evaluation says of the policy; "shared", the metric of
        each of `architectures` on all of validation; and "rows", their digest.
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
    """Of the search in `log_dir`, the best `num` candidates or fewer, best first on the whole of validation."""
    (folder,) = _begun(log_dir)
    # Of a policy that is almost sure, most samples are the same architecture.
    config = saved_config(folder).replace(derive_num_sample=SAMPLES_PER_FINALIST * num, derive_shortlist=num)
    trainer = read_run(config, folder)
    return {"architectures": [one.to_dict() for one in trainer.deriver.shortlist().ranking]}


def _begun(log_dir: str) -> list[Path]:
    """The run in the log_dir of a search, where it has saved something."""
    return [path for path in Path(log_dir).glob("*") if any(path.glob("checkpoints/*.pt"))]

"""Does a search beat random? Searches and controls, judged by the scores of their architectures from scratch."""

import io
import itertools
import math
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from enas.config import Config, effect_notes, with_preset
from enas.errors import UserError
from enas.files import finite, read_json, reading, write_json
from enas.pictures.plots import write_figure
from enas.runs import run
from enas.runs.folder import check_not_launched, only_user, saved_config, say
from enas.runs.opening import cost_of, read_run, undisturbed
from enas.search.architecture import Architecture, architecture_from_dict
from enas.search.derive import ordered
from enas.search.record import seconds_in
from enas.search.rungs import cost_to_the_end, rungs_to
from enas.studies import statistics as stats
from enas.studies.evaluation_report import BEST, PREFIXES, ranking_figure, report, scores_figure
from enas.studies.settings import CONTROLS, EXPECTED, LONGER, SEARCH_CHANGES, TIMED, EvaluationConfig
from enas.studies.truth import Table, budget_of, checked_data, digest_of, functions_of, read_made, side_by_side

RESULTS_DIR = Path("analysis_results") / "search_evaluation"
TOP = 0.2  # the share of the table that the second τ looks at
OWN = ("dag_path", "load_path", "log_dir", "mode", "name", "random_seed", "stop_epoch")  # set by an evaluation itself
# Successive halving trains with seeds of its own: the seeds of the table judge the architecture that is chosen.
HALVING_SEEDS = {"finalists": 1_000_000, "halving": 2_000_000}
SAMPLES_PER_FINALIST = 100
NOTHING_FOUND = "no sample keeps to max_parameters and max_flops; search with larger limits"


def evaluate(**settings: Any) -> dict[str, Any]:
    """Search and sample with several seeds, and look up the architectures in the table, or train them from scratch.

    The settings are those of `EvaluationConfig`, and of the search as on the command line, its `config` included.
    Return the content of results.json, which docs/studies.md describes.
    """
    check_not_launched("an evaluation, whose --jobs are trainings side by side,")
    names = {spec.name for spec in fields(EvaluationConfig)}
    evaluation = EvaluationConfig(**{name: value for name, value in settings.items() if name in names})
    given = with_preset({name: value for name, value in settings.items() if name not in {*names, *OWN}})
    search = Config(**given)
    if own := [name for name in OWN if name in settings and settings[name] != getattr(Config(), name)]:
        print(f"no effect in an evaluation, which sets these itself: {', '.join(own)}")
    for name, needed in (("finalists", ("finalists",)), ("longer", LONGER)):
        if name in settings and not {*needed} & {*evaluation.methods}:
            print(f"no effect without the method {' or '.join(needed)}: {name}")
    say(effect_notes(given, search))
    budget = Config(**with_preset({"config": evaluation.budget}))
    if budget.space.name != search.space.name:
        raise UserError(f"budget {evaluation.budget}: is of space {budget.space.name}, not {search.space.name}")
    if "lstm" in evaluation.methods and "lstm" not in search.space.problem().baselines:
        raise UserError(f"methods: space {search.space.name} has no baseline lstm; leave it out")
    if budget.dataset != search.dataset:
        raise UserError(f"budget {evaluation.budget}: trains on {budget.dataset}; the search is on {search.dataset}")
    here = {"data_dir", "num_gpu", *({"num_threads"} & {*settings})}  # a preset's threads are for its own trainings
    made = _Evaluation(evaluation, search, budget.replace(**{name: getattr(search, name) for name in here}))
    with only_user(made.folder):
        return made.run()


class _Evaluation:
    """One evaluation: the table, then the searches, then the trainings that are still missing."""

    def __init__(self, config: EvaluationConfig, search: Config, budget: Config):
        self.config, self.search, self.budget, self.metric = config, search, budget, search.space.metric
        self.work = partial(side_by_side, config.jobs, config.backend)
        self.truth_seeds = range(1, config.truth_seeds + 1)
        self.seeds = range(1, config.seeds + 1)
        self.folder = Path(config.output) if config.output else RESULTS_DIR / Path(config.table).stem
        self.searches = self.folder / "searches"
        self.space = search.space.problem().space(search.replace(train_type="random"))
        self.rungs, self.digest = rungs_to(budget.max_epoch), digest_of(budget_of(budget))
        self.table = Table(Path(config.table), budget)
        self.table.add(functions_of(self.space, config.num_truth), config.num_truth)
        self.found = Table(self.folder / "found.json", budget)  # functions that methods found outside of the table
        lengths = ("max_epoch", "cnn_lr_period") if budget.network_type == "cnn" else ("max_epoch",)
        longer = {name: config.longer * getattr(budget, name) for name in lengths}
        self.long = Table(self.folder / f"found_{config.longer}_times.json", budget.replace(**longer))
        self.timed = Table(self.folder / "timed.json", budget)  # trained here: another machine may have made the table
        # By NAME-SEED, the outcomes of searches and of halving.
        self.outcomes: dict[str, Any] = {}
        for path in self.searches.glob("*.json"):
            self.outcomes[path.stem] = one = read_json(path)
            with reading(path):  # numpy refuses texts
                np.array([one["seconds"], *one["shared"]] if "shared" in one else one["draw_seconds"], dtype=float)
            if one.get("budget", self.digest) != self.digest:
                raise UserError(f"{path}: was made with another budget; name another output")
        has_begun = any(self.searches.glob("*"))
        self.search_data = read_made(self.folder / "search.json", search, "output")["data"] if has_begun else None

    def run(self) -> dict[str, Any]:
        data = self.budget.space.problem().load_data(self.budget)
        for table in (self.table, self.timed, self.found, self.long):
            table.data = checked_data(table.path, table.data if table.runs else None, table.config, data, "table")
        self.table.train(self.table.pairs(self.truth_seeds[:1]), self.work)
        self.table.train(self._truth_pairs(), self.work)
        self.cost = cost_of(self.budget, data)
        self._read_table()
        path, data = self.folder / "search.json", self.search.space.problem().load_data(self.search)
        digests = checked_data(path, self.search_data, self.search, data, "output")
        write_json(path, {"settings": budget_of(self.search), "data": digests})
        self.work(self._searches_left(), self._note_outcome, "searches")
        if {*TIMED} & {*self.config.methods}:
            if not self.timed.runs:  # all times are of one machine
                self.timed.add(self._middle()[: self.config.jobs])
            self.timed.train(self.timed.pairs(self.truth_seeds[:1]), self.work)
        names = [name for name in self.config.methods if name not in self.expected]
        for name in (name for name in HALVING_SEEDS if name in names):
            self.work(self._halvings_left(name), partial(self._note_outcome, budget=self.digest), name)
        chosen = {name: [self._chosen(name, seed) for seed in self.seeds] for name in names}
        self.found.add(one for one in itertools.chain(*chosen.values()) if one not in self.functions)
        lstm = self._trainings(chosen.get("lstm", []))
        self.found.train(dict.fromkeys([*self.found.pairs(self.truth_seeds), *lstm]), self.work)
        if self.config.longer > 1:
            self.long.add(itertools.chain(*(chosen[name] for name in LONGER if name in chosen)))
            self.long.train(self.long.pairs(self.truth_seeds), self.work)
        results = self._results(chosen)
        write_json(self.folder / "results.json", results)
        print(*report(results, self.metric), sep="\n")
        if results["methods"]:
            write_figure(scores_figure(results, self.truth, self.metric), self.folder / "scores.png")
        for name in results["tau"]:
            write_figure(ranking_figure(results, self.truth, self.metric, name), self.folder / f"ranking_{name}.png")
        print(f"wrote {self.folder}: results.json and plots")
        return results

    def _searches_left(self) -> dict[str, tuple[Any, ...]]:
        """Return the tasks of the searches that have not ended, or not scored the very rows of the table."""
        rows = [one.to_dict() for one in self.table.architectures]
        scored, tasks = digest_of(rows), {}
        names = dict.fromkeys("search" if name == "finalists" else name for name in self.config.methods)
        for name, seed in itertools.product((name for name in names if name in SEARCH_CHANGES), self.seeds):
            key = f"{name}-{seed}"
            if (known := self.outcomes.get(key, {})).get("rows") != scored or len(known["shared"]) != len(rows):
                changes = {**SEARCH_CHANGES[name], "random_seed": seed, "log_dir": str(self.searches), "name": key}
                tasks[key] = (search_and_rank, {**self.search.to_dict(), **changes}, rows)
        return tasks

    def _note_outcome(self, key: str, outcome: dict[str, Any], **made_by: str) -> None:
        write_json(self.searches / f"{key}.json", {**outcome, **made_by})
        self.outcomes[key] = finite(outcome)  # as it will be read

    def _truth_pairs(self) -> list[tuple[int, int]]:
        """List the (row, seed) pairs of the further trainings of the table's best rows, by their first one."""
        first, *further = self.truth_seeds
        runs = {pair: self.table.runs.get(pair, {"validation": math.nan}) for pair in self.table.pairs([first])}
        best = ordered({row: run["validation"] for (row, _), run in runs.items()}, self.metric)
        return [*itertools.product(best[: round(self.config.truth_share * len(best))], further)]

    def _halvings_left(self, name: str) -> dict[str, tuple[Any, ...]]:
        """Return the tasks of the halvings that have not ended: of a search's candidates, or of random functions."""
        tasks: dict[str, tuple[Any, ...]] = {}
        for seed in self.seeds:
            key, own_seed, folder = self._key(name, seed), HALVING_SEEDS[name] + seed, self.searches / f"search-{seed}"
            if "architecture" in self.outcomes.get(key, {}):
                continue
            here = {"data_dir": self.search.data_dir, "num_gpu": self.search.num_gpu}
            draw: Any = partial(best_candidates, folder, self.config.finalists, **here)
            if name == "halving":
                draw = partial(functions_of, self.space, self._num_drawn(name, seed), own_seed)
            elif not any(folder.glob("checkpoints/*.pt")):
                raise UserError(f"{folder}: the search is gone; remove {folder}.json to search again")
            own = {"mode": "single", "random_seed": own_seed, "log_dir": str(self.folder / "halving" / key)}
            tasks[key] = (halve_from_scratch, {**self.budget.to_dict(), **own, "max_save_num": 1}, draw)
        return tasks

    def _key(self, method: str, seed: int) -> str:
        """Return the name of the outcome of a search, or of a halving with its number of candidates."""
        return f"{method}{self._num_drawn(method, seed) if method in HALVING_SEEDS else ''}-{seed}"

    def _chosen(self, method: str, seed: int) -> Architecture:
        if method == "lstm":
            return self.search.space.problem().baselines[method](self.budget)
        key = self._key(method, seed)
        with reading(self.searches / f"{key}.json"):
            if self.outcomes[key]["architecture"] is None:
                raise UserError(f"{self.searches / key}.json: {NOTHING_FOUND}")
            return architecture_from_dict(self.outcomes[key]["architecture"]).canonical()

    def _middle(self) -> list[Architecture]:
        """List the functions, the ones of about the mean size first; one that diverges would end early."""
        some = [self.functions[row] for row in self.rows]
        sizes = np.array(self._costs(some).get("multiply_adds", [0] * len(some)))
        return [some[index] for index in np.argsort(abs(sizes - sizes.mean()), kind="stable")]

    def _trainings(self, lstms: list[Architecture]) -> list[tuple[int, int]]:
        """Return a training for each seed: all seeds have the same LSTM, so that its mean would have no spread."""
        return [(self.found.functions[one][0], seed) for one, seed in zip(lstms, self.seeds, strict=False)]

    def _num_drawn(self, method: str, seed: int) -> int:
        """Return the number of functions among which a method chooses; controls have equal time (docs/studies.md)."""
        if method == "finalists":
            return self.config.finalists
        if method == "uniform":
            return 1
        first = next(name for name in self.config.methods if name not in CONTROLS)
        search = self.outcomes[f"{'search' if first == 'finalists' else first}-{seed}"]
        chosen = self.outcomes[self._key(first, seed)] if first == "finalists" else {}
        trained, last = len(chosen.get("architectures", [search])), self.rungs[-1]
        seconds = search["seconds"] + chosen.get("draw_seconds", 0.0)
        if math.isnan(self.timed.seconds):
            raise UserError(f"{self.timed.path}: no training has a time, so that no control can have as much")
        epochs = seconds / self.timed.seconds * last + cost_to_the_end(trained, self.rungs)
        if method == "random_budget":
            return math.ceil(epochs / last)  # rounded in favour of the control
        return next(num for num in itertools.count(1) if cost_to_the_end(num + 1, self.rungs) > epochs)

    def _read_table(self) -> None:
        """Note the scores of functions, and which of them did not diverge: controls and τ leave the others out."""
        scores = {split: self.table.scores(split, self.truth_seeds) for split in PREFIXES}
        self.truth = {split: np.array([*known.values()]) for split, known in scores.items()}
        self.rows = np.flatnonzero(np.isfinite([*self.truth.values()]).all(0))
        if not self.rows.size:
            troubles = {one.get("trouble", "not finite") for one in self.table.runs.values()}
            raise UserError(f"{self.table.path}: no training has a score: {'; '.join(sorted(troubles))}")
        self.functions, rows = map(list, zip(*self.table.functions.items(), strict=True))
        first = [self.table.runs[rows[row][0], self.truth_seeds[0]] for row in self.rows]
        self.first = np.array([run["validation"] for run in first])
        self.best = {name: max(1, round(share * len(self.functions))) for name, share in BEST.items()}
        self.is_complete = self.config.num_truth == 0  # the table then has all functions of the space
        self.curves = [run["curve"] for run in first]
        self.expected = (*EXPECTED, *(["halving"] if self.is_complete and all(self.curves) else []))

    def _results(self, chosen: dict[str, list[Architecture]]) -> dict[str, Any]:
        num = len(self.functions)
        methods = {
            name: self._reached(name, chosen[name]) if name in chosen else self._expected(name)
            for name in self.config.methods
        }
        first, *others = [*methods] or [""]
        return {
            "dataset": self.search.dataset,
            "metric": self.metric.name,
            "architectures": num,
            "is_complete": self.is_complete,
            "diverged": num - len(self.rows),
            **self.best,
            "training_seconds": self.timed.seconds,
            "longer": self.config.longer,
            "methods": methods,
            "comparisons": [self._compared(methods, first, other, split) for other in others for split in PREFIXES],
            **self._correlations(),
        }

    def _reached(self, name: str, found: list[Architecture]) -> dict[str, Any]:
        reached: dict[str, Any] = {}
        for split, prefix in PREFIXES.items():
            known = self.found.scores(split, self.truth_seeds) | self.table.scores(split, self.truth_seeds)
            trained = self.found.trainings(split, self.truth_seeds) | self.table.trainings(split, self.truth_seeds)
            alone = [self.found.runs[pair][split] for pair in self._trainings(found)] if name == "lstm" else []
            scores = alone or [known[one] for one in found]
            ranks = self._ranks(scores, split)
            reached |= {f"{prefix}scores": scores, f"{prefix}ranks": ranks.tolist()}
            reached[f"{prefix}error"] = 0.0 if alone else stats.shared_error(found, trained)
            reached |= {f"{prefix}in_{best}": float(np.mean(ranks <= num)) for best, num in self.best.items()}
            if self.config.longer > 1 and name in LONGER:
                different, known = found[:1] if name == "lstm" else found, self.long.scores(split, self.truth_seeds)
                reached[f"long_{prefix}scores"] = [known[one] for one in different]
        if name in HALVING_SEEDS:
            reached["drawn"] = [len(self.outcomes[self._key(name, seed)]["architectures"]) for seed in self.seeds]
        return {**reached, "architectures": [one.to_dict() for one in found], **self._costs(found)}

    def _expected(self, name: str) -> dict[str, Any]:
        """Return the scores of a control in expectation, over all draws of functions that do not diverge."""
        drawn = [min(len(self.rows), self._num_drawn(name, seed)) for seed in self.seeds]
        choose: Any = partial(stats.best_of, self.first, higher_is_better=self.metric.higher_is_better)
        if name == "halving":
            choose = partial(stats.best_by_halving, self.curves, rungs=self.rungs, metric=self.metric)
        each = [*map(cache(choose), drawn)]
        chances = np.mean(each, axis=0)
        expected: dict[str, Any] = {"drawn": drawn}
        for split, prefix in PREFIXES.items():
            scores = self.truth[split][self.rows]
            ranks, spread = self._ranks(scores, split), stats.distribution(scores, chances)
            # A complete table holds all there is to draw; a sampled one is itself a draw.
            error = 0.0 if self.is_complete else stats.standard_error(partial(self._mean, drawn, scores), len(scores))
            reached = {
                "scores": [float(some @ scores) for some in each],
                **spread,
                **{f"in_{best}": float(chances[ranks <= num].sum()) for best, num in self.best.items()},
                "error": spread["std"] / math.sqrt(stats.DRAWS) if name == "halving" else error,
            }
            expected |= {f"{prefix}{key}": value for key, value in reached.items()}
        costs = self._costs([self.functions[row] for row in self.rows])
        return {**expected, **{key: round(float(chances @ values)) for key, values in costs.items()}}

    def _costs(self, architectures: list[Architecture]) -> dict[str, list[int]]:
        costs = [vars(self.cost(one)) for one in architectures] if self.cost else [{}]
        return {key: [cost[key] for cost in costs] for key in costs[0]}

    def _mean(self, drawn: list[int], scores: np.ndarray, some: np.ndarray) -> float:
        """Return the mean over `drawn` of the expected score, among `some` functions."""
        first, is_higher = self.first[some], self.metric.higher_is_better
        return float(np.mean([stats.best_of(first, num, is_higher) @ scores[some] for num in drawn]))

    def _ranks(self, scores: ArrayLike, split: str) -> np.ndarray:
        """Return the place of each score among the table's, 1 for the best; NaN comes after every number."""
        sign = -1 if self.metric.higher_is_better else 1
        return 1 + np.searchsorted(np.sort(sign * self.truth[split]), np.multiply(sign, scores))

    def _compared(self, methods: dict[str, Any], first: str, other: str, split: str) -> dict[str, Any]:
        scores, error = (f"{PREFIXES[split]}{what}" for what in ("scores", "error"))
        ours, theirs = methods[first], methods[other]
        both = math.hypot(ours.get(error, 0.0), theirs.get(error, 0.0))
        compared = stats.paired(ours[scores], theirs[scores], both, len(self.functions))
        return {"of": first, "with": other, "split": split, **compared}

    def _correlations(self) -> dict[str, Any]:
        """Return Kendall's τ between each search's mean scores by shared weights and the table, and its best fifth."""
        scores = self.truth["validation"][self.rows]
        order = np.argsort(-scores if self.metric.higher_is_better else scores)
        best = order[: max(3, round(TOP * len(order)))]
        found: dict[str, dict[str, Any]] = {"tau": {}, "tau_top": {}, "shared": {}}
        for name in (name for name in self.config.methods if name in SEARCH_CHANGES):
            labelled = np.array([self.outcomes[f"{name}-{seed}"]["shared"] for seed in self.seeds], dtype=float)
            shared = np.stack([labelled[:, rows].mean(1) for rows in self.table.functions.values()], axis=1)
            mean = shared.mean(0)[self.rows]
            each = [stats.kendall(row[self.rows], scores) for row in shared]
            found["tau"][name] = {**stats.tau(mean, scores), "seeds": each}
            found["tau_top"][name] = stats.tau(mean[best], scores[best])
            found["shared"][name] = shared.mean(0).tolist()
        return found


@undisturbed()
def search_and_rank(settings: dict[str, Any], architectures: list[dict[str, Any]]) -> dict[str, Any]:
    """Search, or go on with the search of this name, and score architectures (dictionaries) by shared weights.

    Return the derived "architecture"; "seconds" of a core, or by the clock on a GPU; "policy", "uniform" and "place" of
    the last evaluation; "shared", the metric of each of `architectures` on all of validation; and "rows", their digest.
    """
    with redirect_stdout(io.StringIO()):
        found = run.train_or_resume(Config(**settings))
        trainer = read_run(saved_config(found.folder), found.folder)

        def score(one: dict[str, Any]) -> dict[str, float]:
            return {"score": trainer.task.evaluate(architecture_from_dict(one), "valid")}

        shared = [run.scored(partial(score, one), ["score"])["score"] for one in architectures]
    last = found["history"][-1]
    return {
        "architecture": found["architecture"],
        "seconds": seconds_in(last, trainer.task.device.type),
        **{name: last.get(name) for name in ("policy", "uniform", "place")},
        "shared": shared,
        "rows": digest_of(architectures),
    }


@undisturbed()
def best_candidates(folder: Path, num: int, **here: Any) -> list[Architecture]:
    """Return the best `num` functions, or fewer, of the search in `folder`: best first on the whole of validation."""
    # Most samples of a policy that is almost sure are the same architecture.
    sizes = {"derive_num_sample": SAMPLES_PER_FINALIST * num, "derive_shortlist": num, "derive_finalists": 0}
    ranking = read_run(saved_config(folder).replace(**sizes, **here), folder).deriver.shortlist().ranking
    if not ranking:
        raise UserError(f"{folder}: {NOTHING_FOUND}")
    return [one.canonical() for one in ranking]


def halve_from_scratch(settings: dict[str, Any], draw: Callable[[], list[Architecture]]) -> dict[str, Any]:
    """Train the architectures of `draw` from scratch by successive halving, or go on with it.

    Return the "architectures", "draw_seconds" (of a core, for `draw`), and the "architecture" that is left.
    """
    start = time.process_time()
    config, drawn = Config(**settings), draw()
    spent = round(time.process_time() - start, 3)
    winner = run.halved(config, drawn)
    shutil.rmtree(config.log_dir, ignore_errors=True)  # there is none if one architecture was drawn
    return {"architectures": [one.to_dict() for one in drawn], "draw_seconds": spent, "architecture": winner.to_dict()}

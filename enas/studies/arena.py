"""Who finds the best architectures with equally many looks? `compare(table="cells3", queries=500, seeds=500)`."""

import json
import math
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache
from itertools import count, cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from enas.config import Config, all_settings, read_preset, with_preset
from enas.errors import UserError, did_you_mean
from enas.files import atomic_folder, make_writable, write_json
from enas.pictures.plots import METHOD_STYLES, SERIES_COLOURS, new_figure, write_figure
from enas.runs.folder import check_not_launched, find_run, saved_config
from enas.runs.opening import undisturbed
from enas.search.architecture import Architecture
from enas.search.checkpoint import seed_everything
from enas.search.controllers import Controller
from enas.search.own_code import use
from enas.search.settings import ControllerConfig, ControllerOptimConfig, ReinforceConfig
from enas.strategies import TRAIN_TYPES
from enas.strategies.halving import Halving
from enas.studies.ablations import write_table
from enas.studies.looks import SharedLooks, open_table
from enas.studies.settings import STRATEGY_CHANGES, StrategiesConfig
from enas.studies.statistics import holm, paired
from enas.studies.sweep import Rows
from enas.studies.truth import budget_of, side_by_side

RESULTS_DIR = Path("analysis_results") / "strategies"
POINTS = (20, 50, 100, 200, 500, 1000, 2000, 5000)  # numbers of looks after which strategies are compared
CHANCE = "uniform"  # the strategy with which all others are compared
PARTS = (ControllerConfig, ReinforceConfig, ControllerOptimConfig)
# Looks have no epochs, and so no schedule; strategies name their type.
READ = {one.name for part in PARTS for one in fields(part) if not re.match("controller_(lr_|type)", one.name)}
READ |= {"cnn_skip_target", "cnn_skip_weight"}  # of a controller of macro networks


@undisturbed()
def compare(**settings: Any) -> dict[str, Any]:
    """Search with each strategy and each seed; judge, print, write and plot the architectures that they choose.

    The settings are those of `StrategiesConfig`; `load_path`, a run whose shared weights the strategies look at; and
    those of the controller, which by default are the run's own, or at a table those of the preset `small`. Return the
    content of results.json, which docs/strategies.md describes.
    """
    check_not_launched("a comparison of strategies, whose --jobs are searches side by side,")
    use(settings.get("use", ()))
    own = {spec.name for spec in fields(StrategiesConfig)}
    study = StrategiesConfig(**{name: value for name, value in settings.items() if name in own})
    given, run = with_preset({name: value for name, value in settings.items() if name not in own}), ""
    reads = READ | {"data_dir"}
    if given.get("load_path"):
        run, reads = str(find_run(given, ("train",))), reads | {"num_gpu", "derive_max_batches"}
        config = saved_config(Path(run))
        usual = {"controller_lr": config[ControllerOptimConfig].rate(1), "controller_lr_cosine": False}
    elif study.table:
        config = open_table(study.table, given.get("data_dir", "data")).config
        usual = {name: one for name, one in read_preset("small").items() if name in READ}
    else:
        raise UserError("table is missing; --table names one, or --load_path a run; --help says more")
    kept = {name: given[name] for name in reads & {*all_settings([config.space])} & {*given}}
    config = config.replace(**usual | kept)
    if idle := given.keys() - {*kept, "config", "log_dir", "use", "load_path"}:
        print(f"no effect on looks: {', '.join(sorted(idle))}")
    source = (json.dumps(config.to_dict()), study.table, run, time.time_ns())
    looks, config = _opened(*source)
    names = _names(study, config, looks)
    points = [*(point for point in POINTS if point < study.queries), study.queries]
    at = points if run else [*range(1, study.queries + 1)]  # to judge by shared weights takes long
    make_writable(next(path for path in (RESULTS_DIR, *RESULTS_DIR.parents) if path.exists()))
    curves = all_searches(source, names, study.seeds, at, study.jobs)
    table = Path(study.table).stem if study.table.endswith(".json") else study.table
    title = " ".join(filter(None, (Path(run).name, table)))
    missing = f", {looks.num_missing} of {len(looks.runs)} functions missing" if looks.num_missing else ""
    results = {"looks_at": title, "missing": looks.num_missing, "settings": budget_of(config), "rows": []}
    figure, panels = new_figure(6.4, 4.2 * len(looks.splits), rows=len(looks.splits))
    panels[0].set_title(f"{title}{missing}\nmeans of {study.seeds} searches; bands: quartiles", parse_math=False)
    print(f"{title}{missing}: {looks.metric.name} of the chosen architectures; {study.seeds} searches")
    for index, (split, axes) in enumerate(zip(looks.splits, panels, strict=True)):
        scores = {name: curve[:, :, index] for name, curve in curves.items()}
        _draw(axes, at, scores, f"{split} {looks.metric.name}")
        rows = _tested({name: score[:, np.searchsorted(at, points)] for name, score in scores.items()}, points)
        print(_shown(rows, split, looks.metric.decimals))
        results["rows"] += [{"split": split, **row} for row in rows]
    folder = next(one for num in count(1) if not (one := RESULTS_DIR / f"{re.sub('[/ ]', '_', title)}-{num}").exists())
    with atomic_folder(folder) as made:
        write_json(made / "results.json", results)
        write_table(made / "results.csv", results["rows"])
        write_figure(figure, made / "curves.png")
    print(f"wrote {folder}: results.json, results.csv, curves.png")
    return results


def all_searches(
    source: tuple[str, str, str, int], names: Sequence[str], seeds: int, at: Sequence[int], jobs: int = 1
) -> dict[str, np.ndarray]:
    """Return the scores that the strategies reach after these numbers of looks, [seeds, numbers, splits], by name.

    `source` is the settings as JSON, the name of a table or "", the folder of a run or "", and a number that no other
    call has: a process opens them once a call.
    """
    # Seed by seed, so that a strategy that fails does so at once.
    tasks = {(name, seed): (_searched, source, name, seed, at) for seed in range(1, seeds + 1) for name in names}
    found: dict[Any, np.ndarray] = {}
    side_by_side(jobs, "loky", tasks, found.__setitem__, "searches")
    return {name: np.array([found[name, seed] for seed in range(1, seeds + 1)]) for name in names}


def _names(study: StrategiesConfig, config: Config, looks: Any) -> list[str]:
    """Return the names of the strategies, `CHANCE` first; UserError if there is no such strategy."""
    known = [name for name in (*STRATEGY_CHANGES, *config.space.controllers) if looks.epochs > 1 or name != "halving"]
    for name in study.strategies:
        if name not in known:
            needs = "; it needs a table with curves, like cells4"
            why = needs if name in STRATEGY_CHANGES else did_you_mean(name, known)
            raise UserError(f"strategies: {name} is none of {', '.join(known)}{why}")
    return [*dict.fromkeys([CHANCE, *(study.strategies or known)])]


@lru_cache(maxsize=1)
def _opened(settings: str, table: str, run: str, _call: int) -> tuple[Any, Config]:
    """Open what a call looks at, in each process; a later call finds a table or a run that has grown."""
    config = Config(**json.loads(settings))
    looks: Any = open_table(table, config.data_dir) if table else None
    if run:  # which has the shape of the run's own controller
        own = saved_config(Path(run))
        looks = SharedLooks(config.replace(**{name: getattr(own, name) for name in READ}), run, looks)
    return looks, config.replace(max_epoch=looks.epochs) if looks.epochs > 1 else config


@undisturbed()
def _searched(source: tuple[str, str, str, int], name: str, seed: int, at: Sequence[int]) -> np.ndarray:
    """Return the scores of the architectures that are chosen after these numbers of looks, [numbers, splits]."""
    torch.set_num_threads(1)
    looks, config = _opened(*source)
    seed_everything(seed)
    looks.begin(seed)
    changes = {"train_type": config.space.train_types[0]} | STRATEGY_CHANGES.get(name, {"train_type": name})
    make: Any = Halving if name == "halving" else config.space.problem().controller
    strategy = make(config.replace(**changes), looks.space)
    strategy.prepare(config)
    try:
        chosen = search(strategy, looks, at[-1])
    except UserError as error:
        raise UserError(f"strategy {name}: {error}") from None
    judged = {one: [*looks.judge(one).values()] for one in {chosen[num - 1] for num in at}}
    return np.array([judged[chosen[num - 1]] for num in at])


def search(strategy: Controller[Any], looks: Any, queries: int) -> list[Any]:
    """Search; return the architecture that is chosen after each of so many looks.

    It has the best mean reward among those with the longest looks. A strategy with parameters proposes
    `controller_num_aggregate` architectures at once, and every other one a single architecture.
    """
    num = strategy.reinforce.config.controller_num_aggregate if hasattr(strategy, "reinforce") else 1
    known: dict[Any, tuple[int, float, int]] = {}  # epochs of the longest looks, their mean reward, and their number
    best, chosen, spent = None, list[Any](), 0
    while len(chosen) < queries:
        sample, rewards = strategy.sample(num), list[float]()
        if not sample.architectures or not all(isinstance(one, Architecture) for one in sample.architectures):
            raise UserError(f"it proposes {sample.architectures!r:.80}; it must propose architectures")
        epochs = min(sample.epochs or looks.epochs, looks.epochs)
        for key in map(looks.key, sample.architectures):
            reward, cost = looks.look(key, epochs)
            if math.isnan(reward):  # it diverged, and counts as the worst so far
                reward = min(filter(math.isfinite, (mean for _, mean, _ in known.values())), default=-math.inf)
            rewards, spent = [*rewards, reward], spent + cost
            chosen += [best] * ((spent - 1) // looks.epochs - len(chosen))
            longest, mean, num_looks = known.get(key, (0, 0.0, 0))
            mean, num_looks = (mean, num_looks) if epochs == longest else (0.0, 0)
            if epochs >= longest:
                known[key] = epochs, (mean * num_looks + reward) / (num_looks + 1), num_looks + 1
            best = max(known if best in (None, key) else (best, key), key=known.__getitem__)
            chosen += [best] * (spent // looks.epochs - len(chosen))
        if strategy.is_trained and math.isfinite(sum(rewards)):
            with suppress(FloatingPointError):  # this update is skipped, as in a search
                strategy.learn(sample, torch.tensor(rewards))
    return chosen[:queries]


def _tested(scores: dict[str, np.ndarray], points: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for each strategy and number of looks, from scores [seeds, numbers of looks]."""
    rows = []
    for (name, all_ours), (index, point) in product(scores.items(), enumerate(points)):
        pairs = np.array([all_ours[:, index], scores[CHANCE][:, index]])
        ours, theirs = pairs[:, np.isfinite(pairs).all(0)]  # a table need not hold an architecture of a run
        if len(ours) > 1:
            row = {"strategy": name, "looks": point, "mean": ours.mean(), "std": ours.std(ddof=1)}
            rows.append({**row, **(tested := paired(ours, theirs)), "p_holm": tested["p"]})
    others = [row for row in rows if row["strategy"] != CHANCE and row["p"] is not None]
    for row, p in zip(others, holm([row["p"] for row in others]), strict=True):
        row["p_holm"] = p
    return rows


def _shown(rows: Sequence[dict[str, Any]], split: str, decimals: int) -> Rows:
    """Return a table of strategies and numbers of looks."""
    lines, gaps = dict[str, dict[str, Any]](), {f"{row['looks']} looks": "–" for row in rows}
    for row in rows:
        p = "" if row["strategy"] == CHANCE or row["p_holm"] is None else f", p {row['p_holm']:.2g}"
        text = f"{row['mean']:.{decimals}f} ± {row['std']:.{decimals}f}{p}"
        lines.setdefault(row["strategy"], {split: row["strategy"], **gaps})[f"{row['looks']} looks"] = text
    return Rows(lines.values())


def _draw(axes: Axes, at: Sequence[int], scores: dict[str, np.ndarray], label: str) -> None:
    """Draw the mean and the quartiles over seeds of each strategy, from the tenth look on."""
    shown = [index for index, num in enumerate(at) if num >= min(10, at[-1])]
    numbers = [at[index] for index in shown]
    palette = cycle((METHOD_STYLES[CHANCE][1], *SERIES_COLOURS))  # each strategy has its colour in all figures
    colours = dict(zip(dict.fromkeys([*STRATEGY_CHANGES, *TRAIN_TYPES, *scores]), palette, strict=False))
    for name, score in scores.items():
        held, colour = score[:, shown], colours[name]
        if np.isfinite(held).any(0).all():
            lower, upper = np.nanquantile(held, (0.25, 0.75), axis=0)
            axes.fill_between(numbers, lower, upper, color=colour, alpha=0.12, linewidth=0)
            axes.plot(numbers, np.nanmean(held, axis=0), color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xticks([num for num in (10, *POINTS) if numbers[0] <= num <= at[-1]])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()  # within a decade they would have labels, like 3 × 10¹
    axes.set(xlabel="looks", ylabel=label)
    axes.legend(fontsize=8)

"""From settings to results: the functions behind the commands.

    from enas.config import Config
    from enas.runs import run
    results = run.train(Config(dataset="markov", shared_embed=64, shared_hid=64))

A new run takes a `Config`. A function for an existing run takes its name or path (if empty, the newest fitting run) and
the settings to change. Each function gives the caller's random states and number of threads back, and refuses to run
beside another thread's run.
"""

import io
import json
import math
import shlex
import tempfile
from collections.abc import Collection
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from enas.config import Config, with_variation
from enas.data.dataset_folder import SPLITS
from enas.data.own import divided, numbered, settings_for, write_dataset
from enas.errors import Interrupted, TrainingDivergedError, UserError
from enas.files import write_json
from enas.runs.final import final_of, find_final
from enas.runs.folder import choose_run, config_for_scratch, run_config, saved_config
from enas.runs.opening import ARCHITECTURE, open_run, undisturbed
from enas.search.architecture import Architecture, architecture_from_dict, load_architecture
from enas.search.derive import ordered
from enas.search.record import describe_comparison, format_score
from enas.search.scratch import ScratchTrainer
from enas.search.training import Training
from enas.settings import SCRATCH, SEARCHES

NEXT = {  # commands after a run, and what they do
    "scratch --load_path {}": "from scratch",
    "report --load_path {} --output report.html": "page",
    "export --load_path {} --output my_cell": "module",
}
SMALL = {"rnn": "small", "cnn": "small_cnn"}  # network_type -> variation for the user's own data


def train(config: Config, given: Collection[str] = ()) -> dict[str, Any]:
    """Search: train a new run to its end; return the content of its results.json.

    `given` names the settings that the user gave: those without an effect are logged. UserError, here and below, comes
    with a line that names what is wrong and what would be right.
    """
    with open_run(config, given=given) as trainer:
        return _finish(config, trainer)


@undisturbed()
def search(
    train: Any,
    valid: Any = 0.1,
    test: Any = 0.1,
    *,
    dataset: str = "own",
    config: str = "",
    overwrite: bool = False,
    **settings: Any,
) -> Path:
    """Search on the user's own data, and return the run folder, which every other function here takes.

    Args:
        train, valid, test: texts, sequences of words or token ids, or (image, label), in the forms of `enas.data.own`.
            They are written as the dataset folder `data_dir/dataset`, which later modes read. valid and test may be
            fractions of train, drawn with random_seed.
        dataset: the dataset's name from now on.
        config: a variation in configs/; by default `small` for text and `small_cnn` for images.
        overwrite: whether other data in that folder are replaced.
        settings: as on the command line; they override the variation. text, image and label name columns of tables.
    """
    columns: dict[str, str] = {key: settings.pop(key) for key in ("text", "image", "label") if key in settings}
    splits = {split: numbered(split, one, columns) for split, one in zip(SPLITS, (train, valid, test), strict=True)}
    kind = settings_for(splits["train"])
    variation = config or SMALL.get(settings.get("network_type", kind["network_type"]))
    given = with_variation({**kind, **settings, "config": variation, "dataset": dataset})
    wanted = Config(**given)
    if wanted.network_type in SMALL and wanted.network_type != kind["network_type"]:
        raise UserError(f"network_type is {wanted.network_type}; these data need {kind['network_type']}")
    shares = {split: share for split, share in splits.items() if isinstance(share, float)}
    if shares:
        splits |= divided(splits["train"], shares, wanted.random_seed)
    load, three = wanted.space.problem().load_data, [*splits.values()]
    write_dataset(dataset, three, wanted.data_dir, overwrite, lambda place: load(wanted.replace(data_dir=place)))
    with open_run(wanted, given=settings) as trainer:
        if shares:
            counts = ", ".join(f"{split} {len(part):,}" for split, part in splits.items())
            trainer.logbook.info(f"{dataset}: divided with random_seed {wanted.random_seed}: {counts}")
        _finish(wanted, trainer)
        return trainer.folder


def single(config: Config, architecture: Architecture | None = None, given: Collection[str] = ()) -> dict[str, Any]:
    """Train one architecture from scratch, by default that of `config.dag_path`; return the run's results.

    In mode train_scratch the best epoch is tested at the end; without validation data the last one is.
    """
    with open_run(config, architecture=architecture or named_architecture(config), given=given) as trainer:
        return _finish(config, trainer)


def single_or_diverged(config: Config, architecture: Architecture, again: str = "goes on") -> dict[str, Any]:
    """Train like `single`, as a part of a command that trains several; if it diverges, its scores are NaN."""
    validation = f"validation_{config.space.metric.name}"
    try:
        results = single(config, architecture)
    except TrainingDivergedError:
        diverged = {validation: math.nan, f"test_{config.space.metric.name}": math.nan}
        return {"architecture": architecture.to_dict(), **diverged}
    except Interrupted as stop:
        raise Interrupted(stop.status - 128, f"the same command {again}") from None
    return {**results, validation: math.nan if results[validation] is None else results[validation]}


def train_scratch(load_path: str | Path, **changes: Any) -> dict[str, Any]:
    """Train the architecture of a search from scratch; return the new results.

    It is that of `architecture_of`, unless `dag_path` names another.
    """
    folder = choose_run({**changes, "load_path": load_path}, SEARCHES)
    config = config_for_scratch(folder, changes)
    architecture = named_architecture(config) if config.dag_path else architecture_of(folder, **changes)
    with open_run(config, architecture=architecture) as trainer:
        return _finish(config, trainer)


def resume(load_path: str | Path, **changes: Any) -> dict[str, Any]:
    """Go on with a run, a search or one architecture from scratch, from its newest checkpoint; return its results."""
    folder = choose_run({**changes, "load_path": load_path}, (*SEARCHES, *SCRATCH))
    saved = saved_config(folder)
    config = run_config(folder, {"mode": saved.mode, **changes})
    with open_run(config, folder, given=changes) as trainer:
        if trainer.ranks.is_first:
            write_json(folder / "params.json", config.to_dict())
        trainer.logbook.info(f"run {folder}: resumed in epoch {trainer.progress.epoch + 1}")
        if saved.max_epoch != config.max_epoch:
            progress, optim = trainer.progress, config.space.optim
            place = (progress.epoch + 1, progress.total_shared_steps, trainer.task.steps_per_epoch)
            before, now = (settings[optim].rate(*place) * progress.lr_scale for settings in (saved, config))
            moved = f"; the next learning rate is {now:.3g} instead of {before:.3g}" if now != before else ""
            longer = f"max_epoch {config.max_epoch} instead of {saved.max_epoch}"
            trainer.logbook.info(f"{longer}: schedules over the whole run change{moved}")
        return _finish(config, trainer)


def derive(load_path: str | Path, **changes: Any) -> dict[str, Any]:
    """Derive an architecture from a search, and write it down there; return the run's results.

    The run's architecture so far is one of the candidates, so that a worse one never takes its place.
    """
    folder = choose_run({**changes, "load_path": load_path}, SEARCHES)
    config = run_config(folder, {**changes, "mode": "derive"})
    with open_run(config, folder, given=changes) as trainer:
        known = trainer.progress.architecture
        incumbent = None if known is None else architecture_from_dict(known)
        found = trainer.deriver.shortlist(incumbent)
        chosen = _best_finalist(trainer, config, found.best(config.derive_finalists))
        derived = trainer.deriver.derivation(found, chosen)
        if derived.architecture is None:
            raise UserError(f"{derived.problem}; raise the limit, or derive_num_sample")
        trainer.record(derived)
        if derived.comparison:
            trainer.logbook.info(describe_comparison(derived.comparison))
        if derived.beaten is None:
            return _report(trainer, trainer.results(), "derived")
        beaten, score = derived.beaten
        trainer.logbook.info(f"the best sample validates with {format_score(score)}: {json.dumps(beaten.to_dict())}")
        return _report(trainer, trainer.results(), "keeps the architecture it had, which is no worse")


def test(load_path: str | Path, **changes: Any) -> dict[str, Any]:
    """Evaluate the architecture of a run on the test split, and write it down there; return the run's results.

    A search scores it with its shared weights; if `dag_path` names another architecture, nothing is written down. A run
    from scratch scores its best epoch.
    """
    folder = choose_run({**changes, "load_path": load_path}, (*SEARCHES, *SCRATCH))
    dag_path = changes.pop("dag_path", "")
    config = run_config(folder, {**changes, "mode": "test"})
    with open_run(config, folder, given=changes) as trainer:
        task, metric = trainer.task, trainer.task.metric.name
        if saved_config(folder).mode in SEARCHES:
            other = searched_architecture(config, dag_path) if dag_path else None
            architecture = other or final_of(folder, metric).architecture
            trainer.take(architecture, task.evaluate(architecture, "valid"))
            results = {**trainer.results(), f"test_{metric}": task.evaluate(architecture, "test")}
            return _report(trainer, results, "tested", is_written=other is None)
        if dag_path:
            raise UserError(f"{folder}: has the weights of one architecture; leave --dag_path out")
        return _test_scratch(trainer)


def architecture_of(load_path: str | Path, **changes: Any) -> Architecture:
    """Return the architecture of a search, as its results.json names it.

    If there is none, or `changes` hold other settings of `derive` than the search had, one is derived, which is the
    run's from then on.
    """
    folder = choose_run({**changes, "load_path": load_path}, SEARCHES)
    saved = saved_config(folder)
    names = [name for name in changes if name.startswith("derive_") or name in ("max_parameters", "max_flops")]
    asked = {name: changes[name] for name in names if changes[name] != getattr(saved, name)}
    final = None if asked else find_final(folder, saved.space.metric.name)
    if final is not None:
        return final.architecture
    places = ("data_dir", "num_gpu", "num_threads", "rank_timeout")
    here = {name: changes[name] for name in places if name in changes}
    return architecture_from_dict(derive(folder, **here, **asked)["architecture"])


def _best_finalist(trainer: Training, config: Config, finalists: list[Architecture]) -> Architecture | None:
    """Return the finalist that trains best from scratch; None if derive_finalists is 0, or there is none."""
    if config.derive_finalists == 0 or not finalists:
        return None
    metric = config.space.metric
    changes = {name: getattr(config, name) for name in ("data_dir", "num_gpu")}
    changes["max_epoch"] = config.derive_finalist_epoch
    if config.network_type == "cnn":  # each training ends its cosine: near the highest rate it tells little
        changes["cnn_lr_period"] = config.derive_finalist_epoch
    scores: dict[Any, float] = {}
    for finalist in finalists:
        with tempfile.TemporaryDirectory() as log_dir, redirect_stdout(io.StringIO()):
            alone = config_for_scratch(trainer.folder, {**changes, "log_dir": log_dir})
            alone = alone.replace(mode="single", wandb=False)
            score = scores[finalist] = single_or_diverged(alone, finalist, "starts again")[f"validation_{metric.name}"]
        trainer.logbook.info(f"finalist {len(scores)}: validation {metric.name} {format_score(score)} from scratch")
    return ordered(scores, metric)[0]


def named_architecture(config: Config) -> Architecture:
    """Return the architecture that `dag_path` names: that in a JSON file, or a baseline; UserError if there is none."""
    baselines = config.space.problem().baselines
    if not config.dag_path:
        names = ", or ".join(["its JSON file with --dag_path", *baselines])
        raise UserError(f"mode single trains one given architecture: name {names}")
    if config.dag_path in baselines:
        return baselines[config.dag_path](config)
    return searched_architecture(config, config.dag_path)


def searched_architecture(config: Config, path: str | Path) -> Architecture:
    """Return the architecture of the search space in a JSON file; UserError if there is none in it."""
    architecture, needed = load_architecture(path), config.space.architecture
    if not isinstance(architecture, needed):
        raise UserError(f"{path}: is {architecture.title}; {needed.title} is needed here")
    return architecture


def _finish(config: Config, trainer: Training) -> dict[str, Any]:
    """Train to the end, and report the results."""
    if not isinstance(trainer, ScratchTrainer):
        results = trainer.train()
        _say_found(trainer, results)
        _say_where(trainer)
        return results
    trainer.logbook.output_files["architecture"] = trainer.folder / ARCHITECTURE
    results = trainer.train()
    if config.mode == "train_scratch" or not trainer.task.has_validation:
        return _test_scratch(trainer)
    return _report(trainer, results, "trained")


def _test_scratch(trainer: ScratchTrainer) -> dict[str, Any]:
    return _report(trainer, {**trainer.results(), f"test_{trainer.task.metric.name}": trainer.test()}, "tested")


def _report(trainer: Training, results: dict[str, Any], what: str, *, is_written: bool = True) -> dict[str, Any]:
    """Log the results, and write them as results.json unless not `is_written`; return them."""
    if is_written:
        trainer.logbook.results(results)
    metric = trainer.task.metric.name
    known = {f"{split} {metric}": results[f"{split}_{metric}"] for split in ("validation", "test")}
    scores = ", ".join(f"{name} {format_score(score)}" for name, score in known.items() if score is not None)
    trainer.logbook.info(f"run {trainer.folder}: {what}, {scores}")
    trainer.logbook.note(json.dumps(results["architecture"]))
    if is_written:
        _say_where(trainer)
    return results


def _say_found(trainer: Training, results: dict[str, Any]) -> None:
    """Log what a search found, and how it compares with uniform samples."""
    if results["architecture"] is None:
        return
    found, metric = architecture_from_dict(results["architecture"]), trainer.task.metric.name
    cost = trainer.size.cost(found)
    size = "" if cost is None else f" with {cost}"
    value = results[f"validation_{metric}"]
    score = "not finite" if value is None else format_score(value)
    trainer.logbook.info(f"found {found.title}{size}: validation {metric} {score} with shared weights")
    compared = [entry for entry in results["history"] if "place" in entry]
    if compared:
        trainer.logbook.info(describe_comparison(compared[-1]))


def _say_where(trainer: Training) -> None:
    """Log which files the run left, and which commands come next."""
    folder = trainer.folder
    places = {**trainer.logbook.output_files, "results": folder / "results.json", "log": folder / "train.log"}
    for name, path in {**places, "curves": f"tensorboard --logdir {folder}"}.items():
        trainer.logbook.info(f"{name + ':':14}{path}")
    is_known = trainer.use_flag or trainer.space.architecture.__module__.startswith("enas.")
    if trainer.progress.architecture is None or not is_known:
        return  # these commands cannot load a search space that a notebook defines
    is_searched = isinstance(architecture_from_dict(trainer.progress.architecture), trainer.space.architecture)
    is_useful = {"from scratch": not isinstance(trainer, ScratchTrainer), "page": True, "module": is_searched}
    which = f"{shlex.quote(str(folder))}{trainer.use_flag}"
    for command, purpose in NEXT.items():
        if is_useful[purpose]:
            trainer.logbook.info(f"{purpose + ':':14}python -m enas {command.format(which)}")

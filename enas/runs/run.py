"""From settings to results: what the scripts call.

    from enas.config import Config
    from enas.runs import run
    results = run.train(Config(dataset="markov", shared_embed=64, shared_hid=64))

A new run takes a `Config`; what goes on with a run that is there takes its name or path, and the settings to change.
Each function gives the caller's random states and number of threads back, and refuses to run beside another thread's.
"""

import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from enas.config import Config, effect_notes, with_variation
from enas.data.identity import Identity, identity_of
from enas.data.own import settings_for, write_dataset
from enas.errors import TrainingDivergedError, UserError
from enas.files import write_json
from enas.runs.final import final_of, find_final
from enas.runs.folder import (
    IDENTITY,
    check_same_data,
    config_for_scratch,
    make_run_folder,
    only_user,
    run_config,
    run_of_mode,
    saved_config,
)
from enas.runs.launch import mark_launch
from enas.runs.logbook import Logbook
from enas.runs.mirror import Mirror, check_account
from enas.runs.process import undisturbed
from enas.search.architecture import Architecture, architecture_from_dict, load_architecture
from enas.search.checkpoint import Checkpoints, misfit, seed_everything
from enas.search.controllers import Controller, FixedController
from enas.search.cost import Cost
from enas.search.derive import ordered
from enas.search.probe import THREADS_VARIABLE, choose_precision, choose_threads
from enas.search.ranks import ALONE, ARCHITECTURES, BATCH, Ranks, join
from enas.search.record import NoLogbook, format_score
from enas.search.scratch import ScratchTrainer
from enas.search.settings import (
    CheckpointConfig,
    ControllerOptimConfig,
    DeriveConfig,
    ReinforceConfig,
    SizeConfig,
    TrainerConfig,
)
from enas.search.size import SizeBudget
from enas.search.space import Space
from enas.search.task import Task
from enas.search.trainer import Trainer, describe_comparison
from enas.settings import SCRATCH, SEARCHES

ARCHITECTURE = "architecture.json"
SMALL = {"rnn": "small", "cnn": "small_cnn"}  # network_type -> variation for the user's own data


@undisturbed()
def train(config: Config, notes: list[str] | None = None) -> dict[str, Any]:
    """Search: train a new run to its end; returns what its results.json holds. `notes` are logged first.

    Raises:
        UserError: with a line that names what is wrong and what would be right.
    """
    return _start(config, None, notes)


@undisturbed()
def search(train: Any, valid: Any, test: Any, *, dataset: str = "own", config: str = "", **settings: Any) -> Path:
    """Search on the user's own data, and return the run folder, which every other function here takes.

    Args:
        train, valid, test: `torch.utils.data.Dataset`s, lists, or Hugging Face datasets, of texts, of sequences of
            words or token ids, or of (image, label); see `enas.data.own`. They are written as the dataset folder
            `data_dir/dataset`, which later modes read.
        dataset: the dataset's name from now on.
        config: a variation in configs/; `small` for text and `small_cnn` for images unless it is given.
        settings: as on the command line; they override the variation.

    Raises:
        UserError: with a line that names what is wrong and what would be right.
    """
    kind = settings_for(train)
    variation = config or SMALL.get(settings.get("network_type", kind["network_type"]))
    given = with_variation({**kind, **settings, **({"config": variation} if variation else {}), "dataset": dataset})
    wanted = Config(**given)
    notes = effect_notes(settings, wanted)
    if wanted.network_type != kind["network_type"]:
        raise UserError(f"network_type is {wanted.network_type}; these data need {kind['network_type']}")
    is_new = write_dataset(dataset, (train, valid, test), wanted.data_dir)
    try:
        wanted.space.problem().load_data(wanted)
    except UserError:
        if is_new:  # else it would stand in the way of better data
            shutil.rmtree(Path(wanted.data_dir) / dataset)
        raise
    with _begun(wanted, None, notes) as trainer:
        _finish(wanted, trainer)
        return trainer.folder


@undisturbed()
def single(config: Config, architecture: Architecture | None = None, notes: list[str] | None = None) -> dict[str, Any]:
    """Train one architecture from scratch, that of `config.dag_path` unless it is given; returns the run's results.

    In mode train_scratch the best epoch is tested at the end; without validation data the last one is.
    """
    return _start(config, architecture or named_architecture(config), notes)


def single_or_diverged(config: Config, architecture: Architecture) -> dict[str, Any]:
    """Like `single`, with scores of NaN where the training diverges."""
    try:
        return single(config, architecture)
    except TrainingDivergedError:
        diverged = {f"{split}_{config.space.metric.name}": math.nan for split in ("validation", "test")}
        return {"architecture": architecture.to_dict(), **diverged}


@undisturbed()
def train_scratch(load_path: str | Path, **changes: Any) -> dict[str, Any]:
    """Train the architecture of the search in `load_path` from scratch; returns the new results.

    It is the one that `architecture_of` gives, unless `dag_path` names another.
    """
    folder = run_of_mode(load_path, SEARCHES, changes)
    config = config_for_scratch(folder, changes)
    architecture = named_architecture(config) if config.dag_path else architecture_of(folder, **changes)
    return _start(config, architecture, searched=folder)


@undisturbed()
def resume(load_path: str | Path, **changes: Any) -> dict[str, Any]:
    """Go on with a run, a search or one architecture from scratch, from its newest checkpoint."""
    folder = run_of_mode(load_path, (*SEARCHES, *SCRATCH), changes)
    saved = saved_config(folder)
    config = run_config(folder, {"mode": saved.mode, **changes})
    with _reopened(config, folder, changes, curves=True) as trainer:
        if trainer.ranks.is_first:
            write_json(folder / "params.json", config.to_dict())
        trainer.logbook.info(f"run {folder}: resumed in epoch {trainer.progress.epoch + 1}")
        for line in _stretched(trainer, saved, config):
            trainer.logbook.info(line)
        return _finish(config, trainer)


@undisturbed()
def derive(load_path: str | Path, **changes: Any) -> dict[str, Any]:
    """Derive an architecture from the search in `load_path`, and write it down there; returns the run's results.

    The architecture that the run has is one of the candidates, so that a worse one never takes its place.
    """
    folder = run_of_mode(load_path, SEARCHES, changes)
    config = run_config(folder, {**changes, "mode": "derive"})
    with _reopened(config, folder, changes) as trainer:
        known = trainer.progress.architecture
        incumbent = None if known is None else architecture_from_dict(known)
        trainer.deriver.choose = _finalist_chooser(config, folder, trainer.logbook.info, incumbent)
        derived = trainer.deriver.derive(compare=True, incumbent=incumbent)
        derived.required()
        trainer.record(derived)
        if derived.comparison:
            trainer.logbook.info(describe_comparison(derived.comparison))
        if derived.beaten is None:
            return _report(trainer, trainer.results(), "derived")
        beaten, score = derived.beaten
        trainer.logbook.info(f"the best sample validates with {format_score(score)}: {json.dumps(beaten.to_dict())}")
        return _report(trainer, trainer.results(), "keeps the architecture it had, which is no worse")


@undisturbed()
def test(load_path: str | Path, **changes: Any) -> dict[str, Any]:
    """Evaluate the architecture of a run on the test split, and write it down there.

    A search scores it with its shared weights; `dag_path` names another architecture, of which nothing is written
    down. A run from scratch scores its best epoch.
    """
    folder = run_of_mode(load_path, (*SEARCHES, *SCRATCH), changes)
    saved = saved_config(folder)
    dag_path = changes.pop("dag_path", "")
    config = run_config(folder, {**changes, "mode": "test"})
    with _reopened(config, folder, changes) as trainer:
        if saved.mode in SEARCHES:
            return _test_search(trainer, searched_architecture(config, dag_path) if dag_path else None)
        if dag_path:
            raise UserError(f"{folder}: has the weights of one architecture; leave --dag_path out")
        return _test_scratch(trainer)


def architecture_of(load_path: str | Path, **changes: Any) -> Architecture:
    """The architecture of a search, as its results.json names it.

    Where there is none, or `changes` hold other settings of `derive` than the search had, one is derived, which is the
    run's from then on.
    """
    folder = run_of_mode(load_path, SEARCHES, changes)
    saved = saved_config(folder)
    asked = {
        name: value
        for name, value in changes.items()
        if (name.startswith("derive_") or name in ("max_parameters", "max_flops")) and value != getattr(saved, name)
    }
    final = None if asked else find_final(folder, saved.space.metric.name)
    if final is not None:
        return final.architecture
    here = {name: changes[name] for name in ("data_dir", "num_gpu") if name in changes}
    return architecture_from_dict(derive(folder, **here, **asked)["architecture"])


def _finalist_chooser(
    config: Config, folder: Path, report: Callable[[str], object], incumbent: Architecture | None
) -> Callable[[list[Any]], Architecture] | None:
    """A function that chooses among a shortlist by trainings from scratch; None where `derive_finalists` is 0."""
    if config.derive_finalists == 0:
        return None

    def choose(shortlist: list[Architecture]) -> Architecture:
        metric = config.space.metric
        here = {name: getattr(config, name) for name in ("data_dir", "num_gpu")}
        if config.network_type == "cnn":  # each training ends its cosine: near the highest rate it tells little
            here["cnn_lr_period"] = config.derive_finalist_epoch
        scores: dict[Architecture, float] = {}
        finalists = shortlist[: config.derive_finalists]
        finalists += [one for one in shortlist if one == incumbent and one not in finalists]
        for finalist in finalists:
            with tempfile.TemporaryDirectory() as log_dir, redirect_stdout(io.StringIO()):
                changes = {**here, "max_epoch": config.derive_finalist_epoch, "log_dir": log_dir}
                alone = config_for_scratch(folder, changes).replace(mode="single", wandb=False)
                score = scores[finalist] = single_or_diverged(alone, finalist)[f"validation_{metric.name}"]
            report(f"finalist {len(scores)}: validation {metric.name} {format_score(score)} from scratch")
        return ordered(scores, metric)[0]

    return choose


def named_architecture(config: Config) -> Architecture:
    """The architecture that `dag_path` names: that of a JSON file, or a baseline of the search space.

    Raises:
        UserError: nothing is named, there is no such file, or no architecture of the search space in it.
    """
    space = config.space
    names = ", ".join(["its JSON file with --dag_path", *space.baselines])
    if not config.dag_path:
        raise UserError(f"mode single trains one given architecture: name {names.replace(', ', ', or ')}")
    if config.dag_path in space.baselines:
        return space.baselines[config.dag_path](config)
    return searched_architecture(config, config.dag_path)


def searched_architecture(config: Config, path: str | Path) -> Architecture:
    """The architecture of the search space in a JSON file; UserError when there is none in it."""
    architecture, needed = load_architecture(path), config.space.architecture
    if not isinstance(architecture, needed):
        raise UserError(f"{path}: is {architecture.title}; {needed.title} is needed here")
    return architecture


def pick_device(num_gpu: int) -> torch.device:
    """The CPU for 0, a GPU for 1, and for −1 a GPU when there is one; UserError when there are fewer.

    Of several processes on a machine, each has its own GPU.
    """
    available, local_rank = torch.cuda.device_count(), os.environ.get("LOCAL_RANK")
    if num_gpu > available:
        raise UserError(f"num_gpu is {num_gpu}, but this machine has {available}; --num_gpu 0 uses the CPU")
    if num_gpu > 1 and local_rank is None:
        raise UserError(
            f"num_gpu is {num_gpu}, and a process uses one GPU; begin {num_gpu} of them with "
            f"torchrun --nproc_per_node={num_gpu} train_scripts/train_regular.py, and the other flags"
        )
    if not available or num_gpu == 0:
        return torch.device("cpu")
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > available:
        raise UserError(f"this machine has fewer GPUs than processes; use --nproc_per_node={available}")
    device = torch.device("cuda", int(local_rank or 0))
    torch.cuda.set_device(device)
    return device


def make_trainer(
    config: Config,
    task: Task,
    controller: Controller[Any],
    folder: Path,
    logbook: NoLogbook | None = None,
    ranks: Ranks = ALONE,
    cost: Callable[[Any], Cost] | None = None,
) -> Trainer:
    """The loop of a search, or of a run from scratch where the controller is fixed to one architecture."""
    parts = {
        "config": config[TrainerConfig],
        "reinforce": config[ReinforceConfig],
        "derive": config[DeriveConfig],
        "shared_optim": config[config.space.optim],
        "controller_optim": config[ControllerOptimConfig],
        "draw": config.space.problem().draw,
        "header": {name: getattr(config, name) for name in ("network_type", "dataset", "train_type", "mode")},
        "logbook": logbook,
        "checkpoints": Checkpoints(folder / "checkpoints", config[CheckpointConfig].max_save_num, ranks),
        "folder": folder,
        "ranks": ranks,
        "space": getattr(controller, "space", None),
        "draw_policy": _draw_policy,
        "size": SizeBudget(config[SizeConfig], cost),
    }
    if isinstance(controller, FixedController):
        return ScratchTrainer(task, controller.architecture, scratch=config.space.scratch(config), **parts)
    return Trainer(task, controller, **parts)


def cost_of(config: Config, data: Any) -> Callable[[Any], Cost] | None:
    """What tells the cost of an architecture that is trained from scratch with these settings, where it is known."""
    return None if config.space.problem().cost is None else config.space.problem().cost(config, data)


def _draw_policy(space: Space[Any], decisions: list[Any], path: Path) -> Path:
    from enas.pictures.policy import draw_policy  # loads matplotlib, which takes a second

    return draw_policy(space, decisions, path)


def make_problem(
    config: Config, data: Any, architecture: Architecture | None, device: torch.device, ranks: Ranks = ALONE
) -> tuple[Task, Controller[Any]]:
    """Task and controller of a search, or of one architecture from scratch where one is given."""
    if architecture is not None:
        task = config.space.problem().scratch_task(config, data, architecture, device)
        task.divide(ranks, BATCH)
        _use_precision(config, task)
        return task, FixedController(architecture)
    task = config.space.problem().search_task(config, data, device)
    task.divide(ranks, ARCHITECTURES)
    _use_precision(config, task)
    # On the CPU always: a decision is too little work for a GPU, and the draws are then the same with and without one.
    return task, config.space.problem().controllers[config.train_type](config)


def _start(
    config: Config, architecture: Architecture | None, notes: list[str] | None = None, searched: Path | None = None
) -> dict[str, Any]:
    with _begun(config, architecture, notes, searched) as trainer:
        return _finish(config, trainer)


@contextmanager
def _begun(
    config: Config, architecture: Architecture | None, notes: list[str] | None = None, searched: Path | None = None
) -> Iterator[Trainer]:
    """A new run, nothing of it trained yet; on the data of the search in `searched`, where one is given."""
    if config.wandb:
        check_account()
    ranks = join(config.num_gpu, config.rank_timeout)
    device = ranks.together(lambda: pick_device(config.num_gpu))
    seed_everything(config.random_seed)
    data = _load_data(config, ranks, searched)
    task, controller = make_problem(config, data, architecture, device, ranks)
    folder = Path(ranks.from_first(lambda: str(_new_run(config, identity_of(data)))))
    config, precision = _agreed(ranks, *_choose_precision(config, task, controller))
    _use_precision(config, task)
    config, threads = _agreed(ranks, *_choose_threads(config, task, controller))
    ranks.from_first(lambda: write_json(folder / "params.json", config.to_dict()))
    with _alone_in(folder, ranks), _logbook(config, folder, ranks) as logbook:
        for line in (*data.notes, *(notes or ()), *precision, *threads, *_without_warm_up(config, controller)):
            logbook.info(line)
        trainer = make_trainer(config, task, controller, folder, logbook, ranks, cost_of(config, data))
        logbook.info(f"run {folder}: {_what(config, trainer)}, on {_where(device, ranks)}")
        if architecture is not None and ranks.is_first:
            _write_architecture(config, architecture, trainer)
        yield trainer


def _load_data(config: Config, ranks: Ranks, folder: Path | None = None) -> Any:
    """The data, the same in every process, and what the run in `folder`, where one is given, was begun with."""

    def load() -> Any:
        data = config.space.problem().load_data(config)
        if folder is not None:
            check_same_data(folder, config.dataset, identity_of(data))
        return data

    data = ranks.together(load)
    ranks.check_alike(
        identity_of(data).short(), f"dataset {config.dataset}", "give each machine the same files in --data_dir"
    )
    return data


def _agreed(ranks: Ranks, config: Config, lines: list[str]) -> tuple[Config, list[str]]:
    """What the first process chose by trials on its machine."""
    if ranks.size == 1:
        return config, lines
    settings, lines = ranks.from_first(lambda: (config.to_dict(), lines))
    return Config(**settings), lines


def _new_run(config: Config, identity: Identity) -> Path:
    folder = make_run_folder(config)
    write_json(folder / IDENTITY, identity.to_dict())
    mark_launch(folder)
    return folder


def _where(device: torch.device, ranks: Ranks) -> str:
    return f"{device}" if ranks.size == 1 else f"{ranks.size} processes, this one on {device}"


def _what(config: Config, trainer: Trainer) -> str:
    if not isinstance(trainer, ScratchTrainer):
        return f"{config.train_type} search on {config.dataset}"
    size = sum(weight.numel() for weight in trainer.task.model.parameters())
    return f"one architecture on {config.dataset}, {size:,} parameters"


def _write_architecture(config: Config, architecture: Architecture, trainer: Trainer) -> None:
    write_json(trainer.folder / ARCHITECTURE, architecture.to_dict())
    if isinstance(architecture, config.space.architecture):  # a baseline has no graph to draw
        path, cost = trainer.folder / "architecture.png", trainer.size.cost(architecture)
        title = config.dataset if cost is None else f"{config.dataset}\n{cost}"
        trainer.output_files["picture"] = config.space.problem().draw(architecture, path, title)


def _use_precision(config: Config, task: Task) -> None:
    if config.precision in task.precisions and config.precision != "auto":
        task.precision = config.precision


def _choose_precision(config: Config, task: Task, controller: Controller[Any]) -> tuple[Config, list[str]]:
    """The settings with the precision that is fastest here, where it is auto, and a line on why."""
    if config.precision != "auto" or len(task.precisions) == 1:
        return config, []
    precision, reason = choose_precision(task, controller, config.shared_num_sample)
    return config.replace(precision=precision), [f"precision {precision}: {reason}"]


def _choose_threads(config: Config, task: Task, controller: Controller[Any]) -> tuple[Config, list[str]]:
    """The settings with the number of threads, which the process then computes with, and a line on why."""
    num, reason = config.num_threads, "as num_threads says"
    if num == 0:
        num, reason = choose_threads(task, controller, config.shared_num_sample)
    torch.set_num_threads(num)
    return config.replace(num_threads=num), [f"threads {num}: {reason}"]


def _without_warm_up(config: Config, controller: Controller[Any]) -> list[str]:
    """A log line where `controller_start` asks for less than half an epoch."""
    if not controller.is_trained or config.controller_start == 0 or config[TrainerConfig].warm_up_epochs > 0:
        return []
    return [
        f"controller_start {config.controller_start} of max_epoch {config.max_epoch} rounds to none: the controller "
        "trains from the first epoch"
    ]


def _stretched(trainer: Trainer, saved: Config, config: Config) -> list[str]:
    """A log line when a longer or shorter run moves what its schedules go by."""
    if saved.max_epoch == config.max_epoch:
        return []
    progress, optim = trainer.progress, config.space.optim
    place = (progress.epoch + 1, progress.total_shared_steps, trainer.task.steps_per_epoch)
    before, now = (settings[optim].rate(*place) * progress.lr_scale for settings in (saved, config))
    moved = f"; the next learning rate is {now:.3g} in place of {before:.3g}" if now != before else ""
    return [f"max_epoch {config.max_epoch} in place of {saved.max_epoch}: schedules over the whole run change{moved}"]


def _finish(config: Config, trainer: Trainer) -> dict[str, Any]:
    """Train to the end, and report what was reached."""
    if not isinstance(trainer, ScratchTrainer):
        results = trainer.train()
        _say_where(trainer)
        return results
    trainer.output_files["architecture"] = trainer.folder / ARCHITECTURE
    results = trainer.train()
    if config.mode == "train_scratch" or not trainer.task.has_validation:
        return _test_scratch(trainer)
    return _report(trainer, results, "trained")


def _test_scratch(trainer: ScratchTrainer) -> dict[str, Any]:
    return _report(trainer, {**trainer.results(), f"test_{trainer.task.metric.name}": trainer.test()}, "tested")


def _test_search(trainer: Trainer, other: Architecture | None) -> dict[str, Any]:
    task, metric = trainer.task, trainer.task.metric.name
    architecture = other or final_of(trainer.folder, metric).architecture
    trainer.take(architecture, task.evaluate(architecture, "valid"))
    results = {**trainer.results(), f"test_{metric}": task.evaluate(architecture, "test")}
    return _report(trainer, results, "tested", is_written=other is None)


@contextmanager
def _logbook(
    config: Config, folder: Path, ranks: Ranks, purge_step: int | None = None, curves: bool = True
) -> Iterator[NoLogbook]:
    logbook: NoLogbook = NoLogbook()
    if ranks.is_first:
        mirror = Mirror(folder, config.to_dict()) if config.wandb and curves else None
        logbook = Logbook(folder, purge_step, curves=curves, mirror=mirror)
    try:
        yield logbook
    finally:
        logbook.close()


def _alone_in(folder: Path, ranks: Ranks) -> AbstractContextManager[Any]:
    return only_user(folder) if ranks.is_first else nullcontext()


@contextmanager
def _reopened(config: Config, folder: Path, changes: dict[str, Any], curves: bool = False) -> Iterator[Trainer]:
    """The run in `folder` as its newest checkpoint has it, with a logbook that goes on there.

    Only training adds to its curves: what is derived or tested later has the step of a point that is there already.
    """
    if config.wandb and curves:
        check_account()
    ranks = join(config.num_gpu, config.rank_timeout)
    with _alone_in(folder, ranks):
        trainer, warnings = restore(config, folder, threads_given="num_threads" in changes)
        with _logbook(config, folder, ranks, trainer.progress.step + 1, curves) as logbook:
            trainer.logbook = logbook
            for line in warnings:
                logbook.info(line)
            yield trainer


def restore(config: Config, folder: Path, *, threads_given: bool = False) -> tuple[Trainer, list[str]]:
    """The run in `folder` as its newest readable checkpoint has it, without a logbook; and log lines.

    It computes with the threads that it began with, unless OMP_NUM_THREADS is set and `threads_given` is false.

    Raises:
        UserError: there is no checkpoint, none can be read, or it does not fit.
    """
    ranks = join(config.num_gpu, config.rank_timeout)
    device = ranks.together(lambda: pick_device(config.num_gpu))
    if config.num_threads and (threads_given or THREADS_VARIABLE not in os.environ):
        torch.set_num_threads(config.num_threads)
    data = _load_data(config, ranks, folder)
    architecture = None
    if saved_config(folder).mode in SCRATCH:
        architecture = load_architecture(folder / ARCHITECTURE)
    task, controller = make_problem(config, data, architecture, device, ranks)
    trainer = make_trainer(config, task, controller, folder, ranks=ranks, cost=cost_of(config, data))
    warnings = _load_newest(trainer)
    if architecture is None:
        _take_final(trainer)
    return trainer, warnings


def _take_final(trainer: Trainer) -> None:
    """Let the run answer with the architecture that its results.json names."""

    def named() -> tuple[dict[str, Any], float | None, str] | None:
        final = find_final(trainer.folder, trainer.task.metric.name)
        return None if final is None else (final.architecture.to_dict(), final.score, final.measured_with)

    if (final := trainer.ranks.from_first(named)) is not None:
        progress = trainer.progress
        progress.architecture, progress.validation, progress.measured_with = final


def _load_newest(trainer: Trainer) -> list[str]:
    warnings: list[str] = []
    state = trainer.checkpoints.load_newest(warnings.append, trainer.task.device)
    reason = misfit(trainer.state_dict(), state)
    try:
        if reason is None:
            trainer.load_state_dict(state)
    except UserError as error:  # the place in the data, which is not there
        reason = str(error)
    if reason is not None:
        raise UserError(f"{trainer.folder}: its checkpoint does not fit ({reason}); start a new run")
    return warnings


def _report(trainer: Trainer, results: dict[str, Any], what: str, *, is_written: bool = True) -> dict[str, Any]:
    """Log what was reached, and write it as results.json unless not `is_written`. Returns `results`."""
    if is_written:
        trainer.logbook.results(results)
    metric = trainer.task.metric.name
    scores = [
        f"{split} {metric} {format_score(results[f'{split}_{metric}'])}"
        for split in ("validation", "test")
        if results[f"{split}_{metric}"] is not None
    ]
    trainer.logbook.info(f"run {trainer.folder}: {what}, {', '.join(scores)}")
    trainer.logbook.info(json.dumps(results["architecture"]))
    if is_written:
        _say_where(trainer)
    return results


def _say_where(trainer: Trainer) -> None:
    """Log which files the run left, and how to look at its curves."""
    folder = trainer.folder
    places = {**trainer.output_files, "results": folder / "results.json", "log": folder / "train.log"}
    for name, path in places.items():
        trainer.logbook.info(f"{name + ':':14}{path}")
    trainer.logbook.info(f"{'curves:':14}tensorboard --logdir {folder}")

"""From settings to results: what the scripts call, in three lines of Python.

from enas import Config, run
results = run.train(Config(dataset="markov", shared_embed=64, shared_hid=64))
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from enas.build import build_scratch_trainer, build_trainer, half, pick_device
from enas.checkpoint import Checkpoints, seed_everything
from enas.config import Config, check_effect, from_mapping
from enas.controllers import Controller, FixedController
from enas.logbook import Logbook, format_score, write_json
from enas.probe import THREADS_VARIABLE, choose_threads
from enas.run_folder import (
    ALONE,
    SEARCHES,
    check_writable,
    choose_run,
    make_run_folder,
    run_config,
    saved_config,
    scratch_config,
)
from enas.scratch import ScratchTrainer
from enas.search_space import LSTMBaseline
from enas.search_space.architecture import Architecture
from enas.trainer import Task, Trainer

ARCHITECTURE = "architecture.json"


def execute(settings: dict) -> dict:
    """Do what `settings` (names and values, the rest at their defaults) ask for; returns the run's results.

    Raises:
        ValueError, FileNotFoundError, OSError: with a line that names what is wrong and what would be right.
    """
    mode = from_mapping({"mode": settings.get("mode", Config.mode)}, "settings").mode
    if settings.get("dag_path") and mode != "single":
        raise ValueError(f"dag_path has no effect in mode {mode}; --mode single trains the architecture it names")
    return _EXECUTE[mode](settings)


def _execute_train(settings: dict) -> dict:
    if not settings.get("load_path"):
        return train(_new_config(settings))
    folder = choose_run(settings, SEARCHES)
    return resume(run_config(folder, settings), folder)


def _new_config(settings: dict) -> Config:
    """The settings of a run that begins anew, of which none was given in vain."""
    config = from_mapping(settings, "settings")
    check_effect(settings, config.network_type)
    return config


def _execute_derive(settings: dict) -> dict:
    folder = choose_run(settings, SEARCHES)
    return derive(run_config(folder, settings), folder)


def _execute_test(settings: dict) -> dict:
    folder = choose_run(settings, SEARCHES + ALONE)
    return test(run_config(folder, settings), folder)


def _execute_single(settings: dict) -> dict:
    if settings.get("load_path"):
        folder = choose_run(settings, ("single",))
        return resume_alone(run_config(folder, settings), folder)
    config = _new_config(settings)
    if not config.dag_path:
        raise ValueError("mode single trains one given architecture: name its JSON file with --dag_path, or lstm")
    return train_alone(config, half(config).read_dag_path(config))


def _execute_train_scratch(settings: dict) -> dict:
    # Without a load_path the newest search is meant: what it found is what shall be trained.
    folder = choose_run(settings, (*SEARCHES, "train_scratch") if settings.get("load_path") else SEARCHES)
    if saved_config(folder).mode == "train_scratch":
        return resume_alone(run_config(folder, settings), folder)
    config = scratch_config(folder, settings)
    return train_alone(config, derived_architecture(folder, settings))


_EXECUTE = {
    "train": _execute_train,
    "derive": _execute_derive,
    "test": _execute_test,
    "single": _execute_single,
    "train_scratch": _execute_train_scratch,
}


def train(config: Config) -> dict:
    """Search: train a new run to its end; returns what its results.json holds."""
    device = pick_device(config.num_gpu)
    seed_everything(config.random_seed)
    data, notes = half(config).load_data(config)
    config, chosen = half(config).settle(config, data, device)
    task = half(config).search_task(config, data, device)
    controller = half(config).controller(config).to(device)
    config, threads = _settle_threads(config, task, controller)
    folder = _begin(config)
    with _logbook(folder) as logbook:
        for note in (*notes, *chosen, *threads):
            logbook.info(note)
        logbook.info(f"run {folder}: {config.train_type} search on {config.dataset}, on {device}")
        return _search(build_trainer(config, task, controller, logbook, folder))


def _settle_threads(config: Config, task: Task, controller: Controller) -> tuple[Config, list[str]]:
    """The settings with the number of threads, which the process then computes with, and a line on why."""
    if task.device.type != "cpu":
        return config, []
    num, reason = config.num_threads, "as num_threads says"
    if num == 0:
        num, reason = choose_threads(task, controller, config.shared_num_sample)
    torch.set_num_threads(num)
    return config.replace(num_threads=num), [f"threads {num}: {reason}"]


def resume(config: Config, folder: Path) -> dict:
    """Go on with the search in `folder` from its newest checkpoint."""
    with _restored(config, folder) as trainer:
        write_json(folder / "params.json", config.to_dict())
        trainer.logbook.info(f"run {folder}: resumed in epoch {trainer.progress.epoch + 1}")
        return _search(trainer)


def _search(trainer: Trainer) -> dict:
    results = trainer.train()
    _say_where(trainer)
    return results


def derive(config: Config, folder: Path) -> dict:
    """Derive an architecture from the search in `folder`, and write it down there."""
    with _restored(config, folder) as trainer:
        trainer.derive_and_record()
        results = trainer.results()
        _report(trainer, results, "derived")
        return results


def derived_architecture(folder: Path, settings: dict) -> Architecture:
    """The architecture that `derive` finds in `folder`, without a word there. See `run_config` for the arguments."""
    names = ("data_dir", "num_gpu", "derive_num_sample", "derive_max_batches")
    config = run_config(folder, {name: settings[name] for name in names if name in settings})
    threads = torch.get_num_threads()
    trainer, _ = restore(config, folder)
    architecture, _ = trainer.derive()
    torch.set_num_threads(threads)  # those of the search are not those of what comes next
    return architecture


def test(config: Config, folder: Path) -> dict:
    """Evaluate on the test split what the run in `folder` has come to, and write it down there.

    For a search that is the architecture derived last, with shared weights; for a run of one architecture its best
    epoch.
    """
    if saved_config(folder).mode in ALONE:
        with _restored_alone(config, folder) as trainer:
            return _test_alone(trainer)
    with _restored(config, folder) as trainer:
        architecture = _last_derived(folder, trainer.task)
        trainer.progress.architecture = architecture.to_dict()
        trainer.progress.validation = trainer.task.evaluate(architecture, "valid")
        score = trainer.task.evaluate(architecture, "test")
        results = {**trainer.results(), f"test_{trainer.task.metric}": score}
        _report(trainer, results, "tested")
        return results


def _last_derived(folder: Path, task: Task) -> Architecture:
    path = folder / "results.json"
    try:
        return task.read_architecture(json.loads(path.read_text(encoding="utf-8"))["architecture"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{path}: names no derived architecture; make one with --mode derive") from None


def train_alone(config: Config, architecture: Architecture) -> dict:
    """Train one architecture alone, from new weights; returns what results.json of the new run holds.

    In mode train_scratch the best epoch is tested in the end; so is the last one where there is no validation data.
    """
    device = pick_device(config.num_gpu)
    seed_everything(config.random_seed)
    data, notes = half(config).load_data(config)
    config, chosen = half(config).settle(config, data, device)
    task = half(config).scratch_task(config, data, architecture, device)
    config, threads = _settle_threads(config, task, FixedController(architecture))
    folder = _begin(config)
    write_json(folder / ARCHITECTURE, architecture.to_dict())
    with _logbook(folder) as logbook:
        for note in (*notes, *chosen, *threads):
            logbook.info(note)
        trainer = build_scratch_trainer(config, task, architecture, logbook, folder)
        size = sum(weight.numel() for weight in task.model.parameters())
        logbook.info(f"run {folder}: one architecture on {config.dataset}, {size:,} parameters, on {device}")
        if not isinstance(architecture, LSTMBaseline):  # everybody knows what an LSTM looks like
            trainer.written["picture"] = task.draw(architecture, folder / "architecture.png", config.dataset)
        return _train_alone(config, trainer)


def resume_alone(config: Config, folder: Path) -> dict:
    """Go on with the run of one architecture in `folder` from its newest checkpoint."""
    with _restored_alone(config, folder) as trainer:
        write_json(folder / "params.json", config.to_dict())
        trainer.logbook.info(f"run {folder}: resumed in epoch {trainer.progress.epoch + 1}")
        return _train_alone(config, trainer)


def _train_alone(config: Config, trainer: ScratchTrainer) -> dict:
    trainer.written["architecture"] = trainer.folder / ARCHITECTURE
    results = trainer.train()
    if config.mode == "train_scratch" or not trainer.task.has_validation:
        return _test_alone(trainer)
    _report(trainer, results, "trained")
    return results


def _test_alone(trainer: ScratchTrainer) -> dict:
    results = {**trainer.results(), f"test_{trainer.task.metric}": trainer.test()}
    _report(trainer, results, "tested")
    return results


def _begin(config: Config) -> Path:
    folder = make_run_folder(config)
    write_json(folder / "params.json", config.to_dict())
    return folder


@contextmanager
def _logbook(folder: Path, purge_step: int | None = None) -> Iterator[Logbook]:
    logbook = Logbook(folder, purge_step)
    try:
        yield logbook
    finally:
        logbook.close()


@contextmanager
def _restored(config: Config, folder: Path) -> Iterator[Trainer]:
    """The search in `folder` as its newest checkpoint has it, with a logbook that goes on there."""
    trainer, warnings = restore(config, folder)
    with _reopened(trainer, warnings):
        yield trainer


@contextmanager
def _restored_alone(config: Config, folder: Path) -> Iterator[ScratchTrainer]:
    """The same for a run of one architecture."""
    trainer, warnings = restore_alone(config, folder)
    with _reopened(trainer, warnings):
        yield trainer


@contextmanager
def _reopened(trainer: Trainer, warnings: list[str]) -> Iterator[None]:
    check_writable(trainer.folder)
    with _logbook(trainer.folder, purge_step=trainer.progress.step + 1) as logbook:
        trainer.logbook = logbook
        for line in warnings:
            logbook.info(line)
        yield


def restore(config: Config, folder: Path) -> tuple[Trainer, list[str]]:
    """The search in `folder` as its newest readable checkpoint has it, without a logbook; and lines for people.

    Raises:
        FileNotFoundError, ValueError: there is no checkpoint, none can be read, or it does not fit.
    """
    device = pick_device(config.num_gpu)
    _use_threads_of(config)
    data, _ = half(config).load_data(config)
    task = half(config).search_task(config, data, device)
    trainer = build_trainer(config, task, half(config).controller(config).to(device), None, folder)
    return trainer, _load_newest(trainer, config)


def _use_threads_of(config: Config) -> None:
    """Go on with the threads that the run began with; what OMP_NUM_THREADS says wins."""
    if config.num_threads and THREADS_VARIABLE not in os.environ:
        torch.set_num_threads(config.num_threads)


def restore_alone(config: Config, folder: Path) -> tuple[ScratchTrainer, list[str]]:
    """The same for a run of one architecture."""
    device = pick_device(config.num_gpu)
    _use_threads_of(config)
    data, _ = half(config).load_data(config)
    architecture = _saved_architecture(config, folder)
    task = half(config).scratch_task(config, data, architecture, device)
    trainer = build_scratch_trainer(config, task, architecture, None, folder)
    return trainer, _load_newest(trainer, config)


def _saved_architecture(config: Config, folder: Path) -> Architecture:
    path = folder / ARCHITECTURE
    try:
        return half(config).read_architecture(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _load_newest(trainer: Trainer, config: Config) -> list[str]:
    warnings: list[str] = []
    device = next(trainer.task.model.parameters()).device
    state = Checkpoints(trainer.folder / "checkpoints").load_newest(warnings.append, device)
    try:
        trainer.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{trainer.folder}: its checkpoint does not fit; has the data of {config.dataset} changed since? ({error})"
        ) from None
    return warnings


def _report(trainer: Trainer, results: dict, what: str) -> None:
    """Write results.json and tell people what was reached."""
    trainer.logbook.results(results)
    metric = trainer.task.metric
    scores = [
        f"{split} {metric} {format_score(results[f'{split}_{metric}'])}"
        for split in ("validation", "test")
        if results[f"{split}_{metric}"] is not None
    ]
    trainer.logbook.info(f"run {trainer.folder}: {what}, {', '.join(scores)}")
    trainer.logbook.info(json.dumps(results["architecture"]))
    _say_where(trainer)


def _say_where(trainer: Trainer) -> None:
    """Tell people which files the run left, and how to look at its curves."""
    folder = trainer.folder
    places = {**trainer.written, "results": folder / "results.json", "log": folder / "train.log"}
    for name, path in places.items():
        trainer.logbook.info(f"{name + ':':14}{path}")
    trainer.logbook.info(f"{'curves:':14}tensorboard --logdir {folder}")

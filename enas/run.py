"""From settings to objects to results: what the scripts call, in three lines of Python.

from enas import Config, run
results = run.train(Config(dataset="markov", shared_embed=64, shared_hid=64))
"""

import dataclasses
import json
import re
import time
from datetime import datetime
from pathlib import Path

import torch

from enas.checkpoint import Checkpoints, seed_everything
from enas.config import Config, from_mapping
from enas.controllers import Controller, ControllerConfig, RandomRNNController, RNNController
from enas.data.text import load_corpus
from enas.logbook import Logbook, write_json
from enas.models.shared_rnn import SharedRNN, SharedRNNConfig
from enas.optim import ControllerSchedule, SharedSchedule, make_optimizer
from enas.tasks.language import LanguageTask, LanguageTaskConfig
from enas.trainer import Trainer, TrainerConfig

# What a resumed or derived run may set anew; all else is part of what the run is.
CHANGEABLE = {
    "mode", "load_path", "log_dir", "data_dir", "num_gpu", "max_epoch", "save_epoch", "max_save_num", "log_step",
    "derive_num_sample", "derive_max_batches",
}  # fmt: skip


def execute(settings: dict) -> dict:
    """Do what `settings` (names and values, the rest at their defaults) ask for; returns the run's results.

    Raises:
        ValueError, FileNotFoundError, OSError: with a line that names what is wrong and what would be right.
    """
    load_path, mode = settings.get("load_path"), settings.get("mode", "train")
    if not load_path and mode == "train":
        return train(from_mapping(settings, "settings"))
    folder = find_run(load_path, settings) if load_path else newest_run(_which_runs(settings))
    config = run_config(folder, settings)
    return resume(config, folder) if mode == "train" else derive(config, folder)


def _which_runs(settings: dict) -> Config:
    # The other settings may make sense only together with those of the run that is not yet known.
    named = {name: settings[name] for name in ("dataset", "train_type", "log_dir") if name in settings}
    return from_mapping(named, "settings")


def train(config: Config) -> dict:
    """Train a new run to its end; returns what its results.json holds."""
    device = pick_device(config.num_gpu)
    seed_everything(config.random_seed)
    task, notes = build_task(config, device)
    controller = build_controller(config).to(device)
    folder = make_run_folder(config)
    write_json(folder / "params.json", config.to_dict())
    logbook = Logbook(folder)
    try:
        for note in notes:
            logbook.info(note)
        logbook.info(f"run {folder}: {config.train_type} search on {config.dataset}, on {device}")
        return _train(build_trainer(config, task, controller, logbook, folder))
    finally:
        logbook.close()


def resume(config: Config, folder: Path) -> dict:
    """Go on with the run in `folder` from its newest checkpoint."""
    trainer, logbook = _restore(config, folder)
    try:
        write_json(folder / "params.json", config.to_dict())
        logbook.info(f"run {folder}: resumed in epoch {trainer.progress.epoch + 1}")
        return _train(trainer)
    finally:
        logbook.close()


def _train(trainer: Trainer) -> dict:
    results = trainer.train()
    _say_where(trainer)
    return results


def _say_where(trainer: Trainer) -> None:
    """Tell people which files the run left, and how to look at its curves."""
    folder = trainer.folder
    places = {**trainer.written, "results": folder / "results.json", "log": folder / "train.log"}
    for name, path in places.items():
        trainer.logbook.info(f"{name + ':':14}{path}")
    trainer.logbook.info(f"{'curves:':14}tensorboard --logdir {folder}")


def derive(config: Config, folder: Path) -> dict:
    """Derive an architecture from the run in `folder`, and write it down there."""
    trainer, logbook = _restore(config, folder)
    try:
        trainer.derive_and_record()
        results = trainer.results()
        logbook.results(results)
        metric = trainer.task.metric
        logbook.info(f"run {folder}: derived, validation {metric} {results[f'validation_{metric}']:.2f}")
        logbook.info(json.dumps(results["architecture"]))
        _say_where(trainer)
        return results
    finally:
        logbook.close()


def _restore(config: Config, folder: Path) -> tuple[Trainer, Logbook]:
    device = pick_device(config.num_gpu)
    task, _ = build_task(config, device)
    controller = build_controller(config).to(device)
    warnings: list[str] = []
    state = Checkpoints(folder / "checkpoints").load_newest(warnings.append, device)
    trainer = build_trainer(config, task, controller, None, folder)
    try:
        trainer.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{folder}: its checkpoint does not fit; has the data of {config.dataset} changed since? ({error})"
        ) from None
    _check_writable(folder)
    trainer.logbook = Logbook(folder, purge_step=trainer.progress.step + 1)
    for line in warnings:
        trainer.logbook.info(line)
    return trainer, trainer.logbook


def pick_device(num_gpu: int) -> torch.device:
    """The CPU for 0, a GPU for 1, and for −1 a GPU when there is one; ValueError when there are fewer."""
    available = torch.cuda.device_count()
    if num_gpu > available:
        raise ValueError(f"num_gpu is {num_gpu}, but this machine has {available}; --num_gpu 0 uses the CPU")
    if num_gpu > 1:
        raise ValueError(f"num_gpu is {num_gpu}; a run uses one GPU at most")
    return torch.device("cuda" if available and num_gpu != 0 else "cpu")


def build_task(config: Config, device: torch.device) -> tuple[LanguageTask, list[str]]:
    """The problem with its shared model, and notes on the data for people."""
    corpus = load_corpus(config.dataset, data_dir=config.data_dir, vocab_min_count=config.vocab_min_count)
    model = SharedRNN(len(corpus.vocabulary), _shared_rnn_config(config))
    if config.shared_unigram_bias:
        model.start_from_frequencies(corpus.train)
    task = LanguageTask(
        corpus, model.to(device), _pick(LanguageTaskConfig, config, length=config.shared_rnn_max_length)
    )
    report = corpus.unknown_report()
    return task, [report] if report else []


def _shared_rnn_config(config: Config) -> SharedRNNConfig:
    return _pick(SharedRNNConfig, config, hidden=config.shared_hid)


def _pick(config_class, config: Config, **given):
    """An instance of a small config class, from the settings of the same name, `shared_` before it or not."""
    settings = config.to_dict()
    for spec in dataclasses.fields(config_class):
        if spec.name in given:
            continue
        given[spec.name] = settings[spec.name] if spec.name in settings else settings[f"shared_{spec.name}"]
    return config_class(**given)


def build_controller(config: Config) -> Controller:
    """The controller of the run's train type."""
    space = (config.num_blocks, config.shared_rnn_activations, config.cell_output)
    if config.train_type == "random":
        return RandomRNNController(*space)
    shape = ControllerConfig(
        hidden=config.controller_hid,
        temperature=config.softmax_temperature,
        tanh_c=config.tanh_c,
        init_range=config.controller_init_range,
    )
    return RNNController(*space, shape)


def build_trainer(
    config: Config, task: LanguageTask, controller: Controller, logbook: Logbook | None, folder: Path
) -> Trainer:
    """The loop, with its optimisers and schedules."""
    return Trainer(
        task,
        controller,
        shared_optimizer=make_optimizer(
            config.shared_optim,
            task.model.parameters(),
            betas=(config.shared_adam_beta1, config.shared_adam_beta2),
            weight_decay=config.shared_l2_reg,
        ),
        shared_schedule=SharedSchedule(
            lr=config.shared_lr,
            decay=config.shared_decay,
            decay_after=config.shared_decay_after,
            warmup=config.shared_lr_warmup,
            cosine=config.shared_lr_cosine,
            lr_min=config.shared_lr_min,
            total_steps=config.max_epoch * config.shared_max_step,
        ),
        controller_optimizer=(
            make_optimizer(config.controller_optim, controller.parameters()) if controller.is_trained else None
        ),
        controller_schedule=ControllerSchedule(
            lr=config.controller_lr,
            cosine=config.controller_lr_cosine,
            lr_max=config.controller_lr_max,
            lr_min=config.controller_lr_min,
            period=config.controller_lr_period,
        ),
        config=_pick(TrainerConfig, config),
        header={name: getattr(config, name) for name in ("network_type", "dataset", "train_type", "mode")},
        logbook=logbook,
        checkpoints=Checkpoints(folder / "checkpoints", config.max_save_num),
        folder=folder,
    )


def make_run_folder(config: Config) -> Path:
    """A new folder `log_dir/{dataset}_{train_type}_{time}`; OSError, naming it, when it cannot be made."""
    while True:
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        folder = Path(config.log_dir) / f"{config.dataset}_{config.train_type}_{stamp}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.is_dir():
                raise ValueError(f"{config.log_dir}: is a file; log_dir must be a folder to make runs in") from None
            time.sleep(1)  # two runs in one second: the next second's name is free
        except OSError as error:
            raise ValueError(
                f"{folder}: the run folder cannot be made ({error.strerror}); choose another --log_dir"
            ) from None
        else:
            return folder


def _check_writable(folder: Path) -> None:
    probe = folder / ".writable"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{folder}: the run folder cannot be written to ({error.strerror})") from None


def find_run(load_path: str, settings: dict, flag: str = "load_path") -> Path:
    """The run folder that `load_path` names: a path, or the name of a run in log_dir.

    Args:
        load_path: that name.
        settings: where log_dir may stand.
        flag: what the user knows `load_path` as.

    Raises:
        FileNotFoundError, ValueError: it names no run.
    """
    log_dir = Path(settings.get("log_dir", Config.log_dir))
    candidates = [Path(load_path), log_dir / load_path]
    for folder in candidates:
        if (folder / "params.json").is_file():
            return folder
    for folder in candidates:
        if folder.exists():
            raise ValueError(f"{folder}: is no run; a run is a folder with params.json and checkpoints")
    raise FileNotFoundError(f"{flag} {load_path}: no such run, neither as a path nor in {log_dir}")


def newest_run(config: Config) -> Path:
    """The newest run of the same dataset and train type; FileNotFoundError, saying how to make one, when none."""
    pattern = re.compile(re.escape(f"{config.dataset}_{config.train_type}_") + r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
    folders = [path for path in Path(config.log_dir).glob("*/") if pattern.fullmatch(path.name)]
    runs = sorted(folder for folder in folders if (folder / "params.json").is_file())
    if not runs:
        raise FileNotFoundError(
            f"{config.log_dir}: no run of {config.train_type} on {config.dataset}; make one with: "
            f"python main.py --dataset {config.dataset} --train_type {config.train_type} --mode train"
        )
    print(f"taking the newest run, {runs[-1]}")
    return runs[-1]


def run_config(folder: Path, settings: dict) -> Config:
    """The settings of the run in `folder`, with those of `settings` that may change put in.

    Raises:
        ValueError: params.json is unreadable, or `settings` contradict what the run is.
    """
    path = folder / "params.json"
    try:
        params = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    saved = from_mapping(params, str(path))
    given = from_mapping({**params, **settings}, "settings")
    for name in settings.keys() - CHANGEABLE:
        if getattr(given, name) != getattr(saved, name):
            raise ValueError(
                f"{name} is {getattr(given, name)!r}, but the run {folder} has {getattr(saved, name)!r}; "
                "leave the flag out, or start a new run"
            )
    return given.replace(load_path="", log_dir=str(folder.parent))

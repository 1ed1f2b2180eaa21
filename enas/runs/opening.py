"""One way into a run, whether it begins, goes on, or is only read."""

import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch

from enas.config import Config, effect_notes, named
from enas.data.identity import identity_of
from enas.errors import UserError
from enas.files import reading, write_json
from enas.runs.final import find_final
from enas.runs.folder import check_same_data, make_run_folder, note_machine, only_user, saved_config, say
from enas.runs.logbook import Logbook, Mirror
from enas.search.architecture import Architecture, load_architecture
from enas.search.checkpoint import Checkpoints, random_states, restore_random_states, seed_everything
from enas.search.cost import Cost, SizeBudget
from enas.search.own_code import own_modules
from enas.search.precision import available
from enas.search.probe import THREADS_VARIABLE, choose_precision, choose_threads
from enas.search.ranks import ALONE, ARCHITECTURES, BATCH, Ranks, join
from enas.search.registry import reward_named
from enas.search.scratch import ScratchTrainer
from enas.search.settings import SizeConfig, TrainerConfig
from enas.search.task import Task
from enas.search.trainer import Trainer
from enas.search.training import Training
from enas.settings import SCRATCH, TRAINING, USE

ARCHITECTURE = "architecture.json"
# By process: a forked process lacks the thread that would release its parent's lock.
_locks: dict[int, Any] = {}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let no other thread begin a run inside this block, and give the caller its random states and threads back.

    Such blocks may be nested: finalists are runs within a run. UserError if another thread is inside such a block.
    """
    lock = _locks.setdefault(os.getpid(), threading.RLock())
    if not lock.acquire(blocking=False):
        advice = "wait for its end, or begin this one in a process of its own"
        raise UserError(f"another thread of this process is busy with a run, and needs its random numbers; {advice}")
    with ExitStack() as at_the_end:
        at_the_end.callback(lock.release)
        at_the_end.callback(restore_random_states, random_states())
        at_the_end.callback(torch.set_num_threads, torch.get_num_threads())
        yield


@contextmanager
def open_run(
    config: Config, folder: Path | None = None, *, architecture: Architecture | None = None, given: Collection[str] = ()
) -> Iterator[Any]:
    """Open a run on this machine, locked and with a logbook: a new one, or that in `folder` at its newest checkpoint.

    Device, data, precision, threads, random numbers, locks and logbook are settled here, and nowhere else. A new run
    trains `architecture` from scratch, or searches without one. `given` names the settings that the user gave: a new
    run logs those without an effect, and in any run a given num_threads overrides OMP_NUM_THREADS.

    Yields a `Trainer`, or a `ScratchTrainer`. UserError if the run is busy, its checkpoint is missing, unreadable or of
    another shape, or the data or the device is wrong.
    """
    has_curves = config.mode in TRAINING  # deriving and testing add no points: those of their step exist already
    with ExitStack() as held:
        held.enter_context(undisturbed())
        if config.reward and config.mode in ("train", "derive"):
            reward_named(config.reward)  # else refused before anything is written
        if config.wandb and has_curves and find_spec("wandb") is None:
            raise UserError("wandb is not installed; pip install 'enas[wandb]', or leave --wandb out")
        ranks = join(config.num_gpu, config.rank_timeout)
        places = named(USE) - {"mode"}  # which machines may differ in
        asked = {name: repr(value) for name, value in config.values.items() if name not in places}
        ranks.check_alike(asked, "settings", "give all of them the same flags")
        if folder is None:
            config, training, lines = _begun(config, architecture, given, ranks, held)
        else:
            held.enter_context(only_user(folder) if ranks.is_first else nullcontext())
            training, lines = _restored(config, folder, given, ranks)
        if ranks.is_first:
            mirror = partial(Mirror, training.folder, config.to_dict()) if config.wandb and has_curves else None
            progress, draw = training.progress, config.space.problem().draw
            last = (progress.total_shared_steps, progress.total_controller_updates) if folder else None
            logbook = Logbook(training.folder, last, curves=has_curves, mirror=mirror, draw=draw)
            training.logbook = held.enter_context(closing(logbook))
            if has_curves:
                note_machine(training.folder, training.task.device)
        for line in lines:
            training.logbook.info(line)
        if folder is None and isinstance(architecture, config.space.architecture):  # a baseline has no graph to draw
            cost = training.size.cost(architecture)
            title = config.dataset if cost is None else f"{config.dataset}\n{cost}"
            training.logbook.draw(architecture, training.folder / "architecture.png", title)
        yield training


def read_run(config: Config, folder: Path, given: Collection[str] = ()) -> Any:
    """Return the run like `open_run`, without a lock and a logbook; print its log lines."""
    training, lines = _restored(config, folder, given, join(config.num_gpu, config.rank_timeout))
    say(lines)
    return training


def _begun(
    config: Config, architecture: Architecture | None, given: Collection[str], ranks: Ranks, held: ExitStack
) -> tuple[Config, Training, list[str]]:
    device, notes = ranks.together(lambda: pick_device(config.num_gpu)), effect_notes(given, config)
    seed_everything(config.random_seed)
    search = Path(config.load_path) if config.mode == "train_scratch" and config.load_path else None
    data = _load_data(config, ranks, search)
    task, source = make_problem(config, data, architecture, device, ranks)
    folder = Path(ranks.from_first(lambda: str(make_run_folder(config, identity_of(data), held))))
    config, reasons = _tried(config, task, source, ranks)
    ranks.from_first(lambda: write_json(folder / "params.json", config.to_dict()))
    if architecture is not None:
        ranks.from_first(lambda: write_json(folder / ARCHITECTURE, source.to_dict()))
    training = make_trainer(config, data, task, source, folder, ranks)
    if isinstance(training, Trainer):
        what = f"{config.train_type} search of {config.space.architecture.title} on {config.dataset}"
        what += f" for reward {config.reward}" if config.reward else ""
        if training.controller.is_trained and config.controller_start and not config[TrainerConfig].warm_up_epochs:
            share = f"controller_start {config.controller_start} of max_epoch {config.max_epoch}"
            reasons.append(f"{share} rounds to none: the controller trains from the first epoch")
    else:
        size = sum(weight.numel() for weight in training.task.model.parameters())
        what = f"{cast(Architecture, architecture).title} on {config.dataset} from scratch, {size:,} parameters"
    where = str(device) if ranks.size == 1 else f"{ranks.size} processes, this one on {device}"
    epochs = f"{config.max_epoch} epoch{'s' if config.max_epoch != 1 else ''}"
    return config, training, [f"run {folder}: {what}, {epochs}, on {where}", *data.notes, *notes, *reasons]


def _restored(config: Config, folder: Path, given: Collection[str], ranks: Ranks) -> tuple[Training, list[str]]:
    device = ranks.together(lambda: pick_device(config.num_gpu))
    if config.num_threads and ("num_threads" in given or THREADS_VARIABLE not in os.environ):
        torch.set_num_threads(config.num_threads)
    data = _load_data(config, ranks, folder)
    saved = saved_config(folder)
    is_search = saved.mode not in SCRATCH
    architecture = None if is_search else load_architecture(folder / ARCHITECTURE)
    with nullcontext() if is_search else reading(folder / ARCHITECTURE, alone=False):
        task, source = make_problem(config, data, architecture, device, ranks)
    training = make_trainer(config, data, task, source, folder, ranks)
    lines: list[str] = []  # about unreadable checkpoints
    path, state = training.checkpoints.newest(lines.append)
    with reading(path):
        training.load_state_dict(state)
        training.results()
    done, end = training.progress.epoch, config.max_epoch
    if end <= done and end != saved.max_epoch:
        raise UserError(f"max_epoch is {end}, but the run has finished {done} epochs; give more, or leave it out")
    if is_search:  # the architecture that results.json names is the run's
        final = find_final(folder, training.task.metric.name, config.space.architecture)
        plain = None if final is None else (final.architecture.to_dict(), final.score, final.measured_with)
        if (named := ranks.from_first(lambda: plain)) is not None:
            progress = training.progress
            progress.architecture, progress.validation, progress.measured_with = named
    return training, lines


def check_data(config: Config, data_dir: str) -> None:
    """Make a search's shared model for the dataset in `data_dir`; UserError if the two do not fit."""
    data = config.space.problem().load_data(config.replace(data_dir=data_dir))
    make_problem(config, data, None, pick_device(config.num_gpu), ALONE)


def pick_device(num_gpu: int) -> torch.device:
    """Return the CPU for 0, this process's own GPU for 1, and for −1 that if there is one; UserError for too few."""
    available, local_rank = torch.cuda.device_count(), os.environ.get("LOCAL_RANK")
    if num_gpu > available:
        raise UserError(f"num_gpu is {num_gpu}, but this machine has {available}; --num_gpu 0 uses the CPU")
    if num_gpu > 1 and local_rank is None:
        right = f"torchrun --nproc_per_node={num_gpu} train_scripts/train_regular.py, and the other flags"
        raise UserError(f"num_gpu is {num_gpu}, and a process uses one GPU; begin {num_gpu} processes with {right}")
    if not available or num_gpu == 0:
        return torch.device("cpu")
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > available:
        raise UserError(f"this machine has fewer GPUs than processes; use --nproc_per_node={available}")
    device = torch.device("cuda", int(local_rank or 0))
    torch.cuda.set_device(device)
    return device


def _load_data(config: Config, ranks: Ranks, folder: Path | None) -> Any:
    """Return the data, the same in every process; UserError if the run in `folder`, if any, began with other data."""
    data = ranks.together(lambda: config.space.problem().load_data(config))
    if folder is not None:
        ranks.together(lambda: check_same_data(folder, config.dataset, identity_of(data)))
    remedy = "give each machine the same files in --data_dir"
    ranks.check_alike(identity_of(data).short(), f"dataset {config.dataset}", remedy)
    return data


def make_problem(
    config: Config, data: Any, architecture: Architecture | None, device: torch.device, ranks: Ranks = ALONE
) -> tuple[Task, Any]:
    """Return the task, and the source of its architectures: the controller of a search, or the given `architecture`."""
    problem = config.space.problem()
    task = problem.task(config, data, device, architecture)
    # Always on the CPU: decisions are too little work for a GPU, and draws are then the same with and without one.
    source = problem.controller(config) if architecture is None else architecture
    task.divide(ranks, ARCHITECTURES if architecture is None else BATCH)
    if config.precision in task.precisions and config.precision != "auto":
        task.precision = config.precision
    return task, source


def make_trainer(config: Config, data: Any, task: Task, source: Any, folder: Path, ranks: Ranks = ALONE) -> Training:
    """Return the loop of a search, or of a run from scratch; `make_problem` returns `task` and `source`."""
    checkpoints = Checkpoints(folder / "checkpoints", config.max_save_num, ranks)
    size = SizeBudget(config[SizeConfig], cost_of(config, data))
    make: Any = ScratchTrainer if isinstance(source, Architecture) else Trainer
    return make(task, source, config, checkpoints=checkpoints, size=size)


def cost_of(config: Config, data: Any) -> Callable[[Any], Cost] | None:
    """Return the function from an architecture to its cost when trained from scratch; None if the space has none."""
    cost = config.space.problem().cost
    return None if cost is None else cost(config, data)


def _tried(config: Config, task: Task, source: Any, ranks: Ranks) -> tuple[Config, list[str]]:
    """Return the settings with precision and threads of the first process's trials, unless set, and lines on why."""

    def draw() -> list[Any]:
        num = config.shared_num_sample
        return [source] * num if isinstance(source, Architecture) else source.sample(num).architectures

    chosen: dict[str, Any] = {"num_threads": config.num_threads, "use": own_modules(config)}
    lines, reason = [], "as num_threads says"
    if config.precision == "auto" and len(task.precisions) > 1:
        task.precision, why = choose_precision(task, draw)
        chosen["precision"] = task.precision
        lines.append(f"precision {task.precision}: {why}")
    elif config.precision not in ("auto", *available(task.device)):
        lines.append(f"precision {config.precision}: this device has no instructions for it")
    if config.num_threads == 0:
        chosen["num_threads"], reason = choose_threads(task, draw)
    lines.append(f"threads {chosen['num_threads']}: {reason}")
    chosen, lines = ranks.from_first(lambda: (chosen, lines))
    task.precision = chosen.get("precision", task.precision)
    torch.set_num_threads(chosen["num_threads"])
    return config.replace(**chosen), lines

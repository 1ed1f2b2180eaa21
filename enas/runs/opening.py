"""One way into a run, whether it begins, goes on, or is only read."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from enas.config import Config
from enas.data.identity import identity_of
from enas.errors import UserError
from enas.files import write_json
from enas.runs.final import find_final
from enas.runs.folder import IDENTITY, check_same_data, make_run_folder, only_user, saved_config
from enas.runs.launch import mark_launch
from enas.runs.logbook import Logbook
from enas.runs.mirror import Mirror, check_account
from enas.search.architecture import Architecture, load_architecture
from enas.search.checkpoint import Checkpoints, misfit, seed_everything
from enas.search.controllers import Controller, FixedController
from enas.search.cost import Cost
from enas.search.probe import THREADS_VARIABLE, choose_precision, choose_threads
from enas.search.ranks import ALONE, ARCHITECTURES, BATCH, Ranks, join
from enas.search.scratch import ScratchTrainer
from enas.search.settings import CheckpointConfig, SizeConfig, TrainerConfig
from enas.search.size import SizeBudget
from enas.search.task import Task
from enas.search.trainer import Trainer
from enas.search.training import Training
from enas.settings import SCRATCH

ARCHITECTURE = "architecture.json"


@contextmanager
def open_run(
    config: Config,
    folder: Path | None = None,
    *,
    architecture: Architecture | None = None,
    data_of: Path | None = None,
    notes: Sequence[str] = (),
    given: Collection[str] = (),
    has_curves: bool = True,
) -> Iterator[Any]:
    """A run on this machine, locked and with a logbook: a new one, or the one in `folder` as its newest checkpoint.

    Device, data, precision, threads, lock and logbook are settled here, and nowhere else.

    Args:
        config: its settings.
        folder: of a run that goes on.
        architecture: what a new run trains from scratch; without one it searches.
        data_of: a run whose data a new one must have.
        notes: what a new run logs first.
        given: the settings that the user gave anew: num_threads among them wins over OMP_NUM_THREADS.
        has_curves: whether TensorBoard gets anything. Only training adds to it: what is derived or tested later has the
            step of a point that is there already.

    Yields:
        a `Trainer`, or a `ScratchTrainer`.

    Raises:
        UserError: the run is busy, or its checkpoint missing, unreadable or of another shape; the data, the device or
            the account is not what it must be.
    """
    if config.wandb and has_curves:
        check_account()
    ranks = join(config.num_gpu, config.rank_timeout)
    with ExitStack() as held:
        if folder is not None and ranks.is_first:
            held.enter_context(only_user(folder))
        if folder is None:
            config, training, lines = _begun(config, architecture, data_of, notes, ranks)
        else:
            training, lines = _restored(config, folder, given, ranks)
        if ranks.is_first:
            if folder is None:
                held.enter_context(only_user(training.folder))
            progress = training.progress
            last = None if folder is None else (progress.total_shared_steps, progress.total_controller_updates)
            training.logbook = held.enter_context(_logbook(config, training.folder, last, has_curves))
        for line in lines:
            training.logbook.info(line)
        if folder is None and architecture is not None and ranks.is_first:
            _write_architecture(config, architecture, training)
        yield training


def read_run(config: Config, folder: Path, given: Collection[str] = ()) -> Any:
    """As `open_run`, of a run that is neither locked nor written to; what there is to say is printed."""
    training, lines = _restored(config, folder, given, join(config.num_gpu, config.rank_timeout))
    for line in lines:
        print(line)
    return training


def _begun(
    config: Config,
    architecture: Architecture | None,
    data_of: Path | None,
    notes: Sequence[str],
    ranks: Ranks,
) -> tuple[Config, Training, list[str]]:
    device = ranks.together(lambda: pick_device(config.num_gpu))
    seed_everything(config.random_seed)
    data = _load_data(config, ranks, data_of)
    task, controller = make_problem(config, data, architecture, device, ranks)
    folder = Path(ranks.from_first(lambda: str(_new_folder(config, data))))
    config, reasons = _tried(config, task, controller, ranks)
    ranks.from_first(lambda: write_json(folder / "params.json", config.to_dict()))
    training = make_trainer(config, task, controller, folder, ranks=ranks, cost=cost_of(config, data))
    where = f"{device}" if ranks.size == 1 else f"{ranks.size} processes, this one on {device}"
    opening = f"run {folder}: {_what(config, training)}, on {where}"
    return config, training, [*data.notes, *notes, *reasons, *_without_warm_up(config, controller), opening]


def _restored(config: Config, folder: Path, given: Collection[str], ranks: Ranks) -> tuple[Training, list[str]]:
    device = ranks.together(lambda: pick_device(config.num_gpu))
    if config.num_threads and ("num_threads" in given or THREADS_VARIABLE not in os.environ):
        torch.set_num_threads(config.num_threads)
    data = _load_data(config, ranks, folder)
    is_search = saved_config(folder).mode not in SCRATCH
    architecture = None if is_search else load_architecture(folder / ARCHITECTURE)
    task, controller = make_problem(config, data, architecture, device, ranks)
    training = make_trainer(config, task, controller, folder, ranks=ranks, cost=cost_of(config, data))
    lines = _load_newest(training)
    if is_search:
        _take_final(training)
    return training, lines


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


def _load_data(config: Config, ranks: Ranks, folder: Path | None) -> Any:
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


def make_problem(
    config: Config, data: Any, architecture: Architecture | None, device: torch.device, ranks: Ranks = ALONE
) -> tuple[Task, Controller[Any]]:
    """Task and controller of a search, or of one architecture from scratch where one is given."""
    problem = config.space.problem()
    if architecture is not None:
        task = problem.scratch_task(config, data, architecture, device)
        task.divide(ranks, BATCH)
        _use_precision(config, task)
        return task, FixedController(architecture)
    task = problem.search_task(config, data, device)
    task.divide(ranks, ARCHITECTURES)
    _use_precision(config, task)
    # On the CPU always: a decision is too little work for a GPU, and the draws are then the same with and without one.
    return task, problem.controllers[config.train_type](config)


def make_trainer(
    config: Config,
    task: Task,
    controller: Controller[Any],
    folder: Path,
    *,
    ranks: Ranks = ALONE,
    cost: Callable[[Any], Cost] | None = None,
) -> Training:
    """The loop of a search, or of a run from scratch where the controller is fixed to one architecture."""
    checkpoints = Checkpoints(folder / "checkpoints", config[CheckpointConfig].max_save_num, ranks)
    parts: dict[str, Any] = {
        "checkpoints": checkpoints,
        "folder": folder,
        "ranks": ranks,
        "size": SizeBudget(config[SizeConfig], cost),
    }
    if isinstance(controller, FixedController):
        return ScratchTrainer(task, controller.architecture, config, **parts)
    return Trainer(task, controller, config, **parts)


def cost_of(config: Config, data: Any) -> Callable[[Any], Cost] | None:
    """What tells the cost of an architecture that is trained from scratch with these settings, where it is known."""
    cost = config.space.problem().cost
    return None if cost is None else cost(config, data)


def _use_precision(config: Config, task: Task) -> None:
    if config.precision in task.precisions and config.precision != "auto":
        task.precision = config.precision


def _tried(config: Config, task: Task, controller: Controller[Any], ranks: Ranks) -> tuple[Config, list[str]]:
    """The settings with the precision and threads that are fastest here, where they are open, and lines on why.

    All processes try at once, as they will train; the first one's choice counts.
    """
    chosen: dict[str, Any] = {"num_threads": config.num_threads}
    lines, reason = [], "as num_threads says"
    if config.precision == "auto" and len(task.precisions) > 1:
        task.precision, why = choose_precision(task, controller, config.shared_num_sample)
        chosen["precision"] = task.precision
        lines.append(f"precision {task.precision}: {why}")
    if config.num_threads == 0:
        chosen["num_threads"], reason = choose_threads(task, controller, config.shared_num_sample)
    lines.append(f"threads {chosen['num_threads']}: {reason}")
    chosen, lines = ranks.from_first(lambda: (chosen, lines))
    config = config.replace(**chosen)
    _use_precision(config, task)
    torch.set_num_threads(config.num_threads)
    return config, lines


def _new_folder(config: Config, data: Any) -> Path:
    folder = make_run_folder(config)
    write_json(folder / IDENTITY, identity_of(data).to_dict())
    mark_launch(folder)
    return folder


def _what(config: Config, training: Training) -> str:
    if not isinstance(training, ScratchTrainer):
        return f"{config.train_type} search on {config.dataset}"
    size = sum(weight.numel() for weight in training.task.model.parameters())
    return f"one architecture on {config.dataset}, {size:,} parameters"


def _without_warm_up(config: Config, controller: Controller[Any]) -> list[str]:
    """A log line where `controller_start` asks for less than half an epoch."""
    if not controller.is_trained or config.controller_start == 0 or config[TrainerConfig].warm_up_epochs > 0:
        return []
    return [
        f"controller_start {config.controller_start} of max_epoch {config.max_epoch} rounds to none: the controller "
        "trains from the first epoch"
    ]


def _write_architecture(config: Config, architecture: Architecture, training: Training) -> None:
    write_json(training.folder / ARCHITECTURE, architecture.to_dict())
    training.logbook.output_files["architecture"] = training.folder / ARCHITECTURE
    if isinstance(architecture, config.space.architecture):  # a baseline has no graph to draw
        path, cost = training.folder / "architecture.png", training.size.cost(architecture)
        title = config.dataset if cost is None else f"{config.dataset}\n{cost}"
        training.logbook.output_files["picture"] = config.space.problem().draw(architecture, path, title)


@contextmanager
def _logbook(config: Config, folder: Path, last: tuple[int, int] | None, has_curves: bool) -> Iterator[Logbook]:
    mirror = Mirror(folder, config.to_dict()) if config.wandb and has_curves else None
    draw = config.space.problem().draw
    logbook = Logbook(folder, last, curves=has_curves, mirror=mirror, draw=draw)
    try:
        yield logbook
    finally:
        logbook.close()


def _load_newest(training: Training) -> list[str]:
    """Go on from the newest readable checkpoint; returns log lines on those that are not."""
    warnings: list[str] = []
    state = cast(Checkpoints, training.checkpoints).load_newest(warnings.append, training.task.device)
    reason = misfit(training.state_dict(), state)
    try:
        if reason is None:
            training.load_state_dict(state)
    except UserError as error:  # the place in the data, which is not there
        reason = str(error)
    if reason is not None:
        raise UserError(f"{training.folder}: its checkpoint does not fit ({reason}); start a new run")
    return warnings


def _take_final(training: Training) -> None:
    """Let the run answer with the architecture that its results.json names."""

    def named() -> tuple[dict[str, Any], float | None, str] | None:
        final = find_final(training.folder, training.task.metric.name)
        return None if final is None else (final.architecture.to_dict(), final.score, final.measured_with)

    if (final := training.ranks.from_first(named)) is not None:
        progress = training.progress
        progress.architecture, progress.validation, progress.measured_with = final

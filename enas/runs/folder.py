"""The folders of runs: making one, finding one, and reading its settings, its data and its launch by torchrun."""

import fcntl
import itertools
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from enas import __version__
from enas.config import Config, all_settings, effect_notes, with_preset, without_effect
from enas.data.identity import UNKNOWN, Identity
from enas.errors import NotFoundError, UserError, refusing
from enas.files import OWNER, make_writable, read_json, read_or_empty, reading, write_json
from enas.search.checkpoint import Checkpoints
from enas.search.own_code import check_used
from enas.search.ranks import launched
from enas.settings import SEARCHES, SPACE, TRAINING, place
from enas.terminal import LOGGER

IDENTITY, MACHINE, LAUNCH, LOCK = "data.json", "machine.json", "torchrun.json", ".lock"


def make_run_folder(config: Config, identity: Identity, held: ExitStack) -> Path:
    """Make a new folder in `log_dir` for a run on these data; UserError if that fails, or its `name` is taken.

    Without a `name` it is {dataset}_{train_type}_{time}, which ends in -2, -3 … if a run has started in the same
    second. The folder names its data, and its torchrun; it is locked until `held` ends.
    """
    now = datetime.now().astimezone()
    first = Path(config.log_dir) / (config.name or f"{config.dataset}_{config.train_type}_{now:%Y-%m-%d_%H-%M-%S}")
    with refusing(lambda error: f"{first}: the run folder cannot be made ({error.strerror}); choose another --log_dir"):
        first.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(first.parent):
            check_free(config)
            if config.name and first.is_dir():
                with only_user(first):
                    shutil.rmtree(first)
            others = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
            for folder in itertools.chain([first], others):
                with nullcontext() if config.name else suppress(FileExistsError):
                    folder.mkdir()
                    break
            held.enter_context(only_user(folder))
    write_json(folder / IDENTITY, vars(identity))
    if launched().size > 1:
        write_json(folder / LAUNCH, {"launch": _launch()})
    return folder


def check_free(config: Config) -> None:
    """Raise UserError if a new run has a `name` that is taken in `log_dir`."""
    folder = Path(config.log_dir, config.name)
    is_folder = folder.is_dir() and not folder.is_symlink()
    if config.name and os.path.lexists(folder) and not (is_folder and _is_unbegun(folder)):
        raise UserError(f"{folder}: exists already; give another --name, or go on with that run by --load_path")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let no other process begin a run in `folder` inside a block, where the file system can lock a folder."""
    with ExitStack() as held:
        with suppress(OSError):
            held.callback(os.close, number := os.open(folder, os.O_RDONLY))
            fcntl.flock(number, fcntl.LOCK_EX)
        yield


def _is_unbegun(folder: Path) -> bool:
    """Return whether a folder is empty, or the rest of a run that ended before its first checkpoint."""
    names = {path.name for path in folder.iterdir() if path.name != LOCK and not OWNER.fullmatch(path.name)}
    is_ours = read_or_empty(folder / IDENTITY).keys() == vars(UNKNOWN).keys() and "results.json" not in names
    return not names or (is_ours and not any(folder.glob("checkpoints/*.pt")))


def note_machine(folder: Path, device: torch.device) -> None:
    """Add the training that begins now to machine.json: code, Python, torch and processor, by the time."""
    path, root, commit, processor = folder / MACHINE, Path(__file__).parents[2], "", platform.processor()
    with suppress(OSError, subprocess.SubprocessError):  # without git, or the right to run it
        if (root / ".git").exists():
            asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
            commit = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    with suppress(OSError, IndexError):
        processor = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))[0]
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
    code = {"enas": __version__, "commit": commit, "python": platform.python_version(), "torch": torch.__version__}
    write_json(path, read_or_empty(path) | {datetime.now().astimezone().isoformat(): code | {"processor": processor}})


def only_user(path: Path, *, is_file: bool = False) -> AbstractContextManager[Any]:
    """Let nobody else write into a folder, or a file, inside a block; UserError if somebody does already."""
    lock = path.with_name(f".{path.name}{LOCK}") if is_file else path / LOCK
    make_writable(lock.parent)
    try:
        return FileLock(lock, blocking=False).acquire()
    except Timeout as error:
        raise UserError(f"{path}: another process is at work on it; wait for its end, or stop it") from error
    except OSError as error:  # some network disks have no locks
        say([f"{path}: cannot be locked ({error}); let no other process work on it"])
        return nullcontext()


def find_run(settings: Mapping[str, Any], modes: Collection[str] = TRAINING, flag: str = "load_path") -> Path:
    """Return the run folder that the setting `flag` names, a path or a name in log_dir; if empty, see `newest_run`.

    UserError, which names `flag` and the newest runs, if there is none; or if it is a run of none of the `modes`.
    """
    if not os.fspath(settings.get(flag, "")):  # a `Run` without results is empty, too
        return newest_run(settings, modes, flag)
    load_path, log_dir = place(settings[flag], flag), place(settings.get("log_dir", "logs"), "log_dir")
    there = [folder for folder in (Path(load_path), Path(log_dir, load_path)) if folder.exists()]
    for folder in there:
        if (folder / "params.json").is_file():
            if (mode := read_json(folder / "params.json").get("mode", "train")) not in modes:
                raise UserError(f"{folder}: is a run of mode {mode}; this needs a run of mode {' or '.join(modes)}")
            return folder if folder.name.strip(".") else folder.resolve()  # "." has no parent of its own
    if there:
        raise UserError(f"{there[0]}: not a run folder: params.json is missing")
    newest = ", ".join(folder.name for folder in _runs_in(log_dir)[:3]) or "no runs"
    raise NotFoundError(f"{flag} {load_path}: no such run, neither as a path nor in {log_dir}; newest here: {newest}")


def newest_run(settings: Mapping[str, Any], modes: Collection[str] = SEARCHES, flag: str = "load_path") -> Path:
    """Return the newest run of one of `modes` with the dataset, train type, search space and shape in `settings`.

    If they have none of these, any run will do. A run that cannot be read, or has no checkpoint, is passed over with a
    line; if no other one fits, its UserError is raised. NotFoundError says how to make or to name a run.
    """
    # The other settings may make sense only together with those of the run that is not yet known.
    names = [one for one in ("dataset", "train_type", "network_type", "cnn_space", "architecture") if one in settings]
    places = {"log_dir": os.fspath(settings.get("log_dir", "logs"))}
    wanted, usual = Config(**places, **{name: settings[name] for name in names}), Config().to_dict()
    passed: list[UserError] = []
    fixed = tuple(dict.fromkeys((*names, "train_type"))) if names else ()
    for folder in _runs_in(wanted.log_dir):
        try:
            saved = usual | read_json(folder / "params.json")
            if saved["mode"] not in modes or any(saved[name] != getattr(wanted, name) for name in fixed):
                continue
            saved_config(folder)
            if not Checkpoints(folder / "checkpoints").paths():
                raise NotFoundError(f"{folder}: no checkpoint; the run has not come to its first one")
        except UserError as error:  # damaged, of a search space that is not loaded, or of a later version
            passed.append(error)
            continue
        say(f"passing over {error}" for error in passed)
        LOGGER.info(f"taking the newest run, {folder}")
        return folder
    if passed:
        raise passed[0]
    if not names:
        raise NotFoundError(f"{wanted.log_dir}: holds no runs; name one with --{flag}, or their folder with --log_dir")
    same = " ".join(f"--{name} {shlex.quote(str(getattr(wanted, name)))}" for name in fixed)
    raise NotFoundError(f"{wanted.log_dir}: no run with {same}; make one with: python main.py {same} --mode train")


def _runs_in(log_dir: str | Path) -> list[Path]:
    """Return the run folders in `log_dir`, newest first."""
    return sorted((params.parent for params in Path(log_dir).glob("*/params.json")), key=_age, reverse=True)


def _age(folder: Path) -> tuple[datetime, int, str]:
    """Return when a run was begun, by machine.json, and its name, by which damaged ones are in order."""
    moment = datetime.fromtimestamp(0, UTC)
    with suppress(ValueError, OverflowError, StopIteration):
        moment = datetime.fromisoformat(next(iter(read_or_empty(folder / MACHINE)))).astimezone()
    return moment, len(folder.name), folder.name  # TIME-2 is longer than TIME, and TIME-10 than TIME-9


def check_same_data(folder: Path, dataset: str, identity: Identity) -> None:
    """Raise UserError, saying what differs, if the data is not what the run in `folder` was begun with."""
    with reading(path := folder / IDENTITY):
        changes = identity.changes_since(read_json(path))
    if changes:
        changed = f"{', '.join(changes)} changed; put it back, name it with --data_dir, or start a new run"
        raise UserError(f"{folder}: {dataset} is not the data that this run was begun with: {changed}")


def saved_config(folder: Path) -> Config:
    """Return the settings that the run in `folder` was started with; UserError if params.json is unreadable."""
    settings = read_json(path := folder / "params.json")
    check_used(settings.get("use"), str(path))
    with reading(path):
        return Config(**settings)


def run_config(folder: Path, settings: Mapping[str, Any]) -> Config:
    """Return a run's settings, with those of `settings` that have an effect put in; UserError if one must stay."""
    saved, given, changed = _put_in(folder, dict(sorted(settings.items())), lambda spec: not spec.metadata["again"])
    idle, known = [name for name in changed if without_effect(name, given)], all_settings()
    may_change = [name for name in changed if given.mode in known[name].metadata["again"]]
    taken = {name: getattr(given, name) for name in may_change if name not in idle}
    say(f"no effect in mode {given.mode}: {name}" for name in changed if name not in {*idle, *taken})
    say(effect_notes(idle, given))
    return saved.replace(**{**taken, "load_path": saved.load_path, "log_dir": str(folder.parent)})


def config_for_scratch(folder: Path, settings: Mapping[str, Any], *, is_compared: bool = False) -> Config:
    """Return the settings of a run from scratch that takes its architecture from the search in `folder`.

    It has the search's settings, except for name, pause, threads and shared_num_sample, and for the precision unless
    runs are compared, with `settings` put in; load_path names the search. UserError if `settings` contradict its space.
    """
    own = {"log_dir": str(folder.parent), "dag_path": "", "name": "", "stop_epoch": 0}  # instead of the search's own
    # Perhaps on another machine: threads and precision are chosen again. More architectures a step would be copies.
    own |= {"num_threads": 0, "shared_num_sample": 1} | ({} if is_compared else {"precision": "auto"})
    asked = {**own, "mode": "train_scratch", **settings}
    _, given, changed = _put_in(folder, asked, lambda spec: spec.metadata["kind"] == SPACE)
    say(effect_notes([name for name in changed if name in settings], given))
    return given.replace(load_path=str(folder))


def _put_in(folder: Path, settings: dict[str, Any], fixed: Callable[[Any], bool]) -> tuple[Config, Config, list[str]]:
    """Return the settings of a run, those with others put in, and the names of the changed ones, none of them fixed."""
    saved, known, settings = saved_config(folder), all_settings(), with_preset(settings)
    given = saved.replace(**settings)
    changed = [name for name in settings if getattr(given, name) != getattr(saved, name)]
    for name in changed:
        if fixed(known[name]) and without_effect(name, given) is None:
            one, other = getattr(given, name), getattr(saved, name)
            advice = "leave the flag or preset out, or start a new run"
            raise UserError(f"{name} is {one!r}, but the run {folder} has {other!r}; {advice}")
    return saved, given, changed


def say(lines: Iterable[str]) -> None:
    """Print lines, if there are any."""
    for line in lines:
        LOGGER.info(line)


def run_of_launch(log_dir: Path) -> Path | None:
    """Return the newest run of this command of this torchrun that has a checkpoint; None if there is none."""
    begun = [mark for mark in log_dir.glob(f"*/{LAUNCH}") if any(mark.parent.glob("checkpoints/*.pt"))]
    own = [mark.parent for mark in begun if read_or_empty(mark).get("launch") == _launch()]
    return max(own, key=lambda folder: (folder / LAUNCH).stat().st_mtime, default=None)


def _launch() -> str:
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    # Without an id of its own, a torchrun is known by its process, the parent of all that it begins.
    launch = name if name != "none" else f"{socket.gethostname()} {os.getppid()}"
    return f"{launch}: {shlex.join(sys.argv)}"  # several commands may share a launch, as in one job of SLURM


def check_not_launched(command: str) -> None:
    """Raise UserError if torchrun began this process together with others, which `command` cannot use."""
    if launched().size > 1:
        raise UserError(f"{command} runs in one process; leave torchrun out")

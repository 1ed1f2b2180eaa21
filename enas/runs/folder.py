"""The folders that runs leave: making one, finding one, and reading what it was asked to do."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from enas.config import Config, all_settings, config_from, effect_notes, named, without_effect
from enas.data.identity import Identity
from enas.errors import NotFoundError, UserError, refusing
from enas.files import make_writable, read_json
from enas.settings import SEARCHES, SPACE

IDENTITY = "data.json"
# Chosen again by a run from scratch, which may run on another machine.
MACHINE = {"num_threads": 0, "precision": "auto"}


def make_run_folder(config: Config) -> Path:
    """A new folder `log_dir/{dataset}_{train_type}_{time}`; UserError, naming it, when it cannot be made.

    Where a run has started in the same second, the name ends in -2, -3 …
    """
    stamp = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    first = Path(config.log_dir) / f"{config.dataset}_{config.train_type}_{stamp}"
    folder, number = first, 1
    with refusing(lambda error: f"{first}: the run folder cannot be made ({error.strerror}); choose another --log_dir"):
        first.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
            number += 1
            folder = first.with_name(f"{first.name}-{number}")


@contextmanager
def only_user(folder: Path) -> Iterator[None]:
    """Nobody else writes into the run folder inside this block; UserError where somebody does already."""
    make_writable(folder)
    try:
        lock = FileLock(folder / ".lock", blocking=False).acquire()
    except Timeout:
        raise UserError(f"{folder}: another process is at work on this run; wait for its end, or stop it") from None
    with lock:
        yield


def choose_run(settings: Mapping[str, Any], modes: Collection[str]) -> Path:
    """The run of one of `modes` that `settings` name by load_path, or else the newest of their kind; UserError else."""
    if settings.get("load_path"):
        return run_of_mode(settings["load_path"], modes, settings)
    return newest_run(settings, modes)


def run_of_mode(load_path: str | Path, modes: Collection[str], settings: Mapping[str, Any]) -> Path:
    """The run folder that `load_path` names, see `find_run`; UserError also when it is not of one of `modes`."""
    folder = find_run(load_path, settings.get("log_dir", "logs"))
    mode = saved_config(folder).mode
    if mode not in modes:
        raise UserError(f"{folder}: is a run of mode {mode}; this needs a run of mode {' or '.join(modes)}")
    return folder


def find_run(load_path: str | Path, log_dir: str | Path = "logs", flag: str = "load_path") -> Path:
    """The run folder that `load_path` names, a path or a run's name in `log_dir`; UserError, naming `flag`, else."""
    candidates = [Path(load_path), Path(log_dir) / load_path]
    for folder in candidates:
        if (folder / "params.json").is_file():
            return folder
    for folder in candidates:
        if folder.exists():
            raise UserError(f"{folder}: not a run folder: params.json is missing")
    raise NotFoundError(f"{flag} {load_path}: no such run, neither as a path nor in {log_dir}")


def newest_run(settings: Mapping[str, Any], modes: Collection[str] = SEARCHES) -> Path:
    """The newest run of one of `modes` with the dataset, train type, search space and shape that `settings` give.

    NotFoundError when there is none; the line says how to make one.
    """
    # The other settings may make sense only together with those of the run that is not yet known.
    kind = [name for name in ("network_type", "cnn_space", "architecture") if name in settings]
    names = ("dataset", "train_type", "log_dir", *kind)
    wanted = Config(**{name: settings[name] for name in names if name in settings})
    stamp = r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:-(\d+))?"
    pattern = re.compile(re.escape(f"{wanted.dataset}_{wanted.train_type}_") + stamp)
    found = {path: pattern.fullmatch(path.name) for path in Path(wanted.log_dir).glob("*/")}
    by_time = {(match[1], int(match[2] or 1)): path for path, match in found.items() if match}
    for _, folder in sorted(by_time.items(), reverse=True):
        if not (folder / "params.json").is_file():
            continue
        saved = saved_config(folder)
        is_same_kind = all(getattr(saved, name) == getattr(wanted, name) for name in kind)
        if saved.mode in modes and is_same_kind:
            print(f"taking the newest run, {folder}")
            return folder
    same = "".join(f"--{name} {getattr(wanted, name)} " for name in (*kind, "dataset", "train_type"))
    raise NotFoundError(
        f"{wanted.log_dir}: no run of {wanted.train_type} on {wanted.dataset}; make one with: "
        f"python main.py {same}--mode train"
    )


def check_same_data(folder: Path, dataset: str, identity: Identity) -> None:
    """Raise UserError, saying what differs, where the data is not what the run in `folder` was begun with."""
    path = folder / IDENTITY
    try:
        changes = identity.changes_since(read_json(path))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: does not say what the data was ({error!r}); start a new run") from None
    if changes:
        raise UserError(
            f"{folder}: {dataset} is not the data that this run was begun with: {', '.join(changes)} changed; "
            "put it back, name it with --data_dir, or start a new run"
        )


def saved_config(folder: Path) -> Config:
    """The settings that the run in `folder` was started with; UserError when params.json is unreadable."""
    path = folder / "params.json"
    return config_from(read_json(path), str(path))


def run_config(folder: Path, settings: Mapping[str, Any]) -> Config:
    """The settings of the run in `folder`, with those of `settings` that may change put in; UserError for others.

    Those without an effect are said in a line each, and left out.
    """
    saved, known = saved_config(folder), all_settings()
    given = saved.replace(**settings)
    idle, taken = [], {}
    for name in sorted(settings):
        again = known[name].metadata["again"]
        if getattr(given, name) == getattr(saved, name):
            continue
        if without_effect(name, given):
            idle.append(name)
        elif not again:
            raise _contradiction(name, given, folder, saved)
        elif given.mode in again:
            taken[name] = settings[name]
        else:
            print(f"no effect in mode {given.mode}: {name}")
    say(effect_notes(idle, given))
    return saved.replace(**{**taken, "load_path": saved.load_path, "log_dir": str(folder.parent)})


def config_for_scratch(folder: Path, settings: Mapping[str, Any]) -> Config:
    """The settings of a run from scratch that takes its architecture from the search in `folder`.

    They are those of the search, with `settings` put in, and load_path says where the search is. Settings without an
    effect are said in a line. UserError when `settings` contradict the space that was searched.
    """
    saved = saved_config(folder)
    given = saved.replace(**{**MACHINE, "mode": "train_scratch", **settings})
    changed = [name for name in settings if getattr(given, name) != getattr(saved, name)]
    for name in sorted(named(SPACE) & set(changed)):
        if without_effect(name, given) is None:
            raise _contradiction(name, given, folder, saved)
    say(effect_notes(changed, given))
    places = {"log_dir": settings.get("log_dir", str(folder.parent)), "dag_path": settings.get("dag_path", "")}
    return given.replace(load_path=str(folder), **places)


def say(lines: Iterable[str]) -> None:
    """Print lines, if there are any."""
    for line in lines:
        print(line)


def _contradiction(name: str, given: Config, folder: Path, saved: Config) -> UserError:
    return UserError(
        f"{name} is {getattr(given, name)!r}, but the run {folder} has {getattr(saved, name)!r}; "
        "leave the flag out, or start a new run"
    )

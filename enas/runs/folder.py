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
NAME = re.compile(r"(.+)_(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:-(\d+))?")  # of a run folder: start, time, number
LISTED = 3  # of the runs there are, in the message about an unknown one
# Chosen again by a run from scratch, which may run on another machine.
MACHINE = {"num_threads": 0, "precision": "auto"}


def make_run_folder(config: Config) -> Path:
    """Make a new folder `log_dir/{dataset}_{train_type}_{time}`; UserError, naming it, if that fails.

    If a run has started in the same second, the name ends in -2, -3 …
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
    """Let nobody else write into the run folder inside this block; UserError if somebody does already."""
    make_writable(folder)
    try:
        lock = FileLock(folder / ".lock", blocking=False).acquire()
    except Timeout:
        raise UserError(f"{folder}: another process is at work on this run; wait for its end, or stop it") from None
    with lock:
        yield


def choose_run(settings: Mapping[str, Any], modes: Collection[str]) -> Path:
    """Return the run of one of `modes` that load_path names, see `find_run`, or else the newest one, see `newest_run`.

    Raises:
        UserError: there is no such run, or it is of another mode.
    """
    if not settings.get("load_path"):
        return newest_run(settings, modes)
    folder = find_run(settings["load_path"], settings.get("log_dir", "logs"))
    mode = saved_config(folder).mode
    if mode not in modes:
        raise UserError(f"{folder}: is a run of mode {mode}; this needs a run of mode {' or '.join(modes)}")
    return folder


def find_run(load_path: str | Path, log_dir: str | Path = "logs", flag: str = "load_path") -> Path:
    """Return the run folder that `load_path` names, a path or a run's name in `log_dir`; if empty, the newest there.

    Raises:
        UserError: there is no such run. The text names `flag`, and the newest runs.
    """
    candidates = [Path(load_path), Path(log_dir) / load_path] if load_path else []
    for folder in candidates:
        if (folder / "params.json").is_file():
            return folder
    for folder in candidates:
        if folder.exists():
            raise UserError(f"{folder}: not a run folder: params.json is missing")
    known = _runs_in(log_dir)
    if known and not load_path:
        return _taken(known[0])
    if not load_path:
        raise NotFoundError(f"{log_dir}: holds no runs; name a run with --{flag}, or their folder with --log_dir")
    names = ", ".join(folder.name for folder in known[:LISTED])
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    there = f"; there are {names}{more}" if names else ""
    raise NotFoundError(f"{flag} {load_path}: no such run, neither as a path nor in {log_dir}{there}")


def newest_run(settings: Mapping[str, Any], modes: Collection[str] = SEARCHES) -> Path:
    """Return the newest run of one of `modes` with the dataset, train type, search space and shape in `settings`.

    NotFoundError if there is none; the line says how to make one.
    """
    # The other settings may make sense only together with those of the run that is not yet known.
    kind = [name for name in ("network_type", "cnn_space", "architecture") if name in settings]
    names = ("dataset", "train_type", "log_dir", *kind)
    wanted = Config(**{name: settings[name] for name in names if name in settings})
    for folder in _runs_in(wanted.log_dir, f"{wanted.dataset}_{wanted.train_type}"):
        saved = saved_config(folder)
        if saved.mode in modes and all(getattr(saved, name) == getattr(wanted, name) for name in kind):
            return _taken(folder)
    same = "".join(f"--{name} {getattr(wanted, name)} " for name in (*kind, "dataset", "train_type"))
    raise NotFoundError(
        f"{wanted.log_dir}: no run of {wanted.train_type} on {wanted.dataset}; make one with: "
        f"python main.py {same}--mode train"
    )


def _runs_in(log_dir: str | Path, start: str = "") -> list[Path]:
    """Return the run folders in `log_dir`, newest first; `start` is the part of their names before the time, or any."""
    found = [(NAME.fullmatch(path.name), path) for path in Path(log_dir).glob("*/")]
    runs = [(match[2], int(match[3] or 1), path) for match, path in found if match and match[1] == (start or match[1])]
    return [path for *_, path in sorted(runs, reverse=True) if (path / "params.json").is_file()]


def _taken(folder: Path) -> Path:
    print(f"taking the newest run, {folder}")
    return folder


def check_same_data(folder: Path, dataset: str, identity: Identity) -> None:
    """Raise UserError, saying what differs, if the data is not what the run in `folder` was begun with."""
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
    """Return the settings that the run in `folder` was started with; UserError if params.json is unreadable."""
    path = folder / "params.json"
    return config_from(read_json(path), str(path))


def run_config(folder: Path, settings: Mapping[str, Any]) -> Config:
    """Return the settings of the run in `folder`, with those of `settings` that may change; UserError for others.

    It prints a line about each kind of settings without an effect, and leaves them out.
    """
    saved, known = saved_config(folder), all_settings()
    given = saved.replace(**settings)
    changed = [name for name in sorted(settings) if getattr(given, name) != getattr(saved, name)]
    _check_agrees(folder, saved, given, [name for name in changed if not known[name].metadata["again"]])
    idle = [name for name in changed if without_effect(name, given)]
    active = [name for name in changed if name not in idle]
    taken = {name: settings[name] for name in active if given.mode in known[name].metadata["again"]}
    say(f"no effect in mode {given.mode}: {name}" for name in active if name not in taken)
    say(effect_notes(idle, given))
    return saved.replace(**{**taken, "load_path": saved.load_path, "log_dir": str(folder.parent)})


def config_for_scratch(folder: Path, settings: Mapping[str, Any]) -> Config:
    """Return the settings of a run from scratch that takes its architecture from the search in `folder`.

    They are those of the search, with `settings` put in; load_path names the search. It prints a line about settings
    without an effect. UserError if `settings` contradict the space that was searched.
    """
    saved = saved_config(folder)
    given = saved.replace(**{**MACHINE, "mode": "train_scratch", **settings})
    changed = [name for name in settings if getattr(given, name) != getattr(saved, name)]
    _check_agrees(folder, saved, given, sorted(named(SPACE) & set(changed)))
    say(effect_notes(changed, given))
    places = {"log_dir": settings.get("log_dir", str(folder.parent)), "dag_path": settings.get("dag_path", "")}
    return given.replace(load_path=str(folder), **places)


def _check_agrees(folder: Path, saved: Config, given: Config, fixed: Iterable[str]) -> None:
    for name in fixed:
        if without_effect(name, given) is None:
            raise UserError(
                f"{name} is {getattr(given, name)!r}, but the run {folder} has {getattr(saved, name)!r}; "
                "leave the flag out, or start a new run"
            )


def say(lines: Iterable[str]) -> None:
    """Print lines, if there are any."""
    for line in lines:
        print(line)

"""The folders that runs leave: making one, finding one, and reading what it was asked to do."""

import json
import re
import time
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from enas.config import Config, check_effect, from_mapping

SEARCHES = ("train",)  # modes whose runs hold shared parameters and a controller
ALONE = ("single", "train_scratch")  # modes whose runs hold one architecture's own weights

# What a resumed, derived or tested run may set anew; all else is part of what the run is.
CHANGEABLE = {
    "mode", "load_path", "log_dir", "data_dir", "num_gpu", "num_threads", "max_epoch", "save_epoch", "max_save_num",
    "log_step", "derive_num_sample", "derive_max_batches",
}  # fmt: skip
# What a run from scratch takes over from the search it derives from.
SEARCH_SPACE = {
    "network_type", "dataset", "train_type", "architecture", "num_blocks", "shared_rnn_activations", "cell_output",
    "vocab_min_count", "cnn_space", "cnn_num_layers", "cnn_num_blocks", "cnn_hid",
    "cnn_dropout",
}  # fmt: skip

# What a run from scratch chooses anew, for it may be on another machine.
MACHINE = {"num_threads": 0, "precision": "auto"}


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


def check_writable(folder: Path) -> None:
    """Raise ValueError, naming the folder, when nothing can be written there."""
    probe = folder / ".writable"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{folder}: the run folder cannot be written to ({error.strerror})") from None


def choose_run(settings: dict, modes: Collection[str]) -> Path:
    """The run of one of `modes` that `settings` name by load_path, or else the newest of their kind.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is of another mode.
    """
    load_path = settings.get("load_path")
    if not load_path:
        return newest_run(settings, modes)
    folder = find_run(load_path, settings)
    mode = saved_config(folder).mode
    if mode not in modes:
        raise ValueError(f"{folder}: is a run of mode {mode}; here a run of mode {' or '.join(modes)} is needed")
    return folder


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


def newest_run(settings: dict, modes: Collection[str] = SEARCHES) -> Path:
    """The newest run of the same dataset and train type, of one of `modes`.

    So are the network type, the space of networks and the shape of hardcoded cells, where `settings` give them.

    Raises:
        FileNotFoundError: there is none; the line says how to make one.
    """
    # The other settings may make sense only together with those of the run that is not yet known.
    kind = [name for name in ("network_type", "cnn_space", "architecture") if name in settings]
    names = ("dataset", "train_type", "log_dir", *kind)
    wanted = from_mapping({name: settings[name] for name in names if name in settings}, "settings")
    pattern = re.compile(re.escape(f"{wanted.dataset}_{wanted.train_type}_") + r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
    folders = [path for path in Path(wanted.log_dir).glob("*/") if pattern.fullmatch(path.name)]
    for folder in sorted(folders, reverse=True):
        if not (folder / "params.json").is_file():
            continue
        saved = saved_config(folder)
        is_same_kind = all(getattr(saved, name) == getattr(wanted, name) for name in kind)
        if saved.mode in modes and is_same_kind:
            print(f"taking the newest run, {folder}")
            return folder
    same = "".join(f"--{name} {getattr(wanted, name)} " for name in (*kind, "dataset", "train_type"))
    raise FileNotFoundError(
        f"{wanted.log_dir}: no run of {wanted.train_type} on {wanted.dataset}; make one with: "
        f"python main.py {same}--mode train"
    )


def saved_config(folder: Path) -> Config:
    """The settings that the run in `folder` was started with; ValueError when params.json is unreadable."""
    path = folder / "params.json"
    try:
        params = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    return from_mapping(params, str(path))


def run_config(folder: Path, settings: dict) -> Config:
    """The settings of the run in `folder`, with those of `settings` that may change put in.

    Raises:
        ValueError: params.json is unreadable, or `settings` contradict what the run is.
    """
    saved = saved_config(folder)
    given = _merged(saved, settings)
    _check_same(folder, saved, given, settings.keys() - CHANGEABLE)
    return given.replace(load_path="", log_dir=str(folder.parent))


def scratch_config(folder: Path, settings: dict) -> Config:
    """The settings of a run from scratch that takes its architecture from the search in `folder`.

    They are those of the search, with `settings` put in, and load_path says where the search is.

    Raises:
        ValueError: params.json is unreadable, or `settings` contradict the space that was searched.
    """
    saved = saved_config(folder).replace(**MACHINE)
    given = _merged(saved, settings)
    _check_same(folder, saved, given, settings.keys() & SEARCH_SPACE)
    return given.replace(load_path=str(folder), log_dir=settings.get("log_dir", str(folder.parent)))


def _merged(saved: Config, settings: dict) -> Config:
    merged = from_mapping({**saved.to_dict(), **settings}, "settings")
    check_effect(settings, saved.network_type)
    return merged


def _check_same(folder: Path, saved: Config, given: Config, names: Collection[str]) -> None:
    for name in sorted(names):
        if getattr(given, name) != getattr(saved, name):
            raise ValueError(
                f"{name} is {getattr(given, name)!r}, but the run {folder} has {getattr(saved, name)!r}; "
                "leave the flag out, or start a new run"
            )

"""From flags to the functions of `enas.runs.run`."""

import io
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from enas.config import Config, all_settings, effect_notes
from enas.runs import run
from enas.runs.folder import choose_run, saved_config
from enas.runs.launch import is_restart, run_of_launch
from enas.search.ranks import is_first_process, join
from enas.settings import SCRATCH, SEARCHES, checked


def execute(**given: Any) -> dict[str, Any]:
    """Do what flags ask for: a new run, or the named (or the newest fitting) run that they go on from.

    Returns what the run's results.json holds.
    """
    mode = checked(all_settings()["mode"], given.get("mode", "train"))
    with nullcontext() if is_first_process() else redirect_stdout(io.StringIO()):
        begun = _begun_before(given) if is_restart() else None
        # Several commands may share a launch, as in one job of SLURM.
        if begun and saved_config(Path(begun)).mode == mode:
            return run.resume(begun)
        return _MODES[mode](given)


def _begun_before(given: Mapping[str, Any]) -> str | None:
    """The run that these processes had begun when torchrun restarted them."""
    config = Config(**{name: given[name] for name in ("log_dir", "num_gpu", "rank_timeout") if name in given})
    found = join(config.num_gpu, config.rank_timeout).from_first(lambda: str(run_of_launch(Path(config.log_dir)) or ""))
    return found or None


def _begin(given: dict[str, Any], modes: Collection[str], new: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    if given.get("load_path"):
        return run.resume(choose_run(given, modes), **_changes(given))
    config = Config(**given)
    return new(config, notes=effect_notes(given, config))


def _train_scratch(given: dict[str, Any]) -> dict[str, Any]:
    # Without a load_path, take the newest search: what it found is to be trained.
    modes = (*SEARCHES, "train_scratch") if given.get("load_path") else SEARCHES
    found = choose_run(given, modes)
    if saved_config(found).mode == "train_scratch":
        return run.resume(found, **_changes(given))
    return run.train_scratch(found, **_changes(given))


_MODES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "train": lambda given: _begin(given, SEARCHES, run.train),
    "derive": lambda given: run.derive(choose_run(given, SEARCHES), **_changes(given)),
    "test": lambda given: run.test(choose_run(given, (*SEARCHES, *SCRATCH)), **_changes(given)),
    "single": lambda given: _begin(given, ("single",), run.single),
    "train_scratch": _train_scratch,
}


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in ("load_path", "mode")}

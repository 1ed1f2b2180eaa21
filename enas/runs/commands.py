"""From flags to the functions of `enas.runs.run`."""

import argparse
import io
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext, redirect_stdout
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from enas.config import Config, RunConfig, all_settings, effect_notes, parts_of, with_variation
from enas.parser import Parser
from enas.runs import run
from enas.runs.folder import choose_run, saved_config
from enas.runs.launch import is_restart, run_of_launch
from enas.search.ranks import is_first_process, join
from enas.search.registry import SPACES
from enas.settings import SCRATCH, SEARCHES, choices_of


def execute(given: Mapping[str, Any]) -> dict[str, Any]:
    """Do what flags ask for: a new run, or the named (or the newest fitting) run that they go on from.

    Returns:
        what the run's results.json holds.

    Raises:
        UserError: with a line that names what is wrong and what would be right.
    """
    mode = Config(mode=given.get("mode", "train")).mode
    with nullcontext() if is_first_process() else redirect_stdout(io.StringIO()):
        begun = _begun_before(given) if is_restart() else None
        return run.resume(begun) if begun else _MODES[mode](dict(given))


def _begun_before(given: Mapping[str, Any]) -> str | None:
    """The run that these processes had begun when torchrun restarted them."""
    config = Config(**{name: given[name] for name in ("log_dir", "num_gpu", "rank_timeout") if name in given})
    found = join(config.num_gpu, config.rank_timeout).from_first(lambda: str(run_of_launch(Path(config.log_dir)) or ""))
    return found or None


def _train(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("load_path"):
        return run.resume(choose_run(given, SEARCHES), **_changes(given))
    return run.train(*_new(given))


def _single(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("load_path"):
        return run.resume(choose_run(given, ("single",)), **_changes(given))
    config, notes = _new(given)
    return run.single(config, notes=notes)


def _train_scratch(given: dict[str, Any]) -> dict[str, Any]:
    # Without a load_path, take the newest search: what it found is to be trained.
    modes = (*SEARCHES, "train_scratch") if given.get("load_path") else SEARCHES
    found = choose_run(given, modes)
    if saved_config(found).mode == "train_scratch":
        return run.resume(found, **_changes(given))
    return run.train_scratch(found, **_changes(given))


def _derive(given: dict[str, Any]) -> dict[str, Any]:
    return run.derive(choose_run(given, SEARCHES), **_changes(given))


def _test(given: dict[str, Any]) -> dict[str, Any]:
    return run.test(choose_run(given, (*SEARCHES, *SCRATCH)), **_changes(given))


USUAL = {spec.name for spec in fields(RunConfig)} | {"max_epoch"}  # what --help lists; --help_all lists the rest
_MODES = {"train": _train, "derive": _derive, "test": _test, "single": _single, "train_scratch": _train_scratch}


def _new(given: dict[str, Any]) -> tuple[Config, list[str]]:
    config = Config(**given)
    return config, effect_notes(given, config)


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in ("load_path", "mode")}


def parse_flags(argv: list[str] | None, description: str, add: Callable[..., Any] | None = None) -> dict[str, Any]:
    """The settings that the command line gives, those of its --config included; flags win.

    Args:
        argv: the command line; sys.argv by default.
        description: what --help says first.
        add: adds further flags to the parser.

    Raises:
        UserError: for an unknown flag (with the nearest known one), a wrong value, or an unknown --config.
    """
    words = sys.argv[1:] if argv is None else argv
    shown = None if "--help_all" in words else USUAL
    parser = Parser(description, usage="%(prog)s [--config NAME] [--SETTING VALUE …]")
    parser.add_argument("--help_all", action="help", help=f"show all {len(all_settings())} settings, part by part")
    parser.add_argument("--config", metavar="NAME", help="variation in configs/ to start from")
    if add is not None:
        add(parser)
    for heading, specs in settings_by_part().items():
        add_settings(parser.add_argument_group(heading), specs, shown)
    return with_variation(parser.given(argv))


def summary_of(documented: Any) -> str:
    """The first line of a docstring, without its full stop."""
    return (documented.__doc__ or "").split("\n")[0].rstrip(".").replace("`", "")


def settings_by_part() -> dict[str, dict[str, Field[Any]]]:
    """All settings, grouped by the part that defines them, under the first line of its docstring."""
    found: dict[str, dict[str, Field[Any]]] = {}
    parts = {base: None for part in parts_of(SPACES.values()) for base in reversed(part.__mro__)}
    settings = all_settings()
    for part in parts:
        own = {name: settings[name] for name in vars(part).get("__annotations__", {}) if name in settings}
        if own:
            found.setdefault(summary_of(part), {}).update(own)
    return found


def add_settings(
    parser: argparse._ActionsContainer, specs: Mapping[str, Field[Any]], shown: Collection[str] | None = None
) -> None:
    """Add a flag for each of some settings, by name; `shown` are those that --help lists, all of them by default."""
    for name, spec in specs.items():
        choices = choices_of(spec)
        default = ",".join(spec.default) if isinstance(spec.default, tuple) else spec.default
        is_switch = isinstance(spec.default, bool)
        default = str(default).lower() if is_switch else default
        text = f"{spec.metadata['help']} (default: {default})".replace("%", "%%")
        alone: dict[str, Any] = {"nargs": "?", "const": True} if is_switch else {}
        parser.add_argument(
            f"--{name}",
            type={bool: _boolean, tuple: _names}.get(type(spec.default), type(spec.default)),
            choices=choices or None,
            metavar=None if choices else "true|false" if is_switch else name.upper(),
            help=text if shown is None or name in shown else argparse.SUPPRESS,
            **alone,
        )


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false (also 1/0, yes/no)")
    return values[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())

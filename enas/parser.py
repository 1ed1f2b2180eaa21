"""The parser of every command line, and how each command reports errors."""

import argparse
import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, fields
from typing import Any, NoReturn

from enas.allocator import keep_memory
from enas.config import RunConfig, all_settings, parts_of, with_variation
from enas.errors import Interrupted, RankLostError, TrainingDivergedError, UserError, did_you_mean
from enas.search.registry import SPACES
from enas.settings import choices_of

BAD_INPUT = 2  # exit statuses
DIVERGED = 1
RANK_LOST = 3


class Parser(argparse.ArgumentParser):
    """Argument parser that raises UserError where argparse would print its usage; absent flags have no value."""

    def __init__(self, description: str, **settings: Any):
        super().__init__(description=description, allow_abbrev=False, argument_default=argparse.SUPPRESS, **settings)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")

    def given(self, argv: list[str] | None = None) -> dict[str, Any]:
        """The values of the flags in `argv`.

        Raises:
            UserError: for a wrong value, an unknown flag (with the nearest one), or a missing one.
        """
        required = [action for action in self._actions if action.required and action.option_strings]
        for action in required:
            action.required = False  # argparse would name what is missing in place of what is misspelt
        known, unknown = self.parse_known_args(sys.argv[1:] if argv is None else argv)
        for word in unknown:
            if not word.strip():
                continue  # a backslash followed by a space at the end of a line gives this argument
            flag = word.split("=")[0]
            if flag.startswith("--"):
                raise UserError(f"unknown flag {flag}{did_you_mean(flag, self._option_string_actions)}")
            raise UserError(f"unexpected argument {word!r}; settings are given as --name value")
        for action in required:
            if not hasattr(known, action.dest):
                raise UserError(f"{action.option_strings[0]} is missing; --help lists the flags")
        return vars(known)


def _say(line: str) -> None:
    """Print what ends all processes of torchrun on this machine alike, once."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(line, file=sys.stderr)


def _leave_word(line: str) -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1":
        from enas.search.ranks import leave_word  # loads torch, which not every command needs

        leave_word(line)


def guarded(action: Callable[[], object]) -> int:
    """Run `action` and report expected errors in one line on stderr. Returns the exit status.

    0 for success, 2 for a UserError, 1 for divergence, 3 for a lost process of several, 130 or 143 for a signal. Other
    exceptions keep their traceback.
    """
    keep_memory()
    try:
        action()
    except UserError as error:
        line = " ".join(str(error).split())
        _say(f"error: {line}")
        _leave_word(line)
        return BAD_INPUT
    except TrainingDivergedError as error:
        _say(f"error: {error}")
        return DIVERGED
    except RankLostError as error:
        print(f"error: {error}", file=sys.stderr)
        return RANK_LOST
    except Interrupted as stop:
        _say(str(stop))
        return stop.status
    except KeyboardInterrupt:
        return 130
    return 0


USUAL = {spec.name for spec in fields(RunConfig)} | {"max_epoch"}  # what --help lists; --help_all lists the rest


def parse_flags(
    argv: list[str] | None, description: str, add: Callable[[Parser], None] | None = None, prog: str | None = None
) -> dict[str, Any]:
    """The settings that the command line gives, those of its --config included; flags win.

    Args:
        argv: the command line; sys.argv by default.
        description: what --help says first.
        add: adds further flags to the parser.
        prog: what --help calls the program.

    Raises:
        UserError: for an unknown flag (with the nearest known one), a wrong value, or an unknown --config.
    """
    words = sys.argv[1:] if argv is None else argv
    shown = None if "--help_all" in words else USUAL
    parser = Parser(description, usage="%(prog)s [--config NAME] [--SETTING VALUE …]", prog=prog)
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

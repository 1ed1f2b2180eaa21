"""The parser of every command line."""

import argparse
import os
import re
import sys
from dataclasses import Field
from typing import Any, NoReturn

from enas.config import all_settings, parts_of, with_preset
from enas.errors import UserError, did_you_mean
from enas.search.registry import SPACES
from enas.settings import checked, choices_of

# The groups in which --help lists the settings that people set first; --help_all lists all settings.
USUAL = {
    "The search": ("network_type", "cnn_space", "dataset", "train_type", "random_seed"),
    "The run": ("mode", "load_path", "dag_path", "log_dir", "data_dir", "num_gpu", "use"),
    "Sizes": ("num_blocks", "shared_embed", "shared_hid", "cnn_num_layers", "cnn_hid", "scratch_cnn_hid"),
    "Training": ("max_epoch", "batch_size", "shared_max_step", "shared_lr", "cnn_lr_max"),
    "The controller": ("controller_max_step", "controller_lr", "derive_num_sample"),
}


class Parser(argparse.ArgumentParser):
    """Argument parser that raises UserError where argparse would print its usage; absent flags have no value."""

    def __init__(self, description: str, **settings: Any):
        super().__init__(description=description, allow_abbrev=False, argument_default=argparse.SUPPRESS, **settings)
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf|nan)")  # argparse takes -1e-1 for a flag

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")

    def given(self, argv: list[str] | None = None) -> dict[str, Any]:
        """Return the values of the flags; UserError if one is wrong, unknown (with the nearest name) or missing."""
        required = [action for action in self._actions if action.required and action.option_strings]
        for action in required:
            action.required = False  # argparse would report a misspelt flag as missing
        known, unknown = self.parse_known_args(argv)
        for word in filter(str.strip, unknown):  # a backslash and a space at the end of a line give a blank argument
            flag = word.split("=")[0]
            if flag.startswith("--"):
                raise UserError(f"unknown flag {flag}{did_you_mean(flag, self._option_string_actions)}")
            raise UserError(f"unexpected argument {word!r}; settings are given as --name value")
        for action in required:
            if not hasattr(known, action.dest):
                raise UserError(f"{action.option_strings[0]} is missing; --help lists the flags")
        return vars(known)


def parse_flags(parser: Parser, argv: list[str] | None = None, mode: str = "") -> dict[str, Any]:
    """Add the settings of a run to a parser; return the values of its flags, the settings of --config included.

    A setting for which the parser has a flag already is not added. `argv` is that of the process by default. `mode` is
    the mode of a command that has only one. UserError as `Parser.given`, or for an unknown --config.
    """
    words, own = sys.argv[1:] if argv is None else argv, parser._option_string_actions
    known = {name: spec for name, spec in all_settings().items() if f"--{name}" not in own}
    parser.usage, parser.epilog = "%(prog)s [--config NAME] [--SETTING VALUE …]", "A run keeps its own settings."
    parser.add_argument("--help_all", action="help", help=f"show all {len(all_settings())} settings, part by part")
    parser.add_argument("--config", metavar="NAME", help="a preset in configs/, whose settings other flags override")
    settings = known.copy()
    for heading, names in (settings_by_part() if "--help_all" in words else USUAL).items():
        shown = {name: settings.pop(name) for name in names if name in settings and not (mode and name == "mode")}
        add_settings(parser.add_argument_group(heading), shown)
    add_settings(parser, settings, is_hidden=True)
    given = parser.given(words)
    given |= {name: checked(spec, given[name]) for name, spec in known.items() if name in given}
    if mode and given.setdefault("mode", mode) != mode:
        raise UserError(f"mode is {given['mode']}; {parser.prog} always has mode {mode}: leave --mode out")
    return with_preset(given)


def modules_to_use(words: list[str]) -> tuple[str, ...]:
    """Return the names that ENAS_USE and the flags --use give; UserError if --use has no value."""
    parser = Parser("", add_help=False)
    parser.add_argument("--use", type=_names, action="extend", default=list(_names(os.environ.get("ENAS_USE", ""))))
    return tuple(dict.fromkeys(parser.parse_known_args(words)[0].use))


def settings_by_part() -> dict[str, dict[str, Field[Any]]]:
    """Return all settings, grouped by the part that defines them, under the first line of its docstring."""
    found: dict[str, dict[str, Field[Any]]] = {}
    settings = all_settings()
    for part in {base: None for one in parts_of(SPACES.values()) for base in reversed(one.__mro__)}:
        if own := {name: settings[name] for name in vars(part).get("__annotations__", {}) if name in settings}:
            heading = (part.__doc__ or "").split("\n")[0].rstrip(".").replace("`", "")
            found.setdefault(heading, {}).update(own)
    return found


def add_settings(parser: argparse._ActionsContainer, specs: dict[str, Field[Any]], *, is_hidden: bool = False) -> None:
    """Add a flag for each of some settings, by name; --help does not list hidden ones."""
    for name, spec in specs.items():
        kind, choices = type(spec.default), choices_of(spec)
        default = ",".join(spec.default) if isinstance(spec.default, tuple) else str(spec.default)
        default = default.lower() if kind is bool else default or "none"
        text = f"{spec.metadata['help']} (default: {default})".replace("%", "%%")
        alone: dict[str, Any] = {"nargs": "?", "const": True} if kind is bool else {}
        parser.add_argument(
            f"--{name}",
            type={bool: _boolean, tuple: _names}.get(kind, kind),
            metavar=f"{{{','.join(choices)}}}" if choices else "true|false" if kind is bool else name.upper(),
            help=argparse.SUPPRESS if is_hidden else text,
            **alone,
        )


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false (also 1/0, yes/no)")
    return values[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())

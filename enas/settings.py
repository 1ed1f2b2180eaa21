"""A setting: a field of the dataclass of the part that reads it, named like its flag."""

import dataclasses
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from enas.errors import UserError

_HOLDS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}
SEARCHES = ("train",)  # modes whose runs hold shared parameters and a controller
SCRATCH = ("single", "train_scratch")  # modes whose runs hold the weights of one architecture
TRAINING = (*SEARCHES, *SCRATCH)
MODES = ("train", "derive", "test", *SCRATCH)
FROM_SCRATCH = {"mode": SCRATCH}  # for `only`
SPACE, USE = "space", "use"  # kinds of settings
ABOVE_ZERO = "above 0"  # for `only`: any positive value of the other setting
ANY_OF = "any of"  # for `only`: a key whose value is a mapping of its own, of which one setting must have its value


def setting(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | Callable[[], Sequence[str]] = (),
    only: Mapping[str, Any] = {},
    kind: str = "",
    again: Sequence[str] = (),
    is_path: bool = False,
    **bounds: float,
) -> Any:
    """Make a field of a `Settings` class.

    Args:
        default: its type is the setting's: a bool, an int, a float, a str, or a tuple of str.
        help: the text in `--help`.
        choices: the allowed values; a function if they depend on registered search spaces.
        only: other settings, each with the value (or a tuple of values, or `ABOVE_ZERO`) without which this one has
            no effect; see also `ANY_OF`.
        kind: `SPACE` if the architecture depends on the setting, so that a run from scratch takes its search's value;
            `USE` if it decides no outcome: where a run lies, what is done with it, and on which machine.
        again: the modes in which an existing run may be given another value.
        is_path: whether it names a file or a folder, see `place`.
        bounds: of a number: at_least or above, at_most or below.
    """
    metadata = {"help": help, "choices": choices, "bounds": bounds, "only": only, "kind": kind, "again": again}
    return field(default=default, metadata={**metadata, "is_path": is_path})


def choices_of(spec: dataclasses.Field[Any]) -> tuple[str, ...]:
    """Return the values that a setting allows; an empty tuple if it allows any value of its type."""
    choices = spec.metadata["choices"]
    return tuple(choices() if callable(choices) else choices)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one part, fields made by `setting`. UserError if a value has a wrong type, or is not allowed."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            object.__setattr__(self, spec.name, checked(spec, getattr(self, spec.name)))
        self.check()

    def check(self) -> None:
        """Raise UserError if settings of this part contradict each other."""


def checked(spec: dataclasses.Field[Any], value: Any) -> Any:
    """Return `value` as a setting's type; UserError, naming the setting, if it is not allowed."""
    value = _typed(spec, value)
    value = place(value, spec.name) if spec.metadata["is_path"] else value
    choices = choices_of(spec)
    if choices and value not in choices:
        others = "; --use loads your own" if callable(spec.metadata["choices"]) else ""
        raise UserError(f"{spec.name} is {value!r}; it must be one of {', '.join(choices)}{others}")
    bounds = spec.metadata["bounds"]
    if not all(_HOLDS[name](value, bound) for name, bound in bounds.items()):
        raise UserError(f"{spec.name} is {value!r}; it must {_rule(bounds)}")
    return value


def place(path: str | os.PathLike[str], name: str = "path") -> str:
    """Return a path from outside, its ~ replaced; UserError, with its `name`, if no file can have it."""
    given = os.fspath(path)
    if "\0" in given or given != given.encode(errors="ignore").decode():
        raise UserError(f"{name} is {given!r}; it must be UTF-8, without NUL")
    try:
        return str(Path(given).expanduser()) if given.startswith("~") else given
    except RuntimeError:
        raise UserError(f"{name} is {given}; there is no such home folder, and ./~ begins a name in this one") from None


def _typed(spec: dataclasses.Field[Any], value: Any) -> Any:
    wanted: type = type(spec.default)
    value = value.item() if getattr(value, "ndim", None) == 0 else value  # of NumPy or PyTorch
    value = os.fspath(value) if spec.metadata["is_path"] and isinstance(value, os.PathLike) else value
    if wanted is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise UserError(f"{spec.name} is {value!r}; it must be a list of names")
        return tuple(value)
    if type(value) is int and abs(value) >= 2**63:  # it may have more digits than Python writes
        raise UserError(f"{spec.name} is out of range; an integer has at most 63 bits here")
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise UserError(f"{spec.name} is {value!r}; it must be of type {wanted.__name__}")
    if isinstance(value, float) and value and not 1e-30 <= abs(value) <= 1e30:  # float32 ends near 1e-38 and 3e38
        raise UserError(f"{spec.name} is {value!r}; it must be 0, or of a magnitude between 1e-30 and 1e30")
    return value


def _rule(bounds: Mapping[str, float]) -> str:
    if len(bounds) == 1:
        ((name, bound),) = bounds.items()
        return f"be {name.replace('_', ' ')} {bound}"
    lower, upper = sorted(bounds.values())
    return f"lie in {'[' if 'at_least' in bounds else '('}{lower}, {upper}{']' if 'at_most' in bounds else ')'}"


def unmet(spec: dataclasses.Field[Any], values: Mapping[str, Any]) -> Mapping[str, tuple[Any, ...]] | None:
    """Return the settings and values of which one must hold for `spec` to have an effect; None if it has one."""
    for name, needed in spec.metadata["only"].items():
        either = (needed if name == ANY_OF else {name: needed}).items()
        allowed = {other: one if isinstance(one, tuple) else (one,) for other, one in either}
        met = [values[other] > 0 if one == (ABOVE_ZERO,) else values[other] in one for other, one in allowed.items()]
        if not any(met):
            return allowed
    return None


Part = TypeVar("Part", bound=Settings)


class ConfigLike(Protocol):
    """The `Config` of a run, as search spaces read it: a part by its class, a setting by its name."""

    def __getitem__(self, part: type[Part]) -> Part: ...

    def __getattr__(self, name: str) -> Any: ...

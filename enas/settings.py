"""A setting: a field of the dataclass of the part that reads it, under the name of its flag.

The field holds its default, bounds, help text, and what it needs to have an effect.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from enas.errors import UserError

Bound = float | None
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
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    only: Mapping[str, Any] | None = None,
    kind: str = "",
    again: Sequence[str] = (),
) -> Any:
    """A field of a `Settings` class.

    Args:
        default: also says the type: a bool, an int, a float, a str, or a tuple of str.
        help: as `--help` shows it.
        choices: the values allowed; a function where they depend on what is registered.
        at_least, above, at_most, below: bounds of a number.
        only: other settings, each with the value (or a tuple of values, or `ABOVE_ZERO`) without which this one has
            no effect; see also `ANY_OF`.
        kind: `SPACE` for what a run from scratch takes over from its search, because the architecture belongs to it;
            `USE` for where a run lies, what is done with it and on which machine, which decide no outcome.
        again: the modes in which a run that is used again may be given another value.
    """
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    kinds = {"kind": kind, "again": again}
    return field(
        default=default, metadata={"help": help, "choices": choices, "bounds": bounds, "only": only or {}, **kinds}
    )


def choices_of(spec: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The values that a setting allows; none means any of its type."""
    choices = spec.metadata["choices"]
    return tuple(choices() if callable(choices) else choices)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one part; subclasses add fields made by `setting`.

    Raises:
        UserError: a value is of a wrong type, not allowed, or out of bounds.
    """

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            object.__setattr__(self, spec.name, checked(spec, getattr(self, spec.name)))
        self.check()

    def check(self) -> None:
        """Raise UserError when settings of this part do not go together."""


def checked(spec: dataclasses.Field[Any], value: Any) -> Any:
    """`value` as a setting's type; UserError, naming the setting, when it is not allowed."""
    value = _typed(spec, value)
    choices = choices_of(spec)
    if choices and value not in choices:
        raise UserError(f"{spec.name} is {value!r}; it must be one of {', '.join(choices)}")
    bounds = spec.metadata["bounds"]
    if isinstance(value, (int, float)) and not _is_within(value, **bounds):
        raise UserError(f"{spec.name} is {value!r}; it must {_rule(**bounds)}")
    return value


def _typed(spec: dataclasses.Field[Any], value: Any) -> Any:
    wanted: type = type(spec.default)
    if wanted is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise UserError(f"{spec.name} is {value!r}; it must be a list of names")
        return tuple(value)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise UserError(f"{spec.name} is {value!r}; it must be of type {wanted.__name__}")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise UserError(f"{spec.name} is {value!r}; it must be a finite number")
    return value


def _is_within(value: float, at_least: Bound, above: Bound, at_most: Bound, below: Bound) -> bool:
    return not (
        (at_least is not None and value < at_least)
        or (above is not None and value <= above)
        or (at_most is not None and value > at_most)
        or (below is not None and value >= below)
    )


def _rule(at_least: Bound, above: Bound, at_most: Bound, below: Bound) -> str:
    lower = at_least if above is None else above
    upper = at_most if below is None else below
    if lower is not None and upper is not None:
        return f"lie in {'[' if above is None else '('}{lower}, {upper}{']' if below is None else ')'}"
    if lower is not None:
        return f"be {'at least' if above is None else 'above'} {lower}"
    return f"be {'at most' if below is None else 'below'} {upper}"


def unmet(spec: dataclasses.Field[Any], values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the settings, with what each needs, of which one must hold for `spec` to have an effect and none does."""
    for name, needed in spec.metadata["only"].items():
        alternatives = needed if name == ANY_OF else {name: needed}
        if not any(_is_met(values[other], value) for other, value in alternatives.items()):
            return alternatives
    return None


def _is_met(value: Any, needed: Any) -> bool:
    if needed is ABOVE_ZERO:
        return value > 0
    return value in (needed if isinstance(needed, tuple) else (needed,))


Part = TypeVar("Part", bound=Settings)


class ConfigLike(Protocol):
    """What a search space reads of the `Config` of a run: a part by its class, a setting by its name."""

    def __getitem__(self, part: type[Part]) -> Part: ...

    def __getattr__(self, name: str) -> Any: ...

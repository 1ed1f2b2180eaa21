"""Architectures: frozen dataclasses that go to JSON and come back."""

import json
import random
import reprlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self, cast, get_args, get_origin, get_type_hints

from enas.errors import UserError
from enas.files import parsed, read_text, reading
from enas.settings import place

CELL_OUTPUTS = ("loose_ends", "all")
MOST_NODES = 300  # of a cell or network; checks take quadratic time, canonical forms recursion

# Every architecture class, by the type in its JSON.
KINDS: dict[str, type["Architecture"]] = {}


class Architecture:
    """An immutable architecture, a frozen dataclass; making one of parts that do not fit together is a UserError."""

    type_name: ClassVar[str]  # tells its JSON from that of other classes
    title: ClassVar[str]  # its name in messages
    keys: ClassVar[tuple[str, ...]]  # the keys of its dictionary beside "type": fields, and properties to check
    draw: ClassVar[Callable[..., Path] | None] = None  # (architecture, path, title), of a registered search space

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "type_name"):
            KINDS[cls.type_name] = cls

    def canonical(self) -> Self:
        """Return the architecture that stands for all relabellings of this one, which compute the same function.

        Two architectures are the same function if their canonical forms are equal. By default each is its own.
        """
        return self

    def relabelled(self, rng: random.Random) -> Self:
        """Return a random relabelling of the architecture; by default there is none but the architecture itself.

        It computes the same function with other shared weights, because labels name the weights.
        """
        return self

    def _repr_svg_(self) -> str | None:
        """Return the picture that a notebook shows; None, for the text, without a search space or Graphviz."""
        if self.draw is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = self.draw(Path(folder, "picture.svg"), "")
            return path.read_text(encoding="utf-8") if path.suffix == ".svg" else None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary that `from_dict` reads."""
        return json.loads(self.to_json())

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Return the architecture of `to_dict`'s dictionary; `Architecture` reads every class. UserError for others."""
        if not hasattr(cls, "type_name"):
            kind = data.get("type") if isinstance(data, dict) else None
            if kind not in tuple(KINDS):  # not by its hash: JSON may hold a list here
                raise UserError(f"architecture type is {reprlib.repr(kind)}; it must be one of {', '.join(KINDS)}")
            return cast(Self, KINDS[kind].from_dict(data))
        wanted = {"type", *cls.keys}
        if not isinstance(data, dict) or set(data) != wanted:
            found = ", ".join(sorted(map(str, data))) if isinstance(data, dict) else type(data).__name__
            raise UserError(f"{cls.title} needs the keys {', '.join(sorted(wanted))}; found {found}")
        if data["type"] != cls.type_name:
            raise UserError(f"architecture type is {data['type']!r}, not {cls.type_name!r}")
        hints = get_type_hints(cls)
        names = [spec.name for spec in fields(cast(Any, cls))]
        made = cls(**{name: _typed(data[name], hints[name], f"{name} of {cls.title}") for name in names})
        for key, value in made.to_dict().items():
            if json.dumps(value) != json.dumps(data[key]):  # unlike ==, JSON tells 1 from true
                raise UserError(f"{key} is {data[key]!r}, but the others make it {value!r}")
        return made

    def to_json(self) -> str:
        """Return the architecture as JSON text, one line."""
        return json.dumps(self, default=lambda it: {"type": it.type_name} | {key: getattr(it, key) for key in it.keys})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the architecture of JSON text made by `to_json`; UserError if the text is not one."""
        return cls.from_dict(parsed(text))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the architecture in a JSON file; UserError, naming the file, if there is none."""
        with reading(path := Path(place(path, "dag_path"))):
            return cls.from_json(read_text(path))


architecture_from_dict = Architecture.from_dict
load_architecture = Architecture.load


def _typed(value: Any, hint: Any, name: str) -> Any:
    """Make a tuple or an architecture of JSON's list or dictionary if `hint` says so; UserError, with `name`."""
    if isinstance(hint, type) and issubclass(hint, Architecture):
        return hint.from_dict(value)
    if get_origin(hint) is not tuple:
        return value
    if not isinstance(value, list):
        raise UserError(f"{name} must be a list")
    return tuple(_typed(item, get_args(hint)[0], f"each item of {name}") for item in value)


def check_encodable(names: Iterable[str], allowed: Sequence[str]) -> None:
    """Raise UserError unless all `names` are among `allowed`, whose index encodes them; the error lists the others."""
    if unknown := set(names) - set(allowed):
        raise UserError(f"cannot encode {', '.join(sorted(unknown))}: only {', '.join(allowed)} are allowed")

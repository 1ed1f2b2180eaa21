"""What every architecture has in common: it goes to JSON and comes back."""

import json
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Self


class Architecture(ABC):
    """An immutable architecture that validates itself.

    Attributes:
        type_name: what tells its JSON from that of other architectures.
        title: what messages call it.
        keys: the keys of its dictionary.
    """

    type_name: ClassVar[str]
    title: ClassVar[str]
    keys: ClassVar[frozenset[str]]

    @abstractmethod
    def to_dict(self) -> dict:
        """A JSON-ready dictionary that `from_dict` reads."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: dict) -> Self:
        """The architecture of a dictionary made by `to_dict`.

        Raises:
            ValueError: when a key is missing, unknown, or has a wrong value.
        """

    def to_json(self) -> str:
        """The architecture as JSON text, one line."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The architecture of JSON text made by `to_json`; ValueError when it is none."""
        return cls.from_dict(parse_json(text))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The architecture in a JSON file; FileNotFoundError or ValueError, naming the file, when there is none."""
        return read_file(path, cls.from_json)

    @classmethod
    def _check_keys(cls, data: object) -> None:
        """Raise ValueError unless `data` is a dictionary with this architecture's keys and type."""
        if not isinstance(data, dict) or set(data) != cls.keys:
            found = ", ".join(sorted(map(str, data))) if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"{cls.title} needs the keys {', '.join(sorted(cls.keys))}; found {found}")
        if data["type"] != cls.type_name:
            raise ValueError(f"architecture type is {data['type']!r}, not {cls.type_name!r}")

    @classmethod
    def _check_lists(cls, data: dict, *keys: str) -> None:
        """Raise ValueError unless the values of `keys` are lists."""
        for key in keys:
            if not isinstance(data[key], list):
                raise ValueError(f"{key} of {cls.title} must be a list")


def parse_json(text: str):
    """What JSON text holds; ValueError when it is no JSON."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


def read_file(path: str | Path, read: Callable[[str], Architecture]) -> Architecture:
    """What `read` makes of a file's text; FileNotFoundError or ValueError, naming the file, when that fails."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; an architecture is a JSON file that a run wrote")
    try:
        return read(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_encodable(names: Iterable[str], allowed: Sequence[str]) -> None:
    """Raise ValueError, naming those that are not, unless all `names` are among `allowed`, whose index encodes them."""
    unknown = set(names) - set(allowed)
    if unknown:
        raise ValueError(f"cannot encode {', '.join(sorted(unknown))}: only {', '.join(allowed)} are allowed")


def as_integers(decisions: Sequence[int], what: str) -> list[int]:
    """`decisions` as plain integers; ValueError, saying what `what` is, when one of them is none."""
    try:
        return [operator.index(decision) for decision in decisions]
    except TypeError:
        raise ValueError(f"{what} is a list of integers; got {decisions!r}") from None

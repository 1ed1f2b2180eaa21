"""Published formats of architectures, text in, text out; and the parts that several formats use.

`FORMATS` has the formats of registered spaces (`enas.rnn.formats`, `enas.cnn.formats`) and `json`, the text of
`Architecture.to_json`. No format runs the text that it reads.
"""

import ast
import re
import reprlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from enas.errors import UserError
from enas.search.architecture import Architecture, check_encodable
from enas.search.graph import Cell

_RANGE = re.compile(r"\brange\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)")  # no cell has a thousand nodes

CellT = TypeVar("CellT", bound=Cell)


@dataclass(frozen=True)
class Format:
    """A way to write an architecture down."""

    kind: type[Architecture]  # the class of the architectures that it can express
    read: Callable[[str], Architecture]  # UserError if the text does not fit
    write: Callable[[Any], str]  # to a text that `read` takes; UserError if the format cannot express the architecture


def integers(text: str) -> list[int]:
    """Return the integers of a text, separated by white space or commas; UserError for anything else."""
    words = text.replace(",", " ").split()
    for word in words:
        if not re.fullmatch("-?[0-9]{1,4000}", word):  # Python converts no more than 4,300 digits
            raise UserError(f"{reprlib.repr(word)} is not an integer; an architecture is a list of integers")
    return [int(word) for word in words]


def joined(numbers: Iterable[int]) -> str:
    """Return the text that `integers` reads."""
    return " ".join(map(str, numbers))


def genotype(text: str, names: Sequence[str], example: str) -> dict[str, list[Any]]:
    """Read the parts `names` of `Genotype(name=[…], …)` without running it; a bare list is the first part only.

    UserError if the text is not a genotype, which looks like `example`, or has other parts.
    """
    written_out = _RANGE.sub(lambda match: str([*range(int(match[1]), int(match[2]))]), text.strip())
    try:
        with warnings.catch_warnings(action="error"):  # Python would warn of an invalid escape on stderr
            body = ast.parse(written_out, mode="eval").body
        match body:
            case ast.Call(func=ast.Name(id="Genotype"), args=[], keywords=keywords):
                parts = {str(keyword.arg): keyword.value for keyword in keywords}
            case _:
                parts = {names[0]: body}
        found = {name: list(ast.literal_eval(value)) for name, value in parts.items()}
    except (SyntaxError, ValueError, TypeError, AttributeError, MemoryError, RecursionError):
        raise UserError(f"{reprlib.repr(text)} is not a genotype; it must look like {example}") from None
    if isinstance(body, ast.Call) and set(found) != set(names):
        raise UserError(f"a genotype has {', '.join(names)}; found {', '.join(found) or 'none of them'}")
    return found


def unzipped(pairs: list[Any], names: Mapping[str, str], what: str) -> tuple[list[str], list[Any]]:
    """Split a genotype's pairs of name (a `what`) and label into our names and the labels; UserError for others."""
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            example = (next(iter(names)), 0)
            raise UserError(f"{reprlib.repr(pair)} is not a pair of {what} and node like {example}")
        if not isinstance(pair[0], str) or pair[0] not in names:
            raise UserError(f"unknown {what} {reprlib.repr(pair[0])}; known: {', '.join(names)}")
    return [names[name] for name, _ in pairs], [label for _, label in pairs]


def zipped(parts: Sequence[str], labels: Iterable[int], names: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return the pairs that `unzipped` takes apart; UserError for parts that have no published name."""
    check_encodable(parts, [*names.values()])
    published = {ours: theirs for theirs, ours in names.items()}
    return [(published[part], label) for part, label in zip(parts, labels, strict=True)]


def with_output(concat: list[Any], cell: CellT) -> CellT:
    """Return `cell`, of cell_output=all, with the output nodes that `concat` lists; UserError if none fits."""
    for made in (cell, type(cell).from_dict({**cell.to_dict(), "cell_output": "loose_ends"})):
        if all(type(label) is int for label in concat) and tuple(sorted(concat)) == made.output_nodes:
            return made
    rule = f"all of nodes {joined(cell.output_nodes)}, or the loose ends {joined(cell.loose_ends)}, and nothing else"
    raise UserError(f"concat is {reprlib.repr(concat)}; it must name {rule}")


def with_only(cell_output: str, cell: CellT) -> CellT:
    """Return `cell`; UserError unless it has the format's only `cell_output`."""
    if cell.cell_output != cell_output:
        raise UserError(f"cell_output is {cell.cell_output}; this format has only {cell_output}")
    return cell


def read_architecture(text: str, format: str) -> Architecture:
    """Return the architecture that `text` describes; UserError if the format is unknown, or the text does not fit."""
    with _named(format) as known:
        return known.read(text)


def write_architecture(architecture: Architecture, format: str) -> str:
    """Return one line of text that `read_architecture` reads as `architecture`.

    A `darts` or `darts_cnn` text lists the output nodes. If cell_output=all has the same ones, it is read as such a
    cell, which computes the same. UserError if the format is unknown or cannot express the architecture.
    """
    with _named(format) as known:
        if not isinstance(architecture, known.kind):
            raise UserError(f"this format has only {known.kind.title}, not {architecture.title}")
        return known.write(architecture)


@contextmanager
def _named(format: str) -> Iterator[Format]:
    """Yield the format of that name, and put the name before the errors inside the block."""
    if format not in FORMATS:
        raise UserError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}")
    try:
        yield FORMATS[format]
    except UserError as error:
        raise UserError(f"{format}: {' '.join(str(error).split())}") from None


FORMATS = {"json": Format(Architecture, Architecture.from_json, Architecture.to_json)}


def convert(string: Sequence[str], source: str, target: str = "json") -> str:
    """Return, in the format `target`, the architecture that `string` describes in the format `source`; errors as above.

    `string` is the words of the text. "-" is standard input; with json, a name that ends in .json is a file.
    """
    text = " ".join(string)
    if source == "json" and text.endswith(".json"):
        return write_architecture(Architecture.load(text), target)
    if text == "-" and sys.stdin is None:
        raise UserError("standard input is closed; pipe the text into the command, or give its words")
    return write_architecture(read_architecture(sys.stdin.read() if text == "-" else text, source), target)

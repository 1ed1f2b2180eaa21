"""What published formats have in common: lists of integers, and Python expressions that are never evaluated."""

import ast
import re
import reprlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from enas.errors import UserError
from enas.search_space.architecture import Architecture

_RANGE = re.compile(r"\brange\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)")  # no cell has a thousand nodes


class _HasOutput(Protocol):
    @property
    def output_nodes(self) -> tuple[int, ...]: ...

    @property
    def loose_ends(self) -> tuple[int, ...]: ...


Cell = TypeVar("Cell", bound=_HasOutput)


@dataclass(frozen=True)
class Format:
    """A way to write an architecture down.

    Attributes:
        kind: the class of the architectures that it can express.
        read: text → architecture; UserError when the text does not fit.
        write: architecture → text that `read` takes; UserError when the format cannot express it.
    """

    kind: type[Architecture]
    read: Callable[[str], Architecture]
    write: Callable[[Any], str]


def integers(text: str) -> list[int]:
    """The integers of a text, separated by white space or commas; UserError for anything else."""
    words = text.replace(",", " ").split()
    for word in words:
        if not re.fullmatch("-?[0-9]+", word):
            raise UserError(f"{reprlib.repr(word)} is not an integer; an architecture is a list of integers")
    return [int(word) for word in words]


def joined(numbers: Iterable[int]) -> str:
    """The text that `integers` reads."""
    return " ".join(map(str, numbers))


def genotype(text: str, names: Sequence[str], example: str) -> dict[str, list[Any]]:
    """The parts `names` of `Genotype(name=[…], …)`, read without running anything; a bare list is the first part only.

    Raises:
        UserError: the text is not a genotype, which looks like `example`, or has other parts.
    """
    written_out = _RANGE.sub(lambda match: str([*range(int(match[1]), int(match[2]))]), text.strip())
    try:
        with warnings.catch_warnings(action="error"):  # Python would warn of an invalid escape on stderr
            body = ast.parse(written_out, mode="eval").body
        if (
            isinstance(body, ast.Call)
            and isinstance(body.func, ast.Name)
            and body.func.id == "Genotype"
            and not body.args
        ):
            parts = {str(keyword.arg): keyword.value for keyword in body.keywords}
        else:
            parts = {names[0]: body}
        found = {name: list(ast.literal_eval(value)) for name, value in parts.items()}
    except (SyntaxError, ValueError, TypeError, AttributeError, MemoryError, RecursionError):
        raise UserError(f"{reprlib.repr(text)} is not a genotype; it must look like {example}") from None
    if isinstance(body, ast.Call) and set(found) != set(names):
        raise UserError(f"a genotype has {', '.join(names)}; found {', '.join(found) or 'none of them'}")
    return found


def unzipped(pairs: list[Any], names: Mapping[str, str], what: str) -> tuple[list[str], list[Any]]:
    """Our names, and the labels, of a genotype's pairs of name and label; UserError for other pairs or names.

    `what` says what the names are of.
    """
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            example = (next(iter(names)), 0)
            raise UserError(f"{reprlib.repr(pair)} is not a pair of {what} and node like {example}")
        if not isinstance(pair[0], str) or pair[0] not in names:
            raise UserError(f"unknown {what} {reprlib.repr(pair[0])}; known: {', '.join(names)}")
    return [names[name] for name, _ in pairs], [label for _, label in pairs]


def with_output(concat: list[Any], everything: Cell, loose_ends: Cell) -> Cell:
    """Of two cells that differ in their output, the one whose output nodes `concat` lists; UserError for neither.

    Where both fit, the cell is one of cell_output=all, as every cell that DARTS found.
    """
    for cell in (everything, loose_ends):
        if all(type(label) is int for label in concat) and tuple(sorted(concat)) == cell.output_nodes:
            return cell
    raise UserError(
        f"concat is {reprlib.repr(concat)}; it must name all of nodes {joined(everything.output_nodes)}, "
        f"or the loose ends {joined(everything.loose_ends)}, and nothing else"
    )


def require_output(cell: Any, cell_output: str) -> None:
    """Raise UserError unless the cell's output is the only one that a format has."""
    if cell.cell_output != cell_output:
        raise UserError(f"cell_output is {cell.cell_output}; this format has only {cell_output}")

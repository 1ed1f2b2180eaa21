"""What published formats have in common: lists of integers, and Python expressions that are never evaluated."""

import ast
import re
import reprlib
import warnings
from collections.abc import Iterable


def integers(text: str) -> list[int]:
    """The integers of a text, which white space or commas part; ValueError when there are other words."""
    words = text.replace(",", " ").split()
    for word in words:
        if not re.fullmatch("-?[0-9]+", word):
            raise ValueError(f"{reprlib.repr(word)} is not an integer; an architecture is a list of integers")
    return [int(word) for word in words]


def joined(numbers: Iterable[int]) -> str:
    """The text that `integers` reads."""
    return " ".join(map(str, numbers))


def expression(text: str, example: str) -> ast.expr:
    """The Python expression that a text is; ValueError, which shows `example`, when it is none."""
    try:
        with warnings.catch_warnings(action="error"):  # a doubtful backslash would be told on stderr
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"{reprlib.repr(text)} is not a Python expression like {example}") from None


def literal(value: ast.expr, name: str):
    """The value of an expression of names in quotes and integers; ValueError, which says `name`, for any other."""
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"{name} must consist of names in quotes and integers") from None


def genotype(call: ast.expr, text: str, example: str) -> dict[str, ast.expr]:
    """The parts of the call Genotype(name=…, …) that `text` holds; ValueError, which shows `example`, if it is none."""
    if not is_call(call, "Genotype") or call.args:
        raise ValueError(f"{reprlib.repr(text)} is no genotype; it must look like {example}")
    return {str(keyword.arg): keyword.value for keyword in call.keywords}


def is_call(value: ast.expr, name: str) -> bool:
    """Whether an expression calls the function of that name."""
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == name


def require_output(cell, cell_output: str) -> None:
    """Raise ValueError unless the cell's output is the only one that a format has."""
    if cell.cell_output != cell_output:
        raise ValueError(f"cell_output is {cell.cell_output}; this format has only {cell_output}")

"""Recurrent cells as others publish them: text in, text out.

| format | text | source |
|---|---|---|
| `enas` | integers: activation of node 0, then previous node and activation of each node | Pham et al. 2018 |
| `enas_lm` | integers: previous node and activation of each node after node 0 | their later code |
| `darts` | `Genotype(recurrent=[('relu', 0), …], concat=range(1, 9))` | Liu et al. 2019 |
| `json` | what `RNNCell.to_json` writes | this project |

A further format is one more entry of `FORMATS`.
"""

import ast
import re
import reprlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from enas.search_space.rnn_cell import RNNCell

# The numbers and names of activations belong to each published format; the order of ACTIVATIONS is our own.
ENAS_ACTIVATIONS = ("tanh", "ReLU", "identity", "sigmoid")
ENAS_LM_ACTIVATIONS = ("tanh", "ReLU", "sigmoid", "identity")
DARTS_ACTIVATIONS = {"tanh": "tanh", "relu": "ReLU", "sigmoid": "sigmoid", "identity": "identity"}
FIXED_ROOT = "tanh"  # node 0 of enas_lm and darts, which their texts do not mention
EXAMPLE_GENOTYPE = "Genotype(recurrent=[('relu', 0), ('tanh', 1)], concat=range(1, 3))"


@dataclass(frozen=True)
class Format:
    """A way to write an architecture down.

    Attributes:
        read: text → architecture; ValueError when the text is none.
        write: architecture → text that `read` takes; ValueError when the format cannot express it.
    """

    read: Callable[[str], RNNCell]
    write: Callable[[RNNCell], str]


def read_cell(text: str, format: str) -> RNNCell:
    """The cell that `text` describes.

    Args:
        text: a published cell. Integers are separated by white space or commas.
        format: a name from `FORMATS`.

    Raises:
        ValueError: in one line that names the format, when it is unknown or the text does not fit it.
    """
    return _converted(format, _find(format).read, text)


def write_cell(cell: RNNCell, format: str) -> str:
    """One line of text that `read_cell` reads as `cell`.

    With one exception: where the loose ends are all of nodes 1 … N−1, or node 0 is alone, a `darts` text, which
    lists the nodes averaged, reads as cell_output=all. It computes the same.

    Args:
        cell: what to write.
        format: a name from `FORMATS`.

    Raises:
        ValueError: in one line that names the format, when it is unknown or cannot express the cell.
    """
    return _converted(format, _find(format).write, cell)


def _find(format: str) -> Format:
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}")
    return FORMATS[format]


def _converted(format: str, convert: Callable, source):
    try:
        return convert(source)
    except ValueError as error:
        raise ValueError(f"{format}: {' '.join(str(error).split())}") from None


def _read_enas(text: str) -> RNNCell:
    return RNNCell.decode(_integers(text), ENAS_ACTIVATIONS)


def _write_enas(cell: RNNCell) -> str:
    _require_output(cell, "loose_ends")
    return _joined(cell.encode(ENAS_ACTIVATIONS))


def _read_enas_lm(text: str) -> RNNCell:
    integers = _integers(text)
    if len(integers) % 2:
        raise ValueError(f"a cell is pairs of previous node and activation, 2N-2 integers; got {len(integers)}")
    return RNNCell.decode([ENAS_LM_ACTIVATIONS.index(FIXED_ROOT), *integers], ENAS_LM_ACTIVATIONS, "all")


def _write_enas_lm(cell: RNNCell) -> str:
    _require_root(cell)
    _require_output(cell, "all")
    if cell.num_blocks == 1:
        raise ValueError("a cell of one node has no pairs to write; it needs at least two nodes")
    return _joined(cell.encode(ENAS_LM_ACTIVATIONS)[1:])


def _read_darts(text: str) -> RNNCell:
    recurrent, concat = _genotype(text)
    pairs = _literal(recurrent, "recurrent")
    if not isinstance(pairs, (list, tuple)):
        raise ValueError(f"recurrent is {reprlib.repr(pairs)}; it must be a list of pairs like ('relu', 0)")
    names, previous = zip(*map(_pair, pairs), strict=True) if pairs else ((), ())
    activations = (FIXED_ROOT, *(_darts_activation(name) for name in names))
    everything = RNNCell(activations, previous, "all")
    if concat is None:
        return everything
    averaged = _nodes(concat, limit=everything.num_blocks)
    # Where both rules average the same nodes, the cell is one of cell_output=all, as every DARTS cell is.
    for cell in (everything, RNNCell(activations, previous, "loose_ends")):
        if tuple(averaged) == cell.output_nodes:
            return cell
    raise ValueError(
        f"concat is {ast.unparse(concat)}; it must name all of nodes {_joined(everything.output_nodes)}, "
        f"or the loose ends {_joined(everything.loose_ends)}, and nothing else"
    )


def _write_darts(cell: RNNCell) -> str:
    _require_root(cell)
    if cell != cell.renumber():
        raise ValueError("a cell with removed nodes has no genotype; renumber() it first")
    names = {activation: name for name, activation in DARTS_ACTIVATIONS.items()}
    pairs = [
        (names[activation], previous) for activation, previous in zip(cell.activations[1:], cell.previous, strict=True)
    ]
    everything = range(1, cell.num_blocks)
    concat = everything if cell.output_nodes == tuple(everything) else list(cell.output_nodes)
    return f"Genotype(recurrent={pairs!r}, concat={concat!r})"


def _integers(text: str) -> list[int]:
    words = text.replace(",", " ").split()
    if not words:
        raise ValueError("the text is empty; a cell is a list of integers")
    for word in words:
        if not re.fullmatch("-?[0-9]+", word):
            raise ValueError(f"{reprlib.repr(word)} is not an integer; a cell is a list of integers")
    return [int(word) for word in words]


def _joined(integers: Sequence[int]) -> str:
    return " ".join(map(str, integers))


def _require_output(cell: RNNCell, cell_output: str) -> None:
    if cell.cell_output != cell_output:
        raise ValueError(f"cell_output is {cell.cell_output}; this format has only {cell_output}")


def _require_root(cell: RNNCell) -> None:
    if cell.activations[0] != FIXED_ROOT:
        raise ValueError(f"the activation of node 0 is {cell.activations[0]}; this format has only {FIXED_ROOT} there")


def _genotype(text: str) -> tuple[ast.expr, ast.expr | None]:
    """The expressions for recurrent and concat; a bare list of pairs has no concat."""
    try:
        with warnings.catch_warnings(action="error"):  # a doubtful backslash would be told on stderr
            body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"{reprlib.repr(text)} is not a Python expression like {EXAMPLE_GENOTYPE}") from None
    if isinstance(body, (ast.List, ast.Tuple)):
        return body, None
    if not _is_call(body, "Genotype") or body.args:
        raise ValueError(f"{reprlib.repr(text)} is no genotype; it must look like {EXAMPLE_GENOTYPE}")
    parts = {keyword.arg: keyword.value for keyword in body.keywords}
    if set(parts) != {"recurrent", "concat"}:
        raise ValueError(f"a genotype has recurrent and concat; found {', '.join(map(str, parts)) or 'neither'}")
    return parts["recurrent"], parts["concat"]


def _literal(expression: ast.expr, name: str):
    try:
        return ast.literal_eval(expression)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"{name} must consist of names in quotes and integers") from None


def _pair(pair) -> tuple:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise ValueError(f"{reprlib.repr(pair)} is no pair of activation and previous node like ('relu', 0)")
    return tuple(pair)


def _darts_activation(name) -> str:
    if not isinstance(name, str) or name not in DARTS_ACTIVATIONS:
        raise ValueError(f"unknown activation {reprlib.repr(name)}; known: {', '.join(DARTS_ACTIVATIONS)}")
    return DARTS_ACTIVATIONS[name]


def _nodes(concat: ast.expr, limit: int) -> list[int]:
    """The nodes that concat names, increasing. Of a range, only the first limit + 1: it may be astronomical."""
    is_range = _is_call(concat, "range") and len(concat.args) == 2 and not concat.keywords
    integers = [_literal(bound, "concat") for bound in concat.args] if is_range else _literal(concat, "concat")
    if not isinstance(integers, (list, tuple)) or any(type(integer) is not int for integer in integers):
        raise ValueError("concat must be a list of integers or range(first, last + 1)")
    return list(range(*integers)[: limit + 1]) if is_range else sorted(integers)


def _is_call(expression: ast.expr, name: str) -> bool:
    return isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name) and expression.func.id == name


FORMATS = {
    "enas": Format(_read_enas, _write_enas),
    "enas_lm": Format(_read_enas_lm, _write_enas_lm),
    "darts": Format(_read_darts, _write_darts),
    "json": Format(RNNCell.from_json, RNNCell.to_json),
}

"""Architectures as others publish them: text in, text out.

| format | text | source |
|---|---|---|
| `enas` | integers: activation of node 0, then previous node and activation of each node | Pham et al. 2018 |
| `enas_lm` | integers: previous node and activation of each node after node 0 | their later code |
| `darts` | `Genotype(recurrent=[('relu', 0), …], concat=range(1, 9))` | Liu et al. 2019 |
| `enas_macro`, `enas_micro`, `darts_cnn` | convolutional architectures, see `cnn_formats` | |
| `json` | what `to_json` of any architecture writes | this project |

A further format is one more entry of `FORMATS`.
"""

import ast
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from enas.search_space.architecture import Architecture, parse_json, read_file
from enas.search_space.cnn_formats import CNN_FORMATS
from enas.search_space.cnn_macro import MacroNetwork
from enas.search_space.cnn_micro import MicroCell, MicroNetwork
from enas.search_space.lstm import LSTMBaseline
from enas.search_space.notation import expression, genotype, integers, is_call, joined, literal, require_output
from enas.search_space.rnn_cell import RNNCell

# What the type in an architecture's JSON stands for.
KINDS = {kind.type_name: kind for kind in (RNNCell, MacroNetwork, MicroNetwork, MicroCell, LSTMBaseline)}

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
        kind: the class of the architectures that it can express.
        read: text → architecture; ValueError when the text is none.
        write: architecture → text that `read` takes; ValueError when the format cannot express it.
    """

    kind: type[Architecture]
    read: Callable[[str], Architecture]
    write: Callable[[Architecture], str]


def read_architecture(text: str, format: str) -> Architecture:
    """The architecture that `text` describes.

    Args:
        text: a published architecture. Integers are separated by white space or commas.
        format: a name from `FORMATS`.

    Raises:
        ValueError: in one line that names the format, when it is unknown or the text does not fit it.
    """
    return _converted(format, _find(format).read, text)


def write_architecture(architecture: Architecture, format: str) -> str:
    """One line of text that `read_architecture` reads as `architecture`.

    With one exception: where the loose ends of a recurrent cell are all of nodes 1 … N−1, or node 0 is alone, a
    `darts` text, which lists the nodes averaged, reads as cell_output=all; so does `darts_cnn`, where all nodes are
    loose ends. It computes the same.

    Args:
        architecture: what to write.
        format: a name from `FORMATS`.

    Raises:
        ValueError: in one line that names the format, when it is unknown or cannot express the architecture.
    """
    known = _find(format)
    if not isinstance(architecture, known.kind):
        raise ValueError(f"{format}: this format has only {known.kind.title}, not {architecture.title}")
    return _converted(format, known.write, architecture)


def load_architecture(path: str | Path) -> Architecture:
    """The architecture, of whichever type, in a JSON file.

    Raises:
        FileNotFoundError, ValueError: naming the file, when there is none.
    """
    return read_file(path, _read_json)


def _find(format: str) -> Format:
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}")
    return FORMATS[format]


def _converted(format: str, convert: Callable, source):
    try:
        return convert(source)
    except ValueError as error:
        raise ValueError(f"{format}: {' '.join(str(error).split())}") from None


def _read_json(text: str) -> Architecture:
    data = parse_json(text)
    kind = data.get("type") if isinstance(data, dict) else None
    if kind not in tuple(KINDS):  # not by its hash: JSON may hold a list here
        raise ValueError(f"architecture type is {reprlib.repr(kind)}; it must be one of {', '.join(KINDS)}")
    return KINDS[kind].from_dict(data)


def _read_enas(text: str) -> RNNCell:
    return RNNCell.decode(integers(text), ENAS_ACTIVATIONS)


def _write_enas(cell: RNNCell) -> str:
    require_output(cell, "loose_ends")
    return joined(cell.encode(ENAS_ACTIVATIONS))


def _read_enas_lm(text: str) -> RNNCell:
    pairs = integers(text)
    if not pairs or len(pairs) % 2:
        raise ValueError(f"a cell is pairs of previous node and activation, 2N-2 integers; got {len(pairs)}")
    return RNNCell.decode([ENAS_LM_ACTIVATIONS.index(FIXED_ROOT), *pairs], ENAS_LM_ACTIVATIONS, "all")


def _write_enas_lm(cell: RNNCell) -> str:
    _require_root(cell)
    require_output(cell, "all")
    if cell.num_blocks == 1:
        raise ValueError("a cell of one node has no pairs to write; it needs at least two nodes")
    return joined(cell.encode(ENAS_LM_ACTIVATIONS)[1:])


def _read_darts(text: str) -> RNNCell:
    recurrent, concat = _genotype(text)
    pairs = literal(recurrent, "recurrent")
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
        f"concat is {ast.unparse(concat)}; it must name all of nodes {joined(everything.output_nodes)}, "
        f"or the loose ends {joined(everything.loose_ends)}, and nothing else"
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


def _require_root(cell: RNNCell) -> None:
    if cell.activations[0] != FIXED_ROOT:
        raise ValueError(f"the activation of node 0 is {cell.activations[0]}; this format has only {FIXED_ROOT} there")


def _genotype(text: str) -> tuple[ast.expr, ast.expr | None]:
    """The expressions for recurrent and concat; a bare list of pairs has no concat."""
    body = expression(text, EXAMPLE_GENOTYPE)
    if isinstance(body, (ast.List, ast.Tuple)):
        return body, None
    parts = genotype(body, text, EXAMPLE_GENOTYPE)
    if set(parts) != {"recurrent", "concat"}:
        raise ValueError(f"a genotype has recurrent and concat; found {', '.join(parts) or 'neither'}")
    return parts["recurrent"], parts["concat"]


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
    is_range = is_call(concat, "range") and len(concat.args) == 2 and not concat.keywords
    labels = [literal(bound, "concat") for bound in concat.args] if is_range else literal(concat, "concat")
    if not isinstance(labels, (list, tuple)) or any(type(label) is not int for label in labels):
        raise ValueError("concat must be a list of integers or range(first, last + 1)")
    return list(range(*labels)[: limit + 1]) if is_range else sorted(labels)


FORMATS = {
    "enas": Format(RNNCell, _read_enas, _write_enas),
    "enas_lm": Format(RNNCell, _read_enas_lm, _write_enas_lm),
    "darts": Format(RNNCell, _read_darts, _write_darts),
    "enas_macro": Format(MacroNetwork, *CNN_FORMATS["enas_macro"]),
    "enas_macro_code": Format(MacroNetwork, *CNN_FORMATS["enas_macro_code"]),
    "enas_micro": Format(MicroNetwork, *CNN_FORMATS["enas_micro"]),
    "darts_cnn": Format(MicroNetwork, *CNN_FORMATS["darts_cnn"]),
    "json": Format(Architecture, _read_json, Architecture.to_json),
}

"""Export a recurrent cell: `reference.py` is its model.py."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from enas.errors import UserError
from enas.rnn import reference as rnn_reference
from enas.rnn.cell import ACTIVATIONS, RNNCell
from enas.rnn.lstm import LSTMBaseline
from enas.search.own_code import exportable
from enas.search.problem import Exported
from enas.settings import ConfigLike


def exported(cell: RNNCell | LSTMBaseline, found: Mapping[str, Tensor], config: ConfigLike) -> Exported:
    """Return the cell with the weights that it uses of a model; UserError for an LSTM."""
    if isinstance(cell, LSTMBaseline):
        raise UserError("an LSTM need not be exported: torch.nn.LSTM is it")
    input_size, hidden_size = found["w_input"].shape[0], found["w_state"].shape[0]
    settings = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": 1}
    places, files = functions(cell)
    settings |= {"norm_bound": config.shared_norm_bound, "activations": places}
    title, sizes = f"A recurrent cell of {cell.num_blocks} nodes", {"input": input_size, "hx": hidden_size}
    generator = torch.Generator().manual_seed(0)
    return Exported(
        source=Path(rnn_reference.__file__),
        example="cell.py",
        weights=weights(cell, found),
        settings=settings,
        title=title,
        summary=f"{title} and {hidden_size} units that is called like `torch.nn.GRU`.",
        make=lambda model: model.Cell(input_size, hidden_size, found={**settings, "architecture": cell.to_dict()}),
        # One step, from state to state: a format without loops over time can then run sequences of any length.
        inputs={name: torch.randn(1, 3, size, generator=generator) for name, size in sizes.items()},
        dynamic=({1: "batch"}, {1: "batch"}),
        outputs=("output", "state"),
        files=files,
    )


def functions(cell: RNNCell) -> tuple[dict[str, str], dict[str, str]]:
    """Return the dotted names of the cell's activations, and the files that they need, see `exportable`."""
    found = {name: ACTIVATIONS[name].function for name in cell.activations}
    return exportable("activation", found, "torch", "torch.nn.functional")


def weights(cell: RNNCell, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an exported `Cell`'s weights by name, from a model's; UserError if the model has no such edge."""
    names = {"w_input": "w_input", "w_state": "w_state"}
    names |= {f"w_{previous}_{node}": f"edges.{previous}_{node}" for previous, node in cell.edges}
    missing = [name for name in names.values() if name not in found]
    if missing:
        raise UserError(f"the run has no weights {', '.join(missing)}; the cell is not one of its search space")
    return {f"layers.0.{mine}": found[theirs].contiguous() for mine, theirs in names.items()}

"""Export a recurrent cell: `reference.py` is its model.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enas.errors import UserError
from enas.rnn import reference as rnn_reference
from enas.rnn.cell import ACTIVATIONS, LSTMBaseline, RNNCell
from enas.rnn.text import Corpus, to_rows
from enas.search.own_code import exportable
from enas.search.problem import RUNNING, Exported
from enas.settings import ConfigLike

TOKENS = 20_000  # of training text for running statistics, and of validation text to compare them


def exported(
    cell: RNNCell | LSTMBaseline, found: Mapping[str, Tensor], config: ConfigLike, corpus: Corpus | None = None
) -> Exported:
    """Return the cell with its weights in a model, with a corpus the whole language model; UserError for an LSTM."""
    if isinstance(cell, LSTMBaseline):
        raise UserError("an LSTM need not be exported: torch.nn.LSTM is it")
    input_size, hidden_size = found["w_input"].shape[0], found["w_state"].shape[0]
    settings = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": 1}
    settings |= {"batch_first": False, "dropout": 0.0, "bidirectional": False}
    places, files = functions(cell)
    settings |= {"norm_bound": config.shared_norm_bound, "activations": places}
    settings["architecture"] = cell.to_dict()
    kept, note = weights(cell, found), ""
    if corpus is not None:
        read = ("shared_plain_start", "tie_weights", "batch_size", "text_unit")
        settings |= {name: getattr(config, name) for name in read} | {"batch_norm": "norm_scale" in found}
        settings["vocabulary"] = corpus.vocabulary
        names = {"embedding", "decoder", "decoder_bias", "norm_scale", "norm_shift"} & {*found}
        kept |= {name: found[name] for name in names - ({"decoder"} if config.tie_weights else set())}
        note = _add_statistics(cell, settings, kept, corpus) if settings["batch_norm"] else ""
    title, sizes = f"A recurrent cell of {cell.num_blocks} nodes", {"input": input_size, "hx": hidden_size}
    generator = torch.Generator().manual_seed(0)
    return Exported(
        source=Path(rnn_reference.__file__),
        usage=f"""from model import Cell, LanguageModel

output, state = Cell.load()(torch.randn(35, 2, {input_size}))  # [steps, batch, input]
print(LanguageModel.load().generate(num=20))
stack = Cell(32, 64, num_layers=2, bidirectional=True)  # new weights""",
        weights=kept,
        settings=settings,
        title=title,
        summary=f"{title} and {hidden_size} units that is called like `torch.nn.GRU`, and its language model.{note}",
        make=lambda model: model.Cell(**settings),
        # One step, from state to state: a format without loops over time can then run sequences of any length.
        inputs={name: torch.randn(1, 3, size, generator=generator) for name, size in sizes.items()},
        dynamic=({1: "batch"}, {1: "batch"}),
        outputs=("output", "state"),
        files=files,
    )


def _add_statistics(cell: RNNCell, settings: dict[str, Any], kept: dict[str, Tensor], corpus: Corpus) -> str:
    """Add running statistics of training text to the weights; return a note that compares them with batch ones."""
    here = {**settings, "activations": {name: ACTIVATIONS[name].function for name in cell.activations}}
    raw, model = (rnn_reference.LanguageModel(**{**here, "batch_norm": each}) for each in (False, True))
    raw.load_state_dict(kept)
    with torch.no_grad():
        states, _ = raw.states(to_rows(corpus.train[:TOKENS].long(), settings["batch_size"]))
    kept["norm_variance"], kept["norm_mean"] = torch.var_mean(states, dim=(0, 1))
    model.load_state_dict(kept)
    valid = corpus.valid[:TOKENS].long()
    scores = [model.perplexity(valid, columns) for columns in (0, settings["batch_size"])]
    return RUNNING.format("text", f", on its first {TOKENS:,} tokens" * (len(corpus.valid) > TOKENS), *scores)


def functions(cell: RNNCell) -> tuple[dict[str, str], dict[str, str]]:
    """Return the dotted names of the cell's activations, and the files that they need, see `exportable`."""
    found = {name: ACTIVATIONS[name].function for name in cell.activations}
    return exportable("activation", found, "torch", "torch.nn.functional")


def weights(cell: RNNCell, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an exported `Cell`'s weights by name, from a model's; UserError if the model has no such edge."""
    names = {"w_input": "w_input", "w_state": "w_state"}
    names |= {f"w_{previous}_{node}": f"edges.{previous}_{node}" for previous, node in cell.edges}
    if missing := [name for name in names.values() if name not in found]:
        raise UserError(f"the run has no weights {', '.join(missing)}; the cell is not one of its search space")
    return {f"layers.0.{mine}": found[theirs].contiguous() for mine, theirs in names.items()}

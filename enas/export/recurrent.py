"""A recurrent cell as Python source that needs torch alone, and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from enas.errors import UserError
from enas.export.parts import Exported, Signature
from enas.models.shared_rnn import edge_name
from enas.search_space import LSTMBaseline
from enas.search_space.rnn_cell import ACTIVATIONS, RNNCell

if TYPE_CHECKING:
    from enas.config import Config

SOURCE = '''"""A recurrent cell found by neural architecture search (ENAS), called like torch.nn.GRU; needs torch alone.

{nodes}

The next state, which is also the output, is the mean of {outputs}.
Every node is a highway layer: it passes on a part of what it reads, as a gate of its own decides.
"""

import torch
from torch import Tensor, nn

NORM_BOUND = {norm_bound!r}  # a longer state is scaled down to this length, because some activations grow without end


class Layer(nn.Module):
    """The cell over one sequence. Each weight holds those of a gate and those of a value side by side."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.w_input = nn.Parameter(torch.empty(input_size, 2 * hidden_size))
        self.w_state = nn.Parameter(torch.empty(hidden_size, 2 * hidden_size))
{parameters}
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = self.w_state.shape[0] ** -0.5
        for weight in self.parameters():
            nn.init.uniform_(weight, -bound, bound)

    def step(self, projected: Tensor, state: Tensor) -> Tensor:
        """The next state [B, H], of the projected input [B, 2H] and the state before it."""
        gate, value = (projected + state @ self.w_state).chunk(2, -1)
        h0 = torch.lerp(state, {first}, torch.sigmoid(gate))
{steps}
        output = {mean}
        length = torch.linalg.vector_norm(output, dim=-1, keepdim=True)
        return output * (NORM_BOUND / length.clamp_min(1e-12)).clamp_max(1.0)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The states [T, B, H] over inputs [T, B, E], beginning at a state [B, H]."""
        states = []
        for projected in (inputs @ self.w_input).unbind(0):
            state = self.step(projected, state)
            states.append(state)
        return torch.stack(states)


class Cell(nn.Module):
    """The recurrent network; arguments and results are those of torch.nn.GRU.

    Args:
        input_size: the size of an input, E.
        hidden_size: the size of a state, H.
        num_layers: how many are stacked, each reading the states of the one below.
        batch_first: inputs and outputs are [B, T, …] in place of [T, B, …].
        dropout: of what each layer but the first reads.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout = batch_first, dropout
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(Layer(size, hidden_size) for size in sizes)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over sequences.

        Args:
            input: [T, B, E], with batch_first [B, T, E], or one sequence [T, E].
            hx: the states before them, one a layer, [num_layers, B, H], or [num_layers, H]; zeros by default.

        Returns:
            the states of the last layer, [T, B, H] like the input, and the last ones of all layers, shaped like hx.
        """
        if not isinstance(input, Tensor):
            raise TypeError("packed sequences are not supported; pad them, and leave the padding out of the loss")
        is_batched = input.dim() == 3
        inputs = input if is_batched else input.unsqueeze(1)
        if is_batched and self.batch_first:
            inputs = inputs.transpose(0, 1)
        if inputs.shape[0] == 0:
            raise ValueError("the sequence has no steps; it needs at least one")
        if hx is None:
            hx = inputs.new_zeros(self.num_layers, inputs.shape[1], self.hidden_size)
        elif not is_batched:
            hx = hx.unsqueeze(1)
        last = []
        for number, layer in enumerate(self.layers):
            if number > 0:
                inputs = nn.functional.dropout(inputs, self.dropout, self.training)
            inputs = layer(inputs, hx[number])
            last.append(inputs[-1])
        output, states = inputs, torch.stack(last)
        if not is_batched:
            return output.squeeze(1), states.squeeze(1)
        return (output.transpose(0, 1) if self.batch_first else output), states
'''

EXAMPLE = '''"""Load the cell with the weights that the search found, and train a stack of it anew: python example.py"""

import json
from pathlib import Path

import torch
from model import Cell
from safetensors.torch import load_file

folder = Path(__file__).resolve().parent
config = json.loads((folder / "config.json").read_text())

cell = Cell(config["input_size"], config["hidden_size"])
cell.load_state_dict(load_file(folder / "model.safetensors"))
output, state = cell(torch.randn(35, 2, config["input_size"]))  # [steps, batch, input]
print("states", tuple(output.shape), "last state", tuple(state.shape))

stack = Cell(32, 64, num_layers=2, batch_first=True)
optimizer = torch.optim.Adam(stack.parameters(), lr=1e-3)
inputs, wanted = torch.randn(8, 20, 32), torch.randn(8, 20, 64).tanh()
for step in range(3):
    loss = (stack(inputs)[0] - wanted).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("step", step, "loss", round(loss.item(), 4))
'''


def exported(cell: RNNCell | LSTMBaseline, found: Mapping[str, Tensor], config: Config) -> Exported:
    """The cell with those weights of a model, searched or trained alone, that it uses.

    Raises:
        UserError: the cell is an LSTM, or has an activation of the user's own, or an edge without weights.
    """
    if isinstance(cell, LSTMBaseline):
        raise UserError("an LSTM need not be exported: torch.nn.LSTM is it")
    sizes = settings(found)
    return Exported(
        source=source(cell, config.shared_norm_bound),
        example=EXAMPLE,
        weights=weights(cell, found),
        settings={**sizes, "num_layers": 1, "norm_bound": config.shared_norm_bound},
        title=f"A recurrent cell of {cell.num_blocks} nodes",
        summary=f"A recurrent cell of {cell.num_blocks} nodes and {sizes['hidden_size']} units that is called like "
        "`torch.nn.GRU`.",
        signature=_signature(**sizes),
    )


def _signature(input_size: int, hidden_size: int) -> Signature:
    """One step, from state to state: a format without loops over time then does for sequences of any length."""
    generator, sizes = torch.Generator().manual_seed(0), {"input": input_size, "hx": hidden_size}
    return Signature(
        make=lambda model: model.Cell(input_size, hidden_size),
        inputs={name: torch.randn(1, 3, size, generator=generator) for name, size in sizes.items()},
        dynamic=({1: "batch"}, {1: "batch"}),
        outputs=("output", "state"),
    )


def source(cell: RNNCell, norm_bound: float) -> str:
    """model.py: the cell, its equation written out.

    Raises:
        UserError: an activation is a function of the user's own, which the file could not import.
    """
    steps = [_step(cell, position) for position in range(1, cell.num_blocks)]
    outputs = [f"h{node}" for node in cell.output_nodes]
    mean = outputs[0] if len(outputs) == 1 else f"({' + '.join(outputs)}) / {len(outputs)}"
    return SOURCE.format(
        nodes="\n".join(_described(cell)),
        outputs=_listed([f"node {node}" for node in cell.output_nodes]),
        norm_bound=norm_bound,
        parameters="\n".join(
            f"        self.{_parameter(*edge)} = nn.Parameter(torch.empty(hidden_size, 2 * hidden_size))"
            for edge in cell.edges
        ),
        first=_applied(cell.activations[0]),
        steps="\n".join(steps),
        mean=mean,
    )


def weights(cell: RNNCell, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `Cell`, by name, out of those of the model that was searched or trained.

    Raises:
        UserError: the model has none for an edge of the cell.
    """
    names = {"w_input": "w_input", "w_state": "w_state"}
    names |= {_parameter(*edge): f"edges.{edge_name(*edge)}" for edge in cell.edges}
    missing = [name for name in names.values() if name not in found]
    if missing:
        raise UserError(f"the run has no weights {', '.join(missing)}; the cell is not one of its search space")
    return {f"layers.0.{mine}": found[theirs].contiguous() for mine, theirs in names.items()}


def settings(found: Mapping[str, Tensor]) -> dict[str, int]:
    """The arguments of `Cell` that fit the weights."""
    input_size, twice = found["w_input"].shape
    return {"input_size": input_size, "hidden_size": twice // 2}


def _step(cell: RNNCell, position: int) -> str:
    previous, node = cell.edges[position - 1]
    return (
        f"        gate, value = (h{previous} @ self.{_parameter(previous, node)}).chunk(2, -1)\n"
        f"        h{node} = torch.lerp(h{previous}, {_applied(cell.activations[position])}, torch.sigmoid(gate))"
    )


def _described(cell: RNNCell) -> list[str]:
    first = f"node {cell.nodes[0]}: {cell.activations[0]} of the input and the state"
    others = zip(cell.edges, cell.activations[1:], strict=True)
    return [first, *(f"node {node}: {name} of node {previous}" for (previous, node), name in others)]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _parameter(previous: int, node: int) -> str:
    return f"w_{previous}_{node}"


def _applied(name: str) -> str:
    """The activation of `value`, as an expression."""
    if name == "identity":
        return "value"
    function = ACTIVATIONS[name].function
    if not isinstance(function, str) or not function.startswith("torch."):
        raise UserError(f"activation {name} is not a function of torch; an exported cell could not import it")
    return f"{function}(value)"

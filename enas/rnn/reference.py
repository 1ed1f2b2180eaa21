"""A recurrent cell found by neural architecture search (ENAS), as loops over time and nodes. Needs torch only.

    c_0 = σ(x·Wxc + h·Whc)        h_0 = c_0 ⊙ f_0(x·Wxh + h·Whh) + (1 − c_0) ⊙ h
    c_j = σ(h_i·Wc_ij)            h_j = c_j ⊙ f_j(h_i·Wh_ij) + (1 − c_j) ⊙ h_i

The output, which is the next state, is the mean of the cell's output nodes (Pham et al. 2018, section 2.1). A copy of
this file is the model.py of an exported cell: its `Cell` has the nodes of architecture.json beside it.

Shapes: T steps, B batch, E input, H hidden.
"""

import json
import runpy
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent


def found_at(place: str) -> Any:
    """Return the object of a dotted name; modules whose names begin with own_ are files beside this one."""
    module, _, name = place.rpartition(".")
    return runpy.run_path(str(HERE / f"{module}.py"))[name] if module.startswith("own_") else resolve_name(place)


class Nodes(NamedTuple):
    """The nodes of a cell."""

    activations: list[Callable[[Tensor], Tensor]]  # f_0, f_1, …
    edges: list[tuple[int, int]]  # (i, j) for each node j but the first, which reads node i
    outputs: list[int]  # the labels of the output nodes

    @classmethod
    def of(cls, cell: Mapping[str, Any], functions: Mapping[str, str]) -> "Nodes":
        """Read the nodes of architecture.json; `functions` are the dotted names of activations."""
        nodes, previous = cell["nodes"], cell["previous"]
        outputs = [node for node in nodes if node not in previous]
        if cell["cell_output"] == "all":
            outputs = nodes[1:] or nodes
        activations = [found_at(functions[name]) for name in cell["activations"]]
        return cls(activations, list(zip(previous, nodes[1:], strict=True)), outputs)


def highway(parent: Tensor, products: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Return c ⊙ f(a_h) + (1 − c) ⊙ parent, [B, H], with c = σ(a_c) and `products` = [a_c, a_h], [B, 2H]."""
    gate, value = products.chunk(2, dim=-1)
    return torch.lerp(parent, activation(value), torch.sigmoid(gate))


def step(
    cell: Nodes,
    projected: Tensor,
    state: Tensor,
    w_state: Tensor,
    edges: Mapping[tuple[int, int], Tensor],
    norm_bound: float,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the state [B, H] after one step.

    Args:
        cell: its nodes.
        projected: x·[Wxc, Wxh], [B, 2H].
        state: h, the state before the step, [B, H].
        w_state: [Whc, Whh], [H, 2H].
        edges: [Wc_ij, Wh_ij] of each edge of the cell, [H, 2H].
        norm_bound: a state of a larger Euclidean norm is scaled down to it, because some activations grow without end.
        mask: dropout of the states that products read, [B, H].
    """

    def product(h: Tensor, weight: Tensor) -> Tensor:
        return (h if mask is None else h * mask) @ weight

    nodes = {0: highway(state, projected + product(state, w_state), cell.activations[0])}
    for (previous, node), activation in zip(cell.edges, cell.activations[1:], strict=True):
        parent = nodes[previous]
        nodes[node] = highway(parent, product(parent, edges[previous, node]), activation)
    output = reduce(torch.add, [nodes[node] for node in cell.outputs]) / len(cell.outputs)
    norm = torch.linalg.vector_norm(output, dim=-1, keepdim=True)
    return output * (norm_bound / norm.clamp_min(1e-12)).clamp_max(1.0)


def sequence(cell: Nodes, projected: Tensor, state: Tensor, *weights: Any, **settings: Any) -> Tensor:
    """Return the states [T, B, H] over a sequence: `projected` is [T, B, 2H], the rest as for `step`."""
    states = []
    for inputs in projected.unbind(0):
        state = step(cell, inputs, state, *weights, **settings)
        states.append(state)
    return torch.stack(states)


class Cell(nn.Module):
    """The recurrent network; arguments and results are those of torch.nn.GRU.

    Each weight holds the weights of a gate and of a value side by side. `found` is the result of `read` for another
    folder.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        *,
        found: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        found = read() if found is None else found
        self.cell, self.norm_bound = Nodes.of(found["architecture"], found["activations"]), found["norm_bound"]
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout = batch_first, dropout
        self.layers = nn.ModuleList()
        for size in [input_size] + [hidden_size] * (num_layers - 1):
            rows = {"w_input": size, "w_state": hidden_size, **{f"w_{i}_{j}": hidden_size for i, j in self.cell.edges}}
            weights = [(name, torch.empty(num, 2 * hidden_size)) for name, num in rows.items()]
            self.layers.append(nn.ParameterDict(weights))
        for weight in self.parameters():
            nn.init.uniform_(weight, -(hidden_size**-0.5), hidden_size**-0.5)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the states of the last layer, [T, B, H] like the input, and the last state of each layer, like `hx`.

        Args:
            input: [T, B, E], with batch_first [B, T, E], or one sequence [T, E].
            hx: the state of each layer before the sequences, [num_layers, B, H] or [num_layers, H]; by default zeros.
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
            edges = {(i, j): layer[f"w_{i}_{j}"] for i, j in self.cell.edges}
            projected = inputs @ layer["w_input"]
            inputs = sequence(self.cell, projected, hx[number], layer["w_state"], edges, self.norm_bound)
            last.append(inputs[-1])
        output, states = inputs, torch.stack(last)
        if not is_batched:
            return output.squeeze(1), states.squeeze(1)
        return (output.transpose(0, 1) if self.batch_first else output), states


def read(folder: Path = HERE) -> dict[str, Any]:
    """Read an exported folder's config.json, with its architecture.json as "architecture"."""
    names = ("config.json", "architecture.json")
    config, architecture = (json.loads((folder / name).read_text(encoding="utf-8")) for name in names)
    return {**config, "architecture": architecture}

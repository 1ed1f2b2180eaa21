"""The recurrent cell as plain loops over time and nodes: the equations of section 2.1 of the paper.

    c_0 = σ(x·Wxc + h·Whc)        h_0 = c_0 ⊙ f_0(x·Wxh + h·Whh) + (1 − c_0) ⊙ h
    c_j = σ(h_i·Wc_ij)            h_j = c_j ⊙ f_j(h_i·Wh_ij) + (1 − c_j) ⊙ h_i

The output, which is the next state, is the mean of the cell's output nodes. Only tests and benchmarks run
this: they compare `cell_sequence`, the fast path, with it.

Shapes: T steps, B batch, H hidden.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from enas.models.activations import activate
from enas.search_space import RNNCell


def highway(parent: Tensor, products: Tensor, activation: str) -> Tensor:
    """C ⊙ f(a_h) + (1 − c) ⊙ parent, c = σ(a_c): `parent` [B, H] and `products` [a_c, a_h] [B, 2H] give [B, H]."""
    gate, value = products.chunk(2, dim=-1)
    c = torch.sigmoid(gate)
    return c * activate(activation, value) + (1 - c) * parent


def step(
    cell: RNNCell,
    projected: Tensor,
    state: Tensor,
    w_state: Tensor,
    edges: Mapping[tuple[int, int], Tensor],
    norm_bound: float,
    mask: Tensor | float = 1.0,
) -> Tensor:
    """The state [B, H] after one step.

    Args:
        cell: its nodes, activations and connections.
        projected: x·[Wxc, Wxh], [B, 2H].
        state: h, the state before the step, [B, H].
        w_state: [Whc, Whh], [H, 2H].
        edges: [Wc_ij, Wh_ij] of each (previous, node) pair of the cell, [H, 2H].
        norm_bound: a state of a larger Euclidean norm is scaled down to it.
        mask: dropout of the state where a product reads it, [B, H].
    """
    nodes = {0: highway(state, projected + (state * mask) @ w_state, cell.activations[0])}
    for (previous, node), activation in zip(cell.edges, cell.activations[1:], strict=True):
        parent = nodes[previous]
        nodes[node] = highway(parent, (parent * mask) @ edges[previous, node], activation)
    output = torch.stack([nodes[node] for node in cell.output_nodes]).mean(0)
    norm = output.norm(dim=-1, keepdim=True)
    return output * (norm_bound / norm.clamp_min(1e-12)).clamp_max(1.0)


def sequence(cell: RNNCell, projected: Tensor, state: Tensor, *weights: Any, **settings: Any) -> Tensor:
    """The states [T, B, H] over a sequence: `projected` is [T, B, 2H], the rest as for `step`."""
    states = []
    for inputs in projected:
        state = step(cell, inputs, state, *weights, **settings)
        states.append(state)
    return torch.stack(states)

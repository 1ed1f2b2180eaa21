"""What the kernels of `enas.rnn.fast.triton` must compute, in PyTorch's operations, on any device and in float64.

Tests run `CellGraph` with these where they compare it with the reference, and the kernels with these. `CellGraph` says
what its tensors are.
"""

import torch
from torch import Tensor

from enas.rnn.activations import activate
from enas.rnn.fast.graph import CODES, CellGraph
from enas.rnn.fast.sequence import IN_PLACE, masked


def node(graph: CellGraph, t: int, j: int) -> None:
    """Write node `j` to `nodes`, and what the next node's product reads to `reads`."""
    nodes, parents = graph.nodes[:, :, t], graph.parents
    parent = _selected(nodes, parents[j])
    gate, value = _gate_and_value(graph, t, j)
    nodes[j + 1] = torch.lerp(parent, value, gate)
    if j + 1 < len(parents):
        graph.reads[j + 1, :, t] = masked(_selected(nodes, parents[j + 1]), graph.mask)


def output(graph: CellGraph, t: int) -> None:
    """Write the state after a step to `states`, the factor of its norm to `scales`, and what the next step reads."""
    mean = torch.einsum("nm,nmbh->mbh", graph.shares, graph.nodes[1:, :, t])
    norm = torch.linalg.vector_norm(mean, dim=-1)
    graph.scales[t] = (graph.shape.norm_bound / norm.clamp_min(1e-12)).clamp_max(1)
    graph.states[t] = state = mean * graph.scales[t].unsqueeze(-1)
    if t + 1 < len(graph.states):
        graph.nodes[0, :, t + 1] = state
        graph.reads[0, :, t + 1] = masked(state, graph.mask)


def output_backward(graph: CellGraph, t: int) -> None:
    """Write the gradient of the mean of the nodes to `grad_output`; node 0 of the next step reads the state too."""
    grad, state = graph.grad_states[t], graph.states[t]
    if t + 1 < len(graph.states):
        grad = grad + graph.direct[0] + masked(graph.through[0], graph.mask)
    along = (grad * state).sum(-1, keepdim=True) / graph.shape.norm_bound**2
    scale = graph.scales[t].unsqueeze(-1)
    graph.grad_output.copy_(scale * (grad - torch.where(scale < 1, along, 0) * state))


def node_backward(graph: CellGraph, t: int, j: int) -> None:
    """Write the gradient of node `j`'s product to `grad_both`, and its parent's, past the product, to `direct`."""
    grad = graph.shares[j].view(-1, 1, 1) * graph.grad_output
    for child in range(j + 1, len(graph.direct)):
        is_child = (graph.parents[child] == j + 1).view(-1, 1, 1)
        grad = grad + torch.where(is_child, graph.direct[child] + masked(graph.through[child], graph.mask), 0)
    parent = _selected(graph.nodes[:, :, t], graph.parents[j])
    gate, value = _gate_and_value(graph, t, j)
    by_value = grad * gate
    by_gate = torch.ops.aten.sigmoid_backward(grad * (value - parent), gate)
    slopes = {name: differentiate(by_value, value) for name, (_, differentiate) in IN_PLACE.items()}
    graph.grad_both[j, :, t] = torch.cat([by_gate, _chosen(graph.codes[j], slopes)], dim=-1)
    graph.direct[j] = grad - by_value


def _selected(nodes: Tensor, indices: Tensor) -> Tensor:
    return nodes[indices, torch.arange(nodes.shape[1], device=nodes.device)]


def _gate_and_value(graph: CellGraph, t: int, j: int) -> tuple[Tensor, Tensor]:
    both = graph.both[j, :, t].to(graph.shape.dtype)
    gate, argument = (both + graph.projected[t] if j == 0 else both).chunk(2, dim=-1)
    return gate.sigmoid(), _chosen(graph.codes[j], {name: activate(name, argument) for name in IN_PLACE})


def _chosen(codes: Tensor, values: dict[str, Tensor]) -> Tensor:
    """Of each cell the value that its code stands for."""
    return torch.stack([values[name] for name in CODES])[codes, torch.arange(len(codes), device=codes.device)]

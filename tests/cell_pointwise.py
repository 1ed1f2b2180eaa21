"""What the kernels of `enas.rnn.fast.triton` must compute, in PyTorch's operations, on any device and in float64.

Tests run `cell_graph` with these where they compare it with the reference, and the kernels with these.

Shapes: M architectures, B batch, H hidden, N nodes. A parent's index is 0 for the state before the step and j + 1 for
node j.
"""

import torch
from torch import Tensor

from enas.rnn.activations import activate
from enas.rnn.fast.graph import CODES, CellTensors
from enas.rnn.fast.sequence import IN_PLACE


def node(
    cells: CellTensors,
    j: int,
    nodes: Tensor,
    both: Tensor,
    projected: Tensor | None,
    mask: Tensor | None,
    read_next: Tensor | None,
) -> None:
    """Write node `j` to `nodes`, and what the next node's product reads to `read_next`.

    Args:
        cells: what the cells are.
        j: the node.
        nodes: the state before the step, and the nodes, [N+1, M, B, H].
        both: the node's product, [M, B, 2H].
        projected: what is added to it, [B, 2H], or of each cell [M, B, 2H].
        mask: dropout of what products read, [M, B, H].
        read_next: [M, B, H], of the products' type.
    """
    parent = _selected(nodes, cells.parents[j])
    gate, value = _gate_and_value(cells, j, both, projected, parent)
    nodes[j + 1] = torch.lerp(parent, value, gate)
    if read_next is not None:
        read_next.copy_(_masked(_selected(nodes, cells.parents[j + 1]), mask))


def output(
    cells: CellTensors,
    nodes: Tensor,
    norm_bound: float,
    mask: Tensor | None,
    state: Tensor,
    scale: Tensor,
    next_state: Tensor | None,
    read_next: Tensor | None,
) -> None:
    """Write the state after a step to `state`, [M, B, H], what its norm was scaled by to `scale`, [M, B].

    The state also goes to `next_state`, and masked to `read_next`, both [M, B, H], where the next step reads them.
    """
    mean = torch.einsum("nm,nmbh->mbh", cells.shares, nodes[1:])
    norm = torch.linalg.vector_norm(mean, dim=-1)
    scale.copy_((norm_bound / norm.clamp_min(1e-12)).clamp_max(1))
    state.copy_(mean * scale.unsqueeze(-1))
    if next_state is not None:
        next_state.copy_(state)
        read_next.copy_(_masked(state, mask))


def output_backward(
    grad_state: Tensor,
    direct: Tensor | None,
    through: Tensor | None,
    mask: Tensor | None,
    state: Tensor,
    scale: Tensor,
    norm_bound: float,
    grad_output: Tensor,
) -> None:
    """Write the gradient of the mean of the nodes to `grad_output`; all but `scale` are [M, B, H].

    Args:
        grad_state: of the state after the step, as what follows the cells has it.
        direct, through: the next step's share of it, past and by way of its node 0's product; None at the last step.
        mask, state, scale, norm_bound: as in `output`.
        grad_output: takes the result.
    """
    grad = grad_state if direct is None else grad_state + direct + _masked(through, mask)
    along = (grad * state).sum(-1, keepdim=True) / norm_bound**2
    scale = scale.unsqueeze(-1)
    grad_output.copy_(scale * (grad - torch.where(scale < 1, along, 0) * state))


def node_backward(
    cells: CellTensors,
    j: int,
    nodes: Tensor,
    both: Tensor,
    projected: Tensor | None,
    mask: Tensor | None,
    grad_output: Tensor,
    direct: Tensor,
    through: Tensor,
    grad_both: Tensor,
) -> None:
    """Write the gradient of node `j`'s product to `grad_both`, and its parent's, past the product, to `direct[j]`.

    Args:
        cells, j, nodes, both, projected, mask: as in `node`.
        grad_output: of the mean of the nodes, [M, B, H].
        direct, through: the parents' gradients by each later node, past and by way of its product, [N, M, B, H].
        grad_both: [M, B, 2H], of the products' type.
    """
    grad = cells.shares[j].view(-1, 1, 1) * grad_output
    for child in range(j + 1, len(direct)):
        is_child = (cells.parents[child] == j + 1).view(-1, 1, 1)
        grad = grad + torch.where(is_child, direct[child] + _masked(through[child], mask), 0)
    parent = _selected(nodes, cells.parents[j])
    gate, value = _gate_and_value(cells, j, both, projected, parent)
    hidden = parent.shape[-1]
    by_value = grad * gate
    grad_both[..., :hidden] = torch.ops.aten.sigmoid_backward(grad * (value - parent), gate)
    grad_both[..., hidden:] = _chosen(
        cells.codes[j], {name: spec.differentiate(by_value, value) for name, spec in IN_PLACE.items()}
    )
    direct[j] = grad - by_value


def _selected(nodes: Tensor, indices: Tensor) -> Tensor:
    return nodes[indices, torch.arange(nodes.shape[1], device=nodes.device)]


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def _gate_and_value(
    cells: CellTensors, j: int, both: Tensor, projected: Tensor | None, like: Tensor
) -> tuple[Tensor, Tensor]:
    both = both.to(like.dtype)
    gate, argument = (both if projected is None else both + projected).chunk(2, dim=-1)
    return gate.sigmoid(), _chosen(cells.codes[j], {name: activate(name, argument) for name in IN_PLACE})


def _chosen(codes: Tensor, values: dict[str, Tensor]) -> Tensor:
    """Of each cell the value that its code stands for."""
    return torch.stack([values[name] for name in CODES])[codes, torch.arange(len(codes), device=codes.device)]

"""M recurrent cells run over a sequence at once, forward and backward: the fast path of the paper's section 2.1.

A node's step is a highway layer over its parent h_i (node 0: over the previous state h, with the input added):

    [a_c, a_h] = h_i · [Wc_ij, Wh_ij]        one [H, 2H] product for all cells that use the edge
    h_j = h_i + σ(a_c) ⊙ (f_j(a_h) − h_i)    equal to c ⊙ f + (1 − c) ⊙ h_i

`enas.rnn.reference` has the same equations without the speed. Dropout of the state, one mask a sequence, is on the h_i
of the products and not on the h_i of the second line. The backward pass is written out for speed: a weight gradient is
one product over the whole sequence. Autograd would add T small products and record 10·T·N pointwise steps.

Shapes: T steps, M architectures, B batch, H hidden, N nodes.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from enas.rnn.activations import activate, differentiate
from enas.rnn.cell import RNNCell

# For speed: activations whose derivative is a function of their value, so that the value can overwrite the argument.
# Each is a function in place, and a function of a gradient and the value that gives the gradient of the argument.
# Autograd differentiates every other activation, whose argument is kept.
IN_PLACE: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "tanh": (torch.tanh_, torch.ops.aten.tanh_backward),
    "ReLU": (torch.relu_, lambda grad, value: torch.ops.aten.threshold_backward(grad, value, 0)),
    "identity": (lambda x: x, lambda grad, value: grad),
    "sigmoid": (torch.sigmoid_, torch.ops.aten.sigmoid_backward),
}

Cells = slice | Tensor  # some of M cells, a slice if they lie side by side
Edge = tuple[int, int]  # the labels of a previous node and of the node that reads it
STATE = (-1, 0)  # node 0 reads the state


@dataclass(frozen=True)
class NodePlan:
    """One node position of M cells."""

    parents: tuple[int, ...]  # position of the node that each cell's node reads; empty for node 0
    groups: tuple[tuple[str, Cells], ...]  # (activation, cells that use it)
    edges: tuple[tuple[Edge, Cells], ...]  # (edge, cells that use it), in the order of `Plan.edges`; node 0 has `STATE`
    absent: list[int]  # the cells that have no such node

    @functools.cached_property
    def _places(self) -> Tensor:
        """The parents' places among all nodes of all cells, [M]: node · M + cell."""
        num_cells = len(self.parents)
        return torch.tensor([parent * num_cells + m for m, parent in enumerate(self.parents)])

    def select(self, nodes: Tensor) -> Tensor:
        """Return the parents' values [..., M, B, H] among `nodes` [..., N, M, B, H]: a view if the cells agree."""
        if len(set(self.parents)) == 1:
            return nodes.select(-4, self.parents[0])
        return nodes.flatten(-4, -3).index_select(-3, self._places.to(nodes.device))

    def add_to_parents(self, nodes: Tensor, values: Tensor) -> None:
        """Add `values` [M, B, H] to the parents' entries of `nodes` [N, M, B, H]."""
        if len(set(self.parents)) == 1:
            nodes[self.parents[0]] += values
        else:
            nodes.flatten(0, 1).index_add_(0, self._places.to(nodes.device), values)

    def multiply(self, x: Tensor, weights: Sequence[Tensor], out: Tensor) -> Tensor:
        """Write x · weight to `out` for each cell, one product an edge: [M, B, h] and [h, k] give [M, B, k]."""
        for weight, (_, cells) in zip(weights, self.edges, strict=True):
            rows, size = _some(x, cells), out.shape[-1]
            if isinstance(cells, slice):
                torch.mm(rows.reshape(-1, rows.shape[-1]), weight, out=out[cells].view(-1, size))
            else:
                _put(out, cells, (rows.view(-1, rows.shape[-1]) @ weight).view(len(cells), -1, size))
        if self.absent:
            out[self.absent] = 0
        return out


@dataclass(frozen=True)
class Plan:
    """M cells laid side by side; those of fewer than N nodes are filled up with nodes without a share."""

    nodes: tuple[NodePlan, ...]
    shares: tuple[tuple[float, ...], ...]  # of every node in its cell's output, N rows of M

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges whose weights are needed, those of node 1 first; one may occur at two positions."""
        return tuple(edge for node in self.nodes[1:] for edge, _ in node.edges)

    def by_node(self, weights: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        """Split the weights of the state and of `edges` by node."""
        remaining = iter(weights)
        return [list(islice(remaining, len(node.edges))) for node in self.nodes]

    @classmethod
    def of(cls, cells: Sequence[RNNCell]) -> "Plan":
        """Lay M ≥ 1 cells of any sizes side by side."""
        names = zip_longest(*(cell.activations for cell in cells), fillvalue="identity")
        parents = zip_longest(*(cell.parents for cell in cells), fillvalue=0)
        edges = zip_longest(*((STATE, *cell.edges) for cell in cells))
        nodes = tuple(
            NodePlan(read, _grouped(used), _grouped(pairs), [m for m, pair in enumerate(pairs) if pair is None])
            for read, used, pairs in zip([(), *parents], names, edges, strict=True)
        )
        return cls(nodes, tuple(zip_longest(*map(_shares, cells), fillvalue=0.0)))


def _grouped(values: Sequence[Any]) -> tuple[Any, ...]:
    """(value, cells that have it) for each value but None."""
    groups: list[tuple[Any, Cells]] = []
    for value in dict.fromkeys(value for value in values if value is not None):
        cells = [m for m, other in enumerate(values) if other == value]
        is_run = cells[-1] - cells[0] == len(cells) - 1
        groups.append((value, slice(cells[0], cells[-1] + 1) if is_run else torch.tensor(cells)))
    return tuple(groups)


def _some(x: Tensor, cells: Cells) -> Tensor:
    """`x[cells]`; for a tensor in a third of the time that indexing takes."""
    return x[cells] if isinstance(cells, slice) else x.index_select(0, cells.to(x.device))


def _put(x: Tensor, cells: Cells, values: Tensor) -> None:
    if isinstance(cells, slice):
        x[cells] = values
    else:
        x.index_copy_(0, cells.to(x.device), values)


def _shares(cell: RNNCell) -> list[float]:
    outputs = cell.output_nodes
    return [1 / len(outputs) if node in outputs else 0.0 for node in cell.nodes]


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Multiply `x` [..., M, B, H], which a product reads, by the mask [M, B, H] if there is one."""
    return x if mask is None else x * mask


def _highway(parent: Tensor, both: Tensor, node: NodePlan, out: Tensor, argument: Tensor | None) -> None:
    """Apply gate and activation to `both` [M, B, 2H] in place; write h_j to `out`, f_j's argument to `argument`."""
    gate, value = both.chunk(2, dim=-1)
    gate.sigmoid_()
    if argument is not None:
        argument.copy_(value)
    for name, cells in node.groups:
        if name in IN_PLACE and isinstance(cells, slice):
            IN_PLACE[name][0](value[cells])
        elif name != "identity":
            _put(value, cells, activate(name, _some(value, cells)))
    torch.lerp(parent, value, gate, out=out)


def _highway_backward(grad: Tensor, parent: Tensor, both: Tensor, node: NodePlan, argument: Tensor | None) -> Tensor:
    """Overwrite `both` [M, B, 2H] by the gradient before gate and activation; return the direct one of the parent."""
    gate, value = both.chunk(2, dim=-1)
    through = grad * gate
    gate.copy_(torch.ops.aten.sigmoid_backward(grad * (value - parent), gate))
    for name, cells in node.groups:
        if name in IN_PLACE:
            _put(value, cells, IN_PLACE[name][1](_some(through, cells), _some(value, cells)))
        else:
            _put(value, cells, differentiate(name, _some(through, cells), _some(argument, cells)))
    return grad - through


class _CellSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, norm_bound: float, mask: Tensor | None, keep: bool, *operands: Tensor) -> Tensor:
        projected, state, *weights = operands
        steps, n, (m, batch, hidden) = len(projected), len(plan.nodes), state.shape
        kept_steps = steps if keep and any(ctx.needs_input_grad) else 1
        values = state.new_empty(kept_steps, n, m, batch, hidden)
        both = state.new_empty(kept_steps, n, m, batch, 2 * hidden)
        keeps_arguments = any(name not in IN_PLACE for node in plan.nodes for name, _ in node.groups)
        arguments = torch.empty_like(values) if keeps_arguments else None  # for derivatives by autograd
        states = state.new_empty(steps + 1, m, batch, hidden)
        scales = state.new_empty(steps, m, batch, 1)
        shares = state.new_tensor(plan.shares).view(n, m, 1, 1)
        by_node = plan.by_node(weights)
        states[0] = state
        for t in range(steps):
            now, now_both = values[t % kept_steps], both[t % kept_steps]
            now_arguments = [None] * n if arguments is None else arguments[t % kept_steps]
            for j, node in enumerate(plan.nodes):
                parent = node.select(now) if j else states[t]
                node.multiply(masked(parent, mask), by_node[j], out=now_both[j])
                if j == 0:
                    now_both[j] += projected[t]
                _highway(parent, now_both[j], node, out=now[j], argument=now_arguments[j])
            output = (now * shares).sum(0)
            norm = torch.linalg.vector_norm(output, dim=-1, keepdim=True)
            scales[t] = (norm_bound / norm.clamp_min(1e-12)).clamp_max_(1)
            torch.mul(output, scales[t], out=states[t + 1])
        ctx.plan, ctx.norm_bound, ctx.shares = plan, norm_bound, shares
        ctx.save_for_backward(values, both, arguments, states, scales, mask, *weights)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        # The products are overwritten by their gradients, node by node: they are the largest tensor of a step.
        values, grad_both, arguments, states, scales, mask, *weights = ctx.saved_tensors
        plan, (steps, n) = ctx.plan, values.shape[:2]
        carried = torch.zeros_like(states[0])
        grad_nodes = torch.empty_like(values[0])
        by_node = plan.by_node([weight.t() for weight in weights])
        for t in reversed(range(steps)):
            now_arguments = [None] * n if arguments is None else arguments[t]
            grad = _norm_bound_backward(grad_states[t] + carried, states[t + 1], scales[t], ctx.norm_bound)
            torch.mul(grad, ctx.shares, out=grad_nodes)
            for j, node in reversed(list(enumerate(plan.nodes))):
                parent = node.select(values[t]) if j else states[t]
                direct = _highway_backward(grad_nodes[j], parent, grad_both[t, j], node, now_arguments[j])
                direct += masked(node.multiply(grad_both[t, j], by_node[j], torch.empty_like(direct)), mask)
                if j > 0:
                    node.add_to_parents(grad_nodes, direct)
            carried = direct
        grad_weights = []
        for j, node in enumerate(plan.nodes):
            reads = masked(node.select(values) if j else states[:-1], mask)
            for _, cells in node.edges:
                read, grad = reads[:, cells].flatten(0, 2), grad_both[:, j, cells].flatten(0, 2)
                grad_weights.append(read.t() @ grad)
        return None, None, None, None, grad_both[:, 0].sum(1), carried, *grad_weights


def _norm_bound_backward(grad: Tensor, bounded: Tensor, scale: Tensor, norm_bound: float) -> Tensor:
    along = (grad * bounded).sum(-1, keepdim=True) / norm_bound**2
    return scale * (grad - torch.where(scale < 1, along, 0) * bounded)


def cell_sequence(
    projected: Tensor,
    state: Tensor,
    w_state: Tensor,
    edges: Sequence[Tensor],
    plan: Plan,
    norm_bound: float,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the states of M cells over a sequence, [T, M, B, H], differentiable once: backward overwrites its inputs.

    As for `enas.rnn.reference.sequence`, but `state` and `mask` are [M, B, H], and `edges` the weights of `plan.edges`.
    """
    # Grad mode is off inside forward(); record it here.
    return _CellSequence.apply(plan, norm_bound, mask, torch.is_grad_enabled(), projected, state, w_state, *edges)

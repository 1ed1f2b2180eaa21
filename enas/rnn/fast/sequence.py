"""M recurrent cells run over a sequence at once, forward and backward: the fast path of the paper's section 2.1.

A node's step is a highway layer over its parent h_i (node 0: over the previous state h, with the input added):

    [a_c, a_h] = h_i · [Wc_ij, Wh_ij]        one [H, 2H] product for all cells that use the edge
    h_j = h_i + σ(a_c) ⊙ (f_j(a_h) − h_i)    equal to c ⊙ f + (1 − c) ⊙ h_i

`enas.rnn.reference` has the same equations without the speed. Dropout of the state, one mask a sequence, is on the h_i
of the products and not on those of the second line. The backward pass is written out for speed: automatic
differentiation would form each weight gradient from T small products, and record 10·T·N pointwise steps; here a weight
gradient is one product over the whole sequence.

Shapes: T steps, M architectures, B batch, H hidden, N nodes.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from enas.rnn.activations import activate, differentiate
from enas.rnn.cell import RNNCell

# The activations whose derivative is a function of their value, so that what they are applied to can be overwritten:
# the function in place, and what turns a gradient and the value into the gradient of the argument. Only for speed: any
# other activation uses its function and autograd, and its argument is kept.
IN_PLACE: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "tanh": (torch.tanh_, torch.ops.aten.tanh_backward),
    "ReLU": (torch.relu_, lambda grad, value: torch.ops.aten.threshold_backward(grad, value, 0)),
    "identity": (lambda x: x, lambda grad, value: grad),
    "sigmoid": (torch.sigmoid_, torch.ops.aten.sigmoid_backward),
}

Cells = slice | Tensor  # some of M cells, a slice where they lie side by side
Edge = tuple[int, int]  # the labels of a previous node and of the node that reads it


@dataclass(frozen=True)
class NodePlan:
    """One node position of M cells: what each of them does there.

    Attributes:
        parents: position of the node that each cell's node reads; empty for node 0.
        groups: (activation, cells that use it).
        edges: (edge, cells that use it), in the order of `Plan.edges`.
        absent: the cells that have no such node.
    """

    parents: tuple[int, ...]
    groups: tuple[tuple[str, Cells], ...]
    edges: tuple[tuple[Edge, Cells], ...]
    absent: list[int]

    @functools.cached_property
    def _places(self) -> Tensor:
        """Of the parents among all nodes of all cells, [M]: node · M + cell."""
        num_cells = len(self.parents)
        return torch.tensor([parent * num_cells + m for m, parent in enumerate(self.parents)])

    def select(self, nodes: Tensor) -> Tensor:
        """The parents' values [..., M, B, H] among `nodes` [..., N, M, B, H]: a view where the cells agree."""
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

    def weight_gradients(self, parents: Tensor, grads: Tensor) -> list[Tensor]:
        """Of each edge, Σ over steps, cells and batch of parentᵀ · grad, [h, k], of [T, M, B, h] and [T, M, B, k]."""
        return [_over_time(parents[:, cells], grads[:, cells]) for _, cells in self.edges]


@dataclass(frozen=True)
class Plan:
    """M cells laid side by side: N node positions, and each cell's share of every node in its output.

    Cells with fewer than N nodes are filled up with nodes that read node 0 and have no share.
    """

    nodes: tuple[NodePlan, ...]
    shares: tuple[tuple[float, ...], ...]  # N rows of M

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges whose weights are needed, those of node 1 first; one may occur at two positions."""
        return tuple(edge for node in self.nodes for edge, _ in node.edges)

    def by_node(self, weights: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        """What lies in the order of `edges`, node by node."""
        remaining = iter(weights)
        return [list(itertools.islice(remaining, len(node.edges))) for node in self.nodes]

    @property
    def keeps_arguments(self) -> bool:
        """Whether an activation's derivative is taken at its argument, which must then be kept."""
        return any(name not in IN_PLACE for node in self.nodes for name, _ in node.groups)

    @classmethod
    def of(cls, cells: Sequence[RNNCell]) -> "Plan":
        """The plan of M ≥ 1 cells, of any sizes."""
        size = max(cell.num_blocks for cell in cells)
        nodes = tuple(cls._node(cells, position) for position in range(size))
        return cls(nodes, tuple(tuple(_share(cell, position) for cell in cells) for position in range(size)))

    @staticmethod
    def _node(cells: Sequence[RNNCell], position: int) -> NodePlan:
        present = [position < cell.num_blocks for cell in cells]
        pairs = list(zip(cells, present, strict=True))
        names = _grouped([cell.activations[position] if here else "identity" for cell, here in pairs])
        absent = [m for m, here in enumerate(present) if not here]
        if position == 0:
            return NodePlan((), names, (), absent)
        parents = tuple(cell.parents[position - 1] if here else 0 for cell, here in pairs)
        edges = [cell.edges[position - 1] if here else None for cell, here in pairs]
        return NodePlan(parents, names, _grouped(edges), absent)


def _grouped(values: Sequence[Any]) -> tuple[Any, ...]:
    """(value, cells that have it) for each value but None."""
    members = {value: [m for m, other in enumerate(values) if other == value] for value in dict.fromkeys(values)}
    members.pop(None, None)
    return tuple((value, _together(cells)) for value, cells in members.items())


def _together(cells: list[int]) -> Cells:
    is_run = cells[-1] - cells[0] == len(cells) - 1
    return slice(cells[0], cells[-1] + 1) if is_run else torch.tensor(cells)


def _some(x: Tensor, cells: Cells) -> Tensor:
    """`x[cells]`; for a tensor in a third of the time that indexing takes."""
    return x[cells] if isinstance(cells, slice) else x.index_select(0, cells.to(x.device))


def _put(x: Tensor, cells: Cells, values: Tensor) -> None:
    """`x[cells] = values`."""
    if isinstance(cells, slice):
        x[cells] = values
    else:
        x.index_copy_(0, cells.to(x.device), values)


def _share(cell: RNNCell, position: int) -> float:
    outputs = cell.output_nodes
    used = position < cell.num_blocks and cell.nodes[position] in outputs
    return 1 / len(outputs) if used else 0.0


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x` [..., M, B, H] as the products read it: times the mask [M, B, H] where there is one."""
    return x if mask is None else x * mask


def _highway(parent: Tensor, both: Tensor, node: NodePlan, out: Tensor, argument: Tensor | None) -> None:
    """Apply gate and activation to `both` [M, B, 2H] in place; write h_j to `out` [M, B, H].

    `argument` [M, B, H] takes what the activation is applied to; None where that is not needed.
    """
    hidden = parent.shape[-1]
    gate, value = both[..., :hidden], both[..., hidden:]
    gate.sigmoid_()
    if argument is not None:
        argument.copy_(value)
    for name, cells in node.groups:
        if name == "identity":
            continue
        if name not in IN_PLACE:
            _put(value, cells, activate(name, _some(value, cells)))
        elif isinstance(cells, slice):
            IN_PLACE[name][0](value[cells])
        else:
            _put(value, cells, IN_PLACE[name][0](_some(value, cells)))
    torch.lerp(parent, value, gate, out=out)


def _highway_backward(
    grad: Tensor, parent: Tensor, both: Tensor, node: NodePlan, out: Tensor, argument: Tensor | None
) -> Tensor:
    """Write the gradient before gate and activation to `out` [M, B, 2H]; return the direct one of the parent.

    `out` may be `both`.
    """
    hidden = parent.shape[-1]
    gate, value = both[..., :hidden], both[..., hidden:]
    through = grad * gate
    out[..., :hidden] = torch.ops.aten.sigmoid_backward(grad * (value - parent), gate)
    for name, cells in node.groups:
        target = out[..., hidden:]
        if name in IN_PLACE:
            _put(target, cells, IN_PLACE[name][1](_some(through, cells), _some(value, cells)))
        else:
            _put(target, cells, differentiate(name, _some(through, cells), _some(argument, cells)))
    return grad - through


class _CellSequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        state: Tensor,
        w_state: Tensor,
        plan: Plan,
        norm_bound: float,
        mask: Tensor | None,
        grad_enabled: bool,
        *edges: Tensor,
    ) -> Tensor:
        steps, batch, hidden = projected.shape[0], state.shape[1], state.shape[-1]
        m, n = state.shape[0], len(plan.nodes)
        keep = grad_enabled and any(ctx.needs_input_grad)
        kept_steps = steps if keep else 1
        values = state.new_empty(kept_steps, n, m, batch, hidden)
        both = state.new_empty(kept_steps, n, m, batch, 2 * hidden)
        arguments = torch.empty_like(values) if plan.keeps_arguments else None
        states = state.new_empty(steps + 1, m, batch, hidden)
        scales = state.new_empty(steps, m, batch, 1)
        shares = state.new_tensor(plan.shares).view(n, m, 1, 1)
        weights = plan.by_node(edges)
        states[0] = state
        for t in range(steps):
            now, now_both = values[t % kept_steps], both[t % kept_steps]
            now_arguments = [None] * n if arguments is None else arguments[t % kept_steps]
            previous = states[t]
            _state_product(_masked(previous, mask), w_state, out=now_both[0])
            now_both[0] += projected[t]
            _highway(previous, now_both[0], plan.nodes[0], out=now[0], argument=now_arguments[0])
            for j in range(1, n):
                parent = plan.nodes[j].select(now)
                plan.nodes[j].multiply(_masked(parent, mask), weights[j], out=now_both[j])
                _highway(parent, now_both[j], plan.nodes[j], out=now[j], argument=now_arguments[j])
            output = (now * shares).sum(0)
            norm = torch.linalg.vector_norm(output, dim=-1, keepdim=True)
            scales[t] = (norm_bound / norm.clamp_min(1e-12)).clamp_max_(1)
            torch.mul(output, scales[t], out=states[t + 1])
        if keep:
            ctx.plan, ctx.norm_bound, ctx.shares = plan, norm_bound, shares
            ctx.save_for_backward(values, both, arguments, states, scales, mask, w_state, *edges)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        values, both, arguments, states, scales, mask, w_state, *edges = ctx.saved_tensors
        steps, n, m, batch, hidden = values.shape
        plan = ctx.plan
        grad_both = both  # overwritten node by node: it is the largest tensor of a step
        carried = torch.zeros_like(states[0])
        grad_nodes = values.new_empty(n, m, batch, hidden)
        w_state_t, weights_t = w_state.mT, plan.by_node([edge.t() for edge in edges])
        for t in reversed(range(steps)):
            now_arguments = [None] * n if arguments is None else arguments[t]
            grad = _norm_bound_backward(grad_states[t] + carried, states[t + 1], scales[t], ctx.norm_bound)
            torch.mul(grad, ctx.shares, out=grad_nodes)
            for j in range(n - 1, 0, -1):
                node = plan.nodes[j]
                parent = node.select(values[t])
                direct = _highway_backward(grad_nodes[j], parent, both[t, j], node, grad_both[t, j], now_arguments[j])
                through = _masked(node.multiply(grad_both[t, j], weights_t[j], torch.empty_like(direct)), mask)
                node.add_to_parents(grad_nodes, direct.add_(through))
            direct = _highway_backward(
                grad_nodes[0], states[t], both[t, 0], plan.nodes[0], grad_both[t, 0], now_arguments[0]
            )
            through = _state_product(grad_both[t, 0], w_state_t, out=torch.empty_like(direct))
            carried = direct.add_(_masked(through, mask))
        grad_w_state, grads = _over_time(_masked(states[:-1], mask), grad_both[:, 0]), grad_both[:, 0].sum(1)
        grad_edges = []
        for j, node in enumerate(plan.nodes[1:], start=1):
            grad_edges += node.weight_gradients(_masked(node.select(values), mask), grad_both[:, j])
        return grads, carried, grad_w_state, None, None, None, None, *grad_edges


def _over_time(reads: Tensor, grads: Tensor) -> Tensor:
    """The gradient of a weight, [h, k], of what its product reads [T, M, B, h] and the product's gradient."""
    return reads.reshape(-1, reads.shape[-1]).t() @ grads.reshape(-1, grads.shape[-1])


def _state_product(x: Tensor, w_state: Tensor, out: Tensor) -> Tensor:
    """Write x · w_state to `out`, for x [M, B, h], w_state [h, k], and out [M, B, k]."""
    torch.mm(x.reshape(-1, x.shape[-1]), w_state, out=out.view(-1, out.shape[-1]))
    return out


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
    """The states of M cells over a sequence.

    Args:
        projected: the input's share x·[Wxc, Wxh] of node 0, [T, B, 2H], the same for all cells.
        state: the state before the sequence, [M, B, H].
        w_state: [Whc, Whh] of node 0, [H, 2H].
        edges: the weights [Wc, Wh] of each edge, [H, 2H], in the order of `plan.edges`.
        plan: what the cells are.
        norm_bound: a state whose Euclidean norm exceeds this is scaled down to it.
        mask: what the previous state is multiplied by where node 0 reads it, and a node's state where an edge does,
            the same at every step, [M, B, H]; None changes nothing.

    Returns:
        [T, M, B, H]; differentiable in every tensor argument, once: the backward pass overwrites what it read.
    """
    # Grad mode is off inside forward(); record it here.
    return _CellSequence.apply(projected, state, w_state, plan, norm_bound, mask, torch.is_grad_enabled(), *edges)

"""The cells of `cell_sequence` as data: one recorded sequence of GPU kernels runs any of them.

At the sizes of the paper a GPU finishes a node's product before Python asks for the next. Here connections and
activations are index tensors and each node has its own copy of its weights, so that all cells of a space run the same
kernels, which are recorded once, as a CUDA graph, and replayed without Python. Tests run them one by one on a CPU.

Shapes: T steps, M architectures, B batch, H hidden, N nodes.
"""

import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from enas.rnn.fast.sequence import IN_PLACE, Plan, masked

# Steps and nodes are filled up to a multiple, so that fewer sizes need their own graph.
STEPS_MULTIPLE = 5
NODES_MULTIPLE = 4
GRAPHS_KEPT = 16  # the last used ones; each has its own memory

CODES = {name: code for code, name in enumerate(IN_PLACE)}


class Shape(NamedTuple):
    """The sizes T, M, B, H and N of a graph, and all else that decides its kernels and its memory."""

    steps: int
    cells: int
    batch: int
    hidden: int
    nodes: int
    is_masked: bool  # whether there is dropout of the state
    has_backward: bool  # whether what the backward pass needs is kept
    norm_bound: float
    dtype: torch.dtype  # of states and of sums
    products: torch.dtype  # of the operands of products
    allows_tf32: bool  # whether operands may be rounded to TF32
    device: torch.device


class CellGraph:
    """M cells of N nodes over T steps, in memory that stays where it is.

    Time is the third dimension of nodes, so that a weight's gradient is one product over time and batch. Scoring keeps
    one step of nodes, reads and both. `grad_NAME` is the gradient of NAME.
    """

    def __init__(self, shape: Shape, pointwise: ModuleType):
        self.shape = shape
        self.pointwise = pointwise  # has the kernels between the products: `enas.rnn.fast.triton`, or another
        self.version = 0  # how many sequences have run; the backward pass belongs to the last one
        steps, m, batch, hidden, n = shape.steps, shape.cells, shape.batch, shape.hidden, shape.nodes
        new = functools.partial(torch.zeros, dtype=shape.dtype, device=shape.device)
        operand = functools.partial(new, dtype=shape.products)
        index = functools.partial(new, n, m, dtype=torch.int32)

        def kept(new: Callable[..., Tensor], nodes: int, size: int) -> Tensor:
            return new(nodes, m, steps if shape.has_backward else 1, batch, size).expand(-1, -1, steps, -1, -1)

        self.parents = index()  # of the vector that a node reads: 0 is the state before the step, and j + 1 node j
        self.codes, self.shares = index(), new(n, m)  # each node's number in `CODES`, and share of its cell's output
        self.projected = new(steps, batch, 2 * hidden)  # x·[Wxc, Wxh]
        self.mask = new(m, batch, hidden) if shape.is_masked else None  # dropout of the state
        self.w_state = operand(hidden, 2 * hidden)
        self.weights = operand(n - 1, m, hidden, 2 * hidden)
        self.operands = [self.w_state.expand(m, -1, -1), *self.weights]
        self.nodes = kept(new, n + 1, hidden)  # the state before each step, then the nodes
        self.reads, self.both = kept(operand, n, hidden), kept(operand, n, 2 * hidden)  # products: operands, results
        self.states = new(steps, m, batch, hidden)  # after each step
        self.scales = new(steps, m, batch)  # the factors that bound the norms of states
        self._forward = self._recorded(self._run_forward)
        if shape.has_backward:
            self.grad_states = new(steps, m, batch, hidden)
            self.grad_output = new(m, batch, hidden)  # of the mean of the nodes
            self.grad_both = operand(n, m, steps, batch, 2 * hidden)
            # The gradients of the vector that each node reads, past and through its product.
            self.direct, self.through = new(n, m, batch, hidden), operand(n, m, batch, hidden)
            self.grad_first = new(m, batch, hidden)
            self.grad_projected = torch.zeros_like(self.projected)
            self.grad_w_state = torch.zeros_like(self.w_state)
            self.grad_weights = operand(n - 1, m, hidden, 2 * hidden)
            self._backward = self._recorded(self._run_backward)

    def _recorded(self, run: Callable[[], None]) -> Callable[[], None]:
        if self.shape.device.type != "cuda":
            return run
        with torch.cuda.device(self.shape.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # the first use compiles and allocates, which cannot be recorded
                run()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # NCCL has threads of its own
                run()
        return graph.replay

    @torch.no_grad()
    def forward(self, plan: Plan, mask: Tensor | None, projected: Tensor, state: Tensor, *weights: Tensor) -> Tensor:
        """Return the states [T, M, B, H] for arguments of `cell_sequence`; T may be smaller than the shape's."""
        self.version += 1
        steps = len(projected)
        self.projected[:steps] = projected
        self.projected[steps:] = 0
        self.nodes[0, :, 0] = state
        if self.mask is not None:
            self.mask.copy_(mask)
        cells = self.parents, self.codes, self.shares
        for buffer, value in zip(cells, _tensors(plan, self.shape.nodes), strict=True):
            buffer.copy_(value, non_blocking=True)
        self.w_state.copy_(weights[0])
        # Absent nodes have no share of the output, but 0 · NaN is NaN: clear the values of a diverged step.
        self.weights[len(plan.nodes) - 1 :] = 0
        mine, theirs = [], []
        for j, (node, of_edges) in enumerate(zip(plan.nodes[1:], plan.by_node(weights)[1:], strict=True)):
            if node.absent:
                self.weights[j, node.absent] = 0
            for (_, cells), weight in zip(node.edges, of_edges, strict=True):
                places = range(cells.start, cells.stop) if isinstance(cells, slice) else cells.tolist()
                mine += [self.weights[j, m] for m in places]
                theirs += [weight] * len(places)
        if mine:
            torch._foreach_copy_(mine, theirs)
        self._forward()
        return self.states[:steps].clone()

    @torch.no_grad()
    def backward(self, grad_states: Tensor, plan: Plan) -> tuple[Tensor, ...]:
        """Return the gradients of `projected`, `state` and `weights`, after a `forward` of `plan`."""
        steps = len(grad_states)
        self.grad_states[:steps] = grad_states
        self.grad_states[steps:] = 0
        self._backward()
        dtype = self.shape.dtype
        nodes = zip(self.grad_weights, plan.nodes[1:], strict=False)
        by_edge = [grads[cells].sum(0, dtype=dtype) for grads, node in nodes for _, cells in node.edges]
        grad_w_state = self.grad_w_state.to(dtype, copy=True)
        return self.grad_projected[:steps].clone(), self.grad_first.clone(), grad_w_state, *by_edge

    def _run_forward(self) -> None:
        shape, rows = self.shape, self.shape.cells * self.shape.batch
        self.reads[0, :, 0] = masked(self.nodes[0, :, 0], self.mask)
        for t in range(shape.steps):
            for j in range(shape.nodes):
                both, read = self.both[j, :, t], self.reads[j, :, t]
                if j == 0 and not shape.has_backward:
                    torch.mm(read.view(rows, -1), self.w_state, out=both.view(rows, -1))
                else:
                    torch.bmm(read, self.operands[j], out=both)
                self.pointwise.node(self, t, j)
            self.pointwise.output(self, t)

    def _run_backward(self) -> None:
        shape = self.shape
        for t in reversed(range(shape.steps)):
            self.pointwise.output_backward(self, t)
            for j in reversed(range(shape.nodes)):
                self.pointwise.node_backward(self, t, j)
                torch.bmm(self.grad_both[j, :, t], self.operands[j].transpose(1, 2), out=self.through[j])
        self.grad_first.copy_(self.direct[0] + masked(self.through[0], self.mask))
        reads, grads = self.reads.flatten(2, 3), self.grad_both.flatten(2, 3)  # [N, M, T·B, …]
        self.grad_projected.copy_(self.grad_both[0].sum(0, dtype=shape.dtype))
        torch.mm(reads[0].flatten(0, 1).t(), grads[0].flatten(0, 1), out=self.grad_w_state)
        if shape.nodes > 1:
            reads, grads = reads[1:].flatten(0, 1), grads[1:].flatten(0, 1)
            torch.bmm(reads.transpose(1, 2), grads, out=self.grad_weights.flatten(0, 1))


def _tensors(plan: Plan, num_nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the parents, codes and shares of a plan, filled up with nodes that read node 0 and have no share."""
    m, missing = len(plan.shares[0]), num_nodes - len(plan.nodes)
    parents = [[0] * m, *([parent + 1 for parent in node.parents] for node in plan.nodes[1:]), *[[1] * m] * missing]
    codes = torch.zeros(num_nodes, m, dtype=torch.int32)
    for j, node in enumerate(plan.nodes):
        for name, cells in node.groups:
            codes[j, cells] = CODES[name]
    shares = torch.tensor([*plan.shares, *[[0.0] * m] * missing], dtype=torch.float64)
    return torch.tensor(parents, dtype=torch.int32), codes, shares


class _GraphSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: CellGraph, plan: Plan, mask: Tensor | None, *operands: Tensor) -> Tensor:
        states = graph.forward(plan, mask, *operands)
        ctx.graph, ctx.plan, ctx.version = graph, plan, graph.version
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.version != ctx.graph.version:
            raise RuntimeError("another sequence of the same shape has run since; take gradients before the next")
        return None, None, None, *ctx.graph.backward(grad_states, ctx.plan)


_graph = functools.lru_cache(maxsize=GRAPHS_KEPT)(CellGraph)


def graph_sequence(
    projected: Tensor,
    state: Tensor,
    w_state: Tensor,
    edges: Sequence[Tensor],
    plan: Plan,
    norm_bound: float,
    mask: Tensor | None = None,
    products: torch.dtype | None = None,
    largest: int = 0,
    pointwise: ModuleType | None = None,
) -> Tensor:
    """Return the same as `cell_sequence` by the graph of this shape, which is recorded at its first use.

    The backward pass raises RuntimeError if another sequence of the same shape ran in between.

    Args:
        products: type of the operands of products; None is the type of the arguments.
        largest: nodes that a cell can have; 0 means as many as in `plan`.
        pointwise: as for `CellGraph`; None is `enas.rnn.fast.triton`.
    """
    operands = (projected, state, w_state, *edges)
    steps = math.ceil(len(projected) / STEPS_MULTIPLE) * STEPS_MULTIPLE
    nodes = math.ceil(len(plan.nodes) / NODES_MULTIPLE) * NODES_MULTIPLE
    nodes = max(len(plan.nodes), min(nodes, largest))
    has_backward = torch.is_grad_enabled() and any(operand.requires_grad for operand in operands)
    shape = Shape(
        steps, *state.shape, nodes, mask is not None, has_backward, norm_bound, state.dtype,
        products or state.dtype, torch.backends.cuda.matmul.allow_tf32, state.device,
    )  # fmt: skip
    graph = _graph(shape, pointwise or importlib.import_module("enas.rnn.fast.triton"))
    return _GraphSequence.apply(graph, plan, mask, *operands)


def is_graphable(plan: Plan, state: Tensor) -> bool:
    """Return whether a graph can run the cells: on a GPU with Triton, in float32, with activations in `CODES`."""
    is_here = state.device.type == "cuda" and state.dtype == torch.float32 and importlib.util.find_spec("triton")
    return bool(is_here) and all(name in CODES for node in plan.nodes for name, _ in node.groups)

"""Triton kernels for the steps of a recurrent cell between its matrix products, on NVIDIA GPUs.

`tests/cell_pointwise.py` has the same functions in PyTorch, and says what each computes.
"""

import triton
import triton.language as tl

from enas.rnn.fast.graph import CODES, CellGraph

BLOCK = 256  # hidden units of one program
TANH, RELU, SIGMOID = (tl.constexpr(CODES[name]) for name in ("tanh", "ReLU", "sigmoid"))


@triton.jit
def _activated(code, x):
    doubled = tl.where(code == TANH, 2 * x, x)
    sigmoid = tl.sigmoid(doubled)
    curved = tl.where(code == TANH, 2 * sigmoid - 1, sigmoid)
    straight = tl.where((code == RELU) & (x < 0), 0.0, x)
    return tl.where((code == TANH) | (code == SIGMOID), curved, straight)


@triton.jit
def _slope(code, value):
    curved = tl.where(code == TANH, 1 - value * value, value * (1 - value))
    straight = tl.where((code == RELU) & (value <= 0), 0.0, 1.0)
    return tl.where((code == TANH) | (code == SIGMOID), curved, straight)


@triton.jit
def _gate_and_value(code, both, both_m, projected, m, b, h, inside, hidden, has_input: tl.constexpr):
    at = both + m * both_m + b * 2 * hidden + h
    gate = tl.load(at, inside, 0.0).to(tl.float32)
    argument = tl.load(at + hidden, inside, 0.0).to(tl.float32)
    if has_input:
        added = projected + b * 2 * hidden + h
        gate += tl.load(added, inside, 0.0)
        argument += tl.load(added + hidden, inside, 0.0)
    return tl.sigmoid(gate), _activated(code, argument)


@triton.jit
def _node(
    parents, codes, nodes, nodes_n: tl.int64, nodes_m: tl.int64, both, both_m: tl.int64, projected,
    mask, read, read_m: tl.int64, j, cells, batch, hidden,
    has_input: tl.constexpr, has_mask: tl.constexpr, has_next: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    m, b = row // batch, row % batch
    h = tl.program_id(1) * block + tl.arange(0, block)
    inside = h < hidden
    code = tl.load(codes + j * cells + m)
    here = nodes + m * nodes_m + b * hidden + h
    parent = tl.load(here + tl.load(parents + j * cells + m).to(tl.int64) * nodes_n, inside, 0.0)
    gate, value = _gate_and_value(code, both, both_m, projected, m, b, h, inside, hidden, has_input)
    result = parent + gate * (value - parent)
    tl.store(here + (j + 1) * nodes_n, result, inside)
    if has_next:
        following = tl.load(parents + (j + 1) * cells + m).to(tl.int64)
        operand = tl.load(here + following * nodes_n, inside, 0.0)
        operand = tl.where(following == j + 1, result, operand)
        if has_mask:
            operand *= tl.load(mask + row * hidden + h, inside, 0.0)
        tl.store(read + m * read_m + b * hidden + h, operand, inside)


@triton.jit
def _output(
    shares, nodes, nodes_n: tl.int64, nodes_m: tl.int64, bound, mask, state, scale, following, following_m: tl.int64,
    read, read_m: tl.int64,
    cells, batch, hidden, num_nodes,
    has_mask: tl.constexpr, has_next: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    m, b = row // batch, row % batch
    h = tl.arange(0, block)
    inside = h < hidden
    here = nodes + m * nodes_m + b * hidden + h
    mean = tl.zeros((block,), tl.float32)
    for j in range(num_nodes):
        share = tl.load(shares + j * cells + m)
        if share > 0:
            mean += share * tl.load(here + (j + 1) * nodes_n, inside, 0.0)
    norm = tl.sqrt(tl.sum(mean * mean, 0))
    factor = tl.minimum(bound / tl.maximum(norm, 1e-12), 1.0)
    result = mean * factor
    tl.store(scale + row, factor)
    tl.store(state + row * hidden + h, result, inside)
    if has_next:
        tl.store(following + m * following_m + b * hidden + h, result, inside)
        if has_mask:
            result *= tl.load(mask + row * hidden + h, inside, 0.0)
        tl.store(read + m * read_m + b * hidden + h, result, inside)


@triton.jit
def _output_backward(
    grad_state, direct, through, mask, state, scale, bound, grad_output, hidden,
    has_next: tl.constexpr, has_mask: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    h = tl.arange(0, block)
    inside = h < hidden
    at = row * hidden + h
    grad = tl.load(grad_state + at, inside, 0.0)
    if has_next:
        by_product = tl.load(through + at, inside, 0.0).to(tl.float32)
        if has_mask:
            by_product *= tl.load(mask + at, inside, 0.0)
        grad += tl.load(direct + at, inside, 0.0) + by_product
    factor = tl.load(scale + row)
    reached = tl.load(state + at, inside, 0.0)
    along = tl.sum(grad * reached, 0) / (bound * bound)
    along = tl.where(factor < 1, along, 0.0)
    tl.store(grad_output + at, factor * (grad - along * reached), inside)


@triton.jit
def _node_backward(
    parents, codes, shares, nodes, nodes_n: tl.int64, nodes_m: tl.int64, both, both_m: tl.int64, projected,
    mask, grad_output, direct, through, grad_both, j, cells, batch, hidden, num_nodes,
    has_input: tl.constexpr, has_mask: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    m, b = row // batch, row % batch
    h = tl.program_id(1) * block + tl.arange(0, block)
    inside = h < hidden
    at = row * hidden + h
    one_node = cells * batch * hidden
    grad = tl.load(shares + j * cells + m) * tl.load(grad_output + at, inside, 0.0)
    for child in range(j + 1, num_nodes):
        if tl.load(parents + child * cells + m) == j + 1:
            by_product = tl.load(through + child * one_node + at, inside, 0.0).to(tl.float32)
            if has_mask:
                by_product *= tl.load(mask + at, inside, 0.0)
            grad += tl.load(direct + child * one_node + at, inside, 0.0) + by_product
    code = tl.load(codes + j * cells + m)
    here = nodes + m * nodes_m + b * hidden + h
    parent = tl.load(here + tl.load(parents + j * cells + m).to(tl.int64) * nodes_n, inside, 0.0)
    gate, value = _gate_and_value(code, both, both_m, projected, m, b, h, inside, hidden, has_input)
    by_value = grad * gate
    to = grad_both + m * both_m + b * 2 * hidden + h
    tl.store(to, grad * (value - parent) * gate * (1 - gate), inside)
    tl.store(to + hidden, by_value * _slope(code, value), inside)
    tl.store(direct + j * one_node + at, grad - by_value, inside)


def node(graph: CellGraph, t: int, j: int) -> None:
    """As in `tests/cell_pointwise.py`."""
    nodes, both = graph.nodes[:, :, t], graph.both[j, :, t]
    read = graph.reads[j + 1, :, t] if j + 1 < len(graph.reads) else None
    _, m, batch, hidden = nodes.shape
    _node[(m * batch, triton.cdiv(hidden, BLOCK))](
        graph.parents, graph.codes, nodes, nodes.stride(0), nodes.stride(1), both, both.stride(0),
        graph.projected[t], graph.mask, read, 0 if read is None else read.stride(0), j, m, batch, hidden,
        has_input=j == 0, has_mask=graph.mask is not None, has_next=read is not None, block=BLOCK,
    )  # fmt: skip


def output(graph: CellGraph, t: int) -> None:
    """As in `tests/cell_pointwise.py`."""
    nodes, has_next = graph.nodes[:, :, t], t + 1 < len(graph.states)
    following, read = (graph.nodes[0, :, t + 1], graph.reads[0, :, t + 1]) if has_next else (None, None)
    size, m, batch, hidden = nodes.shape
    _output[(m * batch,)](
        graph.shares, nodes, nodes.stride(0), nodes.stride(1), graph.shape.norm_bound, graph.mask,
        graph.states[t], graph.scales[t], following, following.stride(0) if has_next else 0,
        read, read.stride(0) if has_next else 0, m, batch, hidden, size - 1,
        has_mask=graph.mask is not None, has_next=has_next, block=triton.next_power_of_2(hidden),
    )  # fmt: skip


def output_backward(graph: CellGraph, t: int) -> None:
    """As in `tests/cell_pointwise.py`."""
    m, batch, hidden = graph.grad_output.shape
    _output_backward[(m * batch,)](
        graph.grad_states[t], graph.direct, graph.through, graph.mask, graph.states[t], graph.scales[t],
        graph.shape.norm_bound, graph.grad_output, hidden,
        has_next=t + 1 < len(graph.states), has_mask=graph.mask is not None, block=triton.next_power_of_2(hidden),
    )  # fmt: skip


def node_backward(graph: CellGraph, t: int, j: int) -> None:
    """As in `tests/cell_pointwise.py`."""
    nodes, both, grad_both = graph.nodes[:, :, t], graph.both[j, :, t], graph.grad_both[j, :, t]
    size, m, batch, hidden = nodes.shape
    _node_backward[(m * batch, triton.cdiv(hidden, BLOCK))](
        graph.parents, graph.codes, graph.shares, nodes, nodes.stride(0), nodes.stride(1), both, both.stride(0),
        graph.projected[t], graph.mask, graph.grad_output, graph.direct, graph.through, grad_both,
        j, m, batch, hidden, size - 1, has_input=j == 0, has_mask=graph.mask is not None, block=BLOCK,
    )  # fmt: skip

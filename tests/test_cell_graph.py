"""Cells as index tensors: equal to `cell_sequence`, which `test_shared_rnn` holds against the plain equations."""

import functools
import importlib

import cell_pointwise
import pytest
import torch
from torch.testing import assert_close

from enas.rnn.cell import RNNCell
from enas.rnn.fast import graph
from enas.rnn.fast.sequence import Plan, cell_sequence

graph_sequence = functools.partial(graph.graph_sequence, pointwise=cell_pointwise)
ACTIVATIONS = ("tanh", "ReLU", "identity", "sigmoid")
CASES = pytest.mark.parametrize(
    ("norm_bound", "is_masked"), [(25.0, False), (0.5, True)], ids=["loose and plain", "bounded and masked"]
)


def random_cells(seed, sizes=(5, 5, 3, 1, 5)):
    generator = torch.Generator().manual_seed(seed)

    def draw(below):
        return int(torch.randint(below, (), generator=generator))

    return [
        RNNCell(tuple(ACTIVATIONS[draw(4)] for _ in range(size)), tuple(draw(j) for j in range(1, size)))
        for size in sizes
    ]


def make_tensors(dtype=torch.float64, hidden=6, steps=7, batch=4):
    """All that 5 cells of up to 5 nodes are run on, a mask of the state, and what their states are multiplied by."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    tensors = {
        "projected": normal(steps, batch, 2 * hidden),
        "state": normal(5, batch, hidden),
        "w_state": normal(hidden, 2 * hidden) / 2,
        **{f"{i}_{j}": normal(hidden, 2 * hidden) / 2 for j in range(1, 5) for i in range(j)},
    }
    mask = (torch.rand(5, batch, hidden, generator=generator) < 0.8).to(dtype) / 0.8
    return tensors, mask, normal(steps, 5, batch, hidden)


def run(function, cells, tensors, mask, towards, norm_bound=25.0):
    """States, and the gradients of their product with `towards`."""
    own = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    plan = Plan.of(cells)
    edges = [own[f"{i}_{j}"] for i, j in plan.edges]
    given = (own["projected"], own["state"], own["w_state"], edges, plan, norm_bound, mask)
    states = function(*given)
    (states * towards).sum().backward()
    with torch.no_grad():
        assert_close(function(*given), states, equal_nan=True)  # scoring computes what training does
    return states.detach(), {name: tensor.grad for name, tensor in own.items()}


def assert_equal(cells, tensors, mask, towards, norm_bound=25.0, function=graph_sequence):
    given = (cells, tensors, mask, towards, norm_bound)
    assert_close(run(function, *given), run(cell_sequence, *given))


@CASES
def test_cells_equal_those_of_the_processors_forward_and_backward(norm_bound, is_masked):
    tensors, mask, towards = make_tensors()
    assert_equal(random_cells(1), tensors, mask if is_masked else None, towards, norm_bound)


def test_a_graph_serves_all_cells_and_shorter_sequences_and_forgets_what_diverged():
    padded = functools.partial(graph_sequence, largest=5)
    for seed, sizes in enumerate([(5, 5, 5, 5, 5), (5, 2, 5, 1, 3), (1, 2, 5, 2, 1), (1, 2, 1, 2, 1)]):
        for steps in (10, 7, 6):
            tensors, mask, towards = make_tensors(steps=steps)
            diverged = {name: torch.full_like(tensor, torch.nan) for name, tensor in tensors.items()}
            run(padded, random_cells(9, (5, 5, 5, 5, 5)), diverged, mask, towards)
            assert_equal(random_cells(seed, sizes), tensors, mask, towards, function=padded)


def test_gradients_after_another_sequence_are_refused():
    tensors, _, _ = make_tensors()
    plan = Plan.of(random_cells(1))
    weight = tensors["w_state"].requires_grad_()
    edges = [tensors[f"{i}_{j}"] for i, j in plan.edges]
    first, _ = (graph_sequence(tensors["projected"], tensors["state"], weight, edges, plan, 25.0) for _ in range(2))
    with pytest.raises(RuntimeError, match="before the next"):
        first.sum().backward()


@CASES
def test_triton_kernels_equal_those_of_pytorch(norm_bound, is_masked):
    pytest.importorskip("triton", reason="triton is not installed")
    triton_kernels = importlib.import_module("enas.rnn.fast.triton")
    # 300 hidden units are two blocks of a kernel; interpreted, each block takes seconds
    sizes = {"hidden": 300, "batch": 1} if is_masked else {"hidden": 30, "batch": 2}
    tensors, mask, towards = make_tensors(torch.float32, steps=2, **sizes)
    device = "cuda" if torch.cuda.is_available() else "cpu"  # interpreted on a CPU, see conftest.py
    tensors = {name: (tensor / 7 if "_" in name else tensor).to(device) for name, tensor in tensors.items()}
    mask = mask.to(device) if is_masked else None
    by_kernels, by_pytorch = (
        run(functools.partial(graph_sequence, pointwise=pointwise), random_cells(1, (3, 3, 2, 1, 3)), tensors, mask,
            towards.to(device), norm_bound)
        for pointwise in (triton_kernels, cell_pointwise)
    )  # fmt: skip
    assert_close(by_kernels[0], by_pytorch[0], rtol=1e-4, atol=1e-5)
    assert_close(by_kernels[1], by_pytorch[1], rtol=1e-3, atol=1e-3)


def test_products_may_be_rounded():
    tensors, mask, towards = make_tensors(torch.float32, hidden=32)
    tensors = {name: tensor / 3 if "_" in name else tensor for name, tensor in tensors.items()}
    rounded = functools.partial(graph_sequence, products=torch.bfloat16)
    (states, grads), (exact, exact_grads) = (
        run(function, random_cells(1), tensors, mask, towards) for function in (rounded, graph_sequence)
    )
    assert states.dtype == torch.float32
    assert 0 < (states - exact).abs().max() < 0.05
    for name, grad in grads.items():
        if grad is not None:
            assert grad.dtype == torch.float32
            assert torch.nn.functional.cosine_similarity(grad.flatten(), exact_grads[name].flatten(), dim=0) > 0.999

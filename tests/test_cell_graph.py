"""Cells as index tensors: equal to the plain equations, whatever runs them."""

import functools
import importlib

import cell_pointwise
import pytest
import torch
from strategies import nodes
from torch.testing import assert_close

from enas.rnn import reference as rnn_reference
from enas.rnn.cell import RNNCell
from enas.rnn.fast import graph as cell_graph
from enas.rnn.fast.sequence import Plan, cell_sequence

graph_sequence = functools.partial(cell_graph.graph_sequence, pointwise=cell_pointwise)
ACTIVATIONS = ("tanh", "ReLU", "identity", "sigmoid")


def random_cell(generator, size):
    activations = [ACTIVATIONS[torch.randint(4, (), generator=generator)] for _ in range(size)]
    previous = [int(torch.randint(j, (), generator=generator)) for j in range(1, size)]
    return RNNCell(nodes=tuple(range(size)), activations=tuple(activations), previous=tuple(previous))


@pytest.fixture
def problem():
    """Cells of 5, 3 and 1 nodes, and everything that they are run on, in float64."""
    return make_problem(torch.float64)


def make_problem(dtype, hidden=6, steps=7, batch=4):
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    cells = [random_cell(generator, size) for size in (5, 5, 3, 1, 5)]
    tensors = {
        "projected": normal(steps, batch, 2 * hidden),
        "state": normal(5, batch, hidden),
        "w_state": normal(hidden, 2 * hidden) / 2,
        **{f"{i}_{j}": normal(hidden, 2 * hidden) / 2 for j in range(1, 5) for i in range(j)},
    }
    mask = (torch.rand(5, batch, hidden, generator=generator) < 0.8).to(dtype) / 0.8
    return cells, tensors, mask, normal(steps, 5, batch, hidden)


def run(function, cells, tensors, towards, norm_bound, mask):
    """States, and the gradients of their product with `towards`."""
    own = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    plan = Plan.of(cells)
    edges = [own[f"{i}_{j}"] for i, j in plan.edges]
    states = function(own["projected"], own["state"], own["w_state"], edges, plan, norm_bound, mask)
    (states * towards).sum().backward()
    return states.detach(), {name: tensor.grad for name, tensor in own.items()}


def by_reference(projected, state, w_state, edges, plan, norm_bound, mask, cells):
    edges = dict(zip(plan.edges, edges, strict=True))
    each = [
        rnn_reference.sequence(
            nodes(cell), projected, state[m], w_state, edges, norm_bound, mask=None if mask is None else mask[m]
        )
        for m, cell in enumerate(cells)
    ]
    return torch.stack(each, dim=1)


@pytest.mark.parametrize("is_masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("norm_bound", [25.0, 0.5], ids=["loose", "bounded"])
def test_cells_as_data_equal_the_reference_forward_and_backward(problem, norm_bound, is_masked):
    cells, tensors, mask, towards = problem
    mask = mask if is_masked else None
    states, grads = run(graph_sequence, cells, tensors, towards, norm_bound, mask)
    expected, expected_grads = run(lambda *args: by_reference(*args, cells), cells, tensors, towards, norm_bound, mask)
    assert_close(states, expected)
    assert_close(grads, expected_grads)


def test_scoring_equals_training(problem):
    cells, tensors, mask, towards = problem
    trained, _ = run(graph_sequence, cells, tensors, towards, 25.0, mask)
    with torch.no_grad():
        plan = Plan.of(cells)
        edges = [tensors[f"{i}_{j}"] for i, j in plan.edges]
        scored = graph_sequence(tensors["projected"], tensors["state"], tensors["w_state"], edges, plan, 25.0, mask)
    assert_close(scored, trained)


def test_one_graph_serves_all_cells(problem, monkeypatch):
    _, tensors, mask, towards = problem
    cell_graph._graph.cache_clear()
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        cells = [random_cell(generator, 5) for _ in range(5)]
        states, grads = run(graph_sequence, cells, tensors, towards, 25.0, mask)
        expected, expected_grads = run(
            lambda *args, cells=cells: by_reference(*args, cells), cells, tensors, towards, 25.0, mask
        )
        assert_close(states, expected)
        assert_close(grads, expected_grads)
    assert cell_graph._graph.cache_info().misses == 1


def test_a_shorter_sequence_uses_the_graph_of_a_longer_one(problem):
    cells, tensors, mask, towards = problem
    cell_graph._graph.cache_clear()
    for steps in (10, 7, 6):
        shorter = tensors | {"projected": torch.randn(steps, 4, 12, dtype=torch.float64)}
        towards = torch.randn(steps, 5, 4, 6, dtype=torch.float64)
        states, grads = run(graph_sequence, cells, shorter, towards, 25.0, mask)
        expected, expected_grads = run(lambda *args: by_reference(*args, cells), cells, shorter, towards, 25.0, mask)
        assert_close(states, expected)
        assert_close(grads, expected_grads)
    assert cell_graph._graph.cache_info().misses == 1


def test_smaller_cells_use_the_graph_of_larger_ones_and_nothing_that_these_left(problem):
    _, tensors, mask, towards = problem
    cell_graph._graph.cache_clear()
    generator = torch.Generator().manual_seed(3)
    diverged = {name: torch.full_like(tensor, torch.nan) for name, tensor in tensors.items()}

    def padded(*args):
        return graph_sequence(*args, largest=5)

    for largest, sizes in ((5, (5, 2, 5, 1, 3)), (4, (1, 2, 1, 2, 1))):
        run(padded, [random_cell(generator, largest) for _ in sizes], diverged, towards, 25.0, mask)
        cells = [random_cell(generator, size) for size in sizes]
        states, grads = run(padded, cells, tensors, towards, 25.0, mask)
        expected, expected_grads = run(
            lambda *args, cells=cells: by_reference(*args, cells), cells, tensors, towards, 25.0, mask
        )
        assert_close(states, expected)
        assert_close(grads, expected_grads)
    assert cell_graph._graph.cache_info().misses == 2  # of 5 nodes, and of 4 or fewer


def test_gradients_after_another_sequence_are_refused(problem):
    cells, tensors, _, _ = problem
    plan = Plan.of(cells)
    weight = tensors["w_state"].requires_grad_()
    edges = [tensors[f"{i}_{j}"] for i, j in plan.edges]
    first = graph_sequence(tensors["projected"], tensors["state"], weight, edges, plan, 25.0)
    graph_sequence(tensors["projected"], tensors["state"], weight, edges, plan, 25.0)
    with pytest.raises(RuntimeError, match="before the next"):
        first.sum().backward()


@pytest.mark.parametrize("is_masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("norm_bound", [25.0, 0.5], ids=["loose", "bounded"])
def test_triton_kernels_equal_those_of_pytorch(norm_bound, is_masked):
    pytest.importorskip("triton", reason="triton is not installed")
    triton_kernels = importlib.import_module("enas.rnn.fast.triton")
    # 300 hidden units are two blocks of a kernel
    cells, tensors, mask, towards = make_problem(torch.float32, hidden=300, steps=3, batch=2)
    device = "cuda" if torch.cuda.is_available() else "cpu"  # interpreted on a CPU, see conftest.py
    tensors = {name: (tensor / 7 if "_" in name else tensor).to(device) for name, tensor in tensors.items()}
    towards = towards.to(device)
    mask = mask.to(device) if is_masked else None

    def by(pointwise):
        return lambda *args: graph_sequence(*args, pointwise=pointwise)

    states, *grads = run(by(triton_kernels), cells, tensors, towards, norm_bound, mask)
    expected, *expected_grads = run(by(cell_pointwise), cells, tensors, towards, norm_bound, mask)
    assert_close(states, expected, rtol=1e-4, atol=1e-5)
    assert_close(grads, expected_grads, rtol=1e-3, atol=1e-3)


def test_products_may_be_rounded(problem):
    cells, tensors, mask, towards = make_problem(torch.float32, hidden=32)
    tensors = {name: tensor / 3 if "_" in name else tensor for name, tensor in tensors.items()}
    states, grads = run(
        lambda *args: graph_sequence(*args, products=torch.bfloat16), cells, tensors, towards, 25.0, mask
    )
    exact, exact_grads = run(graph_sequence, cells, tensors, towards, 25.0, mask)
    assert states.dtype == torch.float32
    assert 0 < (states - exact).abs().max() < 0.05
    for name, grad in grads.items():
        if grad is None:
            continue
        assert grad.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(grad.flatten(), exact_grads[name].flatten(), dim=0) > 0.999


def test_the_fast_path_of_processors_equals_it(problem):
    cells, tensors, mask, towards = problem
    assert_close(
        run(graph_sequence, cells, tensors, towards, 25.0, mask),
        run(cell_sequence, cells, tensors, towards, 25.0, mask),
    )

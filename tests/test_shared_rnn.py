"""The fast cell against the plain one, and what a shared model promises of its weights."""

import math

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import cells, nodes
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from enas.rnn import reference as rnn_reference
from enas.rnn.cell import ACTIVATIONS, RNNCell
from enas.rnn.settings import SharedRNNConfig
from enas.rnn.shared import SharedRNN
from enas.search.optim import make_optimizer, set_lr

VOCAB, STEPS, BATCH = 11, 4, 3
CHAIN = RNNCell(("tanh", "ReLU", "sigmoid"), (0, 1))
BUSH = RNNCell(("sigmoid", "identity", "tanh", "ReLU"), (0, 0, 1), cell_output="all")
some_cells = st.lists(cells(4, gaps=True, activations=ACTIVATIONS), min_size=1, max_size=3)


def make_config(**settings) -> SharedRNNConfig:
    sizes = {"shared_embed": 4, "shared_hid": 4, "num_blocks": 10}
    return SharedRNNConfig(**{**tiny.CALM, **sizes, "shared_init_range": 1.0, **settings})


def make_model(**settings) -> SharedRNN:
    torch.manual_seed(0)
    return tiny.randomised(tiny.with_large_embeddings(SharedRNN(VOCAB, make_config(**settings))))


def make_batch(num_cells: int, steps: int = STEPS) -> tuple:
    """Inputs and targets [T, B], and a state [M, B, H] that wants a gradient."""
    torch.manual_seed(1)
    inputs, targets = torch.randint(VOCAB, (2, steps, BATCH))
    return inputs, targets, torch.randn(num_cells, BATCH, 4, dtype=torch.float64, requires_grad=True)


def plain_states(model: SharedRNN, inputs: torch.Tensor, cell: RNNCell, h: torch.Tensor, mask=None) -> torch.Tensor:
    """The states [T, B, H] of one cell by the package's plain loops over time and nodes."""
    x = model.embedding[inputs] * (1 if model.config.shared_plain_start else model.config.shared_embed**0.5)
    edges = {(i, j): model.edges[f"{i}_{j}"] for i, j in cell.edges}
    bound = model.config.shared_norm_bound
    return rnn_reference.sequence(nodes(cell), x @ model.w_input, h, model.w_state, edges, norm_bound=bound, mask=mask)


def test_the_plain_cell_is_the_equation_of_the_paper():
    """Paper section 2.1, on a cell of two nodes, number by number."""
    cell, h, x = RNNCell(("ReLU", "tanh"), (0,)), 0.3, -0.7
    w_xc, w_xh, w_hc, w_hh, w_c, w_h = 0.2, 1.1, -0.4, 0.9, 0.6, -1.3

    def sigmoid(value):
        return 1 / (1 + math.exp(-value))

    def matrix(*row):
        return torch.tensor([row], dtype=torch.float64)

    c = sigmoid(x * w_xc + h * w_hc)
    first = c * max(0.0, x * w_xh + h * w_hh) + (1 - c) * h
    c = sigmoid(first * w_c)
    second = c * math.tanh(first * w_h) + (1 - c) * first
    weights = (matrix(w_hc, w_hh), {(0, 1): matrix(w_c, w_h)})
    for bound, expected in ((25.0, second), (0.01, math.copysign(0.01, second))):
        found = rnn_reference.step(nodes(cell), matrix(x * w_xc, x * w_xh), matrix(h), *weights, norm_bound=bound)
        assert found.item() == pytest.approx(expected, rel=1e-12)


def plain_loss(model, inputs, targets, cells, state, masks=None):
    """The loss of M cells, one after the other, and their states [T, M, B, H]."""
    masks = [None] * len(cells) if masks is None else masks
    states = [plain_states(model, inputs, *each) for each in zip(cells, state, masks, strict=True)]
    losses = []
    for cell_states in states:
        for h, words in zip(cell_states, targets, strict=True):
            if model.config.shared_batch_norm:
                h = F.batch_norm(h, None, None, model.norm_scale, model.norm_shift, training=True, eps=1e-5)
            losses.append(F.cross_entropy(h @ model.decoder.t() + model.decoder_bias, words))
    return torch.stack(losses).mean(), torch.stack(states, dim=1)


def assert_same_gradients(model, state, loss, expected):
    wanted = [*model.parameters(), state]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    correct = torch.autograd.grad(expected, wanted, allow_unused=True)
    for gradient, right in zip(found, correct, strict=True):
        assert (gradient is None) == (right is None)
        if right is not None:
            torch.testing.assert_close(gradient, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm_bound", [25.0, 0.8], ids=["loose", "bounded"])
@pytest.mark.parametrize("batch_norm", [True, False], ids=["shared_batch_norm", "no_norm"])
@pytest.mark.parametrize("embed", [4, 3], ids=["tied", "untied"])
@given(cells=some_cells)
def test_fast_cells_equal_plain_ones_forward_and_backward(embed, batch_norm, norm_bound, cells):
    model = make_model(
        shared_embed=embed, tie_weights=embed == 4, shared_batch_norm=batch_norm, shared_norm_bound=norm_bound
    )
    inputs, targets, state = make_batch(len(cells))
    loss, output = model.loss(inputs, targets, cells, state)
    expected, expected_states = plain_loss(model, inputs, targets, cells, state)
    torch.testing.assert_close(output.states, expected_states, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    # A weight on every state, so that a gradient enters at each of them and not through the loss alone.
    weight = torch.randn_like(output.states)
    assert_same_gradients(
        model, state, loss + (weight * output.states).sum(), expected + (weight * expected_states).sum()
    )


@given(cells=some_cells)
def test_dropout_of_the_state_is_one_mask_a_sequence_at_node_0_and_at_every_edge(cells):
    model = make_model(shared_dropouth=0.5).train()
    inputs, targets, state = make_batch(len(cells))
    torch.manual_seed(5)
    masks = torch.empty(len(cells), BATCH, 4, dtype=torch.float64).bernoulli_(0.5) * 2
    torch.manual_seed(5)
    loss, output = model.loss(inputs, targets, cells, state)
    expected, expected_states = plain_loss(model, inputs, targets, cells, state, masks)
    torch.testing.assert_close(output.states, expected_states, rtol=1e-10, atol=1e-12)
    assert_same_gradients(model, state, loss, expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
@given(cells=some_cells)
def test_scores_of_cells_together_are_their_losses_one_by_one(batch_norm, training, cells):
    model = make_model(shared_batch_norm=batch_norm).train(training)
    inputs, targets, state = make_batch(len(cells))
    together, after = model.score(inputs, targets, cells, state)
    for index, cell in enumerate(cells):
        loss, output = model.loss(inputs, targets, [cell], state[index : index + 1])
        torch.testing.assert_close(together[index] / (STEPS * BATCH), loss.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(after[index], output.last[0].detach(), rtol=1e-12, atol=1e-14)


def test_dropout_is_drawn_anew_for_each_loss_and_not_in_evaluation():
    inputs, targets, state = make_batch(1)
    for name in ("shared_dropoute", "shared_dropouti", "shared_dropouth", "shared_dropout", "shared_wdrop"):
        plain, model = make_model().eval(), make_model(**{name: 0.5})
        losses = [some.loss(inputs, targets, [CHAIN], state)[0].item() for some in (plain, model, model)]
        assert len(set(losses)) == 3
        found, expected = (some.eval().score(inputs, targets, [CHAIN], state)[0] for some in (model, plain))
        assert torch.equal(found, expected)


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor made within."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.numel())
        return result


def test_scoring_keeps_no_step_for_a_backward_pass():
    model, steps = make_model().eval(), 60
    inputs, targets, state = make_batch(1, steps)
    with LargestTensor() as largest:
        model.score(inputs, targets, [BUSH], state)
    assert largest.numel == steps * BATCH * VOCAB, "nothing is larger than the logits"


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_only_edges_in_use_get_a_gradient_decay_and_an_update(name):
    model = make_model()
    optimizer = make_optimizer(name, model.parameters(), weight_decay=0.1)
    set_lr(optimizer, 0.1)
    for cell in (BUSH, CHAIN):  # the second step finds moments of edges that only the first one used
        before = {edge: weight.detach().clone() for edge, weight in model.edges.items()}
        inputs, targets, state = make_batch(1)
        optimizer.zero_grad(set_to_none=True)
        model.loss(inputs, targets, [cell], state)[0].backward()
        optimizer.step()
        used = {f"{i}_{j}" for i, j in cell.edges}
        assert {edge for edge, weight in model.edges.items() if weight.grad is not None} == used
        assert {edge for edge, weight in model.edges.items() if not torch.equal(weight, before[edge])} == used


@pytest.mark.parametrize("tied", [True, False])
def test_every_pair_has_weights_of_its_own_and_a_tied_decoder_is_the_embedding(tied):
    model = make_model(num_blocks=3, tie_weights=tied)
    found = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    pairs = {f"edges.{pair}": (4, 8) for pair in ("0_1", "0_2", "1_2")}
    vectors = {"norm_scale": (4,), "norm_shift": (4,), "decoder_bias": (VOCAB,), "embedding": (VOCAB, 4)}
    rest = {"w_input": (4, 8), "w_state": (4, 8)} | ({} if tied else {"decoder": (VOCAB, 4)})
    assert found == pairs | vectors | rest


def test_initial_weights_and_state():
    model = SharedRNN(VOCAB, make_config(shared_hid=16, tie_weights=False, shared_init_range=0.0))
    assert torch.equal(model.initial_state(2, 3), torch.zeros(2, 3, 16))
    assert (model.norm_scale == 1).all() and (model.norm_shift == 0).all() and (model.decoder_bias == 0).all()
    for weight in (model.w_input, model.w_state, *model.edges.values()):
        assert 0.2 < weight.abs().max() <= 0.25  # 1/√16
    for weight in (model.embedding, model.decoder):
        assert 0.04 < weight.abs().max() <= 0.05


def test_a_cell_larger_than_the_model_and_batch_norm_of_one_sequence_are_refused():
    inputs, _, state = make_batch(1)
    for cell in (CHAIN, BUSH.remove_node(1)):  # too many nodes; a label that is too high
        with tiny.refused("the cell has node 2, but the shared model has nodes 0 … 1"):
            make_model(num_blocks=2)(inputs, [cell], state)
    inputs, targets, state = (part[..., :1] if part.dim() == 2 else part[:, :1] for part in make_batch(1))
    with tiny.refused("needs a batch of at least 2"):
        make_model().loss(inputs, targets, [CHAIN], state)
    assert make_model(shared_batch_norm=False).loss(inputs, targets, [CHAIN], state)[0].isfinite()


def test_a_decoder_that_starts_from_frequencies_predicts_the_unigram_distribution():
    model = make_model()
    torch.nn.init.zeros_(model.embedding)
    model.start_from_frequencies(torch.tensor([0, 0, 0, 1, 1, 4]))
    expected = torch.tensor([4, 3, 1, 1, 2, *[1] * (VOCAB - 5)], dtype=torch.float64) / (6 + VOCAB)
    assert torch.allclose(model.decoder_bias.exp(), expected, atol=1e-7)
    inputs, targets, state = make_batch(1)
    nll, _ = model.score(inputs, targets, [CHAIN], state)
    assert nll.item() == pytest.approx(-expected[targets].log().sum().item(), rel=1e-6)


def test_embedded_words_are_scaled_by_the_root_of_their_size_unless_told_otherwise():
    inputs, _, state = make_batch(1)
    default, plain = make_model(), make_model(shared_plain_start=True)
    with torch.no_grad():
        plain.embedding *= 2.0  # √4
    assert torch.equal(default(inputs, [CHAIN], state).states, plain(inputs, [CHAIN], state).states)

"""The plain LSTM against its equations, and against a searched cell in the number of parameters."""

from types import SimpleNamespace
from unittest import mock

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enas.rnn import problem
from enas.rnn.cell import LSTMBaseline, RNNCell
from enas.rnn.lstm import LSTMModel
from enas.rnn.settings import LanguageModelConfig

T, B, H, V = 5, 3, 4, 7


def make_model(**settings) -> LSTMModel:
    torch.manual_seed(0)
    sizes = {"shared_embed": H, "shared_hid": H}
    model = LSTMModel(V, LanguageModelConfig(**{**tiny.CALM, **sizes, **settings})).double()
    return tiny.with_large_embeddings(model)


def words(steps: int = T) -> torch.Tensor:
    return torch.randint(V, (steps, B), generator=torch.Generator().manual_seed(1))


def run(model: LSTMModel, inputs: torch.Tensor, state: torch.Tensor):
    return model(inputs, [LSTMBaseline(model.config.shared_hid)], state)


def test_states_follow_the_equations():
    model = make_model().eval()
    inputs = words()
    output = run(model, inputs, model.initial_state(1, B).double())
    weights = dict(model.lstm.named_parameters())
    h = c = torch.zeros(B, H, dtype=torch.float64)
    for t in range(T):
        x = model.embedding[inputs[t]] * H**0.5
        gates = x @ weights["weight_ih_l0"].t() + weights["bias_ih_l0"] + h @ weights["weight_hh_l0"].t()
        i, f, g, o = (gates + weights["bias_hh_l0"]).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(output.states[t, 0], h)
    torch.testing.assert_close(output.last[0], torch.cat([h, c], dim=1))


def test_a_state_carries_a_sequence_on():
    model = make_model().eval()
    inputs, state = words(6), model.initial_state(1, B).double()
    whole = run(model, inputs, state)
    first = run(model, inputs[:2], state)
    second = run(model, inputs[2:], first.last)
    torch.testing.assert_close(torch.cat([first.states, second.states]), whole.states)
    assert not torch.allclose(run(model, inputs[2:], state).states, second.states)


def test_drop_connect_is_on_the_recurrent_weights_only():
    model = make_model(shared_wdrop=0.5)
    state = model.initial_state(1, B).double()
    model.eval()
    calm = run(model, words(), state).states
    model.train()
    dropped = run(model, words(), state).states
    torch.testing.assert_close(dropped[0], calm[0])  # from the zero state nothing recurrent is read
    assert not torch.allclose(dropped[1], calm[1])
    assert not torch.equal(run(model, words(), state).states[1], dropped[1])


def test_every_weight_learns():
    model = make_model(shared_wdrop=0.5, shared_dropouti=0.2, shared_dropout=0.2)
    loss, _ = model.loss(words(), words(), [LSTMBaseline(H)], model.initial_state(1, B).double())
    loss.backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_another_architecture_is_refused():
    model = make_model()
    for architectures in ([LSTMBaseline(H + 1)], [LSTMBaseline(H), LSTMBaseline(H + 1)], []):
        with pytest.raises(ValueError, match=f"this model is one LSTM of {H} units"):
            model(words(), architectures, model.initial_state(1, B).double())


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(2, 500), st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_no_other_size_is_nearer(num_blocks, vocab_size, embed, hidden, tie_weights):
    embed = hidden if tie_weights else embed
    config = SimpleNamespace(num_blocks=num_blocks, shared_embed=embed, shared_hid=hidden, tie_weights=tie_weights)
    cell = RNNCell(("tanh",) * num_blocks, (0,) * (num_blocks - 1))

    def size(architecture) -> int:
        return problem.cost(config, vocab_size, architecture).parameters

    corpus = SimpleNamespace(vocabulary=range(vocab_size))
    with mock.patch.object(problem, "load_data", lambda config: corpus):
        found = problem.nearest_lstm(config)
    distances = [abs(size(LSTMBaseline(number)) - size(cell)) for number in range(1, 300)]
    assert abs(size(found) - size(cell)) == min(distances)


def test_units_that_are_no_positive_integer_are_refused():
    for hidden in (0, -1, 1.5, True, "8"):
        with tiny.refused("hidden of an LSTM is"):
            LSTMBaseline(hidden)


def test_several_architectures_are_the_same_lstm_side_by_side():
    """As `shared_num_sample` asks for them."""
    model, inputs = make_model().eval(), words()
    both = model(inputs, [LSTMBaseline(H)] * 2, model.initial_state(2, B).double())
    alone = run(model, inputs, model.initial_state(1, B).double())
    assert both.states.shape == (T, 2, B, H)
    for index in range(2):
        torch.testing.assert_close(both.states[:, index], alone.states[:, 0])
        torch.testing.assert_close(both.last[index], alone.last[0])

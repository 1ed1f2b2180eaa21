"""The cost of an architecture is what torch counts in the whole network that is trained from scratch."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cells, macro_networks, micro_networks
from torch.utils.flop_counter import FlopCounterMode

from enas.cnn.cost import macro_cost, micro_cost
from enas.cnn.macro import MacroNetwork
from enas.cnn.model import MacroCNN, MicroCNN
from enas.cnn.operations import register_operation
from enas.cnn.settings import MicroCNNConfig, ScratchCNNConfig
from enas.rnn.cell import LSTMBaseline
from enas.rnn.lstm import LSTMModel
from enas.rnn.problem import cost
from enas.rnn.settings import LanguageModelConfig, SharedRNNConfig
from enas.rnn.shared import SharedRNN
from enas.search.cost import Cost

# Two reductions leave more than one pixel, for which average pools would be convolutions, which torch counts.
SIZES = st.tuples(st.integers(5, 17), st.integers(5, 17))


def whole(network: torch.nn.Module, size: tuple[int, int]) -> Cost:
    """What torch counts of a network that reads an image of this size."""
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 3, *size))
    return Cost(sum(weight.numel() for weight in network.parameters()), counter.get_total_flops() // 2)


@settings(max_examples=20)
@given(network=macro_networks(gaps=True), size=SIZES, hid=st.integers(2, 5))
def test_the_cost_of_a_macro_network(network, size, hid):
    config = ScratchCNNConfig(scratch_cnn_hid=hid)
    found = macro_cost(network, 7, config, size)
    assert found == whole(MacroCNN(network, 7, config), size)
    assert found.multiply_adds > 0


@settings(max_examples=10)
@given(network=micro_networks(gaps=True), size=SIZES, hid=st.integers(2, 5), num_layers=st.sampled_from([3, 6]))
def test_the_cost_of_a_micro_network_leaves_its_auxiliary_head_out(network, size, hid, num_layers):
    config = MicroCNNConfig(scratch_cnn_hid=hid, scratch_cnn_num_layers=num_layers)
    model = MicroCNN(network, 7, config)
    del model.auxiliary_head
    assert micro_cost(network, 7, config, size) == whole(model, size)


@given(cell=cells(gaps=True), tie=st.booleans())
def test_the_cost_of_a_recurrent_cell(cell, tie):
    config = SharedRNNConfig(
        num_blocks=cell.nodes[-1] + 1, shared_embed=6, shared_hid=6 if tie else 4, tie_weights=tie,
        shared_batch_norm=False,
    )  # fmt: skip
    model = SharedRNN(11, config, cell.edges).eval()
    words = torch.zeros(1, 1, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model.score(words, words, [cell], model.initial_state(1, 1))
    expected = Cost(sum(weight.numel() for weight in model.parameters()), counter.get_total_flops() // 2)
    assert cost(config, 11, cell) == expected


@pytest.mark.parametrize("tie", [True, False])
def test_the_cost_of_an_lstm(tie):
    """Torch does not count its own LSTM, but does the products that its equations have."""
    embed, hidden = (5, 5) if tie else (4, 5)
    config = LanguageModelConfig(shared_embed=embed, shared_hid=hidden, tie_weights=tie)
    model = LSTMModel(11, config)
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.linear(torch.zeros(1, embed), model.lstm.weight_ih_l0)
        torch.nn.functional.linear(torch.zeros(1, hidden), model.lstm.weight_hh_l0)
        torch.nn.functional.linear(torch.zeros(1, hidden), model.decoder)
    expected = Cost(sum(weight.numel() for weight in model.parameters()), counter.get_total_flops() // 2)
    assert cost(config, 11, LSTMBaseline(hidden)) == expected


class Centred(torch.nn.Conv2d):
    """An operation that makes numbers of tensors, here and in its forward pass."""

    def __init__(self, channels, stride):
        super().__init__(channels, channels, 3, stride, padding=torch.tensor(2).item(), dilation=2)

    def forward(self, x):
        return super().forward(x - x.mean().item())


def test_an_operation_of_ones_own_counts_and_draws_nothing():
    with tiny.registering():
        register_operation("centred", Centred)
        network = MacroNetwork(("centred",), ((),))
        config = ScratchCNNConfig(scratch_cnn_hid=4)
        expected = whole(MacroCNN(network, 7, config), (9, 9))
        before = torch.get_rng_state()
        assert macro_cost(network, 7, config, (9, 9)) == expected
        assert torch.equal(torch.get_rng_state(), before)

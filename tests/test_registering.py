"""One more activation, or operation, is one call from outside the package; it is sampled, trained and derived."""

import functools
import json

import pytest
import tiny
import torch
from torch import nn

from enas.cnn.operations import register_operation
from enas.errors import UserError
from enas.rnn.activations import activate, register_activation
from enas.rnn.cell import ACTIVATIONS, RNNCell
from enas.runs.commands import execute
from enas.search.architecture import architecture_from_dict


@pytest.fixture(autouse=True)
def forgotten():
    """What a test registers is forgotten afterwards."""
    with tiny.registering():
        yield


@pytest.fixture
def sine():
    """A registered activation."""
    register_activation("sine", torch.sin, colour="#C9B7E8")
    return "sine"


@pytest.fixture
def dilated():
    """A registered operation."""
    register_operation(
        "dil3x3", lambda channels, stride: nn.Conv2d(channels, channels, 3, stride, 2, 2, bias=False), label="dilated"
    )
    return "dil3x3"


def derived(folder):
    return architecture_from_dict(tiny.results(folder)["architecture"])


def test_a_registered_activation_is_searched_resumed_and_trained_from_scratch(tmp_path, sine):
    x = torch.linspace(-2, 2, 5)
    assert torch.equal(activate(sine, x), x.sin())
    run = tiny.run_in(tmp_path, shared_rnn_activations=("sine", "GELU"), max_epoch=1)
    cell = derived(run)
    assert set(cell.activations) <= {"sine", "GELU"} and RNNCell.from_dict(cell.to_dict()) == cell
    execute(load_path=str(run), max_epoch=2)
    scratch = {"mode": "train_scratch", "load_path": str(run), "log_dir": str(tmp_path / "scratch"), "max_epoch": 1}
    assert execute(**scratch)["test_perplexity"] > 0


@pytest.mark.parametrize("space", ["macro", "micro"])
def test_a_registered_operation_is_sampled_trained_and_derived(tmp_path, dilated, space):
    trainer = tiny.trainer(tmp_path, network_type="cnn", cnn_space=space)
    sampled = trainer.controller.sample(30).architectures
    assert any(dilated in json.dumps(network.to_dict()) for network in sampled)
    loss, _ = trainer.task.shared_loss([sampled[0].replace_part(dilated)])
    loss.backward()
    used = {name for name, weight in trainer.task.model.named_parameters() if weight.grad is not None}
    assert any(dilated in name for name in used)
    assert derived(tiny.run_in(tmp_path, network_type="cnn", cnn_space=space, max_epoch=1)).nodes


WEIGHT = nn.Parameter(torch.tensor(0.25))


PARAMETRIC = {
    "module": nn.PReLU(),
    "frozen": nn.PReLU().requires_grad_(False),
    "bound": nn.PReLU(8).forward,
    "inside": nn.Sequential(nn.Tanh(), nn.PReLU()),
    "closure": lambda x: x * WEIGHT,
    "partial": functools.partial(nn.functional.prelu, weight=WEIGHT),
}


@pytest.mark.parametrize("function", PARAMETRIC.values(), ids=PARAMETRIC)
def test_an_activation_with_parameters_is_refused(function):
    """They would be in no optimiser and in no checkpoint."""
    with torch.no_grad(), pytest.raises(UserError, match="own has parameters, which no run trains or saves; "):
        register_activation("own", function)
    assert "own" not in ACTIVATIONS


@pytest.mark.parametrize("function", [nn.Softplus(), nn.Hardswish(), torch.sin, lambda x: x * 0.5, "torch.sin"])
def test_an_activation_without_parameters_is_taken(function):
    before = torch.get_rng_state()
    register_activation("own", function)
    assert torch.equal(before, torch.get_rng_state())


def test_a_name_that_is_taken_is_refused(sine, dilated):
    with pytest.raises(ValueError, match="activation sine is registered already"):
        register_activation("sine", torch.sin)
    with pytest.raises(ValueError, match="'dil3x3' cannot be registered"):
        register_operation("dil3x3", lambda channels, stride: nn.Identity())
    with pytest.raises(ValueError, match="'half' cannot be registered"):  # a method of the module that would hold it
        register_operation("half", lambda channels, stride: nn.Identity())
    with pytest.raises(ValueError, match="'a-b' cannot be registered"):
        register_operation("a-b", lambda channels, stride: nn.Identity())

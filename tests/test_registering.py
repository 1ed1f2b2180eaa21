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

    def make(channels: int, stride: int) -> nn.Module:
        return nn.Conv2d(channels, channels, 3, stride, padding=2, dilation=2, bias=False)

    register_operation("dil3x3", make, label="dilated 3x3")
    return "dil3x3"


def derived(folder):
    return architecture_from_dict(json.loads((folder / "results.json").read_text())["architecture"])


def test_an_activation(tmp_path, sine):
    x = torch.linspace(-2, 2, 5)
    assert torch.equal(activate(sine, x), x.sin())
    execute(**tiny.settings(tmp_path, shared_rnn_activations=("sine", "GELU"), max_epoch=1))
    run = tiny.only_run(tmp_path / "logs")
    cell = derived(run)
    assert set(cell.activations) <= {"sine", "GELU"} and RNNCell.from_dict(cell.to_dict()) == cell
    execute(load_path=str(run), max_epoch=2)
    scratch = {"mode": "train_scratch", "load_path": str(run), "log_dir": str(tmp_path / "scratch"), "max_epoch": 1}
    assert execute(**scratch)["test_perplexity"] > 0


@pytest.mark.parametrize("space", ["macro", "micro"])
def test_an_operation(tmp_path, dilated, space):
    trainer = tiny.trainer(tmp_path, network_type="cnn", cnn_space=space)
    sampled = trainer.controller.sample(30).architectures
    assert any(dilated in json.dumps(network.to_dict()) for network in sampled)
    loss, _ = trainer.task.shared_loss([sampled[0].replace_part(dilated)])
    loss.backward()
    used = {name for name, weight in trainer.task.model.named_parameters() if weight.grad is not None}
    assert any(dilated in name for name in used)
    execute(**tiny.settings(tmp_path, network_type="cnn", cnn_space=space, max_epoch=1))
    assert derived(tiny.only_run(tmp_path / "logs")).nodes


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


def test_a_name_that_is_taken(sine, dilated):
    with pytest.raises(ValueError, match="activation sine is registered already"):
        register_activation("sine", torch.sin)
    with pytest.raises(ValueError, match="'dil3x3' cannot be registered"):
        register_operation("dil3x3", lambda channels, stride: nn.Identity())
    with pytest.raises(ValueError, match="'a_b' cannot be registered"):
        register_operation("a_b", lambda channels, stride: nn.Identity())

"""Learning rates against tables computed by hand, and the optimisers' names."""

import math

import pytest
import torch

from enas.config import Config, read_preset
from enas.rnn.settings import SharedOptimConfig
from enas.search.optim import make_optimizer, set_lr
from enas.search.settings import ControllerOptimConfig, cosine


def shared_schedule(**settings):
    """The rate in an epoch at a step of the whole run, of 10 epochs of 10 steps."""
    optim = SharedOptimConfig(max_epoch=10, **settings)
    return lambda epoch, step: optim.rate(epoch, step, steps_per_epoch=10)


@pytest.mark.parametrize(
    "epoch, lr", [(1, 20), (15, 20), (16, 19.2), (17, 18.432), (18, 17.69472), (150, 20 * 0.96**135)]
)
def test_shared_rate_decays_after_fifteen_epochs(epoch, lr):
    assert shared_schedule()(epoch, step=0) == shared_schedule()(epoch, step=99) == pytest.approx(lr)


@pytest.mark.parametrize("step, lr", [(0, 5), (1, 10), (2, 15), (3, 20), (4, 20)])
def test_shared_rate_rises_linearly_over_the_warmup(step, lr):
    assert shared_schedule(shared_lr_warmup=4)(epoch=1, step=step) == pytest.approx(lr)
    falling = shared_schedule(shared_lr_warmup=4, shared_lr_cosine=True)(epoch=1, step=step)
    assert falling == pytest.approx(lr / 20 * cosine(step / 100, 20, 0))


@pytest.mark.parametrize("step, lr", [(0, 20), (25, 11 + 9 * math.sqrt(0.5)), (50, 11), (100, 2), (101, 2)])
def test_shared_rate_follows_half_a_cosine_whatever_the_epoch(step, lr):
    schedule = shared_schedule(shared_lr_cosine=True, shared_lr_min=2.0)
    assert schedule(1, step) == schedule(100, step) == pytest.approx(lr)


def test_controller_rate_restarts_after_10_30_and_70_epochs():
    assert {ControllerOptimConfig().rate(epoch) for epoch in range(1, 200)} == {3.5e-4}
    schedule = ControllerOptimConfig(controller_lr_cosine=True).rate
    rates = {epoch: schedule(epoch) for epoch in range(1, 151)}
    assert [epoch for epoch, rate in rates.items() if rate == 0.05] == [1, 11, 31, 71]
    for middle in (6, 21, 51, 111):
        assert rates[middle] == pytest.approx(0.0255)
    falling = [epoch for epoch in range(2, 151) if rates[epoch] < rates[epoch - 1]]
    assert set(range(2, 151)) - set(falling) == {11, 31, 71}
    assert min(rates.values()) > 0.001


@pytest.mark.parametrize("name, step", [("sgd", -0.1), ("momentum", -0.19), ("adam", -0.1)])
def test_first_step_of_each_optimiser(name, step):
    """A gradient of 1 at rate 0.1: Nesterov's first step adds momentum 0.9 once, Adam's is the rate itself."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer(name, [weight])
    set_lr(optimizer, 0.1)
    weight.grad = torch.ones(1)
    optimizer.step()
    assert weight.item() == pytest.approx(step)


def tensorflow_step(gradient: float, square: float, step: int, lr: float, eps: float) -> tuple[float, float]:
    """TensorFlow's Adam at β₁ = 0, β₂ = 0.999: the change of a weight, and the new average of squares."""
    square = 0.999 * square + 0.001 * gradient**2
    return -lr * math.sqrt(1 - 0.999**step) * gradient / (math.sqrt(square) + eps), square


def test_tensorflows_epsilon_is_larger_in_torchs_adam_at_first():
    """In step t it is ε / √(1 − β₂^t), of which `cifar_macro` and `cifar_micro` tell the start and the end."""
    weight, square, at = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)), 0.0, []
    optimizer = make_optimizer("adam", [weight], betas=(0.0, 0.999), eps=1e-3)
    set_lr(optimizer, 0.001)
    expected = 0.0
    for step in range(1, 2400):
        gradient = 1e-4 * math.sin(step)
        change, square = tensorflow_step(gradient, square, step, lr=0.001, eps=1e-3)
        expected += change
        at.append(1e-3 / math.sqrt(1 - 0.999**step))
        optimizer.param_groups[0]["eps"] = at[-1]
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        assert weight.item() == pytest.approx(expected, rel=1e-9, abs=1e-18)
    assert at[0] == pytest.approx(0.03, abs=0.002)
    assert next(step for step, eps in enumerate(at, start=1) if eps < 1.05e-3) == 2375


AUTHORS = {
    "cifar_macro": {"tanh_c": 1.5, "softmax_temperature": 1.0},
    "cifar_micro": {"tanh_c": 1.1, "softmax_temperature": 1.0},
}  # how their logits are tempered


@pytest.mark.parametrize("name", AUTHORS)
def test_the_controllers_epsilon_stands_to_its_gradients_as_the_authors_does(name):
    """Gradients and ε times a factor leave Adam's steps alone, so ε follows the length of the gradient at the start."""
    settings = read_preset(name)

    def gradient(controller) -> torch.Tensor:
        log_probs = controller.log_prob(networks).log_probs.sum(1)
        (log_probs * advantages).mean().backward()
        return torch.cat([weight.grad.flatten() for weight in controller.parameters()])

    torch.manual_seed(0)
    configs = [Config(**settings, **changes) for changes in ({}, AUTHORS[name])]
    ours, theirs = (config.space.problem().controller(config) for config in configs)
    theirs.load_state_dict(ours.state_dict())
    if name == "cifar_micro":  # the authors' logits of operations are 0.44 · tanh; the controller applies 1.1 · tanh
        for decoder in theirs.decoders:
            decoder.register_forward_hook(lambda module, given, logits: torch.atanh(0.4 * torch.tanh(logits)))
    torch.manual_seed(1)
    networks, advantages = ours.sample(200).architectures, torch.randn(200)
    ratio = float(gradient(ours).norm() / gradient(theirs).norm())
    assert settings["controller_adam_eps"] == pytest.approx(1e-3 * ratio, rel=0.05)

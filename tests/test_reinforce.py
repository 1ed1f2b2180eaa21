"""REINFORCE against the exact policy gradient of a space of 16 cells, and its parts by hand."""

import pytest
import torch
from test_controllers import ACTIVATIONS, CELLS, make_controller

from enas.controllers import RNNController, RNNControllerConfig
from enas.search_space import RNNCell
from enas.search_space.decisions import RNNSpace
from enas.training.optim import make_optimizer, set_lr
from enas.training.reinforce import Baseline, perplexity_reward, policy_loss, returns


def test_reward_is_c_over_perplexity_or_its_square():
    perplexity = torch.tensor([1.0, 4.0, 16.0, float("inf")])
    assert perplexity_reward(perplexity, 80.0, square=False).tolist() == [80, 20, 5, 0]
    assert perplexity_reward(perplexity, 80.0, square=True).tolist() == [80, 5, 0.3125, 0]


# Returns


def test_return_of_a_decision_is_the_discounted_sum_of_what_follows():
    log_probs = -torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    found = returns(torch.tensor([8.0, 4.0]), log_probs, entropy_coeff=0.1, discount=0.5)
    # 0.3 + 8 = 8.3 at the end, then 0.2 + 0.5·8.3 = 4.35 and 0.1 + 0.5·4.35 = 2.275
    torch.testing.assert_close(found, torch.tensor([[2.275, 4.35, 8.3], [1.0, 2.0, 4.0]]))


def test_without_entropy_or_discount_each_decision_earns_the_reward():
    found = returns(torch.tensor([8.0, 4.0]), torch.rand(2, 3), entropy_coeff=0.0, discount=1.0)
    assert found.tolist() == [[8.0] * 3, [4.0] * 3]


def test_returns_carry_no_gradient():
    assert not returns(torch.ones(1), torch.ones(1, 3, requires_grad=True), 0.1, 1.0).requires_grad


# Baseline


def test_advantage_is_against_the_baseline_before_these_returns():
    baseline = Baseline(0.9)
    first = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert baseline.advantage(first).tolist() == [[-1, -2], [1, 2]], "nothing is older than the first returns"
    assert baseline.value.tolist() == [2, 4]
    second = torch.tensor([[12.0, 4.0]])
    assert baseline.advantage(second).tolist() == [[10, 0]]
    torch.testing.assert_close(baseline.value, torch.tensor([3.0, 4.0]))  # 0.9·2 + 0.1·12


def test_baseline_is_an_exponential_moving_average():
    baseline, decay = Baseline(0.8), 0.8
    values = torch.rand(12, dtype=torch.float64)
    for value in values:
        baseline.advantage(value.view(1, 1))
    weights = torch.tensor([decay**11] + [(1 - decay) * decay ** (11 - k) for k in range(1, 12)], dtype=torch.float64)
    torch.testing.assert_close(baseline.value, (weights * values).sum().view(1))


def test_restored_baseline_goes_on_as_the_saved_one():
    baseline, restored = Baseline(0.5), Baseline(0.5)
    restored.load_state_dict(baseline.state_dict())
    assert restored.value is None
    baseline.advantage(torch.rand(3, 2))
    restored.load_state_dict(baseline.state_dict())
    more = torch.rand(3, 2)
    assert torch.equal(baseline.advantage(more), restored.advantage(more))
    assert torch.equal(baseline.value, restored.value)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match="ema_baseline_decay"):
        Baseline(decay)


# The gradient


def expected_policy_gradient(controller: RNNController, advantage: torch.Tensor) -> tuple:
    """The gradient of `policy_loss` in expectation: all 16 cells, each as often as its probability says."""
    log_probs = controller.log_prob(CELLS).log_probs  # [16, D]
    weight = len(CELLS) * log_probs.sum(1, keepdim=True).exp().detach()
    return torch.autograd.grad(policy_loss(log_probs, weight * advantage), list(controller.parameters()))


def gradient_of_expected_reward(controller: RNNController, rewards: torch.Tensor) -> tuple:
    probabilities = controller.log_prob(CELLS).log_probs.sum(1).exp()
    return torch.autograd.grad(-(probabilities * rewards).sum(), list(controller.parameters()))


def assert_same(found: tuple, expected: tuple) -> None:
    assert max(gradient.abs().max() for gradient in expected) > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.fixture
def controller():
    return make_controller()


@pytest.fixture
def rewards(controller):
    return torch.rand(len(CELLS), dtype=torch.float64)


def test_policy_gradient_is_the_gradient_of_the_expected_reward(controller, rewards):
    earned = returns(rewards, torch.zeros(len(CELLS), 5, dtype=torch.float64), 0.0, 1.0)
    assert_same(expected_policy_gradient(controller, earned), gradient_of_expected_reward(controller, rewards))


def test_a_baseline_leaves_the_expected_gradient_alone(controller, rewards):
    baseline = Baseline(0.95)
    baseline.value = torch.tensor([0.5, -3.0, 2.0, 0.1, 7.0], dtype=torch.float64)
    advantage = baseline.advantage(rewards.unsqueeze(1).expand(-1, 5))
    assert_same(expected_policy_gradient(controller, advantage), gradient_of_expected_reward(controller, rewards))


@pytest.mark.parametrize("has_baseline", [False, True])
def test_with_the_entropy_in_the_reward_the_gradient_is_that_of_reward_and_entropy(controller, rewards, has_baseline):
    """That of E[R] + coefficient · H, with H the entropy of the distribution over all 16 cells."""
    earned = returns(rewards, controller.log_prob(CELLS).log_probs, entropy_coeff=0.3, discount=1.0)
    if has_baseline:
        baseline = Baseline(0.95)
        baseline.value = torch.tensor([0.5, -3.0, 2.0, 0.1, 7.0], dtype=torch.float64)
        earned = baseline.advantage(earned)
    probabilities = controller.log_prob(CELLS).log_probs.sum(1).exp()
    objective = (probabilities * (rewards - 0.3 * probabilities.log())).sum()
    exact = torch.autograd.grad(-objective, list(controller.parameters()))
    assert_same(expected_policy_gradient(controller, earned), exact)


def test_no_gradient_flows_through_the_advantage():
    log_probs, advantage = torch.rand(3, 2, requires_grad=True), torch.rand(3, 2, requires_grad=True)
    loss = policy_loss(log_probs, advantage)
    torch.testing.assert_close(loss, -(log_probs * advantage).sum() / 3)
    loss.backward()
    assert advantage.grad is None
    torch.testing.assert_close(log_probs.grad, -advantage.detach() / 3)


# Learning


@pytest.mark.parametrize("planted", [CELLS[0], CELLS[6], CELLS[15]])
def test_the_best_arm_is_found(planted: RNNCell):
    torch.manual_seed(0)
    controller = RNNController(RNNSpace(3, ACTIVATIONS), RNNControllerConfig(controller_hid=16))
    optimizer, baseline = make_optimizer("adam", controller.parameters()), Baseline(0.9)
    set_lr(optimizer, 0.02)
    for _ in range(150):
        sample = controller.sample(8)
        rewards = torch.tensor([float(cell == planted) for cell in sample.architectures])
        advantage = baseline.advantage(returns(rewards, sample.log_probs, entropy_coeff=1e-3, discount=1.0))
        optimizer.zero_grad()
        policy_loss(sample.log_probs, advantage).backward()
        optimizer.step()
    probabilities = controller.log_prob(CELLS).log_probs.sum(1).exp()
    assert CELLS[probabilities.argmax()] == planted
    assert probabilities.max() > 0.5

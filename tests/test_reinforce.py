"""REINFORCE against the exact policy gradient of a space of 16 cells, and its parts by hand."""

import itertools

import pytest
import tiny
import torch
from test_controllers import ACTIVATIONS, listed, make_controller
from torch import nn

from enas.config import Config, effect_notes, read_preset
from enas.rnn.cell import RNNSpace
from enas.search.controllers import IndependentController, LSTMController
from enas.search.optim import make_optimizer, set_lr
from enas.search.reinforce import Baseline, Reinforce, policy_loss, returns
from enas.search.settings import ControllerConfig, ControllerOptimConfig, ReinforceConfig

CELLS = listed("cells")


def test_return_of_a_decision_is_the_discounted_sum_of_what_follows_and_carries_no_gradient():
    log_probs = torch.tensor([[-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    found = returns(torch.tensor([8.0, 4.0]), log_probs, entropy_coeff=0.1, discount=0.5)
    # 0.3 + 8 = 8.3 at the end, then 0.2 + 0.5·8.3 = 4.35 and 0.1 + 0.5·4.35 = 2.275
    torch.testing.assert_close(found, torch.tensor([[2.275, 4.35, 8.3], [1.0, 2.0, 4.0]]))
    assert not found.requires_grad


@pytest.mark.parametrize("name", ["cifar_macro", "cifar_micro"])
def test_the_baseline_of_a_paper_size_search_moves_as_the_authors_does(name):
    """Theirs moves by 1 % after each architecture; over all orders of an update's rewards, on average by as much."""
    settings = read_preset(name)
    decay, num = settings["ema_baseline_decay"], settings["controller_num_aggregate"]
    assert decay == pytest.approx(0.99**num, abs=5e-4)

    def one_by_one(value: float, rewards: tuple[float, ...]) -> float:
        for reward in rewards:
            value -= (1 - 0.99) * (value - reward)
        return value

    updates = [(0.3, 0.9, 0.5), (0.2, 0.2, 0.8)]
    baseline, theirs = Baseline(ReinforceConfig(ema_baseline_decay=0.99**3)), 0.4
    baseline.value = torch.tensor([theirs], dtype=torch.float64)
    for rewards in updates:
        baseline.advantage(torch.tensor(rewards, dtype=torch.float64).unsqueeze(1))
        orders = list(itertools.permutations(rewards))
        theirs = sum(one_by_one(theirs, order) for order in orders) / len(orders)
        assert baseline.value.item() == pytest.approx(theirs, rel=1e-12)


def test_advantage_is_against_the_baseline_before_these_returns():
    baseline = Baseline(ReinforceConfig(ema_baseline_decay=0.9))
    first = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert baseline.advantage(first).tolist() == [[-1, -2], [1, 2]], "nothing is older than the first returns"
    assert baseline.value.tolist() == [2, 4]
    second = torch.tensor([[12.0, 4.0]])
    assert baseline.advantage(second).tolist() == [[10, 0]]
    torch.testing.assert_close(baseline.value, torch.tensor([3.0, 4.0]))  # 0.9·2 + 0.1·12


PAIRS = ReinforceConfig(baseline="leave_one_out", controller_num_aggregate=2)


def test_leave_one_out_is_the_difference_to_the_mean_of_the_others():
    returned = torch.tensor([[1.0, 0.0], [3.0, 6.0], [8.0, 3.0]])
    found = Baseline(PAIRS).advantage(returned)
    for row in range(3):
        others = [other for other in range(3) if other != row]
        torch.testing.assert_close(found[row], returned[row] - returned[others].mean(0))
    assert Baseline(PAIRS).advantage(returned[:1]).tolist() == [[0, 0]], "one alone has no others"


def test_leave_one_out_needs_two_unless_no_controller_trains():
    """It has no effect then: a note says so."""
    with tiny.refused("controller_num_aggregate is 1; baseline leave_one_out compares"):
        Config(baseline="leave_one_out")
    for settings in ({"train_type": "random"}, {"mode": "single"}, {"mode": "derive"}):
        config = Config(baseline="leave_one_out", **settings)
        assert any("baseline" in line for line in effect_notes(["baseline"], config))


@pytest.mark.parametrize("kind", ["ema", "leave_one_out"])
def test_scaled_advantages_have_about_unit_size_whatever_the_rewards_have(kind):
    found = {}
    for scale in (1e-3, 1.0, 1e3):
        config = ReinforceConfig(baseline=kind, advantage_spread_decay=0.9, controller_num_aggregate=8)
        baseline, generator = Baseline(config), torch.Generator().manual_seed(0)
        found[scale] = [baseline.advantage(scale * torch.randn(8, 3, generator=generator)) for _ in range(50)]
    sizes = torch.stack(found[1.0][10:]).square().mean().sqrt()
    assert 0.8 < sizes < 1.25
    for scale in (1e-3, 1e3):
        torch.testing.assert_close(torch.stack(found[scale]), torch.stack(found[1.0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["ema", "leave_one_out"])
def test_equal_rewards_have_no_advantage(kind):
    """The rounding of a mean would be scaled up to a size of 1."""
    config = ReinforceConfig(baseline=kind, advantage_spread_decay=0.9, controller_num_aggregate=10)
    for percent in range(1, 100):
        baseline = Baseline(config)
        for _ in range(5):
            returned = returns(torch.full((10,), percent / 100), torch.zeros(10, 7), 0.0, 1.0)
            assert not baseline.advantage(returned).any()


@pytest.mark.parametrize("num", [1, 10])
def test_the_first_returns_say_nothing_of_the_spread_to_a_moving_average(num):
    """They are compared with their own mean, so that their spread is small, and that of one alone is 0."""
    generator = torch.Generator().manual_seed(0)
    scaled = []
    for _ in range(300):
        baseline = Baseline(ReinforceConfig(advantage_spread_decay=0.9, controller_num_aggregate=num))
        returned = [torch.randn(num, 1, generator=generator) for _ in range(3)]
        scaled.append([baseline.advantage(one).square().mean() for one in returned])
    sizes = torch.tensor(scaled).mean(0).sqrt()
    assert sizes[1] == pytest.approx(1.0) and 0.8 < sizes[2] < 1.6  # 3.2 if the first counted


def test_the_spread_is_a_moving_average_of_squares_and_survives_a_resume():
    config = ReinforceConfig(baseline="leave_one_out", advantage_spread_decay=0.75, controller_num_aggregate=2)
    saved, resumed = (Reinforce([nn.Parameter(torch.zeros(1))], config, ControllerOptimConfig()) for _ in "ab")
    first, second = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [4.0]])
    torch.testing.assert_close(saved.baseline.advantage(first), torch.tensor([[-1.0], [1.0]]))  # ±2 / 2
    resumed.set_extra_state(saved.get_extra_state())
    for baseline in (saved.baseline, resumed.baseline):
        spread = (0.75 * 4 + 0.25 * 16) ** 0.5
        torch.testing.assert_close(baseline.advantage(second), torch.tensor([[-4.0], [4.0]]) / spread)


def expected_policy_gradient(controller: LSTMController, advantage: torch.Tensor) -> tuple:
    """The gradient of `policy_loss` in expectation: all 16 cells, each as often as its probability says."""
    log_probs = controller.log_prob(CELLS).log_probs  # [16, D]
    weight = len(CELLS) * log_probs.sum(1, keepdim=True).exp().detach()
    return torch.autograd.grad(policy_loss(log_probs, weight * advantage), list(controller.parameters()))


@pytest.fixture
def controller():
    return make_controller("cells")


@pytest.fixture
def rewards(controller):
    return torch.rand(len(CELLS), dtype=torch.float64)


@pytest.mark.parametrize("has_baseline", [False, True])
@pytest.mark.parametrize("entropy_coeff", [0.0, 0.3])
def test_the_expected_gradient_is_that_of_reward_and_entropy(controller, rewards, entropy_coeff, has_baseline):
    """That of E[R] + coefficient · H, with H the entropy of the distribution over all 16 cells."""
    earned = returns(rewards, controller.log_prob(CELLS).log_probs, entropy_coeff, discount=1.0)
    if has_baseline:
        baseline = Baseline(ReinforceConfig(ema_baseline_decay=0.95))
        baseline.value = torch.tensor([0.5, -3.0, 2.0, 0.1, 7.0], dtype=torch.float64)
        earned = baseline.advantage(earned)
    probabilities = controller.log_prob(CELLS).log_probs.sum(1).exp()
    objective = (probabilities * (rewards - entropy_coeff * probabilities.log())).sum()
    exact = torch.autograd.grad(-objective, list(controller.parameters()))
    assert max(gradient.abs().max() for gradient in exact) > 1e-3
    torch.testing.assert_close(expected_policy_gradient(controller, earned), exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("num", [2, 3])
def test_leave_one_out_leaves_the_expected_gradient_alone(controller, rewards, num):
    """Over all updates of `num` of the first 6 cells, each as likely as its cells are together."""
    cells, rewards = CELLS[:6], rewards[:6]
    log_probs = controller.log_prob(cells).log_probs
    chance = torch.softmax(log_probs.sum(1), 0)  # of each of the 6, for the sum to be 1
    # The gradient of the log-probabilities of that distribution, and no longer that of the decisions alone.
    policy = chance.log().unsqueeze(1)
    loss = torch.zeros((), dtype=torch.float64)
    config = ReinforceConfig(baseline="leave_one_out", controller_num_aggregate=2)
    for rows in itertools.product(range(6), repeat=num):
        rows = list(rows)
        advantage = Baseline(config).advantage(rewards[rows].unsqueeze(1))
        loss = loss + chance[rows].prod().detach() * policy_loss(policy[rows], advantage)
    found = torch.autograd.grad(loss, list(controller.parameters()), retain_graph=True)
    expected = torch.autograd.grad(-(chance * rewards).sum(), list(controller.parameters()))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


def joint_entropy_gradient(controller) -> torch.Tensor:
    """The gradient of the entropy of the distribution over all 16 cells."""
    log_probs = controller.log_prob(CELLS).log_probs.sum(1)
    return flat(torch.autograd.grad(-(log_probs.exp() * log_probs).sum(), list(controller.parameters())))


def regularizer_gradient(controller) -> torch.Tensor:
    """The expected gradient of what entropy_mode regularizer adds to the loss, its sign turned."""
    sample = controller.log_prob(CELLS)
    chance = sample.log_probs.sum(1).exp().detach()
    return flat(torch.autograd.grad((chance * sample.entropies.sum(1)).sum(), list(controller.parameters())))


def flat(gradients) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def test_the_regularizer_of_an_lstm_leaves_out_how_decisions_change_later_entropies():
    """The lengths and directions of its gradient are those that `ReinforceConfig` tells."""
    sizes = ControllerConfig(controller_hid=8, softmax_temperature=1.0)
    lengths, cosines = [], []
    for seed in range(10):
        torch.manual_seed(seed)
        controller = tiny.enlarged(LSTMController(RNNSpace(3, ACTIVATIONS), sizes).double(), 9)
        found, exact = regularizer_gradient(controller), joint_entropy_gradient(controller)
        lengths.append((found.norm() / exact.norm()).item())
        cosines.append(torch.cosine_similarity(found, exact, dim=0).item())
        sample = controller.log_prob(CELLS)
        chance = sample.log_probs.sum(1).exp().detach()
        later = sample.entropies.detach().flip(1).cumsum(1).flip(1) - sample.entropies.detach()
        left_out = (chance.unsqueeze(1) * sample.log_probs * later).sum()
        left_out = flat(torch.autograd.grad(left_out, list(controller.parameters())))
        torch.testing.assert_close(found + left_out, exact, rtol=1e-9, atol=1e-12)
    assert [min(lengths), max(lengths), min(cosines)] == pytest.approx([0.85, 1.17, 0.96], abs=0.005)


def test_the_regularizer_of_independent_decisions_has_the_gradient_of_the_entropy():
    controller = IndependentController(RNNSpace(3, ACTIVATIONS)).double()
    with torch.no_grad():
        for weight in controller.parameters():
            weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))
    torch.testing.assert_close(regularizer_gradient(controller), joint_entropy_gradient(controller))


def test_no_gradient_flows_through_the_advantage():
    log_probs, advantage = torch.rand(3, 2, requires_grad=True), torch.rand(3, 2, requires_grad=True)
    loss = policy_loss(log_probs, advantage)
    torch.testing.assert_close(loss, -(log_probs * advantage).sum() / 3)
    loss.backward()
    assert advantage.grad is None
    torch.testing.assert_close(log_probs.grad, -advantage.detach() / 3)


def test_the_best_arm_is_found():
    torch.manual_seed(0)
    planted = CELLS[6]
    controller = LSTMController(RNNSpace(3, ACTIVATIONS), ControllerConfig(controller_hid=16))
    optimizer = make_optimizer("adam", controller.parameters())
    baseline = Baseline(ReinforceConfig(ema_baseline_decay=0.9))
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

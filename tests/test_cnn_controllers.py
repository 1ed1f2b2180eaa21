"""Controllers of convolutional spaces small enough to list: 64 macro and 256 micro networks."""

import itertools
import math

import pytest
import torch
from scipy.stats import chisquare

from enas.controllers import (
    IndependentController,
    MacroController,
    MacroControllerConfig,
    MicroController,
    MicroControllerConfig,
    RandomController,
    skip_penalty,
)
from enas.search_space import MacroNetwork, MicroCell, MicroNetwork
from enas.search_space.decisions import MacroSpace, MicroSpace

OPERATIONS = ("sep3x3", "max3x3")  # in both spaces
MACRO_SIZES = [2, 2, 2, 2, 2, 2]  # 3 layers
MICRO_SIZES = [2, 2, 2, 2] * 2  # 1 node a cell
CELLS = [
    MicroCell((pair,), (operations,))
    for pair in itertools.product((0, 1), repeat=2)
    for operations in itertools.product(OPERATIONS, repeat=2)
]
SPACES = {
    "macro": [MacroNetwork.decode(bits, OPERATIONS) for bits in itertools.product((0, 1), repeat=6)],
    "micro": [MicroNetwork(normal, reduction) for normal in CELLS for reduction in CELLS],
}
RANDOM = {
    "macro": RandomController(MacroSpace(3, OPERATIONS)),
    "micro": RandomController(MicroSpace(1, OPERATIONS)),
}

both_spaces = pytest.mark.parametrize("space", ["macro", "micro"])


def make_controller(space: str, **settings) -> MacroController | MicroController:
    """A float64 controller whose large weights prefer some architectures clearly to others."""
    torch.manual_seed(0)
    settings = {"controller_hid": 6, "softmax_temperature": 2.0, "controller_init_range": 1.5, **settings}
    if space == "macro":
        return MacroController(MacroSpace(3, OPERATIONS), MacroControllerConfig(**settings)).double()
    return MicroController(MicroSpace(1, OPERATIONS), MicroControllerConfig(**settings)).double()


def rows_of(controller, architectures) -> list[tuple[int, ...]]:
    """The decisions that make each of the architectures, in the order in which they are made."""
    return [tuple(controller.space.encode(architecture)) for architecture in architectures]


@both_spaces
def test_probabilities_of_all_architectures_sum_to_one(space):
    controller = make_controller(space)
    log_probs = controller.log_prob(SPACES[space]).log_probs.sum(1)
    assert log_probs.dtype == torch.float64
    assert len(set(SPACES[space])) == {"macro": 64, "micro": 256}[space]
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_probs.max() - log_probs.min() > math.log(3)


def test_probabilities_of_larger_cells_sum_to_one():
    controller = MicroController(
        MicroSpace(2, ("identity",)), MicroControllerConfig(controller_hid=5, controller_init_range=1.5)
    ).double()
    pairs = [list(itertools.product(range(labels), repeat=2)) for labels in (2, 3)]
    cells = [MicroCell(inputs, (("identity",) * 2,) * 2) for inputs in itertools.product(*pairs)]
    networks = [MicroNetwork(normal, reduction) for normal in cells for reduction in cells]
    assert len(networks) == (4 * 9) ** 2
    assert controller.log_prob(networks).log_probs.sum(1).exp().sum().item() == pytest.approx(1, abs=1e-12)


@both_spaces
def test_sampled_scores_equal_rescored_ones(space):
    controller = make_controller(space)
    sample = controller.sample(50)
    rescored = controller.log_prob(sample.architectures)
    assert sample.log_probs.shape == sample.entropies.shape == (50, len(controller.space.sizes))
    assert torch.equal(sample.log_probs, rescored.log_probs)
    assert torch.equal(sample.entropies, rescored.entropies)
    assert sample.log_probs.requires_grad
    if space == "macro":
        assert torch.equal(sample.penalty, rescored.penalty)
    else:
        assert sample.penalty is None


@both_spaces
def test_architectures_are_sampled_as_often_as_their_probabilities_say(space):
    controller = make_controller(space, controller_init_range=0.7)
    with torch.no_grad():
        probabilities = controller.log_prob(SPACES[space]).log_probs.sum(1).exp()
        assert_frequencies(space, controller.sample(6000).architectures, probabilities)


def assert_frequencies(space: str, sampled: list, probabilities: torch.Tensor) -> None:
    position = {architecture: index for index, architecture in enumerate(SPACES[space])}
    counts = torch.tensor([position[architecture] for architecture in sampled]).bincount(minlength=len(position))
    expected = probabilities.double() * len(sampled)
    assert expected.min() > 5
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 0.001


@both_spaces
def test_entropy_of_a_decision_is_that_of_its_distribution_given_the_ones_before(space):
    controller = make_controller(space)
    scores = controller.log_prob(SPACES[space])
    rows = rows_of(controller, SPACES[space])
    for index in range(len(controller.space.sizes)):
        # A layer's skips are drawn side by side: each depends on what came before the first of them.
        siblings: dict[tuple, dict[int, torch.Tensor]] = {}
        for row, log_probs in zip(rows, scores.log_probs, strict=True):
            siblings.setdefault(row[:index], {})[row[index]] = log_probs[index]
        for row, entropy in zip(rows, scores.entropies[:, index], strict=True):
            log_probs = torch.stack(list(siblings[row[:index]].values()))
            assert log_probs.exp().sum().item() == pytest.approx(1)
            torch.testing.assert_close(entropy, -(log_probs.exp() * log_probs).sum())


@both_spaces
def test_expected_entropies_add_up_to_the_joint_entropy(space):
    scores = make_controller(space).log_prob(SPACES[space])
    log_probs = scores.log_probs.sum(1)  # of whole architectures
    joint = -(log_probs.exp() * log_probs).sum()
    torch.testing.assert_close((log_probs.exp() * scores.entropies.sum(1)).sum(), joint)


@pytest.mark.parametrize(
    ("space", "earlier"),
    [
        ("macro", [0, 1, 2, 3]),  # the last two decisions are drawn side by side
        ("micro", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_the_last_decision_depends_on_each_earlier_one(space, earlier):
    controller = make_controller(space)
    log_probs = controller.log_prob(SPACES[space]).log_probs[:, -1].tolist()
    by_row = dict(zip(rows_of(controller, SPACES[space]), log_probs, strict=True))
    origin = (0,) * len(controller.space.sizes)
    for index in earlier:
        flipped = tuple(int(place == index) for place in range(len(origin)))
        assert by_row[flipped] != by_row[origin]


def test_both_inputs_of_a_cell_come_before_its_operations():
    """P(inputs) is a product of their own columns: it cannot depend on operations decided later."""
    controller = make_controller("micro")
    scores = controller.log_prob(SPACES["micro"]).log_probs
    seen = {}
    for network, row in zip(SPACES["micro"], scores, strict=True):
        seen.setdefault(network.normal.inputs, set()).add(tuple(row[:2].tolist()))
    assert [len(pairs) for pairs in seen.values()] == [1] * 4


@both_spaces
def test_deriving_draws_from_the_policy_that_was_trained(space):
    controller = make_controller(space)
    trained = controller.train().log_prob(SPACES[space]).log_probs
    assert torch.equal(trained, controller.eval().log_prob(SPACES[space]).log_probs)


# Attention and the penalty


def test_logits_of_skips_are_the_attention_of_the_paper():
    """The first skip decision of a network, computed by hand from the weights."""
    controller = make_controller("macro", tanh_c=2.5)
    with torch.no_grad():
        state, hidden = None, []
        for layer in range(2):
            state = controller.lstm(controller.starts[layer : layer + 1], state)
            state = controller.lstm(controller.embeddings[layer, :1], state)
            hidden.append(state[0][0])
        attention = torch.tanh(controller.key.weight @ hidden[0] + controller.query.weight @ hidden[1])
        logit = 2.5 * torch.tanh(controller.scores[1] @ attention / 2.0)
        two_way = torch.log_softmax(torch.stack([-logit, logit]), 0)
        without, with_skip = (
            controller.log_prob([MacroNetwork(("sep3x3",) * 3, ((), skips, ()))]).log_probs[0, 2]
            for skips in ((), (0,))
        )
    torch.testing.assert_close(torch.stack([without, with_skip]), two_way)


def test_the_penalty_of_twelve_layers_is_the_mean_of_eleven_sums():
    """With every probability 1/2 a pair costs KL(1/2 ‖ 0.4), and the 66 pairs of 12 layers 6 times that."""
    controller = MacroController(
        MacroSpace(12), MacroControllerConfig(controller_hid=4, controller_init_range=1e-6)
    ).double()
    pair = 0.5 * math.log(0.5 / 0.4) + 0.5 * math.log(0.5 / 0.6)
    assert controller.sample(1).penalty.item() == pytest.approx(66 / 11 * pair, rel=1e-6)


def test_one_layer_has_no_skip_to_pay_for():
    assert MacroController(MacroSpace(1), MacroControllerConfig(controller_hid=4)).sample(2).penalty.tolist() == [0, 0]


def test_the_penalty_is_the_divergence_of_the_sampled_distribution_from_the_target():
    controller = make_controller("macro")
    scores = controller.log_prob(SPACES["macro"])
    for network, log_probs, penalty in zip(SPACES["macro"], scores.log_probs, scores.penalty, strict=True):
        expected = 0.0  # one skip can be in layer 1 and two in layer 2
        for column, (layer, earlier) in {2: (1, 0), 4: (2, 0), 5: (2, 1)}.items():
            probability = math.exp(log_probs[column].item())
            skip = probability if earlier in network.skips[layer] else 1 - probability
            expected += skip * math.log(skip / 0.4) + (1 - skip) * math.log((1 - skip) / 0.6)
        assert penalty.item() == pytest.approx(expected / 2, rel=1e-9)


def test_the_penalty_alone_draws_the_skip_rate_to_the_target():
    torch.manual_seed(0)
    controller = MacroController(
        MacroSpace(4, OPERATIONS), MacroControllerConfig(controller_hid=16, softmax_temperature=1.0)
    )
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.02)
    skip_everywhere = MacroNetwork(("sep3x3",) * 4, ((), (0,), (0, 1), (0, 1, 2)))
    for _ in range(5):
        step(optimizer, -controller.log_prob([skip_everywhere]).log_probs.sum())
    assert skip_rate(controller) > 0.75
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.02)  # Adam would remember those large gradients
    for _ in range(60):
        sample = controller.sample(8)
        advantage = 0.0  # of a reward that is always the same
        step(optimizer, 0.8 * sample.penalty.mean() - advantage * sample.log_probs.sum(1).mean())
    assert skip_rate(controller) == pytest.approx(0.4, abs=0.04)


def step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def skip_rate(controller: MacroController) -> float:
    with torch.no_grad():
        networks = controller.sample(1500).architectures
    pairs = sum(layer for network in networks for layer in network.layers)
    return sum(len(skips) for network in networks for skips in network.skips) / pairs


# Learning

PLANTED = {
    "macro": MacroNetwork(("max3x3", "sep3x3", "max3x3"), ((), (0,), (1,))),
    "micro": MicroNetwork(MicroCell(((1, 0),), (("max3x3", "sep3x3"),)), MicroCell(((0, 0),), (("sep3x3",) * 2,))),
}


@both_spaces
def test_reinforce_finds_a_planted_architecture(space):
    """Reward: how many decisions agree with the planted ones. The planted network becomes the likeliest of all."""
    controller = make_controller(space, controller_hid=16, softmax_temperature=1.0, controller_init_range=0.1).float()
    planted = torch.tensor(rows_of(controller, [PLANTED[space]]))
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.02)
    for _ in range(120):
        sample = controller.sample(32)
        reward = (torch.tensor(rows_of(controller, sample.architectures)) == planted).float().mean(1)
        step(optimizer, -((reward - reward.mean()) * sample.log_probs.sum(1)).mean())
    log_probs = controller.log_prob(SPACES[space]).log_probs.sum(1)
    assert SPACES[space][log_probs.argmax()] == PLANTED[space]
    assert log_probs.max().exp() > 0.5


# Random controllers


@both_spaces
def test_a_random_controller_is_uniform(space):
    torch.manual_seed(0)
    sample = RANDOM[space].sample(6000)
    size = len(SPACES[space])
    assert_frequencies(space, sample.architectures, torch.full((size,), 1 / size))
    logs = torch.tensor([math.log(size) for size in {"macro": MACRO_SIZES, "micro": MICRO_SIZES}[space]])
    assert torch.equal(sample.log_probs, -logs.expand(6000, -1))
    assert torch.equal(sample.entropies, logs.expand(6000, -1))
    assert RANDOM[space].log_prob(SPACES[space]).log_probs.sum(1).exp().sum().item() == pytest.approx(1)


@both_spaces
def test_only_a_controller_with_parameters_is_trained(space):
    assert make_controller(space).is_trained
    assert not RANDOM[space].is_trained


# Settings


@both_spaces
def test_every_weight_is_small_and_gets_a_gradient(space):
    torch.manual_seed(0)
    controller = {
        "macro": lambda: MacroController(MacroSpace(12), MacroControllerConfig()),
        "micro": lambda: MicroController(MicroSpace(5), MicroControllerConfig()),
    }[space]()
    assert all(0.05 < weight.abs().max() <= 0.1 for weight in controller.parameters() if weight.any())
    assert not any(decoder.bias.any() for decoder in controller.decoders)
    sample = controller.sample(4)
    sample.log_probs.sum().backward()
    assert all(weight.grad.any() for weight in controller.parameters())


def test_sampled_cells_have_the_cell_output_asked_for():
    space = MicroSpace(2, cell_output="all")
    for controller in (MicroController(space, MicroControllerConfig()), RandomController(space)):
        [network] = controller.sample(1).architectures
        assert network.normal.cell_output == network.reduction.cell_output == "all"


@pytest.mark.parametrize("space", [MacroSpace, MicroSpace])
def test_an_empty_space_is_refused(space):
    with pytest.raises(ValueError, match=r"num_(layers|blocks) is 0; it must be at least 1"):
        space(0)


CHAIN = MacroNetwork(("sep3x3",) * 4, ((),) * 4)
TWO_NODES = MicroCell(((0, 1), (0, 2)), (("sep3x3",) * 2,) * 2)


@pytest.mark.parametrize(
    ("space", "architecture", "message"),
    [
        ("macro", CHAIN, "the network has 4 layers, but the space has networks of 3"),
        ("macro", CHAIN.remove_node(3), "a network with removed layers has no encoding"),
        ("macro", MacroNetwork(("conv3x3",) * 3, ((),) * 3), "cannot encode conv3x3"),
        ("micro", MicroNetwork(TWO_NODES, TWO_NODES), "the cells have 2 nodes, but the space has cells of 1"),
        ("micro", MicroNetwork(TWO_NODES, CELLS[0]), "a network of cells of 2 and 1 nodes has no encoding"),
        ("micro", PLANTED["micro"].replace_operations("identity"), "cannot encode identity"),
    ],
)
@pytest.mark.parametrize("random", [True, False])
def test_an_architecture_outside_the_space_has_no_log_prob(random, space, architecture, message):
    controller = RANDOM[space] if random else make_controller(space)
    with pytest.raises(ValueError, match=message):
        controller.log_prob([architecture])


# --- independent logits -----------------------------------------------------------------------------------------------


@both_spaces
def test_independent_probabilities_of_all_architectures_sum_to_one(space):
    torch.manual_seed(0)
    controller = IndependentController(RANDOM[space].space).double()
    for logits in controller.logits:
        torch.nn.init.normal_(logits)
    scores = controller.log_prob(SPACES[space])
    assert scores.log_probs.sum(1).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_the_penalty_of_independent_logits_is_that_of_the_same_probabilities():
    """Three layers: one skip of the second and two of the third, averaged over the two."""
    torch.manual_seed(0)
    space, target = MacroSpace(3, OPERATIONS), 0.4
    controller = IndependentController(space, skip_penalty(space, target), penalty_weight=0.8).double()
    for logits in controller.logits:
        torch.nn.init.normal_(logits)
    skips = [controller.logits[index].softmax(0)[1].item() for index in (2, 4, 5)]
    divergence = sum(p * math.log(p / target) + (1 - p) * math.log((1 - p) / (1 - target)) for p in skips)
    penalty = controller.sample(5).penalty
    torch.testing.assert_close(penalty, torch.full((5,), divergence / 2, dtype=torch.float64))
    penalty.mean().backward()
    assert all((controller.logits[index].grad is None) == (index not in (2, 4, 5)) for index in range(6))


def test_independent_logits_of_one_layer_have_no_penalty():
    space = MacroSpace(1, OPERATIONS)
    assert IndependentController(space, skip_penalty(space, 0.4)).sample(3).penalty.tolist() == [0, 0, 0]


@both_spaces
def test_probabilities_are_the_distributions_that_decisions_are_drawn_from(space):
    controller = make_controller(space)
    scores = controller.log_prob(SPACES[space])
    rows = torch.tensor(rows_of(controller, SPACES[space]))
    assert [each.shape[1] for each in scores.probabilities] == controller.space.sizes
    for index, each in enumerate(scores.probabilities):
        chosen = each.gather(1, rows[:, index : index + 1]).squeeze(1)
        torch.testing.assert_close(chosen, scores.log_probs[:, index].exp())

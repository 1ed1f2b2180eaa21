"""Controllers over spaces small enough to list, such as every cell of 3 nodes and 2 activations, 16 of them."""

import itertools
import math

import pytest
import torch
from scipy.stats import chisquare

from enas.controllers import (
    FixedController,
    IndependentController,
    RandomController,
    RNNController,
    RNNControllerConfig,
)
from enas.search_space import RNNCell
from enas.search_space.decisions import FlexibleRNNSpace, HardcodedRNNSpace, RNNSpace

ACTIVATIONS = ("ReLU", "tanh")
SIZES = (2, 1, 2, 2, 2)
DECISIONS = list(itertools.product(*map(range, SIZES)))
CELLS = [RNNCell.decode(decisions, ACTIVATIONS) for decisions in DECISIONS]


def make_controller(**settings) -> RNNController:
    """A float64 controller whose large weights prefer some cells clearly to others."""
    return _sharpened(RNNSpace(3, ACTIVATIONS), **settings)


def _sharpened(space, **settings) -> RNNController:
    torch.manual_seed(0)
    config = RNNControllerConfig(
        **{"controller_hid": 6, "softmax_temperature": 2.0, "controller_init_range": 1.5, **settings}
    )
    return RNNController(space, config).double()


FLEXIBLE_CELLS = [
    RNNCell.decode(decisions, ACTIVATIONS)
    for num_blocks in (3, 4, 5)
    for decisions in itertools.product(*map(range, RNNSpace(num_blocks, ACTIVATIONS).sizes))
]  # 16 + 96 + 768


def _hardcoded_cells(previous: tuple[int, ...]) -> list[RNNCell]:
    return [RNNCell(names, previous) for names in itertools.product(ACTIVATIONS, repeat=len(previous) + 1)]


OTHER_SPACES = {
    "flexible": (FLEXIBLE_CELLS, lambda: _sharpened(FlexibleRNNSpace(5, ACTIVATIONS))),
    "chain": (_hardcoded_cells((0, 1, 2)), lambda: _sharpened(HardcodedRNNSpace(4, ACTIVATIONS, shape="chain"))),
    "tree": (_hardcoded_cells((0, 0, 1)), lambda: _sharpened(HardcodedRNNSpace(4, ACTIVATIONS, shape="tree"))),
}
other_spaces = pytest.mark.parametrize("space", OTHER_SPACES)


def test_probabilities_of_all_cells_sum_to_one():
    controller = make_controller()
    probabilities = controller.log_prob(CELLS).log_probs.sum(1).exp()
    assert len(set(CELLS)) == 16
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-6)
    assert probabilities.max() > 3 * probabilities.min()


def test_sampled_log_probs_and_entropies_equal_rescored_ones():
    controller = make_controller()
    sample = controller.sample(50)
    rescored = controller.log_prob(sample.architectures)
    assert sample.log_probs.shape == sample.entropies.shape == (50, len(SIZES))
    assert torch.equal(sample.log_probs, rescored.log_probs)
    assert torch.equal(sample.entropies, rescored.entropies)
    assert sample.log_probs.requires_grad


def test_cells_are_sampled_as_often_as_their_probabilities_say():
    controller = make_controller()
    with torch.no_grad():
        probabilities = controller.log_prob(CELLS).log_probs.sum(1).exp()
        assert_frequencies(controller.sample(4000).architectures, probabilities)


def assert_frequencies(sampled: list[RNNCell], probabilities: torch.Tensor) -> None:
    counts = [sampled.count(cell) for cell in CELLS]
    expected = probabilities.double() * len(sampled)
    assert sum(counts) == len(sampled) and expected.min() > 5
    assert chisquare(counts, expected.numpy()).pvalue > 0.001


def test_entropy_of_a_decision_is_that_of_its_distribution_given_the_ones_before():
    scores = make_controller().log_prob(CELLS)
    for index in range(len(SIZES)):
        for row, decisions in enumerate(DECISIONS):
            siblings = {
                other[index]: scores.log_probs[r, index]
                for r, other in enumerate(DECISIONS)
                if other[:index] == decisions[:index]
            }
            log_probs = torch.stack(list(siblings.values()))
            assert log_probs.exp().sum().item() == pytest.approx(1)
            expected = -(log_probs.exp() * log_probs).sum()
            torch.testing.assert_close(scores.entropies[row, index], expected)


def test_expected_entropies_add_up_to_the_joint_entropy():
    scores = make_controller().log_prob(CELLS)
    log_probs = scores.log_probs.sum(1)  # of whole cells
    joint = -(log_probs.exp() * log_probs).sum()
    torch.testing.assert_close((log_probs.exp() * scores.entropies.sum(1)).sum(), joint)


# --- the distributions ------------------------------------------------------------------------------------------------


def marginals(controller, cells, space) -> list[torch.Tensor]:
    """The probability of each choice of each decision, summed over all cells."""
    chances = controller.log_prob(cells).log_probs.sum(1).exp()
    found = [chances.new_zeros(size) for size in space.sizes]
    for chance, cell in zip(chances, cells, strict=True):
        for choices, choice in zip(found, space.encode(cell), strict=False):
            choices[choice] += chance
    return found


def test_probabilities_are_the_distributions_that_decisions_are_drawn_from():
    controller = make_controller()
    scores = controller.log_prob(CELLS)
    assert [tuple(each.shape) for each in scores.probabilities] == [(16, size) for size in SIZES]
    for index, each in enumerate(scores.probabilities):
        chosen = each[range(16), [decisions[index] for decisions in DECISIONS]]
        torch.testing.assert_close(chosen, scores.log_probs[:, index].exp())
        torch.testing.assert_close(-(each * each.log()).sum(1), scores.entropies[:, index])
    chances = scores.log_probs.sum(1, keepdim=True).exp()
    for each, expected in zip(scores.probabilities, marginals(controller, CELLS, controller.space), strict=True):
        torch.testing.assert_close((chances * each).sum(0), expected)


# --- independent logits -----------------------------------------------------------------------------------------------


def independent(space) -> IndependentController:
    torch.manual_seed(0)
    controller = IndependentController(space).double()
    for logits in controller.logits:
        torch.nn.init.uniform_(logits, -1, 1)
    return controller


INDEPENDENT = {
    "orig": (CELLS, RNNSpace(3, ACTIVATIONS)),
    "flexible": (FLEXIBLE_CELLS, FlexibleRNNSpace(5, ACTIVATIONS)),
    "tree": (_hardcoded_cells((0, 0, 1)), HardcodedRNNSpace(4, ACTIVATIONS, shape="tree")),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_independent_probabilities_sum_to_one_and_samples_score_the_same(name):
    cells, space = INDEPENDENT[name]
    controller = independent(space)
    chances = controller.log_prob(cells).log_probs.sum(1).exp()
    assert chances.sum().item() == pytest.approx(1, abs=1e-12)
    sample = controller.sample(40)
    rescored = controller.log_prob(sample.architectures)
    assert torch.equal(sample.log_probs, rescored.log_probs) and torch.equal(sample.entropies, rescored.entropies)
    assert set(sample.architectures) <= set(cells) and len(set(sample.architectures)) > 3


def test_independent_decisions_have_the_same_distribution_in_every_cell():
    controller = independent(RNNSpace(3, ACTIVATIONS))
    for each in controller.log_prob(CELLS).probabilities:
        assert (each == each[0]).all()
    with torch.no_grad():
        probabilities = controller.log_prob(CELLS).log_probs.sum(1).exp()
    assert_frequencies(controller.sample(4000).architectures, probabilities)


def test_independent_logits_start_uniform():
    log_probs = IndependentController(RNNSpace(3, ACTIVATIONS)).log_prob(CELLS).log_probs.sum(1)
    torch.testing.assert_close(log_probs, torch.full((16,), -math.log(16)))


# --- uniform ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INDEPENDENT)
def test_uniform_probabilities_sum_to_one(name):
    cells, space = INDEPENDENT[name]
    scores = RandomController(space).log_prob(cells)
    assert scores.log_probs.sum(1).exp().sum().item() == pytest.approx(1, abs=1e-4)
    assert {cell.num_blocks for cell in RandomController(space).sample(50).architectures} <= {
        cell.num_blocks for cell in cells
    }


@pytest.mark.parametrize("num", [4, 12, 6])
def test_a_balanced_sample_makes_each_choice_equally_often(num):
    space = RNNSpace(4)
    controller = RandomController(space, is_balanced=True)
    rows = torch.tensor([space.encode(cell) for cell in controller.sample(num).architectures])
    for column, size in zip(rows.T, space.sizes, strict=True):
        counts = column.bincount(minlength=size)
        assert counts.max() - counts.min() <= (num % size > 0)
    assert controller.sample(num).architectures != controller.sample(num).architectures


# --- flexible and hardcoded -------------------------------------------------------------------------------------------


@other_spaces
def test_probabilities_of_another_space_sum_to_one(space):
    cells, make = OTHER_SPACES[space]
    probabilities = make().log_prob(cells).log_probs.sum(1).exp()
    assert len(set(cells)) == len(cells)
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-6)
    assert probabilities.max() > 3 * probabilities.min()


@other_spaces
def test_samples_of_another_space(space):
    cells, make = OTHER_SPACES[space]
    controller = make()
    sample = controller.sample(200)
    assert set(sample.architectures) <= set(cells)
    rescored = controller.log_prob(sample.architectures)
    assert torch.equal(sample.log_probs, rescored.log_probs)
    assert torch.equal(sample.entropies, rescored.entropies)


@other_spaces
def test_entropies_of_another_space_add_up_to_the_joint_entropy(space):
    cells, make = OTHER_SPACES[space]
    scores = make().log_prob(cells)
    log_probs = scores.log_probs.sum(1)
    joint = -(log_probs.exp() * log_probs).sum()
    torch.testing.assert_close((log_probs.exp() * scores.entropies.sum(1)).sum(), joint)


def test_a_flexible_controller_draws_sizes_as_often_as_it_says():
    controller = OTHER_SPACES["flexible"][1]()
    with torch.no_grad():
        probabilities = controller.log_prob(FLEXIBLE_CELLS).log_probs.sum(1).exp()
        sizes = [cell.num_blocks for cell in controller.sample(4000).architectures]
    expected = [
        4000 * sum(float(p) for p, cell in zip(probabilities, FLEXIBLE_CELLS, strict=True) if cell.num_blocks == size)
        for size in (3, 4, 5)
    ]
    assert chisquare([sizes.count(size) for size in (3, 4, 5)], expected).pvalue > 0.001


def test_decisions_that_a_smaller_cell_does_not_take_get_no_gradient():
    controller = OTHER_SPACES["flexible"][1]()
    sample = controller.log_prob([RNNCell(("tanh",) * 3, (0, 1))])
    (sample.log_probs.sum() + sample.entropies.sum()).backward()
    taken = [decoder.weight.grad is not None and bool(decoder.weight.grad.any()) for decoder in controller.decoders]
    assert taken == [True, True, False, True, True, True, False, False, False, False]  # a choice of one has none either
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in controller.parameters())
    assert not controller.decoders[0].weight.grad[:2].any()


def test_a_flexible_controller_needs_three_nodes():
    with pytest.raises(ValueError, match=r"num_blocks is 2; it must be at least 3 for train_type flexible"):
        FlexibleRNNSpace(2, ACTIVATIONS)
    controller = RNNController(FlexibleRNNSpace(3, ACTIVATIONS), RNNControllerConfig())
    assert {cell.num_blocks for cell in controller.sample(20).architectures} == {3}


@pytest.mark.parametrize("num_blocks", [2, 6])
def test_a_cell_of_another_size_has_no_log_prob(num_blocks):
    cell = RNNCell(("tanh",) * num_blocks, (0,) * (num_blocks - 1))
    with pytest.raises(ValueError, match=f"the cell has {num_blocks} nodes, but the space has cells of 3 to 5"):
        OTHER_SPACES["flexible"][1]().log_prob([cell])


def test_shapes_of_hardcoded_cells():
    shapes = {
        shape: RandomController(HardcodedRNNSpace(7, ACTIVATIONS, "all", shape=shape)).sample(1).architectures[0]
        for shape in ("chain", "tree")
    }
    assert shapes["chain"].previous == (0, 1, 2, 3, 4, 5)
    assert shapes["tree"].previous == (0, 0, 1, 1, 2, 2)
    assert shapes["tree"].cell_output == "all"


def test_a_cell_of_another_shape_has_no_log_prob():
    with pytest.raises(ValueError, match=r"the cell is not a chain: its nodes read \[0, 0, 1\]"):
        OTHER_SPACES["chain"][1]().log_prob([RNNCell(("tanh",) * 4, (0, 0, 1))])


def test_a_fixed_controller_draws_its_architecture():
    cell, other = CELLS[0], CELLS[1]
    controller = FixedController(cell)
    sample = controller.sample(3)
    assert sample.architectures == [cell] * 3 and not controller.is_trained
    assert sample.log_probs.sum(1).tolist() == sample.entropies.sum(1).tolist() == [0.0] * 3
    with pytest.raises(ValueError, match="draws only"):
        controller.log_prob([other])


def test_a_decision_depends_on_each_earlier_one():
    log_probs = make_controller().log_prob(CELLS).log_probs[:, -1]
    by_decisions = dict(zip(DECISIONS, log_probs.tolist(), strict=True))
    for index in (0, 2, 3):  # decision 1 has one choice
        flipped = tuple(1 - choice if place == index else choice for place, choice in enumerate(DECISIONS[0]))
        assert by_decisions[flipped] != by_decisions[DECISIONS[0]]


@pytest.mark.parametrize("tanh_c", [2.5, 0.0])
def test_logits_are_divided_by_the_temperature_then_squashed(tanh_c):
    controller = make_controller(softmax_temperature=5.0, tanh_c=tanh_c)
    decoder = controller.decoders[0]
    torch.nn.init.zeros_(decoder.weight)
    decoder.bias.data = torch.tensor([3.0, -1.0], dtype=torch.float64)
    logits = [2.5 * math.tanh(0.6), 2.5 * math.tanh(-0.2)] if tanh_c else [0.6, -0.2]
    found = controller.log_prob([CELLS[0], CELLS[-1]]).log_probs[:, 0]
    torch.testing.assert_close(found, torch.tensor(logits, dtype=torch.float64).log_softmax(0))


def test_deriving_draws_from_the_policy_that_was_trained():
    controller = make_controller()
    trained = controller.train().log_prob(CELLS).log_probs
    assert torch.equal(trained, controller.eval().log_prob(CELLS).log_probs)


def test_new_weights_are_small_and_biases_of_decoders_zero():
    torch.manual_seed(0)
    controller = RNNController(RNNSpace(12, ACTIVATIONS, "all"), RNNControllerConfig())
    assert all(0.05 < weight.abs().max() <= 0.1 for weight in controller.parameters() if weight.any())
    assert not any(decoder.bias.any() for decoder in controller.decoders)
    assert {cell.cell_output for cell in controller.sample(3).architectures} == {"all"}


def test_random_controller_is_uniform():
    torch.manual_seed(0)
    controller = RandomController(RNNSpace(3, ACTIVATIONS))
    sample = controller.sample(4000)
    assert_frequencies(sample.architectures, torch.full((16,), 1 / 16))
    logs = torch.tensor([math.log(size) for size in SIZES])
    assert torch.equal(sample.log_probs, -logs.expand(4000, -1))
    assert torch.equal(sample.entropies, logs.expand(4000, -1))
    assert torch.equal(controller.log_prob(CELLS).log_probs.sum(1).exp().sum(), torch.tensor(1.0))


def test_only_a_controller_with_parameters_is_trained():
    assert make_controller().is_trained
    assert not RandomController(RNNSpace(3, ACTIVATIONS)).is_trained


@pytest.mark.parametrize("make", [make_controller, lambda: RandomController(RNNSpace(3, ACTIVATIONS))])
@pytest.mark.parametrize(
    "cell, message",
    [
        (RNNCell(("ReLU",) * 2, (0,)), "the cell has 2 nodes, but the space has cells of 3"),
        (RNNCell(("ReLU",) * 4, (0, 0, 0)), "the cell has 4 nodes, but the space has cells of 3"),
        (RNNCell(("ReLU", "tanh", "sigmoid"), (0, 0)), "cannot encode sigmoid"),
        (RNNCell(("ReLU",) * 4, (0, 0, 0)).remove_node(1), "a cell with removed nodes has no encoding"),
    ],
)
def test_a_cell_outside_the_space_has_no_log_prob(make, cell, message):
    with pytest.raises(ValueError, match=message):
        make().log_prob([cell])


def test_sizes_of_the_decisions():
    assert RNNSpace(1).sizes == [4]
    assert RNNSpace(4, ("tanh", "ReLU", "identity")).sizes == [3, 1, 3, 2, 3, 3, 3]
    assert FlexibleRNNSpace(4, ("tanh",)).sizes == [4, 1, 1, 1, 2, 1, 3, 1]
    with pytest.raises(ValueError, match="num_blocks is 0"):
        RNNSpace(0)


def test_connections_are_told_from_other_decisions():
    """The near prior goes by them."""
    space, flexible, chain = RNNSpace(4), FlexibleRNNSpace(4), HardcodedRNNSpace(4, shape="chain")
    assert [space.connection(index) for index in range(7)] == [None, 1, None, 2, None, 3, None]
    assert [flexible.connection(index) for index in range(8)] == [None, None, 1, None, 2, None, 3, None]
    assert [chain.connection(index) for index in range(4)] == [None] * 4

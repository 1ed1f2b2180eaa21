"""Every controller of every registered space, and over spaces small enough to list."""

import functools
import itertools
import math
import runpy
from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import tiny
import torch
from scipy.stats import chisquare
from test_choice import TextNet
from test_own_space import EXAMPLE

from enas.choice.problem import GIVEN, Given
from enas.cnn.controllers import MacroController, MicroController, skip_penalty
from enas.cnn.macro import MacroNetwork, MacroSpace
from enas.cnn.micro import MicroCell, MicroNetwork, MicroSpace
from enas.cnn.settings import MacroControllerConfig
from enas.config import Config
from enas.rnn.cell import FlexibleRNNSpace, HardcodedRNNSpace, RNNCell, RNNSpace
from enas.search import registry
from enas.search.controllers import Controller, IndependentController, LSTMController, RandomController
from enas.search.settings import ControllerConfig
from enas.search.space import Space

with tiny.registering():
    TableSpace = runpy.run_path(str(EXAMPLE))["TableSpace"]
    REGISTERED = [(name, train_type) for name, space in registry.SPACES.items() for train_type in space.train_types]

ACTIVATIONS = ("ReLU", "tanh")
OPERATIONS = ("sep3x3", "max3x3")  # in both spaces of convolutional networks


class Listed(NamedTuple):
    """A space, how many architectures it has, its trained controller, and what the last decision depends on."""

    space: Space
    size: int
    controller: type
    config: type
    earlier: tuple[int, ...]


RNN = (LSTMController, ControllerConfig)
SPACES = {
    "cells": Listed(RNNSpace(3, ACTIVATIONS), 16, *RNN, (0, 2, 3)),  # decision 1 has one choice
    "flexible": Listed(FlexibleRNNSpace(4, ACTIVATIONS), 16 + 96, *RNN, ()),
    "chain": Listed(HardcodedRNNSpace(4, ACTIVATIONS, shape="chain"), 16, *RNN, (0, 1, 2)),
    "tree": Listed(HardcodedRNNSpace(4, ACTIVATIONS, shape="tree"), 16, *RNN, (0, 1, 2)),
    # The last two skips are drawn side by side.
    "macro": Listed(MacroSpace(3, OPERATIONS), 64, MacroController, MacroControllerConfig, (0, 1, 2, 3)),
    "micro": Listed(MicroSpace(1, OPERATIONS), 256, MicroController, ControllerConfig, (0, 1, 2, 3, 4, 5, 6)),
    "own": Listed(TableSpace(SimpleNamespace(table_layers=2)), 18, LSTMController, ControllerConfig, (1, 2)),
}
every_space = pytest.mark.parametrize("name", SPACES)


@functools.cache
def listed(name: str) -> list:
    """All architectures of a space."""
    space = SPACES[name].space
    first, *rest = space.sizes
    rows = itertools.product(range(space.first_allowed, first), *map(range, rest))
    return list(dict.fromkeys(map(space.decode, rows)))


def rows_of(space: Space, architectures) -> list[tuple[int, ...]]:
    """The decisions that make each of the architectures, in the order in which they are made."""
    return [tuple(space.encode(architecture)) for architecture in architectures]


def make_controller(name: str, **settings):
    """A float64 controller whose large weights prefer some architectures clearly to others."""
    torch.manual_seed(0)
    settings = {"controller_hid": 6, "softmax_temperature": 2.0, **settings}
    return tiny.enlarged(SPACES[name].controller(SPACES[name].space, SPACES[name].config(**settings)).double(), 15)


def make_independent(space: Space, *penalty) -> IndependentController:
    torch.manual_seed(0)
    controller = IndependentController(space, *penalty).double()
    for logits in controller.logits:
        torch.nn.init.uniform_(logits, -1, 1)
    return controller


MAKERS = {
    "lstm": make_controller,
    "independent": lambda name: make_independent(SPACES[name].space),
    "random": lambda name: RandomController(SPACES[name].space, over="labels"),
}
UNTRAINED = ("random",)
every_controller = pytest.mark.parametrize("kind", MAKERS)


def check_is_made_by_decisions(space: Space, architectures: list) -> None:
    """Every choice has a name of its own, and decisions and JSON give each architecture back."""
    assert [len(names) for names in space.choices] == list(space.sizes)
    named = [name for names in space.choices for name in names if name]
    assert len(set(named)) == len(named)
    for architecture in architectures:
        row = space.encode(architecture)
        assert space.decode([*row, *[0] * (len(space.sizes) - len(row))]) == architecture
        assert type(architecture).from_json(architecture.to_json()) == architecture


@pytest.mark.parametrize("controller_type", ["lstm", "independent"])
@pytest.mark.parametrize(("name", "train_type"), REGISTERED)
def test_every_registered_space_keeps_the_contract(name, train_type, controller_type, monkeypatch):
    """At its default size, as a run makes it: all that the package asks of a space and its controllers."""
    torch.manual_seed(0)
    monkeypatch.setitem(GIVEN, "ptb", Given(TextNet, {}))
    with tiny.registering():
        runpy.run_path(str(EXAMPLE))
        chosen = registry.SPACES[name].selected_by
        config = Config(**chosen, train_type=train_type, controller_type=controller_type)
        controller = config.space.problem().controller(config)
    space, sample = controller.space, controller.sample(4)
    check_is_made_by_decisions(space, sample.architectures)
    assert {type(architecture) for architecture in sample.architectures} == {config.space.architecture}
    if train_type in ("evolution", "local_search"):  # which draw from no distribution, see test_learners.py
        assert controller.is_trained and not [*controller.parameters()]
        return
    rescored = controller.log_prob(sample.architectures)
    torch.testing.assert_close(sample.log_probs, rescored.log_probs)
    assert sample.log_probs.shape == sample.entropies.shape == (4, len(space.sizes))
    weights = dict(controller.named_parameters())
    assert bool(weights) == controller.is_trained == (train_type != "random") == sample.log_probs.requires_grad
    if not weights:
        return
    assert all(weight.abs().max() <= 0.1 for weight in weights.values())
    assert not any(weights[key].any() for key in weights if key.startswith("decoders") and key.endswith("bias"))
    (sample.log_probs.sum() + 2 * sample.entropies.sum()).backward()
    assert all(weight.grad.isfinite().all() for weight in weights.values())
    without = {key for key, weight in weights.items() if not weight.grad.any()}
    single = {
        f"decoders.{index}.{kind}" for index, size in enumerate(space.sizes) for kind in ("weight", "bias") if size == 1
    }
    assert without == single & weights.keys() or controller_type == "independent" or train_type == "flexible"


# What every controller does in every space small enough to list


@every_space
def test_a_space_is_what_its_decisions_make(name):
    assert len(listed(name)) == SPACES[name].size
    check_is_made_by_decisions(SPACES[name].space, listed(name))


@every_controller
@every_space
def test_probabilities_of_all_architectures_sum_to_one(name, kind):
    probabilities = MAKERS[kind](name).log_prob(listed(name)).log_probs.sum(1).exp()
    assert probabilities.dtype == (torch.float32 if kind in UNTRAINED else torch.float64)
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-4 if kind in UNTRAINED else 1e-12)
    if kind == "lstm":
        assert probabilities.max() > 3 * probabilities.min()


@every_controller
@every_space
def test_samples_are_scored_as_log_prob_scores_them(name, kind):
    controller = MAKERS[kind](name)
    sample = controller.sample(50)
    rescored = controller.log_prob(sample.architectures)
    assert set(sample.architectures) <= set(listed(name)) and len(set(sample.architectures)) > 3
    assert torch.equal(sample.log_probs, rescored.log_probs)
    assert torch.equal(sample.entropies, rescored.entropies)
    assert (sample.penalty is None) == ((name, kind) != ("macro", "lstm"))
    assert sample.penalty is None or torch.equal(sample.penalty, rescored.penalty)


@every_controller
@every_space
def test_architectures_are_sampled_as_often_as_their_probabilities_say(name, kind):
    controller, architectures = MAKERS[kind](name), listed(name)
    position = {architecture: index for index, architecture in enumerate(architectures)}
    with torch.no_grad():
        expected = controller.log_prob(architectures).log_probs.sum(1).exp().double() * 6000
        sampled = controller.sample(6000).architectures
    counts = torch.tensor([position[each] for each in sampled]).bincount(minlength=len(position))
    rare = expected < 5
    pairs = [torch.cat([each[~rare], each[rare].sum().unsqueeze(0)]) for each in (counts, expected)]
    kept = pairs[1] > 5
    assert kept.sum() > 8
    observed, wanted = (each[kept].double() for each in pairs)
    assert chisquare(observed.numpy(), (wanted * observed.sum() / wanted.sum()).numpy()).pvalue > 0.001


@pytest.mark.parametrize("kind", ["lstm", "independent", "random"])
@every_space
def test_probabilities_and_entropies_are_those_that_decisions_are_drawn_from(name, kind):
    controller, architectures = MAKERS[kind](name), listed(name)
    space, scores = controller.space, controller.log_prob(architectures)
    rows = rows_of(space, architectures)
    assert [tuple(each.shape) for each in scores.probabilities] == [(len(rows), size) for size in space.sizes]
    chances = scores.log_probs.sum(1).exp()
    for index, each in enumerate(scores.probabilities):
        made = torch.tensor([index < len(row) for row in rows])
        choices = torch.tensor([row[index] for row in rows if index < len(row)])
        chosen = each[made].gather(1, choices.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(chosen, scores.log_probs[made, index].exp())
        torch.testing.assert_close(each.sum(1), torch.ones_like(chances))
        torch.testing.assert_close(torch.special.entr(each[made]).sum(1), scores.entropies[made, index])
        assert not scores.entropies[~made, index].any()
        marginal = chances.new_zeros(each.shape[1]).index_add(0, choices, chances[made])
        torch.testing.assert_close((chances[made].unsqueeze(1) * each[made]).sum(0), marginal)
        if kind != "lstm":
            assert (each == each[0]).all()  # it depends on no other decision


@pytest.mark.parametrize("name", [name for name in SPACES if SPACES[name].earlier])
def test_the_last_decision_depends_on_each_earlier_one(name):
    controller = make_controller(name)
    log_probs = controller.log_prob(listed(name)).log_probs[:, -1].tolist()
    by_row = dict(zip(rows_of(controller.space, listed(name)), log_probs, strict=True))
    origin = (0,) * len(controller.space.sizes)
    for index in SPACES[name].earlier:
        flipped = tuple(int(place == index) for place in range(len(origin)))
        assert by_row[flipped] != by_row[origin]


@pytest.mark.parametrize("name", [name for name in SPACES if name != "flexible"])
def test_random_controllers_and_new_independent_logits_are_uniform(name):
    space = SPACES[name].space
    logs = torch.tensor([math.log(size) for size in space.sizes])
    uniform = RandomController(space, over="labels")
    for scores in (uniform.sample(20), uniform.log_prob(listed(name))):
        assert torch.equal(scores.log_probs, -logs.expand(len(scores.log_probs), -1))
        assert torch.equal(scores.entropies, logs.expand(len(scores.log_probs), -1))
    log_probs = IndependentController(space).log_prob(listed(name)).log_probs.sum(1)
    torch.testing.assert_close(log_probs, torch.full((SPACES[name].size,), -math.log(SPACES[name].size)))


TWO_NODES = MicroCell(((0, 1), (0, 2)), (("sep3x3",) * 2,) * 2)
ONE_NODE = MicroCell(((0, 1),), (("sep3x3",) * 2,))


@pytest.mark.parametrize(
    ("name", "architecture", "message"),
    [
        ("cells", RNNCell(("ReLU",) * 2, (0,)), "num_blocks is 2, but the space has 3"),
        ("cells", RNNCell(("ReLU", "tanh", "sigmoid"), (0, 0)), "cannot encode sigmoid"),
        ("flexible", RNNCell(("ReLU",) * 6, (0,) * 5), "num_blocks is 6, but the space has 3 to 4"),
        ("chain", RNNCell(("tanh",) * 4, (0, 0, 1)), r"the cell is not a chain: its nodes read \[0, 0, 1\]"),
        ("macro", MacroNetwork(("sep3x3",) * 4, ((),) * 4), "num_layers is 4, but the space has 3"),
        ("macro", MacroNetwork(("conv3x3",) * 3, ((),) * 3), "cannot encode conv3x3"),
        ("micro", MicroNetwork(TWO_NODES, TWO_NODES), "num_blocks is 2, but the space has 1"),
        ("micro", MicroNetwork(ONE_NODE, ONE_NODE).replace_part("identity"), "cannot encode identity"),
        ("cells", RNNCell(("ReLU",) * 3, (0, 1), "all"), "not in the space, whose cell_output may be"),
        ("micro", MicroNetwork(replace(ONE_NODE, cell_output="all"), ONE_NODE), "whose cell_output may be another one"),
    ],
)
def test_an_architecture_outside_the_space_has_no_log_prob(name, architecture, message):
    with pytest.raises(ValueError, match=message):
        RandomController(SPACES[name].space).log_prob([architecture])


def test_a_controller_that_only_samples_has_no_log_probabilities():
    class Own(Controller):
        pass

    with tiny.refused("Own has no log-probabilities: it makes no decisions in turn"):
        Own(RNNSpace(3)).log_prob([RNNCell(("tanh",) * 3, (0, 1))])


def test_a_space_that_is_too_small_is_refused():
    tree = functools.partial(HardcodedRNNSpace, shape="tree")
    for make, least in ((RNNSpace, 1), (MacroSpace, 1), (MicroSpace, 1), (tree, 1), (FlexibleRNNSpace, 3)):
        with tiny.refused(f" is {least - 1}; it must be at least {least}"):
            make(least - 1)
    assert {cell.num_blocks for cell in RandomController(FlexibleRNNSpace(3)).sample(20).architectures} == {3}


# Recurrent cells


@pytest.mark.parametrize("tanh_c", [2.5, 0.0])
def test_logits_are_divided_by_the_temperature_then_squashed(tanh_c):
    controller, cells = make_controller("cells", softmax_temperature=5.0, tanh_c=tanh_c), listed("cells")
    decoder = controller.decoders[0]
    torch.nn.init.zeros_(decoder.weight)
    decoder.bias.data = torch.tensor([3.0, -1.0], dtype=torch.float64)
    logits = [2.5 * math.tanh(0.6), 2.5 * math.tanh(-0.2)] if tanh_c else [0.6, -0.2]
    found = controller.log_prob([cells[0], cells[-1]]).log_probs[:, 0]
    torch.testing.assert_close(found, torch.tensor(logits, dtype=torch.float64).log_softmax(0))


def test_decisions_that_a_smaller_cell_does_not_take_get_no_gradient():
    torch.manual_seed(0)
    controller = tiny.enlarged(LSTMController(FlexibleRNNSpace(5, ACTIVATIONS), ControllerConfig()), 15)
    sample = controller.log_prob([RNNCell(("tanh",) * 3, (0, 1))])
    (sample.log_probs.sum() + sample.entropies.sum()).backward()
    taken = [decoder.weight.grad is not None and bool(decoder.weight.grad.any()) for decoder in controller.decoders]
    assert taken == [True, True, False, True, True, True, False, False, False, False]  # a choice of one has none either
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in controller.parameters())
    assert not controller.decoders[0].weight.grad[:2].any()


def test_shapes_of_hardcoded_cells():
    chain, tree = (
        RandomController(HardcodedRNNSpace(7, ACTIVATIONS, "all", shape=shape)).sample(1).architectures[0]
        for shape in ("chain", "tree")
    )
    assert chain.previous == (0, 1, 2, 3, 4, 5)
    assert tree.previous == (0, 0, 1, 1, 2, 2)
    assert tree.cell_output == "all"


@pytest.mark.parametrize("space", [RNNSpace(4, cell_output="all"), MicroSpace(2, cell_output="all")])
def test_sampled_cells_have_the_cell_output_asked_for(space):
    assert '"cell_output": "loose_ends"' not in RandomController(space).sample(1).architectures[0].to_json()


# Convolutional networks: attention, the penalty


def test_probabilities_of_larger_cells_sum_to_one():
    """Only such cells have nodes that read other nodes."""
    torch.manual_seed(0)
    space = MicroSpace(2, ("identity",))
    controller = tiny.enlarged(MicroController(space, ControllerConfig(controller_hid=5)).double(), 15)
    networks = [space.decode(row) for row in itertools.product(*map(range, space.sizes))]
    assert len(networks) == (4 * 9) ** 2
    assert controller.log_prob(networks).log_probs.sum(1).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_both_inputs_of_a_cell_come_before_its_operations():
    """P(inputs) is a product of their own columns: it cannot depend on operations decided later."""
    scores = make_controller("micro").log_prob(listed("micro")).log_probs
    seen = {}
    for network, row in zip(listed("micro"), scores, strict=True):
        seen.setdefault(network.normal.inputs, set()).add(tuple(row[:2].tolist()))
    assert [len(pairs) for pairs in seen.values()] == [1] * 4


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
    controller = tiny.enlarged(MacroController(MacroSpace(12), MacroControllerConfig(controller_hid=4)).double(), 1e-5)
    pair = 0.5 * math.log(0.5 / 0.4) + 0.5 * math.log(0.5 / 0.6)
    assert controller.sample(1).penalty.item() == pytest.approx(66 / 11 * pair, rel=1e-6)


def test_one_layer_has_no_skip_to_pay_for():
    space = MacroSpace(1)
    independent = IndependentController(space, skip_penalty(space, 0.4))
    for controller in (MacroController(space, MacroControllerConfig(controller_hid=4)), independent):
        assert controller.sample(2).penalty.tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["lstm", "independent"])
def test_the_penalty_is_the_divergence_of_the_sampled_distribution_from_the_target(kind):
    space, networks = SPACES["macro"].space, listed("macro")
    independent = make_independent(space, skip_penalty(space, 0.4), 0.8)
    controller = make_controller("macro") if kind == "lstm" else independent
    scores = controller.log_prob(networks)
    for network, log_probs, penalty in zip(networks, scores.log_probs, scores.penalty, strict=True):
        expected = 0.0  # one skip can be in layer 1 and two in layer 2
        for column, (layer, earlier) in {2: (1, 0), 4: (2, 0), 5: (2, 1)}.items():
            probability = math.exp(log_probs[column].item())
            skip = probability if earlier in network.skips[layer] else 1 - probability
            expected += skip * math.log(skip / 0.4) + (1 - skip) * math.log((1 - skip) / 0.6)
        assert penalty.item() == pytest.approx(expected / 2, rel=1e-9)
    independent.sample(5).penalty.mean().backward()
    assert all((independent.logits[index].grad is None) == (index not in (2, 4, 5)) for index in range(6))

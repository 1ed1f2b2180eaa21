"""Architectures that are the same function with other labels: one form for all of them, and sampling by function."""

import copy
import functools
import itertools
import math
import random
from collections import Counter
from fractions import Fraction

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from strategies import cells, micro_cells, nodes
from torch import nn

from enas.cnn import network
from enas.cnn.macro import MacroSpace
from enas.cnn.micro import MicroCell, MicroNetwork, MicroSpace
from enas.config import Config
from enas.rnn import reference
from enas.rnn.cell import FlexibleRNNSpace, HardcodedRNNSpace, RNNCell, RNNSpace, num_trees
from enas.runs.final import named_architecture
from enas.search.architecture import MOST_NODES
from enas.search.controllers import RandomController

NAMES = ("ReLU", "tanh")
POOLS = ("avg3x3", "max3x3")
SPACES = {
    "cells3": RNNSpace(3),
    "cells": RNNSpace(4, NAMES),
    "flexible": FlexibleRNNSpace(4, NAMES),
    "chain": HardcodedRNNSpace(4, NAMES, shape="chain"),
    "tree of 6": HardcodedRNNSpace(6, NAMES, shape="tree"),
    "tree of 7": HardcodedRNNSpace(7, NAMES, shape="tree"),
    "one activation": HardcodedRNNSpace(7, ("tanh",), shape="tree"),
    "micro": MicroSpace(1, POOLS),
    "macro": MacroSpace(2, POOLS),
}
every_space = pytest.mark.parametrize("name", SPACES)


def listed(space) -> list:
    """All architectures of a space."""
    first, *rest = space.sizes
    rows = itertools.product(range(space.first_allowed, first), *map(range, rest))
    return list(dict.fromkeys(map(space.decode, rows)))


@functools.cache
def forms(num_blocks: int, operations) -> dict[MicroCell, MicroCell]:
    """All micro cells, and the canonical form of each."""
    sizes = [size for node in range(2, num_blocks + 2) for size in (node, len(operations)) * 2]
    cells_ = [MicroCell.decode(row, operations) for row in itertools.product(*map(range, sizes))]
    return {cell: cell.canonical() for cell in cells_}


def probabilities(space) -> dict:
    """Count the probability of each architecture when functions, and then their labellings, are equally likely."""
    by_size: dict = {}
    for one in listed(space):
        by_size.setdefault(getattr(one, "num_blocks", None), []).append(one)
    found = {}
    for some in by_size.values():
        labellings = Counter(one.canonical() for one in some)
        for one in some:
            found[one] = Fraction(1, len(by_size) * len(labellings) * labellings[one.canonical()])
    return found


# --- one form for each function ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_blocks", "num"), [(1, 4), (2, 16), (3, 104), (4, 752)])
def test_cells_of_few_nodes_are_so_many_functions(num_blocks, num):
    assert len({cell.canonical() for cell in listed(RNNSpace(num_blocks))}) == num == num_trees(num_blocks, 4)


def test_cells_of_six_nodes_are_50512_functions():
    """A leaf more makes every tree of one node more."""
    functions = {RNNCell((name,), ()) for name in RNNSpace(1).activations}
    for size in range(1, 6):
        functions = {
            RNNCell((*cell.activations, name), (*cell.previous, read)).canonical()
            for cell, name, read in itertools.product(functions, RNNSpace(1).activations, range(size))
        }
    assert len(functions) == 50_512 == num_trees(6, 4)


@pytest.mark.parametrize(("num_blocks", "operations"), [(1, POOLS), (2, POOLS), (3, POOLS[:1])])
def test_micro_cells_have_a_form_for_each_class_of_relabellings(num_blocks, operations):
    """Against every order of the nodes and of each node's inputs."""

    def smallest(cell: MicroCell) -> list:
        found = []
        for order in itertools.permutations(cell.nodes):
            labels = {0: 0, 1: 1, **{node: label for label, node in enumerate(order, start=2)}}
            rows = [sorted((labels[source], name) for source, name in cell.pairs[node]) for node in order]
            if all(source < label for label, row in enumerate(rows, start=2) for source, _ in row):
                found.append(rows)
        return min(found)

    found: dict = {}
    for cell, form in forms(num_blocks, operations).items():
        found.setdefault(str(smallest(cell)), set()).add(form)
    assert all(len(some) == 1 for some in found.values()) and len(set.union(*found.values())) == len(found)


def test_many_nodes_alike_do_not_take_forever():
    """A controller may come to prefer one operation and one input at every node."""
    cell = MicroCell(((0, 0),) * 12, (("identity", "identity"),) * 12)
    assert cell.canonical() == cell == cell.relabelled(random.Random(0), is_uniform=True)


@given(cells(max_blocks=8, gaps=True) | micro_cells(max_blocks=5, gaps=True), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_canonical_form_is_one_of_the_labellings_and_the_same_for_all(architecture, rng):
    form = architecture.canonical()
    assert form.canonical() == form
    twin = architecture.relabelled(rng)
    assert twin.canonical() == form and twin.cell_output == form.cell_output == architecture.cell_output
    assert sorted(map(str, twin.renumber()._parts)) == sorted(map(str, twin._parts))
    twin.check_numbered("test")


@given(cells(min_blocks=2, max_blocks=6))
@settings(deadline=None)
def test_another_activation_is_another_function(cell):
    other = next(name for name in RNNSpace(1).activations if cell.activations.count(name) != len(cell.activations))
    assert cell.replace_part(other).canonical() != cell.canonical()


# --- twins compute the same -------------------------------------------------------------------------------------------


def moved(cell: RNNCell, twin: RNNCell) -> dict[int, int]:
    """The node of the twin that each node of the cell is."""
    for order in itertools.permutations(twin.nodes[1:]):
        to = dict(zip(cell.nodes, (0, *order), strict=True))
        names = dict(zip(twin.nodes, twin.activations, strict=True))
        if {(to[i], to[j]) for i, j in cell.edges} != {*twin.edges}:
            continue
        if all(names[to[node]] == name for node, name in zip(cell.nodes, cell.activations, strict=True)):
            return to
    pytest.fail("the twin is no relabelling")


@given(cells(min_blocks=2, max_blocks=6), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_twins_among_recurrent_cells_have_equal_outputs_with_the_same_weights(cell, rng):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    projected, state, w_state = draw(5, 3, 8), draw(3, 4), draw(4, 8)
    edges = {edge: draw(4, 8) for edge in cell.edges}
    expected = reference.sequence(nodes(cell), projected, state, w_state, edges, norm_bound=5.0)
    for twin in (cell.relabelled(rng), cell.canonical()):
        to = moved(cell, twin)
        same = {(to[i], to[j]): weight for (i, j), weight in edges.items()}
        found = reference.sequence(nodes(twin), projected, state, w_state, same, norm_bound=5.0)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def moved_edges(cell: MicroCell, twin: MicroCell) -> tuple[dict[int, int], dict[tuple[int, int], tuple[int, int]]]:
    """The node of the twin that each node of the cell is; and the (node, slot) that each (node, slot) is."""
    for order in itertools.permutations(twin.nodes):
        to = {0: 0, 1: 1, **dict(zip(cell.nodes, order, strict=True))}
        slots = {}
        for node, pair in cell.pairs.items():
            wanted = [(to[source], name) for source, name in pair]
            has = [*twin.pairs[to[node]]]
            if wanted == has:
                slots |= {(node, slot): (to[node], slot) for slot in (0, 1)}
            elif wanted[::-1] == has:
                slots |= {(node, slot): (to[node], 1 - slot) for slot in (0, 1)}
        if len(slots) == 2 * len(cell.nodes):
            return to, slots
    pytest.fail("the twin is no relabelling")


def micro_network(architecture: MicroNetwork) -> network.MicroNetwork:
    torch.manual_seed(0)
    found = {"architecture": architecture.to_dict(), "num_classes": 3, "channels": 4, "num_layers": 3, "dropout": 0.0}
    made = network.MicroNetwork(**{**found, "batch_statistics": True}).double()
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.5)
    return made


def move_weights(source: network.MicroNetwork, target: network.MicroNetwork, moves: dict) -> None:
    """Give `target` the weights of `source` under other labels; its channels come in another order between cells."""

    def rearranged(module: nn.Module, order: torch.Tensor) -> dict:
        # The convolutions that read a cell's output have its channels second; what follows them does not move.
        return {key: value[:, order] if value.dim() == 4 else value for key, value in module.state_dict().items()}

    target.stem.load_state_dict(source.stem.state_dict())
    orders = [torch.arange(source.stem[0].out_channels)] * 2
    places = network.cell_places(source.config["num_layers"], source.config["channels"])
    for (name, width, _, _), old, new in zip(places, source.cells, target.cells, strict=True):
        to, slots = moves[name]
        for label in old.reads:
            new.get_submodule(f"input{label}").load_state_dict(
                rearranged(old.get_submodule(f"input{label}"), orders[label])
            )
        for (node, slot), (other, place) in slots.items():
            edge = old.get_submodule(f"edge{node}_{slot}")
            new.get_submodule(f"edge{other}_{place}").load_state_dict(edge.state_dict())
        back = {to[node]: position for position, node in enumerate(old.outputs)}
        blocks = torch.arange(len(old.outputs) * width).view(-1, width)
        orders = [orders[1], blocks[[back[node] for node in new.outputs]].flatten()]
    target.norm.load_state_dict({key: value[orders[1]] for key, value in source.norm.state_dict().items()})
    target.classifier.load_state_dict(
        {"weight": source.classifier.weight[:, orders[1]], "bias": source.classifier.bias}
    )


@given(
    st.sampled_from(["loose_ends", "all"]).flatmap(
        lambda output: st.tuples(*[micro_cells(min_blocks=3, max_blocks=3, cell_outputs=(output,))] * 2)
    ),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=15)
def test_twins_among_micro_networks_have_equal_outputs_with_the_same_weights(pair, rng):
    architecture = MicroNetwork(*pair)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    source = micro_network(architecture)
    expected = source(images)
    for twin in (architecture.relabelled(rng), architecture.canonical()):
        target = micro_network(twin)
        moves = {name: moved_edges(cell, twin.cells[name]) for name, cell in architecture.cells.items()}
        move_weights(source, target, moves)
        torch.testing.assert_close(target(images), expected, rtol=1e-12, atol=1e-12)


# --- uniform over functions -------------------------------------------------------------------------------------------


@every_space
def test_functions_and_the_labellings_of_a_function_are_drawn_equally_often(name):
    space, rng = SPACES[name], random.Random(2)
    expected = probabilities(space)
    num = max(2_000, math.ceil(5 / min(expected.values())))  # so that a chi-squared test may be made
    counts = Counter(space.draw(rng) for _ in range(num))
    assert counts.keys() <= expected.keys()
    rows = [[counts[one], float(num * p)] for one, p in expected.items()]
    functions: dict = {}
    for (one, _), row in zip(expected.items(), rows, strict=True):
        functions.setdefault(one.canonical(), []).append(row)
    sums = [[sum(column) for column in zip(*some, strict=True)] for some in functions.values()]
    for pairs in (rows, sums):
        assert len(pairs) == 1 or chisquare(*zip(*pairs, strict=True)).pvalue > 0.001


@pytest.mark.parametrize(("num_blocks", "operations"), [(3, POOLS[:1]), (2, POOLS), (4, POOLS[:1])])
def test_micro_cells_are_drawn_uniformly_over_functions_and_their_labellings(num_blocks, operations):
    """Cells of alike nodes, with automorphisms and without, and levels of one node or more are among them."""
    space, rng = MicroSpace(num_blocks, operations), random.Random(4)
    form, num = forms(num_blocks, operations), 2_500
    networks = [space.draw(rng) for _ in range(num)]
    labellings = Counter(form.values())
    drawn = Counter(cell for one in networks for cell in (one.normal, one.reduction))
    functions: Counter = Counter()
    for cell, count in drawn.items():
        functions[form[cell]] += count
    assert chisquare([functions[one] for one in labellings]).pvalue > 0.001
    expected = [2 * num / (len(labellings) * labellings[one]) for one in form.values()]
    large = [(drawn[cell], mean) for cell, mean in zip(form, expected, strict=True) if mean > 5]
    z = [(count - mean) / math.sqrt(mean) for count, mean in large]
    assert not z or sum(one * one for one in z) / len(z) == pytest.approx(1, abs=5 * math.sqrt(2 / len(z)))


def test_cells_that_exchanges_of_unlike_nodes_leave_as_they_are_are_drawn_as_often_as_others():
    """As where 4 reads 2, and 5 reads 3, and 2 and 3 are alike: exchanging these exchanges 4 and 5."""
    space, rng, form = MicroSpace(4, POOLS[:1]), random.Random(4), forms(4, POOLS[:1])
    exchanged = set()
    for cell in form:
        nodes = [sorted(pair) for pair in cell.inputs]
        for order in itertools.permutations(range(2, 6)):
            new = dict(zip(range(2, 6), order, strict=True))
            image = {new[node]: sorted(new.get(one, one) for one in pair) for node, pair in enumerate(nodes, 2)}
            is_same = all(image[node] == pair for node, pair in enumerate(nodes, 2))
            if is_same and any(nodes[node - 2] != nodes[new[node] - 2] for node in new):
                exchanged.add(form[cell])
    share = len(exchanged) / len(set(form.values()))
    drawn = [form[space._cell(rng)] in exchanged for _ in range(2_500)]
    assert len(exchanged) > 5 and sum(drawn) / len(drawn) == pytest.approx(share, abs=4 * math.sqrt(share / len(drawn)))


def test_large_micro_cells_take_no_longer_to_draw():
    """By rejection alone a cell of ten nodes took thousands of tries."""
    space, made, post = MicroSpace(12), [], MicroCell.__post_init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MicroCell, "__post_init__", lambda cell: made.append(post(cell)))
        assert {space.draw(random.Random(seed)).num_blocks for seed in range(20)} == {12}
    assert len(made) == 20 * 2 * 2  # for each cell that of levels, and its twin


def test_a_uniform_baseline_is_uniform_over_functions_whatever_a_search_draws():
    single = {"num_blocks": 4, "mode": "single", "dag_path": "random"}
    for seed in range(4):
        plain, changed = (Config(**single, random_seed=seed, uniform_over=over) for over in ("functions", "labels"))
        assert named_architecture(changed) == named_architecture(plain)


@pytest.mark.parametrize("changes", [{"train_type": "hardcoded", "architecture": "tree"}, {"train_type": "flexible"}])
def test_a_uniform_baseline_is_from_the_space_that_is_searched(changes):
    """It was drawn from all cells of the largest size."""
    config = Config(num_blocks=4, mode="single", dag_path="random", **changes)
    space = config.space.problem().space(config)
    drawn = [named_architecture(config.replace(random_seed=seed)) for seed in range(20)]
    assert all(space.decode(space.encode(one)).canonical() == one.canonical() for one in drawn)
    assert {one.num_blocks for one in drawn} == ({3, 4} if changes["train_type"] == "flexible" else {4})


def test_large_cells_are_drawn_too():
    """Of spaces that no list can hold."""
    rng = random.Random(0)
    for space in (RNNSpace(12), FlexibleRNNSpace(12), HardcodedRNNSpace(31, shape="tree"), MicroSpace(5)):
        for _ in range(5):
            one = space.draw(rng)
            row = space.encode(one)
            assert space.decode([*row, *[0] * (len(space.sizes) - len(row))]) == one
    assert num_trees(12, 4) == 32_976_302_800
    assert num_trees(MOST_NODES, 4) > 10**200 and RNNSpace(MOST_NODES).draw(rng).num_blocks == MOST_NODES


def test_samples_come_from_torchs_random_numbers_alone():
    space = RNNSpace(6)
    torch.manual_seed(5)
    before = RandomController(space).sample(8).architectures
    random.seed(0)
    torch.manual_seed(5)
    assert RandomController(space).sample(8).architectures == before
    state = torch.get_rng_state()
    apart = [RandomController(space, generator=torch.Generator().manual_seed(5)).sample(8).architectures for _ in "ab"]
    assert apart == [before] * 2 and torch.equal(torch.get_rng_state(), state)
    assert RandomController(space).sample(8).architectures != before


@pytest.mark.parametrize("changes", [{"train_type": "random"}, {"controller_start": 0.5, "max_epoch": 4}])
def test_a_resumed_search_draws_the_uniform_cells_that_it_would_have_drawn(tmp_path, changes):
    trainer = tiny.trainer(tmp_path, shared_num_sample=3, **changes)
    trainer.train_shared()
    trainer.finish_epoch()
    state = copy.deepcopy(trainer.state_dict())
    losses = tiny.spy(trainer.task, "shared_loss")
    trainer.train_shared()
    resumed = tiny.trainer(tmp_path / "resumed", shared_num_sample=3, **changes)
    resumed.load_state_dict(state)
    again = tiny.spy(resumed.task, "shared_loss")
    resumed.train_shared()
    assert [cells_ for (cells_,), _ in again] == [cells_ for (cells_,), _ in losses] and len(again) > 1


def test_labels_can_be_drawn_instead():
    """Of the cells of 3 nodes, those of two labellings are 48 of 128 by label, and 24 of 104 by function."""
    space, num = RNNSpace(3), 10_000
    twice = {one for one, p in probabilities(space).items() if p == Fraction(1, 208)}
    assert len(twice) == 48
    for settings_, share in (({}, 24 / 104), ({"over": "labels"}, 48 / 128)):
        torch.manual_seed(0)
        drawn = RandomController(space, **settings_).sample(num).architectures
        spread = math.sqrt(share * (1 - share) / num)
        assert abs(sum(one in twice for one in drawn) / num - share) < 4 * spread

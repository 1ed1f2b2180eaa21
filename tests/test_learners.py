"""Evolution, PPO, and rewards of the user's own: they learn, resume exactly, derive, and are named."""

import copy
import functools
import itertools
import json
import re
import runpy
import shutil
import statistics

import pytest
import tiny
import torch
from test_controllers import ACTIVATIONS, listed
from test_resume import _assert_same

from enas.config import Config, effect_notes
from enas.errors import UserError
from enas.report.page import report
from enas.rnn.cell import FlexibleRNNSpace, RNNCell, RNNSpace
from enas.runs import run
from enas.runs.commands import execute
from enas.search.checkpoint import Checkpoints, load_checkpoint
from enas.search.controllers import Controller, LSTMController, Sample
from enas.search.registry import REWARDS, register_controller, register_reward
from enas.search.trainer import Trainer
from enas.strategies.evolution import Evolution
from enas.strategies.ppo import PPO

LATENCY = tiny.ROOT / "examples" / "latency.py"
CELLS = listed("cells")  # 16
SHORT = {"max_epoch": 3, "shared_max_step": 4, "controller_max_step": 8, "controller_num_aggregate": 4}


@pytest.fixture(autouse=True)
def forgotten():
    """What a test registers is forgotten afterwards."""
    with tiny.registering():
        yield


# --- they learn a small known bandit ----------------------------------------------------------------------------------

PLANTED = torch.tensor(RNNSpace(3, ACTIVATIONS).encode(CELLS[6]))


def quality(space, architectures) -> torch.Tensor:
    """The share of decisions that are those of the planted cell."""
    rows = torch.tensor([list(space.encode(one)) for one in architectures])
    return (rows == PLANTED).float().mean(1)


def taught(controller, updates: int, num: int = 8) -> list[dict]:
    """Let a controller learn from samples whose rewards are their quality; the numbers that it returns."""
    controller.prepare(Config(controller_lr=0.02, ema_baseline_decay=0.9, entropy_coeff=1e-3))
    values = []
    for _ in range(updates):
        sample = controller.sample(num)
        values.append(controller.learn(sample, quality(controller.space, sample.architectures)))
    return values


@pytest.mark.parametrize(("name", "updates"), [("evolution", 30), ("ppo", 60)])
def test_the_planted_cell_is_found(name, updates):
    torch.manual_seed(0)
    space, config = RNNSpace(3, ACTIVATIONS), Config(controller_hid=16)
    controller = Evolution(space, config, 20, 5) if name == "evolution" else PPO(space, config)
    before = quality(space, controller.sample(200).architectures).mean()
    taught(controller, updates)
    after = controller.sample(200).architectures
    # A child of the planted cell lacks one of five decisions.
    assert quality(space, after).mean() > before + (0.1 if name == "evolution" else 0.3) and CELLS[6] in after
    assert statistics.mode(after) == CELLS[6] or name == "evolution"  # whose children all differ from their parents


# --- evolution --------------------------------------------------------------------------------------------------------


def test_a_child_differs_from_a_winner_in_one_decision_and_every_other_choice_is_as_likely():
    torch.manual_seed(0)
    space = FlexibleRNNSpace(5, ACTIVATIONS)
    evolution = Evolution(space, Config(), 3, 2)
    rows = [[4, 1, 0, 1, 1, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0, 0, 0], [3, 1, 0, 1, 0, 1, 1, 1, 0, 0]]
    rows = [row[: len(space.sizes)] for row in rows]
    evolution.population = [(row, reward) for row, reward in zip(rows, (0.1, 0.3, 0.2), strict=True)]
    parents, changed = [], []
    for _ in range(3000):
        child = evolution.child()
        assert space.first_allowed <= child[0] < space.sizes[0]
        parent = next(row for row in rows if sum(a != b for a, b in zip(row, child, strict=True)) == 1)
        assert space.decode(child) != space.decode(parent)
        parents.append(rows.index(parent))
        if parent is rows[0]:  # which makes all decisions
            changed.append(next(i for i, (a, b) in enumerate(zip(parent, child, strict=True)) if a != b))
    # Two draws of three with replacement: the best is among them with chance 5/9, the next is best with 3/9.
    shares = torch.tensor(parents).bincount(minlength=3) / len(parents)
    torch.testing.assert_close(shares, torch.tensor([1 / 9, 5 / 9, 3 / 9]), atol=0.03, rtol=0)
    mutable = [index for index, size in enumerate(space.sizes) if size > 1]
    counts = torch.tensor(changed).bincount(minlength=len(space.sizes))[mutable] / len(changed)
    torch.testing.assert_close(counts, torch.full_like(counts, 1 / len(mutable)), atol=0.03, rtol=0)


def test_the_oldest_die_even_the_best():
    space = RNNSpace(3, ACTIVATIONS)
    evolution = Evolution(space, Config(), 4, 2)
    rewards = torch.tensor([9.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    evolution.learn(Sample(CELLS[:6]), rewards)
    assert [reward for _, reward in evolution.population] == [2.0, 3.0, 4.0, 5.0]
    assert [space.decode(row) for row, _ in evolution.population] == CELLS[2:6]


# --- PPO --------------------------------------------------------------------------------------------------------------


def test_the_clipped_objective_is_that_of_the_paper(monkeypatch):
    """By hand, with old probabilities that differ by known ratios; its first step is that of REINFORCE."""
    torch.manual_seed(0)
    controller = PPO(RNNSpace(3, ACTIVATIONS), Config(controller_hid=16)).double()
    controller.prepare(Config(entropy_coeff=0.0))
    sample, losses = controller.sample(5), []
    ratio = torch.rand(sample.log_probs.shape, dtype=torch.float64) + 0.5
    rewards = torch.tensor([1.0, 2.0, -1.0, 0.5, 3.0])
    advantage = (rewards - rewards.mean()).unsqueeze(1)
    monkeypatch.setattr(controller.reinforce, "step", lambda loss, epoch: losses.append(loss))
    controller.learn(Sample(sample.architectures, sample.log_probs - ratio.log()), rewards)
    terms = [
        [min(r * a, min(max(r, 0.8), 1.2) * a) for r in row]
        for row, a in zip(ratio.tolist(), advantage[:, 0].tolist(), strict=True)
    ]
    assert losses[0].item() == pytest.approx(-sum(map(sum, terms)) / 5, rel=1e-6)
    controller.reinforce.baseline.value = None
    losses.clear()
    controller.learn(sample, rewards)
    found = torch.autograd.grad(losses[0], list(controller.parameters()), retain_graph=True)
    plain = -(controller.log_prob(sample.architectures).log_probs * advantage).sum(1).mean()
    torch.testing.assert_close(found, torch.autograd.grad(plain, list(controller.parameters())))


# --- as --train_type --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["evolution", "local_search", "ppo"])
def test_a_strategy_resumes_exactly_derives_and_is_reported(tmp_path, name):
    expected = tiny.run_in(tmp_path, train_type=name, **SHORT)
    assert expected.name.startswith(f"tiny_{name}_")
    folder = shutil.copytree(expected, tmp_path / "resumed" / expected.name)
    for path in Checkpoints(folder / "checkpoints").paths()[-2:]:
        path.unlink()
    execute(load_path=str(folder))
    _assert_same(folder, expected)
    history = tiny.results(folder)["history"]
    assert all("place" in entry and entry["reward"] > 0 for entry in history)
    assert [entry["entropy"] is None for entry in history] == [name != "ppo"] * 3
    tags = {"evolution": "population", "local_search": "functions", "ppo": "clipped"}
    assert len(tiny.curve(folder, f"controller/{tags[name]}")) == 6
    results = execute(load_path=str(folder), mode="derive", derive_num_sample=20)
    assert results["architecture"] is not None
    page = report([str(folder)], output=str(tmp_path / "page.html"))
    assert f"rnn, {name}, train" in (tmp_path / "page.html").read_text(), page


def test_a_stop_within_an_epoch_keeps_a_population(tmp_path):
    trainer = tiny.trainer(tmp_path, train_type="evolution", **SHORT)
    trainer.update_controller(4)
    state = copy.deepcopy(trainer.state_dict())
    path = tmp_path / "state.pt"
    torch.save(state, path)
    other = tiny.trainer(tmp_path, train_type="evolution", **SHORT)
    other.load_state_dict(load_checkpoint(path))
    assert [tuple(one) for one in other.controller.population] == [tuple(one) for one in trainer.controller.population]
    assert other.alike() == trainer.alike()
    other.controller.population[0] = (other.controller.population[0][0], 7.0)
    assert other.alike()["controller"] != trainer.alike()["controller"]


def test_a_controller_knows_the_epoch_wherever_it_samples(tmp_path):
    """While ω trains too, after a resume in the middle of an epoch, and in mode derive: as without an interruption."""
    seen = []

    class Annealed(LSTMController):
        def sample(self, num):
            seen.append(self.epoch)
            return super().sample(num)

    def trainer():
        made = tiny.trainer(tmp_path, **SHORT)
        made.controller.__class__ = Annealed
        return made

    whole = trainer()
    whole.train()
    assert [epoch for epoch, _ in itertools.groupby(seen)] == [1, 2, 3]
    later = trainer()
    later.load_state_dict(whole.state_dict())
    assert later.controller.epoch == 3
    seen.clear()
    stopped = trainer()
    with tiny.in_call(Trainer, "shared_step", 6, tiny.interrupt), pytest.raises(KeyboardInterrupt):
        stopped.train()
    state = stopped.state_dict()
    seen.clear()
    again = trainer()
    again.load_state_dict(state)
    again.train_shared()
    assert {*seen} == {2}


@pytest.mark.parametrize(
    ("name", "idle", "active"),
    [
        ("evolution", {"controller_lr": 0.02, "baseline": "leave_one_out"}, {"controller_max_step": 30}),
        ("local_search", {"entropy_coeff": 0.1, "controller_hid": 30}, {"controller_num_aggregate": 5}),
        ("ppo", {"controller_type": "independent"}, {"controller_lr": 0.02, "entropy_coeff": 0.1}),
    ],
)
def test_settings_that_a_strategy_does_not_read_are_named(name, idle, active):
    config = Config(train_type=name, **idle, **active)
    (line,) = effect_notes([*idle, *active], config)
    assert line.startswith(f"no effect with train_type {name}: {', '.join(idle)} (needs train_type other than random")


def test_settings_of_the_learning_phase_matter_to_a_registered_controller():
    config = Config(config="demo", train_type="evolution")
    assert config.controller_max_step == Config(config="demo").controller_max_step
    assert Config(config="demo", train_type="random").controller_max_step == Config().controller_max_step


def test_names_that_are_taken_or_no_names_are_refused():
    register_controller("macro", "mine", Evolution)
    taken = (("rnn", "evolution"), ("rnn", "random"), ("rnn", "enas"), ("macro", "a/b"), (None, "ppo"), (None, "mine"))
    for space, name in taken:
        with tiny.refused("cannot be registered; choose another name"):
            register_controller(space, name, Controller)
    with tiny.refused("there is no search space cnn; there are macro, micro, rnn"):
        register_controller("cnn", "mine", Controller)


# --- rewards ----------------------------------------------------------------------------------------------------------


def short(architectures, scores):
    """Prefer cells of identities, much more than good ones."""
    bonus = [1000.0 * cell.activations.count("identity") for cell in architectures]
    return scores + torch.tensor(bonus)


def test_a_reward_trains_ranks_and_is_named(tmp_path, capsys):
    config = Config(**tiny.settings(tmp_path, **SHORT, reward=short, derive_num_sample=30))
    assert config.reward == "short"
    results = run.train(config)
    assert results["reward"] == "short" and "for reward short, 3 epochs" in capsys.readouterr().out
    entry = results["history"][-1]
    assert entry["compared_by"] == "short" and entry["reward"] > 100 and entry["policy"]["best"] > 1000
    assert results["validation_perplexity"] < 40  # the architecture's own
    folder = tiny.only_run(tmp_path / "logs")
    assert tiny.params(folder)["reward"] == "short"
    scratch = run.train_scratch(folder, max_epoch=1, reward="other", log_dir=str(tmp_path / "scratch"))
    said = "no effect with mode train_scratch: reward (needs mode train or derive)"
    assert "reward" not in scratch and said in capsys.readouterr().out
    assert tiny.curve(folder, "eval/policy_short_best")
    found = results["architecture"]["activations"].count("identity")
    trainer = tiny.trainer(tmp_path, **SHORT, reward="short", derive_num_sample=30)
    sampled = trainer.deriver.shortlist()
    most = max(cell.activations.count("identity") for cell in sampled.scores)
    assert sampled.ranking[0].activations.count("identity") == most and found >= 2
    few, many = (RNNCell((name,) * 4, (0, 0, 0)) for name in ("tanh", "identity"))
    better = {few: 5.0, many: 9.0}  # perplexities: the incumbent's is lower, and its reward too
    trainer.task.evaluate = lambda cell, split, max_batches=None: better.get(cell, 9.0)
    trainer.task.rank = lambda cells, max_batches=None: [better.get(cell, 9.0) for cell in cells]
    found = trainer.deriver.shortlist(few)
    found.ranking[:], found.known[many] = [many], 9.0
    assert trainer.deriver.derivation(found).architecture == many
    report([str(folder)], output=str(tmp_path / "page.html"))
    assert "rnn, orig, train, reward short" in (tmp_path / "page.html").read_text()


def test_scores_are_rewards_of_the_task_on_one_scale(tmp_path):
    seen = []
    REWARDS["seen"] = lambda config: lambda architectures, scores: (seen.append(scores), scores)[1]
    for settings in ({"reward_c": 30.0, "ppl_square": True}, {"network_type": "cnn", "cnn_reward": "log_likelihood"}):
        place = tmp_path / str(len(seen))
        place.mkdir()
        plain, own = (tiny.trainer(place, **settings, reward=reward) for reward in ("", "seen"))
        cells = plain.controller.sample(3).architectures
        assert torch.equal(plain.judge.rewards(cells), own.judge.rewards(cells))
        ranks = torch.tensor(plain.judge.rank(cells, 1), dtype=torch.float64)
        expected = 30.0 / ranks**2 if "reward_c" in settings else ranks
        assert own.judge.rank(cells, 1) == pytest.approx(expected.tolist())
        assert own.judge.rank_metric.higher_is_better and own.judge.metric is plain.task.metric


def test_a_run_with_a_reward_does_not_go_on_without_it(tmp_path):
    expected = tiny.run_in(tmp_path, **{**SHORT, "max_epoch": 2}, reward=short)
    folder = shutil.copytree(expected, tmp_path / "resumed" / expected.name)
    Checkpoints(folder / "checkpoints").paths()[-1].unlink()
    REWARDS.clear()
    before = tiny.tree(folder)
    for action in (run.resume, run.derive):
        with tiny.refused("reward is 'short', which is not registered; --use loads its file"):
            action(folder)
    with tiny.refused("reward is 'nothing', which is not registered; --use loads its file"):
        run.train(Config(**tiny.settings(tmp_path, reward="nothing")))
    with tiny.refused("reward is 'best', but the run"):
        run.resume(folder, reward="best")
    assert tiny.tree(folder) == before and len(list((tmp_path / "logs").iterdir())) == 1
    assert run.test(folder)["test_perplexity"] > 0  # needs no reward
    shutil.rmtree(folder)
    shutil.copytree(expected, folder)
    Checkpoints(folder / "checkpoints").paths()[-1].unlink()
    run.resume(folder, reward=short)
    _assert_same(folder, expected)


def made(factor):
    def scaled(architectures, scores):
        return scores * factor

    return scaled


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, architectures, scores):
        return scores * self.factor


@pytest.mark.parametrize("make", [made, Scaled, lambda factor: functools.partial(made, factor)])
def test_two_reward_functions_of_one_name_are_not_taken_for_each_other(make):
    first, second = make(1.0), make(2.0)
    config = Config(reward=first)
    assert Config(reward=first) == config
    with tiny.refused(f"reward {config.reward}: is the name of another function too"):
        Config(reward=second)
    assert REWARDS[config.reward](config) is first
    second.__name__ = "second"
    assert REWARDS[Config(reward=second).reward](config) is second


def test_functions_of_one_name_in_two_places_and_two_lambdas_are_not_either():
    def short(architectures, scores):
        return scores

    for first, second in ((globals()["short"], short), (lambda cells, scores: scores, lambda cells, scores: -scores)):
        Config(reward=first)
        with tiny.refused("is the name of another function too"):
            Config(reward=second)


def test_a_function_does_not_take_the_name_of_a_registered_reward():
    def mine(architectures, scores):
        return scores

    for make in (lambda config: short, functools.partial(lambda reward, config: reward, reward=short)):
        register_reward("mine", make)
        with tiny.refused("reward mine: is the name of another function too"):
            Config(reward=mine)
        assert REWARDS["mine"] is make


def test_a_reward_function_of_a_notebook_is_defined_anew():
    for cell in ("def mine(cells, scores):\n    return scores", "def mine(cells, scores):\n    return -scores"):
        for _ in range(2):
            exec(cell, scope := {"__name__": "__main__"})
            config = Config(reward=scope["mine"])
            assert REWARDS["mine"](config) is scope["mine"]
    for _ in range(2):  # nothing tells them apart
        Config(reward=lambda cells, scores: scores)


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        (lambda architectures, scores: scores.mean(), "the shape []"),
        (lambda architectures, scores: None, "None"),
        (lambda architectures, scores: ["high"] * 4, "['high', 'high', 'high', 'high']"),
        (lambda architectures, scores: dict.fromkeys(architectures, 1.0), "{"),
    ],
    ids=["one", "nothing", "texts", "a dict"],
)
def test_a_reward_of_another_shape_is_refused(tmp_path, reward, says):
    REWARDS["one"] = lambda config: reward
    trainer = tiny.trainer(tmp_path, reward="one")
    with pytest.raises(UserError, match=rf"reward one returned {re.escape(says)}.*; it must return 4 numbers"):
        trainer.update_controller(4)


class Clock:
    """Every call is a second later than the one before."""

    def __init__(self):
        self.now = 0

    def __call__(self) -> float:
        self.now += 1
        return float(self.now)


@pytest.mark.parametrize("space", ["rnn", "macro", "micro"])
def test_latencies_add_up_the_operations_of_the_exported_network(tmp_path, space):
    """By a clock that gives each operation the same time, a sum is a number of operations; the table is kept."""
    names = runpy.run_path(str(LATENCY))
    sizes = tiny.SETTINGS if space == "rnn" else {**tiny.IMAGE_SETTINGS, "cnn_space": space, "cnn_num_blocks": 1}
    config, path = Config(**sizes), tmp_path / "latency.json"
    latency = names["Latency"](config, Clock(), path)
    cells = config.space.problem().controller(config).sample(4).architectures
    state = torch.get_rng_state()
    found = [latency.of(cell) for cell in cells]
    assert torch.equal(torch.get_rng_state(), state)
    unit = min(json.loads(path.read_text()).values())
    assert set(latency.table.values()) == {unit}
    network, inputs = names["module"](cells[0], config)
    with torch.inference_mode(), names["Operations"](Clock()) as executed:
        network(*inputs)
    assert found[0] / unit == pytest.approx(len(executed.times))
    again = names["Latency"](config, Clock(), path)
    again.measure = lambda cell: pytest.fail("measured again")
    assert [again.of(cell) for cell in cells] == found


def test_the_latency_is_learned(tmp_path):
    """Cells of the same quality, where tanh takes long: the policy moves to the target, cells with one tanh."""
    names, path = runpy.run_path(str(LATENCY)), tmp_path / "latency.json"
    latency = names["Latency"](Config(**{**tiny.SETTINGS, "num_blocks": 3}), Clock(), path)
    for name in latency.config.shared_rnn_activations:
        latency.of(RNNCell((name,) * 3, (0, 0)))
        latency.of(RNNCell((name,) * 3, (0, 1)))
    path.write_text(json.dumps({name: 20.0 if "tanh" in name else 1.0 for name in latency.table}))
    target = names["Latency"](latency.config, Clock(), path).of(RNNCell(("tanh", "ReLU", "ReLU"), (0, 1)))
    register_reward("latency", lambda config: names["rewarded"](config, target, clock=Clock(), path=path))
    learning = {"controller_max_step": 800, "controller_lr": 0.05, "baseline": "leave_one_out", "entropy_coeff": 0.0}
    learning |= {"controller_num_aggregate": 10, "advantage_spread_decay": 0.9, "reward": "latency", "num_blocks": 3}
    trainer = tiny.trainer(tmp_path, **learning)
    trainer.task.rewards = lambda cells: torch.ones(len(cells))

    def rewards() -> float:
        with torch.no_grad():
            return float(trainer.judge.rewards(trainer.controller.sample(100).architectures).mean())

    before = rewards()
    trainer.train_controller()
    assert 1 - rewards() < (1 - before) / 2
    with torch.no_grad():
        cells = trainer.controller.sample(100).architectures
    assert statistics.mode(cell.activations.count("tanh") for cell in cells) == 1


def test_an_example_is_a_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = tiny.settings(tmp_path, **SHORT, reward="latency")
    assert tiny.run_script(LATENCY, tiny.flags({**settings, "max_epoch": 1})) == 0
    assert tiny.params(tiny.only_run(tmp_path / "logs"))["reward"] == "latency"

"""The alternating loop: what each phase may touch, what it writes down, and what it does when a loss is not finite."""

import copy
import itertools
import math
import random
import shutil
import signal
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import main

from enas.config import Config
from enas.errors import Interrupted, TrainingDivergedError
from enas.rnn.cell import PAPER_ACTIVATIONS, RNNCell
from enas.rnn.task import LanguageTask
from enas.runs import run
from enas.runs.commands import execute
from enas.search.checkpoint import Checkpoints
from enas.search.controllers import RandomController
from enas.search.derive import summary
from enas.search.metric import ACCURACY, PERPLEXITY
from enas.search.ranks import apart
from enas.search.record import describe_comparison
from enas.search.trainer import Trainer
from enas.search.training import ROLLBACKS_BEFORE_END, SKIPS_BEFORE_ROLLBACK
from examples.markov import make_markov, markov_language


def _weights(module: torch.nn.Module) -> dict:
    return copy.deepcopy(dict(module.state_dict()))


def _is_same(module: torch.nn.Module, weights: dict) -> bool:
    return tiny.difference(dict(module.state_dict()), weights) is None


# --- the two phases ---------------------------------------------------------------------------------------------------


def test_each_phase_trains_its_own_parameters(tmp_path):
    trainer = tiny.trainer(tmp_path)
    for phase, own, other in (
        (trainer.train_shared, trainer.task.model, trainer.controller),
        (trainer.train_controller, trainer.controller, trainer.task.model),
    ):
        before = _weights(own), _weights(other)
        phase()
        assert (_is_same(own, before[0]), _is_same(other, before[1])) == (False, True)


def test_at_first_the_shared_parameters_train_on_uniform_cells_and_the_controller_waits(tmp_path):
    trainer = tiny.trainer(tmp_path, controller_start=0.5, max_epoch=4, shared_num_sample=40, save_epoch=4)
    theta = _weights(trainer.controller)
    losses, samples = tiny.spy(trainer.task, "shared_loss"), tiny.spy(trainer.controller, "sample")
    for epoch in range(4):
        trainer.train_shared()
        trainer.train_controller()
        assert _is_same(trainer.controller, theta) == (epoch < 2)
        if epoch < 2:  # of 40 uniform cells, one of the 4 activations is missing once in 25,000 draws
            assert all({cell.activations[0] for cell in cells} == set(PAPER_ACTIVATIONS) for (cells,), _ in losses)
            assert not samples
        trainer.finish_epoch()
    assert trainer.progress.total_controller_updates == 2 * tiny.SETTINGS["controller_max_step"]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_architectures_that_train_the_shared_parameters_stays_uniform(tmp_path, share):
    trainer = tiny.trainer(tmp_path, shared_uniform=share, shared_num_sample=50)
    with torch.no_grad():
        trainer.controller.decoders[0].bias[:] = torch.tensor([1000.0, 0, 0, 0])  # tanh, but for what is uniform
        trainer.controller.config = replace(trainer.controller.config, tanh_c=100.0)
    firsts: list[str] = []
    for _ in range(40):
        trainer._draw()
        firsts += [cell.activations[0] for cell in trainer.drawn]
    assert len(firsts) == 2000
    assert firsts.count("tanh") / len(firsts) == pytest.approx(1 - 0.75 * share, abs=0.05)


@pytest.mark.parametrize("changes", [{"train_type": "random"}, {"controller_start": 0.5}, {"shared_uniform": 1.0}])
def test_uniform_cells_that_train_the_shared_parameters_are_uniform_over_labels(tmp_path, changes):
    """Each labelling has weights of its own. Both nodes read node 0 in half of the cells, in 40 of 104 functions."""
    trainer = tiny.trainer(tmp_path, num_blocks=3, shared_num_sample=4000, **changes)
    trainer._draw()
    share = statistics.fmean(cell.previous == (0, 0) for cell in trainer.drawn)
    assert share == pytest.approx(0.5, abs=0.04)


def _resumed(stopped, folder, **changes):
    """The trainer of a run that goes on from where another one stopped, with other settings."""
    state = copy.deepcopy(stopped.state_dict())  # with the random states as they are, before another trainer seeds
    trainer = tiny.trainer(folder, **changes)
    trainer.load_state_dict(state)
    return trainer


def _train_epochs(trainer, num: int) -> None:
    for _ in range(num):
        trainer.train_shared()
        trainer.train_controller()
        trainer.finish_epoch()


@pytest.mark.parametrize("is_within_an_epoch", [False, True])
def test_a_longer_run_never_warms_up_again_once_the_controller_has_trained(tmp_path, is_within_an_epoch):
    settings = {"shared_max_step": 2, "save_epoch": 100, "controller_start": 0.5}
    trainer = tiny.trainer(tmp_path, **settings, max_epoch=4)
    _train_epochs(trainer, 2)
    waiting = _resumed(trainer, tmp_path, **settings, max_epoch=12)
    assert waiting.is_warming_up()  # θ is as it was: half of 12 epochs are still to come
    if is_within_an_epoch:
        trainer.train_shared()
        trainer.update_controller(1)
        trainer.progress.controller_sample += 1
    else:
        _train_epochs(trainer, 1)
    longer = _resumed(trainer, tmp_path, **settings, max_epoch=12)
    assert not longer.is_warming_up()
    _train_epochs(longer, 2)
    trained = longer.progress.epoch - 2
    assert longer.progress.total_controller_updates == trained * tiny.SETTINGS["controller_max_step"]
    assert [entry["reward"] is None for entry in longer.progress.history] == [True] * 2 + [False] * trained


def test_a_run_says_that_a_share_rounds_to_no_epoch(tmp_path, capsys):
    tiny.run_in(tmp_path, max_epoch=1, controller_start=0.25)
    line = "controller_start 0.25 of max_epoch 1 rounds to none: the controller trains from the first epoch"
    assert line in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("baseline", "num", "sizes"),
    [
        ("ema", 7, [3, 4]),
        ("leave_one_out", 7, [3, 4]),
        ("leave_one_out", 8, [3, 3, 2]),
        ("leave_one_out", 4, [4]),
        ("leave_one_out", 2, [2]),
    ],
)
def test_phases_take_as_many_steps_as_they_are_told(tmp_path, baseline, num, sizes):
    """One left over joins the update before it: for leave_one_out it would have no advantage alone, but move θ."""
    changes = {"shared_max_step": 2, "controller_max_step": num, "controller_num_aggregate": 3}
    trainer = tiny.trainer(tmp_path, baseline=baseline, **changes)
    rewarded = tiny.spy(trainer.task, "rewards")
    trainer.train_shared()
    trainer.train_controller()
    assert [len(cells) for (cells,), _ in rewarded] == sizes
    progress = trainer.progress
    assert (progress.total_shared_steps, progress.controller_sample, progress.num_rewarded) == (2, num, num)
    assert progress.total_controller_updates == len(sizes)


def test_an_update_with_one_architecture_more_is_resumed_as_such(tmp_path):
    settings = {"baseline": "leave_one_out", "controller_num_aggregate": 3, "controller_max_step": 7}
    stopped = tiny.trainer(tmp_path, **settings)
    stopped.signum = signal.SIGTERM
    with pytest.raises(Interrupted):
        stopped.train_controller()
    assert stopped.progress.controller_sample == 3
    resumed = _resumed(stopped, tmp_path, **settings)
    resumed.train_controller()
    whole = tiny.trainer(tmp_path, **settings)
    whole.train_controller()
    assert tiny.difference(*(tiny.without_clock(trainer.state_dict()) for trainer in (whole, resumed))) is None


def test_cursor_state_and_baseline_outlive_the_epoch(tmp_path):
    trainer = tiny.trainer(tmp_path, shared_max_step=3)
    for epoch in (1, 2):
        baseline = trainer.controller.reinforce.baseline
        before = baseline.value
        trainer.train_shared()
        trainer.train_controller()
        assert trainer.task.state_dict()["train"]["cursor"] == epoch * 3 * tiny.SETTINGS["shared_rnn_max_length"]
        assert trainer.task.state_dict()["state"].abs().sum() > 0
        if epoch == 1:
            trainer.finish_epoch()
    assert not torch.equal(baseline.value, before)
    decay, updates = baseline.config.ema_baseline_decay, tiny.SETTINGS["controller_max_step"]
    rewards_at_most = trainer.progress.reward_sum / updates * 2
    assert (baseline.value > before * decay**updates).all()
    assert (baseline.value < rewards_at_most).all()


@pytest.mark.parametrize("entropy_mode", ["reward", "regularizer"])
def test_the_skip_penalty_enters_the_loss_of_the_controller(tmp_path, entropy_mode):
    losses, penalties = [], []
    for weight in (0.0, 2.0):
        changes = {"cnn_skip_weight": weight, "controller_num_aggregate": 4, "entropy_mode": entropy_mode}
        trainer = tiny.trainer(tmp_path, network_type="cnn", **changes)
        made = trainer.controller.sample(4)
        trainer.controller.sample = lambda num, made=made: made
        trainer.logbook.scalars = lambda group, values, step: losses.append(values["loss"])
        trainer.train_controller()
        penalties.append(float(made.penalty.detach().mean()))
    assert penalties[0] == penalties[1] > 0
    assert losses[1] - losses[0] == pytest.approx(2.0 * penalties[1], rel=1e-4)


# --- what is written down ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a run of 3 epochs that derived after the second and the last."""
    with tiny.rendering():
        return tiny.run_in(tmp_path_factory.mktemp("finished"), max_epoch=3, save_epoch=2)


def _events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def test_metrics_are_what_they_are_called(finished):
    events = _events(finished)
    values = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for tag, found in values.items():  # see test_reference for the names
        assert all(map(math.isfinite, found)), tag
        assert (len(set(found)) == 1) == (tag == "shared/lr"), f"{tag} is {found[0]} throughout, or is not"
    assert set(values["shared/lr"]) == {tiny.SETTINGS["shared_lr"]}
    assert len(values["shared/loss"]) == 3 * tiny.SETTINGS["shared_max_step"]
    assert len(values["controller/loss"]) == 3 * tiny.SETTINGS["controller_max_step"]
    assert values["shared/perplexity"] == pytest.approx([math.exp(loss) for loss in values["shared/loss"]], rel=1e-5)
    assert 0 < min(values["shared/perplexity"]) < max(values["shared/perplexity"]) < 40
    # Two of the 7 decisions of 4 nodes have 1 or 2 choices, one has 3, four have 4.
    assert max(values["controller/entropy"]) <= math.log(1 * 2 * 3 * 4**4) + 1e-4
    assert min(values["controller/entropy"]) > 0.9 * math.log(1 * 2 * 3 * 4**4)
    assert all(80 / 40 < reward < 80 / 2 for reward in values["controller/reward"])
    history = tiny.results(finished)["history"]
    first = values["controller/reward"][: tiny.SETTINGS["controller_max_step"]]
    assert history[0]["reward"] == pytest.approx(sum(first) / len(first), rel=1e-5)
    first = values["shared/loss"][: tiny.SETTINGS["shared_max_step"]]
    assert history[0]["train_perplexity"] == pytest.approx(math.exp(sum(first) / len(first)), rel=1e-5)


def test_updates_are_counted_apart_and_rounding_noise_is_no_curve(tmp_path, finished):
    """Where an update leaves each sample out in turn, its advantages sum to 0."""
    execute(**tiny.settings(tmp_path, baseline="leave_one_out", controller_num_aggregate=2))
    folder = tiny.only_run(tmp_path / "logs")
    assert "controller/advantage" not in _events(folder).Tags()["scalars"]
    assert "controller/advantage" in _events(finished).Tags()["scalars"]
    steps = {tag: [step for step, _ in tiny.curve(folder, tag)] for tag in ("shared/loss", "controller/loss")}
    assert steps == {"shared/loss": [*range(1, 21)], "controller/loss": [*range(1, 7)]}
    assert [step for step, _ in tiny.curve(folder, "eval/policy_perplexity_mean")] == [10, 20]


def test_the_derived_architecture_is_drawn_and_kept(finished):
    results = tiny.results(finished)
    assert [entry["epoch"] for entry in results["history"]] == [1, 2, 3]
    for name in ("policy", "uniform", "compared_by", "place", "parameters", "multiply_adds"):
        assert [name in entry for entry in results["history"]] == [False, True, True]
    names = sorted(path.stem for path in (finished / "architectures").iterdir())
    assert sorted(path.stem for path in (finished / "networks").iterdir()) == names
    for name, epoch in zip(names, (2, 3), strict=True):
        step, score = epoch * tiny.SETTINGS["shared_max_step"], results["history"][epoch - 1]["validation_perplexity"]
        assert name == f"{epoch}-{step}-{score:.4f}-best"
    assert RNNCell.load(finished / "architectures" / f"{names[-1]}.json").to_dict() == results["architecture"]


@tiny.needs_dot
def test_drawings_and_policy_are_in_tensorboard(finished):
    events = _events(finished)
    assert len(events.Images("derive/best")) == len(list((finished / "networks").glob("*.png"))) == 2
    assert all(min(image.width, image.height) > 50 for image in events.Images("derive/best"))
    decisions = tiny.newest_state(finished)["progress"]["decisions"]
    assert [epoch for epoch, _ in decisions] == [2, 3]
    assert len(events.Images("derive/policy")) == 2
    for _, probabilities in decisions:
        assert [len(each) for each in probabilities] == [4, 1, 4, 2, 4, 3, 4]
        assert all(sum(each) == pytest.approx(1, abs=1e-3) for each in probabilities)


def test_a_resumed_run_leaves_the_curves_of_an_uninterrupted_one(tmp_path, finished):
    folder = shutil.copytree(finished, tmp_path / "copy")
    Checkpoints(folder / "checkpoints").paths()[-1].unlink()
    execute(load_path=str(folder))
    for tag in _events(finished).Tags()["scalars"]:
        assert tiny.curve(folder, tag) == tiny.curve(finished, tag), tag


# --- derive -----------------------------------------------------------------------------------------------------------


def _candidates(trainer, num: int) -> list:
    """The architectures that deriving samples."""
    with apart():
        return trainer.controller.sample(num).architectures


def test_the_policy_is_compared_with_uniform_sampling(tmp_path):
    """Mean, deviation and best of all sampled cells, on the minibatches that deriving reads."""
    trainer = tiny.trainer(tmp_path, derive_num_sample=20, derive_max_batches=1)
    trainer.train_shared()
    derived = trainer.derive()
    comparison, sampled = derived.comparison, _candidates(trainer, 20)
    torch.manual_seed(torch.initial_seed())
    uniform = RandomController(trainer.controller.space).sample(20).architectures
    for name, cells in {"policy": sampled, "uniform": uniform}.items():
        scores = np.array([trainer.task.rank([cell], 1)[0] for cell in cells])
        lower, median, upper = np.sort(scores)[[5, 10, 14]]  # the nearest of the sorted scores to 4.75, 9.5, 14.25
        expected = {"mean": scores.mean(), "std": scores.std(), "best": scores.min()}
        expected |= {"lower_quartile": lower, "median": median, "upper_quartile": upper}
        assert comparison[name] == pytest.approx(expected, rel=1e-5)
    score = trainer.task.rank([derived.architecture], 1)[0]
    assert comparison["place"] == 1 + sum(trainer.task.rank([cell], 1)[0] < score for cell in uniform)
    assert comparison["samples"] == 20
    assert comparison["functions"] == len({cell.canonical() for cell in sampled}) <= len(set(sampled))


@pytest.mark.parametrize("bad", [500.0, math.inf, math.nan])
@pytest.mark.parametrize("metric", [PERPLEXITY, ACCURACY], ids=lambda metric: metric.name)
def test_one_exploding_architecture_moves_neither_median_nor_quartiles(metric, bad):
    scores = [200.0 + i for i in range(49)]
    found = summary([*scores, -bad if metric.higher_is_better else bad], metric)
    worst_first = slice(None, None, 1 if metric.higher_is_better else -1)
    ends = [found["lower_quartile"], found["upper_quartile"]]
    assert found["median"] == pytest.approx(statistics.median(scores), abs=1)
    assert sorted(ends)[worst_first] == pytest.approx([212, 236][worst_first], abs=1)
    assert found["best"] == (248 if metric.higher_is_better else 200)
    spread = {"compared_by": metric.name, "place": 1, "policy": summary(scores, metric), "uniform": found}
    line = describe_comparison({**spread, "samples": 50, "functions": 40})
    assert f"uniform samples {found['median']:.1f} (quartiles {ends[0]:.1f} and {ends[1]:.1f}, best" in line
    assert f"; median {metric.name} of the policy's samples 224.0 (quartiles 212.0 and 236.0, best" in line


@pytest.mark.parametrize("size", [1, 4])
def test_the_best_of_the_shortlist_on_all_of_validation_is_derived(tmp_path, size):
    trainer = tiny.trainer(tmp_path, derive_num_sample=30, derive_max_batches=1, derive_shortlist=size)
    trainer.train_shared()
    derived = trainer.derive()
    functions = _by_function(trainer, _candidates(trainer, 30))
    assert len(functions) > 20
    scores = {one: trainer.task.rank([one], 1)[0] for cells in functions for one in cells}
    first = sorted(functions, key=lambda cells: statistics.fmean(map(scores.get, cells)))[:size]
    first = [sorted(cells, key=scores.get)[:2] for cells in first]
    full = {one: trainer.task.evaluate(one, "valid") for cells in first for one in cells}
    best = min(first, key=lambda cells: statistics.fmean(map(full.get, cells)))
    best = min(best, key=full.get) if size > 1 else best[0]
    assert (derived.architecture, derived.score) == (best, full[best])


def _by_function(trainer, sampled) -> list[list]:
    """The labellings by which deriving scores each function, at least two if there are so many."""
    functions = {}
    for one in dict.fromkeys(sampled):
        functions.setdefault(one.canonical(), []).append(one)
    return [cells if len(cells) > 1 else trainer.controller.space.twins(cells[0], 2) for cells in functions.values()]


def _scripted(trainer, sampled, scores) -> list:
    """Let deriving sample these architectures and find these scores; the lists of architectures that it asks for."""
    plain = trainer.controller.sample
    trainer.controller.sample = lambda num: replace(plain(num), architectures=[*sampled])
    trainer.task.evaluate = lambda cell, split: scores[cell]
    asked = []
    trainer.task.rank = lambda cells, batches=None: asked.append(cells) or [scores[cell] for cell in cells]
    return asked


@pytest.mark.parametrize("repeats", [1, 3])
def test_all_cells_of_a_small_space_are_one_candidate_a_function(tmp_path, repeats):
    """The 128 cells of 3 nodes are 104 functions, each with one score, however often it is sampled."""
    trainer, rng = tiny.trainer(tmp_path, num_blocks=3, derive_shortlist=200), random.Random(0)
    cells = [
        trainer.controller.space.decode(row) for row in itertools.product(*map(range, trainer.controller.space.sizes))
    ]
    scores = {cell: rng.random() for cell in cells}
    _scripted(trainer, [*cells, *cells[:40] * (repeats - 1)], scores)
    found = trainer.deriver.shortlist()
    groups = {}
    for cell in cells:
        groups.setdefault(cell.canonical(), []).append(cell)
    expected = sorted(groups.values(), key=lambda group: statistics.fmean(scores[one] for one in group))
    assert found.ranking == [min(group, key=scores.get) for group in expected]
    assert len(found.ranking) == 104
    derived = trainer.derive()
    assert derived.architecture == found.ranking[0] and derived.score == scores[derived.architecture]
    assert describe_comparison(derived.comparison).startswith(
        f"{128 + 40 * (repeats - 1)} samples, 104 different functions; "
    )


@pytest.mark.parametrize("num", [1, 2, 3, 5])
def test_a_function_scores_the_mean_over_its_labellings(tmp_path, num):
    """Sampled ones first, then twins; a function is not chosen for one lucky labelling."""
    trainer, rng = tiny.trainer(tmp_path, num_blocks=5, derive_labellings=num, derive_shortlist=9), random.Random(0)
    space = trainer.controller.space
    cells = [RNNCell(("tanh", "ReLU", "identity", "sigmoid", "tanh"), (0, 0, parent, 1)) for parent in (0, 1, 2)]
    sampled = [cells[0], *space.twins(cells[1], 4), cells[2]]
    labellings = [
        space.twins(cells[0], num),
        max(sampled[1:5], space.twins(cells[1], num), key=len),
        space.twins(cells[2], num),
    ]
    scores = {one: rng.random() for some in labellings for one in some}
    lucky = min(labellings, key=lambda some: -statistics.fmean(scores[one] for one in some))[0]
    scores[lucky] = -0.5
    asked = _scripted(trainer, sampled, scores)
    found = trainer.deriver.shortlist()
    assert {*asked[0]} == {*scores} and len(asked[0]) == len(scores)
    best = [sorted(some, key=scores.get)[:num] for some in labellings]
    assert {*asked[1]} == {one for some in best for one in some}
    assert found.ranking == [some[0] for some in sorted(best, key=lambda some: statistics.fmean(map(scores.get, some)))]


@pytest.mark.parametrize("is_uniform", [False, True])
def test_uniform_samples_are_candidates_beside_a_policy_that_proposes_one_cell(tmp_path, is_uniform):
    trainer = tiny.trainer(tmp_path, derive_num_sample=20, derive_shortlist=30, derive_uniform=is_uniform)
    one = trainer.controller.sample(1).architectures[0]
    plain = trainer.controller.sample
    trainer.controller.sample = lambda num: replace(plain(num), architectures=[one] * num)
    found = trainer.deriver.shortlist()
    functions = {cell.canonical() for cell in found.ranking}
    assert one.canonical() in functions
    assert (len(functions) > 15) == is_uniform
    derived = trainer.derive()
    assert derived.comparison["functions"] == 1  # of the policy's own samples
    assert derived.comparison["policy"]["std"] == 0 < derived.comparison["uniform"]["std"]


def test_finalists_are_no_twins_and_the_incumbent_stands_for_its_function(tmp_path):
    trainer = tiny.trainer(tmp_path, derive_num_sample=40, derive_shortlist=9)
    space, found = trainer.controller.space, trainer.deriver.shortlist()
    second = next(cell for cell in found.ranking if len(space.twins(cell, 2)) > 1)
    incumbent = space.twins(second, 2)[1]
    finalists = replace(found, incumbent=incumbent).best(9)
    assert len(finalists) == 9 and finalists == [incumbent if cell == second else cell for cell in found.ranking]
    assert replace(found, incumbent=RNNCell(("tanh",), ())).best(2) == [*found.ranking[:2], RNNCell(("tanh",), ())]


def test_a_shortlist_of_images_goes_by_the_measure_of_rewards(tmp_path, monkeypatch):
    """The log-likelihood of all validation images chooses; the score told is the accuracy of what it has chosen."""
    settings = {"network_type": "cnn", "cnn_reward": "log_likelihood", "derive_num_sample": 8, "derive_shortlist": 8}
    trainer = tiny.trainer(tmp_path, derive_max_batches=1, **settings)
    trainer.train_shared()
    networks = list(dict.fromkeys(_candidates(trainer, 8)))
    likelihood = dict(zip(networks, trainer.task.rank(networks), strict=True))
    accuracy = {one: trainer.task.evaluate(one, "valid") for one in networks}
    assert sorted(networks, key=likelihood.get) != sorted(networks, key=accuracy.get)
    shortlist = trainer.deriver.shortlist().ranking
    derived = trainer.derive()
    assert len({one.canonical() for one in networks}) == len(networks)
    assert shortlist == sorted(networks, key=likelihood.get, reverse=True)
    assert (derived.architecture, derived.score) == (shortlist[0], accuracy[shortlist[0]])


def test_deriving_samples_a_whole_space(tmp_path):
    """All uniform samples are scored already."""
    trainer = tiny.trainer(tmp_path, network_type="cnn", cnn_num_layers=1, derive_num_sample=60)
    derived = trainer.derive()
    assert len({*trainer.deriver.shortlist().scores}) == 6 and derived.comparison["functions"] == 6


def test_derive_passes_over_scores_that_are_not_numbers(tmp_path):
    trainer = tiny.trainer(tmp_path, derive_labellings=1)
    trainer.task.rank = lambda cells, batches: [math.nan, 9.0, math.nan, 8.0, 8.5][: len(cells)]
    cells = _candidates(trainer, 5)
    assert trainer.derive().architecture == cells[3]


# --- losses that are not finite ---------------------------------------------------------------------------------------


def _spoil(trainer: Trainer, steps: set[int], value: float = math.nan) -> list[int]:
    """Make the loss of some calls (first 0) not finite; returns the list of calls, which grows."""
    calls, shared_loss = [], trainer.task.shared_loss

    def spoiled(architectures):
        loss, nll = shared_loss(architectures)
        calls.append(len(calls))
        return (loss * value, nll * value) if calls[-1] in steps else (loss, nll)

    trainer.task.shared_loss = spoiled
    return calls


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, value):
    trainer = tiny.trainer(tmp_path, shared_max_step=1)
    _spoil(trainer, {0, 2}, value)
    before, progress = _weights(trainer.task.model), trainer.progress
    for is_same in (True, False, False):
        progress.shared_step = 0
        trainer.train_shared()
        assert _is_same(trainer.task.model, before) == is_same
    assert (progress.skipped, progress.skipped_in_a_row, progress.rollbacks) == (2, 1, 0)
    assert (progress.total_shared_steps, progress.value_count) == (3, 1)
    assert math.isfinite(progress.value_sum)
    assert all(torch.isfinite(weight).all() for weight in trainer.task.model.parameters())
    assert trainer.task.state_dict()["state"] is None  # the next minibatch starts from zero


def test_several_in_a_row_roll_back_with_half_the_learning_rate(tmp_path):
    trainer = tiny.trainer(tmp_path, shared_max_step=12)
    trainer.save()
    saved = _weights(trainer.task.model)
    calls = _spoil(trainer, set(range(3, 3 + SKIPS_BEFORE_ROLLBACK)))
    restored, load = [], trainer.load_state_dict
    trainer.load_state_dict = lambda state: (load(state), restored.append(_weights(trainer.task.model)))
    time.sleep(0.3)
    trainer.train_shared()
    assert trainer.clocks()["wall_seconds"] >= 0.3  # what is rolled back takes its time all the same
    assert tiny.difference(restored, [saved]) is None
    assert (trainer.progress.rollbacks, trainer.progress.lr_scale) == (1, 0.5)
    assert trainer.progress.skipped == SKIPS_BEFORE_ROLLBACK
    assert trainer.progress.shared_step == trainer.progress.value_count == 12
    assert len(calls) == 3 + SKIPS_BEFORE_ROLLBACK + 12
    assert trainer.shared_optimizer.param_groups[0]["lr"] == tiny.SETTINGS["shared_lr"] / 2
    assert all(torch.isfinite(weight).all() for weight in trainer.task.model.parameters())


def test_single_skips_do_not_add_up_to_a_rollback(tmp_path):
    trainer = tiny.trainer(tmp_path, shared_max_step=20)
    trainer.save()
    _spoil(trainer, set(range(0, 20, 2)))
    trainer.train_shared()
    assert (trainer.progress.skipped, trainer.progress.rollbacks) == (10, 0)


def test_a_run_whose_losses_stay_non_finite_ends(tmp_path):
    trainer = tiny.trainer(tmp_path)
    calls = _spoil(trainer, set(range(1000)))
    with pytest.raises(TrainingDivergedError, match=r"diverged.*lower the shared learning rate"):
        trainer.train()
    assert len(calls) == SKIPS_BEFORE_ROLLBACK * (ROLLBACKS_BEFORE_END + 1)
    assert trainer.progress.lr_scale == 0.5**ROLLBACKS_BEFORE_END
    assert trainer.progress.skipped == len(calls)


@pytest.mark.parametrize("broken_by", [14, 18, 20])
def test_weights_that_were_saved_broken_are_not_returned_to(tmp_path, broken_by):
    """The run is saved after step 20: before it returns to a checkpoint if step 18 or 20 breaks the weights."""
    trainer = tiny.trainer(tmp_path, max_epoch=3, max_save_num=3)
    step = trainer.step_shared

    def breaking():
        step()
        if trainer.progress.total_shared_steps == broken_by and trainer.progress.lr_scale == 1.0:
            for weight in trainer.task.model.parameters():
                weight.data *= 1e30

    trainer.step_shared = breaking
    trainer.train()
    assert (trainer.progress.rollbacks, trainer.progress.lr_scale) == (1, 0.5)
    assert trainer.progress.history[-1]["validation_perplexity"] < 100


@pytest.mark.parametrize("what", ["reward", "gradient"])
def test_an_update_of_the_controller_that_is_not_finite_changes_nothing(tmp_path, monkeypatch, what):
    trainer = tiny.trainer(tmp_path)
    before = [weight.detach().clone() for weight in trainer.controller.parameters()]
    if what == "reward":
        trainer.task.rewards = lambda cells: torch.full((len(cells),), math.nan)
    else:
        monkeypatch.setattr("enas.search.controllers.policy_loss", lambda log_probs, _: (log_probs * math.inf).sum())
    trainer.train_controller()
    after = [weight.detach() for weight in trainer.controller.parameters()]
    assert tiny.difference(after, before) is None
    assert (trainer.controller.reinforce.baseline.value is None) == (what == "reward")
    assert trainer.progress.total_controller_updates == 0


def test_skipped_updates_do_not_count_in_the_mean_reward(tmp_path):
    trainer = tiny.trainer(tmp_path, controller_max_step=6, controller_num_aggregate=2)
    made = torch.tensor([[1.0, 4.0], [1.0, math.nan], [3.0, 8.0]])
    left = iter(made)
    trainer.task.rewards = lambda cells: next(left)
    trainer.train_controller()
    trainer.finish_epoch()
    expected = made[[0, 2]].mean().item()
    assert trainer.progress.history[0]["reward"] == pytest.approx(expected)


# --- times ------------------------------------------------------------------------------------------------------------


def test_seconds_of_a_core_are_summed_over_resumes(tmp_path, monkeypatch):
    clock = [10.0]
    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    trainer = tiny.trainer(tmp_path)
    clock[0] = 13.0
    state = trainer.state_dict()
    clock[0] = 50.0
    trainer.load_state_dict(state)
    clock[0] = 52.0
    assert trainer.clocks()["cpu_seconds"] == trainer.state_dict()["progress"]["cpu_seconds"] == 5.0


@pytest.mark.parametrize("mode", ["train", "train_scratch"])
def test_the_seconds_of_a_run_are_those_of_training_and_evaluation(tmp_path, monkeypatch, mode):
    """An epoch's evaluation belongs to it, a resumed run counts on, and what comes after training takes none."""
    evaluate = LanguageTask.evaluate
    monkeypatch.setattr(LanguageTask, "evaluate", lambda *args: (time.sleep(0.3), evaluate(*args))[1])
    config = Config(**tiny.settings(tmp_path, mode=mode))
    returned = run.train(config, None if mode == "train" else RNNCell(("tanh", "ReLU"), (0,)))
    folder = tiny.only_run(tmp_path / "logs")
    seconds = [entry["wall_seconds"] for entry in returned["history"]]
    assert seconds[0] >= 0.3 and seconds[1] >= seconds[0] + 0.2  # rounded to tenths
    for results in (returned, tiny.results(folder), run.test(folder), run.resume(folder)):
        assert results["wall_seconds"] == results["history"][-1]["wall_seconds"] == seconds[1]
    longer = [entry["wall_seconds"] for entry in run.resume(folder, max_epoch=3)["history"]]
    assert longer[:2] == seconds and longer[2] >= seconds[1] + 0.2


# --- it learns --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_comes_near_the_floor_of_a_known_language(tmp_path):
    words, floor = 12, math.exp(markov_language(num_words=12).entropy_rate())
    make_markov(tmp_path / "data" / "tiny", num_tokens=60_000, num_words=words)
    sizes = {"batch_size": 64, "shared_embed": 48, "shared_hid": 48, "shared_rnn_max_length": 20}
    schedule = {"shared_max_step": 100, "max_epoch": 3, "save_epoch": 3, "derive_num_sample": 20}
    optim = {"shared_optim": "adam", "shared_lr": 0.01, "shared_lr_cosine": True}
    results = execute(**tiny.settings(tmp_path, **tiny.CALM, **sizes, **schedule, **optim))
    assert 0.97 * floor < results["validation_perplexity"] < 1.15 * floor


def test_a_controller_that_diverges_ends_the_run_in_a_line_that_names_the_setting(tmp_path, capsys):
    assert main(tiny.flags(tiny.settings(tmp_path, controller_lr=1e30))) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: training diverged: the controller's parameters are not finite")
    assert "controller_lr" in err and len(err.splitlines()) == 1


def test_no_phase_goes_on_with_a_controller_that_is_not_finite(tmp_path):
    trainer = tiny.trainer(tmp_path)
    next(trainer.controller.parameters()).data.fill_(math.nan)
    for phase in (lambda: trainer.update_controller(2), trainer.train_shared, trainer.derive):
        with tiny.refused("the controller's parameters are not finite; lower controller_lr", TrainingDivergedError):
            phase()


@pytest.mark.parametrize("mode", ["reward", "regularizer"])
@pytest.mark.parametrize("controller_type", ["lstm", "independent"])
def test_entropy_alone_makes_the_policy_uniform(tmp_path, mode, controller_type):
    """With rewards that are all alike its weight is all that is learned from, up to the largest entropy there is."""
    trainer = tiny.trainer(
        tmp_path, entropy_mode=mode, entropy_coeff=1.0, controller_type=controller_type, controller_lr=0.05,
        baseline="leave_one_out", controller_num_aggregate=20, controller_max_step=3000, controller_grad_clip=0.0,
    )  # fmt: skip
    with torch.no_grad():
        for name, weight in trainer.controller.named_parameters():
            if weight.dim() == 1 and not name.startswith("lstm"):  # logits, or their biases
                weight.copy_(torch.linspace(-2, 2, len(weight)))
    trainer.task.rewards = lambda some: torch.zeros(len(some))
    largest = sum(math.log(size) for size in trainer.controller.space.sizes)

    def entropy() -> float:
        with torch.no_grad():
            return float(trainer.controller.sample(100).entropies.sum(1).mean())

    before = entropy()
    trainer.train_controller()
    assert before < 0.95 * largest < 0.99 * largest < entropy() <= 1.0001 * largest

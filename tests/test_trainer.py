"""The alternating loop: what each phase may touch, what it writes down, and what it does when a loss is not finite."""

import copy
import dataclasses
import json
import math
import signal
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import main

from enas.config import Config
from enas.data.builtin import make_markov, markov_perplexity_floor
from enas.errors import Interrupted, TrainingDivergedError, UserError
from enas.rnn.cell import PAPER_ACTIVATIONS, RNNCell
from enas.rnn.task import LanguageTask
from enas.runs import run
from enas.runs.commands import execute
from enas.runs.logbook import Logbook
from enas.search.checkpoint import Checkpoints
from enas.search.controllers import RandomController
from enas.search.derive import Deriver, summary
from enas.search.metric import ACCURACY, PERPLEXITY
from enas.search.progress import describe_comparison
from enas.search.ranks import apart
from enas.search.trainer import Trainer
from enas.search.training import ROLLBACKS_BEFORE_END, SKIPS_BEFORE_ROLLBACK


def _weights(module: torch.nn.Module) -> dict:
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def _is_same(module: torch.nn.Module, weights: dict) -> bool:
    return tiny.difference(dict(module.state_dict()), weights) is None


# --- the two phases ---------------------------------------------------------------------------------------------------


def test_each_phase_trains_its_own_parameters(tmp_path):
    trainer = tiny.trainer(tmp_path)
    omega, theta = _weights(trainer.task.model), _weights(trainer.controller)
    trainer.train_shared()
    assert _is_same(trainer.controller, theta)
    assert not _is_same(trainer.task.model, omega)

    omega = _weights(trainer.task.model)
    trainer.train_controller()
    assert _is_same(trainer.task.model, omega)
    assert not _is_same(trainer.controller, theta)


def test_at_first_the_shared_parameters_train_on_uniform_cells_and_the_controller_waits(tmp_path, monkeypatch):
    trainer = tiny.trainer(tmp_path, controller_start=0.5, max_epoch=4, shared_num_sample=4, shared_balanced=True)
    theta, sampled = _weights(trainer.controller), []
    shared_loss = trainer.task.shared_loss
    monkeypatch.setattr(trainer.task, "shared_loss", lambda cells: (sampled.append(cells), shared_loss(cells))[1])
    monkeypatch.setattr(trainer.controller, "sample", _fail_before(trainer, 2, trainer.controller.sample))
    trainer.config = dataclasses.replace(trainer.config, save_epoch=4)
    for epoch in range(4):
        trainer.train_shared()
        trainer.train_controller()
        assert _is_same(trainer.controller, theta) == (epoch < 2)
        if epoch < 2:  # balanced: each of the 4 activations once
            assert all({cell.activations[0] for cell in cells} == set(PAPER_ACTIVATIONS) for cells in sampled)
        trainer.finish_epoch()
    assert trainer.progress.total_controller_updates == 2 * tiny.SETTINGS["controller_max_step"]


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


SHORT = {"shared_max_step": 2, "save_epoch": 100, "controller_start": 0.5}


def test_a_longer_run_never_warms_up_again_once_the_controller_has_trained(tmp_path):
    trainer = tiny.trainer(tmp_path, **SHORT, max_epoch=4)
    _train_epochs(trainer, 2)
    waiting = _resumed(trainer, tmp_path, **SHORT, max_epoch=12)
    assert waiting.is_warming_up()  # θ is as it was: half of 12 epochs are still to come
    _train_epochs(trainer, 1)
    longer = _resumed(trainer, tmp_path, **SHORT, max_epoch=12)
    assert not longer.is_warming_up()
    _train_epochs(longer, 3)
    assert longer.progress.total_controller_updates == 4 * tiny.SETTINGS["controller_max_step"]
    assert [entry["reward"] is None for entry in longer.progress.history] == [True] * 2 + [False] * 4


def test_a_run_stopped_within_the_controllers_first_epoch_never_warms_up_again(tmp_path):
    trainer = tiny.trainer(tmp_path, **SHORT, max_epoch=4)
    _train_epochs(trainer, 2)
    trainer.train_shared()
    trainer.update_controller(1)
    trainer.progress.controller_sample += 1
    longer = _resumed(trainer, tmp_path, **SHORT, max_epoch=12)
    longer.train_controller()
    assert longer.progress.total_controller_updates == tiny.SETTINGS["controller_max_step"]


def _fail_before(trainer, epoch, sample):
    def guarded(num):
        assert trainer.progress.epoch >= epoch
        return sample(num)

    return guarded


@pytest.mark.parametrize(("max_epoch", "share"), [(2, 0.75), (3, 0.9)])
def test_a_share_that_leaves_the_controller_no_epoch_is_refused(tmp_path, capsys, max_epoch, share):
    argv = tiny.flags(tiny.settings(tmp_path, max_epoch=max_epoch, controller_start=share))
    tiny.refusal(argv, tmp_path, capsys)


@pytest.mark.parametrize("max_epoch", [1, 2])
def test_a_share_that_rounds_to_no_epoch_is_said(tmp_path, capsys, max_epoch):
    execute(**tiny.settings(tmp_path, max_epoch=max_epoch, controller_start=0.25))
    line = f"controller_start 0.25 of max_epoch {max_epoch} rounds to none: the controller trains from the first epoch"
    assert line in capsys.readouterr().out.splitlines()


def test_uniform_samples_need_a_space(tmp_path):
    made = tiny.trainer(tmp_path, controller_start=0.5)
    del made.controller.space
    with pytest.raises(UserError, match="controller_start needs uniform samples"):
        Trainer(made.task, made.controller, Config(**tiny.settings(tmp_path, controller_start=0.5)))


def test_the_controller_is_rewarded_without_dropout(tmp_path, monkeypatch):
    trainer = tiny.trainer(tmp_path)
    modes = []
    score = trainer.task.model.score
    monkeypatch.setattr(
        trainer.task.model, "score", lambda *args: (modes.append(trainer.task.model.training), score(*args))[1]
    )
    trainer.train_shared()
    trainer.train_controller()
    assert modes == [False] * tiny.SETTINGS["controller_max_step"]


def test_phases_take_as_many_steps_as_they_are_told(tmp_path):
    trainer = tiny.trainer(tmp_path, shared_max_step=7, controller_max_step=8, controller_num_aggregate=3)
    trainer.train_shared()
    trainer.train_controller()
    assert (trainer.progress.total_shared_steps, trainer.progress.controller_sample) == (7, 8)
    assert trainer.progress.total_controller_updates == 3  # of 3, 3 and 2 architectures


@pytest.mark.parametrize(("num", "sizes"), [(7, [3, 4]), (8, [3, 3, 2]), (9, [3, 3, 3]), (4, [4]), (2, [2])])
def test_leave_one_out_never_scores_one_architecture_alone(tmp_path, num, sizes):
    """One left over joins the update before it: alone it would have no advantage, and θ would move all the same."""
    trainer = tiny.trainer(tmp_path, baseline="leave_one_out", controller_num_aggregate=3, controller_max_step=num)
    found = []
    rewards = trainer.task.rewards
    trainer.task.rewards = lambda cells: (found.append(len(cells)), rewards(cells))[1]
    trainer.train_controller()
    assert found == sizes
    assert (trainer.progress.controller_sample, trainer.progress.num_rewarded) == (num, num)


def test_an_update_with_one_architecture_more_is_resumed_as_such(tmp_path):
    settings = {"baseline": "leave_one_out", "controller_num_aggregate": 3, "controller_max_step": 7}
    whole = tiny.trainer(tmp_path, **settings)
    whole.train_controller()
    stopped = tiny.trainer(tmp_path, **settings)
    stopped.signals.received = signal.SIGTERM
    with pytest.raises(Interrupted):
        stopped.train_controller()
    assert stopped.progress.controller_sample == 3
    resumed = _resumed(stopped, tmp_path, **settings)
    resumed.train_controller()
    ends = [tiny.without_clock(trainer.state_dict()) for trainer in (whole, resumed)]
    assert tiny.difference(*ends) is None


def test_cursor_and_state_outlive_the_epoch(tmp_path):
    trainer = tiny.trainer(tmp_path, shared_max_step=3)
    for epoch in (1, 2):
        trainer.train_shared()
        trainer.finish_epoch()
        assert trainer.task.state_dict()["train"]["cursor"] == epoch * 3 * tiny.SETTINGS["shared_rnn_max_length"]
    assert trainer.task.state_dict()["state"].abs().sum() > 0


def test_the_baseline_outlives_the_epoch(tmp_path):
    trainer = tiny.trainer(tmp_path)
    trainer.train_controller()
    trainer.finish_epoch()
    before = trainer.baseline.value.clone()
    trainer.train_controller()
    assert not torch.equal(trainer.baseline.value, before)
    decay, updates = trainer.reinforce.ema_baseline_decay, tiny.SETTINGS["controller_max_step"]
    rewards_at_most = trainer.progress.reward_sum / updates * 2
    assert (trainer.baseline.value > before * decay**updates).all()
    assert (trainer.baseline.value < rewards_at_most).all()


def test_a_random_controller_is_not_trained(tmp_path):
    results = execute(**tiny.settings(tmp_path, train_type="random"))
    state = tiny.newest_state(tiny.only_run(tmp_path / "logs"))
    assert state["controller"] == {} and state["controller_optimizer"] is None
    assert state["progress"]["total_controller_updates"] == 0
    assert [entry["reward"] for entry in results["history"]] == [None, None]
    assert isinstance(tiny.trainer(tmp_path, train_type="random").controller, RandomController)


def test_several_architectures_a_shared_step(tmp_path):
    results = execute(**tiny.settings(tmp_path, shared_num_sample=3, controller_num_aggregate=4))
    assert math.isfinite(results["validation_perplexity"])


@pytest.mark.parametrize("entropy_mode", ["reward", "regularizer"])
def test_the_skip_penalty_enters_the_loss_of_the_controller(tmp_path, entropy_mode):
    losses, penalties = {}, {}
    for weight in (0.0, 2.0):
        trainer = tiny.trainer(
            tmp_path, network_type="cnn", cnn_skip_weight=weight, controller_num_aggregate=4, entropy_mode=entropy_mode
        )
        samples, logged = [], []
        sample = trainer.controller.sample
        trainer.controller.sample = lambda num, sample=sample, samples=samples: (samples.append(sample(num)), samples)[
            1
        ][-1]
        trainer.logbook.scalars = lambda group, values, step, logged=logged: logged.append(values["loss"])
        trainer.train_controller()
        (losses[weight],), (made,) = logged, samples
        penalties[weight] = float(made.penalty.detach().mean())
    assert penalties[0.0] == penalties[2.0] > 0
    assert losses[2.0] - losses[0.0] == pytest.approx(2.0 * penalties[2.0], rel=1e-4)


# --- what is written down ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a run of 3 epochs that derived after the second and the last."""
    folder = tmp_path_factory.mktemp("finished")
    with tiny.rendering():
        execute(**tiny.settings(folder, max_epoch=3, save_epoch=2))
    return tiny.only_run(folder / "logs")


def _events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return events.Reload()


def test_every_metric_is_logged_and_says_something(finished):
    events = _events(finished)
    every = {
        *(f"controller/{name}" for name in ("loss", "reward", "entropy", "advantage", "baseline")),
        *(f"shared/{name}" for name in ("loss", "perplexity", "grad_norm", "lr")),
        "eval/validation_perplexity",
        *(f"eval/{who}_{name}" for who in ("policy", "uniform") for name in tiny.SUMMARY),
    }
    assert set(events.Tags()["scalars"]) == every
    for tag in every - {"shared/lr"}:
        values = [event.value for event in events.Scalars(tag)]
        assert len(set(values)) > 1, f"{tag} is always {values[0]}"
        assert all(map(math.isfinite, values)), tag
    assert {event.value for event in events.Scalars("shared/lr")} == {tiny.SETTINGS["shared_lr"]}


def test_metrics_are_what_they_are_called(finished):
    events = _events(finished)
    values = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert len(values["shared/loss"]) == 3 * tiny.SETTINGS["shared_max_step"]
    assert len(values["controller/loss"]) == 3 * tiny.SETTINGS["controller_max_step"]
    assert values["shared/perplexity"] == pytest.approx([math.exp(loss) for loss in values["shared/loss"]], rel=1e-5)
    assert 0 < min(values["shared/perplexity"]) < max(values["shared/perplexity"]) < 40
    # Two of the 7 decisions of 4 nodes have 1 or 2 choices, one has 3, four have 4.
    assert max(values["controller/entropy"]) <= math.log(1 * 2 * 3 * 4**4) + 1e-4
    assert min(values["controller/entropy"]) > 0.9 * math.log(1 * 2 * 3 * 4**4)
    assert all(80 / 40 < reward < 80 / 2 for reward in values["controller/reward"])
    history = json.loads((finished / "results.json").read_text())["history"]
    first = values["controller/reward"][: tiny.SETTINGS["controller_max_step"]]
    assert history[0]["reward"] == pytest.approx(sum(first) / len(first), rel=1e-5)
    first = values["shared/loss"][: tiny.SETTINGS["shared_max_step"]]
    assert history[0]["train_perplexity"] == pytest.approx(math.exp(sum(first) / len(first)), rel=1e-5)


def test_the_derived_architecture_is_drawn_and_kept(finished):
    results = json.loads((finished / "results.json").read_text())
    names = sorted(path.stem for path in (finished / "architectures").iterdir())
    assert sorted(path.stem for path in (finished / "networks").iterdir()) == names
    for name, epoch in zip(names, (2, 3), strict=True):
        step, score = epoch * tiny.SETTINGS["shared_max_step"], results["history"][epoch - 1]["validation_perplexity"]
        assert name == f"{epoch}-{step}-{score:.4f}-best"
    assert RNNCell.load(finished / "architectures" / f"{names[-1]}.json").to_dict() == results["architecture"]


def test_the_drawing_is_in_tensorboard(finished):
    drawn = [path for path in (finished / "networks").iterdir() if path.suffix == ".png"]
    if not drawn:
        pytest.skip("the Graphviz program `dot` is not installed")
    images = _events(finished).Images("derive/best")
    assert len(images) == len(drawn) == 2
    assert all(image.width > 50 and image.height > 50 for image in images)


def test_results_have_every_key(finished):
    results = json.loads((finished / "results.json").read_text())
    assert set(results) == {
        "network_type", "dataset", "train_type", "mode", "epoch", "architecture", "parameters", "multiply_adds",
        "validation_perplexity", "measured_with", "test_perplexity", "wall_seconds", "history",
    }  # fmt: skip
    header = {name: results[name] for name in ("network_type", "dataset", "train_type", "mode", "epoch")}
    assert header == {"network_type": "rnn", "dataset": "tiny", "train_type": "orig", "mode": "train", "epoch": 3}
    assert results["test_perplexity"] is None
    assert results["wall_seconds"] > 0


def _candidates(trainer, num: int) -> list:
    """The architectures that deriving samples."""
    with apart():
        return trainer.controller.sample(num).architectures


def test_the_policy_is_compared_with_uniform_sampling(tmp_path):
    """Mean, deviation and best of all sampled cells, on the minibatches that deriving reads."""
    trainer = tiny.trainer(tmp_path, derive_num_sample=20, derive_max_batches=1)
    trainer.train_shared()
    comparison = trainer.derive().comparison
    sampled = _candidates(trainer, 20)
    torch.manual_seed(0)
    uniform = RandomController(trainer.deriver.space).sample(20).architectures
    for name, cells in {"policy": sampled, "uniform": uniform}.items():
        scores = np.array([trainer.task.rank([cell], 1)[0] for cell in cells])
        lower, median, upper = np.sort(scores)[[5, 10, 14]]  # the nearest of the sorted scores to 4.75, 9.5, 14.25
        expected = {"mean": scores.mean(), "std": scores.std(), "best": scores.min()}
        expected |= {"lower_quartile": lower, "median": median, "upper_quartile": upper}
        assert comparison[name] == pytest.approx(expected, rel=1e-5)
    derived = min(trainer.task.rank([cell], 1)[0] for cell in sampled)
    uniform_scores = [trainer.task.rank([cell], 1)[0] for cell in uniform]
    assert comparison["place"] == 1 + sum(score < derived for score in uniform_scores)


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
    line = describe_comparison(spread)
    assert f"uniform {found['median']:.1f} (quartiles {ends[0]:.1f} and {ends[1]:.1f}, best" in line
    assert line.startswith(f"median {metric.name} of the policy 224.0 (quartiles 212.0 and 236.0, best")


def test_comparing_leaves_no_trace_in_the_run(tmp_path):
    """The draws of uniform cells are not among those that later epochs see."""
    ends = []
    for space in (True, False):
        trainer = tiny.trainer(tmp_path / str(space))
        trainer.deriver.space = trainer.deriver.space if space else None
        trainer.train()
        ends.append({part: trainer.state_dict()[part] for part in ("task", "controller", "random")})
    assert tiny.difference(*ends) is None


def test_a_shortlist_is_scored_on_all_of_validation(tmp_path):
    trainer = tiny.trainer(tmp_path, derive_num_sample=20, derive_max_batches=1, derive_shortlist=4)
    trainer.train_shared()
    derived = trainer.derive()
    cell, score = derived.architecture, derived.score
    cells = list(dict.fromkeys(_candidates(trainer, 20)))
    first = sorted(cells, key=lambda one: trainer.task.rank([one], 1)[0])[:4]
    scores = {one: trainer.task.evaluate(one, "valid") for one in first}
    assert (cell, score) == min(scores.items(), key=lambda item: item[1])


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
    assert shortlist == sorted(networks, key=likelihood.get, reverse=True)
    assert (derived.architecture, derived.score) == (shortlist[0], accuracy[shortlist[0]])


def test_the_policy_is_drawn_epoch_by_epoch(finished):
    decisions = tiny.newest_state(finished)["progress"]["decisions"]
    assert [epoch for epoch, _ in decisions] == [2, 3]
    for _, probabilities in decisions:
        assert [len(each) for each in probabilities] == [4, 1, 4, 2, 4, 3, 4]
        assert all(sum(each) == pytest.approx(1, abs=1e-3) for each in probabilities)
    with Image.open(finished / "policy.png") as picture:
        assert min(picture.size) > 200
    assert "derive/policy" in _events(finished).Tags()["images"]


def test_history_has_an_entry_an_epoch(finished):
    history = json.loads((finished / "results.json").read_text())["history"]
    keys = {"epoch", "train_perplexity", "validation_perplexity", "reward", "entropy", "wall_seconds"}
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    compared = {"policy", "uniform", "compared_by", "place", "parameters", "multiply_adds"}  # at an evaluation
    assert [set(entry) for entry in history] == [keys, keys | compared, keys | compared]
    assert [entry["validation_perplexity"] is None for entry in history] == [True, False, False]


def test_the_validation_perplexity_is_that_of_the_checkpoint(finished):
    """Evaluating the saved cell on the saved weights gives the number in results.json, to the last digit."""
    results = json.loads((finished / "results.json").read_text())
    trainer = tiny.trainer(finished.parent.parent)
    trainer.load_state_dict(Checkpoints(finished / "checkpoints").load_newest())
    cell = RNNCell.from_dict(results["architecture"])
    assert trainer.task.evaluate(cell, "valid") == results["validation_perplexity"]
    assert results["history"][-1]["validation_perplexity"] == results["validation_perplexity"]


def test_a_resumed_run_leaves_the_curves_of_one_that_was_not(tmp_path, finished):
    settings = tiny.settings(tmp_path, max_epoch=3, save_epoch=2)
    execute(**settings)
    folder = tiny.only_run(tmp_path / "logs")
    Checkpoints(folder / "checkpoints").paths()[-1].unlink()
    execute(load_path=str(folder))
    resumed, expected = _events(folder), _events(finished)
    for tag in expected.Tags()["scalars"]:
        assert [(event.step, event.value) for event in resumed.Scalars(tag)] == [
            (event.step, event.value) for event in expected.Scalars(tag)
        ], tag


@pytest.fixture
def tripwire(monkeypatch):
    """Any look at the test split is an error."""
    perplexities = LanguageTask._perplexities

    def guarded(self, cells, split, max_batches=None):
        assert split == "valid", f"the {split} split was read"
        return perplexities(self, cells, split, max_batches)

    monkeypatch.setattr(LanguageTask, "_perplexities", guarded)


def test_the_test_split_is_never_read(tmp_path, tripwire):
    """Nor does it matter what is in it: another one of known words gives the same run."""
    settings = tiny.settings(tmp_path)
    trained = execute(**settings)
    derived = execute(load_path=str(tiny.only_run(tmp_path / "logs")), mode="derive")
    assert trained["test_perplexity"] is None and derived["test_perplexity"] is None
    (tmp_path / "data" / "tiny" / "test.txt").write_text("a a a a a\n")
    again = execute(**{**settings, "log_dir": str(tmp_path / "again")})
    assert again["validation_perplexity"] == trained["validation_perplexity"]
    assert again["architecture"] == trained["architecture"]


# --- derive -----------------------------------------------------------------------------------------------------------


def test_derive_takes_the_best_candidate_on_the_same_minibatches(tmp_path):
    trainer = tiny.trainer(tmp_path, derive_num_sample=30)
    trainer.train_shared()
    ranked = {}
    rank = trainer.task.rank
    trainer.task.rank = lambda cells, batches: ranked.setdefault("scores", (cells, rank(cells, batches)))[1]
    derived = trainer.derive()
    cell, perplexity = derived.architecture, derived.score
    cells, scores = ranked["scores"]
    assert len(set(cells)) == len(cells) > 20
    assert cell == cells[scores.index(min(scores))]
    assert perplexity == trainer.task.evaluate(cell, "valid")
    assert scores == pytest.approx([rank([one], 2)[0] for one in cells], rel=1e-5)


def test_derive_passes_over_what_is_not_a_number(tmp_path):
    trainer = tiny.trainer(tmp_path)
    trainer.task.rank = lambda cells, batches: [math.nan, 9.0, math.nan, 8.0, 8.5][: len(cells)]
    cells = _candidates(trainer, 5)
    assert trainer.derive().architecture == cells[3]


# --- losses that are not finite ---------------------------------------------------------------------------------------


def _spoil(trainer: Trainer, steps: set[int], value: float = math.nan) -> list[int]:
    """Make the loss of some calls (first 0) not finite; returns the list of calls, which grows."""
    calls: list[int] = []
    shared_loss = trainer.task.shared_loss

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
    before = _weights(trainer.task.model)
    trainer.train_shared()
    assert _is_same(trainer.task.model, before)
    trainer.progress.shared_step = 0
    trainer.train_shared()
    assert not _is_same(trainer.task.model, before)
    trainer.progress.shared_step = 0
    trainer.train_shared()
    progress = trainer.progress
    assert (progress.skipped, progress.skipped_in_a_row, progress.rollbacks) == (2, 1, 0)
    assert (progress.total_shared_steps, progress.value_count) == (3, 1)
    assert math.isfinite(progress.value_sum)
    assert all(torch.isfinite(weight).all() for weight in trainer.task.model.parameters())
    assert trainer.task.state_dict()["state"] is None  # the next minibatch starts from zero


def test_several_in_a_row_roll_back_with_half_the_learning_rate(tmp_path):
    trainer = tiny.trainer(tmp_path, shared_max_step=12)
    trainer.save()
    saved = _weights(trainer.task.model)
    spoiled = set(range(3, 3 + SKIPS_BEFORE_ROLLBACK))
    calls = _spoil(trainer, spoiled)
    restored = []
    load = trainer.load_state_dict
    trainer.load_state_dict = lambda state: (load(state), restored.append(_weights(trainer.task.model)))
    trainer.train_shared()
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


def test_training_that_stays_non_finite_ends(tmp_path):
    trainer = tiny.trainer(tmp_path)
    calls = _spoil(trainer, set(range(1000)))
    with pytest.raises(TrainingDivergedError, match=r"diverged.*lower the shared learning rate"):
        trainer.train()
    assert len(calls) == SKIPS_BEFORE_ROLLBACK * (ROLLBACKS_BEFORE_END + 1)
    assert trainer.progress.lr_scale == 0.5**ROLLBACKS_BEFORE_END
    assert trainer.progress.skipped == len(calls)


def test_a_reward_that_is_not_finite_changes_nothing(tmp_path):
    trainer = tiny.trainer(tmp_path)
    before = _weights(trainer.controller)
    trainer.task.rewards = lambda cells: torch.full((len(cells),), math.nan)
    trainer.train_controller()
    assert _is_same(trainer.controller, before)
    assert trainer.baseline.value is None
    assert trainer.progress.total_controller_updates == 0


def test_skipped_updates_do_not_count_in_the_mean_reward(tmp_path):
    trainer = tiny.trainer(tmp_path, controller_max_step=6, controller_num_aggregate=2)
    rewards, calls = trainer.task.rewards, []

    def sometimes(cells):
        calls.append(rewards(cells) if len(calls) != 1 else torch.full((len(cells),), math.nan))
        return calls[-1]

    trainer.task.rewards = sometimes
    trainer.train_controller()
    trainer.finish_epoch()
    expected = torch.cat([calls[0], calls[2]]).double().mean().item()
    assert trainer.progress.history[0]["reward"] == pytest.approx(expected, rel=1e-6)


def test_a_controller_gradient_that_is_not_finite_is_skipped(tmp_path, monkeypatch):
    trainer = tiny.trainer(tmp_path)
    before = _weights(trainer.controller)
    monkeypatch.setattr("enas.search.trainer.policy_loss", lambda log_probs, advantage: (log_probs * math.inf).sum())
    trainer.train_controller()
    assert _is_same(trainer.controller, before)
    assert trainer.progress.total_controller_updates == 0


# --- times ------------------------------------------------------------------------------------------------------------


class Clock:
    """Stands still, but for what is told to take time."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("enas.search.training.time", SimpleNamespace(monotonic=lambda: self.now))

    def taking(self, seconds: float, action):
        """`action`, which then takes so long."""

        def timed(*args, **kwargs):
            self.now += seconds
            return action(*args, **kwargs)

        return timed


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def _timed_run(folder: Path, clock: Clock, monkeypatch, max_epoch: int) -> list[float]:
    """The seconds of each epoch of a search that takes 10 s a step of ω, 100 s a derivation and 1000 s a picture."""
    monkeypatch.setattr(LanguageTask, "shared_loss", clock.taking(10, LanguageTask.shared_loss))
    monkeypatch.setattr(Deriver, "derive", clock.taking(100, Deriver.derive))
    monkeypatch.setattr(Logbook, "derived", clock.taking(1000, Logbook.derived))
    results = execute(**tiny.settings(folder, max_epoch=max_epoch, save_epoch=2, shared_max_step=3))
    return [entry["wall_seconds"] for entry in results["history"]]


def test_the_seconds_of_an_epoch_are_those_of_its_evaluation_too(tmp_path, clock, monkeypatch, capsys):
    """Evaluated after epochs 2 and 4: deriving and drawing belong to these, and not to those that come next."""
    assert _timed_run(tmp_path, clock, monkeypatch, max_epoch=4) == [30, 1160, 1190, 2320]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [line.rsplit("(")[-1] for line in lines] == ["30 s)", "1160 s)", "1190 s)", "2320 s)"]


@pytest.mark.parametrize("mode", ["train", "train_scratch"])
def test_the_last_epoch_ends_when_the_run_does(tmp_path, clock, monkeypatch, mode):
    """Whoever asks, and when: what comes after training takes none of the run's time."""
    monkeypatch.setattr(LanguageTask, "evaluate", clock.taking(100, LanguageTask.evaluate))
    monkeypatch.setattr(Checkpoints, "save", clock.taking(7, Checkpoints.save))
    config = Config(**tiny.settings(tmp_path, mode=mode))
    returned = run.train(config) if mode == "train" else run.single(config, RNNCell(("tanh", "ReLU"), (0,)))
    folder = tiny.only_run(tmp_path / "logs")
    for results in (returned, json.loads((folder / "results.json").read_text()), run.test(folder), run.resume(folder)):
        assert results["wall_seconds"] == results["history"][-1]["wall_seconds"] == 2 * 100 + 2 * 7


def test_a_resumed_run_counts_the_seconds_before(tmp_path, clock, monkeypatch):
    assert _timed_run(tmp_path, clock, monkeypatch, max_epoch=2) == [30, 1160]
    results = run.resume(tiny.only_run(tmp_path / "logs"), max_epoch=3)
    assert [entry["wall_seconds"] for entry in results["history"]] == [30, 1160, 2290]


def test_what_was_rolled_back_took_its_time_all_the_same(tmp_path, clock):
    trainer = tiny.trainer(tmp_path, shared_max_step=12)
    trainer.save()
    _spoil(trainer, set(range(3, 3 + SKIPS_BEFORE_ROLLBACK)))
    trainer.task.shared_loss = clock.taking(10, trainer.task.shared_loss)
    trainer.train_shared()
    assert trainer.wall_seconds() == 10 * (3 + SKIPS_BEFORE_ROLLBACK + 12)


# --- outside of the main thread ---------------------------------------------------------------------------------------


def test_a_search_runs_in_a_thread_of_a_notebook_or_server(tmp_path):
    """Only the main thread may handle signals."""
    with ThreadPoolExecutor(1) as pool:
        results = pool.submit(execute, **tiny.settings(tmp_path, max_epoch=1)).result()
    assert results["epoch"] == 1


# --- it learns --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_comes_near_the_floor_of_a_known_language(tmp_path):
    words, floor = 12, markov_perplexity_floor(num_words=12)
    make_markov(tmp_path / "data" / "tiny", num_tokens=60_000, num_words=words)
    results = execute(
        **tiny.settings(
            tmp_path,
            batch_size=64,
            shared_embed=48,
            shared_hid=48,
            shared_rnn_max_length=20,
            shared_max_step=100,
            max_epoch=3,
            save_epoch=3,
            shared_optim="adam",
            shared_lr=0.01,
            shared_lr_cosine=True,
            shared_dropoute=0.0,
            shared_dropouti=0.0,
            shared_dropout=0.0,
            shared_wdrop=0.0,
            controller_max_step=40,
            controller_num_aggregate=10,
            derive_num_sample=20,
            derive_max_batches=4,
            log_step=50,
        )
    )
    assert 0.97 * floor < results["validation_perplexity"] < 1.15 * floor


def test_a_controller_that_diverges_ends_the_run_in_a_line_that_names_the_setting(tmp_path, capsys):
    assert main(tiny.flags(tiny.settings(tmp_path, controller_lr=1e30))) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: training diverged: the controller's parameters are not finite")
    assert "controller_lr" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("what", ["update_controller", "train_shared", "derive"])
def test_a_controller_that_is_no_number_any_more_ends_the_run_likewise(tmp_path, what):
    trainer = tiny.trainer(tmp_path)
    with torch.no_grad():
        next(trainer.controller.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match="the controller's parameters are not finite; lower controller_lr"):
        getattr(trainer, what)(*([2] if what == "update_controller" else []))


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
    largest = sum(math.log(size) for size in trainer.deriver.space.sizes)

    def entropy() -> float:
        with torch.no_grad():
            return float(trainer.controller.sample(100).entropies.sum(1).mean())

    before = entropy()
    trainer.train_controller()
    assert before < 0.95 * largest < 0.99 * largest < entropy() <= 1.0001 * largest

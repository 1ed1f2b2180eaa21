"""A run that was stopped, however roughly, and resumed is bit for bit the run that was not."""

import math
import os
import random
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from tiny import main

from enas.cnn.task import VisionTask
from enas.config import Config
from enas.rnn.cell import RNNCell
from enas.rnn.task import LanguageTask
from enas.runs import run
from enas.runs.commands import execute
from enas.search.checkpoint import Checkpoints

EPOCHS = 5
LONG = {
    "max_epoch": EPOCHS,
    "shared_max_step": 12,
    "controller_max_step": 8,
    "controller_num_aggregate": 2,
    "max_save_num": 3,
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The run that everything here is compared with."""
    return tiny.run_in(tmp_path_factory.mktemp("undisturbed"), **LONG)


def _assert_same(folder: Path, expected: Path) -> None:
    assert tiny.difference(tiny.newest_state(folder), tiny.newest_state(expected)) is None
    assert _results(folder) == _results(expected)
    assert tiny.tree(folder / "checkpoints").keys() == tiny.tree(expected / "checkpoints").keys()
    assert tiny.tree(folder / "architectures") == tiny.tree(expected / "architectures")


def _results(folder: Path) -> dict:
    results = tiny.results(folder)
    del results["wall_seconds"]
    for entry in results["history"]:
        del entry["wall_seconds"], entry["cpu_seconds"]
    return results


@pytest.mark.slow
def test_a_run_killed_and_stopped_at_random_moments_ends_the_same(tmp_path, undisturbed, capsys, monkeypatch):
    """As processes: killed, which loses what came after the last checkpoint, and stopped, which loses nothing."""
    rng = random.Random(1)
    monkeypatch.setenv("PATH", "")  # they find no Graphviz, which would take most of their time
    argv = tiny.flags(tiny.settings(tmp_path, **LONG))
    stopped = "stopped by SIGTERM; the run is saved and can be resumed: python -m enas search --load_path {}\n"
    for epochs, signum, ends in ((1, signal.SIGKILL, (-9, "")), (2, signal.SIGTERM, (143, stopped))):
        process = tiny.start(argv, tmp_path)
        folder = tiny.wait(process, tmp_path / "logs", tiny.has_finished(epochs))
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signum)
        status, _, err = tiny.finish(process)
        assert (status, err.replace(str(folder), "{}")) == ends
        argv = ["--load_path", str(folder), "--mode", "train"]
    assert main(argv) == 0
    assert f"run {folder}: resumed" in capsys.readouterr().out
    _assert_same(folder, undisturbed)


@pytest.mark.parametrize(
    ("method", "call", "signum", "steps"),
    [
        ("shared_loss", 29, signal.SIGTERM, (5, 0)),
        ("rewards", 10, signal.SIGINT, (12, 4)),
        ("rank", 3, signal.SIGTERM, (0, 0)),
    ],
)
def test_a_signal_anywhere_leaves_an_exact_checkpoint(tmp_path, undisturbed, capsys, method, call, signum, steps):
    """In the middle of training ω, of training θ, and of deriving: the step is finished, the checkpoint exact."""
    with tiny.in_call(LanguageTask, method, call, partial(signal.raise_signal, signum)):
        assert main(tiny.flags(tiny.settings(tmp_path, **LONG))) == 128 + signum
    assert "can be resumed" in capsys.readouterr().err
    folder = tiny.only_run(tmp_path / "logs")
    progress = tiny.newest_state(folder)["progress"]
    assert (progress["epoch"], progress["shared_step"], progress["controller_sample"]) == (2, *steps)
    assert main(["--load_path", str(folder)]) == 0
    _assert_same(folder, undisturbed)


@pytest.mark.parametrize("mode", ["train", "train_scratch"])
def test_a_paused_run_goes_on_to_the_same_end(tmp_path, capsys, mode):
    """It pauses where a search does not evaluate, too; schedules run to max_epoch, and a later pause may be set."""
    changes = {"shared_lr_cosine": True, "shared_lr_min": 0.01, "controller_start": 0.4, "save_epoch": 2}
    settings = tiny.settings(tmp_path, **LONG, **changes, mode=mode)
    if mode == "train_scratch":
        settings["load_path"] = str(tiny.run_in(tmp_path, log_dir=str(tmp_path / "search")))
    expected, folders = tmp_path / "expected", tmp_path / "logs"
    execute(**{**settings, "log_dir": str(expected)})
    with tiny.in_call(LanguageTask, "evaluate", lambda task, cell, split: split == "test", lambda: None) as evaluated:
        paused = execute(**settings, stop_epoch=1)
        assert paused["epoch"] == 1 and "test" not in [split for _, _, split, *_ in evaluated]
    folder = tiny.only_run(folders)
    command = f"python -m enas {'search' if mode == 'train' else 'scratch'} --load_path {folder}"
    assert f"run {folder}: paused; it goes on with: {command}\n" in capsys.readouterr().out
    execute(mode=mode, load_path=str(folder), stop_epoch=3)
    before = tiny.newest_state(folder)
    execute(mode=mode, load_path=str(folder), stop_epoch=2)  # which is over
    assert before["progress"]["epoch"] == 3 and tiny.difference(tiny.newest_state(folder), before) is None
    assert tiny.command_line(shlex.split(command)[3:]) == 0
    assert tiny.difference(tiny.newest_state(folder), tiny.newest_state(tiny.only_run(expected))) is None
    assert _results(folder) == _results(tiny.only_run(expected))


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
def test_training_to_an_epoch_and_further_trains_no_step_twice(tmp_path, monkeypatch, kind):
    is_text, architecture = kind == "rnn", CELL if kind == "rnn" else tiny.NETWORKS["micro"]
    space = {} if is_text else {"cnn_space": "micro", "cnn_lr_period": 4}
    settings = {"network_type": kind, "mode": "train_scratch", "max_epoch": 4, "shared_max_step": 5, **space}
    task = LanguageTask if is_text else VisionTask
    ends = {}
    for name, epochs in {"whole": (4,), "parts": (1, 1, 3, 2, 4)}.items():
        config = Config(**tiny.settings(tmp_path, **settings, log_dir=str(tmp_path / name), name="one"))
        with tiny.in_call(task, "shared_loss", lambda *args: False, lambda: None) as steps:
            results = [run.train_to(config.replace(stop_epoch=epoch), architecture) for epoch in epochs]
        # The trial of threads is off in these settings: every call is a step of training.
        assert len(steps) == 4 * 5
        assert [len(one["history"]) for one in results] == [1, 1, 3, 3, 4][-len(epochs) :]
        folder = tiny.only_run(tmp_path / name)
        ends[name] = (tiny.newest_state(folder), _results(folder))
    assert tiny.difference(ends["whole"], ends["parts"]) is None
    assert results[-1][f"test_{config.space.metric.name}"] is not None
    other = RNNCell(("tanh",), ()) if is_text else tiny.NETWORKS["macro"]
    for changed, one in ((config.replace(max_epoch=5), architecture), (config, other)):
        with tiny.refused("one: has another architecture or other settings; give another name"):
            run.train_to(changed, one)
    monkeypatch.setattr(run, "resume", lambda *args, **changes: tiny.diverge())
    assert math.isnan(run.train_to(config, architecture)[f"validation_{config.space.metric.name}"])


def test_a_run_from_scratch_does_not_pause_where_its_search_did(tmp_path):
    folder = tiny.run_in(tmp_path, max_epoch=2, stop_epoch=1)
    assert tiny.results(folder)["epoch"] == 1
    scratch = run.train_scratch(folder, log_dir=str(tmp_path / "scratch"))
    assert (scratch["epoch"], scratch["test_perplexity"] is None) == (2, False)


def test_a_longer_run_says_that_its_schedules_change(tmp_path, capsys):
    cosine = {"shared_lr": 1.0, "shared_lr_cosine": True, "shared_lr_min": 0.01, "max_epoch": 2}
    folder = tiny.run_in(tmp_path, **cosine)
    assert tiny.newest_state(folder)["shared_optimizer"]["param_groups"][0]["lr"] < 0.05
    execute(load_path=str(folder), max_epoch=4)
    assert "max_epoch 4 instead of 2; schedules over the whole run, if any, change\n" in capsys.readouterr().out
    execute(load_path=str(folder), max_epoch=4)
    assert "instead of" not in capsys.readouterr().out


def test_a_run_cannot_end_before_the_epochs_that_it_has_finished(tmp_path):
    """It would end without an architecture of its last epoch."""
    folder = tiny.run_in(tmp_path, max_epoch=9, save_epoch=4, stop_epoch=2)
    before = tiny.tree(folder)
    with tiny.refused("max_epoch is 2, but the run has finished 2 epochs; give more, or leave it out"):
        run.resume(folder, max_epoch=2)
    assert tiny.tree(folder) == before
    assert run.resume(folder, max_epoch=3)["validation_perplexity"] is not None


def test_a_stopped_run_remembers_where_it_would_have_paused(tmp_path, capsys):
    with tiny.in_call(LanguageTask, "shared_loss", 15, partial(signal.raise_signal, signal.SIGINT)):
        assert main(tiny.flags(tiny.settings(tmp_path, **LONG, stop_epoch=3))) == 130
    *_, command = capsys.readouterr().err.partition("can be resumed: python -m enas ")
    assert command.endswith(" --stop_epoch 3\n") and tiny.command_line(shlex.split(command)) == 0
    assert tiny.results(tiny.only_run(tmp_path / "logs"))["epoch"] == 3


@pytest.mark.parametrize("mode", ["train", "single"])
def test_a_signal_during_the_last_evaluation_is_heeded(tmp_path, capsys, mode):
    """The run is whole and saved; what would come next, such as a test, waits for the same command."""
    (tmp_path / "cell.json").write_text(RNNCell(("tanh", "ReLU"), (0,)).to_json())
    given = {"mode": "single", "dag_path": str(tmp_path / "cell.json")} if mode == "single" else {}
    settings = tiny.settings(tmp_path, max_epoch=2, **given)
    with tiny.in_call(LanguageTask, "evaluate", 2, partial(signal.raise_signal, signal.SIGINT)):
        assert main(tiny.flags(settings)) == 130
    *_, command = capsys.readouterr().err.partition("can be resumed: python -m enas ")
    folder = tiny.only_run(tmp_path / "logs")
    assert tiny.newest_state(folder)["progress"]["epoch"] == 2
    assert tiny.command_line(shlex.split(command)) == 0
    assert _results(folder)["epoch"] == 2


@pytest.mark.parametrize("is_truncated", [False, True])
def test_resuming_a_finished_run_changes_nothing(tmp_path, undisturbed, capsys, is_truncated):
    """If its newest checkpoint is damaged, it goes on from the one before."""
    folder = shutil.copytree(undisturbed, tmp_path / "copy")
    newest = Checkpoints(folder / "checkpoints").paths()[-1]
    if is_truncated:
        newest.write_bytes(newest.read_bytes()[:1000])
    assert main(["--load_path", str(folder)]) == 0
    assert (f"{newest}: BadZipFile" in capsys.readouterr().out) is is_truncated
    _assert_same(folder, undisturbed)


def test_the_run_was_worth_comparing(undisturbed):
    """Dropout, controller and optimiser states are really there, and the weights moved."""
    first = tiny.trainer(undisturbed.parent.parent, **LONG)
    state = tiny.newest_state(undisturbed)
    assert first.task.model.config.shared_dropout > 0
    learned = state["controller"].pop("reinforce._extra_state")
    assert learned["baseline"]["value"].abs().sum() > 0 and state["task"]["state"].abs().sum() > 0
    assert learned["optimizer"]["state"] and len(state["progress"]["history"]) == EPOCHS
    for before, after in ((first.controller, state["controller"]), (first.task.model, state["task"]["model"])):
        moved = [not torch.equal(weight, after[name]) for name, weight in before.named_parameters()]
        assert sum(moved) > 0.8 * len(moved)


def test_adam_goes_on_exactly_too(tmp_path):
    """Its moments and step counts are in the checkpoint, and so is what the cosine schedules go by."""
    changes = {"shared_optim": "adam", "shared_lr": 0.01, "shared_lr_cosine": True, "shared_lr_warmup": 15}
    changes |= {"controller_optim": "momentum", "controller_lr_cosine": True, "max_epoch": 3}
    expected = tiny.run_in(tmp_path, **changes)
    folder = shutil.copytree(expected, tmp_path / "resumed" / expected.name)
    for path in Checkpoints(folder / "checkpoints").paths()[-2:]:
        path.unlink()
    execute(load_path=str(folder))
    _assert_same(folder, expected)
    assert Checkpoints(folder / "checkpoints").best()[1]["progress"]["best"] is not None


CELL = RNNCell(("tanh", "ReLU"), (0,))
SHORT = {"max_epoch": 4, "shared_max_step": 4, "shared_lr": 40.0, "random_seed": 2}


def _trained(folder: Path, mode: str, **changes) -> Path:
    """A finished run whose best epoch is neither its first nor its last."""
    if mode == "train":
        run.train(Config(**tiny.settings(folder, **SHORT, **changes, controller_max_step=2)))
    else:
        run.train(Config(**tiny.settings(folder, mode=mode, **SHORT, **changes)), CELL)
    made = tiny.only_run(folder / "logs")
    scores = [entry["validation_perplexity"] for entry in _results(made)["history"]]
    assert len(set(scores)) == 4 and 0 < scores.index(min(scores)) < 3
    return made


def _photographed(folder: Path, action: Callable[[], object]) -> list[Path]:
    """Copies of the run that `action` makes in `folder/logs`, one for each state that SIGKILL could leave.

    The state changes by the renaming or the removal of a file: each copy is made before one, and the last at the end.
    """
    photos, seen = [], []

    def photograph() -> None:
        made = tiny.only_run(folder / "logs")
        files = tiny.tree(made / "checkpoints")
        if files not in seen and list(made.glob("checkpoints/0*.pt")):  # without a checkpoint nothing can be resumed
            seen.append(files)
            photos.append(shutil.copytree(made, folder / "photos" / str(len(photos)) / made.name))

    with ExitStack() as acting:
        for owner, name in ((os, "replace"), (os, "unlink"), (Path, "unlink")):
            acting.enter_context(tiny.in_call(owner, name, lambda *args: True, photograph))
        action()
        photograph()
    return photos


def _tested(folder: Path) -> dict:
    run.test(folder)
    return _results(folder)


@pytest.mark.parametrize(("mode", "max_save_num"), [("train", 1), ("train_scratch", 1), ("train_scratch", 3)])
def test_a_run_killed_at_any_moment_keeps_its_best_epoch(tmp_path, mode, max_save_num):
    """The resumed run tests the best epoch of the undisturbed one, with the same score."""
    photos = _photographed(tmp_path, lambda: _trained(tmp_path, mode, max_save_num=max_save_num))
    assert len(photos) >= 8
    expected = _tested(tiny.only_run(tmp_path / "logs"))
    newest = {}
    for photo in photos:
        checkpoints = Checkpoints(photo / "checkpoints")
        history = checkpoints.newest()[1]["progress"]["history"]
        scores = [entry["validation_perplexity"] for entry in history]
        if scores:
            best = checkpoints.best()[1]["progress"]
            assert (best["epoch"], best["validation"]) == (1 + scores.index(min(scores)), min(scores))
        newest[checkpoints.paths()[-1].name] = photo
    for photo in newest.values():  # those with the same newest and best checkpoint go on alike
        run.resume(photo)
        assert _tested(photo) == expected, photo

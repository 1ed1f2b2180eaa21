"""Architectures trained side by side in one process end as each would alone."""

import math
import os
import signal
from pathlib import Path

import pytest
import tiny
import torch
from torch.testing import assert_close

from enas.config import Config
from enas.errors import Interrupted, TrainingDivergedError
from enas.models import shared_rnn
from enas.models.shared_rnn import SharedRNN
from enas.runs import run
from enas.search_space import LSTMBaseline, RNNCell, load_architecture
from enas.tasks import language
from enas.training.checkpoint import Draws, load_checkpoint, seed_everything
from enas.training.scratch import ScratchTrainer

CELLS = [
    RNNCell(("tanh", "ReLU", "sigmoid", "tanh"), (0, 1, 1)),
    RNNCell(("sigmoid", "identity", "tanh", "ReLU"), (0, 0, 1), cell_output="all"),
    RNNCell(("ReLU", "identity"), (0,)),
]
TEXT = {
    **{name: value for name, value in tiny.SETTINGS.items() if not name.startswith(("controller", "derive", "save"))},
    "mode": "train_scratch", "max_epoch": 4, "shared_dropouth": 0.2, "scratch_asgd_patience": 1, "shared_lr": 4.0,
    "shared_activation_reg": 0.5, "shared_temporal_activation_reg": 0.5,
}  # fmt: skip


@pytest.fixture
def exact():
    """Float64 throughout: what rounding leaves is then far below what a wrong draw would."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def text(tmp_path):
    tiny.write_corpus(tmp_path / "data" / "tiny")
    return Config(**{**TEXT, "data_dir": str(tmp_path / "data"), "log_dir": str(tmp_path / "logs")})


def without_time(results):
    history = [{name: value for name, value in entry.items() if name != "wall_seconds"} for entry in results["history"]]
    return {**results, "history": history, "wall_seconds": None}


def alone(config, architectures):
    return [without_time(run.single(config, one)) for one in architectures]


def together(config, architectures):
    return [without_time(one) for one in run.singles(config.replace(num_together=len(architectures)), architectures)]


def assert_equal_to_rounding(found, expected, path="results"):
    """Plain data and tensors, numbers equal to 1e-9."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for name, value in expected.items():
            assert_equal_to_rounding(found[name], value, f"{path} → {name}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), path
        for place, value in enumerate(expected):
            assert_equal_to_rounding(found[place], value, f"{path} → {place}")
    elif isinstance(expected, (float, torch.Tensor)):
        assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=lambda text: f"{path}: {text}")
    else:
        assert found == expected, path


def test_cells_side_by_side_end_as_each_alone(text, exact):
    assert_equal_to_rounding(together(text, CELLS), alone(text, CELLS))


def test_cells_side_by_side_run_at_once(text, monkeypatch):
    counts = []
    real = language.run_side_by_side
    monkeypatch.setattr(
        language, "run_side_by_side", lambda models, *rest: counts.append(len(models)) or real(models, *rest)
    )
    monkeypatch.setattr(SharedRNN, "run_cells", _only_in_evaluation(SharedRNN.run_cells))
    together(text, CELLS)
    assert counts == [3] * text.max_epoch * text.shared_max_step


def _only_in_evaluation(run_cells):
    def checked(model, *args):
        assert not model.training
        return run_cells(model, *args)

    return checked


def test_cells_as_data_side_by_side_end_as_each_alone(text, exact, monkeypatch):
    expected = alone(text, CELLS)
    monkeypatch.setattr(shared_rnn, "is_graphable", lambda plan, device: True)
    assert_equal_to_rounding(together(text, CELLS), expected)


def test_one_that_stops_early_leaves_the_others(text, exact):
    config = text.replace(scratch_early_stop=1, max_epoch=8)
    found = together(config, CELLS)
    assert len({one["epoch"] for one in found}) > 1
    assert_equal_to_rounding(found, alone(config, CELLS))


def test_what_is_saved_is_that_of_a_run_alone(text, exact, tmp_path):
    states = []
    for log_dir, train in (("one", alone), ("all", together)):
        train(text.replace(log_dir=str(tmp_path / log_dir)), CELLS[:2])
        folder = sorted((tmp_path / log_dir).iterdir(), key=lambda path: (len(path.name), path.name))[1]
        states.append(load_checkpoint(run.restore(run.saved_config(folder), folder)[0].checkpoints.paths()[-1]))
    assert states[0]["progress"].pop("seconds") > 0 and states[1]["progress"].pop("seconds") > 0
    for state in states:
        for entry in state["progress"]["history"]:
            del entry["wall_seconds"]
    assert_equal_to_rounding(states[1], states[0])


def test_one_that_returns_to_its_checkpoint_leaves_the_others(text, exact, monkeypatch):
    """The first cell's gradient is made infinite five times in a row, before the first epoch has ended."""
    real, left = ScratchTrainer.update_shared, []

    def update(trainer, *args):
        if trainer.architecture == CELLS[0] and trainer.progress.total_shared_steps >= 3 and len(left) < 5:
            left.append(trainer.progress.total_shared_steps)
            trainer.task.model.w_input.grad.fill_(torch.inf)
        real(trainer, *args)

    monkeypatch.setattr(ScratchTrainer, "update_shared", update)
    expected = alone(text, CELLS)
    left.clear()
    assert_equal_to_rounding(together(text, CELLS), expected)
    assert len(left) == 5


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_all_and_each_can_be_resumed(text, exact, monkeypatch, signum):
    expected = alone(text, CELLS)
    real = ScratchTrainer.update_shared

    def update(trainer, *args):
        if trainer.architecture == CELLS[1] and trainer.progress.total_shared_steps == 13:
            os.kill(os.getpid(), signum)
        real(trainer, *args)

    monkeypatch.setattr(ScratchTrainer, "update_shared", update)
    config = text.replace(log_dir=f"{text.log_dir}_stopped")
    with pytest.raises(Interrupted) as stop:
        together(config, CELLS)
    assert stop.value.status == 128 + signum
    monkeypatch.undo()
    folders = list(Path(config.log_dir).iterdir())
    saved = [load_checkpoint(max(path.glob("checkpoints/0*.pt"))) for path in folders]
    assert [state["progress"]["total_shared_steps"] for state in saved] == [14] * 3
    found = {load_architecture(path / "architecture.json"): without_time(run.resume(path)) for path in folders}
    assert_equal_to_rounding([found[cell] for cell in CELLS], expected)


def test_those_that_diverge_have_no_scores(text):
    """One that is trained alone, as the user's only one, ends in an error."""
    config = text.replace(shared_lr=1e30, shared_grad_clip=1e30)
    for one, cell in zip(run.singles(config, CELLS), CELLS, strict=True):
        assert one["architecture"] == cell.to_dict()
        assert math.isnan(one["validation_perplexity"]) and math.isnan(one["test_perplexity"])
    with pytest.raises(TrainingDivergedError, match="training diverged"):
        run.single(config, CELLS[0])


def test_lines_on_the_terminal_say_whose_they_are(text, capsys):
    config = text.replace(log_dir=f"{text.log_dir}_said")
    together(config, CELLS)
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch 1" in line]
    folders = [path.name for path in sorted(Path(config.log_dir).iterdir())]
    assert [line.split(":")[0] for line in lines] == folders
    for path in Path(config.log_dir).iterdir():
        said = (path / "train.log").read_text().splitlines()
        assert path.name not in next(line for line in said if "epoch 1" in line)


def test_lstms_and_images_train_one_after_the_other(text, tmp_path):
    mixed = [LSTMBaseline(8), CELLS[0]]
    assert together(text, mixed) == alone(text, mixed)
    tiny.write_images(tmp_path / "data" / "pictures")
    settings = {
        name: value for name, value in tiny.IMAGE_SETTINGS.items() if not name.startswith(("contr", "der", "sav"))
    }
    places = {"data_dir": text.data_dir, "log_dir": text.log_dir}
    images = Config(**{**settings, **places, "dataset": "pictures", "mode": "train_scratch"})
    networks = [tiny.NETWORKS["macro"]] * 2
    assert together(images, networks) == alone(images, networks)


def test_each_training_has_draws_of_its_own():
    seed_everything(1)
    first = Draws()
    expected = torch.rand(4)
    seed_everything(2)
    second = Draws()
    found = []
    for _ in range(2):
        with first:
            found.append(torch.rand(2))
        with second:
            torch.rand(3)
    assert torch.cat(found).equal(expected)

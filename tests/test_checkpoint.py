"""Checkpoints: whole or absent, the newest and the best, and readable without running what is in them."""

import errno
import io
import random
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from enas.errors import UserError
from enas.search.checkpoint import (
    Checkpoints,
    checkpoint_name,
    load_checkpoint,
    random_states,
    restore_random_states,
    seed_everything,
)
from enas.search.record import Progress


def _state(number: float, bests: Sequence[str] = ()) -> dict:
    parts = {"task": {"model": {}}, "progress": asdict(Progress(bests=list(bests)))}
    return {"weights": torch.full((5000,), number), "number": number, **parts}


def _name(step: int) -> str:
    return checkpoint_name(step // 10, step)


def _save(checkpoints: Checkpoints, *steps: int, best: Sequence[int] = ()) -> None:
    """Save after each of `steps`; `best` are those of the run that are the best so far."""
    for step in steps:
        bests = [_name(one) for one in best if one <= step]
        checkpoints.save(_state(step, bests), _name(step), bests)


def _names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


DAMAGES = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "no checkpoint at all": lambda content: b"\x80\x02nonsense",
    "zeros in the middle": lambda content: content[:2000] + bytes(200) + content[2200:],
}


def _damage(path, how: str = "truncated") -> None:
    path.write_bytes(DAMAGES[how](path.read_bytes()))


def test_a_saved_state_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoints.newest()[1]
    state = {"a": torch.tensor([1.0, float("nan")]), "b": [None, {"c": (1, 2.5, "x")}], "d": torch.arange(3)}
    state |= _state(3.0)
    checkpoints.save(state, checkpoint_name(epoch=1, step=2))
    assert _names(checkpoints) == ["00001-00000002.pt"]
    assert tiny.difference(checkpoints.newest()[1], state) is None


def test_the_newest_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, max_save_num=2)
    _save(checkpoints, 10, 20, 30, 40, 50, best=[10, 20])
    assert _names(checkpoints) == ["00002-00000020.pt", "00004-00000040.pt", "00005-00000050.pt"]
    assert checkpoints.best()[1]["number"] == 20
    assert checkpoints.newest()[1]["number"] == 50


def test_the_best_before_a_damaged_one_is_kept(tmp_path):
    """The run goes on from the newest one that can be read, and its best one is the best of that moment."""
    checkpoints = Checkpoints(tmp_path, max_save_num=2)
    _save(checkpoints, 10, 20, 30, best=[10, 30])
    assert checkpoints.best()[1]["number"] == 30
    _damage(checkpoints.paths()[-1])
    assert checkpoints.best()[1]["number"] == 10


@pytest.mark.parametrize("best", [[], [10]], ids=["none yet", "its file is gone"])
def test_without_a_best_one(tmp_path, best):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, 10, 20, best=best)
    for path in checkpoints.paths()[:-1]:
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no best checkpoint"):
        checkpoints.best()[1]


class Full(io.BytesIO):
    """A file on a disk that has room for 3,000 bytes."""

    def write(self, content) -> int:
        if self.tell() + len(content) > 3000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


@pytest.mark.parametrize("step", [10, 20], ids=["over the old one", "beside the old one"])
def test_a_full_disk_is_one_line_and_leaves_the_old_ones(tmp_path, monkeypatch, step):
    """Torch closes its archive on the way out, which fails again."""
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, 10, best=[10])
    before = tiny.tree(tmp_path)

    def full(path, mode):
        path.touch()
        return Full()

    refused = pytest.raises(UserError, match=r"\.pt: cannot be written \(No space left on device\); make room")
    with monkeypatch.context() as patch, refused:
        patch.setattr(Path, "open", full)
        checkpoints.save(_state(-1.0), _name(step), [_name(step)])
    assert tiny.tree(tmp_path) == before


def test_a_write_that_was_killed_is_ignored_and_then_swept_away(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, 10)
    tiny.killed_while_writing(tmp_path / "00002-00000020.pt")
    assert checkpoints.newest()[1]["number"] == 10
    _save(checkpoints, 20)
    assert _names(checkpoints) == ["00002-00000020.pt"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_the_oldest_is_refused(tmp_path, how):
    checkpoints, told = Checkpoints(tmp_path, max_save_num=2), []
    _save(checkpoints, 10, 20)
    _damage(checkpoints.paths()[1], how)
    assert checkpoints.newest(told.append)[1]["number"] == 10
    (line,) = told
    assert str(tmp_path / "00002-00000020.pt") in line and "trying the checkpoint before" in line
    _damage(checkpoints.paths()[0], how)
    with pytest.raises(ValueError, match=r"00002-00000020\.pt: .*no older checkpoint can be read"):
        checkpoints.newest()[1]


def test_going_on_from_before_a_damaged_one_keeps_what_is_new(tmp_path):
    """The damaged one is named later than the one just written, which must not be pruned in its place."""
    checkpoints = Checkpoints(tmp_path, max_save_num=2)
    _save(checkpoints, 10, 30)
    _damage(checkpoints.paths()[-1])
    Checkpoints(tmp_path, max_save_num=1).save(_state(20), _name(20))
    assert checkpoints.newest()[1]["number"] == 20


class Malicious:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_loading_runs_no_code(tmp_path, capsys):
    torch.save({"x": Malicious()}, tmp_path / "00001-00000001.pt")
    with pytest.raises(ValueError, match=r"00001-00000001\.pt: UnpicklingError"):
        Checkpoints(tmp_path).newest()[1]
    assert "this must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (np.float64(1.0), "numpy"),
        (Malicious(), "print"),
        (lambda: 1, "<lambda>"),
        (threading.Lock(), "lock"),
    ],
    ids=["numpy", "object", "lambda", "lock"],
)
def test_a_state_that_could_not_be_read_is_refused_when_it_is_saved(tmp_path, part, says):
    """Of a controller, a module or a task of the user's own."""
    _save(checkpoints := Checkpoints(tmp_path), 10)
    with pytest.raises(UserError, match=rf"00002-00000020\.pt: .*{says}.*; a state holds tensors and plain data alone"):
        checkpoints.save({**_state(20), "controller": {"mine": part}}, _name(20))
    assert _names(checkpoints) == [_name(10)]


def test_random_states_survive_a_file(tmp_path):
    seed_everything(3)
    np.random.standard_normal()  # leaves a second number waiting
    Checkpoints(tmp_path).save(random_states(), name := checkpoint_name(epoch=0, step=0))
    expected = (random.random(), np.random.standard_normal(), torch.rand(3).tolist())
    seed_everything(4)
    restore_random_states(load_checkpoint(tmp_path / name))
    assert (random.random(), np.random.standard_normal(), torch.rand(3).tolist()) == expected


def test_a_run_keeps_as_many_as_it_was_told(tmp_path):
    checkpoints = Checkpoints(tiny.run_in(tmp_path, max_epoch=4, max_save_num=2) / "checkpoints")
    steps_an_epoch = tiny.SETTINGS["shared_max_step"] + tiny.SETTINGS["controller_max_step"]
    state, best = checkpoints.newest()[1], checkpoints.best()[1]
    history = state["progress"]["history"]
    kept = [f"{epoch:05d}-{epoch * steps_an_epoch:08d}.pt" for epoch in sorted({best["progress"]["epoch"], 3, 4})]
    assert _names(checkpoints) == kept
    assert best["progress"]["validation"] == min(entry["validation_perplexity"] for entry in history)
    assert state["progress"]["best"] == best["progress"]["best"]


def test_a_checkpoint_holds_everything(tmp_path):
    state = tiny.newest_state(tiny.run_in(tmp_path, max_epoch=1, shared_optim="adam"))
    assert set(state) == {
        "task", "controller", "shared_optimizer", "progress", "drawn", "random",
    }  # fmt: skip
    assert set(state["random"]) == {"python", "numpy", "torch", "cuda"}
    assert set(state["task"]) == {"model", "train", "valid", "state"}
    assert {"exp_avg", "exp_avg_sq", "step"} == set(state["shared_optimizer"]["state"][0])

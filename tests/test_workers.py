"""Trainings and searches side by side: in processes that work for one call after the other."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import tiny
from test_strategies import table

import enas
from enas import Config
from enas.studies.arena import compare
from enas.studies.truth import side_by_side

__all__ = ["table"]  # a fixture


@pytest.mark.slow
def test_workers_give_the_same_runs(tmp_path):
    config = Config(**tiny.settings(tmp_path, max_epoch=1, shared_max_step=3, controller_max_step=2))
    ends = [enas.sweep(config.replace(log_dir=str(tmp_path / str(jobs))), seeds=2, jobs=jobs) for jobs in (1, 2)]
    assert [run["validation_perplexity"] for run in ends[0]] == [run["validation_perplexity"] for run in ends[1]]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_later_call_looks_at_what_is_in_the_table_then(table, tmp_path, monkeypatch, jobs):
    monkeypatch.chdir(tmp_path)
    ask = partial(compare, table=table, queries=5, seeds=2, strategies=("uniform",), jobs=jobs)
    before = ask()["rows"]
    content = json.loads((tmp_path / "cells.json").read_text())
    for row in content["rows"]:
        for trained_once in row["runs"]:
            trained_once["validation"] += 1000
    (tmp_path / "cells.json").write_text(json.dumps(content))
    after = ask()["rows"]
    assert after[0]["split"] == "validation" and after[0]["mean"] == pytest.approx(before[0]["mean"] + 1000)


def test_workers_that_stay_from_call_to_call_work_where_the_caller_is(tmp_path, monkeypatch):
    """A notebook may change its folder between two sweeps, whose paths are relative."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        places: dict[int, Path] = {}
        side_by_side(2, "loky", dict.fromkeys(range(4), (Path.cwd,)), places.__setitem__, "folders")
        assert set(places.values()) == {tmp_path / name}


STOPPED = """
import os, signal, sys, tempfile, time
from pathlib import Path
from enas.guard import guarded
from enas.studies.truth import side_by_side

def work(number):
    with tempfile.TemporaryDirectory() as folder:
        Path(f"begun {number}").touch()
        time.sleep(600 if number else 0)

tasks = {number: (work, number) for number in range(6)}
done = lambda key, result: Path(f"done {key}").touch()
sys.exit(guarded(lambda: side_by_side(2, "loky", tasks, done, "tasks")))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill", "signum"),
    [
        (os.killpg, signal.SIGINT),  # Ctrl+C, which a terminal sends to all
        (os.kill, signal.SIGTERM),
        (os.kill, signal.SIGKILL),
    ],
)
def test_a_signal_ends_all_workers_who_leave_nothing(tmp_path, kill, signum):
    (tmp_path / "stopped.py").write_text(STOPPED)
    env = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(tiny.ROOT)}
    words = [sys.executable, "-m", "stopped"]
    settings = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(words, cwd=tmp_path, env=env, **settings)
    tiny.wait(process, tmp_path, lambda path: path.name == "done 0" and len([*tmp_path.glob("begun *")]) == 3)
    workers = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "LokyProcess"], capture_output=True, text=True)
    kill(process.pid, signum)
    err = process.communicate(timeout=120)[1]
    is_told = signum != signal.SIGKILL
    assert process.returncode == (128 + signum if is_told else -9), err
    assert not is_told or (err.startswith("stopped by SIG") and err.count("\n") == 1)
    tiny.wait_for_end(*map(int, workers.stdout.split()))
    assert len(workers.stdout.split()) == 2 and not [*tmp_path.glob("tmp*")]
    assert len([*tmp_path.glob("done *")]) == 1 and len([*tmp_path.glob("begun *")]) == 3


def test_workers_that_were_stopped_work_for_the_next_call():
    found: dict[int, int] = {}
    calls = dict.fromkeys(range(20), (time.sleep, 0.2))

    def done(_key, _result):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        side_by_side(2, "loky", calls, done, "naps")
    side_by_side(2, "loky", {number: (abs, -number) for number in range(4)}, found.__setitem__, "numbers")
    assert found == {number: number for number in range(4)}

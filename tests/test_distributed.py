"""Several processes train as one does: torchrun begins two of them on CPUs."""

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import main, run_command

from enas.errors import UserError
from enas.rnn.cell import RNNCell
from enas.rnn.task import LanguageTask
from enas.runs import folder as run_folder
from enas.runs import run
from enas.runs.opening import pick_device
from enas.search import ranks
from enas.search.checkpoint import Checkpoints
from enas.search.ranks import BATCH, Ranks

WORKER = tiny.ROOT / "tests" / "ranks_worker.py"
CELL = RNNCell(("tanh", "ReLU", "sigmoid"), (0, 0))
# Every dropout of a language model, so that masks are seen to be divided too.
DROPOUTS = {
    "shared_dropoute": 0.2, "shared_dropouti": 0.3, "shared_dropout": 0.3, "shared_wdrop": 0.3, "shared_dropouth": 0.2,
}  # fmt: skip


def torchrun(*command, folder=None, num=2, **env) -> subprocess.Popen:
    """`num` processes of a Python script under torchrun."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num}", *command]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tiny.ROOT), **env}
    return subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def searches(folder, name: str, num: int) -> dict[str, dict]:
    """Settings of a search of each kind, and of a cell from scratch; with `num` architectures a step of a process."""
    images, text = folder / "images", folder / "text"
    sizes = {"shared_num_sample": num, "controller_num_aggregate": 3, "controller_max_step": 6}
    # Not Adam, which makes large steps of gradients that are nothing but rounding.
    search = tiny.settings(text, **sizes, **DROPOUTS, controller_optim="sgd", controller_lr=0.1, derive_shortlist=2)
    macro = tiny.settings(images, network_type="cnn", cnn_dropout=0.3, controller_optim="sgd", **sizes)
    scratch = tiny.settings(text, mode="single", **DROPOUTS, given=CELL.to_dict())
    # More samples than the population has places.
    own = {**search, "train_type": "evolution", "controller_max_step": 75}
    near = {**own, "train_type": "local_search"}
    found = {"search": search, "macro": macro, "scratch": scratch, "evolution": own, "local_search": near}
    return {kind: {**settings, "log_dir": str(folder / f"{name}-{kind}")} for kind, settings in found.items()}


# Ten steps an epoch: time enough to kill a run in the middle of an epoch.
SHORT = {"shared_max_step": 10, "controller_max_step": 4, "max_epoch": 6, "log_step": 100}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same runs by one process and by two that share the work; and what two do alone, in the same two processes.

    Every torchrun imports torch three times. What two do alone: two searches that are stopped in step 3, the first of
    which goes on; the same without the stop; a search to go on from that one process began; a longer search; and those
    in which the two are at odds. The last value is what they said on stderr.
    """
    folder = tmp_path_factory.mktemp("ranks")
    alone, together = searches(folder, "alone", 2), searches(folder, "together", 1)
    for settings in alone.values():
        config = run.Config(**{name: value for name, value in settings.items() if name != "given"})
        run.train(config, CELL if "given" in settings else None)
    names = ("one", "two", "whole", "same")
    others = {name: tiny.settings(folder / "text", log_dir=str(folder / name)) for name in names}
    with tiny.in_call(LanguageTask, "shared_loss", 3, partial(signal.raise_signal, signal.SIGTERM)):
        assert main(tiny.flags(others["one"])) == 143
    others["long"] = tiny.settings(folder / "text", log_dir=str(folder / "long"), **SHORT)
    begun = [others["whole"], others["same"] | {"stop": 3}, others["two"] | {"stop": 3}, others["long"]]
    resumed = [{"load_path": str(folder / name / "*")} for name in ("same", "one")]
    runs = [*together.values(), *begun, *resumed, *at_odds(folder)]
    status, out, err = tiny.finish(torchrun(str(WORKER), *map(json.dumps, runs)))
    assert status == 0, err
    assert [out.count(f"status {number}\n") for number in (143, 2, 3)] == [4, 13, 1], (out, err)
    return alone, together, others, out, err


def folder_of(settings: dict) -> Path:
    return tiny.only_run(Path(settings["log_dir"]))


def state_of(settings: dict) -> dict:
    return tiny.newest_state(folder_of(settings))


def test_two_processes_train_as_one_does_and_the_first_alone_speaks_and_writes(both):
    alone, together, others, out, _ = both
    for kind, settings in alone.items():
        # The state of the text, the place in it, every random state, the optimisers, the baseline and the history.
        assert tiny.difference(state_of(settings), state_of(together[kind]), within=1e-4) is None, kind
    assert out.count("group at the end: False") == 2 and "group at the end: True" not in out
    begun = len(together) + len(others) - 1 + 2  # one process began "one"; "spoiled" and "failed" were at odds later
    assert out.count(", on 2 processes, this one on cpu") == begun
    for folder in map(folder_of, together.values()):
        assert len(list(folder.glob("events.*"))) == 1
        assert out.count(f"{folder}/results.json") == 1


def test_a_run_stopped_within_an_epoch_goes_on_with_another_number_of_processes(both):
    """The architectures of its next step, and the states that they go on from, were those of another number."""
    runs = both[2]
    assert state_of(runs["two"])["progress"]["shared_step"] == 3
    assert main(["--load_path", str(folder_of(runs["two"]))]) == 0
    for name in ("one", "two"):
        progress = state_of(runs[name])["progress"]
        assert (progress["epoch"], progress["total_shared_steps"]) == (2, 2 * tiny.SETTINGS["shared_max_step"])
    assert tiny.difference(state_of(runs["same"]), state_of(runs["whole"])) is None


AT_ODDS = {
    "missing": "rank 1 of 2: {}/missing data/tiny/valid.txt: ",
    "nowhere": "{}/nowhere data/tiny: no such dataset; ",  # which all lack is said as by one
    "other": "rank 1 of 2 and rank 0 differ in dataset tiny (vocabulary, train, valid, test); ",
    "changed": "rank 1 of 2: {}/changed/tiny_… is not the data that this run was begun with: its vocabulary (",
    "unlike": "rank 1 of 2 and rank 0 differ in settings (shared_lr); ",
    "spoiled": "rank 1 of 2 and rank 0 differ in the run after epoch 1 (controller); ",
    "failed": "rank 0 of 2: rank 1 ended: a file is gone; --load_path goes on ",
}


def at_odds(folder: Path) -> list[dict]:
    """Settings of searches in which the last process has others, or another controller, or lacks something."""
    settings = {kind: tiny.settings(folder / "text", log_dir=str(folder / kind)) for kind in AT_ODDS}
    run.train(run.Config(**settings["changed"] | {"max_epoch": 1}))
    other, missing = folder / "other data", folder / "missing data"
    tiny.write_corpus(other / "tiny", seed=1)
    tiny.write_corpus(missing / "tiny")
    (missing / "tiny" / "valid.txt").unlink()
    settings["missing"]["last"] = {"data_dir": str(missing)}
    settings["nowhere"]["data_dir"] = str(folder / "nowhere data")
    settings["other"]["last"] = {"data_dir": str(other)}
    settings["changed"] = {"load_path": str(folder / "changed" / "*"), "last": {"data_dir": str(other)}}
    settings["unlike"]["last"] = {"shared_lr": 0.5, "num_threads": 1}
    settings["spoiled"]["spoil"] = True
    settings["failed"]["fail"] = 3
    return [*settings.values()]


def test_processes_at_odds_end_in_one_line(both):
    """Nothing is derived from controllers that have come apart, however little they differ, and nothing is saved."""
    folder = Path(both[2]["one"]["log_dir"]).parent
    lines = [line for line in both[-1].splitlines() if line.startswith("error: ")]
    for says, line in zip(AT_ODDS.values(), lines, strict=True):
        start, _, more = f"error: {says.format(folder)}".partition("…")
        assert line.startswith(start) and more in line
    assert not (folder / "missing").exists() and not (folder / "other").exists()
    spoiled = tiny.only_run(folder / "spoiled")
    assert tiny.newest_state(spoiled)["progress"]["epoch"] == 0 and not (spoiled / "architectures").exists()


@given(num_ranks=st.integers(1, 9), num_items=st.integers(0, 30))
def test_shares_are_even_and_complete(num_ranks, num_items):
    shares = [Ranks(rank, num_ranks).share(range(num_items)) for rank in range(num_ranks)]
    assert [item for share in shares for item in share] == list(range(num_items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_minibatch_that_cannot_be_divided(tmp_path):
    trainer = tiny.trainer(tmp_path)
    with pytest.raises(UserError, match="batch_size is 4; 3 processes train one architecture on equal parts"):
        trainer.task.divide(Ranks(0, 3), BATCH)
    trainer.task.divide(Ranks(0, 4), BATCH)
    images = tiny.trainer(tmp_path / "images", network_type="cnn").task
    with tiny.refused("equal parts of it, so it must be a multiple of 6, and at least 12"):
        images.divide(Ranks(0, 6), BATCH)  # one image has no statistics
    images.divide(Ranks(0, 3), BATCH)


def test_gpus_and_processes_that_do_not_fit(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match="torchrun --nproc_per_node=3 train_scripts"):
        pick_device(3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
    for rank in "01234":
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(UserError, match="fewer GPUs than processes; use --nproc_per_node=4"):
            pick_device(-1)


def test_bad_input_is_one_line_for_all_processes(monkeypatch, capsys):
    lines = []
    for rank in "01":
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert main(["--num_bloks", "5"]) == 2
        lines += capsys.readouterr().err.splitlines()
    assert lines == ["error: unknown flag --num_bloks; did you mean --num_blocks?"]


def test_the_surroundings_that_torchrun_makes_are_numbers(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "many")
    with tiny.refused("RANK and WORLD_SIZE are integers, set by torchrun; unset them"):
        ranks.launched()


def test_a_world_without_torchrun_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with tiny.refused("variable RANK expected, but not set; torchrun sets it, and without torchrun WORLD_SIZE must"):
        ranks.join(0, 5.0)


@pytest.mark.parametrize("trouble", [PermissionError(13, "Permission denied", "data"), MemoryError()])
def test_the_trouble_of_a_system_is_told_to_all_processes(trouble):
    def fail():
        raise trouble

    value, error = ranks._tried(fail)
    assert value is None and re.match("data: Permission denied|out of memory", str(error))


def test_what_runs_in_one_process_refuses_several(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("export", "report", "gif", "download", "convert"):
        assert run_command(name, []) == 2
        assert capsys.readouterr().err == f"error: enas {name} runs in one process; leave torchrun out\n"
    with pytest.raises(UserError, match="an ablation runs in one process; leave torchrun out"):
        run_folder.check_not_launched("an ablation")


def _search(folder, **changes) -> list[str]:
    settings = tiny.settings(folder, **{"shared_max_step": 40, "controller_max_step": 4, **changes})
    return [str(tiny.ROOT / "main.py"), *tiny.flags(settings)]


def _children(process: subprocess.Popen) -> list[int]:
    """The processes that torchrun began, in order of rank."""
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in text.split()]


def _told(err: str) -> list[int]:
    """The ranks that say, each in a line and without a traceback, that the other one is gone."""
    assert f'File "{tiny.ROOT}/enas/' not in err
    line = "another process of the run is gone, or does not answer; --load_path goes on from the newest checkpoint"
    errors = [text for text in err.splitlines() if text.startswith("error: ")]
    ranks_ = [int(text.removeprefix("error: rank ")[0]) for text in errors]
    assert errors == [f"error: rank {rank} of 2: {line}" for rank in ranks_], err
    return ranks_


@tiny.needs_proc
@pytest.mark.slow
def test_a_process_that_hangs_or_is_killed_is_told_in_one_line_and_the_run_goes_on_bit_for_bit(tmp_path, both):
    """The second process hangs, and then the first is killed; the same without both is one of the fixture's runs."""
    process = torchrun("--max-restarts=2", *_search(tmp_path, **SHORT, rank_timeout=6.0))
    tiny.wait(process, tmp_path / "logs", tiny.has_finished(1))
    first, hung = _children(process)
    os.kill(hung, signal.SIGSTOP)
    tiny.wait_for_end(first)
    os.kill(hung, signal.SIGCONT)  # torchrun waits half a minute for a process that it told to end
    tiny.wait(process, tmp_path / "logs", tiny.has_finished(2))
    os.kill(_children(process)[0], signal.SIGKILL)
    status, _, err = tiny.finish(process)
    assert status == 0 and {*_told(err)} == {0, 1}, err  # the second one, too, when it no longer hangs
    assert tiny.difference(state_of(both[2]["long"]), tiny.newest_state(tiny.only_run(tmp_path / "logs"))) is None


def test_no_two_pieces_of_a_step_share_their_draws():
    def drawn(ranks: Ranks) -> list[float]:
        torch.manual_seed(0)
        found = []
        for draws in ranks.draws(2, torch.device("cpu")):
            with draws:
                found.append(float(torch.rand(())))
        return [*found, float(torch.rand(()))]

    first, second = drawn(Ranks(0, 2)), drawn(Ranks(1, 2))
    assert len({*first[:2], *second[:2]}) == 4
    assert first[2] == second[2]  # what all processes share moves on by the same


def test_only_the_first_process_writes_checkpoints(tmp_path):
    Checkpoints(tmp_path, ranks=Ranks(1, 2)).save({}, "00000-00000000.pt")
    assert not list(tmp_path.iterdir())

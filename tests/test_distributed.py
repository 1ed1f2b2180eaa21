"""Several processes train as one does: torchrun begins two of them on CPUs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny
import torch
from test_resume import SignalAt
from tiny import main

from enas.errors import RankLostError, UserError
from enas.rnn.cell import RNNCell
from enas.rnn.task import LanguageTask
from enas.runs import launch, run
from enas.runs.opening import pick_device
from enas.search.checkpoint import Checkpoints
from enas.search.ranks import ALONE, BATCH, Ranks

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


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def searches(folder, name: str, num: int) -> dict[str, dict]:
    """Settings of a search of each kind, and of a cell from scratch; with `num` architectures a step of a process."""
    images, text = folder / "images", folder / "text"
    own = {"log_dir": str(folder / f"{name}-{{}}")}
    sizes = {"shared_num_sample": num, "controller_num_aggregate": 3, "controller_max_step": 6}
    # Not Adam, which makes large steps of gradients that are nothing but rounding.
    search = tiny.settings(text, **sizes, **DROPOUTS, controller_optim="sgd", controller_lr=0.1, derive_shortlist=2)
    macro = tiny.settings(images, network_type="cnn", cnn_dropout=0.3, controller_optim="sgd", **sizes)
    scratch = tiny.settings(text, mode="single", **DROPOUTS, given=CELL.to_dict())
    found = {"search": search, "macro": macro, "scratch": scratch}
    return {kind: {**settings, "log_dir": own["log_dir"].format(kind)} for kind, settings in found.items()}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same runs by one process, and by two that share the work."""
    folder = tmp_path_factory.mktemp("ranks")
    alone, together = searches(folder, "alone", 2), searches(folder, "together", 1)
    for settings in alone.values():
        settings = dict(settings)
        given = settings.pop("given", None)
        run.train(run.Config(**settings)) if given is None else run.single(run.Config(**settings), CELL)
    status, out, err = finish(torchrun(str(WORKER), *(json.dumps(settings) for settings in together.values())))
    assert status == 0, err
    return alone, together, out


def test_processes_part_before_the_interpreter_ends(both):
    _, _, out = both
    assert out.count("group at the end: False") == 2 and "group at the end: True" not in out


def state_of(settings: dict) -> dict:
    return tiny.newest_state(tiny.only_run(tiny.Path(settings["log_dir"])))


def distance(one, other) -> float:
    """The largest difference between two states, relative to 1 + the size of the numbers; NaN equals NaN."""
    if isinstance(one, torch.Tensor):
        if not one.is_floating_point():
            return float(not torch.equal(one, other))
        return float(((one - other).abs() / (1 + one.abs())).nan_to_num().max()) if one.numel() else 0.0
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((distance(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        return max((distance(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, float):
        return abs(one - other) / (1 + abs(one))
    return float(one != other)


@pytest.mark.parametrize("kind", ["search", "macro", "scratch"])
def test_two_processes_train_as_one_does(both, kind):
    alone, together, _ = both
    one, two = state_of(alone[kind]), state_of(together[kind])
    # The state of the text, the place in it, every random state, the optimisers, the baseline and the history.
    assert distance(one, two) < 1e-4


def test_the_first_process_alone_speaks_and_writes(both):
    _, together, out = both
    for settings in together.values():
        folder = tiny.only_run(tiny.Path(settings["log_dir"]))
        assert out.count(", on 2 processes, this one on cpu") == len(together)
        assert len(list(folder.glob("events.*"))) == 1
        assert out.count(f"{folder}/results.json") == 1


def test_what_two_processes_saved_one_goes_on_with_and_the_other_way_round(both, tmp_path):
    alone, together, _ = both
    ends = {}
    for name, settings in (("alone", alone["search"]), ("together", together["search"])):
        copy = tmp_path / name
        shutil.copytree(tiny.only_run(tiny.Path(settings["log_dir"])), copy)
        ends[name] = copy
    run.resume(ends["together"], max_epoch=3)
    status, _, err = finish(torchrun(str(WORKER), json.dumps({"load_path": str(ends["alone"]), "max_epoch": 3})))
    assert status == 0, err
    for copy in ends.values():
        assert tiny.newest_state(copy)["progress"]["epoch"] == 3


def test_a_run_stopped_within_an_epoch_goes_on_with_another_number_of_processes(tmp_path, monkeypatch):
    """The architectures of its next step, and the states that they go on from, were those of another number."""
    names = ("one", "two", "whole", "same")
    settings = {name: tiny.settings(tmp_path / "text", log_dir=str(tmp_path / name)) for name in names}
    with monkeypatch.context() as patch:
        interrupting = SignalAt(LanguageTask.shared_loss, 3, signal.SIGTERM)
        patch.setattr(LanguageTask, "shared_loss", lambda *args: interrupting(*args))
        assert main(tiny.flags(settings["one"])) == 143
    runs = [settings["whole"], settings["same"] | {"stop": 3}, settings["two"] | {"stop": 3}]
    resumed = [{"load_path": str(tmp_path / name / "*")} for name in ("same", "one")]
    status, out, err = finish(torchrun(str(WORKER), *map(json.dumps, [*runs, *resumed])))
    assert status == 0 and out.count("status 143") == 4, (out, err)
    assert state_of(settings["two"])["progress"]["shared_step"] == 3
    assert main(["--load_path", str(tiny.only_run(tmp_path / "two"))]) == 0
    for name in ("one", "two"):
        progress = state_of(settings[name])["progress"]
        assert (progress["epoch"], progress["total_shared_steps"]) == (2, 2 * tiny.SETTINGS["shared_max_step"])
    assert tiny.difference(state_of(settings["same"]), state_of(settings["whole"])) is None


@pytest.fixture(scope="module")
def at_odds(tmp_path_factory) -> dict[str, list[str]]:
    """The error lines of runs whose two processes differ, and the folder of each."""
    folder = tmp_path_factory.mktemp("odds")
    kinds = ("missing", "nowhere", "other", "changed", "spoiled", "failed")
    settings = {kind: tiny.settings(folder / "text", log_dir=str(folder / kind)) for kind in kinds}
    run.train(run.Config(**settings["changed"] | {"max_epoch": 1}))
    other, missing = folder / "other data", folder / "missing data"
    tiny.write_corpus(other / "tiny", seed=1)
    tiny.write_corpus(missing / "tiny")
    (missing / "tiny" / "valid.txt").unlink()
    settings["missing"]["last"] = {"data_dir": str(missing)}
    settings["nowhere"]["data_dir"] = str(folder / "nowhere data")
    settings["other"]["last"] = {"data_dir": str(other)}
    settings["changed"] = {"load_path": str(folder / "changed" / "*"), "last": {"data_dir": str(other)}}
    settings["spoiled"]["spoil"] = True
    settings["failed"]["fail"] = 3
    status, out, err = finish(torchrun(str(WORKER), *map(json.dumps, settings.values())))
    assert status == 0 and (out.count("status 2"), out.count("status 3")) == (11, 1), (out, err)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(kinds), err  # one for each run
    return {"folder": folder, **dict(zip(kinds, lines, strict=True))}


def test_what_one_process_lacks_is_said_and_all_end(at_odds):
    file = at_odds["folder"] / "missing data" / "tiny" / "valid.txt"
    assert at_odds["missing"].startswith(f"error: rank 1 of 2: {file}: ")
    assert not (at_odds["folder"] / "missing").exists()


def test_what_all_processes_lack_is_said_as_by_one(at_odds):
    assert at_odds["nowhere"].startswith(f"error: {at_odds['folder']}/nowhere data/tiny: no such dataset; ")


def test_processes_with_other_data_do_not_train_together(at_odds):
    line = "error: rank 1 of 2 and rank 0 differ in dataset tiny (vocabulary, train, valid, test); "
    assert at_odds["other"].startswith(line)
    assert not (at_odds["folder"] / "other").exists()


def test_a_run_goes_on_only_where_each_process_has_its_data(at_odds):
    assert at_odds["changed"].startswith("error: rank 1 of 2: ")
    assert "tiny is not the data that this run was begun with" in at_odds["changed"]


def test_controllers_that_have_come_apart_end_the_run(at_odds):
    """However little they differ; nothing is derived from them, and nothing saved."""
    assert at_odds["spoiled"].startswith("error: rank 1 of 2 and rank 0 differ in the run after epoch 1 (controller); ")
    folder = tiny.only_run(at_odds["folder"] / "spoiled")
    assert tiny.newest_state(folder)["progress"]["epoch"] == 0
    assert not (folder / "architectures").exists()


def test_a_process_that_fails_alone_is_named_with_its_reason_by_the_others(at_odds):
    assert at_odds["failed"].startswith("error: rank 0 of 2: rank 1 ended: a file is gone; --load_path goes on ")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:62701", RankLostError),
        ("ProcessGroupGloo::allgather: invalid tensor size at index 0 (expected (4), got (3))", RuntimeError),
    ],
)
def test_a_mistake_is_not_told_as_a_lost_process(monkeypatch, message, kind):
    def gather(*args):
        raise RuntimeError(message)

    monkeypatch.setattr(torch.distributed, "all_gather", gather)
    with pytest.raises(RuntimeError) as error:
        Ranks(0, 2).joined(torch.zeros(4), 0)
    assert error.type is kind


@pytest.mark.parametrize("num_ranks, num_items", [(2, 5), (3, 2), (4, 9)])
def test_shares_are_even_and_complete(num_ranks, num_items):
    items = list(range(num_items))
    shares = [Ranks(rank, num_ranks).share(items) for rank in range(num_ranks)]
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_minibatch_that_cannot_be_divided(tmp_path):
    trainer = tiny.trainer(tmp_path)
    with pytest.raises(UserError, match="batch_size is 4; 3 processes train one architecture on equal parts"):
        trainer.task.divide(Ranks(0, 3), BATCH)


def test_more_gpus_than_one_need_torchrun(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match="torchrun --nproc_per_node=3 train_scripts"):
        pick_device(3)


def test_more_processes_than_gpus_are_refused_in_each_alike(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    for rank in "012":
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(UserError, match="fewer GPUs than processes; use --nproc_per_node=2"):
            pick_device(-1)


def test_bad_input_is_one_line_for_all_processes(monkeypatch, capsys):
    lines = []
    for rank in "01":
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert main(["--num_bloks", "5"]) == 2
        lines += capsys.readouterr().err.splitlines()
    assert lines == ["error: unknown flag --num_bloks; did you mean --num_blocks?"]


def test_what_runs_in_one_process_refuses_several(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="an ablation runs in one process; leave torchrun out"):
        launch.check_not_launched("an ablation")


def test_one_process_sends_nothing():
    assert ALONE.largest(3) == 3
    assert ALONE.from_first(lambda: "x") == "x"
    np.testing.assert_array_equal(ALONE.divided(lambda items: torch.tensor(items), [1.0, 2.0]), [1.0, 2.0])


def _search(folder, **changes) -> list[str]:
    sizes = {"shared_max_step": 40, "max_epoch": 6, "controller_max_step": 4, **changes}
    settings = tiny.settings(folder, **sizes)
    return [str(tiny.ROOT / "main.py"), *tiny.flags(settings)]


def _children(process: subprocess.Popen) -> list[int]:
    """The processes that torchrun began, in order of rank."""
    text = tiny.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in text.split()]


def _wait_for_epoch(folder, epoch: int) -> None:
    for _ in range(600):
        if list(folder.glob(f"logs/*/checkpoints/{epoch:05d}-*.pt")):
            return
        time.sleep(0.1)
    raise AssertionError(f"no checkpoint of epoch {epoch} after a minute")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_in_one_line(tmp_path, rank):
    process = torchrun(*_search(tmp_path, max_epoch=500))
    _wait_for_epoch(tmp_path, 1)
    os.kill(_children(process)[rank], signal.SIGKILL)
    status, _, err = finish(process)
    own = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status != 0
    assert own == [
        f"error: rank {1 - rank} of 2: another process of the run is gone, or does not answer; "
        "--load_path goes on from the newest checkpoint"
    ]
    assert "/enas/" not in err  # no traceback of ours


@pytest.mark.slow
def test_a_restarted_run_goes_on_bit_for_bit(tmp_path):
    short = {"shared_max_step": 10, "max_epoch": 4, "log_step": 100}
    status, _, err = finish(torchrun(*_search(tmp_path / "whole", **short)))
    assert status == 0, err
    process = torchrun("--max-restarts=1", *_search(tmp_path / "killed", **short))
    _wait_for_epoch(tmp_path / "killed", 1)
    os.kill(_children(process)[1], signal.SIGKILL)
    status, _, err = finish(process)
    assert status == 0, err
    whole, killed = (tiny.newest_state(tiny.only_run(tmp_path / name / "logs")) for name in ("whole", "killed"))
    assert distance(whole, killed) == 0


@pytest.mark.slow
def test_a_signal_stops_all_at_the_same_step(tmp_path):
    process = torchrun(*_search(tmp_path, max_epoch=500))
    _wait_for_epoch(tmp_path, 1)
    os.kill(_children(process)[1], signal.SIGTERM)
    status, _, err = finish(process)
    assert status != 0
    assert "stopped by SIGTERM; the run is saved and can be resumed" in err
    assert main(["--load_path", str(tiny.only_run(tmp_path / "logs")), "--max_epoch", "1"]) == 0


@pytest.mark.slow
def test_a_process_that_hangs_is_given_up_in_time(tmp_path):
    process = torchrun(*_search(tmp_path, max_epoch=500, rank_timeout=4.0))
    _wait_for_epoch(tmp_path, 1)
    hung = _children(process)[1]
    os.kill(hung, signal.SIGSTOP)
    # torchrun waits half a minute for a process that it told to end; this one can end when it goes on.
    wakes = threading.Timer(10, os.kill, (hung, signal.SIGCONT))
    wakes.start()
    status, _, err = finish(process)
    wakes.join()
    assert status != 0
    assert "error: rank 0 of 2: another process of the run is gone, or does not answer" in err


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

"""What a run chooses for the machine it is on, and that choosing changes nothing else."""

import copy
import itertools
import json
import time
from types import SimpleNamespace

import pytest
import tiny
import torch

from enas.rnn.cell import RNNCell
from enas.runs import opening, run
from enas.runs.commands import execute
from enas.search import precision, probe
from enas.search.trainer import Trainer
from enas.studies.ablations import node_removal

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_threads(monkeypatch):
    """No number of threads from outside, and this process's own again afterwards."""
    monkeypatch.delenv(probe.THREADS_VARIABLE, raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def timed(monkeypatch, *times: float):
    """Let the trials take these times, one after the other; each action is carried out once."""
    left = iter(times)

    def seconds(action):
        action()
        return next(left)

    monkeypatch.setattr(probe, "seconds", seconds)


CHOICES = [  # what is tried, the times that the trials take, the choice, and its reason
    (probe.choose_precision, (0.2, 0.1), "bfloat16", "200 ms in float32, 100 ms in bfloat16"),
    (probe.choose_precision, (0.1, 0.2), "float32", "100 ms in float32, 200 ms in bfloat16"),
    (probe.choose_precision, (0.104, 0.1), "float32", "104 ms in float32, 100 ms in bfloat16"),
    (probe.choose_threads, (0.3, 0.2, 0.1), 4, "300 ms with 1, 200 ms with 2, 100 ms with 4"),
    (probe.choose_threads, (0.3, 0.2, 0.199), 2, "300 ms with 1, 200 ms with 2, 199 ms with 4"),
    (probe.choose_threads, (0.109, 0.1, 0.1), 1, "109 ms with 1, 100 ms with 2, 100 ms with 4"),
]


@pytest.mark.parametrize("network_type", ["rnn", "cnn"])
def test_trials_choose_what_is_clearly_faster_and_change_nothing_else(tmp_path, monkeypatch, network_type):
    trainer = tiny.trainer(tmp_path, network_type=network_type)
    trainer.train_shared()
    before = copy.deepcopy(tiny.without_clock(trainer.state_dict()))

    def draw():
        return trainer.controller.sample(1).architectures

    chosen = probe.choose_precision(trainer.task, draw)
    assert chosen == ("float32", "this processor has no other")
    monkeypatch.setattr(precision, "BFLOAT16_INSTRUCTIONS", tuple(torch.cpu.get_capabilities()))
    for choose, times, chosen, why in CHOICES:
        torch.set_num_threads(4)
        timed(monkeypatch, *times)
        assert choose(trainer.task, draw) == (chosen, f"a step takes {why}")
        assert torch.get_num_threads() == (chosen if choose is probe.choose_threads else 4)
        assert trainer.task.precision == "float32"
    assert tiny.difference(before, tiny.without_clock(trainer.state_dict())) is None
    assert all(weight.grad is None for weight in trainer.task.model.parameters())


def test_images_in_less_precision_are_about_the_same(tmp_path):
    trainer = tiny.trainer(tmp_path, network_type="cnn", cnn_reward="log_likelihood")
    networks = trainer.controller.sample(3).architectures
    exact = torch.tensor(trainer.task.rank(networks, 2))
    trainer.task.precision = "bfloat16"
    rounded = torch.tensor(trainer.task.rank(networks, 2))
    assert 0 < (exact - rounded).abs().max() < 0.1
    loss, _ = trainer.task.shared_loss(networks[:1])
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(weight.grad is None or weight.grad.dtype == torch.float32 for weight in trainer.task.model.parameters())


def test_a_gpu_may_round_to_tf32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert precision.available(torch.device("cuda")) == ["float32", "tf32", "bfloat16"]
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for name, allowed in (("tf32", True), ("float32", False)):
        last = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        precision.use(name, CPU)
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == last
        precision.use(name, torch.device("cuda"))
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(("long", "calls"), [(60.0, 4), (0.0, 1)])
def test_the_first_try_of_a_short_trial_does_not_count_and_a_long_one_is_not_repeated(monkeypatch, long, calls):
    monkeypatch.setattr(probe, "LONG", long)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    naps = iter([0.2, 0.01, 0.01, 0.01])
    seconds = probe.seconds(lambda: time.sleep(next(naps)))
    assert len(list(naps)) == 4 - calls and (seconds >= 0.2) == (calls == 1)


def test_beside_a_gpu_two_threads_are_enough_unless_the_environment_names_a_number(monkeypatch):
    torch.set_num_threads(3)
    task = SimpleNamespace(device=torch.device("cuda"))
    assert probe.choose_threads(task, None) == (2, "beside a GPU there is only the controller to compute")
    assert torch.get_num_threads() == 2
    monkeypatch.setenv(probe.THREADS_VARIABLE, "2")
    assert probe.choose_threads(task, None) == (2, "OMP_NUM_THREADS is set")


def test_a_run_that_tried_ends_like_one_that_was_told(tmp_path, monkeypatch):
    told = tiny.run_in(tmp_path, num_threads=1, log_dir=str(tmp_path / "told"))
    torch.set_num_threads(2)
    timed(monkeypatch, 0.1, 0.1)
    tried = tiny.run_in(tmp_path, num_threads=0, log_dir=str(tmp_path / "tried"))
    assert tiny.difference(tiny.newest_state(told), tiny.newest_state(tried)) is None
    assert "threads 1: a step takes 100 ms with 1, 100 ms with 2" in (tried / "train.log").read_text()
    assert "threads 1: as num_threads says" in (told / "train.log").read_text()


def test_a_precision_that_the_device_lacks_is_named(tmp_path):
    log = (tiny.run_in(tmp_path, precision="tf32") / "train.log").read_text()
    assert "precision tf32: this device has no instructions for it" in log


def test_a_resumed_run_keeps_what_it_began_with_and_one_from_scratch_chooses_anew(tmp_path, monkeypatch):
    choices = iter([("bfloat16", "first"), ("float32", "second")])
    monkeypatch.setattr(opening, "choose_precision", lambda *arguments: next(choices))
    folder = tiny.run_in(tmp_path, precision="auto", num_threads=2)
    assert "precision bfloat16: first" in (folder / "train.log").read_text()
    torch.set_num_threads(3)
    derive, threads = Trainer.derive, []
    monkeypatch.setattr(Trainer, "derive", lambda self: (threads.append(torch.get_num_threads()), derive(self))[1])
    execute(load_path=str(folder), max_epoch=3)
    params = tiny.params(folder)
    assert (params["precision"], params["num_threads"]) == ("bfloat16", 2)
    assert threads == [2] and torch.get_num_threads() == 3
    torch.set_num_threads(4)
    timed(monkeypatch, 0.1, 0.2, 0.3)  # with 1, 2 and 4, though the search had 2
    scratch = {"mode": "train_scratch", "load_path": str(folder), "log_dir": str(tmp_path / "scratch"), "max_epoch": 1}
    execute(**scratch)
    params = tiny.params(tiny.only_run(tmp_path / "scratch"))
    assert (params["precision"], params["num_threads"]) == ("float32", 1)
    monkeypatch.setenv(probe.THREADS_VARIABLE, "4")
    execute(load_path=str(folder), max_epoch=4)  # the environment wins over the run, and what is given over both
    execute(load_path=str(folder), max_epoch=5, num_threads=1)
    assert threads == [2, 4, 1]


def test_runs_that_are_compared_have_the_precision_of_the_search(tmp_path, monkeypatch):
    """Trials of each would choose now this one and now that one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "choose_precision", lambda *_: ("bfloat16", "first"))
    folder = tiny.run_in(tmp_path, precision="auto", num_threads=1)
    monkeypatch.setattr(opening, "choose_precision", lambda *_: ("float32", "anew"))
    short = {"load_path": str(folder), "max_epoch": 1, "num_threads": 1}
    execute(mode="train_scratch", log_dir="compared", compare_with=["random"], **short)
    node_removal(mode="train_scratch", log_dir="removed", **short)
    (tmp_path / "compare.py").write_text("compare_with = ['random']\n")
    run.train_scratch(log_dir="by_preset", config="compare.py", **short)
    (folder / "params.json").write_text(json.dumps({**tiny.params(folder), "compare_with": ["random"]}))
    run.train_scratch(log_dir="by_search", **short)
    runs = [one for name in ("compared", "removed", "by_preset", "by_search") for one in (tmp_path / name).iterdir()]
    assert len(runs) > 7 and {tiny.params(one)["precision"] for one in runs} == {"bfloat16"}
    run.train_scratch(log_dir="alone", **short, compare_with=[])
    assert tiny.params(tiny.only_run(tmp_path / "alone"))["precision"] == "float32"


def test_variants_without_a_search_have_one_precision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = itertools.cycle([("bfloat16", "now"), ("float32", "then")])
    monkeypatch.setattr(opening, "choose_precision", lambda *_: next(chosen))
    (tmp_path / "cell.json").write_text(RNNCell(("tanh", "ReLU", "sigmoid"), (0, 1)).to_json())
    given = tiny.settings(tmp_path, num_blocks=3, max_epoch=1, num_threads=1, log_dir="runs", precision="auto")
    node_removal(mode="train_scratch", dag_path="cell.json", **given)
    assert {tiny.params(one)["precision"] for one in (tmp_path / "runs").iterdir()} == {"float32"}

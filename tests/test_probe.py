"""What a run chooses for the machine it is on, and that choosing changes nothing else."""

import json
from unittest import mock

import pytest
import tiny
import torch

from enas.runs import opening
from enas.runs.commands import execute
from enas.search import precision, probe
from enas.search.checkpoint import random_states
from enas.search.trainer import Trainer

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


@pytest.mark.parametrize("network_type", ["rnn", "cnn"])
@pytest.mark.parametrize(
    ("is_there", "times", "chosen", "why"),
    [
        (False, (), "float32", "this processor has no other"),
        (True, (0.2, 0.1), "bfloat16", "a step takes 200 ms in float32, 100 ms in bfloat16"),
        (True, (0.1, 0.2), "float32", "a step takes 100 ms in float32, 200 ms in bfloat16"),
        (True, (0.104, 0.1), "float32", "a step takes 104 ms in float32, 100 ms in bfloat16"),
    ],
)
def test_less_precision_is_chosen_where_it_is_there_and_faster(
    tmp_path, monkeypatch, network_type, is_there, times, chosen, why
):
    trainer = tiny.trainer(tmp_path, network_type=network_type)
    trainer.train_shared()
    before = torch.load(_saved(trainer.task.state_dict(), tmp_path / "before.pt"), weights_only=False)
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: is_there)
    timed(monkeypatch, *times)
    state = random_states()
    assert probe.choose_precision(trainer.task, trainer.controller, 1) == (chosen, why)
    assert trainer.task.precision == "float32"
    assert tiny.difference(random_states(), state) is None
    assert tiny.difference(before, trainer.task.state_dict()) is None


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


def test_a_processor_that_torch_cannot_ask_has_none(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not precision.has_bfloat16(CPU)


def test_a_long_trial_is_not_repeated(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(probe, "_timed", lambda action: (calls.append(action()), 2.0)[1])
    assert probe.seconds(lambda: None) == 2.0 and len(calls) == 1
    monkeypatch.setattr(probe, "_timed", lambda action: (calls.append(action()), 0.5 / len(calls))[1])
    assert probe.seconds(lambda: None) == 0.5 / 5


def test_beside_a_gpu_two_threads_are_enough():
    torch.set_num_threads(3)
    task = mock.Mock(device=torch.device("cuda"))
    assert probe.choose_threads(task, None, 1) == (2, "beside a GPU there is only the controller to compute")
    assert torch.get_num_threads() == 2


def test_on_a_gpu_the_first_try_does_not_count(monkeypatch):
    """It compiles kernels and records a graph, once and for all."""
    times = iter([5.0, 0.02, 0.01, 0.03])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(probe, "_timed", lambda action: next(times))
    assert probe.seconds(lambda: None) == 0.01


@pytest.mark.parametrize(
    ("times", "chosen"), [((0.3, 0.2, 0.1), 4), ((0.3, 0.2, 0.199), 2), ((0.1, 0.2, 0.3), 1), ((0.109, 0.1, 0.1), 1)]
)
@pytest.mark.parametrize("network_type", ["rnn", "cnn"])
def test_the_fewest_threads_are_chosen_that_are_about_as_fast(tmp_path, monkeypatch, network_type, times, chosen):
    trainer = tiny.trainer(tmp_path, network_type=network_type)
    trainer.train_shared()
    before, states = trainer.state_dict(), random_states()
    before = torch.load(_saved(before, tmp_path / "before.pt"), weights_only=False)
    torch.set_num_threads(4)
    timed(monkeypatch, *times)
    num, why = probe.choose_threads(trainer.task, trainer.controller, 1)
    assert num == chosen == torch.get_num_threads()
    assert why.startswith(f"a step takes {1e3 * times[0]:.3g} ms with 1, {1e3 * times[1]:.3g} ms with 2")
    after = trainer.state_dict()
    for state in (before, after):
        del state["progress"]["seconds"]
    assert tiny.difference(before, after) is None
    assert tiny.difference(states, random_states()) is None
    assert all(weight.grad is None for weight in trainer.task.model.parameters())


def _saved(state: dict, path):
    torch.save(state, path)
    return path


def test_what_the_environment_says_wins(tmp_path, monkeypatch):
    monkeypatch.setenv(probe.THREADS_VARIABLE, "3")
    torch.set_num_threads(3)
    with mock.patch.object(probe, "seconds", side_effect=AssertionError):
        assert probe.choose_threads(None, None, 1) == (3, "OMP_NUM_THREADS is set")


def test_a_run_that_tried_ends_like_one_that_was_told(tmp_path, monkeypatch):
    execute(**tiny.settings(tmp_path, num_threads=1, log_dir=str(tmp_path / "told")))
    torch.set_num_threads(2)
    timed(monkeypatch, 0.1, 0.1)
    execute(**tiny.settings(tmp_path, num_threads=0, log_dir=str(tmp_path / "tried")))
    told, tried = (tiny.only_run(tmp_path / name) for name in ("told", "tried"))
    assert tiny.difference(tiny.newest_state(told), tiny.newest_state(tried)) is None
    assert "threads 1: a step takes 100 ms with 1, 100 ms with 2" in (tried / "train.log").read_text()
    assert "threads 1: as num_threads says" in (told / "train.log").read_text()


def test_a_resumed_run_keeps_what_it_began_with_and_one_from_scratch_chooses_anew(tmp_path, monkeypatch):
    choices = iter([("bfloat16", "first"), ("float32", "second")])
    monkeypatch.setattr(opening, "choose_precision", lambda *arguments: next(choices))
    execute(**tiny.settings(tmp_path, precision="auto", num_threads=2))
    folder = tiny.only_run(tmp_path / "logs")
    assert "precision bfloat16: first" in (folder / "train.log").read_text()
    torch.set_num_threads(3)
    derive, threads = Trainer.derive, []
    monkeypatch.setattr(Trainer, "derive", lambda self: (threads.append(torch.get_num_threads()), derive(self))[1])
    execute(load_path=str(folder), max_epoch=3)
    params = json.loads((folder / "params.json").read_text())
    assert (params["precision"], params["num_threads"]) == ("bfloat16", 2)
    assert threads == [2] and torch.get_num_threads() == 3
    torch.set_num_threads(4)
    timed(monkeypatch, 0.1, 0.2, 0.3)  # with 1, 2 and 4, though the search had 2
    scratch = {"mode": "train_scratch", "load_path": str(folder), "log_dir": str(tmp_path / "scratch"), "max_epoch": 1}
    execute(**scratch)
    params = json.loads((tiny.only_run(tmp_path / "scratch") / "params.json").read_text())
    assert (params["precision"], params["num_threads"]) == ("float32", 1)

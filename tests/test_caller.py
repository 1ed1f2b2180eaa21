"""What a run leaves behind in the process that called it: no random number drawn, no thread more or less."""

import multiprocessing
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from enas.config import Config
from enas.errors import Interrupted, TrainingDivergedError, UserError
from enas.rnn.cell import RNNCell
from enas.rnn.task import LanguageTask
from enas.runs import run
from enas.runs.opening import undisturbed
from enas.search.checkpoint import random_states
from enas.search.ranks import Ranks
from enas.studies import ablations, search_evaluation
from enas.studies.truth import functions_of

CELL = RNNCell(("tanh", "ReLU"), (0,))
SHORT = {"max_epoch": 1, "shared_max_step": 2}


@pytest.fixture(scope="module")
def home(trained, tmp_path_factory) -> Path:
    """A folder with a finished search in `logs`."""
    return tiny.moved(trained.parent.parent, tmp_path_factory.mktemp("home"))


def _config(home: Path, tmp_path: Path, mode: str = "train", **changes) -> Config:
    return Config(**tiny.settings(home, **{**SHORT, "mode": mode, "log_dir": str(tmp_path / "logs"), **changes}))


def _own_data(home: Path, tmp_path: Path) -> None:
    texts = [["a b c d", "b c d a", "c d"] * 10] * 3
    names = ("batch_size", "shared_embed", "shared_hid", "num_blocks", "num_gpu", "num_threads", "derive_num_sample")
    places = {"data_dir": str(tmp_path / "data"), "log_dir": str(tmp_path / "logs")}
    sizes = {name: tiny.SETTINGS[name] for name in names}
    run.search(*texts, **SHORT, **sizes, **places, controller_max_step=2)


def _on_the_search(function: Callable, home: Path, _, **changes) -> None:
    function(load_path=str(tiny.only_run(home / "logs")), **changes)


# Everything that a user calls from Python, each with one thread.
CALLS = {
    "train": lambda home, tmp: run.train(_config(home, tmp)),
    "search": _own_data,
    "single": lambda home, tmp: run.train(_config(home, tmp, "single"), CELL),
    "train_scratch": lambda home, tmp: _on_the_search(run.train_scratch, home, tmp, **SHORT, log_dir=str(tmp)),
    "resume": partial(_on_the_search, run.resume),
    "derive": partial(_on_the_search, run.derive),
    "finalists": partial(_on_the_search, run.derive, derive_shortlist=2, derive_finalists=2),
    "test": partial(_on_the_search, run.test),
    "architecture_of": partial(_on_the_search, run.architecture_of, derive_num_sample=7),
    "node_removal": partial(_on_the_search, ablations.node_removal, max_batches=1),
    "activation_replacement": partial(_on_the_search, ablations.activation_replacement, max_batches=1),
    "search_and_rank": lambda home, tmp: search_evaluation.search_and_rank(_config(home, tmp).to_dict(), []),
    "best_candidates": lambda home, tmp: search_evaluation.best_candidates(tiny.only_run(home / "logs"), 1),
}


@pytest.fixture
def caller(tmp_path, monkeypatch):
    """A caller whose random states and number of threads are those of no run: compares them after a block."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    @contextmanager
    def unchanged():
        random.seed(11), np.random.seed(12), torch.manual_seed(13)
        torch.set_num_threads(2)
        before = random_states()
        yield
        assert torch.get_num_threads() == 2
        assert tiny.difference(random_states(), before) is None

    yield unchanged
    torch.set_num_threads(1)


@pytest.mark.parametrize("call", CALLS)
def test_every_function_gives_random_states_and_threads_back(home, tmp_path, caller, call):
    with caller():
        CALLS[call](home, tmp_path)


FAILING = ("train", "search", "single", "train_scratch", "derive", "test", "node_removal", "best_candidates")
FAILURES = [*((call, TrainingDivergedError) for call in FAILING), ("train", Interrupted)]


@pytest.mark.parametrize(("call", "error"), FAILURES)
def test_a_function_that_fails_gives_them_back_too(home, tmp_path, caller, monkeypatch, call, error):
    def fail(*args):
        raise error(2, "failed")

    for method in ("shared_loss", "rank", "evaluate"):
        monkeypatch.setattr(LanguageTask, method, fail)
    with caller(), pytest.raises(error):
        CALLS[call](home, tmp_path)


def test_evaluations_tables_and_the_pieces_of_a_step_seed_no_gpu(tmp_path, monkeypatch):
    """Dropout and augmentation draw on the GPU; the run draws on the CPU, whose generator stays too."""
    trainer, seedings = tiny.trainer(tmp_path), []
    trainer.train_shared()
    for name in ("manual_seed", "manual_seed_all", "seed", "seed_all"):
        monkeypatch.setattr(torch.cuda, name, lambda *seed, name=name: seedings.append((name, *seed)))
    before, space = torch.get_rng_state(), trainer.controller.space
    trainer.derive()
    found = functions_of(space, 5)
    assert torch.equal(torch.get_rng_state(), before)
    for draws in Ranks(0, 2).draws(2, torch.device("cpu")):
        with draws:
            torch.rand(1)
    assert seedings == []
    assert len(set(found)) == 5


def test_a_second_run_in_another_thread_is_refused_in_a_line(home, tmp_path, monkeypatch):
    """The process has one set of random numbers: two runs would take them from each other, and both end otherwise.

    In a trial, perplexity was 271.34 twice for one run after the other, and 292.49 and 358.14 for both at once.
    """
    alone = run.train(_config(home, tmp_path / "alone"))
    begun, refused = threading.Event(), threading.Event()
    shared_loss = LanguageTask.shared_loss

    def waiting(*args):
        begun.set()
        assert refused.wait(60)
        return shared_loss(*args)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(UserError, match="no such run"):  # after it, the next run may begin
            pool.submit(run.resume, "nonesuch").result()
        monkeypatch.setattr(LanguageTask, "shared_loss", waiting)
        first = pool.submit(run.train, _config(home, tmp_path / "first"))
        try:
            assert begun.wait(60)
            for name, call in CALLS.items():
                with pytest.raises(UserError, match=r"^another thread .* in a process of its own$"):
                    call(home, tmp_path / name)
                assert not (tmp_path / name).exists()
        finally:
            refused.set()
        beside = first.result()
    assert beside["architecture"] == alone["architecture"]
    assert beside["validation_perplexity"] == alone["validation_perplexity"]


def _begin() -> None:
    with undisturbed():
        pass


def test_a_forked_process_may_begin_a_run_beside_the_thread_of_its_parent():
    """That thread is not in the child, and could never end its run there."""
    begun, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with undisturbed():
            begun.set()
            ended.wait(60)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        try:
            assert begun.wait(60)
            child = multiprocessing.get_context("fork").Process(target=_begin)
            child.start()
            child.join(60)
        finally:
            ended.set()
    assert child.exitcode == 0


def test_how_often_a_search_evaluates_moves_nothing_else(tmp_path):
    """A trained policy and a uniform one, whose candidates are drawn on the CPU."""
    for train_type in ("orig", "random"):
        ends = []
        for save_epoch in (1, 3):
            made = tiny.trainer(tmp_path, train_type=train_type, max_epoch=3, save_epoch=save_epoch)
            made.train()
            ends.append({"model": made.task.model.state_dict(), "controller": made.controller.state_dict()})
        assert tiny.difference(*ends) is None

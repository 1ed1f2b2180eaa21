"""A handful of the trials of `benchmarks.faults`; the figures of all of them are in benchmarks/RESULTS.md."""

import functools

import pytest

from benchmarks import faults
from benchmarks.faults import Fault, Outcome

TRIALS = [
    Fault("search", "kill", "rename", 7),
    Fault("search", "limit", "start", size=8000),
    Fault("search", "flip", "shared step", 25),
    Fault("ablation", "terminate", "renamed", 6),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return functools.cache(lambda work: faults.undisturbed(work, tmp_path_factory.mktemp(work)))


@pytest.mark.slow
@pytest.mark.parametrize("fault", TRIALS, ids=lambda fault: f"{fault.work}-{fault.kind}")
def test_a_run_survives(undisturbed, tmp_path, fault):
    outcome = faults.trial(fault, tmp_path, undisturbed(fault.work))
    assert outcome.problem == ""
    assert outcome.steps_lost <= 2 * faults.STEPS_BETWEEN_CHECKPOINTS and outcome.trainings_repeated <= 1


def test_there_are_more_than_a_hundred_trials_of_every_kind():
    planned = faults.plan(1)
    assert len(planned) > 100 and len(set(planned)) > 90
    assert {fault.kind for fault in planned} == faults.KINDS.keys() == faults.STATUSES.keys()
    assert {fault.work for fault in planned} == {"search", "ablation", "evaluation", "ranks"}
    assert planned == faults.plan(1) != faults.plan(2)


def test_what_is_lost_is_measured_against_the_checkpoints():
    killed, told = Fault("search", "kill", "shared step"), Fault("search", "terminate", "shared step")
    assert faults._too_much(killed, 15, 0) == "" == faults._too_much(told, 0, 0)
    assert faults._too_much(killed, 16, 0) == "16 steps lost, and 15 lie between two checkpoints"
    assert "1 steps lost" in faults._too_much(told, 1, 0)
    assert faults._too_much(Fault("ablation", "kill", "fsync"), 0, 2) == "2 trainings repeated"


def test_the_table_counts_what_went_wrong():
    rows = [(Fault("search", "kill", "fsync"), Outcome("", 3)), (Fault("search", "kill", "rename"), Outcome("no", 5))]
    assert faults.table(rows)[2] == "| search | SIGKILL | fsync, rename | 2 | 1 | 5 | 0 |"


@pytest.mark.parametrize(
    ("fault", "status", "err", "clean"),
    [
        (Fault("search", "terminate", "fsync"), 143, "stopped by SIGTERM; the run is saved", True),
        (Fault("search", "terminate", "fsync"), 1, "", False),
        (Fault("search", "full", "fsync"), 2, "error: one line", True),
        (Fault("search", "full", "fsync"), 2, "error: one line\nand another", False),
    ],
)
def test_what_a_clean_end_is(fault, status, err, clean):
    assert (faults._unclean(fault, status, err) == "") is clean

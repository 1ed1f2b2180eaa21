"""One trial of `benchmarks.faults`; the figures of all of them are in benchmarks/RESULTS.md."""

import pytest

from benchmarks import faults
from benchmarks.faults import Fault


@pytest.mark.slow
def test_a_search_survives_a_kill_and_a_damaged_checkpoint(tmp_path):
    fault = Fault("search", "flip", "shared step", 25)
    outcome = faults.trial(fault, tmp_path, faults.undisturbed("search", tmp_path / "undisturbed"))
    assert outcome.problem == "" and outcome.steps_lost <= 2 * faults.STEPS_BETWEEN_CHECKPOINTS
    assert faults.table([(fault, outcome)])[2].startswith(
        "| search | SIGKILL, a bit of the newest checkpoint flipped |"
    )

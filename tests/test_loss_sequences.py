"""A change to the code changes nothing that runs compute, unless it says so by recording the sequences anew.

In float64 processors differ by rounding alone, far below what any change of the mathematics does.
"""

import json

import loss_sequences
import pytest


@pytest.fixture(scope="module")
def computed():
    return loss_sequences.sequences()


@pytest.mark.parametrize("name", [*loss_sequences.SEARCHES, *loss_sequences.SCRATCH])
def test_the_sequence_is_the_recorded_one(computed, name):
    recorded = json.loads(loss_sequences.RECORD.read_text())[name]
    assert recorded.keys() == computed[name].keys()
    for curve, values in recorded.items():
        assert computed[name][curve] == pytest.approx(values, rel=1e-9, abs=1e-12), f"{curve}; see loss_sequences.py"


def test_the_record_tells_the_runs_apart(computed):
    losses = [tuple(curves["shared/loss"]) for curves in computed.values()]
    assert len(set(losses)) == len(losses) and all(len(one) == 8 for one in losses)

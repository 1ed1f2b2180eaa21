"""Does the policy get better? The expected score of a policy, exact by a table of all functions."""

import math

import numpy as np
import pytest
import tiny

from benchmarks import policy
from enas.config import Config
from enas.studies.truth import Table

CELLS3 = {"num_blocks": 3, "max_epoch": 2, "shared_max_step": 2, "controller_max_step": 10, "derive_num_sample": 5}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    home = tmp_path_factory.mktemp("policy")
    settings = tiny.settings(home, **CELLS3)
    del settings["log_dir"], settings["save_epoch"]
    return policy.searched(settings)


def test_a_search_tells_the_chance_of_each_function_after_each_epoch(outcome):
    chances = np.array(outcome["probabilities"])
    assert chances.shape == (2, 104)
    assert chances.sum(1) == pytest.approx(1, abs=1e-3)
    assert (chances[0] > 0).all()
    assert len(outcome["shared"]) == 104 and outcome["seconds"] > 0
    for name in ("candidates", "candidates_uniform"):
        assert len({*outcome[name]}) == len(outcome[name]) <= policy.CANDIDATES
    assert {*outcome["candidates"]} <= {*range(104)} > {outcome["derived"]}


def test_the_expected_score_is_the_sum_over_functions_of_chance_times_truth():
    truth, curves = np.array([90.0, 80.0, 100.0]), [[90.0], [80.0], [100.0]]
    outcome = {
        "probabilities": [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]],
        "shared": [2.0, 1.0, 3.0],
        "derived": 0,
        "candidates": [0, 2],
        "candidates_uniform": [0, 1, 2],
        "seconds": 1.0,
    }
    found = policy.judged(outcome, truth, curves, Config())
    assert found["expected"] == [90.0, 80.0]
    assert (found["derived"], found["halved_candidates"], found["halved_candidates_uniform"]) == (2, 2, 1)
    assert found["tau"] == pytest.approx(1) and found["score"] == 90.0


def _training(validation: float, curve: list[float]) -> dict:
    return {"validation": validation, "test": validation, "seconds": 1.0, "curve": curve}


def test_a_table_gives_the_truth_in_the_order_of_the_space_and_an_incomplete_one_is_refused(tmp_path):
    config = Config(num_blocks=2)
    table = Table(tmp_path / "table.json", config)
    table.add(policy.cells_of(config))
    assert len(table.architectures) == 16
    table.runs = {
        (row, 1): {"validation": 50.0 + row, "test": 1.0, "seconds": 1.0, "curve": [60.0, 50.0 + row]}
        for row in range(15)
    }
    with pytest.raises(ValueError, match="lacks trainings of 1 functions"):
        policy.truth_of(table, config)
    table.runs[15, 1] = _training(math.nan, [])
    truth, curves = policy.truth_of(table, config)
    assert truth.tolist() == [*range(50, 65), 64]  # a diverged training counts as the worst
    assert curves[0] == [60.0, 50.0] and curves[15] == [64, 64]


def test_the_figure_and_the_table_show_each_variant(outcome):
    truth = np.linspace(80, 120, 104)
    figures = {"one": [policy.judged(outcome, truth, [[score] for score in truth], Config())] * 2}
    figures["none"] = [{**figures["one"][0], "expected": [], "score": score} for score in (85.0, 95.0)]
    lines = policy.table_of(figures, 104)
    assert len(lines) == 4 and lines[2].startswith("| one | ")
    (axes,) = policy.policy_figure(figures, truth, Config()).axes
    policy_line, derived, uniform, best = axes.lines
    assert derived.get_ydata()[0] == 90 and derived.get_label() == "none: the derived functions"
    assert policy_line.get_ydata().tolist() == figures["one"][0]["expected"]
    assert (uniform.get_ydata()[0], best.get_ydata()[0]) == (truth.mean(), 80)

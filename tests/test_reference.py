"""One page defines every setting and every number; this holds it to what the code has and what runs write."""

import re

import pytest
import test_choice
import tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from docs import reference
from enas.config import all_settings
from enas.runs import run
from enas.strategies import TRAIN_TYPES


def test_the_page_is_as_the_code_has_it(monkeypatch, tmp_path):
    monkeypatch.setattr(reference, "PAGE", tmp_path / "page.md")
    assert reference.main() == 0
    written = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert written == (tiny.ROOT / "REFERENCE.md").read_text(encoding="utf-8"), "make docs writes it anew"
    settings, _ = written.split("## Numbers")
    assert [settings.count(f"| `{name}` |") for name in all_settings()] == [1] * len(all_settings())


@pytest.fixture(scope="module")
def folders(trained, tmp_path_factory):
    """A search of each kind, of a module, and by each strategy, and trainings from scratch."""
    place = tmp_path_factory.mktemp("reference")
    made = [trained, tiny.run_in(place, network_type="cnn", cnn_reward="log_likelihood")]
    run.derive(made[1])
    for number, search in enumerate(made[:]):
        run.train_scratch(search, log_dir=str(place / str(number)), max_epoch=1)
        made.append(tiny.only_run(place / str(number)))
    data = test_choice.loaders(*test_choice.texts())
    made.append(test_choice.search(test_choice.TextNet, data, place / "module", max_epoch=1, log_step=1).folder)
    return [*made, *(tiny.run_in(place / name, train_type=name, max_epoch=1) for name in TRAIN_TYPES)]


def test_every_curve_is_defined_and_drawn(folders):
    drawn = {tag for folder in folders for tag in EventAccumulator(str(folder)).Reload().Tags()["scalars"]}
    sampled = re.compile("(?<=eval/policy_|val/uniform_)(perplexity|accuracy|log_likelihood|score)")
    assert {sampled.sub("METRIC", tag) for tag in drawn} == reference.CURVES.keys()
    assert {"eval/policy_perplexity_mean", "eval/uniform_log_likelihood_best"} <= drawn


def test_every_number_of_results_is_defined_and_written(folders):
    results = [tiny.results(folder) for folder in folders]
    entries = [entry for one in results for entry in one["history"]]
    for rows, known in ((results, reference.RESULTS), (entries, reference.HISTORY)):
        names = {name for line in known for name in line.split(", ")}
        found = {re.sub("perplexity|accuracy|score", "METRIC", name) for row in rows for name in row}
        assert found == names

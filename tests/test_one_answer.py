"""The architecture of a run is one thing: every mode, study, export, page and picture names the same one."""

import json
import shutil
from functools import partial

import pytest
import tiny

from enas.errors import UserError
from enas.export.folder import export
from enas.report.animation import find_pictures
from enas.report.page import read_runs
from enas.runs import run
from enas.runs.folder import saved_config
from enas.runs.opening import read_run
from enas.search.architecture import architecture_from_dict
from enas.studies import ablations
from enas.studies.ablations import node_removal

MACRO = {"network_type": "cnn", "cnn_num_layers": 4, "derive_num_sample": 8, "random_seed": 4}
KINDS = {"rnn": {}, "macro": MACRO}
# Finds another architecture than the search did.
derive_more = partial(run.derive, derive_num_sample=60, derive_shortlist=60)


@pytest.fixture(scope="module", params=KINDS)
def home(request, tmp_path_factory):
    """A folder with a finished search of some kind, drawn."""
    folder = tmp_path_factory.mktemp(request.param)
    with tiny.rendering():
        tiny.run_in(folder, **KINDS[request.param])
    return folder


@pytest.fixture
def search(home, tmp_path, monkeypatch):
    """A copy of the search, to change; analysis_results/ lies beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ablations, "RESULTS_DIR", tmp_path / "analysis_results")
    shutil.copytree(home, tmp_path / "home")
    return tiny.only_run(tmp_path / "home" / "logs")


def _validation(results: dict) -> float:
    return next(value for name, value in results.items() if name.startswith("validation_"))


def _another(search):
    """An architecture that the search derived before its last one."""
    found = (json.loads(path.read_text()) for path in (search / "architectures").iterdir())
    return architecture_from_dict(next(one for one in found if one != tiny.results(search)["architecture"]))


def _answers(search, tmp_path) -> dict[str, dict]:
    """What each part of the project says the search found."""
    folder = export(search, tmp_path / "taken")
    (record,) = read_runs([search], search.parent)
    answers = {
        "results.json": tiny.results(search)["architecture"],
        "test": run.test(search)["architecture"],
        "train_scratch": run.train_scratch(search, max_epoch=1, log_dir=str(tmp_path / "s"))["architecture"],
        "ablation": node_removal(load_path=str(search), max_batches=1)[0]["architecture"],
        "export": json.loads((folder / "architecture.json").read_text()),
        "report": record.results["architecture"],
    }
    for name, picture in {"report's picture": record.pictures[-1], "gif": find_pictures(search)[-1]}.items():
        answers[name] = json.loads((search / "architectures" / f"{picture.stem}.json").read_text())
    results = tiny.results(search)
    assert f"{_said(_validation(results))} ({results['measured_with']})" in (folder / "README.md").read_text()
    return answers


def _said(score: float) -> str:
    """A perplexity or an accuracy, as cards have it."""
    return f"{score:.2f}" if score > 1 else f"{score:.4f}"


def _all_name(answers: dict[str, dict], architecture: dict) -> bool:
    return {name: answer == architecture for name, answer in answers.items()} == dict.fromkeys(answers, True)


def test_all_name_the_architecture_that_the_search_derived(search, tmp_path):
    found = tiny.results(search)
    assert _all_name(_answers(search, tmp_path), found["architecture"])
    assert _validation(tiny.results(search)) == _validation(found)
    assert found["measured_with"].startswith("shared weights, epoch 2, step ")


def test_all_name_the_architecture_that_was_derived_later(search, tmp_path):
    """More samples, or a limit, find another one, whose picture's name may come first in the alphabet."""
    before = tiny.results(search)
    limit = {} if before["network_type"] == "rnn" else {"max_parameters": before["parameters"] - 1}
    with tiny.rendering():
        after = derive_more(search, **limit)
    assert after["architecture"] != before["architecture"]
    assert _all_name(_answers(search, tmp_path), after["architecture"])


def test_derive_keeps_a_better_one_and_says_so(search, capsys):
    best = derive_more(search)
    files = tiny.tree(search / "architectures")
    capsys.readouterr()
    again = run.derive(search, derive_num_sample=1)
    said = capsys.readouterr().out
    assert again["architecture"] == best["architecture"] and _validation(again) == _validation(best)
    assert "keeps the architecture it had, which is no worse" in said
    assert tiny.tree(search / "architectures") == files


def test_one_that_validates_as_well_does_not_replace_it(search, monkeypatch):
    """On an easy dataset many networks classify all images, and the answer would change with every derivation."""
    trainer = read_run(saved_config(search), search)
    monkeypatch.setattr(type(trainer.task), "evaluate", lambda *args: 0.5)
    other = _another(search)
    assert trainer.derive().architecture != other
    assert trainer.derive(other).architecture == other


def test_a_limit_that_the_architecture_exceeds_gives_it_up(search):
    """A smaller one is what was asked for, however it validates. All cells of 4 nodes have one size."""
    before = tiny.results(search)
    limited = {"derive_num_sample": 60, "max_parameters": before["parameters"] - 1}
    if before["network_type"] == "rnn":
        with pytest.raises(UserError, match="nothing is derived; raise the limit"):
            run.derive(search, **limited)
        assert tiny.results(search) == before
        return
    after = run.derive(search, **limited)
    assert after["parameters"] < before["parameters"] and after["architecture"] != before["architecture"]


def test_another_is_named_by_its_file(search, tmp_path, capsys):
    """It is tested and trained, and stays no more than that: the run's own is what it was."""
    before, named = tiny.results(search), _another(search)
    (tmp_path / "other.json").write_text(json.dumps(named.to_dict()))
    tested = run.test(search, dag_path=str(tmp_path / "other.json"))
    trained = run.train_scratch(search, dag_path=str(tmp_path / "other.json"), log_dir=str(tmp_path / "s"), max_epoch=1)
    assert tested["architecture"] == trained["architecture"] == named.to_dict()
    assert tiny.results(search) == before
    assert str(search / "results.json") not in capsys.readouterr().out


def test_the_card_of_a_run_of_an_earlier_version_says_the_score_alone(search, tmp_path):
    """It did not write down which weights its score was measured with."""
    results = tiny.results(search)
    del results["measured_with"]
    (search / "results.json").write_text(json.dumps(results))
    assert f"{_said(_validation(results))}." in (export(search, tmp_path / "taken") / "README.md").read_text()


def test_train_scratch_derives_with_other_settings_than_the_search(search, tmp_path):
    """And writes it down in the search, so that all go on to name the same one."""
    more = {"derive_num_sample": 60, "derive_shortlist": 60}
    trained = run.train_scratch(search, max_epoch=1, log_dir=str(tmp_path / "s"), **more)
    assert tiny.results(search)["architecture"] == trained["architecture"]


def test_a_run_whose_results_are_missing_or_damaged_derives_and_goes_on(search, tmp_path):
    """The error of every other mode advises to derive."""
    file = search / "results.json"
    for text in ("", "[]", '{"architecture": {"type": "x"}, "validation_perplexity": 3}'):
        file.write_text(text) if text else file.unlink()
        assert find_pictures(search)
        with pytest.raises(UserError, match="names no architecture; a search makes one with --mode derive"):
            run.test(search)
    derived = run.derive(search)
    assert run.test(search)["architecture"] == derived["architecture"]
    file.unlink()
    trained = run.train_scratch(search, max_epoch=1, log_dir=str(tmp_path / "s"))
    assert trained["architecture"] == derived["architecture"]
    file.write_text("[]")
    assert run.resume(search, max_epoch=3)["epoch"] == 3


def test_the_card_says_when_the_weights_are_not_those_of_the_score(search, tmp_path):
    """A run that was stopped within an epoch, or killed before its checkpoint, has others."""
    max((search / "checkpoints").glob("*.pt")).unlink()
    progress = tiny.newest_state(search)["progress"]
    card = (export(search, tmp_path / "taken") / "README.md").read_text()
    weights = f"epoch 1, step {progress['total_shared_steps']}"
    assert f"({tiny.results(search)['measured_with']}; the weights here are of {weights})" in card

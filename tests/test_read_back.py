"""Files of an earlier command: checked when they are read back, and told by name and version where they are wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from tiny import main

from enas.errors import Interrupted, NotFoundError, UserError
from enas.files import read_json, reading
from enas.runs.folder import newest_run
from enas.search.checkpoint import Checkpoints, checkpoint_name

# --- the reader -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), RuntimeError("a\nx"), OSError("x"), UserError("x")])
def test_whatever_goes_wrong_names_the_file(tmp_path, error):
    with tiny.refused(f"{tmp_path}/a.json: ") as refused, reading(tmp_path / "a.json"):
        raise error
    assert "x" in str(refused.value) and str(refused.value).endswith("another version of enas)")


@pytest.mark.parametrize("error", [MemoryError(), Interrupted(2, "x"), KeyboardInterrupt(), NotFoundError("a.json: x")])
def test_what_no_file_is_to_blame_for_stays(error):
    with pytest.raises(type(error)) as raised, reading(Path("a.json")):
        raise error
    assert raised.value is error


def test_other_work_in_the_block_keeps_its_own_errors():
    with pytest.raises(UserError, match=r"^other$"), reading(Path("a.json"), alone=False):
        raise UserError("other")
    with tiny.refused("a.json or b.json: KeyError: 'x' ("), reading(Path("a.json"), Path("b.json"), alone=False):
        raise KeyError("x")


def test_json_of_another_shape_names_its_file(tmp_path):
    (tmp_path / "a.json").write_text("[null]")
    with tiny.refused(f"{tmp_path}/a.json: the content is [None], not dict ("):
        read_json(tmp_path / "a.json")


# --- checkpoints ------------------------------------------------------------------------------------------------------


def _spoil(folder: Path, change: Callable[[dict], object]) -> None:
    """Change all checkpoints of a run, which stay whole files."""
    for path in Checkpoints(folder / "checkpoints").paths():
        state = torch.load(path, weights_only=True)
        changed = change(state)
        torch.save(state if changed is None else changed, path)


def _without(part: str, key: str) -> Callable[[dict], object]:
    return lambda state: state[part].pop(key) and None


EVERYWHERE = {
    "a list": (lambda state: [1], "TypeError: list indices"),
    "nothing": (lambda state: {}, "KeyError: 'progress'"),
    "no progress": (lambda state: state.update(progress=None), "TypeError: 'NoneType'"),
    "no task": (lambda state: state.update(task=None), "TypeError: 'NoneType'"),
    "no epoch": (_without("progress", "epoch"), "KeyError: 'epoch'"),
    "a text as a score": (
        lambda state: state["progress"].update(best="good"),
        "string to float: 'good'",
    ),
    "a number as a name": (lambda state: state["progress"].update(bests=[7]), "int found"),
    "a number as a history": (lambda state: state["progress"].update(history=3), "'int' object is not iterable"),
}
RESUMING = {
    "a field of a later version": (lambda state: state["progress"].update(tempo=3), "'tempo'"),
    "an entry of nothing": (lambda state: state["progress"].update(history=[{}]), "KeyError"),
    "no controller": (lambda state: state.pop("controller") and None, "KeyError: 'controller'"),
    "a text as random numbers": (lambda state: state["random"].update(torch="dice"), "but got str"),
    "no NumPy": (_without("random", "numpy"), "KeyError: 'numpy'"),
    "texts as weights": (
        lambda state: state["task"].update(model=dict.fromkeys(state["task"]["model"], "heavy")),
        "received <class 'str'>",
    ),
    "another shape": (
        lambda state: state["task"].update(model={key: one[:1] for key, one in state["task"]["model"].items()}),
        "size mismatch",
    ),
    "a text as a place": (
        lambda state: state["task"]["train"].update(cursor="x"),
        "with base 10: 'x'",
    ),
    "no groups": (lambda state: state["shared_optimizer"].update(param_groups=[]), "parameter groups"),
    "another kind of architecture": (
        lambda state: state.update(drawn=[{"type": "tree"}]),
        "architecture type is 'tree'",
    ),
}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_spoilt_checkpoint_ends_every_command_in_a_line(folder, capsys, name):
    change, says = EVERYWHERE[name]
    _spoil(folder, change)
    run = ["--load_path", str(folder)]
    for command in (["test", *run], ["resume", *run], ["export", *run, "--output", str(folder / "cell")]):
        line = tiny.refusal(command, folder, capsys, tiny.command_line) if command[0] != "resume" else None
        line = line or tiny.refusal(run, folder, capsys)
        assert f"{folder}/checkpoints/00002-" in line and says in line and "version" in line


@pytest.mark.parametrize("name", RESUMING)
def test_a_run_goes_on_from_no_spoilt_checkpoint(folder, capsys, name):
    change, says = RESUMING[name]
    _spoil(folder, change)
    line = tiny.refusal(["--load_path", str(folder), "--max_epoch", "3"], folder, capsys)
    assert f"{folder}/checkpoints/00002-" in line and says in line and "version" in line


def test_weights_of_another_network_are_not_exported(folder, capsys):
    _spoil(folder, lambda state: state["task"].update(model={"x": torch.ones(1)}))
    words = ["export", "--load_path", str(folder), "--output", str(folder / "cell")]
    assert f"{folder}/checkpoints/00002-" in tiny.refusal(words, folder, capsys, tiny.command_line)


def test_a_folder_named_like_a_checkpoint_gives_way_to_the_one_before(folder, capsys):
    place = folder / "checkpoints" / checkpoint_name(9, 999)
    place.mkdir()
    assert main(["--load_path", str(folder), "--mode", "derive"]) == 0
    assert f"{place}: is no regular file; trying the checkpoint before it" in capsys.readouterr().out


def test_the_best_and_the_newest_checkpoint_must_agree(tmp_path):
    """Another best checkpoint under its name, as a copied folder or an undone rename would leave it."""
    folder = tiny.run_in(tmp_path, mode="single", dag_path="random", max_epoch=2)
    checkpoints = Checkpoints(folder / "checkpoints")
    path, state = checkpoints.best()
    _, newest = checkpoints.newest()
    assert state["progress"]["best"] == newest["progress"]["best"]
    newest["progress"]["best"] /= 2
    checkpoints.save(newest, checkpoint_name(9, 999), newest["progress"]["bests"])
    with tiny.refused(f"{path}: has the best score {state['progress']['best']}, and the newest checkpoint has"):
        checkpoints.best()
    newest["progress"]["bests"] = ["../data.json"]
    checkpoints.save(newest, checkpoint_name(9, 999), [path.name])
    with pytest.raises(NotFoundError, match="no best checkpoint"):
        checkpoints.best()


# --- files of runs and studies ----------------------------------------------------------------------------------------


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("params", {"shared_flux": 3}, "unknown setting shared_flux"),
        ("params", {"network_type": "transformer"}, "network_type is 'transformer'"),
        ("data", {"splits": ["train"]}, "AttributeError: 'list'"),
        ("data", {"names": None}, "TypeError: object of type 'NoneType'"),
    ],
)
def test_files_of_a_run_of_another_version(folder, capsys, name, changes, says):
    _edit(folder / f"{name}.json", **changes)
    line = tiny.refusal(["--load_path", str(folder)], folder, capsys)
    assert f"{folder}/{name}.json: {says}" in line and "another version of enas" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"wall_seconds": None},
        {"validation_perplexity": "good"},
        {"epoch": "three"},
        {"history": [3]},
        {"history": [{"epoch": 1, "policy": "x"}]},
        {"history": [{"train_perplexity": 3.0}]},
    ],
    ids=str,
)
def test_a_page_about_edited_results(folder, capsys, changes):
    _edit(folder / "results.json", **changes)
    words = ["report", "--load_path", str(folder), "--output", str(folder / "page.html")]
    line = tiny.refusal(words, folder, capsys, tiny.command_line)
    assert f"{folder}/results.json: " in line and "another version of enas" in line


def test_a_page_about_an_edited_evaluation(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "analysis_results" / "search_evaluation" / "cells" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"methods": {"search": 3}, "dataset": "tiny", "metric": "perplexity"}))
    words = ["report", "--load_path", str(folder), "--output", "page.html"]
    assert f"{path.relative_to(tmp_path)}: " in tiny.refusal(words, tmp_path, capsys, tiny.command_line)


# --- the newest run ---------------------------------------------------------------------------------------------------


def _begun(folder: Path, time: str, moment: str) -> Path:
    """A copy of a run whose name has a local time, begun at this moment, by machine.json."""
    copy = shutil.copytree(folder, folder.with_name(f"tiny_orig_{time}"))
    (copy / "machine.json").write_text(json.dumps({moment: {}, "2099-01-01T00:00:00+00:00": {}}))
    return copy


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        # An hour comes twice when summer time ends.
        (("2026-10-25_02-30-00", "2026-10-25T02:30:00+02:00"), ("2026-10-25_02-10-00", "2026-10-25T02:10:00+01:00")),
        (("2026-05-05_23-00-00", "2026-05-05T23:00:00+09:00"), ("2026-05-05_16-00-00", "2026-05-05T16:00:00+00:00")),
        (("2026-05-05_16-00-00", "yesterday"), ("2026-05-05_16-00-00-2", "yesterday")),
    ],
)
def test_the_newest_run_goes_by_the_moment_not_by_the_name(folder, older, newer):
    places = [_begun(folder, *one) for one in (newer, older)]
    shutil.rmtree(folder)
    for place in places if older[1] == "yesterday" else ():
        (place / "machine.json").write_text('{"yesterday": {}}')
    assert newest_run({"log_dir": str(folder.parent)}) == places[0]


def test_a_run_without_a_checkpoint_is_passed_over_with_a_line(folder, tmp_path, capsys):
    later = _begun(folder, "2098-01-01_00-00-00", "2098-01-01T00:00:00+00:00")
    shutil.rmtree(later / "checkpoints")
    assert newest_run({"log_dir": str(folder.parent)}) == folder
    said = f"passing over {later}: no checkpoint; the run has not come to its first one\n"
    assert capsys.readouterr().out == f"{said}taking the newest run, {folder}\n"
    shutil.rmtree(folder)
    with tiny.refused(f"{later}: no checkpoint", NotFoundError):
        newest_run({"log_dir": str(later.parent)})


def test_a_run_with_a_name_of_its_own_is_found_by_its_settings(folder):
    named = folder.rename(folder.with_name("own"))
    where = {"log_dir": str(folder.parent)}
    assert newest_run({**where, "dataset": "tiny"}) == named
    with tiny.refused("no run with --dataset other --train_type orig"):
        newest_run({**where, "dataset": "other"})

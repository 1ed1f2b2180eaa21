"""The evaluation of a search: its table of truth, its methods, its figures; on 16 cells of 2 nodes."""

import itertools
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import scipy.stats
import tiny
from PIL import Image
from tiny import run_command

from enas.cnn.macro import MacroSpace
from enas.config import Config
from enas.report.page import report
from enas.rnn.cell import FlexibleRNNSpace, RNNCell, RNNSpace
from enas.rnn.task import LanguageTask
from enas.runs.folder import only_user
from enas.runs.opening import read_run
from enas.search.cost import Cost
from enas.studies import search_evaluation, truth
from enas.studies.search_evaluation import evaluate
from enas.studies.settings import EXPECTED
from enas.studies.statistics import best_by_halving, best_of, distribution, paired, shared_error, tau
from enas.studies.truth import Table, budget_of, functions_of

main = partial(run_command, "evaluate")

SIZES = {"num_blocks": 2, "batch_size": 4, "shared_embed": 8, "shared_hid": 8, "shared_rnn_max_length": 6}
METHODS = ("search", "random_shared", "finalists", "uniform", "random_budget", "lstm")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a text and a budget."""
    folder = tmp_path_factory.mktemp("home")
    tiny.write_corpus(folder / "data" / "tiny")
    lines = {**SIZES, "dataset": "tiny", "shared_max_step": 4, "max_epoch": 1, "num_threads": 1, "precision": "float32"}
    for name, epochs in (("budget", 1), ("rungs", 3)):
        text = "".join(f"{key} = {value!r}\n" for key, value in {**lines, "max_epoch": epochs}.items())
        (folder / f"{name}.py").write_text(text)
    return folder


def settings(home, output, **changes) -> dict:
    """An evaluation of two seeds in this process; the search and its evaluation write below `output`."""
    search = {name: value for name, value in tiny.SETTINGS.items() if name not in ("batch_size", "num_blocks")}
    usual = {
        **search, **SIZES, "data_dir": str(home / "data"), "max_epoch": 1, "shared_max_step": 4,
        "budget": str(home / "budget.py"), "table": str(output / "cells.json"), "output": str(output / "results"),
        "truth_seeds": 1, "seeds": 2, "methods": METHODS, "finalists": 3, "backend": "sequential",
    }  # fmt: skip
    return {**usual, **changes}


@pytest.fixture(scope="module")
def evaluated(home, tmp_path_factory):
    """Where an evaluation was written, and what it returned."""
    output = tmp_path_factory.mktemp("evaluated")
    with tiny.rendering():
        return output, evaluate(**settings(home, output))


@pytest.fixture
def copy(evaluated, tmp_path):
    """The same output, to go on with."""
    return shutil.copytree(evaluated[0], tmp_path / "copy")


def rows_of(table) -> list[dict]:
    return json.loads(table.read_text())["rows"]


def cells_of(architectures) -> list[RNNCell]:
    return [RNNCell.from_dict(one) for one in architectures]


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_every_cell_of_a_small_space(evaluated):
    output, results = evaluated
    rows = rows_of(output / "cells.json")
    assert len(set(cells_of(row["architecture"] for row in rows))) == len(rows) == results["architectures"] == 16
    assert all([run["seed"] for run in row["runs"]] == [1] for row in rows)
    assert len({row["runs"][0]["validation"] for row in rows}) > 10


def test_a_table_goes_on_where_it_was_stopped(home, tmp_path, evaluated):
    with tiny.in_call(truth, "train_from_scratch", 4, tiny.interrupt) as calls:
        with pytest.raises(KeyboardInterrupt):
            evaluate(**settings(home, tmp_path, methods=()))
        assert sum(len(row["runs"]) for row in rows_of(tmp_path / "cells.json")) == 3
        evaluate(**settings(home, tmp_path, methods=()))
    assert len(calls) == 4 + 13 and without_seconds(tmp_path) == without_seconds(evaluated[0])


def without_seconds(output) -> list[dict]:
    """The rows of a table, without the time of each training, which is never 0: that of a search is divided by it."""
    rows = rows_of(output / "cells.json")
    assert all(run.pop("seconds") > 0 for row in rows for run in row["runs"])
    return rows


def test_a_table_of_more_seeds_is_read_as_far_as_is_asked(home, copy):
    evaluate(**settings(home, copy, methods=(), truth_seeds=2))
    rows = rows_of(copy / "cells.json")
    assert all([run["seed"] for run in row["runs"]] == [1, 2] for row in rows)
    for num in (1, 2):
        found = evaluate(**settings(home, copy, methods=("search", "uniform"), truth_seeds=num))["methods"]
        means = [statistics.mean(run["validation"] for run in row["runs"][:num]) for row in rows]
        known = dict(zip(cells_of(row["architecture"] for row in rows), means, strict=True))
        searched = cells_of(found["search"]["architectures"])
        assert found["search"]["scores"] == pytest.approx([known[one] for one in searched])
        assert found["uniform"]["mean"] == pytest.approx(statistics.mean(means))


def test_a_sampled_table_grows_and_does_not_shrink(home, tmp_path, capsys):
    """Searches score the rows that are new, and are not made again."""
    for num in (4, 5):
        results = evaluate(**settings(home, tmp_path, num_truth=num, methods=("search", "uniform")))
        assert results["architectures"] == len(rows_of(tmp_path / "cells.json")) == num
        assert len(results["shared"]["search"]) == num
    log = (tmp_path / "results" / "searches" / "search-1" / "train.log").read_text(encoding="utf-8")
    assert log.count(" epoch 1/1,") == 1
    line = tiny.refusal(tiny.flags(settings(home, tmp_path, num_truth=4)), tmp_path, capsys, main)
    assert "cells.json: has 5 functions, and num_truth is 4; give 5 or more" in line


@pytest.mark.parametrize("trouble", tiny.TROUBLES)
def test_the_trouble_of_one_cell_is_a_row_that_says_so(home, tmp_path, monkeypatch, capsys, trouble):
    """The others go on, and no figure counts it."""
    bad = functions_of(RNNSpace(2), 0)[3]
    given = settings(home, tmp_path, methods=("search", "uniform", "random_budget"))
    with tiny.in_call(search_evaluation.run, "train", lambda _, one=None: one == bad, tiny.TROUBLES[trouble]):
        results = evaluate(**given)
    assert "1 of 16 functions have no score; controls and τ leave them out" in capsys.readouterr().out
    runs = {RNNCell.from_dict(row["architecture"]): row["runs"][0] for row in rows_of(tmp_path / "cells.json")}
    gone = runs.pop(bad)
    assert (gone["seed"], gone["validation"], gone["test"]) == (1, None, None) and trouble in gone["trouble"]
    assert len(runs) == 15 and results["diverged"] == 1
    mean = statistics.mean(run["validation"] for run in runs.values())
    assert results["methods"]["uniform"]["mean"] == pytest.approx(mean)
    assert math.isfinite(results["tau"]["search"]["tau"])
    monkeypatch.setattr(truth, "train_from_scratch", _fail)
    assert evaluate(**given)["methods"]["uniform"] == results["methods"]["uniform"]


def test_a_call_without_a_single_result_leaves_the_table_as_it_was(home, copy, monkeypatch):
    """A wrong flag may be the reason; the corrected command must find no such rows."""
    given, before = settings(home, copy, methods=(), truth_seeds=2), (copy / "cells.json").read_bytes()
    with (
        tiny.in_call(search_evaluation.run, "train", lambda *_: True, tiny.TROUBLES["refused"]),
        tiny.refused("no training"),
    ):
        evaluate(**given)
    assert (copy / "cells.json").read_bytes() == before
    evaluate(**given)
    assert all(len(row["runs"]) == 2 and "trouble" not in row["runs"][1] for row in rows_of(copy / "cells.json"))


def test_a_search_that_derived_nothing_is_told(home, tmp_path):
    limit = {"methods": ("search",), "max_parameters": 10, "num_truth": 4}
    with tiny.refused("search-1.json: no sample keeps to max_parameters and max_flops") as error:
        evaluate(**settings(home, tmp_path, **limit))
    assert "damaged" not in str(error.value)


def test_best_candidates_are_found_after_the_data_have_moved(home, tmp_path):
    place = str(shutil.copytree(home / "data", tmp_path / "data"))
    found = search_evaluation.run.train(
        Config(**tiny.settings(home, data_dir=place, num_blocks=2, log_dir=str(tmp_path), max_epoch=1))
    )
    before = search_evaluation.best_candidates(found.folder, 2)
    shutil.rmtree(place)
    with tiny.refused("no such dataset"):
        search_evaluation.best_candidates(found.folder, 2)
    assert search_evaluation.best_candidates(found.folder, 2, data_dir=str(home / "data")) == before


@pytest.mark.parametrize("trouble", tiny.TROUBLES)
def test_the_trouble_of_one_row_with_shared_weights_is_its_own(home, tmp_path, trouble):
    rows = functions_of(RNNSpace(2), 0)
    search = Config(**tiny.settings(home, num_blocks=2, log_dir=str(tmp_path), max_epoch=1, shared_max_step=2))
    derived = search_evaluation.search_and_rank(search.to_dict(), [])["architecture"]
    good, bad = [one for one in rows if one.to_dict() != derived][:2]
    with tiny.in_call(LanguageTask, "evaluate", lambda task, one, *_: one == bad, tiny.TROUBLES[trouble]):
        shared = search_evaluation.search_and_rank(search.to_dict(), [good.to_dict(), bad.to_dict()])["shared"]
    assert math.isfinite(shared[0]) and math.isnan(shared[1])


def test_an_infinite_score_is_none_at_once_as_when_the_table_is_read(tmp_path):
    results = {"validation": math.inf, "test": 2.0, "seconds": 1.0}
    table = Table(tmp_path / "cells.json", Config())
    table.add([RNNCell(("tanh",), ())])
    table.train([(0, 1)], lambda tasks, done, _: [done(pair, results) for pair in tasks])
    for one in (table, Table(table.path, Config())):
        assert math.isnan(one.runs[0, 1]["validation"]) and one.runs[0, 1]["test"] == 2.0


def test_two_evaluations_do_not_write_one_table(tmp_path):
    table = Table(tmp_path / "cells.json", Config())
    table.add([RNNCell(("tanh",), ())])
    with only_user(table.path, is_file=True), tiny.refused("cells.json: another process is at work on it"):
        table.train([(0, 1)], lambda *_: None)
    results = {"validation": 2.0, "test": 2.0, "seconds": 1.0}
    table.train([(0, 1)], lambda tasks, done, _: [done(pair, results) for pair in tasks])
    with only_user(table.path, is_file=True):
        table.train([(0, 1)], lambda *_: None)  # nothing is left to write


def test_what_another_evaluation_has_trained_meanwhile_is_kept(tmp_path):
    cells = [RNNCell((name,), ()) for name in ("tanh", "ReLU", "identity")]

    def one_result(tasks, done, _):
        asked.append([*tasks])
        for pair in tasks:
            done(pair, {"validation": float(pair[0]), "test": 2.0, "seconds": 1.0})

    first, second, asked = Table(tmp_path / "cells.json", Config()), Table(tmp_path / "cells.json", Config()), []
    first.add(cells[:2])
    second.add(cells[:2])
    first.train([(0, 1), (1, 1)], one_result)
    second.add(cells)
    second.train([(1, 1), (2, 1)], one_result)
    first.train([(0, 2)], one_result)
    assert asked == [[(0, 1), (1, 1)], [(2, 1)], [(0, 2)]]
    latest = Table(tmp_path / "cells.json", Config())
    assert latest.architectures == cells and sorted(latest.runs) == [(0, 1), (0, 2), (1, 1), (2, 1)]


def test_a_table_that_diverged_as_a_whole_is_said(home, tmp_path, capsys):
    """Its file is left to other settings, which may do better."""
    argv = tiny.flags(settings(home, tmp_path, num_truth=2, methods=("search", "uniform")))
    with tiny.in_call(search_evaluation.run, "train", lambda *_: True, tiny.diverge):
        assert main(argv) == 2
    assert not (tmp_path / "cells.json").exists()
    assert "cells.json: no training has a score: training diverged" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_architecture_has_no_intervals(home, tmp_path, seeds):
    methods = ("search", "uniform", "random_budget")
    results = evaluate(**settings(home, tmp_path, num_truth=1, seeds=seeds, methods=methods))
    assert all(one["interval"] is None and (seeds > 1 or one["p"] is None) for one in results["comparisons"])
    assert results["tau"]["search"]["interval"] is None


def test_a_large_space_is_sampled_the_same_at_every_call():
    cells = functions_of(RNNSpace(6), 20)
    assert len(set(cells)) == 20 and cells == functions_of(RNNSpace(6), 20)
    with pytest.raises(ValueError, match=r"num_truth is 0, but the space has [\d,]+ architectures; give a number"):
        functions_of(MacroSpace(6), 0)
    assert {*functions_of(RNNSpace(3), 110)} == {*functions_of(RNNSpace(3), 0)}  # there are 104
    assert {one.num_blocks for one in functions_of(FlexibleRNNSpace(3, ("tanh", "ReLU")), 0)} == {3}


def test_a_budget_is_what_differs_from_the_defaults_and_says_what_comes_out():
    given = {"shared_lr": 1.0, "num_blocks": 12, "log_dir": "elsewhere", "random_seed": 3}
    assert budget_of(Config(**given)) == {"network_type": "rnn", "shared_lr": 1.0}


@pytest.mark.parametrize(
    "content",
    [[], {"settings": {}}, {"settings": [1], "data": {}}, {"settings": {}, "data": "x"}]
    + [{"settings": {"network_type": "rnn"}, "data": {}, "rows": rows} for rows in (1, [{"runs": []}])],
    ids=str,
)
def test_a_damaged_table_is_named(tmp_path, content):
    path = tmp_path / "cells.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"cells\.json: .*another version of enas"):
        Table(path, Config())
    path.write_text("{")
    with pytest.raises(ValueError, match=r"cells\.json: not JSON"):
        Table(path, Config())


def test_twins_pool_their_trainings(home, tmp_path):
    """Four rows are three functions: the means, ranks, controls and shared scores by hand."""
    given = settings(home, tmp_path, num_blocks=3, num_truth=3, methods=("search", "uniform", "random_budget"), seeds=1)
    one, twin = (RNNCell(("tanh", *names), (0, 0)) for names in (("ReLU", "sigmoid"), ("sigmoid", "ReLU")))
    others = [RNNCell(("identity", *names), (0, 0)) for names in (("tanh", "tanh"), ("ReLU", "ReLU"))]
    table = Table(
        tmp_path / "cells.json", Config(**{**config_lines(home / "budget.py"), "data_dir": given["data_dir"]})
    )
    table.data = truth.identity_of(table.config.space.problem().load_data(table.config)).short()
    table.architectures = [one, others[0], twin, others[1]]
    known = {0: (50.0, 40.0), 1: (60.0, 58.0), 2: (70.0, 90.0), 3: (61.0, 70.0)}
    made = {(row, seed): score for row, scores in known.items() for seed, score in zip((1, 2), scores, strict=True)}
    table.train(made, lambda tasks, done, _: [done(pair, fixed(made[pair])) for pair in tasks])
    results = (
        evaluate(**given, truth_seeds=2) if "truth_seeds" not in given else evaluate(**{**given, "truth_seeds": 2})
    )
    assert results["architectures"] == 3 and len(rows_of(table.path)) == 4
    means = [(50 + 40 + 70 + 90) / 4, (60 + 58) / 2, (61 + 70) / 2]
    uniform, best = (results["methods"][name] for name in ("uniform", "random_budget"))
    assert uniform["mean"] == pytest.approx(statistics.mean(means)) and uniform["in_best_tenth"] == pytest.approx(1 / 3)
    # The first training of a function chooses: that of its first row.
    assert best["mean"] == pytest.approx(statistics.mean(brute_force([50, 60, 61], means, best["drawn"][0])))
    outcome = json.loads((tmp_path / "results" / "searches" / "search-1.json").read_text())["shared"]
    assert results["shared"]["search"] == pytest.approx([(outcome[0] + outcome[2]) / 2, outcome[1], outcome[3]])
    loaded = truth.load_table(table.path)
    assert loaded.scores("test")[twin.canonical()] == 63.5
    assert [*loaded.scores("validation", [2]).values()] == [65, 58, 70]
    assert [*loaded.functions.values()] == [[0, 2], [1], [3]]


def fixed(score) -> dict:
    return {"validation": score, "test": score + 1, "seconds": 1.0, "curve": [score]}


def config_lines(path) -> dict:
    lines = {}
    exec(path.read_text(), {}, lines)
    return lines


def budget_in(home, output) -> Config:
    """The settings of the trainings of a table, with the place of the data."""
    return truth.load_table(output / "cells.json").config.replace(data_dir=str(home / "data"), num_gpu=0)


def test_a_share_of_the_table_gets_the_further_seeds(home, copy):
    given = settings(home, copy, methods=("uniform",), truth_seeds=2, truth_share=0.25)
    results = evaluate(**given)
    rows = rows_of(copy / "cells.json")
    first = sorted(row["runs"][0]["validation"] for row in rows)
    assert all((len(row["runs"]) == 2) == (row["runs"][0]["validation"] in first[:4]) for row in rows)
    means = [statistics.mean(run["validation"] for run in row["runs"]) for row in rows]
    assert results["methods"]["uniform"]["mean"] == pytest.approx(statistics.mean(means))


# --- the methods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "prefix"), [("validation", ""), ("test", "test_")])
def test_scores_and_ranks_are_those_of_the_table(evaluated, split, prefix):
    """What is outside the table is trained by the same budget."""
    output, results = evaluated
    known = {RNNCell.from_dict(row["architecture"]): row["runs"][0][split] for row in rows_of(output / "cells.json")}
    for name in ("search", "random_shared", "finalists"):
        found = results["methods"][name]
        cells = cells_of(found["architectures"])
        assert found[f"{prefix}scores"] == [known[cell] for cell in cells]
        assert found[f"{prefix}ranks"] == [1 + sum(other < known[cell] for other in known.values()) for cell in cells]
        assert len(cells) == 2
        assert found[f"{prefix}in_best_tenth"] == sum(rank <= 2 for rank in found[f"{prefix}ranks"]) / 2
    (row,) = rows_of(output / "results" / "found.json")
    assert row["architecture"]["type"] == "lstm"
    assert results["methods"]["lstm"][f"{prefix}scores"] == [run[split] for run in row["runs"]]
    assert [run["seed"] for run in row["runs"]] == [1, 2] and len({run[split] for run in row["runs"]}) == 2
    assert json.loads((output / "results" / "results.json").read_text()) == results


def test_the_seconds_of_a_search_are_those_of_a_core(evaluated):
    outcome = json.loads((evaluated[0] / "results" / "searches" / "search-1.json").read_text())
    folder = evaluated[0] / "results" / "searches" / "search-1"
    last = tiny.results(folder)["history"][-1]
    assert outcome["seconds"] == last["cpu_seconds"] > 0 and "wall_seconds" in last


def test_the_trainings_that_are_timed_are_of_the_size_of_the_mean(home, tmp_path, monkeypatch):
    sizes = {}

    def cost(one):
        return Cost(0, sizes.setdefault(one, [9, 1, 4, 9, 1, 9, 1, 9][len(sizes) % 8]))

    monkeypatch.setattr(search_evaluation, "cost_of", lambda config, data: cost)
    evaluate(**settings(home, tmp_path, num_truth=8, methods=("search", "random_budget")))
    (row,) = rows_of(tmp_path / "results" / "timed.json")
    assert sizes[RNNCell.from_dict(row["architecture"])] == 4


def test_finalists_of_another_budget_are_not_taken_over(home, copy, tmp_path):
    other = tmp_path / "other.py"
    other.write_text((home / "budget.py").read_text() + "shared_lr = 1.5\n")
    changes = {"budget": str(other), "table": str(tmp_path / "other.json"), "methods": ("search", "finalists")}
    (copy / "results" / "found.json").unlink()
    (copy / "results" / "timed.json").unlink()
    before = tiny.tree(tmp_path)
    with tiny.refused("was made with another budget; name another output"):
        evaluate(**settings(home, copy, **changes))
    assert tiny.tree(tmp_path) == before


def test_a_search_is_that_of_the_command(home, evaluated, tmp_path):
    given = {name: value for name, value in settings(home, tmp_path).items() if name in Config().values}
    results = search_evaluation.run.train(Config(**{**given, "log_dir": str(tmp_path), "random_seed": 2}))
    assert evaluated[1]["methods"]["search"]["architectures"][1] == results["architecture"]


def test_the_best_of_the_finalists_is_taken_by_trainings_that_do_not_judge_it(home, evaluated):
    output, results = evaluated
    budget = budget_in(home, output)
    for seed, taken in zip((1, 2), results["methods"]["finalists"]["architectures"], strict=True):
        outcome = json.loads((output / "results" / "searches" / f"finalists3-{seed}.json").read_text())
        scores = [truth.train_from_scratch(budget.to_dict(), one, 1_000_000 + seed) for one in outcome["architectures"]]
        assert len(scores) == 3 and taken == outcome["architecture"]
        assert (
            taken == min(zip(scores, outcome["architectures"], strict=True), key=lambda pair: pair[0]["validation"])[1]
        )
    assert not list((output / "results" / "halving").iterdir())


def test_finalists_are_the_best_candidates_of_the_search(evaluated):
    folder = evaluated[0] / "results" / "searches" / "search-1"
    trainer = read_run(search_evaluation.saved_config(folder), folder)
    found = search_evaluation.best_candidates(folder, 3)
    cells = functions_of(RNNSpace(2), 0)  # 300 samples have them all
    first = dict(zip(cells, trainer.task.rank(cells, trainer.deriver.config.derive_max_batches), strict=True))
    assert set(found) == set(sorted(first, key=first.get)[:3])
    scores = [trainer.task.evaluate(cell, "valid") for cell in found]
    assert scores == sorted(scores)


def test_a_search_may_want_finalists_of_its_own(copy):
    folder = copy / "results" / "searches" / "search-1"
    path, own = folder / "params.json", {"derive_shortlist": 50, "derive_finalists": 50}
    expected = search_evaluation.best_candidates(folder, 3)
    path.write_text(json.dumps({**json.loads(path.read_text()), **own}))
    assert search_evaluation.best_candidates(folder, 3) == expected


def test_a_search_whose_samples_are_all_too_large_has_no_finalists(copy):
    folder = copy / "results" / "searches" / "search-1"
    path = folder / "params.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_parameters": 1}))
    with tiny.refused("no sample keeps to max_parameters and max_flops"):
        search_evaluation.best_candidates(folder, 3)


def test_an_evaluation_goes_on_where_it_was_stopped(home, evaluated, copy, monkeypatch):
    (copy / "results" / "results.json").unlink()
    monkeypatch.setattr(search_evaluation.run, "train", _fail)
    monkeypatch.setattr(truth, "train_from_scratch", _fail)
    assert evaluate(**settings(home, copy)) == evaluated[1]


def test_settings_are_free_until_something_is_searched(home, tmp_path):
    for epochs in (2, 1):
        evaluate(**settings(home, tmp_path, max_epoch=epochs, methods=()))
    evaluate(**settings(home, tmp_path, methods=("search",)))


@pytest.mark.parametrize(
    ("name", "part", "change", "says"),
    [
        (
            "cells",
            "settings",
            {"shared_lr": 3.0},
            "cells.json: was made with shared_lr 3.0, not 20.0; name another table",
        ),
        ("cells", "data", {"test": ""}, "cells.json: was made on other data: test of tiny differ; name another table"),
        ("results/search", "settings", {"max_epoch": 2}, "search.json: was made with max_epoch 2, not 1; name another"),
        (
            "results/search",
            "settings",
            {"derive_num_sample": 6},
            "search.json: was made with derive_num_sample 6, not 5",
        ),
        ("results/search", "data", {"valid": ""}, "search.json: was made on other data: valid of tiny differ; name an"),
        ("results/search", "data", None, "search.json: TypeError: 'NoneType'"),
    ],
)
def test_what_was_made_with_something_else_is_not_taken_over(home, copy, capsys, name, part, change, says):
    path = copy / f"{name}.json"
    content = json.loads(path.read_text())
    content[part] = change and {**content[part], **change}
    path.write_text(json.dumps(content))
    assert main(tiny.flags(settings(home, copy))) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [{"architecture": None}, {"architecture": {"type": "tree"}}, {"seconds": "long"}, {"shared": ["x"]}],
    ids=str,
)
def test_an_edited_outcome_is_named(home, copy, capsys, changes):
    path = copy / "results" / "searches" / "search-1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert main(tiny.flags(settings(home, copy))) == 2
    assert f"{path}: " in capsys.readouterr().err


def test_finalists_of_a_search_that_is_gone(home, copy, capsys):
    shutil.rmtree(copy / "results" / "searches" / "search-2")
    assert main(tiny.flags(settings(home, copy, finalists=2))) == 2
    assert "search-2: the search is gone; remove " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budget": "cifar_macro_small_final"}, "budget cifar_macro_small_final: is of space macro, not rnn"),
        ({"network_type": "cnn", "cnn_space": "macro", "budget": "cifar_macro_small_final"}, "no baseline lstm"),
    ],
    ids=("budget", "lstm"),
)
def test_methods_and_budget_fit_the_space(home, tmp_path, changes, says):
    """Else an evaluation would end hours later, in a traceback."""
    words = {**settings(home, tmp_path, **changes)}
    with tiny.refused(says):
        evaluate(**{name: words[name] for name in words if name not in {*SIZES} - {"batch_size"}})


def _fail(*args):
    raise AssertionError("trained again")


def _searches_took(copy, seconds: float, method: str = "search", name: str = "seconds") -> None:
    for path in (copy / "results" / "searches").glob(f"{method}-*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), name: seconds}))


@pytest.mark.parametrize(
    ("method", "training", "drawn"),
    [("search", 2.0, 4), ("search", 5.0, 2), ("search", 1e-9, 16), ("search", 1e9, 2), ("finalists", 1e9, 4)],
)
def test_the_time_of_a_search_buys_random_trainings(home, copy, monkeypatch, method, training, drawn):
    """And one more, as its result is still to be trained, or as many as there are finalists, rounded up."""
    _searches_took(copy, 5.0)
    monkeypatch.setattr(Table, "seconds", training)
    found = evaluate(**settings(home, copy, methods=(method, "random_budget")))
    assert found["methods"]["random_budget"]["drawn"] == [drawn, drawn]


def test_equal_time_goes_by_trainings_on_this_machine(home, copy):
    """The seconds in the table are those of the machine that made it."""
    _searches_took(copy, 1000.0)
    path = copy / "cells.json"
    path.write_text(re.sub(r'"seconds": [\d.]+', '"seconds": 1e9', path.read_text()))
    found = evaluate(**settings(home, copy, methods=("search", "random_budget")))
    assert found["methods"]["random_budget"]["drawn"] == [16, 16] and 0 < found["training_seconds"] < 1000
    assert [len(row["runs"]) for row in rows_of(copy / "results" / "timed.json")] == [1]


def brute_force(first, scores, num) -> list[float]:
    """The score of the best by `first` of each set of `num` architectures, where lower is better."""
    sets = itertools.combinations(range(len(first)), num)
    return [scores[min(one, key=first.__getitem__)] for one in sets]


def test_controls_are_exact_on_a_complete_table(home, copy, monkeypatch):
    rows = rows_of(copy / "cells.json")
    runs = {split: [row["runs"][0][split] for row in rows] for split in ("validation", "test")}
    _searches_took(copy, 5.0)
    monkeypatch.setattr(Table, "seconds", 2.0)
    results = evaluate(**settings(home, copy, seeds=1, methods=("search", "uniform", "random_budget")))
    assert results["is_complete"]
    for name, num in (("uniform", 1), ("random_budget", 4)):
        found = results["methods"][name]
        assert found["drawn"] == [num]
        for prefix, split in (("", "validation"), ("test_", "test")):
            reached = brute_force(runs["validation"], runs[split], num)
            assert found[f"{prefix}scores"] == pytest.approx([statistics.mean(reached)])
            assert found[f"{prefix}mean"] == pytest.approx(statistics.mean(reached))
            assert found[f"{prefix}std"] == pytest.approx(statistics.pstdev(reached))
            assert found[f"{prefix}quartiles"] == [
                sorted(reached)[math.ceil(len(reached) * share) - 1] for share in (0.25, 0.5, 0.75)
            ]
            best = sorted(runs[split])[:2]
            assert found[f"{prefix}in_best_tenth"] == pytest.approx(sum(x in best for x in reached) / len(reached))
    difference = results["methods"]["search"]["scores"][0] - results["methods"]["uniform"]["mean"]
    assert results["comparisons"][0]["difference"] == pytest.approx(difference)


def test_controls_of_the_committed_table_are_those_of_the_readme():
    """Of 128 cells, trained three times each, the best of 1 to 4 by the first training."""
    rows = rows_of(tiny.ROOT / "ablation_studies" / "tables" / "cells3.json")
    first = [row["runs"][0]["validation"] for row in rows]
    known = {1: (92.18, 87.18), 2: (88.60, 84.15), 3: (87.25, 82.96), 4: (86.47, 82.24)}
    for num, expected in known.items():
        chances = best_of(first, num, higher_is_better=False)
        for split, figure in zip(("validation", "test"), expected, strict=True):
            means = [statistics.mean(run[split] for run in row["runs"]) for row in rows]
            assert distribution(means, chances)["mean"] == pytest.approx(figure, abs=0.005)


@pytest.mark.slow
def test_the_committed_outcomes_of_searches_give_the_figures_of_the_readme(tmp_path):
    kept, pages = tiny.ROOT / "ablation_studies", (tiny.ROOT / "README.md").read_text()
    table = shutil.copy(kept / "tables" / "cells4.json", tmp_path)
    output = shutil.copytree(kept / "outcomes" / "cells4", tmp_path / "outcomes")
    given = {"config": "cells4", "budget": "cells4_final", "truth_seeds": 2, "truth_share": 0.25, "num_gpu": 0}
    methods = ("search", "random_shared", "uniform", "random_budget", "halving", "lstm")
    found = evaluate(**given, table=str(table), output=str(output), seeds=10, jobs=2, methods=methods)["methods"]
    test = found["search"]["test_scores"]
    (row,) = (line for line in pages.splitlines() if line.startswith("| `pydoc` by words, cells of 4 nodes"))
    figures = [(statistics.mean(test), statistics.stdev(test))]
    figures += [(found[name]["test_mean"], found[name]["test_std"]) for name in ("uniform", "random_budget")]
    assert [cell.strip(" *") for cell in row.split("|")[2:-1]] == [f"{mean:.1f} ± {std:.1f}" for mean, std in figures]


def test_trainings_of_an_lstm_are_read_in_a_new_process():
    """Its class was known only to a process that had made a model."""
    path = tiny.ROOT / "ablation_studies" / "outcomes" / "chars" / "found.json"
    code = f"from enas.studies.truth import load_table; print(load_table({str(path)!r}).architectures[-1].type_name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("lstm\n", "")


RUNGS_METHODS = ("finalists", "search", "uniform", "random_budget", "halving", "lstm")


@pytest.fixture(scope="module")
def with_rungs(home, tmp_path_factory):
    """Where an evaluation was written whose budget has the rungs 1 and 3, and what it returned."""
    output = tmp_path_factory.mktemp("rungs")
    given = settings(home, output, budget=str(home / "rungs.py"), methods=RUNGS_METHODS, longer=2)
    with tiny.rendering():
        return output, evaluate(**given)


def by_halving(curves, candidates) -> int:
    """The one that is left of `candidates`, where lower is better and the rungs are 1 and 3."""
    for epochs in (1, 3):
        ranking = sorted(candidates, key=lambda one: min(curves[one][:epochs]))
        candidates = ranking[: max(1, len(ranking) // 3)]
    return candidates[0]


@pytest.mark.parametrize("num", [1, 2, 7, 9])
def test_the_expectation_of_halving_is_that_of_all_draws(num):
    rng = np.random.default_rng(1)
    curves = (10 + rng.normal(size=(9, 3))).tolist()
    draws = [by_halving(curves, draw) for draw in itertools.combinations(range(9), num)]
    for sign, metric in ((1, Config().space.metric), (-1, Config(network_type="cnn").space.metric)):
        chances = best_by_halving([[sign * score for score in curve] for curve in curves], num, (1, 3), metric)
        for one, chance in enumerate(chances):
            expected = draws.count(one) / len(draws)
            assert chance == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 20_000))


@pytest.mark.parametrize(
    ("methods", "drawn"),
    [
        # 7.5 epochs fit into a search; its cell needs 3 more: 10.5 are 4 trainings, or 6 · 1 + 2 · 2 epochs.
        (("search", "random_budget", "halving"), (4, 6)),
        # 3 more for choosing finalists, which need 3 · 1 + 1 · 2: 15.5 are 6 trainings, or 9 · 1 + 3 · 2 epochs.
        (("finalists", "random_budget", "halving"), (6, 9)),
    ],
)
def test_halving_takes_the_time_of_the_first_method(home, with_rungs, tmp_path, monkeypatch, methods, drawn):
    copy = shutil.copytree(with_rungs[0], tmp_path / "copy")
    _searches_took(copy, 5.0)
    _searches_took(copy, 2.0, "finalists3", "draw_seconds")
    monkeypatch.setattr(Table, "seconds", 2.0)
    found = evaluate(**settings(home, copy, budget=str(home / "rungs.py"), methods=methods))["methods"]
    assert found["random_budget"]["drawn"] == [drawn[0]] * 2 and found["halving"]["drawn"] == [drawn[1]] * 2
    runs = [row["runs"][0] for row in rows_of(copy / "cells.json")]
    curves, test = [run["curve"] for run in runs], [run["test"] for run in runs]
    reached = [test[by_halving(curves, draw)] for draw in itertools.combinations(range(16), drawn[1])]
    error = found["halving"]["test_error"]
    assert error == pytest.approx(statistics.pstdev(reached) / math.sqrt(20_000), rel=0.05)
    assert found["halving"]["test_mean"] == pytest.approx(statistics.mean(reached), abs=4 * error)


def test_two_budgets(home, with_rungs):
    """What search, finalists and the LSTM end with is trained for twice the epochs too."""
    output, results = with_rungs
    table = truth.load_table(output / "results" / "found_2_times.json")
    assert table.config.max_epoch == 6 and {len(run["curve"]) for run in table.runs.values()} == {6}
    known = {split: table.scores(split) for split in ("validation", "test")}
    for name in ("search", "finalists", "lstm"):
        found = [search_evaluation.architecture_from_dict(one) for one in results["methods"][name]["architectures"]]
        for prefix, split in (("long_", "validation"), ("long_test_", "test")):
            # All seeds have the same LSTM, whose one training has no spread.
            different = found[:1] if name == "lstm" else found
            assert results["methods"][name][f"{prefix}scores"] == [known[split][one] for one in different]
    assert len(table.functions) <= 5 and "long_scores" not in results["methods"]["halving"]
    lines = [*search_evaluation.report(results, Config().space.metric)]
    (line,) = (line for line in lines if line.startswith("lstm            test, longer"))
    assert "longer: 2 times the epochs" in lines
    assert line.split()[3] == f"{results['methods']['lstm']['long_test_scores'][0]:.2f}"


def test_a_halving_that_was_stopped_goes_on(home, tmp_path, monkeypatch):
    """A sampled table does not have the functions that are drawn: they are trained, with seeds of their own."""
    monkeypatch.setattr(Table, "seconds", 2.0)
    given = settings(home, tmp_path, budget=str(home / "rungs.py"), num_truth=2, seeds=1, methods=("search",))
    evaluate(**given)
    _searches_took(tmp_path, 5.0)
    given["methods"] = ("search", "halving")
    with tiny.in_call(search_evaluation.run, "train_to", 8, tiny.interrupt), pytest.raises(KeyboardInterrupt):
        evaluate(**given)
    folder = tmp_path / "results" / "halving" / "halving6-1"
    assert len([*folder.glob("*/checkpoints")]) == 6
    with tiny.in_call(search_evaluation.run, "train", 0, tiny.interrupt) as begun:
        evaluate(**given)
    assert [config.mode for config, _ in begun] == ["train_scratch"]  # the winner's, which judges it
    outcome = json.loads((tmp_path / "results" / "searches" / "halving6-1.json").read_text())
    budget = budget_in(home, tmp_path).to_dict()
    curves = [truth.train_from_scratch(budget, one, 2_000_001)["curve"] for one in outcome["architectures"]]
    assert outcome["architecture"] == outcome["architectures"][by_halving(curves, range(6))]
    assert len({*cells_of(outcome["architectures"])}) == 6 and not folder.exists()


def test_equal_first_trainings_are_equally_likely_to_be_chosen():
    assert best_of([0.5, 0.7, 0.7, 0.1], 2, higher_is_better=True) == pytest.approx([1 / 6, 2.5 / 6, 2.5 / 6, 0])


def test_a_control_of_a_sampled_table_has_the_error_of_its_sample(home, tmp_path):
    """Of a larger space the table is itself a draw: for one architecture, the error of a mean."""
    results = evaluate(**settings(home, tmp_path, num_truth=8, methods=("search", "uniform", "random_budget")))
    rows = rows_of(tmp_path / "cells.json")
    scores = [row["runs"][0]["validation"] for row in rows]
    found = results["methods"]["uniform"]
    assert len(rows) == 8 and not results["is_complete"]
    assert found["mean"] == pytest.approx(statistics.mean(scores))
    assert found["error"] == pytest.approx(statistics.stdev(scores) / 8**0.5)
    assert results["methods"]["random_budget"]["error"] > 0
    searched = results["methods"]["search"]["scores"]
    expected = scipy.stats.ttest_ind(searched, scores, equal_var=False)
    (compared,) = (one for one in results["comparisons"] if one["with"] == "uniform" and one["split"] == "validation")
    assert compared["interval"] == pytest.approx(list(expected.confidence_interval()))
    assert compared["p"] == pytest.approx(expected.pvalue)


# --- the figures ------------------------------------------------------------------------------------------------------


def test_the_report_and_the_plots(evaluated):
    output, results = evaluated
    lines = [*search_evaluation.report(results, Config().space.metric)]
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in METHODS)
    (line,) = (line for line in lines if line.startswith("search          validation"))
    scores = results["methods"]["search"]["scores"]
    assert line.split()[2:4] == [f"{statistics.mean(scores):.2f}", f"{statistics.stdev(scores):.2f}"]
    assert sum("(Student's t)" in line for line in lines) == 2 * (len(METHODS) - 1)
    (line,) = (line for line in lines if line.startswith("uniform         validation"))
    assert line.split()[2] == f"{results['methods']['uniform']['mean']:.2f}" and "exact, over all 16" in line
    sizes = {path.name: Image.open(path).size for path in (output / "results").glob("*.png")}
    assert {*sizes} == {"scores.png", "ranking_search.png", "ranking_random_shared.png"}
    assert min(map(min, sizes.values())) > 300


def test_the_plot_has_both_splits_in_the_words_of_people(evaluated):
    _, results = evaluated
    truth = {split: np.linspace(20, 30, 16) for split in ("validation", "test")}
    figure = search_evaluation.scores_figure(results, truth, Config().space.metric)
    assert [axes.get_ylabel() for axes in figure.axes] == ["validation perplexity", "test perplexity"]
    for axes in figure.axes:
        labels = [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()]
        assert labels[0] == "all 16" and "best random at equal time" in labels and "random_budget" not in labels
    shown = [collection.get_offsets()[:, 1].tolist() for collection in figure.axes[1].collections[2:3]]
    assert shown == [results["methods"]["search"]["test_scores"]]


def test_the_page_of_a_search_shows_its_evaluation(evaluated, tmp_path):
    output, results = evaluated
    found = shutil.copytree(output / "results", tmp_path / "search_evaluation" / "mine")
    page = report(found / "searches" / "search-1", tmp_path / "page.html", results_dir=tmp_path)
    text = page.read_text()
    assert "mine: 16 architectures trained from scratch on tiny" in text
    assert all(f'alt="{path.stem}"' in text for path in found.glob("*.png"))
    for name, method in results["methods"].items():
        (row,) = re.findall(rf"<tr><td>{name}</td>(.*?)</tr>", text, re.DOTALL)
        said = f"{method['mean']:.2f} expected" if name in EXPECTED else f"{' '.join(map(str, method['ranks']))}</td>"
        assert said in row


def test_tau_of_a_search_is_that_of_its_mean_scores(evaluated):
    output, results = evaluated
    rows = rows_of(output / "cells.json")
    validation = [row["runs"][0]["validation"] for row in rows]
    for name in ("search", "random_shared"):
        assert results["tau"][name]["tau"] == pytest.approx(kendall(results["shared"][name], validation))
        assert len(results["tau"][name]["seeds"]) == 2


def kendall(ours, theirs) -> float:
    """Pairs in the same order less pairs in the other, over all pairs; where there are no ties."""
    pairs = [(i, j) for i in range(len(ours)) for j in range(i)]
    return sum(np.sign((ours[i] - ours[j]) * (theirs[i] - theirs[j])) for i, j in pairs) / len(pairs)


@pytest.mark.parametrize("num", [2, 10])
def test_intervals_cover_the_truth_as_often_as_they_say(num):
    rng = np.random.default_rng(0)
    covered, times = 0, 1000
    for _ in range(times):
        low, high = paired(rng.normal(1, 2, num), rng.normal(0, 2, num))["interval"]
        covered += low <= 1 <= high
    assert 0.935 <= covered / times <= 0.965


@pytest.mark.parametrize("num", [8, 30])
@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_intervals_of_tau_cover_it_at_least_as_often_as_they_say(num, correlation):
    """Of normal scores τ is 2/π · arcsin of the correlation."""
    rng = np.random.default_rng(0)
    known, covered, times = 2 / math.pi * math.asin(correlation), 0, 100
    for _ in range(times):
        truth = rng.normal(size=num)
        found = tau(correlation * truth + math.sqrt(1 - correlation**2) * rng.normal(size=num), truth)["interval"]
        covered += found is not None and found[0] <= known <= found[1]
    assert covered / times >= 0.93


def test_a_comparison_is_that_of_students_t():
    none = {"seeds": 3, "difference": 0.0, "interval": None, "p": 1.0, "wilcoxon": None}
    assert paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == none
    ours, theirs = np.array([3.0, 5.0, 4.0, 4.5]), np.array([1.0, 2.5, 3.0, 0.5])
    expected = scipy.stats.ttest_rel(ours, theirs)
    found = paired(ours, theirs)
    assert found["p"] == pytest.approx(expected.pvalue)
    assert found["interval"] == pytest.approx(list(expected.confidence_interval()))
    assert found["wilcoxon"] is None


def test_seeds_that_found_the_same_share_the_error_of_its_trainings():
    trainings = {"a": [1.0, 3.0], "b": [2.0, 4.0], "c": [5.0], "d": [math.nan, 1.0]}  # of variance 2
    assert shared_error([*"aabb"], trainings) == pytest.approx(math.sqrt(2 * (2 / 2 + 2 / 2) / (4 * 3)))
    assert shared_error([*"abcd"], trainings) == shared_error(["a"], trainings) == 0
    assert shared_error([*"cc"], {"c": [5.0]}) == 0  # nothing is known of the spread of trainings


def test_intervals_cover_the_truth_where_seeds_find_the_same():
    rng, chances = np.random.default_rng(0), np.array([0.4, 0.3, 0.2, 0.1, *[0] * 26])
    truth = np.arange(30) / 10
    covered, times = np.zeros(2), 300
    for _ in range(times):
        trainings = dict(enumerate(rng.normal(truth, 1, (2, 30)).T))
        found = rng.choice(30, 10, p=chances).tolist()
        scores = [trainings[one].mean() for one in found]
        for place, error in enumerate((0.0, shared_error(found, trainings))):
            # Wilcoxon's test takes long if there are ties.
            low, high = paired(scores, rng.normal(0, 1e-6, 10), error, 30)["interval"]
            covered[place] += low <= chances @ truth <= high
    without, with_error = covered / times
    assert without < 0.8 and 0.93 <= with_error <= 0.98


def test_wilcoxon_is_left_out_where_seeds_share_an_error():
    """It would call the error of a sampled table an effect: 38 % of equal methods differed at 5 %, with six seeds."""
    ours, theirs = np.array([3.0, 5.0, 4.0, 4.5, 3.5, 2.0]), np.array([1.0, 2.5, 3.0, 0.5, 2.0, 1.5])
    assert paired(ours, theirs, 0.01)["wilcoxon"] == paired(ours, theirs)["wilcoxon"] == 1 / 32
    assert paired(ours, theirs, 0.5)["wilcoxon"] is None


def test_no_interval_where_there_can_be_none():
    none = {"seeds": 1, "difference": -1.0, "interval": None, "p": None, "wilcoxon": None}
    assert paired([1.0], [2.0]) == none
    assert paired([1.0, 1.0], [2.0, 2.0]) == {**none, "seeds": 2}
    ours, theirs = [0.1, 0.2, 0.3, 0.7] * 3, [0.3, 0.4, 0.5, 0.9] * 3
    assert len({*np.subtract(ours, theirs)}) > 1
    equal = paired(ours, theirs)  # to rounding
    assert {**equal, "difference": -0.2} == {**none, "seeds": 12, "difference": -0.2}
    tiniest = paired([0.1 + 0.2] * 10, [0.3] * 10)
    assert 0 < tiniest["difference"] < 1e-15 and tiniest["p"] == 1.0
    expected = paired([0.1] * 10, [0.3] * 10, 0.05, 16)  # with an expectation, which has an error
    assert expected["p"] == pytest.approx(2 * scipy.stats.t.sf(4, 15)) and expected["wilcoxon"] is None
    found = paired([1.0, math.nan, 2.0], [0.0, 0.0, 0.0])
    assert math.isnan(found["difference"]) and found["interval"] is None and found["p"] is None
    scores = [float(score) for score in range(10)]
    assert tau(scores, scores)["interval"] is None
    assert tau(scores[:7], [1, 0, 3, 2, 5, 4, 6])["interval"] is None
    found = tau([math.nan, *scores[1:]], scores)
    assert math.isnan(found["tau"]) and found["interval"] is None


def test_tau_of_equal_and_of_reversed_rankings():
    scores = list(range(10))
    assert tau(scores, scores)["tau"] == pytest.approx(1) and tau(scores, scores[::-1])["tau"] == pytest.approx(-1)
    low, high = tau(scores, [1, 0, 2, 3, 5, 4, 6, 9, 8, 7])["interval"]
    assert low < 1 - 4 * 5 / 90 < high
    assert tau(scores, [1, 0, 3, 2, 5, 4, 7, 6, 9, 8])["interval"] is None  # the same without any one of them


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budget": ""}, "budget is missing; --budget names it"),
        ({"table": ""}, "table is missing; --table names it"),
        ({"budget": "nonesuch"}, "config nonesuch: no such preset"),
        ({"dataset": "pydoc"}, "budget.py: trains on tiny; the search is on pydoc"),
        ({"methods": ("serch",)}, "methods: unknown method 'serch'; there are search, random_shared"),
        ({"seeds": 0}, "seeds is 0; it must be at least 1"),
        ({"methods": ("uniform", "random_budget")}, "random_budget takes the time of a search, and there is none"),
        ({"num_truth": 40}, "num_truth is 40, but the space has 16 functions"),
        ({"backend": "ray"}, "backend ray is not installed; pip install 'enas[ray]'"),
        ({"backend": "dask"}, "backend dask is not installed; pip install 'enas[dask]'"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_what_an_evaluation_refuses(home, tmp_path, capsys, monkeypatch, changes, says):
    for package in ("ray", "distributed"):
        monkeypatch.setitem(sys.modules, package, None)
    argv = tiny.flags(settings(home, tmp_path, **changes))
    assert says in tiny.refusal(argv, tmp_path, capsys, main)


def test_trainings_have_as_many_threads_as_searches_if_that_is_said(home, tmp_path):
    given = settings(home, tmp_path, num_threads=2)
    with tiny.in_call(search_evaluation._Evaluation, "run", lambda *_: True, tiny.interrupt) as made:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                evaluate(**given)
            given.pop("num_threads", 0)
    own = Config(**config_lines(home / "budget.py")).num_threads
    assert [(one.search.num_threads, one.budget.num_threads) for (one,) in made] == [(2, 2), (0, own)] != [(2, 2)] * 2


def test_what_an_evaluation_sets_itself_is_said(home, tmp_path, capsys):
    changes = {
        "mode": "derive",
        "load_path": "nonesuch",
        "random_seed": 5,
        "name": "mine",
        "stop_epoch": 1,
        "finalists": 7,
        "longer": 2,
    }
    with tiny.in_call(search_evaluation._Evaluation, "run", 1, tiny.interrupt), pytest.raises(KeyboardInterrupt):
        evaluate(**settings(home, tmp_path, **changes, methods=("random_shared", "uniform")))
    assert capsys.readouterr().out.splitlines()[:3] == [
        "no effect in an evaluation, which sets these itself: load_path, mode, name, random_seed, stop_epoch",
        "no effect without the method finalists: finalists",
        "no effect without the method search or finalists or lstm: longer",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "ray", "dask"])
def test_two_processes_give_the_same_table(home, evaluated, tmp_path, backend):
    pytest.importorskip({"loky": "joblib", "dask": "distributed"}.get(backend, backend))
    evaluate(**settings(home, tmp_path, methods=(), backend=backend, jobs=2))
    assert without_seconds(tmp_path) == without_seconds(evaluated[0])

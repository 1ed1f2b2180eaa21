"""The evaluation of a search: its table of truth, its methods, its figures; on 16 cells of 2 nodes."""

import json
import shutil
import statistics
import sys

import numpy as np
import pytest
import tiny
from PIL import Image

from enas.ablation import search_evaluation, truth
from enas.ablation.search_evaluation import evaluate, main
from enas.ablation.statistics import paired, tau
from enas.ablation.truth import Table, architectures_of, budget
from enas.config import Config
from enas.search_space import RNNCell
from enas.search_space.decisions import MacroSpace, RNNSpace

SIZES = {"num_blocks": 2, "batch_size": 4, "shared_embed": 8, "shared_hid": 8, "shared_rnn_max_length": 6}
METHODS = ("search", "random_shared", "finalists", "uniform", "random_budget", "lstm")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a text and a budget."""
    folder = tmp_path_factory.mktemp("home")
    tiny.write_corpus(folder / "data" / "tiny")
    lines = {**SIZES, "dataset": "tiny", "shared_max_step": 4, "max_epoch": 1, "num_threads": 1, "precision": "float32"}
    (folder / "budget.py").write_text("".join(f"{name} = {value!r}\n" for name, value in lines.items()))
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


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_every_cell_of_a_small_space(evaluated):
    output, results = evaluated
    rows = json.loads((output / "cells.json").read_text())["rows"]
    cells = {RNNCell.from_dict(row["architecture"]) for row in rows}
    assert len(cells) == len(rows) == results["architectures"] == 16
    assert all([run["seed"] for run in row["runs"]] == [1] for row in rows)
    assert len({row["runs"][0]["validation"] for row in rows}) > 10


def test_a_training_of_the_table_is_that_of_the_command(home, evaluated, tmp_path):
    output, _ = evaluated
    row = json.loads((output / "cells.json").read_text())["rows"][5]
    given = {**SIZES, "dataset": "tiny", "shared_max_step": 4, "max_epoch": 1, "precision": "float32"}
    found = truth.train_from_scratch({**given, "data_dir": str(home / "data")}, [row["architecture"]], seed=1)[0]
    assert (found["validation"], found["test"]) == (row["runs"][0]["validation"], row["runs"][0]["test"])


def test_trainings_side_by_side_give_the_same_table(home, evaluated, tmp_path, monkeypatch):
    groups, singles = [], search_evaluation.run.singles
    monkeypatch.setattr(
        search_evaluation.run, "singles", lambda config, some: groups.append(len(some)) or singles(config, some)
    )
    evaluate(**settings(home, tmp_path, methods=(), truth_seeds=2, num_together=5))
    assert groups == [5, 5, 5, 1] * 2
    rows = [json.loads((path / "cells.json").read_text())["rows"] for path in (tmp_path, evaluated[0])]
    for together, alone in zip(*rows, strict=True):
        assert [run["seed"] for run in together["runs"]] == [1, 2]
        for split in ("validation", "test"):
            assert together["runs"][0][split] == pytest.approx(alone["runs"][0][split], rel=1e-5)


def test_a_table_goes_on_where_it_was_stopped(home, tmp_path, monkeypatch, evaluated):
    train, calls = truth.train_from_scratch, []

    def stopped(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train(*args)

    monkeypatch.setattr(truth, "train_from_scratch", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate(**settings(home, tmp_path, methods=()))
    rows = json.loads((tmp_path / "cells.json").read_text())["rows"]
    assert sum(len(row["runs"]) for row in rows) == 3
    evaluate(**settings(home, tmp_path, methods=()))
    assert len(calls) == 4 + 13
    without_time = [_without_seconds(path) for path in (tmp_path / "cells.json", evaluated[0] / "cells.json")]
    assert without_time[0] == without_time[1]


def _without_seconds(path) -> dict:
    content = json.loads(path.read_text())
    for row in content["rows"]:
        for run in row["runs"]:
            del run["seconds"]
    return content


def test_a_table_of_another_budget_is_refused(home, evaluated, capsys, tmp_path):
    (tmp_path / "other.py").write_text((home / "budget.py").read_text() + "shared_lr = 3.0\n")
    argv = tiny.flags({**settings(home, evaluated[0]), "budget": str(tmp_path / "other.py")})
    line = tiny.refusal(argv, tmp_path, capsys, main)
    assert "cells.json: was made with shared_lr 20.0, not 3.0; name another table, or use its settings" in line


def test_a_table_of_other_data_is_refused(home, evaluated, capsys, tmp_path):
    data = shutil.copytree(home / "data", tmp_path / "data")
    (data / "tiny" / "test.txt").write_text((data / "tiny" / "valid.txt").read_text())
    argv = tiny.flags(settings(home, evaluated[0], data_dir=str(data)))
    line = tiny.refusal(argv, tmp_path, capsys, main)
    assert "cells.json: was made on other data: test of tiny differ; name another table, or put the data back" in line


def test_a_large_space_is_sampled_the_same_at_every_call():
    cells = architectures_of(RNNSpace(6), 20)
    assert len(set(cells)) == 20 and cells == architectures_of(RNNSpace(6), 20)
    with pytest.raises(ValueError, match=r"num_truth is 0, but the space has [\d,]+ architectures; give a number"):
        architectures_of(MacroSpace(6), 0)
    with pytest.raises(ValueError, match="num_truth is 17, but the space has 16 architectures"):
        architectures_of(RNNSpace(2), 17)


def test_a_budget_is_what_differs_from_the_defaults_and_says_what_comes_out():
    given = {"shared_lr": 1.0, "num_blocks": 12, "log_dir": "elsewhere", "random_seed": 3}
    assert budget(Config(**given)) == {"network_type": "rnn", "shared_lr": 1.0}


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"settings": {}}', '{"settings": {}, "data": {}, "rows": [{"runs": []}]}']
)
def test_a_damaged_table_is_named(tmp_path, content):
    path = tmp_path / "cells.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"cells\.json: not"):
        Table.open(path, Config(), [])


# --- the methods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "prefix"), [("validation", ""), ("test", "test_")])
def test_scores_and_ranks_are_those_of_the_table(evaluated, split, prefix):
    output, results = evaluated
    rows = json.loads((output / "cells.json").read_text())["rows"]
    known = {RNNCell.from_dict(row["architecture"]): row["runs"][0][split] for row in rows}
    for name in METHODS[:-1]:
        found = results["methods"][name]
        cells = [RNNCell.from_dict(one) for one in found["architectures"]]
        assert found[f"{prefix}scores"] == [known[cell] for cell in cells]
        assert found[f"{prefix}ranks"] == [1 + sum(other < known[cell] for other in known.values()) for cell in cells]
        assert len(cells) == 2
    assert json.loads((output / "results" / "results.json").read_text()) == results


def test_what_is_outside_the_table_is_trained_by_the_same_budget(evaluated):
    output, results = evaluated
    rows = json.loads((output / "results" / "found.json").read_text())["rows"]
    assert [row["architecture"]["type"] for row in rows] == ["lstm"]
    assert results["methods"]["lstm"]["test_scores"] == [rows[0]["runs"][0]["test"]] * 2


def test_a_search_is_that_of_the_command(home, evaluated, tmp_path):
    given = {name: value for name, value in settings(home, tmp_path).items() if name in Config().values}
    results = search_evaluation.run.train(Config(**{**given, "log_dir": str(tmp_path), "random_seed": 2}))
    assert evaluated[1]["methods"]["search"]["architectures"][1] == results["architecture"]


def test_the_best_of_the_finalists_is_taken_by_trainings_that_do_not_judge_it(home, evaluated):
    output, results = evaluated
    rows = json.loads((output / "results" / "finalists.json").read_text())["rows"]
    validation = {
        (RNNCell.from_dict(row["architecture"]), run["seed"]): run["validation"] for row in rows for run in row["runs"]
    }
    for seed, taken in zip((1, 2), results["methods"]["finalists"]["architectures"], strict=True):
        scores = {cell: score for (cell, given), score in validation.items() if given == 1_000_000 + seed}
        assert len(scores) == 3
        assert RNNCell.from_dict(taken) == min(scores, key=scores.get)
    assert len(validation) == 6


def test_finalists_are_the_best_candidates_of_the_search(evaluated):
    (folder,) = (evaluated[0] / "results" / "searches" / "search-1").iterdir()
    trainer, _ = search_evaluation.run.restore(search_evaluation.saved_config(folder), folder)
    found = [RNNCell.from_dict(one) for one in search_evaluation.best_candidates(str(folder.parent), 3)]
    cells = architectures_of(RNNSpace(2), 0)  # 300 samples have them all
    first = dict(zip(cells, trainer.task.rank(cells, trainer.deriver.config.derive_max_batches), strict=True))
    assert set(found) == set(sorted(first, key=first.get)[:3])
    scores = [trainer.task.evaluate(cell, "valid") for cell in found]
    assert scores == sorted(scores)


def test_finalists_of_a_search_that_is_gone(home, copy, capsys, tmp_path):
    for path in (copy / "results" / "searches").glob("finalists*"):
        path.unlink()
    shutil.rmtree(copy / "results" / "searches" / "search-2")
    line = tiny.refusal(tiny.flags(settings(home, copy)), tmp_path, capsys, main)
    assert "search-2: the search is gone; remove " in line and "search-2.json to search again" in line


@pytest.fixture
def copy(evaluated, tmp_path):
    """The same output, to go on with."""
    return shutil.copytree(evaluated[0], tmp_path / "copy")


def test_an_evaluation_goes_on_where_it_was_stopped(home, evaluated, copy, monkeypatch):
    (copy / "results" / "results.json").unlink()
    monkeypatch.setattr(search_evaluation.run, "train", _fail)
    monkeypatch.setattr(truth, "train_from_scratch", _fail)
    assert evaluate(**settings(home, copy)) == evaluated[1]


def _fail(*args):
    raise AssertionError("trained again")


def test_the_time_of_a_search_buys_random_trainings(home, copy, monkeypatch):
    ranks = {}
    for seconds in (1e-9, 1e9):
        monkeypatch.setattr(Table, "seconds", seconds)
        results = evaluate(**settings(home, copy, methods=("search", "random_budget")))
        ranks[seconds] = results["methods"]["random_budget"]["ranks"]
    assert ranks[1e-9] == [1, 1] != ranks[1e9]


def test_finalists_buy_as_many_random_trainings(home, copy, monkeypatch):
    monkeypatch.setattr(Table, "seconds", 1e9)  # the search itself buys none
    drawn = []
    monkeypatch.setattr(search_evaluation.random.Random, "sample", lambda self, rows, num: drawn.append(num) or [0])
    evaluate(**settings(home, copy, methods=("finalists", "random_budget")))
    assert drawn == [3, 3]


def test_a_dry_run_trains_nothing(home, tmp_path, capsys, evaluated):
    assert evaluate(**settings(home, tmp_path, dry_run=True)) == {"trainings": 16, "searches": 4}
    line = capsys.readouterr().out
    assert "16 trainings of " in line and "4 searches, up to 6 trainings of finalists; " in line
    assert not list(tmp_path.iterdir())
    assert evaluate(**settings(home, evaluated[0], dry_run=True, truth_seeds=2, seeds=3))["trainings"] == 16
    assert "16 trainings of " in capsys.readouterr().out


# --- the figures ------------------------------------------------------------------------------------------------------


def test_the_report_and_the_plots(evaluated):
    output, results = evaluated
    lines = search_evaluation.evaluation_report.report(results, Config().space.metric)
    for name in METHODS:
        assert any(line.startswith(f"{name} ") for line in lines)
    (line,) = (line for line in lines if line.startswith("search          validation"))
    scores = results["methods"]["search"]["scores"]
    assert line.split()[2:4] == [f"{statistics.mean(scores):.2f}", f"{statistics.stdev(scores):.2f}"]
    assert sum("(Wilcoxon)" in line for line in lines) == 2 * (len(METHODS) - 1)
    assert {path.name for path in (output / "results").glob("*.png")} == {
        "scores.png", "ranking_search.png", "ranking_random_shared.png"
    }  # fmt: skip
    for path in (output / "results").glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 300


def test_tau_of_a_search_is_that_of_its_mean_scores(evaluated):
    output, results = evaluated
    rows = json.loads((output / "cells.json").read_text())["rows"]
    validation = [row["runs"][0]["validation"] for row in rows]
    for name in ("search", "random_shared"):
        assert results["tau"][name]["tau"] == pytest.approx(kendall(results["shared"][name], validation))
        assert len(results["tau"][name]["seeds"]) == 2


def kendall(ours, theirs) -> float:
    """Pairs in the same order less pairs in the other, over all pairs; where there are no ties."""
    pairs = [(i, j) for i in range(len(ours)) for j in range(i)]
    return sum(np.sign((ours[i] - ours[j]) * (theirs[i] - theirs[j])) for i, j in pairs) / len(pairs)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        low, high = paired(rng.normal(1, 2, 30), rng.normal(0, 2, 30))["interval"]
        covered += low <= 1 <= high
    assert 50 <= covered <= 60


def test_a_comparison_of_equal_methods_finds_nothing():
    assert paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == {"difference": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    assert paired(np.arange(10) + 1.0, np.arange(10))["p"] == pytest.approx(2 / 2**10)  # the least there can be


def test_tau_of_equal_and_of_reversed_rankings():
    scores = list(range(10))
    assert tau(scores, scores)["tau"] == pytest.approx(1) and tau(scores, scores[::-1])["tau"] == pytest.approx(-1)
    low, high = tau(scores, [1, 0, 3, 2, 5, 4, 7, 6, 9, 8])["interval"]
    assert low < 1 - 4 * 5 / 90 < high


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budget": ""}, "budget is missing; --budget names it"),
        ({"table": ""}, "table is missing; --table names it"),
        ({"budget": "nonesuch"}, "config nonesuch: no such variation"),
        ({"methods": ("serch",)}, "methods: unknown method 'serch'; there are search, ema"),
        ({"seeds": 0}, "seeds is 0; it must be at least 1"),
        ({"backend": "slurm"}, "--backend: invalid choice: 'slurm'"),
        ({"num_truth": 40}, "num_truth is 40, but the space has 16 architectures"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_what_an_evaluation_refuses(home, tmp_path, capsys, changes, says):
    argv = tiny.flags(settings(home, tmp_path, **changes))
    assert says in tiny.refusal(argv, tmp_path, capsys, main)


@pytest.mark.parametrize("backend", ["ray", "dask"])
def test_a_back_end_that_is_not_installed(home, tmp_path, capsys, monkeypatch, backend):
    for package in ("ray", "distributed"):
        monkeypatch.setitem(sys.modules, package, None)
    argv = tiny.flags(settings(home, tmp_path, backend=backend))
    assert f"backend {backend} is not installed; pip install 'enas[{backend}]'" in tiny.refusal(
        argv, tmp_path, capsys, main
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "ray", "dask"])
def test_two_processes_give_the_same_table(home, evaluated, tmp_path, backend):
    pytest.importorskip({"loky": "joblib", "dask": "distributed"}.get(backend, backend))
    evaluate(**settings(home, tmp_path, methods=(), backend=backend, jobs=2))
    assert _without_seconds(tmp_path / "cells.json") == _without_seconds(evaluated[0] / "cells.json")

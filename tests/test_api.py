"""A run as an object: what a user of Python holds, what a function of every epoch may do, what a run says of itself."""

import itertools
import json
import logging
import math
import os
import pickle
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

import enas
from enas import Config, RNNCell
from enas.allocator import HUGE_PAGES
from enas.cnn.macro import MacroNetwork
from enas.config import read_preset
from enas.errors import TrainingDivergedError
from enas.export.folder import export
from enas.rnn.cell import LSTMBaseline, RNNSpace
from enas.rnn.task import LanguageTask
from enas.runs import folder as run_folder
from enas.runs import run as runs
from enas.search.architecture import architecture_from_dict
from enas.search.checkpoint import random_states
from enas.search.registry import SPACES
from enas.search.scratch import ScratchTrainer
from enas.studies.sweep import Runs
from enas.terminal import LOGGER, progress_bar

CELL = RNNCell(("tanh", "ReLU", "identity", "tanh"), (0, 0, 1))
MICRO = tiny.ROOT / "configs" / "architectures" / "enas_micro.json"
TEXTS = ["a b c d e f", "b c d e", "c d e f a b"] * 8
SHORT = {"max_epoch": 1, "shared_max_step": 3, "controller_max_step": 2}


def looking(run, entry) -> dict:
    """A function of every epoch that reads, scores, samples and draws random numbers of its own."""
    random.random(), np.random.rand(2), torch.rand(3)
    cells = run.sample(5, seed=entry["epoch"])
    run.score(cells[:2], "train"), run.score(cells[:1]), run.history, run.architecture
    entry.clear()
    torch.manual_seed(0)
    return {}


# --- the object -------------------------------------------------------------------------------------------------------


def test_a_run_is_its_results_and_its_folder(folder):
    run = enas.load(folder)
    assert isinstance(run, enas.Run) and run == run.results == tiny.results(folder)
    assert json.loads(json.dumps(run)) == {**run} and pickle.loads(pickle.dumps(run)).folder == folder
    assert run.folder == Path(run) == folder and repr(run) == f"Run({str(folder)!r})"
    assert run.architecture == architecture_from_dict(run["architecture"])
    assert enas.load(folder.name, log_dir=folder.parent) == enas.load("", log_dir=folder.parent) == run


def test_a_run_holds_numbers_as_results_json_does(tmp_path):
    run = enas.Run(tmp_path, {"validation_perplexity": math.nan, "history": [{"reward": math.inf}]})
    assert run.results == {"validation_perplexity": None, "history": [{"reward": None}]}


def test_the_history_is_flat(folder):
    """As a table wants it, with a column for each number of a summary."""
    run = enas.load(folder)
    for flat, entry in zip(run.history, run["history"], strict=True):
        assert flat["policy_median"] == entry["policy"]["median"]
        assert not any(isinstance(value, dict | list) for value in flat.values())
        assert {*entry} - {*flat} == {"policy", "uniform"}


def test_a_search_from_python_scores_as_it_was_scored_and_draws_from_its_policy(tmp_path):
    sizes = {name: tiny.SETTINGS[name] for name in ("batch_size", "shared_embed", "shared_hid", "num_gpu")}
    places = {"data_dir": str(tmp_path / "data"), "log_dir": str(tmp_path / "logs")}
    run = enas.search(TEXTS, TEXTS, TEXTS, **SHORT, **sizes, **places, num_blocks=4, derive_num_sample=3)
    assert run.folder.parent == tmp_path / "logs" and run["epoch"] == 1
    before = random_states()
    assert run.score([run.architecture]) == [run["validation_perplexity"]]
    cells = run.sample(40)
    assert cells == run.sample(40) != run.sample(40, seed=1)
    assert len({*cells}) > 20 and all(cell.num_blocks == 4 for cell in cells)
    space = RNNSpace(4)
    everything = [space.decode(row) for row in itertools.product(*map(range, space.sizes))]
    assert math.fsum(map(math.exp, run.log_prob(everything))) == pytest.approx(1, abs=1e-5)
    assert [run.test()["test_perplexity"]] == run.score([run.architecture], "test")
    assert run == tiny.results(run.folder)
    assert tiny.difference(random_states(), before) is None


def test_a_search_without_a_trained_policy_has_no_log_probabilities(tmp_path):
    """Its samples are uniform over functions, and the decisions of a labelling have another probability."""
    run = enas.load(tiny.run_in(tmp_path, train_type="random", **SHORT))
    assert run.sample(2)
    with tiny.refused("samples uniformly; only a trained controller has log-probabilities"):
        run.log_prob([CELL])


def test_what_was_derived_is_trained_and_weights_of_one_architecture_score_no_other(folder):
    run = enas.load(folder)
    assert run.derive(derive_num_sample=20) is run
    scratch = run.train_scratch(max_epoch=2, shared_max_step=4)
    assert scratch.folder != run.folder and scratch["epoch"] == 2
    assert scratch.architecture == run.architecture
    assert scratch.score([run.architecture], "valid") == [scratch["validation_perplexity"]]
    assert scratch.score([run.architecture], "test") == [scratch["test_perplexity"]]
    with tiny.refused("has the weights of one architecture, and cannot score others"):
        scratch.score([CELL])
    with tiny.refused("split is 'dev'; it must be one of train, valid, test"):
        run.score([CELL], "dev")
    with tiny.refused("only a search has a controller"):
        scratch.sample(1)
    own = {"mode": "single", "dag_path": str(scratch.folder / "architecture.json")}
    single = enas.train(Config(**tiny.settings(folder.parents[1], **own, **SHORT)))
    assert single["mode"] == "single" and single.architecture == scratch.architecture


def test_a_run_is_its_results_json_after_each_method(folder):
    run = enas.load(folder)
    assert "finalists" in run.derive() and "finalists" not in run.resume(max_epoch=3)
    assert run.results == tiny.results(folder)
    assert "finalists" not in run.test() and run == tiny.results(folder)


def test_quiet_loads_and_sweeps_print_nothing(folder, tmp_path, capsys):
    run = enas.load("", log_dir=folder.parent, quiet=True)
    assert run.sample(1)
    enas.sweep(Config(**tiny.settings(tmp_path, **SHORT)), quiet=True)
    assert capsys.readouterr() == ("", "")


def test_printed_commands_can_be_copied(tmp_path, capsys):
    folder = tiny.run_in(tmp_path, **SHORT, log_dir=str(tmp_path / "my runs"))
    lines = dict(
        line.split(":", 1) for line in capsys.readouterr().out.splitlines() if "logdir" in line or "-m" in line
    )
    assert lines.keys() == {"curves", "from scratch", "page", "module"}
    assert all(str(folder) in shlex.split(line) for line in lines.values())


def test_a_run_goes_on_with_its_weights_and_on_another_machine(folder, tmp_path):
    run = enas.load(folder)
    before = run.score([CELL])
    assert run.resume(max_epoch=3) is run and run["epoch"] == 3 == len(run.history)
    assert run.score([CELL]) != before
    (folder.parents[1] / "data").rename(tmp_path / "elsewhere")
    with tiny.refused("no such dataset"):
        enas.load(folder).score([CELL])
    there = enas.load(folder, data_dir=str(tmp_path / "elsewhere"))
    assert there.score([CELL]) == run.score([CELL])
    assert there.resume(max_epoch=4)["epoch"] == 4


def test_the_module_is_the_exported_one_and_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    run, path, modules = enas.load(folder), [*sys.path], {*sys.modules}
    before = tiny.tree(folder)
    module = run.module()
    assert tiny.tree(folder) == before and sys.path == path and "model" not in {*sys.modules} - modules
    assert not module.training
    weights = load_file(export(folder, tmp_path / "cell") / "model.safetensors")
    weights = {name: weight for name, weight in weights.items() if name.startswith("layers")}  # the cell's
    assert tiny.difference({name: module.state_dict()[name] for name in weights}, dict(weights)) is None
    output, _ = module(torch.randn(5, 3, tiny.SETTINGS["shared_embed"]))
    assert len(weights) == len(module.state_dict()) and output.shape == (5, 3, tiny.SETTINGS["shared_hid"])


def test_one_architecture_is_trained_as_such_whatever_the_mode(tmp_path):
    run = enas.train(Config(**tiny.settings(tmp_path, **SHORT)), CELL)
    assert run["mode"] == "single" and run.architecture == CELL and run.resume(max_epoch=2)["epoch"] == 2


def test_the_test_score_stays_with_the_architecture_and_goes_with_it(folder):
    run = enas.load(folder).test()
    before = run["test_perplexity"]
    assert run.derive(derive_num_sample=1)["test_perplexity"] == before
    run["architecture"] = CELL.to_dict()
    (folder / "results.json").write_text(json.dumps({**run}))
    assert run.derive(derive_num_sample=20).architecture != CELL and run["test_perplexity"] is None


@pytest.mark.parametrize(("score", "is_kept"), [(1e9, True), (0.5, False)])
def test_the_test_score_stays_with_the_best_epoch(tmp_path, monkeypatch, score, is_kept):
    single = enas.train(Config(**tiny.settings(tmp_path, **SHORT)), CELL).test()
    tested = single["test_perplexity"]
    assert tested is not None and single.resume()["test_perplexity"] == tested
    monkeypatch.setattr(ScratchTrainer, "score", lambda *_: score)
    single.resume(max_epoch=2)
    assert single["epoch"] == 2 and single["test_perplexity"] == (tested if is_kept else None)


@pytest.mark.parametrize(("accuracy", "says"), [(0.0, "0.0000"), (None, "nan")])
def test_a_comparison_shows_an_accuracy_of_zero(folder, capsys, monkeypatch, accuracy, says):
    run = enas.load(folder)
    scores = {"validation_perplexity": accuracy, "test_perplexity": accuracy}
    monkeypatch.setattr(runs, "train_to", lambda *asked: scores)
    run.train_scratch(max_epoch=1, shared_max_step=2, compare_with=["random"])
    assert f"random {says}" in capsys.readouterr().out


# --- a function that hears of every epoch -----------------------------------------------------------------------------

LONGER = {"max_epoch": 4, "save_epoch": 3, "shared_max_step": 6}
KINDS = {
    "rnn": {},
    "macro": {"network_type": "cnn"},
    "random": {"train_type": "random"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_that_only_looks_changes_no_bit(tmp_path, kind):
    ends = []
    for name, on_epoch in {"plain": None, "looked at": looking}.items():
        settings = tiny.settings(tmp_path, **LONGER, **KINDS[kind], log_dir=str(tmp_path / name))
        ends.append(tiny.newest_state(enas.train(Config(**settings), on_epoch=on_epoch).folder))
    assert tiny.difference(*ends) is None


def test_the_training_of_one_architecture_is_not_moved_either(folder, tmp_path):
    """Scores are of the weights as they are, averaged if they are averaged."""
    scores = []

    def score(run, entry):
        scores.append((*run.score([run.architecture]), entry["validation_perplexity"]))
        torch.rand(1)

    run = enas.load(folder)
    hooks = {"plain": None, "scored": score}
    ends = [run.train_scratch(**LONGER, log_dir=str(tmp_path / name), on_epoch=hook) for name, hook in hooks.items()]
    assert tiny.difference(*(tiny.newest_state(end.folder) for end in ends)) is None
    assert len(scores) == 4 and all(ours == its for ours, its in scores)


def test_numbers_of_the_user_are_in_history_results_and_curves(tmp_path):
    heard = []

    def on_epoch(run, entry):
        heard.append(entry)
        return {"mine/distinct": len({*run.sample(20)}), "half": np.float32(entry["epoch"] / 2)}

    run = enas.train(Config(**tiny.settings(tmp_path, **LONGER)), on_epoch=on_epoch)
    assert [entry["epoch"] for entry in heard] == [1, 2, 3, 4]
    assert [entry["validation_perplexity"] is None for entry in heard] == [True, True, False, False]
    assert heard[-1]["policy_best"] == run.history[-1]["policy_best"]
    assert [entry["half"] for entry in run.history] == [0.5, 1.0, 1.5, 2.0]
    assert all(0 < entry["mine/distinct"] <= 20 for entry in tiny.results(run.folder)["history"])
    assert tiny.curve(run.folder, "half") == [(6, 0.5), (12, 1.0), (18, 1.5), (24, 2.0)]
    values = [value for _, value in tiny.curve(run.folder, "mine/distinct")]
    assert values == [entry["mine/distinct"] for entry in run.history]
    longer = run.resume(max_epoch=5, on_epoch=lambda run, entry: {"half": 0})
    assert [entry["half"] for entry in longer.history] == [0.5, 1.0, 1.5, 2.0, 0.0]


@pytest.mark.parametrize("when", [1, 2, 3, 4])
def test_a_run_that_its_function_ends_is_saved_and_goes_on_as_if_nothing_had_been(tmp_path, when):
    """After any epoch, evaluated or not; the exception is the user's own."""
    stop = KeyError("enough")

    def on_epoch(run, entry):
        torch.rand(1)
        if entry["epoch"] == when:
            held.append(run)
            raise stop

    held = []
    whole = enas.train(Config(**tiny.settings(tmp_path, **LONGER, log_dir=str(tmp_path / "whole"))))
    with pytest.raises(KeyError) as raised:
        enas.train(Config(**tiny.settings(tmp_path, **LONGER)), on_epoch=on_epoch)
    assert raised.value is stop
    run = enas.load(held[0].folder)
    assert run["epoch"] == when == len(run.history)
    run.resume()
    assert tiny.difference(tiny.newest_state(run.folder), tiny.newest_state(whole.folder)) is None


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"reward": 1.0}, "the history has reward already"),
        ({"policy": 1.0, "policy_median": 1.0}, "the history has policy, policy_median already"),
        ({"mine": "high"}, "on_epoch returned {'mine': 'high'}; it must return numbers by name, or None"),
        (3, "on_epoch returned 3; it must return numbers by name, or None"),
        ([None], "on_epoch returned [None]; it must"),
    ],
)
def test_numbers_that_are_none_or_not_the_users_end_the_run(tmp_path, numbers, says):
    with tiny.refused(says):
        enas.train(Config(**tiny.settings(tmp_path, **SHORT)), on_epoch=lambda run, entry: numbers)
    assert tiny.results(tiny.only_run(tmp_path / "logs"))["epoch"] == 1


# --- several runs -----------------------------------------------------------------------------------------------------


def test_a_sweep_has_a_run_for_each_setting_and_seed_and_goes_on_with_them(tmp_path, monkeypatch):
    config = Config(**tiny.settings(tmp_path, **SHORT))
    asked = {"seeds": 2, "train_type": ["orig", "random"], "num_blocks": [2, 3]}
    found = enas.sweep(config, **asked)
    assert len({run.folder for run in found}) == 8 and all(run.folder.parent == tmp_path / "logs" for run in found)
    for run, (kind, blocks, seed) in zip(
        found, [(k, b, s) for k in ("orig", "random") for b in (2, 3) for s in (1, 2)], strict=True
    ):
        params = tiny.params(run.folder)
        assert (params["train_type"], params["num_blocks"], params["random_seed"]) == (kind, blocks, seed)
    alone = enas.train(config.replace(train_type="random", num_blocks=3, random_seed=2))
    assert alone["validation_perplexity"] == found[-1]["validation_perplexity"]

    table = found.table("validation_perplexity")
    values = np.array([run["validation_perplexity"] for run in found]).reshape(4, 2)
    assert [row["mean"] for row in table] == pytest.approx(values.mean(1))
    assert [row["sd"] for row in table] == pytest.approx(values.std(1, ddof=1))
    assert [(row["train_type"], row["num_blocks"], row["runs"], row["diverged"]) for row in table] == [
        (kind, blocks, 2, 0) for kind in ("orig", "random") for blocks in (2, 3)
    ]
    lines = repr(table).splitlines()
    assert lines[0].split() == ["train_type", "num_blocks", "runs", "diverged", "mean", "sd"] and len(lines) == 5

    monkeypatch.setattr(LanguageTask, "shared_loss", None)  # nothing is trained again
    assert [run["validation_perplexity"] for run in enas.sweep(config, **asked)] == [*values.flat]


def test_a_run_of_a_sweep_that_diverges_is_counted_and_the_others_go_on(tmp_path, monkeypatch):
    train = runs.train

    def diverging(config, *rest):
        run = train(config, *rest)
        if config.random_seed == 2:
            raise TrainingDivergedError("training diverged")
        return run

    monkeypatch.setattr(runs, "train", diverging)
    found = enas.sweep(Config(**tiny.settings(tmp_path, **SHORT)), seeds=3)
    ((row),) = found.table("validation_perplexity")
    assert (row["runs"], row["diverged"]) == (3, 1)
    ((untested),) = found.table("test_perplexity")  # a search is not tested, which is no divergence
    assert (untested["runs"], untested["diverged"]) == (3, 1) and math.isnan(untested["mean"])
    assert row["mean"] == pytest.approx((found[0]["validation_perplexity"] + found[2]["validation_perplexity"]) / 2)
    assert found[1] == {} and found[1].history == [] and found[1].architecture is None


def test_runs_of_a_sweep_differ_in_what_was_asked_and_go_on_to_the_epoch_that_is_asked(tmp_path):
    config = Config(**tiny.settings(tmp_path, **{**SHORT, "max_epoch": 3}))
    places = [str(tmp_path / "data"), str(tmp_path / "more")]
    tiny.write_corpus(tmp_path / "more" / "tiny", seed=1)
    asked = {"data_dir": places, "precision": ["auto", "float32"]}
    found = enas.sweep(config.replace(stop_epoch=1), **asked)
    assert [row["data_dir"] for row in found.table("epoch")] == [one for one in places for _ in range(2)]
    assert [row["precision"] for row in found.table("epoch")] == ["auto", "float32"] * 2
    assert len({run.folder for run in found}) == 4 and [run["epoch"] for run in found] == [1] * 4
    again = enas.sweep(config.replace(stop_epoch=2), **asked)
    assert [run.folder for run in again] == [run.folder for run in found]
    assert [run["epoch"] for run in again] == [2] * 4


def test_a_sweep_goes_on_where_its_data_lie_now(tmp_path):
    config = Config(**tiny.settings(tmp_path, **SHORT, data_dir=str(tmp_path / "before")))
    tiny.write_corpus(tmp_path / "before" / "tiny")
    asked = {"train_type": ["orig"], "seeds": 1}
    (first,) = enas.sweep(config.replace(max_epoch=2, stop_epoch=1), **asked)
    (tmp_path / "before").rename(tmp_path / "now")
    (again,) = enas.sweep(config.replace(max_epoch=2, data_dir=str(tmp_path / "now")), **asked)
    assert again.folder == first.folder and again["epoch"] == 2


@pytest.mark.parametrize("varied", [{"random_seed": [1, 2]}, {"max_epoch": 3}, {"train_type": "orig"}])
def test_a_sweep_without_lists_of_values_is_refused(tmp_path, varied):
    with tiny.refused(f"{next(iter(varied))}: give each setting a list of values; `seeds` is the number of seeds"):
        enas.sweep(Config(**tiny.settings(tmp_path, **SHORT)), **varied)


@pytest.mark.parametrize("numbers", [{"seeds": 0}, {"jobs": 0}, {"seeds": "2"}])
def test_a_sweep_of_no_runs_is_refused(numbers):
    with tiny.refused("both must be integers, at least 1"):
        enas.sweep(Config(), **numbers)


def test_a_run_of_a_sweep_that_was_killed_at_once_begins_anew(tmp_path):
    config = Config(**tiny.settings(tmp_path, **SHORT))
    with pytest.raises(KeyboardInterrupt), tiny.in_call(LanguageTask, "shared_loss", 1, tiny.interrupt):
        enas.sweep(config)
    folder = tiny.only_run(tmp_path / "logs")
    for path in folder.glob("checkpoints/*"):
        path.unlink()
    (folder / "left").touch()
    (run,) = enas.sweep(config)
    assert run.folder == folder and run["epoch"] == 1 and not (folder / "left").exists()


def test_a_killed_run_that_another_process_holds_is_left_alone(tmp_path):
    config = Config(**tiny.settings(tmp_path, **SHORT))
    (run,) = enas.sweep(config)
    for path in (*run.folder.glob("checkpoints/*"), run.folder / "results.json"):  # before its first checkpoint
        path.unlink()
    with run_folder.only_user(run.folder), tiny.refused("another process is at work"):
        enas.sweep(config)
    assert (run.folder / "params.json").exists()


def test_a_table_of_no_runs_says_so():
    assert repr(Runs().table("validation_perplexity")) == "no runs"


# --- notebooks --------------------------------------------------------------------------------------------------------


@tiny.needs_dot
@pytest.mark.parametrize("architecture", [CELL, *tiny.NETWORKS.values()])
def test_an_architecture_shows_itself(rendered, architecture):
    assert "</svg>" in architecture._repr_svg_()


def test_an_architecture_is_text_without_graphviz_and_without_a_space():
    assert CELL._repr_svg_() is None  # tests have no `dot` unless they ask for it
    assert tiny.NETWORKS["micro"].normal._repr_svg_() is None


def test_a_config_shows_what_differs_from_the_defaults():
    config = Config(config="small", num_blocks=3)
    assert {**read_preset("small"), "num_blocks": 3}.items() >= eval(
        f"dict{repr(config).removeprefix('Config')}"
    ).items()
    assert eval(repr(config)) == config == Config(**config.to_dict())
    assert repr(Config()) == "Config()"


def test_bars_are_seen_in_a_notebook_and_not_in_silence(monkeypatch):
    assert progress_bar(range(3), "x").disable  # stderr is no terminal
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    assert not progress_bar(range(3), "x").disable
    monkeypatch.setattr(LOGGER, "level", logging.WARNING)
    LOGGER.manager._clear_cache()
    assert progress_bar(range(3), "x").disable
    LOGGER.manager._clear_cache()


def test_a_quiet_run_prints_nothing_and_its_log_has_all(tmp_path, capfd):
    run = enas.train(Config(**tiny.settings(tmp_path, **SHORT)), quiet=True, on_epoch=lambda run, entry: print("mine"))
    run.derive(quiet=True).train_scratch(quiet=True, max_epoch=1)
    assert capfd.readouterr() == ("mine\n", "")
    assert "epoch 1/1" in (run.folder / "train.log").read_text()
    run.test()
    assert "test perplexity" in capfd.readouterr().out


def test_lines_are_those_of_the_logger_enas(tmp_path, capsys):
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("enas").addHandler(handler)
    try:
        enas.train(Config(**tiny.settings(tmp_path, **SHORT)))
    finally:
        logging.getLogger("enas").removeHandler(handler)
    assert lines == capsys.readouterr().out.splitlines() and len(lines) > 8


# --- names and machines -----------------------------------------------------------------------------------------------


def test_a_run_has_the_name_that_it_was_given_and_is_found_as_the_newest(tmp_path, capsys):
    folder = tiny.run_in(tmp_path, **SHORT, name="wide")
    assert folder.name == "wide"
    argv = tiny.flags(tiny.settings(tmp_path, **SHORT, name="wide"))
    assert "wide: exists already; give another --name" in tiny.refusal(argv, tmp_path, capsys)
    assert run_folder.newest_run({"dataset": "tiny", "log_dir": str(tmp_path / "logs")}) == folder
    (tmp_path / "logs" / "tiny_orig_2020-01-01_00-00-00").mkdir()
    (tmp_path / "logs" / "tiny_orig_2020-01-01_00-00-00" / "params.json").write_text("{}")
    scratch = enas.load("", log_dir=tmp_path / "logs").train_scratch(max_epoch=1)
    assert scratch.architecture == enas.load(folder).architecture
    assert re.fullmatch(r"tiny_orig_\d{4}.*", scratch.folder.name)  # a name is of one run


@pytest.mark.parametrize(
    ("name", "content"), [("data.json", ""), ("data.json", '{"a": 1}'), ("data.json", "[]"), (".git/HEAD", "main")]
)
def test_a_folder_of_something_else_is_not_replaced_by_a_run_of_its_name(tmp_path, name, content):
    mine = tmp_path / "logs" / "mine"
    (mine / name).parent.mkdir(parents=True)
    (mine / name).write_text(content)
    before = tiny.tree(tmp_path / "logs")
    with tiny.refused("mine: exists already; give another --name"):
        tiny.run_in(tmp_path, **SHORT, name="mine")
    assert tiny.tree(tmp_path / "logs") == before


def test_a_name_is_free_until_a_run_has_its_first_checkpoint(tmp_path):
    """A full disk or a kill may leave an empty folder, or the digests of the data."""
    begun = tmp_path / "logs" / "begun"
    begun.mkdir(parents=True)
    (begun / ".lock").touch()
    folder = tiny.run_in(tmp_path, **SHORT, name="begun")
    shutil.rmtree(folder / "checkpoints")  # to save room: the results are worth keeping
    with tiny.refused("begun: exists already"):
        tiny.run_in(tmp_path, **SHORT, name="begun")
    (folder / "results.json").unlink()
    assert tiny.results(tiny.run_in(tmp_path, **SHORT, name="begun"))["epoch"] > 0


@pytest.mark.parametrize("content", ["", "{}", "[]", "[1]", "null"])
def test_a_damaged_machine_json_ends_nothing(folder, content):
    named = folder.rename(folder.with_name("own"))
    (named / "machine.json").write_text(content)
    older = shutil.copytree(named, named.with_name("tiny_orig_2020-01-01_00-00-00"))
    assert run_folder._runs_in(folder.parent) == [older, named]
    enas.load(named).resume(max_epoch=3)
    assert run_folder._runs_in(folder.parent) == [named, older]


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "/tmp/x", "a\n"])
def test_a_name_is_a_plain_one(name):
    with tiny.refused(f"name is {name!r}; it must be a plain name"):
        Config(name=name)


def test_a_run_folder_says_what_made_it(folder):
    first = json.loads((folder / "machine.json").read_text())
    enas.load(folder).resume(max_epoch=3)
    both = json.loads((folder / "machine.json").read_text())
    ((_, made),) = first.items()
    assert made["enas"] == enas.__version__ and made["torch"] == torch.__version__ and made["processor"]
    assert made["python"] == sys.version.split()[0]
    assert bool(made["commit"]) == (tiny.ROOT / ".git").exists()
    assert first.items() <= both.items()


def test_the_package_loads_no_torch_before_it_is_asked_for_a_run():
    look = "import os, sys, enas\nassert enas.RNNCell.draw, 'its picture'\nenas.Config(config='small')\n"
    look += f"print('torch' in sys.modules, enas.Run, enas.search, {HUGE_PAGES!r} in os.environ)"
    environment = {name: value for name, value in os.environ.items() if name != HUGE_PAGES}
    words = [sys.executable, "-c", look]
    out = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.startswith("False <class") and out.endswith("False\n") and callable(enas.search)
    assert not hasattr(enas, "nonesuch")


@pytest.mark.parametrize("mode", ["derive", "test", "single", "train_scratch"])
def test_a_search_in_another_mode_is_refused_before_anything_is_written(tmp_path, monkeypatch, mode):
    monkeypatch.chdir(tmp_path)
    with tiny.refused(f"mode is {mode}; a new run of this function has mode train"):
        enas.search(["one two three"] * 40, dataset="sums", mode=mode, dag_path="lstm")
    with tiny.refused(f"mode is {mode}; a new run of this function has mode train"):
        enas.search_module(lambda: enas.Choice(one=torch.nn.ReLU(), other=torch.nn.Tanh()), [], [], len, len, mode=mode)
    assert not any(tmp_path.iterdir())


def test_a_new_search_goes_on_with_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tiny.refused("load_path is mine, but this begins a new run; enas.load(…).resume() goes on"):
        enas.search(["one two three"] * 40, dataset="sums", load_path="mine")
    for given in ((), (RNNCell(("tanh",), ()),)):
        with tiny.refused("load_path is mine, but this begins a new run; enas.load(…).resume() goes on"):
            enas.train(Config(load_path="mine"), *given)
    assert not any(tmp_path.iterdir())


def test_training_an_architecture_is_no_derivation_and_takes_an_architecture_of_the_space(tmp_path):
    settings = tiny.settings(tmp_path, num_blocks=2)
    cell, network = RNNCell(("tanh", "ReLU"), (0,)), MacroNetwork(("conv3x3",), ((),))
    for given in ((), (cell,)):
        with tiny.refused("mode is derive; a new run of this function has mode train or single or train_scratch"):
            enas.train(Config(**settings, mode="derive"), *given)
    for other in (network, cell.to_json(), cell.to_dict()):
        with tiny.refused("is not a recurrent cell, which is needed here"):
            enas.train(Config(**settings), other)
    normal = architecture_from_dict(json.loads(MICRO.read_text())).normal
    with tiny.refused("(MicroCell) is not a micro network, which is needed here"):
        enas.train(Config(network_type="cnn", cnn_space="micro"), normal)
    assert not (tmp_path / "logs").exists()


def test_what_is_scored_is_of_the_space(trained):
    searched, cell = enas.load(trained), RNNCell(("tanh", "ReLU"), (0,))
    for score in (searched.score, searched.log_prob):
        for wrong in ([cell.to_json()], [None], MacroNetwork(("conv3x3",), ((),)), cell.to_json()):
            with tiny.refused("is not a recurrent cell, which is needed here"):
                score(wrong)
        assert score([]) == []
    assert searched.sample(2, np.int64(3)) == searched.sample(2, 3)
    with tiny.refused("(str) is not a recurrent cell"):
        searched.score(cell.to_json())
    with tiny.refused("(dict) is not a recurrent cell"):
        searched.score(cell.to_dict())
    sampled = searched.sample(3, 1)
    assert searched.score(Counter(sampled)) == searched.score(dict.fromkeys(sampled))
    for name, wrong in [("num", -1), ("num", 1.5), ("seed", 1.7), ("seed", "x"), ("seed", 2**63)]:
        with tiny.refused(f"{name} is {wrong!r}; it must be an integer, at least 0 and below 2**63"):
            searched.sample(**{"num": 1, "seed": 1, name: wrong})


def test_a_baseline_of_an_own_space_may_have_any_name(tmp_path):
    """A space may have several baselines of one class."""
    with tiny.registering():
        space = SPACES["rnn"]
        makers = {f"lstm_{size}": lambda config, size=size: LSTMBaseline(size) for size in (3, 5)}
        problem = replace(space.problem(), baselines=makers)
        SPACES["rnn"] = replace(space, problem=lambda: problem)
        found = enas.train(Config(**tiny.settings(tmp_path, max_epoch=1)), LSTMBaseline(5))
    assert found.score([LSTMBaseline(5)]) == [pytest.approx(found["validation_perplexity"])]
    with tiny.refused("is not an LSTM, which is needed here"):
        found.score([RNNCell(("tanh",), ())])
    with tiny.refused("(LSTMBaseline) is not a macro network, which is needed here"):
        enas.train(Config(network_type="cnn"), LSTMBaseline(5))


def test_a_refused_search_leaves_no_dataset(tmp_path, monkeypatch):
    """The advice is to give more text, or a smaller batch size: both can be given under the same name."""
    monkeypatch.chdir(tmp_path)
    small = {"dataset": "sums", "num_gpu": 0, "batch_size": 100}
    with tiny.refused("tokens are too few for batch size 100"):
        enas.search([f"{a} plus {b}" for a in range(5) for b in range(8)], **small)
    assert not any((tmp_path / "data").iterdir())


@pytest.mark.parametrize("name", ["pydoc", "shapes", "ptb", "cifar"])
def test_own_data_take_no_name_of_other_data(tmp_path, name):
    with tiny.refused(f"dataset {name} is one that this package makes or downloads; give another name"):
        enas.search(["one two three"] * 40, dataset=name, data_dir=str(tmp_path))
    assert not any(tmp_path.iterdir())


def test_a_controller_is_registered_before_anything_else_is_used():
    code = """
import enas
from enas.search.registry import register_controller
register_controller("rnn", "one", len)
register_controller(None, "other", len)
enas.Config(train_type="one"), enas.Config(train_type="other", network_type="cnn")
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(tiny.ROOT)})

"""From settings to a run folder and back: which run is taken, and what derive does."""

import errno
import json
import math
import multiprocessing
import os
import re
import shutil
import stat
from contextlib import ExitStack

import pytest
import tiny
from tiny import main

from enas.config import Config
from enas.data import builtin
from enas.data.identity import Identity
from enas.errors import UserError
from enas.report.page import report
from enas.rnn.cell import RNNCell
from enas.runs import folder as run_folder
from enas.runs import opening, run
from enas.runs.commands import execute
from examples.markov import make_markov

STAMP = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"


def _made(log_dir, name: str, **params):
    """A folder that looks like a run, begun at the time in its name, if there is one."""
    day, _, time = name.partition("_20")[2].partition("_")
    machine = json.dumps({f"20{day}T{time.replace('-', ':')}": {}} if day else {})
    params = dict(zip(("dataset", "train_type"), name.split("_"), strict=False)) | params
    (log_dir / name).mkdir(parents=True)
    (log_dir / name / "params.json").write_text(json.dumps(params))
    (log_dir / name / "machine.json").write_text(machine)
    (log_dir / name / "checkpoints").mkdir()
    (log_dir / name / "checkpoints" / "00000-00000000.pt").touch()
    return log_dir / name


def test_a_run_folder_holds_these_files(trained):
    assert re.fullmatch(f"tiny_orig_{STAMP}", trained.name)
    names = {path.name for path in trained.iterdir() if "tfevents" not in path.name}
    files = (
        ".lock data.json machine.json params.json results.json train.log policy.png networks architectures checkpoints"
    )
    assert names == set(files.split())
    assert tiny.params(trained) == Config(**tiny.settings(trained.parent.parent)).to_dict()
    log = (trained / "train.log").read_text()
    assert "orig search of a recurrent cell on tiny, 2 epochs, on cpu" in log
    assert re.search(r"epoch 2/2, .*train .*validation .*policy .*uniform", log)
    assert f"python -m enas scratch --load_path {trained}\n" in log
    assert f"policy:       {trained}/policy.png" in log and f"picture:      {trained}/networks/" in log


def test_a_finished_run_whose_score_is_not_finite_goes_on(folder, capsys):
    results = tiny.results(folder)
    (folder / "results.json").write_text(json.dumps({**results, "validation_perplexity": None}))
    run.resume(folder)
    assert "validation perplexity not finite" in capsys.readouterr().out


def test_two_runs_in_one_second_have_folders_of_their_own(tmp_path):
    config = Config(log_dir=str(tmp_path))
    with ExitStack() as held:
        folders = [run_folder.make_run_folder(config, Identity("names", (), {}), held) for _ in range(2)]
    assert folders[0] != folders[1] and all(folder.is_dir() for folder in folders)


def test_a_built_in_language_is_made_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setitem(builtin.MAKERS, "markov", lambda folder: make_markov(folder, num_tokens=1000, num_words=8))
    results = execute(**tiny.settings(tmp_path, dataset="markov", max_epoch=1))
    assert results["dataset"] == "markov"
    written = tiny.results(tiny.only_run(tmp_path / "logs"))
    assert written == json.loads(json.dumps(results))
    assert (tmp_path / "data" / "markov" / "train.txt").is_file()


def test_derive_writes_its_architecture_down_and_leaves_the_training_alone(folder, trained, capsys):
    checkpoints, curve = tiny.tree(folder / "checkpoints"), tiny.curve(folder, "eval/validation_perplexity")
    assert [step for step, _ in curve] == [10, 20]
    assert main(["--mode", "derive", "--load_path", str(folder), "--derive_num_sample", "20"]) == 0
    results = tiny.results(folder)
    before = tiny.results(trained)
    assert (results["mode"], results["epoch"], results["history"]) == ("derive", 2, before["history"])
    cell = RNNCell.from_dict(results["architecture"])
    assert cell.num_blocks == tiny.SETTINGS["num_blocks"]
    name = f"2-20-{results['validation_perplexity']:.4f}-best"
    assert RNNCell.load(folder / "architectures" / f"{name}.json") == cell
    assert tiny.tree(folder / "checkpoints") == checkpoints
    assert tiny.curve(folder, "eval/validation_perplexity") == curve
    out = capsys.readouterr().out
    assert f"validation perplexity {results['validation_perplexity']:.2f}" in out
    assert json.dumps(results["architecture"]) in (folder / "train.log").read_text()
    again = execute(mode="derive", load_path=str(folder), derive_num_sample=20)
    assert again | {"wall_seconds": results["wall_seconds"]} == results


def test_a_run_goes_on_after_a_derivation(tmp_path, folder):
    """As if there had been none, and answers with its own next one."""
    execute(mode="derive", load_path=str(folder), derive_num_sample=60)
    results = execute(mode="train", load_path=str(folder), max_epoch=3)
    assert (results["mode"], results["epoch"]) == ("train", 3)
    assert results["measured_with"].startswith("shared weights, epoch 3, ")
    whole = execute(**tiny.settings(tmp_path, log_dir=str(tmp_path / "whole"), max_epoch=3))
    assert results["architecture"] == whole["architecture"]
    assert results["validation_perplexity"] == whole["validation_perplexity"]
    assert results["architecture"] == tiny.newest_state(folder)["progress"]["architecture"]


def test_the_newest_run_of_dataset_train_type_and_shape_is_taken(tmp_path, capsys):
    for name in ("a_orig_2026-01-02_00-00-00", "a_orig_2026-01-01_23-59-59", "a_orig_2025-12-31_00-00-00"):
        newest = _made(tmp_path, name)
        newest.touch()  # the last one touched is not the newest by name
    _made(tmp_path, "a_random_2026-05-01_00-00-00")
    _made(tmp_path, "b_orig_2026-05-02_00-00-00")
    _made(tmp_path, "a_orig_notes")
    (tmp_path / "a_orig_2026-06-01_00-00-00").mkdir()  # stopped before it had params.json
    assert run_folder.newest_run({"dataset": "a", "log_dir": str(tmp_path)}).name == "a_orig_2026-01-02_00-00-00"
    assert capsys.readouterr().out == f"taking the newest run, {tmp_path / 'a_orig_2026-01-02_00-00-00'}\n"
    assert run_folder.newest_run({"log_dir": str(tmp_path)}).name == "b_orig_2026-05-02_00-00-00"
    for shape, day in (("chain", "01"), ("tree", "02")):
        kind = {"dataset": "a", "train_type": "hardcoded", "architecture": shape}
        made = _made(tmp_path, f"a_hardcoded_2026-01-{day}_00-00-00", **kind)
        kind["log_dir"] = str(tmp_path)
        assert run_folder.newest_run(kind) == made
    assert run_folder.newest_run(kind | {"architecture": "chain"}).name == "a_hardcoded_2026-01-01_00-00-00"
    images = _made(tmp_path, "c_orig_2026-01-03_00-00-00", network_type="cnn")
    assert run_folder.newest_run({"network_type": "cnn", "log_dir": str(tmp_path)}) == images


def test_load_path_is_a_path_or_a_name(folder):
    for load_path in (str(folder), folder.name, f"{folder}/"):
        assert run_folder.find_run({"load_path": load_path, "log_dir": folder.parent}) == folder


def test_a_resumed_run_has_its_own_settings_and_the_new_ones(folder):
    config = run_folder.run_config(folder, {"load_path": str(folder), "max_epoch": 9, "save_epoch": 3})
    saved = Config(**tiny.params(folder))
    assert config == saved.replace(max_epoch=9, save_epoch=3, log_dir=str(folder.parent))
    settings = {"load_path": str(folder), "train_type": "enas", "num_blocks": tiny.SETTINGS["num_blocks"]}
    assert run_folder.run_config(folder, settings).train_type == "orig"


def test_two_processes_on_one_run_are_refused_in_a_line(folder, capsys):
    for words in (["--mode", "derive"], ["--mode", "test"], ["--max_epoch", "3"]):
        with run_folder.only_user(folder):
            line = tiny.refusal(["--load_path", str(folder), *words], folder, capsys)
        assert line == f"error: {folder}: another process is at work on it; wait for its end, or stop it\n"
    assert main(["--load_path", str(folder), "--mode", "derive"]) == 0


def test_a_new_run_is_locked_before_the_trials_of_its_machine(tmp_path, monkeypatch):
    """They take seconds, in which another command of the same --name would take its folder for a dead one."""
    tried = opening._tried

    def while_trying(config, *rest):
        with tiny.refused("another process is at work on it"):
            run_folder.make_run_folder(config, Identity("names", (), {}), ExitStack())
        return tried(config, *rest)

    monkeypatch.setattr(opening, "_tried", while_trying)
    assert run.train(Config(**tiny.settings(tmp_path, name="mine", max_epoch=1))).folder.name == "mine"


def test_of_several_processes_that_begin_one_name_at_once_one_begins_it(tmp_path):
    """The others neither take its folder for a dead one, nor make one of another name."""
    start = multiprocessing.get_context("fork").Barrier(4, timeout=30)
    config = Config(log_dir=str(tmp_path), name="mine")

    def begin(pipe):
        with ExitStack() as held:
            start.wait()
            try:
                pipe.send(run_folder.make_run_folder(config, Identity("names", (), {}), held).name)
            except UserError as error:
                pipe.send(str(error))
            start.wait()  # as long as the first one holds its folder

    for _ in range(10):
        pipes = [multiprocessing.Pipe(duplex=False) for _ in range(4)]
        each = [multiprocessing.get_context("fork").Process(target=begin, args=(end,)) for _, end in pipes]
        for process in each:
            process.start()
        said = sorted(end.recv() if end.poll(30) else "nothing" for end, _ in pipes)
        for process in each:
            process.join()
        assert said[-1] == "mine" and all("another process is at work on it" in line for line in said[:-1]), said
        assert [path.name for path in tmp_path.iterdir()] == ["mine"] and (tmp_path / "mine" / "data.json").is_file()


@pytest.mark.parametrize("refused", ["open", "flock"])
def test_two_runs_of_one_second_have_folders_of_their_own_where_a_folder_cannot_be_locked(
    tmp_path, monkeypatch, refused
):
    """Some network disks have no locks, and a folder may be one that its user writes to and cannot read."""
    owner, config = {"open": run_folder.os, "flock": run_folder.fcntl}[refused], Config(log_dir=str(tmp_path))
    action = getattr(owner, refused)

    def refuse(place, *rest):
        if not (place == tmp_path if refused == "open" else stat.S_ISDIR(os.fstat(place).st_mode)):
            return action(place, *rest)
        raise PermissionError(errno.EACCES, "Permission denied")

    class Blind(type(tmp_path)):
        """A path that another process makes only after this one has looked."""

        def exists(self, **options):
            return False

    monkeypatch.setattr(run_folder, "Path", Blind)
    with monkeypatch.context() as patch, ExitStack() as held:
        patch.setattr(owner, refused, refuse)
        made = [run_folder.make_run_folder(config, Identity("names", (), {}), held).name for _ in range(30)]
        named = config.replace(name="mine")
        assert run_folder.make_run_folder(named, Identity("names", (), {}), held).name == "mine"
    (tmp_path / "mine" / "results.json").write_text("{}")
    with tiny.refused("mine: exists already; give another --name"):
        run_folder.make_run_folder(named, Identity("names", (), {}), ExitStack())
    assert len({*made}) == 30 and any(name.endswith("-2") for name in made)


@pytest.mark.parametrize(
    ("function", "right", "wrong"),
    [
        (run.resume, "train", "derive"),
        (run.train_scratch, "train_scratch", "derive"),
        (run.train_scratch, "train_scratch", "train"),
        (run.derive, "derive", "test"),
        (run.test, "test", "derive"),
    ],
)
def test_a_function_of_a_run_takes_no_other_mode(folder, function, right, wrong):
    """Written down, the mode would be the run's: one of mode derive cannot be opened again."""
    before = tiny.tree(folder.parent)
    with tiny.refused(f"mode is '{wrong}', but it is {right} here; leave it out"):
        function(folder, mode=wrong)
    assert tiny.tree(folder.parent) == before
    function(folder, mode=right, max_epoch=3)


def test_a_run_without_results_is_a_run(folder, tmp_path):
    """An empty dict is false; the newest run would be taken for it."""
    shutil.copytree(folder, other := folder.with_name("tiny_orig_2000-01-01_00-00-00"))
    assert run_folder.find_run({"load_path": run.Run(other, {}), "log_dir": str(folder.parent)}) == other
    report(run.load(other), tmp_path / "one.html")
    assert other.name in (tmp_path / "one.html").read_text()


def test_methods_take_a_preset(folder):
    """As on the command line, where other flags override it."""
    (folder.parent / "more.py").write_text("max_epoch = 3\nbatch_size = 5\n")
    found = run.load(folder).train_scratch(config=str(folder.parent / "more.py"), max_epoch=1)
    assert (tiny.params(found.folder)["batch_size"], tiny.params(found.folder)["max_epoch"]) == (5, 1)
    assert Config(max_epoch=7).replace(config=str(folder.parent / "more.py")).max_epoch == 3


def test_a_rung_at_which_all_diverge_leaves_the_choice_of_the_rung_before(monkeypatch, tmp_path):
    cells = [
        RNNCell((name, other), (0,)) for name in ("tanh", "ReLU", "sigmoid") for other in ("tanh", "ReLU", "sigmoid")
    ]
    scores, said = {one: float(number) for number, one in enumerate(cells)}, []

    def trained(config, one):
        diverged = {"trouble": "training diverged"} if config.stop_epoch > last else {}
        return {"validation_perplexity": math.nan if diverged else -scores[one], **diverged}

    monkeypatch.setattr(run, "train_to", trained)
    config = Config(**tiny.settings(tmp_path, max_epoch=3))
    last = 1
    assert run.halved(config, cells, said.append) == cells[-1]
    assert len([line for line in said if line.endswith(": training diverged")]) == 3
    last = 0
    with tiny.refused("no finalist has a score; the last one: training diverged"):
        run.halved(config, cells)


def test_a_training_without_a_finite_validation_scores_nan(monkeypatch):
    monkeypatch.setattr(run, "train", lambda config, architecture: {"validation_perplexity": None})
    assert math.isnan(run.train_to(Config(), RNNCell(("tanh",), ()))["validation_perplexity"])


def test_a_named_run_that_is_stopped_before_its_first_checkpoint_begins_anew(tmp_path, monkeypatch):
    config = tiny.settings(tmp_path, name="mine", max_epoch=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("enas.runs.opening.note_machine", lambda *args: tiny.interrupt())
        run.train(Config(**config))
    assert run.train(Config(**config)).folder.name == "mine"

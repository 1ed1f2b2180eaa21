"""Every kind of search through every mode, by `execute`: what each reads and leaves; see test_printed_commands too."""

import errno
import itertools
import json
import math
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from test_image import write_cifar

from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroNetwork
from enas.cnn.task import VisionTask
from enas.config import Config
from enas.errors import Interrupted
from enas.rnn.cell import RNNCell, RNNSpace
from enas.rnn.problem import nearest_lstm
from enas.rnn.settings import SharedOptimConfig
from enas.rnn.task import LanguageTask
from enas.runs import commands, run
from enas.runs import folder as run_folder
from enas.runs.commands import execute
from enas.runs.folder import only_user
from enas.runs.opening import read_run
from enas.search.architecture import load_architecture
from enas.search.checkpoint import Checkpoints
from enas.search.derive import Shortlist
from enas.search.ranks import ALONE
from enas.search.scratch import ScratchTrainer
from enas.studies import ablations as analysis

KINDS = {
    "orig": {"network_type": "rnn", "train_type": "orig"},
    "flexible": {"network_type": "rnn", "train_type": "flexible"},
    "chain": {"network_type": "rnn", "train_type": "hardcoded", "architecture": "chain"},
    "tree": {"network_type": "rnn", "train_type": "hardcoded", "architecture": "tree"},
    "random": {"network_type": "rnn", "train_type": "random"},
    "macro": {"network_type": "cnn", "cnn_space": "macro", "train_type": "orig"},
    "random macro": {"network_type": "cnn", "cnn_space": "macro", "train_type": "random"},
    "micro": {"network_type": "cnn", "cnn_space": "micro", "train_type": "orig"},
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
EACH_SPACE = pytest.mark.parametrize("kind", ["orig", "macro", "micro"])
TYPES = {"macro": MacroNetwork, "random macro": MacroNetwork, "micro": MicroNetwork}
GIVEN = {**tiny.NETWORKS, "orig": RNNCell(("tanh", "ReLU", "identity"), (0, 0))}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder for each kind, with its data and a finished search."""
    folder = tmp_path_factory.mktemp("home")
    for kind in KINDS:
        execute(**settings(folder, kind))
    return folder


@pytest.fixture
def copy(home, tmp_path):
    """The same, to change."""
    return shutil.copytree(home, tmp_path / "copy")


@pytest.fixture
def watched() -> Iterator[list]:
    """The split of every evaluation, as they come."""
    splits = []

    def notice(task, architecture, split, *rest) -> None:
        splits.append(split)

    with tiny.in_call(LanguageTask, "evaluate", notice, int), tiny.in_call(VisionTask, "evaluate", notice, int):
        yield splits


def settings(home, kind: str, **changes) -> dict:
    """Settings of a tiny run of a kind."""
    return tiny.settings(home / kind, **{**KINDS[kind], **changes})


def where(home, kind: str, **changes) -> dict:
    """Settings that name the newest run of a kind, and where it lies."""
    places = {"data_dir": str(home / kind / "data"), "log_dir": str(home / kind / "logs")}
    return {"dataset": "tiny", "num_gpu": 0, **KINDS[kind], **places, **changes}


def run_of(home, kind: str, mode: str = "train"):
    """The one run of a kind."""
    (path,) = (path for path in (home / kind / "logs").iterdir() if tiny.params(path)["mode"] == mode)
    return path


def measure(kind: str, split: str = "validation") -> str:
    return f"{split}_{'accuracy' if kind in TYPES else 'perplexity'}"


def validated(kind: str, results: dict) -> list:
    return [entry[measure(kind)] for entry in results["history"]]


def best(kind: str, results: dict) -> float:
    return (max if kind in TYPES else min)(validated(kind, results))


# --- search -----------------------------------------------------------------------------------------------------------


@EACH_KIND
def test_a_search_leaves_architectures_of_its_space(home, kind):
    path = run_of(home, kind)
    found = [TYPES.get(kind, RNNCell).load(file) for file in (path / "architectures").iterdir()]
    assert len(found) == len(list((path / "networks").iterdir())) == 2
    for cell in found if kind not in TYPES else []:
        assert cell.num_blocks in ((3, 4) if kind == "flexible" else (4,))
        assert cell.previous == {"chain": (0, 1, 2), "tree": (0, 0, 1)}.get(kind, cell.previous)
    results = tiny.results(path)
    assert TYPES.get(kind, RNNCell).from_dict(results["architecture"]) in found
    assert results[measure(kind, "test")] is None
    if kind in TYPES:  # of 12 images
        assert all(12 * score == pytest.approx(round(12 * score)) for score in validated(kind, results))
    assert [entry["reward"] is None for entry in results["history"]] == [kind.startswith("random")] * 2


@EACH_KIND
def test_a_search_resumes_to_the_same_end_and_reads_no_test_split(home, tmp_path, watched, kind):
    made = shutil.copytree(run_of(home, kind), tmp_path / "run")
    Checkpoints(made / "checkpoints").paths()[-1].unlink()
    execute(load_path=str(made))
    assert tiny.difference(tiny.newest_state(made), tiny.newest_state(run_of(home, kind))) is None
    assert set(watched) == {"valid"}


def test_images_without_classes_are_searched_on_by_their_rotation(tmp_path, capsys):
    tiny.write_images(tmp_path / "macro" / "data" / "tiny", has_classes=False)
    results = execute(**settings(tmp_path, "macro", max_epoch=1))
    assert "has no class folders; the search trains on telling rotations by 0°, 90°, 180°" in capsys.readouterr().out
    assert 48 * results["validation_accuracy"] == pytest.approx(round(48 * results["validation_accuracy"]))
    assert 0 <= execute(**where(tmp_path, "macro", mode="test"))["test_accuracy"] <= 1
    scratch = execute(**where(tmp_path, "macro", mode="train_scratch"))
    assert MacroNetwork.from_dict(scratch["architecture"]) and 0 <= scratch["test_accuracy"] <= 1


# --- derive and test --------------------------------------------------------------------------------------------------


@EACH_SPACE
def test_test_alone_reads_the_test_split_with_shared_weights(copy, watched, capsys, kind):
    derived = execute(**where(copy, kind, mode="derive"))
    assert derived[measure(kind, "test")] is None and "test" not in watched
    results, again = (execute(**where(copy, kind, mode="test")) for _ in range(2))
    assert watched.count("test") == 2 and again[measure(kind, "test")] == results[measure(kind, "test")]
    assert tiny.results(run_of(copy, kind)) == again
    assert results["mode"] == "test" and results["architecture"] == derived["architecture"]
    assert results[measure(kind)] == derived[measure(kind)]
    trainer = read_run(Config(**settings(copy, kind)), run_of(copy, kind))
    architecture = type(GIVEN[kind]).from_dict(derived["architecture"])
    for split, name in {"valid": "validation", "test": "test"}.items():
        assert trainer.task.evaluate(architecture, split) == results[measure(kind, name)]
    if kind in TYPES:
        said = "validation accuracy {validation_accuracy:.4f}, test accuracy {test_accuracy:.4f}"
        assert f"tested, {said.format(**results)}" in capsys.readouterr().out


# --- finalists --------------------------------------------------------------------------------------------------------


def test_finalists_are_trained_from_scratch_and_the_best_is_derived(copy, watched, capsys):
    """Each rung trains on from its checkpoints, as mode single does at once; no step is trained twice, no test read."""
    finalists = {"derive_shortlist": 3, "derive_finalists": 3, "derive_rung_epoch": 4, "derive_num_sample": 20}
    trainer = read_run(Config(**settings(copy, "orig", **finalists)), run_of(copy, "orig"))
    incumbent = RNNCell.from_dict(tiny.results(run_of(copy, "orig"))["architecture"])
    cells = trainer.deriver.shortlist(incumbent).best(3)
    assert 3 <= len(cells) == len({cell.canonical() for cell in cells}) <= 4
    watched.clear()
    with tiny.in_call(LanguageTask, "shared_loss", lambda *args: False, lambda: None) as steps:
        derived = execute(**where(copy, "orig", mode="derive", **finalists))
    assert set(watched) == {"valid"} and len(steps) == 10 * len(cells)
    scores = {}
    for number, cell in enumerate(cells):
        (copy / "cell.json").write_text(cell.to_json())
        single = settings(copy, "orig", max_epoch=4, log_dir=str(copy / f"single {number}"), mode="single")
        scores[cell] = execute(**single, dag_path=str(copy / "cell.json"))["history"][0]["validation_perplexity"]
    best = min(scores, key=scores.get)
    assert RNNCell.from_dict(derived["architecture"]) == best
    line = f"rung to epoch 1 from scratch: {len(cells)} finalists, best validation perplexity {scores[best]:.2f}\n"
    assert line in capsys.readouterr().out
    trained = execute(**where(copy, "orig", mode="train_scratch", max_epoch=1, **finalists))
    assert trained["architecture"] == derived["architecture"]


def test_finalists_go_from_rung_to_rung(copy, capsys, monkeypatch):
    """Of nine finalists three reach the second rung; the one that diverges there comes after the others."""
    space = RNNSpace(4)
    cells = list({cell.canonical(): cell for cell in map(space.decode, itertools.product(*map(range, space.sizes)))})
    monkeypatch.setattr(Shortlist, "best", lambda found, num: cells[:9])
    made, train_to = [], run.train_to

    def noticed(config, cell):
        results = train_to(config, cell)
        made.append((cell, config.stop_epoch, results["validation_perplexity"], config[SharedOptimConfig]))
        return results | ({"validation_perplexity": math.nan} if len(made) == 10 else {})

    monkeypatch.setattr(run, "train_to", noticed)
    finalists = {"derive_shortlist": 9, "derive_finalists": 9, "derive_rung_epoch": 3}
    with tiny.in_call(LanguageTask, "shared_loss", lambda *args: False, lambda: None) as steps:
        derived = execute(**where(copy, "orig", mode="derive", **finalists))
    assert len(steps) == 10 * (9 * 1 + 3 * 2)
    first, second = made[:9], made[9:]
    assert [(cell, epoch) for cell, epoch, *_ in first] == [(cell, 1) for cell in cells[:9]]
    kept = [cell for cell, *_ in sorted(first, key=itemgetter(2))[:3]]
    assert [(cell, epoch) for cell, epoch, *_ in second] == [(cell, 3) for cell in kept]
    assert RNNCell.from_dict(derived["architecture"]) == min(second[1:], key=itemgetter(2))[0]
    assert {config.max_epoch for *_, config in made} == {3}
    lines = [line.split(", best")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("rung")]
    assert lines == [f"rung to epoch {epochs} from scratch: {num} finalists" for num, epochs in ((9, 1), (3, 3))]


def test_interrupted_finalists_go_on_where_they_were(copy):
    """The same command trains no step twice, and leaves no file of theirs; with other settings they begin anew."""
    folder = run_of(copy, "orig")
    clean = shutil.copytree(folder, copy / "clean" / folder.name)
    wanted = {"derive_shortlist": 3, "derive_finalists": 3, "derive_num_sample": 20, "derive_rung_epoch": 2}
    stop = partial(signal.raise_signal, signal.SIGINT)
    with tiny.in_call(LanguageTask, "shared_loss", lambda *args: False, stop) as all_steps:
        expected = run.derive(clean, data_dir=str(copy / "orig" / "data"), **wanted)
    for epochs, num in ((1, 25), (2, 35)):
        stopped = pytest.raises(Interrupted, match="the same command goes on")
        with stopped, tiny.in_call(LanguageTask, "shared_loss", num, stop) as steps:
            execute(**where(copy, "orig", mode="derive", **wanted | {"derive_rung_epoch": epochs}))
        assert (folder / "finalists").exists() and len(steps) == num
    with tiny.in_call(LanguageTask, "shared_loss", lambda *args: False, stop) as left:
        derived = execute(**where(copy, "orig", mode="derive", **wanted))
    assert 35 + len(left) == len(all_steps) and not (folder / "finalists").exists()
    assert derived["architecture"] == expected["architecture"]


def test_a_search_that_wants_finalists_trains_them_before_a_run_from_scratch_and_once(copy, capsys):
    path = run_of(copy, "orig") / "params.json"
    finalists = {"derive_shortlist": 3, "derive_finalists": 3, "derive_rung_epoch": 2, "derive_num_sample": 20}
    path.write_text(json.dumps({**tiny.params(path.parent), **finalists}))
    for number, (mode, changes, is_trained) in enumerate(
        [
            ("train_scratch", finalists, True),
            ("train_scratch", {}, False),
            ("test", {}, False),
            ("train_scratch", finalists, False),
            ("train_scratch", {"derive_rung_epoch": 1}, True),
            ("train_scratch", {}, True),  # with the search's own epochs again
        ]
    ):
        length = {"max_epoch": 1, "log_dir": str(copy / str(number))} if mode == "train_scratch" else {}
        execute(**{**where(copy, "orig", mode=mode, **changes), **length, "load_path": str(path.parent)})
        assert ("rung to epoch" in capsys.readouterr().out) == is_trained, number
    assert tiny.results(path.parent)["finalists"] == [3, 2]


@pytest.mark.parametrize("trouble", tiny.TROUBLES)
def test_the_trouble_of_one_finalist_is_said_and_the_others_go_on(copy, capsys, trouble):
    finalists = {"derive_shortlist": 3, "derive_finalists": 3, "derive_num_sample": 20, "derive_rung_epoch": 1}
    with tiny.in_call(run, "train_or_resume", 2, tiny.TROUBLES[trouble]) as calls:
        execute(**where(copy, "orig", mode="derive", **finalists))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if trouble in line]
    assert line.startswith(json.dumps(calls[1][1].to_dict())) and len(calls) > 2


def test_a_full_disk_is_not_the_trouble_of_one_finalist(copy):
    full = OSError(errno.ENOSPC, "No space left on device")
    finalists = {"derive_shortlist": 3, "derive_finalists": 3, "derive_num_sample": 20, "derive_rung_epoch": 1}
    with tiny.in_call(run, "train_or_resume", 2, partial(_raise, full)), pytest.raises(OSError, match="No space"):
        execute(**where(copy, "orig", mode="derive", **finalists))


def _raise(error):
    raise error


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_training_of_a_finalist_ends_its_cosine(copy, monkeypatch, epochs):
    """A finalist judged near the highest learning rate would be judged by noise."""
    shown, train_to = [], run.train_to
    monkeypatch.setattr(run, "train_to", lambda config, one: shown.append(config) or train_to(config, one))
    finalists = {"derive_shortlist": 2, "derive_finalists": 2, "derive_rung_epoch": epochs}
    execute(**where(copy, "macro", mode="derive", **finalists))
    config = shown[0]
    rates = [config[config.space.optim].rate(1 + step // 5, step, 5) for step in range(5 * epochs)]
    assert rates[0] == config.cnn_lr_max and rates == sorted(rates, reverse=True)
    assert rates[-1] < config.cnn_lr_min + 0.1 * config.cnn_lr_max


# --- one architecture from scratch ------------------------------------------------------------------------------------


def given(folder, kind: str) -> str:
    """The path of a file of one architecture."""
    (folder / "given.json").write_text(GIVEN[kind].to_json())
    return str(folder / "given.json")


@pytest.mark.parametrize("kind", ["orig", "lstm", "macro", "micro"])
def test_single_trains_a_given_architecture_and_reads_no_test_split(home, tmp_path, watched, kind):
    is_lstm, kind = kind == "lstm", "orig" if kind == "lstm" else kind
    changes = {} if kind in TYPES else {"shared_activation_reg": 0.1, "shared_norm_stabilizer": 0.1}
    changes |= {"mode": "single", "dag_path": "lstm" if is_lstm else given(tmp_path, kind)}
    results = execute(**settings(home, kind, **changes, log_dir=str(tmp_path / "logs")))
    path = tiny.only_run(tmp_path / "logs")
    architecture = nearest_lstm(Config(**settings(home, kind))) if is_lstm else GIVEN[kind]
    assert load_architecture(path / "architecture.json") == architecture
    assert results["architecture"] == architecture.to_dict()
    assert results[measure(kind, "test")] is None and tiny.results(path) == results and "test" not in watched
    tested = execute(mode="test", load_path=str(path))
    assert tested[measure(kind)] == results[measure(kind)] == best(kind, results)
    assert tested[measure(kind, "test")] >= 0
    assert tiny.results(path) == tested and tested["mode"] == "test"


@pytest.mark.parametrize(("kind", "mode"), [("orig", "single"), *((kind, "train_scratch") for kind in GIVEN)])
def test_a_run_of_one_architecture_resumes_to_the_same_end(copy, tmp_path, kind, mode):
    changes = {"dag_path": given(tmp_path, kind)} if mode == "single" else {"load_path": str(run_of(copy, kind))}
    # The average goes on too; drop path grows until max_epoch, which is another one for the first part.
    own = {"orig": {"shared_lr": 30.0, "scratch_asgd_patience": 1}, "micro": {"scratch_cnn_drop_path": 0.0}}
    changes |= own.get(kind, {})
    ends = {}
    for name, first in {"whole": 5, "parts": 3}.items():
        execute(**settings(copy, kind, log_dir=str(tmp_path / name), mode=mode, max_epoch=first, **changes))
        made = tiny.only_run(tmp_path / name)
        if first < 5:
            execute(mode=mode, load_path=str(made), max_epoch=5)
        kept = (measure(kind), measure(kind, "test"), "best_epoch", "architecture")
        ends[name] = (tiny.newest_state(made), {key: tiny.results(made)[key] for key in kept})
        # Where the architecture came from is not forgotten.
        assert tiny.params(made)["load_path"] == changes.get("load_path", "")
    assert tiny.difference(ends["whole"], ends["parts"]) is None
    assert mode != "single" or ends["whole"][0]["average"] is not None


@EACH_SPACE
def test_train_scratch_tests_the_best_epoch_of_the_derived_architecture_once(copy, watched, kind):
    search = run_of(copy, kind)
    before = tiny.tree(search)
    rate = {"cnn_lr_max": 0.2} if kind in TYPES else {}
    results = execute(**where(copy, kind, mode="train_scratch", max_epoch=4, **rate))
    assert tiny.tree(search) == before
    assert results["architecture"] == tiny.results(search)["architecture"]
    assert watched == ["valid"] * 4 + ["test"]
    assert results[measure(kind)] == best(kind, results)
    assert results["best_epoch"] == 1 + validated(kind, results).index(best(kind, results))
    path = run_of(copy, kind, "train_scratch")
    trainer = read_run(Config(**tiny.params(path)), path)
    trainer.task.load_state_dict(Checkpoints(path / "checkpoints").best()[1]["task"])
    assert trainer.task.evaluate(trainer.architecture, "test") == results[measure(kind, "test")]


def test_train_scratch_takes_the_newest_search_and_new_settings(copy, capsys):
    """It forgets the shared weights: at a learning rate of 0 it is worse than they are."""
    search = run_of(copy, "orig")
    changes = {"shared_optim": "adam", "shared_lr": 0.0, "batch_size": 5, "shared_dropout": 0.0, "max_epoch": 1}
    for _ in range(2):  # the second time, the newest run of all is one from scratch
        results = execute(**where(copy, "orig", mode="train_scratch", **changes))
        assert capsys.readouterr().out.startswith(f"taking the newest run, {search}\n")
        assert results["history"][0]["validation_perplexity"] > tiny.results(search)["validation_perplexity"]
    made = [path for path in search.parent.iterdir() if tiny.results(path)["mode"] == "train_scratch"]
    assert len(made) == 2
    expected = {**changes, "load_path": str(search), "shared_hid": tiny.SETTINGS["shared_hid"]}
    assert all(expected.items() <= tiny.params(path).items() for path in made)


def test_a_preset_given_to_train_scratch_counts_as_on_the_command_line(tmp_path):
    """The saved settings of the search took precedence over the preset, and nothing was derived."""
    path = tmp_path / "own.py"
    path.write_text("shared_num_sample = 2\nprecision = 'bfloat16'\nderive_num_sample = 7\n")
    search = tiny.run_in(tmp_path, max_epoch=1)
    params = tiny.params(run.train_scratch(search, config=str(path), max_epoch=1).folder)
    assert (params["shared_num_sample"], params["precision"], params["derive_num_sample"]) == (2, "bfloat16", 7)
    assert tiny.results(search)["mode"] == "derive"


@pytest.mark.parametrize(("kind", "names"), [("orig", ["random", "lstm"]), ("macro", ["random"])])
def test_train_scratch_trains_baselines_with_the_same_budget_and_compares(copy, capsys, kind, names):
    search = run_of(copy, kind)
    found = execute(**where(copy, kind, mode="train_scratch", max_epoch=2, compare_with=names))
    made = [path for path in sorted(search.parent.iterdir()) if tiny.results(path)["mode"] == "train_scratch"]
    results = [tiny.results(path) for path in made]
    assert results[-1] == found  # the newest run is the found architecture's
    assert [one["epoch"] for one in results] == [2] * (1 + len(names))
    assert [one["architecture"]["type"] for one in results].count("lstm") == ("lstm" in names)
    last = capsys.readouterr().out.splitlines()[-1]
    scores = re.findall(r"(\w+) ([\d.]+)", last.split(": ")[1])
    assert [name for name, _ in scores] == ["found", *sorted(names)]
    assert float(scores[0][1]) == pytest.approx(found[measure(kind, "test")], rel=1e-3)
    assert run_of(copy, kind) == search


def test_a_baseline_named_twice_is_trained_with_two_seeds_and_its_mean_is_compared(copy, capsys):
    search = run_of(copy, "macro")
    execute(**where(copy, "macro", mode="train_scratch", max_epoch=1, random_seed=7, compare_with=["random", "random"]))
    last = capsys.readouterr().out.splitlines()[-1]
    made = [path for path in search.parent.iterdir() if tiny.results(path)["mode"] == "train_scratch"]
    made.sort(key=lambda path: (path.name.startswith("tiny"), tiny.params(path)["random_seed"]))
    assert [tiny.params(path)["random_seed"] for path in made] == [7, 8, 7]
    *random, found = [tiny.results(path)[measure("macro", "test")] for path in made]
    assert tiny.results(made[0])["architecture"] != tiny.results(made[1])["architecture"]
    mean, best = sum(random) / 2, max(random)
    assert last.endswith(f"from scratch: found {found:.4f}, random {mean:.4f} (mean of 2, best {best:.4f})")


def test_an_interrupted_comparison_takes_its_baselines_over(copy):
    given = where(copy, "orig", mode="train_scratch", max_epoch=2, compare_with=["random", "lstm"])
    with tiny.in_call(ScratchTrainer, "evaluate", 3, tiny.interrupt), pytest.raises(KeyboardInterrupt):
        execute(**given)
    with tiny.in_call(ScratchTrainer, "evaluate", 0, tiny.interrupt) as calls:
        execute(**given)
    assert len(calls) == 4  # the second baseline from its first epoch on, and the run itself


def test_a_paused_comparison_goes_on_by_the_printed_command(copy, capsys):
    given = where(copy, "orig", mode="train_scratch", max_epoch=2, compare_with=["random"])
    execute(**given, stop_epoch=1, name="paused")
    said = capsys.readouterr().out
    command = said.splitlines()[-1].split("goes on with: ")[1]
    assert command.endswith("paused") and "from scratch: found" not in said
    with tiny.in_call(ScratchTrainer, "evaluate", 0, tiny.interrupt) as calls:
        assert tiny.command_line([*shlex.split(command)[3:], "--log_step", "7"]) == 0
    assert len(calls) == 1  # the second epoch of the found one
    found = tiny.results(run_of(copy, "orig").parent / "paused")
    assert f"test perplexity from scratch: found {found['test_perplexity']:.2f}, random" in capsys.readouterr().out


def test_a_search_keeps_the_baselines_for_its_runs_from_scratch(tmp_path):
    folder = tiny.run_in(tmp_path, compare_with=("random",), max_epoch=2, stop_epoch=1)
    assert execute(load_path=str(folder))["epoch"] == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_restarted_launch_goes_on_with_its_run_and_not_with_a_baseline(copy, monkeypatch):
    """torchrun sets OMP_NUM_THREADS, and begins all processes once more."""
    given = where(copy, "orig", mode="train_scratch", max_epoch=2, compare_with=["random"])
    execute(**given, name="found", stop_epoch=1, num_threads=2)
    (baseline,) = run_of(copy, "orig").parent.glob("random_*")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(commands, "launched", lambda: SimpleNamespace(size=2, is_first=True))
    monkeypatch.setattr(commands, "join", lambda *_: ALONE)
    resumed = []
    monkeypatch.setattr(run, "resume", lambda folder, **changes: resumed.append((Path(folder).name, changes)))
    monkeypatch.setattr(run, "train_scratch", lambda folder, **changes: resumed.append("anew"))
    for begun in (baseline.parent / "found", baseline):
        monkeypatch.setattr(commands, "run_of_launch", lambda _, begun=begun: begun)
        execute(**given, name="found", num_threads=2)
    assert resumed == [("found", {"stop_epoch": 1, "num_threads": 2}), "anew"]


def test_a_restarted_launch_finds_a_run_from_scratch_beside_its_search(copy, monkeypatch):
    """It was looked for in logs/ alone, and begun anew."""
    monkeypatch.setattr(commands, "launched", lambda: SimpleNamespace(size=2, is_first=True))
    monkeypatch.setattr(commands, "join", lambda *_: ALONE)
    looked = []
    monkeypatch.setattr(commands, "run_of_launch", looked.append)
    monkeypatch.setattr(run, "train_scratch", lambda *_, **changes: changes)
    search, elsewhere = run_of(copy, "orig"), copy / "elsewhere"
    for restarts in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
        for place in ({}, {"log_dir": str(elsewhere)}):
            execute(load_path=str(search), mode="train_scratch", **place)
    assert looked == [search.parent, elsewhere]


def test_a_name_that_is_taken_is_refused_before_baselines_are_trained(copy):
    search = run_of(copy, "orig")
    given = {"name": search.name, "compare_with": ["random"], "max_epoch": 1}
    before = tiny.tree(copy / "logs")
    config = Config(**{**tiny.params(search), "mode": "train_scratch", **given})
    for begin in (lambda: run.train_scratch(search, **given), lambda: run.train(config, GIVEN["orig"])):
        with tiny.refused(f"{search.name}: exists already; give another --name"):
            begin()
    assert tiny.tree(copy / "logs") == before


def test_a_new_run_from_scratch_has_its_baselines_too(tmp_path, capsys):
    """They were left out without a word."""
    config = Config(**tiny.settings(tmp_path, mode="train_scratch", max_epoch=1, compare_with=["random", "gru"]))
    cell = RNNCell(("tanh", "ReLU"), (0,))
    with tiny.refused("compare_with: gru is no baseline; there are lstm, random"):
        run.train(config, cell)
    assert not (tmp_path / "logs").exists()
    found = run.train(config.replace(compare_with=["random"]), cell)
    assert f"test perplexity from scratch: found {found['test_perplexity']:.2f}, random" in capsys.readouterr().out
    before = {*(tmp_path / "logs").iterdir()}
    run.train_to(config.replace(compare_with=["random"], random_seed=9, name="alone"), cell)  # as an ablation does
    assert {*(tmp_path / "logs").iterdir()} - before == {tmp_path / "logs" / "alone"}


def test_a_restarted_command_takes_no_run_of_another_command_of_its_launch(tmp_path, monkeypatch):
    """As in one job of SLURM, whose number names the launch."""
    monkeypatch.setattr(run_folder, "launched", lambda: SimpleNamespace(size=2))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job7")
    monkeypatch.setattr(sys, "argv", ["main.py", "--random_seed", "1"])
    first = tiny.run_in(tmp_path)
    assert run_folder.run_of_launch(first.parent) == first
    monkeypatch.setattr(sys, "argv", ["main.py", "--random_seed", "2"])
    assert run_folder.run_of_launch(first.parent) is None


def test_a_baseline_that_another_process_trains_is_not_left_out(copy):
    given = where(copy, "orig", mode="train_scratch", max_epoch=1, compare_with=["random"])
    execute(**given)
    (baseline,) = run_of(copy, "orig").parent.glob("random_*")
    with only_user(baseline), tiny.refused("another process is at work on it"):
        execute(**given)


def test_an_unknown_baseline_is_refused_before_anything_is_trained(copy):
    before = tiny.tree(copy / "logs")
    finalists = {"derive_finalists": 2, "derive_shortlist": 2, "derive_rung_epoch": 1}
    with pytest.raises(ValueError, match="compare_with: gru is no baseline; there are lstm, random"):
        execute(**where(copy, "orig", mode="train_scratch", compare_with=["lstm", "gru"], **finalists))
    assert tiny.tree(copy / "logs") == before


def test_a_run_from_scratch_lies_beside_the_search_in_which_the_command_was_given(copy, monkeypatch):
    search = run_of(copy, "orig")
    monkeypatch.chdir(search)
    made = execute(load_path=".", mode="train_scratch", max_epoch=1, name="beside")
    assert tiny.results(search.parent / "beside") == made and not (search / "beside").exists()


# --- no validation images ---------------------------------------------------------------------------------------------


@pytest.fixture
def without_validation(tmp_path):
    """Settings of a network trained on all of a tiny CIFAR-10."""
    write_cifar(tmp_path / "data" / "cifar10" / "cifar-10-batches-py")
    kind = {**KINDS["macro"], "mode": "single", "dag_path": given(tmp_path, "macro")}
    return tiny.settings(tmp_path, **kind, dataset="cifar10", valid_size=0, max_epoch=3)


def test_a_network_trained_on_all_images_is_tested_once_after_the_last_epoch(without_validation, tmp_path, watched):
    results = execute(**without_validation)
    assert watched == ["test"]
    assert results["best_epoch"] == results["epoch"] == 3
    assert results["validation_accuracy"] is None and 0 <= results["test_accuracy"] <= 1
    assert validated("macro", results) == [None] * 3
    folder = tiny.only_run(tmp_path / "logs")
    assert Checkpoints(folder / "checkpoints").best()[1]["progress"]["epoch"] == 3
    again = execute(mode="test", load_path=str(folder), data_dir=without_validation["data_dir"])
    assert again["test_accuracy"] == results["test_accuracy"]
    with tiny.refused("valid has no images; valid_size holds some out"):
        run.load(folder, data_dir=without_validation["data_dir"]).score(
            [load_architecture(folder / "architecture.json")]
        )


def test_a_search_and_an_ablation_need_validation_images(without_validation, tmp_path):
    with pytest.raises(ValueError, match="valid_size is 0; a search is rewarded on held-out images"):
        execute(**{**without_validation, "mode": "train", "dag_path": ""})
    with pytest.raises(ValueError, match=r"an ablation compares validation scores, and .* valid_size is 0"):
        analysis.node_removal(**{**without_validation, "mode": "train_scratch"})
    assert not (tmp_path / "logs").exists()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_train_scratch_without_a_search_says_how_to_make_one(tmp_path, capsys):
    argv = tiny.flags(where(tmp_path, "micro", mode="train_scratch", dataset="shapes"))
    line = tiny.refusal(argv, tmp_path, capsys)
    assert "python main.py --dataset shapes --train_type orig --network_type cnn --cnn_space micro --mode train" in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mode": "single", "dag_path": "lstm"}, "lstm: cannot be read (No such file or directory)"),
        ({"mode": "single", "dag_path": "micro.json"}, "micro.json"),
        ({"mode": "derive", "cnn_hid": 6}, "cnn_hid is 6, but the run"),
        ({"mode": "train_scratch", "cnn_num_layers": 6}, "cnn_num_layers is 6, but the run"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_cannot_be_met(home, tmp_path, capsys, monkeypatch, changes, says):
    (tmp_path / "micro.json").write_text(tiny.NETWORKS["micro"].to_json())
    monkeypatch.chdir(tmp_path)
    base = settings(home, "macro") if "dag_path" in changes else where(home, "macro", load_path=run_of(home, "macro"))
    assert says in tiny.refusal(tiny.flags({**base, **changes}), home, capsys)


def test_a_search_needs_images_whose_maps_have_more_than_one_value(tmp_path):
    """One validation image may be a minibatch of its own, and is normalised by its own statistics."""
    with tiny.refused("tiny: images have 4 pixels a side; a search needs 5"):
        execute(**tiny.settings(tmp_path, network_type="cnn", image_size=4))

"""Every train type and every mode through `run.execute`: what each reads and leaves; see test_printed_commands too."""

import json
import shutil

import pytest
import tiny

from enas.config import Config
from enas.rnn.cell import RNNCell
from enas.rnn.problem import nearest_lstm
from enas.rnn.task import LanguageTask
from enas.runs.commands import execute
from enas.runs.opening import read_run
from enas.search.architecture import load_architecture

CELL = RNNCell(("tanh", "ReLU", "identity"), (0, 0))
TYPES = {
    "orig": {"train_type": "orig"},
    "flexible": {"train_type": "flexible"},
    "chain": {"train_type": "hardcoded", "architecture": "chain"},
    "tree": {"train_type": "hardcoded", "architecture": "tree"},
    "random": {"train_type": "random"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with one finished run of each train type."""
    folder = tmp_path_factory.mktemp("home")
    for changes in TYPES.values():
        execute(**tiny.settings(folder, **changes))
    return folder


@pytest.fixture
def copy(home, tmp_path):
    """The same, to change."""
    return shutil.copytree(home, tmp_path / "copy")


def where(folder, **settings) -> dict:
    return {
        "dataset": "tiny", "num_gpu": 0, "data_dir": str(folder / "data"), "log_dir": str(folder / "logs"), **settings
    }  # fmt: skip


def run_of(folder, mode: str, **changes):
    """The one run of a mode whose settings are these."""
    found = []
    for path in (folder / "logs").iterdir():
        params = json.loads((path / "params.json").read_text())
        if params["mode"] == mode and all(params[name] == value for name, value in changes.items()):
            found.append(path)
    (path,) = found
    return path


# --- train types ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_a_train_type_leaves_cells_of_its_space(home, name):
    path = run_of(home, "train", **TYPES[name])
    for file in (path / "architectures").iterdir():
        cell = RNNCell.load(file)
        if name == "flexible":
            assert 3 <= cell.num_blocks <= 4
        else:
            assert cell.num_blocks == 4
        if name in ("chain", "tree"):
            assert cell.previous == {"chain": (0, 1, 2), "tree": (0, 0, 1)}[name]
    assert list((path / "networks").iterdir())
    assert [entry["reward"] is None for entry in tiny.results(path)["history"]] == [name == "random"] * 2


@pytest.mark.parametrize("name", TYPES)
def test_a_train_type_resumes_to_the_same_end(home, tmp_path, name):
    settings = tiny.settings(home, **TYPES[name], log_dir=str(tmp_path / "logs"), max_epoch=1)
    execute(**settings)
    made = tiny.only_run(tmp_path / "logs")
    execute(load_path=str(made), max_epoch=2)
    whole = tiny.newest_state(run_of(home, "train", **TYPES[name]))
    assert tiny.difference(tiny.newest_state(made), whole) is None


def test_the_newest_of_two_shapes_is_the_one_asked_for(copy, capsys):
    for shape in ("chain", "tree"):
        execute(**where(copy, **TYPES[shape], mode="derive"))
        assert capsys.readouterr().out.startswith(f"taking the newest run, {run_of(copy, 'train', **TYPES[shape])}\n")


def test_a_cell_of_each_size_is_scored_as_if_alone(home):
    trainer = tiny.trainer(home, train_type="flexible", num_blocks=6)
    cells = trainer.controller.sample(12).architectures
    assert len({cell.num_blocks for cell in cells}) > 1
    together = trainer.task.rank(cells, 2)
    assert together == pytest.approx([trainer.task.rank([cell], 2)[0] for cell in cells], rel=1e-5)


# --- test -------------------------------------------------------------------------------------------------------------


def test_test_reads_the_test_split_with_shared_weights(copy):
    derived = execute(**where(copy, mode="derive"))
    assert derived["test_perplexity"] is None
    results, again = (execute(**where(copy, mode="test")) for _ in range(2))
    assert again["test_perplexity"] == results["test_perplexity"]
    assert tiny.results(run_of(copy, "train", train_type="orig")) == again
    assert results["mode"] == "test" and results["architecture"] == derived["architecture"]
    assert results["validation_perplexity"] == derived["validation_perplexity"]
    config = Config(**tiny.settings(copy))
    trainer = read_run(config, run_of(copy, "train", train_type="orig"))
    for split, name in {"valid": "validation_perplexity", "test": "test_perplexity"}.items():
        assert trainer.task.evaluate(RNNCell.from_dict(derived["architecture"]), split) == results[name]


def test_only_test_and_train_scratch_read_the_test_split(home, tmp_path, monkeypatch):
    """Spoil it: what a search and a single run report must not change; for deriving, see the finalists."""
    other = shutil.copytree(home / "data", tmp_path / "other" / "data").parent
    (other / "data" / "tiny" / "test.txt").write_text("a b c d e f g\n" * 30)
    for mode, changes in {"train": {}, "single": {"dag_path": "lstm"}}.items():
        ends = [
            execute(**tiny.settings(folder, log_dir=str(tmp_path / name), mode=mode, max_epoch=1, **changes))
            for name, folder in {"a": home, "b": other}.items()
        ]
        assert ends[0]["history"][0]["validation_perplexity"] == ends[1]["history"][0]["validation_perplexity"]
        assert ends[0]["test_perplexity"] is ends[1]["test_perplexity"] is None


# --- finalists --------------------------------------------------------------------------------------------------------


def test_finalists_are_trained_from_scratch_and_the_best_is_derived(copy, capsys, monkeypatch):
    """The first is the one that is derived without them; its training is that of mode single, and no test is read."""
    evaluate, splits = LanguageTask.evaluate, []
    monkeypatch.setattr(LanguageTask, "evaluate", lambda *args: (splits.append(args[2]), evaluate(*args))[1])
    finalists = {"derive_shortlist": 3, "derive_finalists": 3, "derive_finalist_epoch": 2}
    first = execute(**where(copy, mode="derive", derive_shortlist=3))
    derived = execute(**where(copy, mode="derive", **finalists))
    assert set(splits) == {"valid"}
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("finalist ")]
    scores = [float(line.split()[4]) for line in lines]
    assert len(scores) == 3
    settings = {**tiny.settings(copy, max_epoch=2), "log_dir": str(copy / "single"), "mode": "single"}
    for number, architecture in ((scores.index(min(scores)), derived["architecture"]), (0, first["architecture"])):
        (copy / "cell.json").write_text(json.dumps(architecture))
        alone = execute(**{**settings, "dag_path": str(copy / "cell.json")})
        assert f"{alone['validation_perplexity']:.2f}" == f"{scores[number]:.2f}"
    trained = execute(**where(copy, mode="train_scratch", max_epoch=1, **finalists))
    assert trained["architecture"] == derived["architecture"]


# --- single -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def dag_path(tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(CELL.to_json())
    return str(path)


@pytest.mark.parametrize("kind", ["cell", "lstm"])
def test_single_trains_a_given_architecture(home, tmp_path, dag_path, kind):
    given = {"log_dir": str(tmp_path / "logs"), "mode": "single", "dag_path": dag_path if kind == "cell" else "lstm"}
    regular = {"shared_activation_reg": 0.1, "shared_norm_stabilizer": 0.1}
    results = execute(**tiny.settings(home, **given, **regular))
    path = tiny.only_run(tmp_path / "logs")
    architecture = CELL if kind == "cell" else nearest_lstm(Config(**tiny.settings(home)))
    assert load_architecture(path / "architecture.json") == architecture
    assert results["architecture"] == architecture.to_dict()
    assert results["test_perplexity"] is None and tiny.results(path) == results
    tested = execute(mode="test", load_path=str(path))
    assert tested["test_perplexity"] > 0 and tested["validation_perplexity"] == results["validation_perplexity"]
    assert tiny.results(path) == tested and tested["mode"] == "test"


@pytest.mark.parametrize("mode", ["single", "train_scratch"])
def test_a_run_of_one_architecture_resumes_to_the_same_end(copy, tmp_path, dag_path, mode):
    given = {"dag_path": dag_path} if mode == "single" else {}
    ends = {}
    for name, first in {"whole": 3, "parts": 1}.items():
        logs = tmp_path / name
        base = tiny.settings(copy, log_dir=str(logs), mode=mode, max_epoch=first, **given)
        if mode == "train_scratch":
            base["load_path"] = str(run_of(copy, "train", train_type="orig"))
        execute(**base)
        made = tiny.only_run(logs)
        if first < 3:
            execute(mode=mode, load_path=str(made), max_epoch=3)
        kept = ("validation_perplexity", "test_perplexity", "best_epoch", "architecture")
        ends[name] = (tiny.newest_state(made), {key: tiny.results(made)[key] for key in kept})
        # Where the architecture came from is not forgotten.
        assert json.loads((made / "params.json").read_text())["load_path"] == base.get("load_path", "")
    assert tiny.difference(ends["whole"], ends["parts"]) is None


# --- train_scratch ----------------------------------------------------------------------------------------------------


def test_train_scratch_takes_the_newest_search_and_new_settings(copy, capsys):
    search = run_of(copy, "train", train_type="orig")
    before = tiny.tree(search)
    changes = {"shared_optim": "adam", "shared_lr": 0.01, "batch_size": 5, "shared_dropout": 0.0, "max_epoch": 1}
    for _ in range(2):  # the second time, the newest run of all is one from scratch
        results = execute(**where(copy, mode="train_scratch", **changes))
        assert capsys.readouterr().out.startswith(f"taking the newest run, {search}\n")
    assert tiny.tree(search) == before
    assert results["mode"] == "train_scratch" and results["test_perplexity"] > 0
    made = [path for path in (copy / "logs").iterdir() if tiny.results(path)["mode"] == "train_scratch"]
    assert len(made) == 2
    for path in made:
        params = json.loads((path / "params.json").read_text())
        assert {name: params[name] for name in changes} == changes
        assert (params["load_path"], params["shared_hid"]) == (str(search), tiny.SETTINGS["shared_hid"])


def test_train_scratch_forgets_the_shared_weights(copy):
    results = execute(**where(copy, mode="train_scratch", max_epoch=1, shared_lr=0.0))
    entry = results["history"][0]
    search = tiny.results(run_of(copy, "train", train_type="orig"))
    assert entry["validation_perplexity"] > search["validation_perplexity"]

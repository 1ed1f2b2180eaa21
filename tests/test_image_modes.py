"""Image runs from end to end: both spaces through every mode, from the command line and from Python."""

import json
import shutil

import pytest
import tiny
from test_image import write_cifar

from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroNetwork
from enas.cnn.task import VisionTask
from enas.config import Config
from enas.runs import run
from enas.runs.commands import execute
from enas.runs.opening import read_run
from enas.search.checkpoint import Checkpoints
from enas.studies import ablations as analysis

SPACES = {"macro": MacroNetwork, "micro": MicroNetwork}
KINDS = [("macro", "orig"), ("macro", "random"), ("micro", "orig")]
EACH_KIND = pytest.mark.parametrize(("space", "train_type"), KINDS)
EACH_SPACE = pytest.mark.parametrize("space", SPACES)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with one finished search of each kind."""
    folder = tmp_path_factory.mktemp("home")
    for space, train_type in KINDS:
        execute(**tiny.settings(folder, network_type="cnn", cnn_space=space, train_type=train_type))
    return folder


@pytest.fixture
def copy(home, tmp_path):
    """The same, to change."""
    return shutil.copytree(home, tmp_path / "copy")


def where(folder, space: str, **settings) -> dict:
    """Settings that name the newest run of a space, and where it lies."""
    places = {"data_dir": str(folder / "data"), "log_dir": str(folder / "logs")}
    return {"network_type": "cnn", "dataset": "tiny", "num_gpu": 0, "cnn_space": space, **places, **settings}


def run_of(folder, space: str, mode: str = "train", train_type: str = "orig"):
    """The one run of a kind."""
    found = []
    for path in (folder / "logs").iterdir():
        params = json.loads((path / "params.json").read_text())
        if (params["cnn_space"], params["mode"], params["train_type"]) == (space, mode, train_type):
            found.append(path)
    (path,) = found
    return path


def results_of(path) -> dict:
    return json.loads((path / "results.json").read_text())


def validated(results: dict) -> list:
    return [entry["validation_accuracy"] for entry in results["history"]]


# --- search -----------------------------------------------------------------------------------------------------------


@EACH_KIND
def test_a_search_leaves_networks_of_its_space(home, space, train_type):
    path = run_of(home, space, train_type=train_type)
    files = list((path / "architectures").iterdir())
    found = {SPACES[space].load(file) for file in files}
    assert len(files) == len(list((path / "networks").iterdir())) == 2
    results = results_of(path)
    assert SPACES[space].from_dict(results["architecture"]) in found
    assert results["test_accuracy"] is None
    assert all(12 * score == pytest.approx(round(12 * score)) for score in validated(results))  # of 12 images
    assert [entry["reward"] is None for entry in results["history"]] == [train_type == "random"] * 2


@EACH_KIND
def test_a_search_resumes_to_the_same_end(home, tmp_path, space, train_type):
    changes = {"network_type": "cnn", "cnn_space": space, "train_type": train_type, "log_dir": str(tmp_path / "logs")}
    execute(**tiny.settings(home, **changes, max_epoch=1))
    made = tiny.only_run(tmp_path / "logs")
    execute(load_path=str(made), max_epoch=2)
    whole = run_of(home, space, train_type=train_type)
    assert tiny.difference(tiny.newest_state(made), tiny.newest_state(whole)) is None


def test_images_without_classes_are_searched_on_by_their_rotation(tmp_path, capsys):
    tiny.write_images(tmp_path / "data" / "tiny", has_classes=False)
    results = execute(**tiny.settings(tmp_path, network_type="cnn", max_epoch=1))
    assert "has no class folders; the search trains on telling rotations by 0°, 90°, 180°" in capsys.readouterr().out
    assert 48 * results["validation_accuracy"] == pytest.approx(round(48 * results["validation_accuracy"]))
    assert 0 <= execute(**where(tmp_path, "macro", mode="test"))["test_accuracy"] <= 1
    scratch = execute(**where(tmp_path, "macro", mode="train_scratch"))
    assert MacroNetwork.from_dict(scratch["architecture"]) and 0 <= scratch["test_accuracy"] <= 1


# --- derive and test --------------------------------------------------------------------------------------------------


@EACH_SPACE
def test_a_test_says_accuracies_to_four_digits(copy, watched, capsys, space):
    """It alone reads the test split, once."""
    assert execute(**where(copy, space, mode="derive"))["test_accuracy"] is None
    assert "test" not in watched
    results = execute(**where(copy, space, mode="test"))
    assert watched.count("test") == 1 and results_of(run_of(copy, space)) == results
    said = f"validation accuracy {results['validation_accuracy']:.4f}, test accuracy {results['test_accuracy']:.4f}"
    assert f"tested, {said}" in capsys.readouterr().out


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_training_of_a_finalist_ends_its_cosine(copy, monkeypatch, epochs):
    """A finalist judged near the highest learning rate would be judged by noise."""
    shown, single = [], run.single_or_diverged
    monkeypatch.setattr(run, "single_or_diverged", lambda config, one: shown.append(config) or single(config, one))
    finalists = {"derive_shortlist": 2, "derive_finalists": 1, "derive_finalist_epoch": epochs}
    execute(**where(copy, "macro", mode="derive", **finalists))
    config = shown[0]
    rates = [config[config.space.optim].rate(1 + step // 5, step, 5) for step in range(5 * epochs)]
    assert rates[0] == config.cnn_lr_max and rates == sorted(rates, reverse=True)
    assert rates[-1] < config.cnn_lr_min + 0.1 * config.cnn_lr_max


@pytest.fixture
def watched(monkeypatch) -> list:
    """The split of every evaluation, as they come."""
    splits, evaluate = [], VisionTask.evaluate
    monkeypatch.setattr(
        VisionTask, "evaluate", lambda task, network, split: (splits.append(split), evaluate(task, network, split))[1]
    )
    return splits


# --- one network from scratch -----------------------------------------------------------------------------------------


@EACH_SPACE
def test_single_trains_a_given_network(home, tmp_path, space):
    dag_path = tmp_path / "network.json"
    dag_path.write_text(tiny.NETWORKS[space].to_json())
    changes = {"log_dir": str(tmp_path / "logs"), "mode": "single", "dag_path": str(dag_path)}
    results = execute(**tiny.settings(home, network_type="cnn", cnn_space=space, **changes))
    path = tiny.only_run(tmp_path / "logs")
    assert SPACES[space].load(path / "architecture.json") == tiny.NETWORKS[space]
    assert results["test_accuracy"] is None and results_of(path) == results
    tested = execute(mode="test", load_path=str(path))
    assert tested["validation_accuracy"] == results["validation_accuracy"] == max(validated(results))
    assert 0 <= tested["test_accuracy"] <= 1


@EACH_SPACE
def test_train_scratch_tests_the_best_epoch_of_the_derived_network_once(copy, watched, space):
    search = run_of(copy, space)
    before = tiny.tree(search)
    results = execute(**where(copy, space, mode="train_scratch", max_epoch=4, cnn_lr_max=0.2))
    assert tiny.tree(search) == before
    assert results["architecture"] == results_of(search)["architecture"]
    assert watched == ["valid"] * 4 + ["test"]
    scores = validated(results)
    assert results["validation_accuracy"] == max(scores)
    assert results["best_epoch"] == 1 + scores.index(max(scores))
    path = run_of(copy, space, "train_scratch")
    config = Config(**json.loads((path / "params.json").read_text()))
    trainer = read_run(config, path)
    trainer.task.load_state_dict(Checkpoints(path / "checkpoints").load_best()["task"])
    assert trainer.task.evaluate(trainer.architecture, "test") == results["test_accuracy"]


@EACH_SPACE
def test_train_scratch_resumes_to_the_same_end(copy, tmp_path, space):
    ends = {}
    for name, epochs in {"whole": [3], "parts": [1, 3]}.items():
        logs = tmp_path / name
        settings = where(copy, space, mode="train_scratch", load_path=str(run_of(copy, space)), log_dir=str(logs))
        # Drop path grows until max_epoch, which is another one for the first part.
        calm = {"scratch_cnn_drop_path": 0.0} if space == "micro" else {}
        execute(**{**settings, "max_epoch": epochs[0], **calm})
        made = tiny.only_run(logs)
        for epoch in epochs[1:]:
            execute(mode="train_scratch", load_path=str(made), max_epoch=epoch)
        ends[name] = (tiny.newest_state(made), results_of(made))
    assert tiny.difference(ends["whole"][0], ends["parts"][0]) is None
    for name in ("validation_accuracy", "test_accuracy", "best_epoch", "architecture"):
        assert ends["whole"][1][name] == ends["parts"][1][name]


# --- no validation images ---------------------------------------------------------------------------------------------


@pytest.fixture
def without_validation(tmp_path):
    """Settings of a network trained on all of a tiny CIFAR-10."""
    write_cifar(tmp_path / "data" / "cifar10" / "cifar-10-batches-py")
    (tmp_path / "network.json").write_text(tiny.NETWORKS["macro"].to_json())
    kind = {"network_type": "cnn", "mode": "single", "dag_path": str(tmp_path / "network.json")}
    return tiny.settings(tmp_path, **kind, dataset="cifar10", valid_size=0, max_epoch=3)


def test_a_network_trained_on_all_images_is_tested_once_after_the_last_epoch(without_validation, tmp_path, watched):
    results = execute(**without_validation)
    assert watched == ["test"]
    assert results["best_epoch"] == results["epoch"] == 3
    assert results["validation_accuracy"] is None and 0 <= results["test_accuracy"] <= 1
    assert validated(results) == [None] * 3
    folder = tiny.only_run(tmp_path / "logs")
    assert Checkpoints(folder / "checkpoints").load_best()["progress"]["epoch"] == 3
    again = execute(mode="test", load_path=str(folder), data_dir=without_validation["data_dir"])
    assert again["test_accuracy"] == results["test_accuracy"]


def test_a_search_and_an_ablation_need_validation_images(without_validation, tmp_path):
    with pytest.raises(ValueError, match="valid_size is 0; a search rewards networks"):
        execute(**{**without_validation, "mode": "train", "dag_path": ""})
    with pytest.raises(
        ValueError, match="an ablation compares validation scores, and there is no validation data; valid_size is 0"
    ):
        analysis.node_removal(**{**without_validation, "mode": "train_scratch"})
    assert not (tmp_path / "logs").exists()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_train_scratch_without_a_search_says_how_to_make_one(tmp_path, capsys):
    argv = tiny.flags(where(tmp_path, "micro", mode="train_scratch", dataset="shapes"))
    line = tiny.refusal(argv, tmp_path, capsys)
    assert "python main.py --network_type cnn --cnn_space micro --dataset shapes --train_type orig --mode train" in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mode": "single", "dag_path": "lstm"}, "lstm: no such file"),
        ({"mode": "single", "dag_path": "micro.json"}, "micro.json"),
        ({"mode": "derive", "cnn_hid": 6}, "cnn_hid is 6, but the run"),
        ({"mode": "train_scratch", "cnn_num_layers": 6}, "cnn_num_layers is 6, but the run"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_cannot_be_met(home, tmp_path, capsys, monkeypatch, changes, says):
    (tmp_path / "micro.json").write_text(tiny.NETWORKS["micro"].to_json())
    monkeypatch.chdir(tmp_path)
    if changes.get("mode", "train") in ("train", "single"):
        settings = tiny.settings(home, **{"network_type": "cnn", "cnn_space": "macro", **changes})
    else:
        settings = where(home, "macro", load_path=str(run_of(home, "macro")), **changes)
    assert says in tiny.refusal(tiny.flags(settings), home, capsys)

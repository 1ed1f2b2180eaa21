"""Image runs from end to end: both spaces through every mode, from the command line and from Python."""

import json
import shlex
import shutil
import signal

import pytest
import tiny
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_image import write_cifar
from tiny import main

from enas.cli import run_command
from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroNetwork
from enas.cnn.task import VisionTask
from enas.config import Config
from enas.report import animation
from enas.runs import run
from enas.runs.commands import execute
from enas.runs.folder import saved_config
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


def scores_of(results: dict) -> list:
    return [results["validation_accuracy"], *(entry["validation_accuracy"] for entry in results["history"])]


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
    assert all((12 * score) == pytest.approx(round(12 * score)) for score in scores_of(results))  # of 12 images
    assert [entry["reward"] is None for entry in results["history"]] == [train_type == "random"] * 2


@EACH_KIND
def test_a_search_resumes_to_the_same_end(home, tmp_path, space, train_type):
    changes = {"network_type": "cnn", "cnn_space": space, "train_type": train_type, "log_dir": str(tmp_path / "logs")}
    execute(**tiny.settings(home, **changes, max_epoch=1))
    made = tiny.only_run(tmp_path / "logs")
    execute(load_path=str(made), max_epoch=2)
    whole = run_of(home, space, train_type=train_type)
    assert tiny.difference(tiny.newest_state(made), tiny.newest_state(whole)) is None


@EACH_SPACE
def test_a_search_stopped_within_an_epoch_resumes_to_the_same_end(home, tmp_path, monkeypatch, capsys, space):
    calls = []

    def interrupted(task, networks):
        calls.append(networks)
        if len(calls) == tiny.IMAGE_SETTINGS["shared_max_step"] + 2:
            signal.raise_signal(signal.SIGTERM)
        return shared_loss(task, networks)

    shared_loss = VisionTask.shared_loss
    monkeypatch.setattr(VisionTask, "shared_loss", interrupted)
    settings = tiny.settings(home, network_type="cnn", cnn_space=space, log_dir=str(tmp_path / "logs"))
    assert main(tiny.flags(settings)) == 128 + signal.SIGTERM
    monkeypatch.undo()
    made = tiny.only_run(tmp_path / "logs")
    progress = tiny.newest_state(made)["progress"]
    assert (progress["epoch"], progress["shared_step"]) == (1, 2)
    assert main(["--load_path", str(made)]) == 0
    assert tiny.difference(tiny.newest_state(made), tiny.newest_state(run_of(home, space))) is None


def test_every_metric_is_logged_and_says_something(home):
    events = EventAccumulator(str(run_of(home, "macro")), size_guidance={"scalars": 0}).Reload()
    every = {
        *(f"controller/{name}" for name in ("loss", "reward", "entropy", "advantage", "baseline")),
        *(f"shared/{name}" for name in ("loss", "accuracy", "grad_norm", "lr")),
        "eval/validation_accuracy",
        *(f"eval/{who}_{name}" for who in ("policy", "uniform") for name in tiny.SUMMARY),
    }
    assert set(events.Tags()["scalars"]) == every
    values = {tag: [event.value for event in events.Scalars(tag)] for tag in every}
    assert len(values["shared/loss"]) == 2 * tiny.IMAGE_SETTINGS["shared_max_step"]
    assert len(values["controller/loss"]) == 2 * tiny.IMAGE_SETTINGS["controller_max_step"]
    compared = ("eval/policy", "eval/uniform")  # of four networks, which may score the same
    assert all(len(set(of_tag)) > 1 for tag, of_tag in values.items() if not tag.startswith(compared))
    assert all(0 <= share <= 1 for tag in ("shared/accuracy", "controller/reward") for share in values[tag])
    assert values["shared/lr"][0] == pytest.approx(Config().cnn_lr_max)
    results = results_of(run_of(home, "macro"))
    assert values["eval/validation_accuracy"] == pytest.approx(scores_of(results)[1:])
    assert results["history"][0]["train_accuracy"] == pytest.approx(sum(values["shared/accuracy"][:5]) / 5)
    assert results["history"][0]["reward"] == pytest.approx(sum(values["controller/reward"][:4]) / 4)


def test_images_without_classes_are_searched_on_by_their_rotation(tmp_path, capsys):
    tiny.write_images(tmp_path / "data" / "tiny", has_classes=False)
    results = execute(**tiny.settings(tmp_path, network_type="cnn", max_epoch=1))
    assert "has no class folders; the search trains on telling rotations by 0°, 90°, 180°" in capsys.readouterr().out
    assert 48 * results["validation_accuracy"] == pytest.approx(round(48 * results["validation_accuracy"]))
    assert 0 <= execute(**where(tmp_path, "macro", mode="test"))["test_accuracy"] <= 1
    scratch = execute(**where(tmp_path, "macro", mode="train_scratch"))
    assert MacroNetwork.from_dict(scratch["architecture"]) and 0 <= scratch["test_accuracy"] <= 1


def test_rotations_are_learned(tmp_path):
    """The bright half says how an image lies: far more than the quarter that chance gets right."""
    tiny.write_images(tmp_path / "data" / "tiny", has_classes=False)
    trainer = tiny.scratch_trainer(
        tmp_path, MacroNetwork(("conv3x3",) * 3, ((), (), ())), network_type="cnn", shared_max_step=20, cnn_flip=False,
        scratch_cnn_dropout=0.0, cnn_crop_padding=0,
    )  # fmt: skip
    assert trainer.train()["validation_accuracy"] > 0.6


# --- derive and test --------------------------------------------------------------------------------------------------


@EACH_SPACE
def test_derive_and_test(copy, space):
    derived = execute(**where(copy, space, mode="derive"))
    assert derived["test_accuracy"] is None
    results = execute(**where(copy, space, mode="test"))
    path = run_of(copy, space)
    assert results_of(path) == results
    trainer = read_run(saved_config(path), path)
    # What was derived last, or in the best epoch with the weights of then, whichever validates better.
    if results["architecture"] == derived["architecture"]:
        assert results["validation_accuracy"] == derived["validation_accuracy"]
    else:
        best = Checkpoints(path / "checkpoints").load_best()
        assert results["architecture"] == best["progress"]["architecture"]
        assert results["validation_accuracy"] == best["progress"]["best"] >= derived["validation_accuracy"]
        trainer.task.load_state_dict(best["task"])
    network = SPACES[space].from_dict(results["architecture"])
    assert trainer.task.evaluate(network, "test") == results["test_accuracy"]


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


def test_the_newest_run_of_the_space_that_is_asked_for(copy, capsys):
    for space in SPACES:
        execute(**where(copy, space, mode="derive"))
        assert capsys.readouterr().out.startswith(f"taking the newest run, {run_of(copy, space)}\n")


def test_accuracies_are_said_to_four_digits(copy, capsys):
    results = execute(**where(copy, "macro", mode="test"))
    validation, test = results["validation_accuracy"], results["test_accuracy"]
    assert f"tested, validation accuracy {validation:.4f}, test accuracy {test:.4f}" in capsys.readouterr().out


@pytest.fixture
def watched(monkeypatch) -> list:
    """The split of every evaluation, as they come."""
    splits, evaluate = [], VisionTask.evaluate
    monkeypatch.setattr(
        VisionTask, "evaluate", lambda task, network, split: (splits.append(split), evaluate(task, network, split))[1]
    )
    return splits


def test_only_test_and_train_scratch_read_the_test_split(copy, tmp_path, watched, monkeypatch):
    """Spoil it, unnoticed: a search, a derivation and a run of one network report the same, a test something else."""
    monkeypatch.setattr("enas.runs.opening.check_same_data", lambda *args: None)
    dag_path = tmp_path / "network.json"
    dag_path.write_text(tiny.NETWORKS["macro"].to_json())

    search = {"load_path": str(run_of(copy, "macro")), "data_dir": str(copy / "data")}
    kind = {"network_type": "cnn", "max_epoch": 1, "log_dir": str(tmp_path / "new")}
    settings = {
        "train": tiny.settings(copy, **kind),
        "single": tiny.settings(copy, **kind, mode="single", dag_path=str(dag_path)),
        "derive": search,
        "test": search,
        "train_scratch": {**search, "max_epoch": 1, "log_dir": str(tmp_path / "new")},
    }

    def outcomes() -> dict:
        found = {}
        for mode, given in settings.items():
            watched.clear()
            results = execute(**{**given, "mode": mode})
            found[mode] = (scores_of(results), results["test_accuracy"], watched.count("test"))
        return found

    before = outcomes()
    for name in ("red/1.png", "red/2.png", "red/3.png", "green/1.png"):
        (copy / "data" / "tiny" / "test" / name).unlink()
    after = outcomes()
    for mode, (scores, test, num_read) in before.items():
        assert scores == after[mode][0]
        assert (test is None) == (mode in ("train", "derive", "single"))
        assert num_read == (0 if test is None else 1)
    assert any(before[mode][1] != after[mode][1] for mode in ("test", "train_scratch"))


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
    assert tested["validation_accuracy"] == results["validation_accuracy"] == max(scores_of(results))
    assert 0 <= tested["test_accuracy"] <= 1


@EACH_SPACE
def test_train_scratch_tests_the_best_epoch_once(copy, watched, space):
    search = run_of(copy, space)
    before = tiny.tree(search)
    results = execute(**where(copy, space, mode="train_scratch", max_epoch=4, cnn_lr_max=0.2))
    assert tiny.tree(search) == before
    assert watched == ["valid"] * 4 + ["test"]
    scores = [entry["validation_accuracy"] for entry in results["history"]]
    assert results["validation_accuracy"] == max(scores)
    assert results["best_epoch"] == 1 + scores.index(max(scores))
    path = run_of(copy, space, "train_scratch")
    config = Config(**json.loads((path / "params.json").read_text()))
    trainer = read_run(config, path)
    trainer.task.load_state_dict(Checkpoints(path / "checkpoints").load_best()["task"])
    assert trainer.task.evaluate(trainer.architecture, "test") == results["test_accuracy"]


@EACH_SPACE
def test_train_scratch_takes_the_derived_network_and_new_weights(copy, space):
    derived = execute(**where(copy, space, mode="derive"))
    results = execute(**where(copy, space, mode="train_scratch", max_epoch=1, scratch_cnn_hid=6))
    assert results["architecture"] == derived["architecture"]
    path = run_of(copy, space, "train_scratch")
    params = json.loads((path / "params.json").read_text())
    assert (params["scratch_cnn_hid"], params["load_path"]) == (6, str(run_of(copy, space)))


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


@EACH_SPACE
def test_from_scratch_images_are_normalised_by_running_averages(home, tmp_path, space):
    """So what an image is taken for does not depend on those beside it; in a search it does."""
    trainer = tiny.scratch_trainer(tmp_path, tiny.NETWORKS[space], network_type="cnn", cnn_space=space)
    before = {name: value.clone() for name, value in trainer.task.model.named_buffers() if "running" in name}
    trainer.train_shared()
    after = dict(trainer.task.model.named_buffers())
    assert before and all(not torch.equal(value, after[name]) for name, value in before.items())
    searched = tiny.trainer(tmp_path, network_type="cnn", cnn_space=space)
    images = torch.randn(6, 3, 16, 16)
    for task, is_scratch in ((trainer.task, True), (searched.task, False)):
        task.model.eval()
        with torch.no_grad():
            together = task.logits(images, tiny.NETWORKS[space])[:2]
            apart = task.logits(images[:2], tiny.NETWORKS[space])
        assert torch.allclose(together, apart, atol=1e-5) == is_scratch


def test_cells_from_scratch_have_an_auxiliary_head_and_drop_paths(home, tmp_path):
    changes = {"network_type": "cnn", "cnn_space": "micro", "scratch_cnn_dropout": 0.0, "num_gpu": 0}
    losses = {}
    for drop_path, weight in ((0.0, 0.0), (0.0, 0.5), (0.5, 0.0)):
        rates = {"scratch_cnn_drop_path": drop_path, "scratch_cnn_auxiliary_weight": weight}
        task = tiny.scratch_trainer(tmp_path, tiny.NETWORKS["micro"], **changes, **rates).task
        head = dict(task.model.auxiliary_head.named_parameters())
        before = task.model.state_dict()
        found = []
        for _ in range(2):
            task.load_state_dict(
                {**task.state_dict(), "model": before, "train": {**task._train.state_dict(), "cursor": 0}}
            )
            torch.manual_seed(1)
            loss, _ = task.shared_loss([tiny.NETWORKS["micro"]])
            found.append(float(loss.detach()))
        loss.backward()
        assert found[0] == found[1]
        assert any(bool(weight.grad.any()) for weight in head.values()) == (weight > 0)
        losses[drop_path, weight] = found[0]
    assert losses[0.0, 0.5] > losses[0.0, 0.0] + 0.1
    assert losses[0.5, 0.0] != losses[0.0, 0.0]


# --- GIF --------------------------------------------------------------------------------------------------------------


@tiny.needs_dot
def test_a_gif_of_a_search_says_its_accuracies(home, tmp_path, monkeypatch):
    log_dir = str(tmp_path / "logs")
    with tiny.rendering():
        results = execute(**tiny.settings(home, network_type="cnn", log_dir=log_dir))
    said = []
    status_line = animation.status_line
    monkeypatch.setattr(animation, "status_line", lambda *args: said.append(status_line(*args)) or said[-1])
    made = tiny.only_run(tmp_path / "logs")
    output = tmp_path / "search.gif"
    assert run_command("gif", ["--model_name", made.name, "--log_dir", log_dir, "--output", str(output)]) == 0
    assert output.is_file()
    assert said == [
        f"epoch {epoch}   step {5 * epoch}   accuracy {score:.4f}"
        for epoch, score in enumerate(scores_of(results)[1:], start=1)
    ]


# --- no validation images ---------------------------------------------------------------------------------------------


@pytest.fixture
def without_validation(tmp_path):
    """Settings of a network trained on all of a tiny CIFAR-10."""
    write_cifar(tmp_path / "data" / "cifar10" / "cifar-10-batches-py")
    (tmp_path / "network.json").write_text(tiny.NETWORKS["macro"].to_json())
    kind = {"network_type": "cnn", "mode": "single", "dag_path": str(tmp_path / "network.json")}
    return tiny.settings(tmp_path, **kind, dataset="cifar10", valid_size=0, max_epoch=3)


def test_a_network_trained_on_all_images_is_tested_once_after_the_last_epoch(without_validation, tmp_path, monkeypatch):
    evaluated = []
    evaluate = VisionTask.evaluate
    monkeypatch.setattr(VisionTask, "evaluate", lambda *a, **k: (evaluated.append(a[2]), evaluate(*a, **k))[1])
    results = execute(**without_validation)
    assert evaluated == ["test"]
    assert results["best_epoch"] == results["epoch"] == 3
    assert results["validation_accuracy"] is None and 0 <= results["test_accuracy"] <= 1
    assert [entry["validation_accuracy"] for entry in results["history"]] == [None] * 3
    folder = tiny.only_run(tmp_path / "logs")
    assert Checkpoints(folder / "checkpoints").load_best()["progress"]["epoch"] == 3
    again = execute(mode="test", load_path=str(folder), data_dir=without_validation["data_dir"])
    assert again["test_accuracy"] == results["test_accuracy"]


def test_a_search_needs_validation_images(without_validation, tmp_path):
    with pytest.raises(ValueError, match="valid_size is 0; a search rewards networks"):
        execute(**{**without_validation, "mode": "train", "dag_path": ""})
    assert not (tmp_path / "logs").exists()


def test_an_ablation_from_scratch_needs_validation_images(without_validation, tmp_path):
    with pytest.raises(
        ValueError, match="an ablation compares validation scores, and there is no validation data; valid_size is 0"
    ):
        analysis.node_removal(**{**without_validation, "mode": "train_scratch"})
    assert not (tmp_path / "logs").exists()


# --- the command line -------------------------------------------------------------------------------------------------

COMMAND = (
    "--network_type cnn --dataset cifar --controller_optim momentum --controller_lr_cosine=True "
    "--controller_lr_max 0.05 --controller_lr_min 0.0001 --entropy_coeff 0.1"
)
SIZES = {name: value for name, value in tiny.IMAGE_SETTINGS.items() if name not in ("network_type", "dataset")}


def test_the_command_that_people_know(tmp_path, monkeypatch, capsys):
    """By either script, with sizes that make it quick."""
    write_cifar(tmp_path / "data" / "cifar10" / "cifar-10-batches-py")
    monkeypatch.chdir(tmp_path)
    ends = {}
    for script in ("main.py", "train_scripts/train_regular.py"):
        flags = tiny.flags({**SIZES, "valid_size": 12, "max_epoch": 1, "log_dir": script})
        assert tiny.run_script(script, [*shlex.split(COMMAND), *flags]) == 0
        ends[script] = tiny.only_run(tmp_path / script)
        params = json.loads((ends[script] / "params.json").read_text())
        assert params["controller_lr_cosine"] is True and params["controller_lr_min"] == 0.0001
    assert "cifar10: 12 of 60 training images are held out for validation" in capsys.readouterr().out
    states = [tiny.newest_state(path) for path in ends.values()]
    assert tiny.difference(*states) is None


@pytest.mark.parametrize("dataset", ["cifar", "cifar10"])
def test_a_dataset_to_be_downloaded(tmp_path, capsys, monkeypatch, dataset):
    monkeypatch.chdir(tmp_path)
    line = tiny.refusal(["--network_type", "cnn", "--dataset", dataset], tmp_path, capsys)
    assert "get it with: python -m enas download cifar10" in line


def test_train_scratch_without_a_search_says_how_to_make_one(tmp_path, capsys):
    argv = tiny.flags(where(tmp_path, "micro", mode="train_scratch", dataset="shapes"))
    line = tiny.refusal(argv, tmp_path, capsys)
    assert "python main.py --network_type cnn --cnn_space micro --dataset shapes --train_type orig --mode train" in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": 100}, "tiny, train: batch size is 100"),
        ({"mode": "single", "dag_path": "lstm"}, "lstm: no such file"),
        ({"mode": "single", "dag_path": "micro.json"}, "micro.json"),
        ({"mode": "derive", "train_type": "flexible"}, "it must be orig or random for network_type cnn"),
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


@pytest.mark.parametrize("name", ["config_ours", "demo_cnn"])
def test_a_variation_that_fits_makes_no_trouble(tmp_path, name):
    settings = tiny.settings(tmp_path, network_type="cnn", max_epoch=1)
    assert main(["--config", name, *tiny.flags(settings)]) == 0
    params = json.loads((tiny.only_run(tmp_path / "logs") / "params.json").read_text())
    assert (params["network_type"], params["shared_hid"]) == ("cnn", Config().shared_hid)

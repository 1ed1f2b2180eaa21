"""A search space from outside the package: registered by one call, it does all that the package's own ones do."""

import contextlib
import io
import math
import re
import runpy

import pytest
import tiny
import torch

from enas.config import Config
from enas.runs.folder import saved_config
from enas.runs.run import resume, train
from enas.search import own_code

EXAMPLE = tiny.ROOT / "examples" / "own_space.py"
SIZES = {"shared_max_step": 60, "max_epoch": 3, "save_epoch": 1, "shared_optim": "adam", "shared_lr": 0.02}
SIZES |= {"controller_max_step": 40, "controller_num_aggregate": 10, "num_gpu": 0, "num_threads": 1}


def command(*argv) -> int:
    """A command that loads the example, and forgets it again."""
    with tiny.fresh():
        return tiny.command_line([*argv, "--use", str(EXAMPLE)])


def run(folder, **settings) -> str:
    """A search with the example; returns what it prints."""
    argv = tiny.flags({"network_type": "table", "dataset": "spirals", **settings})
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as out:
        assert command("search", *argv) == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder where the space was searched, derived, trained from scratch, and resumed."""
    folder = tmp_path_factory.mktemp("home")
    searched = run(folder, **SIZES)
    (search,) = (folder / "logs").iterdir()
    with tiny.rendering():
        outputs = [searched, run(folder, mode="derive"), run(folder, mode="train_scratch", max_epoch=2)]
    outputs.append(run(folder, load_path=search, max_epoch=4))
    return folder, search, outputs


def test_it_searches_learns_and_resumes(home):
    _, search, outputs = home
    results = tiny.results(search)
    scores = [entry["validation_accuracy"] for entry in results["history"]]
    assert results["network_type"] == "table" and results["epoch"] == 4
    assert scores[-1] > 0.6  # of three spirals; chance is a third
    assert all(math.isfinite(entry["reward"]) for entry in results["history"])
    assert "1,500 points to train on" in outputs[0] and "resumed in epoch 4" in outputs[3]


def test_it_derives_draws_and_trains_from_scratch(home):
    folder, search, outputs = home
    assert re.search("(derived|with shared weights|it had, which is no worse), validation accuracy", outputs[1])
    written, drawn = ({path.stem for path in (search / name).iterdir()} for name in ("architectures", "networks"))
    assert written == drawn and len(written) >= 2
    (scratch,) = (path for path in (folder / "logs").iterdir() if path != search)
    results = tiny.results(scratch)
    assert results["mode"] == "train_scratch" and results["test_accuracy"] > 0.5
    assert tiny.params(scratch)["table_layers"] == 4
    assert {path.suffix for path in scratch.glob("architecture.*")} in ({".json", ".png"}, {".json", ".dot"})


def test_its_own_settings_are_flags_with_bounds(tmp_path, capsys):
    argv = ["search", "--network_type", "table", "--table_layers", "0"]
    line = tiny.refusal(argv, tmp_path, capsys, lambda argv: command(*argv))
    assert line == "error: table_layers is 0; it must be at least 1\n"


def test_its_networks_compute_what_they_say():
    with tiny.registering():
        names = runpy.run_path(str(EXAMPLE))
        config = Config(network_type="table", table_layers=2)
        network = names["TableNetwork"](((0, "sine"), (1, "tanh")))
        model = names["TableModel"](config[names["TableConfig"]], network)
        points = torch.randn(5, 2)
        expected = model.classifier(torch.tanh(model.pairs["1_2"](torch.sin(model.pairs["0_1"](points)))))
        assert torch.equal(model(points, network), expected)


def test_its_settings_are_listed(capsys):
    with tiny.fresh(), pytest.raises(SystemExit):
        command("search", "--help_all")
    assert "--table_layers TABLE_LAYERS" in capsys.readouterr().out


def test_the_settings_of_another_own_space_are_in_no_file(tmp_path):
    """Else only processes that know that space could read the run."""
    with tiny.fresh():
        own_code.use([str(EXAMPLE)])
        own = Config(network_type="table", dataset="spirals", table_layers=2).to_dict()
        plain = Config(**tiny.settings(tmp_path, max_epoch=1, shared_max_step=2))
        folder = train(plain).folder
        assert own["table_layers"] == 2 and "table_layers" not in tiny.params(folder)
        resume(folder, max_epoch=2)
        assert "table_layers" not in tiny.params(folder)
    assert saved_config(folder).max_epoch == 2
    assert resume(folder, max_epoch=3)["epoch"] == 3

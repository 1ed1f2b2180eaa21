"""The user's own code by --use: a search space, an activation and an operation from a file, in every command."""

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import nn

from enas import Config
from enas.export.onnx_file import PACKAGES
from enas.rnn.activations import register_activation
from enas.rnn.cell import RNNCell
from enas.rnn.export import functions
from enas.rnn.text import load_corpus
from enas.runs import run
from enas.runs.folder import saved_config
from enas.runs.opening import read_run
from enas.search import own_code
from enas.search.architecture import architecture_from_dict
from enas.search.registry import SPACES, register

EXAMPLE = (tiny.ROOT / "examples" / "own_space.py").read_text()
SIZES = {"shared_max_step": 6, "max_epoch": 1, "save_epoch": 1, "shared_optim": "adam", "shared_lr": 0.02}
SIZES |= {"controller_max_step": 4, "num_gpu": 0, "num_threads": 1, "derive_num_sample": 3}
TABLE = {"network_type": "table", "dataset": "spirals", **SIZES}
SCRIPT = """
if __name__ == "__main__":
    from enas.__main__ import main

    raise SystemExit(main("search"))
"""
OWN = '''
"""An activation and operations of a user's own, with the helpers that they read."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from enas.cnn.operations import register_operation
from enas.rnn.activations import register_activation

SCALE = 2 / math.pi


def scaled(x):
    return x * SCALE


def wiggle(x: Nowhere) -> torch.Tensor:
    return scaled(torch.atan(x))


class Dilated(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        self.norm, self.dropout = nn.BatchNorm2d(channels), nn.Dropout2d(rates[1])
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=2, dilation=2, bias=False)
        self.register_buffer("mask", torch.arange(channels) % 4 < 3)

    def forward(self, x):
        return self.dropout(self.conv(F.relu(self.norm(x)))) * self.mask[:, None, None]


register_activation("wiggle", wiggle)
register_activation("sinus", torch.sin)
register_operation("dil_conv_3x3", Dilated)
'''


def command(*words) -> int:
    with tiny.fresh():
        return tiny.command_line([*map(str, words)])


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of a user, with a space and with an activation of their own, and text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_space.py").write_text(EXAMPLE + SCRIPT)
    (tmp_path / "my_parts.py").write_text(OWN)
    tiny.write_corpus(tmp_path / "data" / "tiny")
    return tmp_path


def search(home, *use, **settings):
    """The run folder of a new search by the command."""
    before = set(home.glob("logs/*"))
    assert command("search", *use, *tiny.flags(settings)) == 0
    (made,) = set(home.glob("logs/*")) - before
    return made


COMMANDS = {
    "resume": ("search", "--load_path", "RUN", "--max_epoch", "2"),
    "derive": ("derive", "--load_path", "RUN"),
    "test": ("test", "--load_path", "RUN"),
    "scratch": ("scratch", "--load_path", "RUN", "--max_epoch", "1"),
    "report": ("report", "--load_path", "RUN", "--output", "page.html"),
}


def test_every_command_takes_a_run_of_an_own_space_with_use_and_says_so_without(home, capsys, rendered):
    folder = search(home, "--use", "my_space", **TABLE)
    said = capsys.readouterr().out
    for word in ("scratch", "report"):
        assert f"python -m enas {word} --load_path {folder.relative_to(home)} --use my_space" in said
    assert "python -m enas export" not in said  # which would refuse it
    assert tiny.params(folder)["use"] == ["my_space"] and tiny.params(folder)["table_layers"] == 4
    for name, words in COMMANDS.items():
        words = [str(folder) if word == "RUN" else word for word in words]
        assert command(*words) == 2
        assert capsys.readouterr().err == f"error: run {folder} uses my_space: give --use my_space\n", name
        assert command(*words, "--use", "my_space") == 0, name
    assert tiny.results(folder)["epoch"] == 2
    if tiny.has_dot:  # it shows pictures, whatever they are of
        assert command("gif", "--model_name", folder, "--output", "search.gif", "--use", "my_space") == 0
    scratch = next(path for path in home.glob("logs/*") if path != folder)
    dag = ["--dag_path", str(scratch / "architecture.json"), *tiny.flags(TABLE)]
    assert command("single", "--use", "my_space", *dag) == 0


@pytest.mark.parametrize(
    ("lines", "settings"),
    [
        ("", {"shared_rnn_activations": ("wiggle", "sinus"), **tiny.SETTINGS}),
        ("", {**tiny.IMAGE_SETTINGS, "cnn_space": "micro"}),
        ("register_reward('mine', lambda config: lambda cells, scores: scores)", {"reward": "mine", **tiny.SETTINGS}),
        (
            "register_controller('rnn', 'own', lambda space, config: RandomController(space))",
            {"train_type": "own", **tiny.SETTINGS},
        ),
    ],
    ids=["activations", "all operations", "reward", "controller"],
)
def test_a_run_from_python_remembers_the_module_that_registered_its_parts(home, capsys, lines, settings):
    imports = "from enas.search.controllers import RandomController\nfrom enas.search.registry import *\n"
    (home / "my_parts.py").write_text(OWN.replace("import math\n", f"import math\n{imports}", 1) + lines)
    if settings.get("network_type") == "cnn":
        tiny.write_images(home / "data" / "pictures")
        settings = {**settings, "dataset": "pictures"}
    with tiny.fresh():
        sys.path.insert(0, str(home))
        importlib.import_module("my_parts")
        folder = run.train(Config(**{**settings, "max_epoch": 1})).folder
        sys.path.remove(str(home))
    assert "--use my_parts" in capsys.readouterr().out
    assert command("report", "--load_path", folder, "--output", "page.html") == 2
    assert capsys.readouterr().err == f"error: run {folder} uses my_parts: give --use my_parts\n"
    assert command("report", "--load_path", folder, "--output", "page.html", "--use", "my_parts") == 0


def test_an_own_space_says_which_ablations_and_exports_it_lacks(home, capsys):
    folder = search(home, "--use", "my_space.py", **TABLE)
    for ablation in ("node_removal", "activation_replacement"):
        assert command("ablate", ablation, "--use", "my_space", "--load_path", folder) == 2
        method = "remove_node" if ablation == "node_removal" else "replace_part"
        line = f"a table network has no node_word, part_word, {method}, by which an ablation edits; see Graph in "
        assert f"network_type is table: {line}enas.search.graph" in capsys.readouterr().err
    assert command("export", "--use", "my_space", "--load_path", folder, "--output", "taken") == 2
    assert "a table network cannot be exported; its search space has no export" in capsys.readouterr().err


EDITS = """
    node_word, part_word = "layer", "activation"

    @property
    def nodes(self):
        return tuple(range(1, len(self.layers) + 1))

    def replace_part(self, part, node=None):
        return TableNetwork(tuple((read, part if node in (None, i) else name) for i, (read, name) in self._rows))

    def remove_node(self, node):
        read_by_it = self.layers[node - 1][0]
        if node == len(self.layers) or any(read == node for read, _ in self.layers[-1:]):
            raise UserError(f"layer {node} cannot be removed: the classifier reads it")
        moved = [(read_by_it if read == node else read, name) for read, name in self.layers]
        return TableNetwork(tuple(moved))

    @property
    def _rows(self):
        return [*enumerate(self.layers, start=1)]
"""


def test_ablations_edit_architectures_of_an_own_space(home):
    field = "    layers: tuple[tuple[int, str], ...]\n"
    text = (
        EXAMPLE.replace(field, field + EDITS)
        .replace(
            "metric=ACCURACY,\n        problem",
            "metric=ACCURACY,\n        parts=lambda config: ACTIVATIONS,\n        problem",
        )
        .replace("from enas.cli", "from enas.errors import UserError\nfrom enas.cli")
        .replace("from enas.pictures", "from enas.errors import UserError\nfrom enas.pictures")
    )
    (home / "my_space.py").write_text(text)
    folder = search(home, "--use", "my_space", **TABLE)
    for ablation, more in (("node_removal", 1), ("activation_replacement", 1 + 3 + 4 * 3)):
        assert command("ablate", ablation, "--use", "my_space", "--load_path", folder) == 0
        rows = json.loads((home / "analysis_results" / ablation / folder.name / "results.json").read_text())["rows"]
        assert len(rows) >= more


def test_an_own_space_searches_the_users_own_data(home):
    read = []

    def load(config):
        read.append(load_corpus(config.dataset, data_dir=config.data_dir))
        return table.problem().load_data(config)

    with tiny.fresh():
        own_code.use(["my_space"])
        table = SPACES["table"]
        changes = {"name": "worded", "selected_by": {"network_type": "worded"}, "formats": {}}
        register(replace(table, **changes, problem=lambda: replace(table.problem(), load_data=load)))
        made = run.search(["a b a", "b a b"] * 30, network_type="worded", dataset="mine", **SIZES)
        assert tiny.params(made.folder)["use"] == ["my_space"]
    assert read[-1].vocabulary[:2] == ("a", "b") or read[-1].vocabulary[:2] == ("b", "a")


def test_the_environment_names_modules_too_and_flags_come_together(home, monkeypatch, capsys):
    monkeypatch.setenv("ENAS_USE", "my_parts")
    folder = search(home, "--use", "my_space", "--use=my_parts.py", **TABLE)
    assert tiny.params(folder)["use"] == ["my_parts", "my_space", "my_parts.py"]
    assert command("derive", "--load_path", folder, "--use", "my_space") == 0
    assert command("derive", "--load_path", folder) == 2


def test_a_process_of_its_own_loads_what_it_is_told(home):
    words = [sys.executable, "-m", "enas", "search", *tiny.flags(TABLE)]
    environment = {**os.environ, "PYTHONPATH": str(tiny.ROOT), "ENAS_USE": "my_space"}
    for variables, status in ((environment, 0), ({**environment, "ENAS_USE": ""}, 2)):
        assert subprocess.run(words, cwd=home, env=variables, capture_output=True, check=False).returncode == status


def test_workers_of_an_evaluation_load_it_too(home, capsys):
    (home / "budget.py").write_text(
        "".join(f"{key} = {value!r}\n" for key, value in {**TABLE, "table_layers": 1}.items())
    )
    sizes = {**TABLE, "table_layers": 1, "jobs": 2, "num_truth": 2, "truth_seeds": 1, "seeds": 1, "methods": "search"}
    words = ["evaluate", "--budget", "budget.py", "--table", "table.json", *tiny.flags(sizes)]
    assert command(*words) == 2
    assert command(*words, "--use", "my_space") == 0
    assert (home / "analysis_results" / "search_evaluation" / "table" / "results.json").is_file()


@pytest.mark.parametrize(
    ("use", "says"),
    [
        ("nowhere", "use nowhere: no such module; give its name, or the path of its .py file"),
        ("nowhere.py", "use nowhere.py: no such module"),
        ("a/b", "use a/b: no such module"),
        ("..", "use ..: no such module"),
        (".hidden.py", "use .hidden.py: no such module"),
        ("leaves.py", "use leaves.py: it ends the program; let it do so if __name__ == '__main__' alone"),
        ("json.py", "use json.py: another module json is loaded already; rename the file"),
    ],
)
def test_a_module_that_cannot_be_used_is_named(home, capsys, use, says):
    (home / "json.py").write_text("")
    (home / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    assert says in tiny.refusal(["search", "--use", use], home, capsys, lambda words: command(*words))


def test_no_file_loads_code(home, capsys):
    """Neither the settings of a run, nor a preset, nor a table: the module would write a file."""
    (home / "my_trap.py").write_text("open('sprung', 'w')\n")
    (home / "trap.py").write_text("use = ['my_trap']\n")
    (home / "trap.json").write_text('{"settings": {"use": ["my_trap"]}, "data": {}, "rows": []}')
    for words, file in ((("search", "--config"), "config trap.py"), (("strategies", "--table"), "trap.json")):
        assert command(*words, file.split()[-1]) == 2
        assert f"{file} uses my_trap: give --use my_trap" in capsys.readouterr().err
    assert not (home / "sprung").exists()


def test_no_name_in_a_file_reaches_workers(home, monkeypatch):
    """A path whose name is that of a module that is loaded anyway would be loaded by workers, which are new."""
    (home / "evil").mkdir()
    (home / "evil" / "tiny.py").write_text("open('sprung', 'w')\n")
    folder = search(home, **{**tiny.SETTINGS, "max_epoch": 1})
    (folder / "params.json").write_text(json.dumps(tiny.params(folder) | {"use": ["evil/tiny.py"]}))
    with tiny.fresh():
        saved_config(folder)
        assert not any(own_code.LOADED.values()) and str(home / "evil") not in sys.path
    assert not (home / "sprung").exists()


def test_a_space_that_a_script_defines_is_known_by_the_script(home, capsys):
    with tiny.fresh():
        assert tiny.run_script(home / "my_space.py", tiny.flags(TABLE)) == 0
    run = tiny.only_run(home / "logs")
    assert tiny.params(run)["use"] == ["my_space.py"]
    assert command("derive", "--load_path", run, "--use", "my_space.py") == 0


# --- exports ----------------------------------------------------------------------------------------------------------

LOADS = """
import sys
sys.modules["enas"] = None  # torch alone
import torch
from safetensors.torch import load_file
import model
made = model.{call}
made.load_state_dict(load_file("model.safetensors"))
torch.manual_seed(0)
torch.save(made.eval()(torch.randn({shape})), "found.pt")
"""


def computed(folder, call, *shape):
    """What an exported module computes of such noise, in a process that has torch alone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = LOADS.format(call=call, shape=shape)
    subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=True)
    return torch.load(folder / "found.pt")


def noise(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape)


def test_own_activations_are_exported_with_their_definitions(home, capsys):
    sizes = {**tiny.SETTINGS, "shared_rnn_activations": ("wiggle", "sinus"), "num_blocks": 2, "max_epoch": 1}
    folder = search(home, "--use", "my_parts", **sizes)
    cell = {"type": "rnn_cell", "num_blocks": 2, "nodes": [0, 1], "activations": ["wiggle", "sinus"], "previous": [0]}
    (home / "cell.json").write_text(json.dumps(cell | {"cell_output": "loose_ends"}))
    words = ("export", "--load_path", folder, "--dag_path", "cell.json", "--output", "taken")
    assert command(*words) == 2
    assert f"run {folder} uses my_parts: give --use my_parts" in capsys.readouterr().err
    assert command(*words, "--use", "my_parts") == 0
    config = json.loads((home / "taken" / "config.json").read_text())
    assert config["activations"] == {"wiggle": "own_wiggle.wiggle", "sinus": "torch.sin"}
    text = (home / "taken" / "own_wiggle.py").read_text()
    assert "enas" not in text and "Dilated" not in text and "SCALE = 2 / math.pi" in text
    assert "| `own_wiggle.py` |" in (home / "taken" / "README.md").read_text()
    output, _ = computed(home / "taken", "Cell(8, 8)", 5, 2, 8)
    x, state = noise(5, 2, 8), torch.zeros(2, 8)
    weights = load_file(home / "taken" / "model.safetensors")
    for step in range(5):
        gate, value = (x[step] @ weights["layers.0.w_input"] + state @ weights["layers.0.w_state"]).chunk(2, -1)
        first = torch.lerp(state, torch.atan(value) * 2 / math.pi, gate.sigmoid())
        gate, value = (first @ weights["layers.0.w_0_1"]).chunk(2, -1)
        state = torch.lerp(first, value.sin(), gate.sigmoid())
        torch.testing.assert_close(output[step], state)


@pytest.mark.parametrize("space", ["macro", "micro"])
def test_own_operations_are_chosen_and_exported(home, space):
    shutil.rmtree(home / "data" / "tiny")
    tiny.write_images(home / "data" / "tiny")
    sizes = {**tiny.IMAGE_SETTINGS, "cnn_space": space, "cnn_operations": ("dil_conv_3x3",), "max_epoch": 1}
    folder = search(home, "--use", "my_parts", **sizes)
    architecture = tiny.results(folder)["architecture"]
    assert "dil_conv_3x3" in json.dumps(architecture) and "sep3x3" not in json.dumps(architecture)
    assert command("export", "--load_path", folder, "--output", "taken", "--use", "my_parts") == 0
    config = json.loads((home / "taken" / "config.json").read_text())
    assert config["operations"] == {"dil_conv_3x3": "own_dil_conv_3x3.Dilated"}
    output = computed(home / "taken", "Network.load()", 3, 3, 16, 16)
    weights = load_file(home / "taken" / "model.safetensors")
    assert len({int(number) for name, number in weights.items() if name.endswith("num_batches_tracked")}) == 1
    with tiny.fresh():
        own_code.use(["my_parts"])
        run_again = read_run(saved_config(folder), folder)
        score = run_again.score(architecture_from_dict(architecture), "valid")
    assert output.shape == (3, 3) and f"{score:.4f} with batch statistics" in (home / "taken" / "README.md").read_text()


@pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="the packages of ONNX are not installed")
def test_own_activations_are_exported_to_onnx_too(home):
    sizes = {**tiny.SETTINGS, "shared_rnn_activations": ("wiggle",), "num_blocks": 2, "max_epoch": 1}
    folder = search(home, "--use", "my_parts", **sizes)
    assert command("export", "--load_path", folder, "--output", "taken", "--onnx", "--use", "my_parts") == 0
    assert (home / "taken" / "model.onnx").is_file()


@pytest.mark.parametrize("function", [lambda x: x * 0.5, nn.Softplus(), torch.Tensor.sin])
def test_what_has_no_name_in_a_file_is_not_exported(function):
    with tiny.registering():
        register_activation("own", function)
        with tiny.refused("activation own is ") as error:
            functions(RNNCell(("own",), ()))
    assert str(error.value).endswith(
        "which cannot be exported; register a function at the top of a .py file, def own(…): …"
    )


def test_a_definition_that_reads_more_than_torch_is_refused(home):
    (home / "my_far.py").write_text(
        "from enas.rnn.cell import ACTIVATIONS\n\ndef far(x):\n    return x * len(ACTIVATIONS)\n"
    )
    with tiny.fresh():
        own_code.use(["my_far"])
        register_activation("far", sys.modules["my_far"].far)
        with tiny.refused("my_far.py, line 1: far reads enas.rnn.cell, and an export has torch alone"):
            functions(RNNCell(("far",), ()))


def test_a_definition_keeps_what_methods_do_to_the_names_that_it_reads(home):
    text = "import torch\n\nSLOPES = {}\nSLOPES.update(a=0.25)\nOTHER = []\nOTHER.append(1)\ntorch.manual_seed(0)\n"
    text += "\n\ndef bent(x):\n    return torch.where(x > 0, x, SLOPES['a'] * x)\n"
    (home / "my_bent.py").write_text(text)
    with tiny.fresh():
        own_code.use(["my_bent"])
        register_activation("bent", sys.modules["my_bent"].bent)
        _, files = functions(RNNCell(("bent",), ()))
    (written,) = files.values()
    assert "SLOPES.update(a=0.25)" in written and "OTHER" not in written and "manual_seed" not in written


@pytest.mark.parametrize(
    ("imports", "source"),
    [
        ("import torch, numpy as np", "numpy"),
        ("import numpy, torch", "numpy"),
        ("from torch.nn import *", "* of torch.nn"),
    ],
)
def test_every_import_of_a_definition_is_looked_at(home, imports, source):
    (home / "my_far.py").write_text(f"{imports}\nimport torch\n\n\ndef far(x):\n    return torch.sin(x)\n")
    with tiny.fresh():
        own_code.use(["my_far"])
        register_activation("far", sys.modules["my_far"].far)
        with tiny.refused(f"my_far.py, line 1: far reads {source}, and an export has torch alone"):
            functions(RNNCell(("far",), ()))


CHANGED = """
import types

import torch

torch.backends.cudnn.benchmark = bool(print)
SCALE = {}
SCALE["x"] = 2.0
SCALE["y"] = {}
SCALE["y"]["z"] = 3.0
OTHER = types.SimpleNamespace()
OTHER.x, SCALE["w"] = 5.0, 7.0
UNREAD = {}
UNREAD["x"] = 1.0
for number in range(3):
    SCALE[number] = number


def changed(x):
    return x * SCALE["x"] * SCALE["y"]["z"] * SCALE["w"] * SCALE[2] * OTHER.x * torch.ones(1)


if __name__ == "__main__":
    from enas.__main__ import main

    SCALE = {}
    main("search")
"""


def test_a_constant_is_exported_as_the_module_leaves_it(home):
    (home / "my_changed.py").write_text(CHANGED)
    with tiny.fresh():
        own_code.use(["my_changed"])
        register_activation("changed", sys.modules["my_changed"].changed)
        _, files = functions(RNNCell(("changed",), ()))
    text = files["own_changed.py"]
    found = {}
    exec(text, found)
    assert float(found["changed"](torch.ones(1))) == 2 * 3 * 7 * 2 * 5
    assert not any(word in text for word in ("UNREAD", "enas", "benchmark"))


def test_two_files_of_one_name_are_not_taken_for_each_other(home):
    for name in ("a", "b"):
        (home / name).mkdir()
        (home / name / "parts_of_mine.py").write_text("")
    with tiny.fresh():
        own_code.use(["a/parts_of_mine.py", "a/parts_of_mine.py", "parts_of_mine"])
        own_code.use(["b/parts_of_mine.py", "./b/parts_of_mine.py"])  # a run made elsewhere keeps the old path
        with tiny.refused(
            "use b/parts_of_mine.py: a/parts_of_mine.py is a module parts_of_mine too; rename one of the files"
        ):
            own_code.use(["a/parts_of_mine.py", "b/parts_of_mine.py"])
        assert str(home / "b") not in sys.path


REWARD = """
from enas.search.registry import register_reward

register_reward("mine", lambda config: lambda architectures, scores: -scores)
"""
SWEEP = """
import enas, my_space, my_reward, my_parts
from enas import Config
from enas.studies.truth import side_by_side

def made(factor):
    def scaled(architectures, scores):
        return scores * factor
    return scaled

def known(names):
    from enas.cnn.operation_names import OPERATIONS
    from enas.rnn.cell import ACTIVATIONS
    return [name for name in names if name in {**ACTIVATIONS, **OPERATIONS}]

if __name__ == "__main__":
    runs = enas.sweep(Config(**SETTINGS), seeds=1, jobs=2, reward=[made(2.0), "mine"])
    print([(run["epoch"], run["reward"]) for run in runs])
    names = ["wiggle", "sinus", "dil_conv_3x3"]
    side_by_side(2, "loky", {key: (known, names) for key in "ab"}, lambda _, found: print(found == names), "names")
"""


@pytest.mark.slow
def test_workers_load_whatever_imported_modules_register_and_a_function_that_was_given(home):
    (home / "sweep.py").write_text(SWEEP.replace("SETTINGS", repr(TABLE)))
    (home / "my_reward.py").write_text(REWARD)
    done = subprocess.run([sys.executable, "sweep.py"], cwd=home, capture_output=True, text=True)
    assert done.stdout.splitlines()[-3:] == ["[(1, 'scaled'), (1, 'mine')]", "True", "True"], done.stderr

"""A cell that left the project computes what it computed in it, and works where torch.nn.GRU does."""

import functools
import importlib.util
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given, settings
from safetensors.torch import load_file
from strategies import cells as cells_of
from strategies import macro_networks, micro_networks

from enas.cli import run_command
from enas.cnn import export as convolutional
from enas.cnn import network as network_module
from enas.cnn.macro import MacroNetwork
from enas.cnn.model import MacroCNN, MicroCNN, SharedMacroCNN, SharedMicroCNN
from enas.cnn.settings import MacroConfig, MicroCNNConfig, MicroConfig, ScratchCNNConfig
from enas.config import Config
from enas.errors import UserError
from enas.export import onnx_file
from enas.export.folder import export
from enas.export.onnx_file import PACKAGES, write_onnx
from enas.rnn import export as recurrent
from enas.rnn import reference as rnn_reference
from enas.rnn.activations import register_activation
from enas.rnn.cell import RNNCell
from enas.rnn.export import functions
from enas.rnn.reference import Cell
from enas.rnn.settings import SharedRNNConfig
from enas.rnn.shared import SharedRNN
from enas.runs.run import train_scratch
from enas.search.architecture import load_architecture

export_main = partial(run_command, "export")

CELL = RNNCell(("tanh", "ReLU", "sigmoid", "identity"), (0, 0, 2))
LAYERS = ("conv3x3", "sep5x5", "max3x3", "avg3x3", "sep3x3", "conv5x5")
FITTING = {**tiny.NETWORKS, "macro": MacroNetwork(LAYERS, ((), (0,), (), (1, 2), (), (0, 4)))}  # `shared`
SIZES = {"shared_embed": 5, "shared_hid": 4, "tie_weights": False, "shared_norm_bound": 1.5, **tiny.CALM}


def module_of(path: Path):
    """The module of a file outside any package."""
    spec = importlib.util.spec_from_file_location("exported_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cell_of(*args, cell: RNNCell = CELL, **settings) -> Cell:
    """An exported cell."""
    found = {"activations": functions(cell)[0], "norm_bound": 25.0, "architecture": cell.to_dict()}
    return Cell(*args, **settings, found=found)


def run_example(folder: Path) -> str:
    """What the example of an exported folder prints where this package is not installed."""
    command = "import runpy, sys; sys.modules['enas'] = None; sys.path.insert(0, '.'); runpy.run_path('example.py')"
    return subprocess.run(
        [sys.executable, "-c", command], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def both(cell: RNNCell) -> tuple[SharedRNN, torch.nn.Module]:
    """The shared model in float64, and the exported cell with its weights."""
    torch.manual_seed(0)
    model = SharedRNN(10, SharedRNNConfig(num_blocks=max(cell.nodes) + 1, **SIZES)).double()
    found = {name: weight.detach() for name, weight in model.named_parameters()}
    exported = recurrent.exported(cell, found, Config(**SIZES))
    network = exported.make(rnn_reference)
    network.double().load_state_dict(exported.weights)
    return model, network


@given(cell=cells_of(gaps=True))
def test_states_and_gradients_are_those_of_the_search(cell):
    model, network = both(cell)
    inputs, state = torch.randn(6, 3, 5).double().requires_grad_(), torch.randn(1, 3, 4).double().requires_grad_()
    expected, last = model.run_cells(inputs, [cell], state)
    found, final = network(inputs, state)
    torch.testing.assert_close(found, expected[:, 0])
    torch.testing.assert_close(final, last)
    weight = torch.randn_like(found)
    mine = torch.autograd.grad((weight * found).sum(), [inputs, state, network.layers[0].w_input])
    theirs = torch.autograd.grad((weight * expected[:, 0]).sum(), [inputs, state, model.w_input])
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_it_is_called_like_a_gru(num_layers, batch_first, batched):
    networks = [make(5, 4, num_layers, batch_first=batch_first) for make in (cell_of, torch.nn.GRU)]
    shape = ((3, 6, 5) if batch_first else (6, 3, 5)) if batched else (6, 5)
    inputs = torch.randn(shape)
    given = torch.zeros(num_layers, 3, 4) if batched else torch.zeros(num_layers, 4)
    shapes = [[value.shape for value in network(inputs)] for network in networks]
    assert shapes[0] == shapes[1] == [value.shape for value in networks[0](inputs, given)]
    torch.testing.assert_close(networks[0](inputs), networks[0](inputs, given))


def test_sequences_are_independent_of_their_neighbours_and_of_how_they_are_cut():
    network = cell_of(5, 4, 2, batch_first=True)
    inputs = torch.randn(3, 6, 5)
    whole, last = network(inputs)
    torch.testing.assert_close(network(inputs[1])[0], whole[1])
    first, state = network(inputs[:, :2])
    second, end = network(inputs[:, 2:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(end, last)


def test_packed_sequences_and_those_without_steps_are_refused():
    packed = torch.nn.utils.rnn.pack_sequence([torch.randn(3, 5), torch.randn(2, 5)])
    with pytest.raises(TypeError, match="packed sequences are not supported; pad them"):
        cell_of(5, 4)(packed)
    for shape in ((0, 2, 5), (0, 5)):
        with pytest.raises(ValueError, match="the sequence has no steps"):
            cell_of(5, 4)(torch.zeros(shape))


def test_an_activation_that_a_user_registers_leaves_the_project_by_its_name_in_torch():
    with tiny.registering():
        register_activation("softplus", "torch.nn.functional.softplus")
        register_activation("mine", torch.sin)
        network, x = cell_of(5, 4, cell=RNNCell(("softplus",), ())), torch.randn(1, 3, 5)
        gate, value = (x[0] @ network.layers[0].w_input).chunk(2, -1)
        torch.testing.assert_close(network(x)[0][0], gate.sigmoid() * torch.nn.functional.softplus(value))
        places = {"softplus": "torch.nn.functional.softplus", "mine": "torch.sin", "tanh": "torch.tanh"}
        assert functions(RNNCell(("softplus", "mine", "tanh"), (0, 0))) == (places, {})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A search of each space, and a training from scratch of the cell that was derived."""
    folder = tmp_path_factory.mktemp("export")
    kinds = {"search": {}, "macro": {"network_type": "cnn"}, "micro": {"network_type": "cnn", "cnn_space": "micro"}}
    found = {name: tiny.run_in(folder / name, **kind, max_epoch=1) for name, kind in kinds.items()}
    train_scratch(found["search"], log_dir=str(folder / "scratch"))
    return {**found, "scratch": tiny.only_run(folder / "scratch")}


@pytest.mark.parametrize("kind", ["search", "scratch", "macro", "micro"])
def test_a_run_leaves_a_folder_that_works_where_this_package_is_not(runs, tmp_path, rendered, kind):
    folder = tmp_path / "taken"
    assert export_main(["--load_path", str(runs[kind]), "--output", str(folder)]) == 0
    names = {path.name for path in folder.iterdir()} - {"architecture.png", "architecture.svg", "architecture.dot"}
    assert names == {"model.py", "model.safetensors", "config.json", "architecture.json", "example.py", "README.md"}
    assert list(tmp_path.iterdir()) == [folder]
    assert load_architecture(folder / "architecture.json").to_dict() == tiny.results(runs[kind])["architecture"]
    out = run_example(folder)  # loads the weights
    if kind in ("macro", "micro"):
        assert "features (4, " in out
        make = module_of(folder / "model.py").Network
        network = make(num_classes=7, channels=(4, 5, 6), dropout=0.5) if kind == "macro" else make(7, 4, 6, 0.5)
        assert network(torch.randn(2, 3, 9, 8)).shape == (2, 7) and network.dropout.p == 0.5
    else:
        losses = [float(value) for value in re.findall(r"loss ([\d.]+)", out)]
        assert "states (35, 2, 8)" in out and losses[2] < losses[0]


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("search", {}, "exists already; name a new folder"),
        ("scratch", {"dag_path": "x.json"}, "has the weights of one architecture; leave --dag_path out"),
        ("search", {"dag_path": "deep.json"}, "the run has no weights edges.3_4; the cell is not one of its search"),
        ("search", {"dag_path": "net.json"}, "a recurrent cell is needed here"),
        ("search", {"load_path": "nothing"}, "load_path nothing: no such run"),
    ],
)
def test_an_export_that_is_impossible_is_refused(runs, tmp_path, kind, changes, reason):
    (tmp_path / "deep.json").write_text(RNNCell(("tanh",) * 5, (0, 1, 2, 3)).to_json())
    (tmp_path / "net.json").write_text(tiny.NETWORKS["macro"].to_json())
    (tmp_path / "other.json").write_text(CELL.to_json())  # another one of the search has its weights
    folder = export(runs["search"], tmp_path / "other", dag_path=tmp_path / "other.json")
    assert load_architecture(folder / "architecture.json") == CELL
    output = tmp_path / "cell"
    if not changes:
        output.mkdir()
        (output / "mine.txt").touch()
    changes = {name: str(tmp_path / value) if value.endswith("json") else value for name, value in changes.items()}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=re.escape(reason)):
        export(**{"load_path": runs[kind], "output": output, **changes})
    assert sorted(tmp_path.rglob("*")) == before


@functools.cache
def shared(kind: str) -> torch.nn.Module:
    """A shared model in float64, its weights far from where they start."""
    if kind == "macro":
        return _shaken(SharedMacroCNN(5, MacroConfig(cnn_num_layers=6, cnn_hid=4, cnn_dropout=0.0)))
    return _shaken(SharedMicroCNN(5, MicroConfig(cnn_num_layers=3, cnn_num_blocks=5, cnn_hid=4, cnn_dropout=0.0)))


def alone(kind: str, network) -> torch.nn.Module:
    """The model of a network from scratch."""
    if kind == "macro":
        return MacroCNN(network, 5, ScratchCNNConfig(scratch_cnn_hid=4, scratch_cnn_dropout=0.0))
    no_dropout = {"scratch_cnn_dropout": 0.0, "scratch_cnn_drop_path": 0.0}
    return MicroCNN(network, 5, MicroCNNConfig(scratch_cnn_hid=4, scratch_cnn_num_layers=3, **no_dropout))


def _shaken(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in [*model.parameters(), *(buffer for name, buffer in model.named_buffers() if "running" in name)]:
            weight.add_(torch.rand_like(weight) * 0.3)
    return model.double()


def exported_network(network, model: torch.nn.Module, config: Config) -> torch.nn.Module:
    found = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    made = convolutional.exported(network, found, config)
    result = made.make(network_module).double()
    result.load_state_dict(made.weights)
    result.dropout.p = 0.0
    return result


def same(network: torch.nn.Module, model: torch.nn.Module, run) -> None:
    """Logits and the gradient of the images are equal, in training and in evaluation."""
    for mode in (True, False):
        images = torch.randn(4, 3, 9, 8, dtype=torch.float64, requires_grad=True)
        logits, expected = network.train(mode)(images), run(model.train(mode), images)
        torch.testing.assert_close(logits, expected)
        weight = torch.randn_like(logits)
        mine, theirs = (torch.autograd.grad((weight * each).sum(), images)[0] for each in (logits, expected))
        torch.testing.assert_close(mine, theirs)


@given(network=macro_networks(min_layers=6, max_layers=6) | micro_networks())
@settings(max_examples=16)
def test_a_network_is_that_of_the_search(network):
    kind = "macro" if isinstance(network, MacroNetwork) else "micro"
    model, config = shared(kind), Config(network_type="cnn", cnn_space=kind)
    same(exported_network(network, model, config), model, lambda model, x: model(x, network))


@pytest.mark.parametrize("kind", ["macro", "micro"])
def test_a_network_is_that_of_the_training_alone(kind):
    network, config = tiny.NETWORKS[kind], Config(network_type="cnn", cnn_space=kind, mode="single")
    model = _shaken(alone(kind, network))
    same(exported_network(network, model, config), model, lambda model, x: model(x))


def test_weights_keep_their_names():
    """Users load them into modules of their own."""
    cell = cell_of(5, 4, 2, cell=RNNCell(("tanh", "ReLU", "tanh"), (0, 4), nodes=(0, 4, 7)))
    names = ("w_input", "w_state", "w_0_4", "w_4_7")
    assert [*cell.state_dict()] == [f"layers.{layer}.{name}" for layer in (0, 1) for name in names]
    macro = _modules("macro", depth=1)
    assert macro == (
        "stem layer0 layer1 join1 reduce1_h0 reduce1_h1 layer2 layer3 join3 reduce3_h0 reduce3_h3 layer4 layer5 join5 "
        "classifier"
    )
    assert _modules("macro", depth=2).startswith("stem.0 stem.1 layer0.0 layer0.1 layer0.3 layer0.4 layer1.0")
    inside = [name.removeprefix("cells.2.") for name in _modules("micro", depth=4).split() if "cells.2" in name]
    assert " ".join(inside) == (
        "input0.reduction input1.conv input1.norm edge2_0.1 edge2_0.2 edge2_0.4 edge2_0.5 "
        "edge3_1.1 edge3_1.2 edge3_1.4 edge3_1.5"
    )
    assert _modules("micro", depth=1) == "stem cells norm classifier"


def _modules(kind: str, depth: int) -> str:
    """Names of the modules with weights, so many levels deep."""
    network = exported_network(FITTING[kind], shared(kind), Config(network_type="cnn", cnn_space=kind))
    names = (name.split(".")[:-1][:depth] for name in network.state_dict())
    return " ".join(dict.fromkeys(map(".".join, names)))


@pytest.fixture
def onnxruntime():
    for name in PACKAGES:
        pytest.importorskip(name)
    return pytest.importorskip("onnxruntime")


def outputs_of(onnxruntime, path, **inputs) -> list[torch.Tensor]:
    session = onnxruntime.InferenceSession(path)
    return [torch.from_numpy(value) for value in session.run(None, {name: x.numpy() for name, x in inputs.items()})]


def test_an_onnx_file_steps_like_the_cell(runs, tmp_path, onnxruntime, capsys):
    """Step by step, with another batch than that of the trace, it gives what the cell gives of a sequence."""
    assert export_main(["--load_path", str(runs["search"]), "--output", str(tmp_path / "cell"), "--onnx"]) == 0
    assert capsys.readouterr().err == ""
    folder = tmp_path / "cell"
    cell = module_of(folder / "model.py").Cell(8, 8)
    cell.load_state_dict(load_file(folder / "model.safetensors"))
    inputs, state = torch.randn(5, 7, 8), torch.zeros(1, 7, 8)
    with torch.no_grad():
        expected, last = cell(inputs)
    for step in range(5):
        output, state = outputs_of(onnxruntime, folder / "model.onnx", input=inputs[step : step + 1], hx=state)
        torch.testing.assert_close(output[0], expected[step], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, last, atol=1e-5, rtol=1e-5)
    assert "`model.onnx`" in (folder / "README.md").read_text()


@pytest.mark.parametrize("kind", ["macro", "micro"])
def test_an_onnx_file_classifies_like_the_network(tmp_path, onnxruntime, kind):
    """Images of another number and of an odd size, too."""
    torch.manual_seed(0)
    model = alone(kind, tiny.NETWORKS[kind].replace_part("avg3x3", {"macro": 1, "micro": ("normal", 3)}[kind])).eval()
    run_config = Config(network_type="cnn", cnn_space=kind, mode="single")
    write_onnx(convolutional.exported(model.network, model.state_dict(), run_config), tmp_path / "model.onnx")
    for shape in ((2, 3, 32, 32), (5, 3, 17, 9)):
        images = torch.randn(shape)
        (logits,) = outputs_of(onnxruntime, tmp_path / "model.onnx", images=images)
        with torch.no_grad():
            torch.testing.assert_close(logits, model(images), atol=1e-5, rtol=1e-5)


def test_an_onnx_file_that_computes_something_else_is_refused(runs, tmp_path, onnxruntime, monkeypatch):
    write = torch.onnx.export

    def shifted(module, *args, **settings):
        with torch.no_grad():
            module.layers[0].w_input.add_(0.1)
            write(module, *args, **settings)
            module.layers[0].w_input.sub_(0.1)

    monkeypatch.setattr(torch.onnx, "export", shifted)
    with pytest.raises(UserError, match="the ONNX file computes something else than the module, by 0"):
        export(runs["search"], tmp_path / "cell", onnx=True)
    assert not any(tmp_path.iterdir())


def test_without_the_extra_an_export_names_the_package_to_install(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "PACKAGES", ("no_such_package",))
    with pytest.raises(UserError, match=re.escape("no_such_package: not installed; pip install 'enas[onnx]'")):
        export(runs["search"], tmp_path / "cell", onnx=True)
    assert not any(tmp_path.iterdir())

"""A cell that left the project computes what it computed in it, and works where torch.nn.GRU does."""

import copy
import functools
import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import chisquare
from strategies import cells as cells_of
from strategies import macro_networks, micro_networks
from tiny import run_command
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence, pad_sequence

import enas
from enas.cnn import export as convolutional
from enas.cnn import network as network_module
from enas.cnn.augment import normalise
from enas.cnn.folder import read_image
from enas.cnn.macro import MacroNetwork
from enas.cnn.model import MacroCNN, MicroCNN, SharedMacroCNN, SharedMicroCNN
from enas.cnn.network import Classifier
from enas.cnn.settings import MacroConfig, MicroCNNConfig, MicroConfig, ScratchCNNConfig
from enas.config import Config
from enas.errors import UserError
from enas.export import folder as folder_module
from enas.export import onnx_file
from enas.export.folder import _literal, export
from enas.export.onnx_file import PACKAGES, write_onnx
from enas.rnn import export as recurrent
from enas.rnn import reference as rnn_reference
from enas.rnn.activations import register_activation
from enas.rnn.cell import RNNCell
from enas.rnn.export import functions
from enas.rnn.reference import Cell, LanguageModel
from enas.rnn.settings import SharedRNNConfig
from enas.rnn.shared import SharedRNN
from enas.runs import run as run_module
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
    return Cell(*args, **settings, **found)


ABSENT = "import sys; sys.modules.update(dict.fromkeys(('enas', 'safetensors', 'numpy')))\n"


def run_alone(code: str, folder: Path) -> str:
    """What Python prints in a folder where there are torch and Pillow alone."""
    command = [sys.executable, "-W", "ignore:Failed to initialize NumPy", "-c", ABSENT + code]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def snippet(folder: Path) -> str:
    """The Python of a model card."""
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]


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


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("is_sorted", [False, True])
def test_packed_sequences_padded_ones_with_lengths_and_each_alone_are_the_same(bidirectional, is_sorted):
    torch.manual_seed(0)
    network, gru = (make(5, 4, 2, bidirectional=bidirectional).double() for make in (cell_of, torch.nn.GRU))
    lengths = [6, 4, 4, 1] if is_sorted else [4, 1, 6, 4]
    sequences = [torch.randn(length, 5).double() for length in lengths]
    hx = torch.randn(2 * (1 + bidirectional), 4, 4).double()
    packed = pack_sequence(sequences, enforce_sorted=is_sorted)
    output, last = network(packed, hx)
    assert all(one is other for one, other in zip(output[1:], gru(packed, hx)[0][1:], strict=True))
    unpacked, found = pad_packed_sequence(output)
    padded, end = network(pad_sequence(sequences), hx, lengths=lengths)
    torch.testing.assert_close(unpacked, padded)
    torch.testing.assert_close(end, last)
    assert found.tolist() == lengths
    for index, sequence in enumerate(sequences):
        alone, state = network(sequence, hx[:, index])
        torch.testing.assert_close(padded[: len(sequence), index], alone)
        torch.testing.assert_close(last[:, index], state)
        assert padded[len(sequence) :, index].eq(0).all()
    first, state = network.__class__.forward(_with_batch_first(network), pad_sequence(sequences, batch_first=True), hx)
    assert first.shape[:2] == (4, 6) and state.shape == last.shape


def _with_batch_first(network: Cell) -> Cell:
    network.batch_first = True
    return network


def test_a_bidirectional_layer_is_two_cells_one_of_them_backwards():
    torch.manual_seed(0)
    both, one, other = cell_of(5, 4, bidirectional=True), cell_of(5, 4), cell_of(5, 4)
    for cell, layer in zip((one, other), both.layers, strict=True):
        cell.layers[0].load_state_dict(layer.state_dict())
    inputs = torch.randn(6, 3, 5)
    output, last = both(inputs)
    (ahead, end), (back, start) = one(inputs), other(inputs.flip(0))
    torch.testing.assert_close(output, torch.cat([ahead, back.flip(0)], -1))
    torch.testing.assert_close(last, torch.cat([end, start]))


def test_it_runs_under_autocast_and_in_other_types():
    inputs = torch.randn(6, 3, 5)
    cell = cell_of(5, 4, 2)
    expected, _ = cell(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = cell(inputs)
        output.square().mean().backward()
    torch.testing.assert_close(output, expected, atol=0.02, rtol=0.02)
    assert all(weight.grad.dtype == torch.float32 and weight.grad.any() for weight in cell.parameters())
    assert cell_of(5, 4, dtype=torch.float64)(inputs.double())[0].dtype == torch.float64
    assert all(weight.is_meta for weight in cell_of(5, 4, device="meta").parameters())


@pytest.mark.slow
def test_torch_export_takes_any_length():
    cell = cell_of(5, 4, bidirectional=True).eval()
    program = torch.export.export(
        cell, (torch.randn(6, 3, 5),), dynamic_shapes={"input": {0: torch.export.Dim("T"), 1: torch.export.Dim("B")}}
    )
    for shape in ((9, 3, 5), (2, 7, 5)):
        inputs = torch.randn(shape)
        for one, other in zip(program.module()(inputs), cell(inputs), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((torch.zeros(5),), "input has 1 dimensions; it must be a batch, of 3, or one sequence, of 2"),
        ((torch.zeros(0, 2, 5),), "input has 0 steps of 5 features; it must have some, of 5"),
        ((torch.zeros(0, 5),), "input has 0 steps of 5 features; it must have some, of 5"),
        ((torch.zeros(3, 2, 6),), "input has 3 steps of 6 features; it must have some, of 5"),
        ((torch.zeros(3, 2, 5), torch.zeros(1, 3, 4)), "hx is [1, 3, 4]; it must be [1, 2, 4]: layers · directions"),
        ((torch.zeros(3, 2, 5), None, [3, 4]), "lengths are [3, 4]; they must be 2 numbers from 1 to 3"),
        ((torch.zeros(3, 2, 5), None, [3]), "lengths are [3]; they must be 2 numbers from 1 to 3"),
        ((torch.zeros(3, 2, 5), None, [0, 3]), "lengths are [0, 3]; they must be 2 numbers from 1 to 3"),
        ((torch.zeros(3, 0, 5), None, [1]), "lengths are [1]; they must be 0 numbers from 1 to 3"),
    ],
)
def test_wrong_shapes_are_refused_with_those_expected(arguments, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        cell_of(5, 4)(*arguments)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_empty_batch_has_no_lengths(bidirectional):
    output, last = cell_of(5, 4, bidirectional=bidirectional)(torch.zeros(3, 0, 5), lengths=[])
    directions = 1 + bidirectional
    assert output.shape == (3, 0, 4 * directions) and last.shape == (directions, 0, 4)


def test_sizes_alone_make_no_cell_in_the_package():
    with pytest.raises(FileNotFoundError, match=r"config.json: no such file; give the folder of an export"):
        Cell(5, 4)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_only_a_cell_itself_leaves_the_rest_of_a_language_model_out(batch_norm):
    weights = language_model(batch_norm=batch_norm, tie_weights=False).state_dict()
    cell = cell_of(4, 4)
    cell.load_state_dict(weights)
    assert all(weight.equal(weights[name]) for name, weight in cell.state_dict().items())
    with pytest.raises(RuntimeError, match=r"Unexpected key.*stray"):
        cell.load_state_dict(weights | {"stray": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"Missing key.*embedding"):
        language_model(tie_weights=False).load_state_dict(cell.state_dict())
    model = torch.nn.ModuleDict({"cell": cell})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*embedding.weight"):
        model.load_state_dict({**model.state_dict(), "embedding.weight": torch.zeros(3, 4)})


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
    own = {"model.py", "modeling_enas.py", "model.safetensors", "config.json", "architecture.json", "README.md"}
    assert names == own
    assert list(tmp_path.iterdir()) == [folder]
    assert load_architecture(folder / "architecture.json").to_dict() == tiny.results(runs[kind])["architecture"]
    out, model = run_alone(snippet(folder), folder), module_of(folder / "model.py")
    content = json.loads((folder / "config.json").read_text())
    if kind in ("macro", "micro"):
        assert all(name in out for name in tiny.CLASSES)
        sizes = {"channels": (4, 5, 6)} if kind == "macro" else {"channels": 4, "num_layers": 6}
        network = model.Network(num_classes=7, dropout=0.5, **sizes)
        assert network(torch.randn(2, 3, 9, 8)).shape == (2, 7) and network.dropout.p == 0.5
        assert type(model.Network(**content)) is type(network)
    else:
        assert len(out.split()) > 5
        assert model.Cell(**content).layers[0].w_input.shape == (8, 16)
        assert model.Cell.load(batch_first=True)(torch.randn(2, 9, 8))[1].shape == (1, 2, 8)
    make = model.Network if "classes" in content else functools.partial(model.Cell, 8, 8)
    with pytest.raises(TypeError, match="num_clases: no such argument; there are dataset"):
        make(num_clases=5)
    with pytest.raises(TypeError, match="num_clases: no such argument"):
        getattr(model, "Network", model.Cell).load(num_clases=5)


@pytest.mark.parametrize("kind", ["macro", "micro", "alone"])
def test_pictures_get_the_classes_that_the_run_gives_them(runs, tmp_path, rendered, kind):
    """Raw files, in a process that has torch and Pillow alone: colours, palettes, transparency, turned by EXIF."""
    if kind == "alone":
        changes = {"mode": "single", "dag_path": "net.json", "image_size": 12, "network_type": "cnn"}
        (tmp_path / "net.json").write_text(tiny.NETWORKS["macro"].to_json())
        folder = tiny.run_in(tmp_path, **{**changes, "dag_path": str(tmp_path / "net.json")}, max_epoch=1)
    else:
        folder = runs[kind]
    pictures = sorted((folder.parents[1] / "data" / "tiny" / "valid").rglob("*.png"))
    taken = export(folder, tmp_path / "taken")
    out = run_alone(PREDICTIONS.format(paths=[*map(str, pictures)]), taken)
    predictions = json.loads(out)
    run = enas.load(folder)
    task, (architecture,) = run._opened().task, [run.architecture]
    assert [*predictions[0]] == sorted(predictions[0], key=predictions[0].get, reverse=True)
    if kind == "alone":
        images = task._splits["valid"].images
        with torch.no_grad():
            expected = task.model.eval()(normalise(images, task._mean, task._std)).softmax(1)
        classes = task.dataset.classes
        found = torch.tensor([[each[name] for name in classes] for each in predictions])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        right = [max(each, key=each.get) == path.parent.name for each, path in zip(predictions, pictures, strict=True)]
        assert sum(right) / len(right) == pytest.approx(run.score([architecture])[0])
    else:
        card = (taken / "README.md").read_text()
        batch, running = map(float, re.search(r"here: ([\d.]+) with batch statistics, ([\d.]+)\s+with", card).groups())
        assert batch == pytest.approx(run.score([architecture])[0], abs=1e-4)
        right = [max(each, key=each.get) == path.parent.name for each, path in zip(predictions, pictures, strict=True)]
        assert sum(right) / len(right) == pytest.approx(running, abs=1e-4)


PREDICTIONS = """
import json
from PIL import Image
from model import Network
network = Network.load()
images = [Image.open(path) for path in {paths}]
together, alone = network.predict(images), [network.predict(path) for path in {paths}]
for one, other in zip(together, alone):
    assert all(abs(one[name] - other[name]) < 1e-5 for name in one), (one, other)
print(json.dumps(together))
"""


def test_pictures_of_every_kind_are_read_as_the_search_reads_them(tmp_path):
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (20, 31, 4), dtype=np.uint8), "RGBA")
    turned = colours.convert("RGB").getexif()
    turned[0x0112] = 6
    files = {
        "a.png": colours,
        "b.png": colours.convert("L"),
        "c.png": colours.convert("P"),
        "d.jpg": colours.convert("RGB"),
    }
    for name, image in files.items():
        image.save(tmp_path / name, **({"exif": turned} if name == "d.jpg" else {}))
        for size in (12, 20):
            expected = torch.from_numpy(read_image(tmp_path / name, size).copy())
            with Image.open(tmp_path / name) as opened:
                assert network_module.pixels(opened, size, size).equal(expected), name
    with Image.open(tmp_path / "d.jpg") as opened:  # of its own size
        assert network_module.pixels(opened, 31, 20).equal(torch.from_numpy(read_image(tmp_path / "d.jpg").copy()))


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_picture_that_a_run_refuses_is_refused(mode):
    picture = Image.new(mode, (8, 8))
    with pytest.raises(ValueError, match=f"the picture has Pillow's mode {mode}; it must have 8 bits a channel"):
        network_module.pixels(picture, 8, 8)


def test_another_number_of_classes_keeps_the_rest(runs, tmp_path, rendered):
    taken = export(runs["macro"], tmp_path / "net")
    network, other = Classifier.load(taken), Classifier.load(taken, num_classes=5)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(other.features(images), network.features(images))
    assert other(images).shape == (2, 5) and not other.training
    made = Classifier(**json.loads((taken / "config.json").read_text()))
    assert type(made) is type(network) and made(images).shape == (2, 3)
    copied = copy.deepcopy(network)
    assert copied(images).equal(network(images)) and pickle.loads(pickle.dumps(network))(images).equal(copied(images))
    assert sorted(other.predict(Image.new("RGB", (9, 9)))) == ["0", "1", "2", "3", "4"]
    assert Classifier.load(taken, num_classes=3)(images).equal(network(images))


def test_an_export_reads_the_data_of_the_run_and_no_others(tmp_path, rendered, capsys):
    folder = tiny.run_in(tmp_path, network_type="cnn", max_epoch=1)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    words = ["--load_path", str(folder), "--output", str(tmp_path / "net")]
    capsys.readouterr()
    assert export_main(words) == 2 and "no such dataset" in capsys.readouterr().err
    assert export_main([*words, "--data_dir", str(tmp_path / "elsewhere")]) == 0
    next((tmp_path / "elsewhere" / "tiny" / "valid").rglob("*.png")).unlink()
    with pytest.raises(UserError, match="valid split"):
        export(folder, tmp_path / "other", data_dir=tmp_path / "elsewhere")
    assert not (tmp_path / "other").exists()


UNITS = {"word": {}, "character": {"text_unit": "character", "tie_weights": False, "shared_embed": 6}}


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("unit", UNITS)
def test_the_language_model_has_the_perplexity_of_the_run(tmp_path, rendered, unit, batch_norm):
    """Unknown words, blank lines and the end of the last line included."""
    tiny.write_corpus(tmp_path / "data" / "tiny")
    valid = tmp_path / "data" / "tiny" / "valid.txt"
    valid.write_text(valid.read_text() + "Unheard of  words\r\n\n a b ")
    folder = tiny.run_in(tmp_path, **UNITS[unit], shared_batch_norm=batch_norm, max_epoch=1)
    run = enas.load(folder)
    taken = export(folder, tmp_path / "taken")
    out = run_alone(PERPLEXITY.format(valid=str(valid)), taken).splitlines()
    assert float(out[0]) == pytest.approx(run.score([run.architecture])[0], rel=1e-5)
    assert out[1] == "(2, 8)" and len(out[2].replace(" ", "")) >= 5 and "<unk>" not in out[2]
    assert out[0] != out[3]  # one column has other states
    card = (taken / "README.md").read_text()
    assert ("running statistics of training text" in card) is batch_norm
    assert "It was found by Efficient Neural Architecture Search" in card


PERPLEXITY = """
from pathlib import Path
from model import LanguageModel
model = LanguageModel.load()
text = Path({valid!r}).read_bytes().decode()
print(model.perplexity(text))
print(tuple(model.features(["a b c", "d"]).shape))
print(repr(model.generate("a b", num=20)))
print(model.perplexity(text, columns=1))
"""


def language_model(**changes) -> LanguageModel:
    found = {"activations": functions(CELL)[0], "norm_bound": 25.0, "architecture": CELL.to_dict(), "input_size": 4}
    content = {"hidden_size": 4, "tie_weights": True, "batch_norm": False, "shared_plain_start": False, "batch_size": 3}
    content |= {"text_unit": "word", "vocabulary": ["<eos>", "a", "b", "<unk>"], **found, **changes}
    torch.manual_seed(0)
    model = LanguageModel(**content).eval()
    for weight in model.parameters():
        torch.nn.init.uniform_(weight, -1, 1)
    return model


def test_a_text_is_one_sequence_or_columns_and_features_are_of_each_text_alone():
    model = language_model()
    text = "a b a\n\nb c <eos>\na"
    words = model.encode(text)
    assert words.tolist() == [1, 2, 1, 0, 0, 2, 3, 0, 1, 0] and model.encode("").tolist() == []
    logits, _ = model(words.roll(1).unsqueeze(1))
    nll = torch.nn.functional.cross_entropy(logits[:, 0], words)
    assert model.perplexity(text, columns=1) == pytest.approx(float(nll.detach().exp()), rel=1e-6)
    pieces = [*zip(words.tensor_split(3), words.roll(1).tensor_split(3), strict=True)]
    total = sum(torch.nn.functional.cross_entropy(model(read[:, None])[0][:, 0], wanted, reduction="sum")
                for wanted, read in pieces)  # fmt: skip
    assert model.perplexity(text) == pytest.approx(float((total / len(words)).detach().exp()), rel=1e-6)
    features = model.features(["a b", "b a a b"])
    torch.testing.assert_close(features[:1], model.features(["a b"]))
    with pytest.raises(ValueError, match="the text has no words"):
        model.perplexity("")
    with pytest.raises(ValueError, match="'c' is not in the vocabulary, which has no <unk>"):
        language_model(vocabulary=["<eos>", "a", "b"]).encode("a c")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda model: model.features(["", "a"]), "features need at least one text, and each text at least one word"),
        (lambda model: model.features([]), "features need at least one text"),
        (lambda model: model.features([""]), "features need at least one text"),
        (lambda model: model.features("a text"), "give a list of texts"),  # not one row a letter
        (
            lambda model: model.perplexity("a", columns=-1),
            "columns is -1; it must be at least 1, or 0 for those of the",
        ),
        (lambda model: model.generate(temperature=0), "temperature is 0; it must be a number above 0"),
        (lambda model: model.generate(temperature=-1.0), "temperature is -1.0; it must be a number above 0"),
        (lambda _: language_model(batch_first=True), "batch_first is True; a language model takes words as [T, B]"),
    ],
)
def test_wrong_arguments_of_a_language_model_are_refused(call, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        call(language_model())


def test_batch_statistics_end_with_the_perplexity_even_if_it_fails():
    model = language_model(batch_norm=True)
    model.norm_scale.fill_(1.0)
    expected, _ = model(torch.tensor([[1, 2]]))
    assert model.perplexity("a b a") == model.perplexity("\ufeffa b a\n") > 0
    with pytest.raises(IndexError):
        model.perplexity(torch.tensor([1, 99]))
    assert model(torch.tensor([[1, 2]]))[0].equal(expected)


def test_a_folder_is_loaded_in_another_type_and_elsewhere(runs, tmp_path, rendered):
    taken = export(runs["search"], tmp_path / "taken")
    for make in (Cell, LanguageModel):
        single, double = make.load(taken), make.load(taken, dtype=torch.float64)
        assert {weight.dtype for weight in double.state_dict().values()} == {torch.float64}
        for name, weight in double.state_dict().items():
            assert weight.equal(single.state_dict()[name].double())
        assert all(weight.is_meta for weight in make(**rnn_reference.read(taken), device="meta").state_dict().values())
    assert double.perplexity("a b", columns=1) == pytest.approx(single.perplexity("a b", columns=1), rel=1e-4)


OWN_OPERATION = """
from torch import nn


class Scaled(nn.Conv2d):
    def __init__(self, channels, stride):
        super().__init__(channels, channels, 1, stride, bias=False)

    def forward(self, x):
        return super().forward(x) * {scale}
"""


@pytest.mark.parametrize("kind", ["macro", "micro"])
def test_two_folders_have_an_operation_of_the_same_name_each(tmp_path, kind):
    place = {"macro": 1, "micro": ("normal", 3)}[kind]
    network = FITTING[kind].replace_part("sep5x5", place)
    made = convolutional.exported(network, shared(kind).state_dict(), Config(network_type="cnn", cnn_space=kind))
    data = json.loads(json.dumps(network.to_dict()).replace("sep5x5", "scaled"))
    found = []
    for scale in (1, 2):
        content = {**made.settings, "architecture": data, "operations": {"scaled": "own_scaled.Scaled"}}
        (tmp_path / str(scale)).mkdir()
        (tmp_path / str(scale) / "own_scaled.py").write_text(OWN_OPERATION.format(scale=scale))
        found.append(Classifier(**content, folder=str(tmp_path / str(scale))))
    scaled = [[each for each in one.modules() if type(each).__name__ == "Scaled"] for one in found]
    for one, other in zip(*scaled, strict=True):
        other.load_state_dict(one.state_dict())
        ones = torch.ones(1, one.in_channels, 2, 2)
        torch.testing.assert_close(other(ones), 2 * one(ones))
    assert scaled[0] and "scaled" not in network_module.Operations.convolutions


def test_generated_words_are_as_likely_as_the_model_says():
    model = language_model()
    logits = model(torch.tensor([[0], [1]]))[0].detach()
    logits[..., 3] = -torch.inf
    expected = logits[-1, 0].softmax(0)[:3].tolist()
    torch.manual_seed(0)
    counts = Counter(model.generate("a ", num=1) for _ in range(2000))
    names = {"a \n": expected[0], "a a ": expected[1], "a b ": expected[2]}
    shares = np.array([*names.values()])
    assert {*counts} <= {*names}
    assert chisquare([counts[name] for name in names], 2000 * shares / shares.sum()).pvalue > 1e-3
    assert model.generate("a ", num=3, temperature=1e-4) == model.generate("a ", num=3, temperature=1e-4)


@pytest.mark.parametrize("kind", ["search", "micro"])
def test_hugging_face_loads_the_folder(runs, tmp_path, rendered, monkeypatch, kind):
    """In a process of its own, for transformers loads much; offline; the logits are equal."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'enas[hf]'")
    taken = export(runs[kind], tmp_path / "net")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = subprocess.run([sys.executable, "-c", HUGGING_FACE], cwd=taken, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


HUGGING_FACE = """
import torch
from transformers import AutoModel
import model
found = AutoModel.from_pretrained(".", trust_remote_code=True)
own = getattr(model, "Network", None) or model.LanguageModel
given = torch.randn(2, 3, 16, 16) if own is not getattr(model, "LanguageModel", None) else torch.randint(10, (5, 3))
with torch.no_grad():
    mine, theirs = own.load()(given), found(given)
assert torch.equal(*(each if isinstance(each, torch.Tensor) else each[0] for each in (mine, theirs))) or exit(mine)
found.save_pretrained("../again")
"""


def test_a_model_without_build_has_no_part_for_hugging_face(runs, tmp_path, rendered, monkeypatch):
    """A search space of a user's own may have any model.py."""
    (tmp_path / "mine.py").write_text(Path(rnn_reference.__file__).read_text().replace("\nbuild = ", "\nmade = "))

    def exported(*args, **settings):
        found, *rest = run_module.exported(*args, **settings)
        return replace(found, source=tmp_path / "mine.py"), *rest

    monkeypatch.setattr(folder_module, "run", SimpleNamespace(exported=exported))
    taken = export(runs["search"], tmp_path / "taken")
    assert (taken / "model.py").read_text() == (tmp_path / "mine.py").read_text()
    assert not (taken / "modeling_enas.py").exists()
    assert "modeling_enas" not in (taken / "README.md").read_text() + (taken / "config.json").read_text()


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("search", {}, "exists already; name a new folder"),
        ("scratch", {"dag_path": "x.json"}, "has the weights of one architecture; leave --dag_path out"),
        ("search", {"dag_path": "deep.json"}, "the run has no weights edges.3_4; the cell is not one of its search"),
        ("search", {"dag_path": "net.json"}, "a recurrent cell is needed here"),
        ("search", {"load_path": "nothing"}, "load_path nothing: no such run"),
        ("search", {"output": "."}, ".: exists already; name a new folder"),
    ],
)
def test_an_export_that_is_impossible_is_refused(runs, tmp_path, monkeypatch, kind, changes, reason):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    (tmp_path / "deep.json").write_text(RNNCell(("tanh",) * 5, (0, 1, 2, 3)).to_json())
    (tmp_path / "net.json").write_text(tiny.NETWORKS["macro"].to_json())
    (tmp_path / "other.json").write_text(CELL.to_json())  # another one of the search has its weights
    folder = export(runs["search"], tmp_path / "other", dag_path=tmp_path / "other.json")
    assert "\nIt has the weights of the search" in (folder / "README.md").read_text()  # no search found it
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


def test_a_title_counts_the_layers_that_are_left():
    network, config = tiny.NETWORKS["macro"].remove_node(1), Config(network_type="cnn", mode="single")
    found = convolutional.exported(network, alone("macro", network).state_dict(), config)
    assert found.title == "A convolutional network of 2 layers"


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


@pytest.mark.slow
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


class Branches(torch.nn.Module):
    """What no graph can hold: a branch that depends on the data."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_module_that_onnx_cannot_hold_is_refused_in_one_line(tmp_path, onnxruntime, capfd):
    exported = SimpleNamespace(module=Branches, inputs={"x": torch.ones(2, 3)}, outputs=("y",), dynamic=({},))
    with pytest.raises(UserError, match="ONNX cannot have this module"):
        write_onnx(exported, tmp_path / "model.onnx")
    assert capfd.readouterr().err == ""


def test_without_the_extra_an_export_names_the_package_to_install(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "PACKAGES", ("no_such_package",))
    with pytest.raises(UserError, match=re.escape("no_such_package: not installed; pip install 'enas[onnx]'")):
        export(runs["search"], tmp_path / "cell", onnx=True)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["<script>", "![x](y)", "[x](http:y) **b** `c` # |", "a|b", "\"'><b>", "\\&lt;", "a\n# b"]
)
def test_the_card_shows_a_name_as_it_is(name):
    shown = _literal(name)
    assert not re.search(r"(?<!\\)(\\\\)*[`*_\[\]<>&|!#~\n]", shown)
    assert re.sub(r"\\(.)", r"\1", shown) == " ".join(name.split())

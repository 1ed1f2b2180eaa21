"""Whatever a file or a command line holds: it is used, or refused with a UserError, and nothing else happens."""

import contextlib
import io
import json
import resource
import string
import sys

import numpy as np
import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from enas.cnn.images import load_images
from enas.config import Config, all_settings, read_preset
from enas.data.builtin import SPLITS
from enas.errors import UserError
from enas.parser import Parser, parse_flags
from enas.rnn.text import load_corpus
from enas.runs.folder import saved_config
from enas.search.architecture import architecture_from_dict
from enas.search.checkpoint import load_checkpoint
from enas.search.formats import FORMATS, read_architecture, write_architecture

# One folder for all examples of a test: each writes the same files anew.
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MB = 2**20


def used(action):
    """What `action` returns; None where it is refused as it should be."""
    try:
        return action()
    except UserError as error:
        assert str(error).strip()
        return None


WORDS = st.lists(
    st.sampled_from(["a", "b", "the", "<unk>", "<eos>", "ω", "\u2003", "\ufeff", " ", "  ", "\t"]), max_size=12
)
LINES = st.lists(WORDS.map(" ".join), max_size=6).map("\n".join).map(str.encode)
BYTES = st.one_of(st.binary(max_size=60), LINES, st.builds(bytes.__add__, LINES, st.binary(max_size=4)))


@FUZZ
@given(contents=st.tuples(BYTES, BYTES, BYTES), unit=st.sampled_from(["word", "character"]), count=st.integers(1, 3))
def test_any_text_is_read_or_refused(tmp_path, contents, unit, count):
    folder = tmp_path / "own"
    folder.mkdir(exist_ok=True)
    for split, content in zip(SPLITS, contents, strict=True):
        (folder / f"{split}.txt").write_bytes(content)
    corpus = used(lambda: load_corpus("own", data_dir=tmp_path, vocab_min_count=count, text_unit=unit))
    assert {path.name for path in tmp_path.rglob("*")} == {"own", "train.txt", "valid.txt", "test.txt"}
    if corpus is None:
        return
    num = len(corpus.vocabulary)
    for split, content in zip(SPLITS, contents, strict=True):
        tokens = getattr(corpus, split)
        assert len(tokens) and 0 <= int(tokens.min()) <= int(tokens.max()) < num
        lines = content.decode("utf-8").split("\n")
        lines = lines[:-1] if lines[-1] == "" else lines
        lines = [line.removeprefix("\ufeff") for line in lines]
        brought = sum(line.split()[-1:] == ["<eos>"] for line in lines) if unit == "word" else 0
        units = sum(len(line.split()) if unit == "word" else len(line.rstrip("\r\n")) for line in lines)
        assert len(tokens) == units + len(lines) - brought


@pytest.mark.slow
def test_a_line_of_50_mb_takes_little_memory(tmp_path):
    """Its 13 million words would take a gigabyte as Python's strings."""
    tiny.write_corpus(tmp_path / "own")
    (tmp_path / "own" / "train.txt").write_bytes(b"the cat " * (50 * MB // 8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    corpus = load_corpus("own", data_dir=tmp_path)
    assert len(corpus.train) == 2 * (50 * MB // 8) + 1
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of what the system counts
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 200 * MB


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KNOWN = [
    {"type": "rnn_cell", "num_blocks": 2, "nodes": [0, 1], "activations": ["tanh", "ReLU"], "previous": [0]},
    tiny.NETWORKS["macro"].to_dict(),
    tiny.NETWORKS["micro"].to_dict(),
]


@st.composite
def changed(draw, known: dict):
    """A copy of plain data in which one value, somewhere, is another."""
    value = json.loads(json.dumps(known))
    place = value
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        if isinstance(place, dict) and draw(st.booleans()):
            del place[key]
        else:
            place[key] = draw(JSON)
        return value


@FUZZ
@given(data=st.one_of(JSON, *(changed(one) for one in KNOWN)))
def test_any_json_is_an_architecture_or_refused(data):
    architecture = used(lambda: architecture_from_dict(data))
    if architecture is not None:
        assert architecture_from_dict(architecture.to_dict()) == architecture
        json.loads(architecture.to_json())


@FUZZ
@given(
    name=st.sampled_from([*FORMATS]),
    text=st.one_of(
        st.text(string.printable, max_size=60),
        st.lists(st.integers(-2, 12), max_size=60).map(lambda row: " ".join(map(str, row))),
        st.sampled_from([
            "Genotype(recurrent=[('relu', 0), ('tanh', 1)], concat=range(1, 3))", "__import__('os').system('true')",
            "Genotype(recurrent=[('relu', 9)], concat=range(10**9))", "(" * 5000, "Genotype(recurrent=[[]], concat=3)",
            "[" * 100_000, '{"a":' * 50_000, "1" * 5000, "NaN",
        ]),
    ),
)  # fmt: skip
def test_any_line_is_an_architecture_or_refused(name, text):
    architecture = used(lambda: read_architecture(text, name))
    if architecture is not None:
        assert read_architecture(write_architecture(architecture, "json"), "json") == architecture


@FUZZ
@given(data=st.one_of(JSON, changed(Config(dataset="tiny").to_dict())))
def test_any_params_json_is_read_or_refused(tmp_path, data):
    (tmp_path / "params.json").write_text(json.dumps(data))
    config = used(lambda: saved_config(tmp_path))
    assert config is None or Config(**config.to_dict()) == config


@FUZZ
@given(
    text=st.one_of(
        st.text(max_size=60), st.sampled_from(["batch_size = 2", "import os", "a = b = 1", "x = " + "(" * 300])
    )
)
def test_any_config_file_is_read_or_refused(tmp_path, text):
    path = tmp_path / "own.py"
    path.write_text(text, encoding="utf-8", errors="surrogatepass" if text.isprintable() else "replace")
    used(lambda: read_preset(str(path)))


def _bytes(write) -> bytes:
    """The bytes that `write` writes to a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


STATE = {"weights": torch.arange(50.0), "progress": {"epoch": 3, "history": [{"epoch": 1}]}}
CHECKPOINT = _bytes(lambda file: torch.save(STATE, file))


@FUZZ
@given(data=st.data())
def test_a_damaged_checkpoint_is_read_whole_or_refused(tmp_path, data):
    """Bits flipped, parts cut off, put in, or repeated; a state that is read all the same is the one written."""
    content = bytearray(CHECKPOINT)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "drop", "put in"]))
        if how == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut":
            del content[max(1, place) :]
        elif how == "drop":
            del content[place : min(place + 20, len(content) - 1)]
        else:
            content[place:place] = data.draw(st.binary(max_size=20))
    path = tmp_path / "one.pt"
    path.write_bytes(content)
    found = used(lambda: load_checkpoint(path))
    assert found is None or tiny.difference(found, STATE) is None


PNG = _bytes(lambda file: Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(file, "PNG"))
IMAGES = st.one_of(
    st.just(PNG),
    st.binary(max_size=40),
    st.integers(1, len(PNG)).map(lambda end: PNG[:end]),
    st.tuples(st.integers(0, len(PNG) - 1), st.integers(1, 255)).map(
        lambda at: PNG[: at[0]] + bytes([PNG[at[0]] ^ at[1]]) + PNG[at[0] + 1 :]
    ),
)
NAMES = st.sampled_from(
    ["a/1.png", "a/2.png", "b/1.png", "b/x.jpg", "1.png", "a/.hidden.png", "a/note.txt", "b/c/1.png"]
)


@settings(FUZZ, max_examples=40)
@given(files=st.dictionaries(st.tuples(st.sampled_from(SPLITS), NAMES), IMAGES, max_size=9))
def test_any_image_folder_is_read_or_refused(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("images")
    for split in SPLITS:
        for name in ("a/0.png", "b/0.png"):
            files.setdefault((split, name), PNG)
    for (split, name), content in files.items():
        path = folder / "own" / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    before = tiny.tree(folder)
    images = used(lambda: load_images("own", data_dir=folder))
    assert tiny.tree(folder) == before
    if images is not None:
        assert images.train.size == (8, 8) and len(images.train) == len(images.train.labels) > 0


FLAGS = st.lists(
    st.one_of(
        st.sampled_from([f"--{name}" for name in all_settings()]),
        st.sampled_from(
            ["--config", "demo", "true", "1", "-1", "0.5", "tanh,ReLU", "cnn", "--", "-h2", "--x=1", "1e999", "nan"]
        ),
        st.text(max_size=6),
    ),
    max_size=6,
)


@settings(FUZZ, max_examples=150)
@given(words=FLAGS)
def test_any_flags_are_taken_or_refused(words):
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            given_settings = used(lambda: parse_flags(Parser("fuzz"), words))
        except SystemExit as end:  # --help, and what begins like -h
            assert end.code == 0
            return
    if given_settings is not None:
        used(lambda: Config(**{name: value for name, value in given_settings.items() if name != "config"}))

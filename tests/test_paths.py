"""Paths and lines from outside: one function takes every path, whichever flag, setting or argument gives it."""

import os

import pytest
import tiny
from tiny import main

import enas
from enas.config import Config
from enas.data.download import install
from enas.export.folder import export
from enas.files import read_text
from enas.parser import Parser, parse_flags
from enas.report.animation import animate
from enas.report.page import report
from enas.rnn.text import load_corpus
from enas.search import own_code
from enas.search.architecture import load_architecture
from enas.studies.settings import EvaluationConfig
from enas.studies.truth import load_table

PATHS = ("load_path", "dag_path", "log_dir", "data_dir")


@pytest.mark.parametrize("name", PATHS)
def test_a_path_begins_at_home_where_it_says_so(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = Config(**{name: "~/there", "mode": "single"})
    assert getattr(config, name) == str(tmp_path / "there") == getattr(config.replace(max_epoch=1), name)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("path", ["~nobody_is_called_so/x", "a\0b", "a\ud800b", os.fsdecode(b"caf\xe9")])
def test_a_path_that_no_file_can_have_is_refused_by_the_name_of_its_setting(name, path):
    with tiny.refused(f"{name} is "):
        Config(**{name: path})


@pytest.mark.parametrize(
    "call",
    [
        lambda path: animate("run", path),
        lambda path: report("run", path),
        lambda path: export("run", path),
        lambda path: load_architecture(path),
        lambda path: load_table(path),
        lambda path: enas.load(path),
        lambda path: enas.load("x", log_dir=path),
        lambda path: install("ptb", path),
        lambda path: install("ptb", source=path),
        lambda path: load_corpus("letters", data_dir=path),
        lambda path: own_code.use([f"{path}.py"]),
        lambda path: EvaluationConfig(budget=path, table="x"),
        lambda path: Config(config=f"{path}.py"),
    ],
)
def test_functions_take_paths_as_settings_do(call):
    with tiny.refused("no such home folder, and ./~"):
        call("~nobody_is_called_so/x")


# --- what a setting may ask for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ({}, "num_threads", 100_000),
        ({}, "num_blocks", 100_000),
        ({"network_type": "cnn"}, "cnn_num_layers", 100_000),
        ({"network_type": "cnn"}, "image_size", 1_000_000),
        ({"network_type": "cnn", "cnn_space": "micro"}, "cnn_num_blocks", 100_000),
    ],
)
def test_a_size_beyond_all_machines_is_refused_by_the_name_of_its_setting(kind, name, value):
    with tiny.refused(f"{name} is {value}; it must lie in ["):
        Config(**kind, **{name: value})


def test_lack_of_memory_names_the_largest_settings(tmp_path, capsys):
    settings = tiny.settings(tmp_path, shared_hid=400_000, shared_embed=400_000)
    assert main(tiny.flags(settings)) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: out of memory; smaller sizes need less")


@pytest.mark.parametrize("value", ["-1e-1", "-.1", "-0.1"])
def test_a_negative_number_is_a_value_and_no_flag(value):
    assert parse_flags(Parser("test"), ["--size_beta", value]) == {"size_beta": -0.1}


def test_a_folder_that_is_read_as_a_file_leaves_no_descriptor_open(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else pytest.skip("there is no /proc")
    for _ in range(3):
        with tiny.refused(f"{tmp_path}: is no regular file"):
            read_text(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before

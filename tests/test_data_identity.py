"""Weights mean something on the data they were trained on: other data is refused, and the line says what differs."""

import json
import os
import shutil

import pytest
import tiny
from tiny import run_command

from enas.cnn.batches import FileImages, MemoryImages
from enas.cnn.images import load_images
from enas.data.identity import READ
from enas.rnn.text import load_corpus
from enas.runs import run

SPLITS = ("train", "valid", "test")


def swapped(text: str, one: str, other: str) -> str:
    """Two words in each other's place: the counts and the lengths stay."""
    return " ".join({one: other, other: one}.get(word, word) for word in text.split(" "))


@pytest.mark.parametrize(
    ("command", "mode"),
    [
        *(("search", mode) for mode in ("train", "derive", "test", "train_scratch")),
        *(("ablate node_removal", mode) for mode in ("derive", "train_scratch")),
    ],
)
def test_other_words_with_the_same_counts_are_refused(folder, tmp_path, capsys, command, mode):
    """The two most frequent words have changed places."""
    data, vocabulary = tmp_path / "other", load_corpus("tiny", data_dir=tmp_path / "data").vocabulary
    shutil.copytree(tmp_path / "data", data)
    for path in data.glob("tiny/*.txt"):
        lines = path.read_text().splitlines()
        words = [word for word in vocabulary if "<" not in word][:2]
        path.write_text("".join(swapped(line, *words) + "\n" for line in lines))
    before = tiny.tree(folder)
    argv = ["--load_path", str(folder), "--mode", mode, "--data_dir", str(data)]
    line = tiny.refusal(argv, tmp_path, capsys, lambda flags: run_command(command, flags))
    assert f"{folder}: tiny is not the data that this run was begun with: " in line
    assert "its vocabulary (entry " in line or "the train split" in line
    assert tiny.tree(folder) == before


@pytest.mark.parametrize("split", SPLITS)
def test_one_more_line_of_one_split_is_refused(folder, tmp_path, capsys, split):
    path = tmp_path / "data" / "tiny" / f"{split}.txt"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    line = tiny.refusal(["--load_path", str(folder), "--mode", "test"], tmp_path, capsys)
    assert f"the {split} split changed; put it back, name it" in line or (split == "train" and "vocabulary" in line)


def test_the_same_data_in_another_place_is_the_same(folder, tmp_path):
    (tmp_path / "data").rename(tmp_path / "moved")
    found = run.test(folder, data_dir=str(tmp_path / "moved"))
    assert found["test_perplexity"] > 1


def test_the_run_folder_says_what_the_indices_mean(trained):
    saved = json.loads((trained / "data.json").read_text())
    assert tuple(saved["names"]) == load_corpus("tiny", data_dir=trained.parent.parent / "data").vocabulary
    assert saved["kind"] == "vocabulary" and set(saved["splits"]) == set(SPLITS)


@pytest.mark.parametrize("mode", ["derive", "test"])
def test_images_of_another_class_and_a_class_of_another_name_are_refused(tmp_path, capsys, mode):
    folder, data = tiny.run_in(tmp_path, network_type="cnn"), tmp_path / "data" / "tiny"
    if mode == "derive":
        first, second = data / "train/red/0.png", data / "train/green/0.png"
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
    else:
        for split in SPLITS:
            (data / split / "red").rename(data / split / "scarlet")
    line = tiny.refusal(["--load_path", str(folder), "--mode", mode], tmp_path, capsys)
    says = {"derive": "the train split changed", "test": "its classes (entry 2 was 'red' and is 'scarlet')"}[mode]
    assert f"tiny is not the data that this run was begun with: {says}" in line


def test_images_are_the_same_in_memory_and_on_disk(tmp_path):
    tiny.write_images(tmp_path / "tiny")
    here, there = (load_images("tiny", data_dir=tmp_path, memory_limit=limit) for limit in (2**30, 0))
    assert type(here.train) is MemoryImages and type(there.train) is FileImages
    assert here.identity == there.identity


def test_a_change_behind_the_first_bytes_of_an_image_is_seen_by_its_size(tmp_path):
    tiny.write_images(tmp_path / "tiny")
    path = tmp_path / "tiny" / "train" / "red" / "0.png"
    path.write_bytes(path.read_bytes() + bytes(READ))
    before = load_images("tiny", data_dir=tmp_path).identity
    path.write_bytes(path.read_bytes() + b"more")
    assert load_images("tiny", data_dir=tmp_path).identity.changes_since(vars(before)) == ["the train split"]


def test_names_of_images_need_not_be_utf_8_and_names_of_classes_must(tmp_path):
    tiny.write_images(tmp_path / "tiny")
    red = tmp_path / "tiny" / "train" / "red"
    (red / "0.png").rename(red / os.fsdecode(b"caf\xe9.png"))
    for split in SPLITS:
        (tmp_path / "tiny" / split / "blue").rename(tmp_path / "tiny" / split / "~blue")  # no home folder
    assert load_images("tiny", data_dir=tmp_path).classes == ("green", "red", "~blue")
    red.rename(red.with_name(os.fsdecode(b"caf\xe9")))
    with tiny.refused("caf\\udce9'; it must be UTF-8"):
        load_images("tiny", data_dir=tmp_path)

"""Image datasets: CIFAR-10's batches, folders of images, what is refused, and the minibatches cut from them."""

import io
import itertools
import pickle
import random
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import pixels, write, write_folder
from PIL import Image

from enas.cnn.batches import (
    READ_AHEAD,
    FileImages,
    MemoryImages,
    TrainingImages,
    channel_statistics,
    evaluation_batches,
)
from enas.cnn.cifar import read_cifar
from enas.cnn.folder import LAYOUT, read_image
from enas.cnn.images import ROTATIONS, load_images, stratified_choice
from enas.data import builtin
from enas.data.builtin import SPLITS
from enas.errors import NotFoundError
from enas.guard import guarded


def load(folder: Path, name: str = "mine", **settings):
    return load_images(name, data_dir=folder, **settings)


def split_of(num: int, size: int = 2) -> MemoryImages:
    """Images that all differ, and labels that are their numbers."""
    generator = torch.Generator().manual_seed(num)
    images = torch.randint(256, (num, 3, size, size), generator=generator, dtype=torch.uint8)
    return MemoryImages(images, torch.arange(num))


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------

NAMES = ["airplane", "automobile", "bird"]
PER_BATCH = 12


UNREADABLE, REPLACE = "is not a readable image", "replace or remove it; images have 8 bits a channel and at most"


class Python2Pickler(pickle._Pickler):
    """Pickles text and bytes alike as Python 2's strings, as the official files have them."""

    def save_string(self, value):
        content = value if isinstance(value, bytes) else value.encode()
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(value)


# Subclasses of Python's pickler look here for how to write a type.
Python2Pickler.dispatch = {
    **pickle._Pickler.dispatch,
    str: Python2Pickler.save_string,
    bytes: Python2Pickler.save_string,
}


def dump_like_python_2(content: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def dump_like_python_3(content: object) -> bytes:
    return pickle.dumps(content, protocol=2)


def dump_as_newer_python(content: object) -> bytes:
    return pickle.dumps(content, protocol=4)


def batch(number: int) -> dict:
    rng = np.random.RandomState(number)
    data = rng.randint(0, 256, (PER_BATCH, 3072), dtype=np.uint8)
    return {"data": data, "labels": [i % 3 for i in range(PER_BATCH)], "batch_label": f"batch {number}"}


def write_cifar(folder: Path, dump=dump_like_python_2) -> Path:
    folder.mkdir(parents=True)
    for number in range(5):
        (folder / f"data_batch_{number + 1}").write_bytes(dump(batch(number)))
    (folder / "test_batch").write_bytes(dump(batch(5)))
    (folder / "batches.meta").write_bytes(dump({"label_names": NAMES, "num_vis": 3072}))
    return folder


@pytest.mark.parametrize("dump", [dump_like_python_2, dump_like_python_3, dump_as_newer_python])
@pytest.mark.parametrize("place", ["cifar10", "cifar10/cifar-10-batches-py"])
def test_official_batches_of_either_python_in_either_place(tmp_path, dump, place):
    write_cifar(tmp_path / place, dump)
    classes, train, test = read_cifar(tmp_path / "cifar10")
    assert classes == tuple(NAMES)
    expected = np.concatenate([batch(number)["data"] for number in range(5)]).reshape(-1, 3, 32, 32)
    assert np.array_equal(train.images, expected)
    assert np.array_equal(test.images, batch(5)["data"].reshape(-1, 3, 32, 32))
    row, planes = batch(0)["data"][7], train.images[7]  # red, green and blue, each row by row
    assert planes[0, 0, 1] == row[1] and planes[0, 1, 0] == row[32] and planes[2, 3, 4] == row[2048 + 100]
    assert train.labels.tolist() == [0, 1, 2] * 20 and test.labels.tolist() == [0, 1, 2] * 4


def test_the_fine_classes_of_cifar100(tmp_path):
    folder = tmp_path / "cifar100"
    folder.mkdir()
    for name, number in (("train", 0), ("test", 1)):
        content = batch(number)
        labels = content.pop("labels")
        (folder / name).write_bytes(dump_like_python_2({**content, "fine_labels": labels, "coarse_labels": [0] * 12}))
    (folder / "meta").write_bytes(dump_like_python_2({"fine_label_names": NAMES, "coarse_label_names": ["things"]}))
    dataset = load_images("cifar100", data_dir=tmp_path, valid_size=3)
    assert dataset.name == "cifar100" and dataset.classes == tuple(NAMES)
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (9, 3, 12)
    assert sorted(dataset.valid.labels.tolist()) == [0, 1, 2]
    (folder / "meta").write_bytes(dump_like_python_2({"label_names": NAMES}))
    with tiny.refused(
        "meta: is not one of CIFAR-100's Python batches (it needs a list fine_label_names of class names)"
    ):
        load_images("cifar100", data_dir=tmp_path)


def labelled(images: np.ndarray | torch.Tensor, labels: list[int]) -> set[tuple[bytes, int]]:
    return {(np.asarray(image).tobytes(), label) for image, label in zip(images, labels, strict=True)}


def test_validation_is_held_out_of_the_training_batches_alone_whatever_the_seed(tmp_path):
    write_cifar(tmp_path / "cifar10")
    dataset = load(tmp_path, "cifar", valid_size=15)
    parts = (dataset.train, dataset.valid, dataset.test)
    train, valid, test = (labelled(part.images, part.labels.tolist()) for part in parts)
    assert train | valid == set().union(*(labelled(batch(n)["data"], batch(n)["labels"]) for n in range(5)))
    assert not train & valid and test == labelled(batch(5)["data"], batch(5)["labels"])
    assert dataset.valid.labels.bincount().tolist() == [5, 5, 5]
    assert dataset.notes == ("cifar10: 15 of 60 training images are held out for validation",)
    torch.manual_seed(2), np.random.seed(2), random.seed(2)
    assert torch.equal(load(tmp_path, "cifar10", valid_size=15).valid.images, dataset.valid.images)
    # A run from scratch may hold out others than its search, and resize the images.
    assert load(tmp_path, "cifar10", valid_size=0, image_size=16).identity == dataset.identity


@pytest.mark.parametrize("image_size", [0, 16])
def test_without_validation_images_all_are_trained_on_in_any_size(tmp_path, image_size):
    write_cifar(tmp_path / "cifar10")
    dataset = load(tmp_path, "cifar10", valid_size=0, image_size=image_size)
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (60, 0, 12)
    assert dataset.notes == ("cifar10: all 60 images are trained on and none validates; the last epoch is tested",)
    side = image_size or 32
    assert dataset.train.images.shape[2:] == dataset.test.images.shape[2:] == (side, side)
    whole = torch.from_numpy(batch(5)["data"]).view(-1, 3, 32, 32).float()
    difference = dataset.test.images - torch.nn.functional.avg_pool2d(whole, 32 // side)
    assert difference.abs().mean() < 20  # of noise that, unrelated, would differ by 50 or so


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.data())
def test_a_stratified_choice_takes_the_same_share_of_every_class(labels, data):
    num = data.draw(st.integers(0, len(labels)))
    keys = data.draw(st.permutations(range(len(labels))))
    labels = np.array(labels)
    chosen = stratified_choice(labels, num, keys)
    assert chosen.sum() == num
    for label in np.unique(labels):
        inside = chosen[labels == label]
        assert abs(inside.sum() - num * len(inside) / len(labels)) <= 1
        own = np.array(keys)[labels == label]
        assert not inside.any() or inside.all() or own[inside].max() < own[~inside].min()


def wrong(**changes) -> bytes:
    return dump_like_python_2(batch(0) | changes)


NO_BATCH = "it needs data [images, 3072], and as many labels, integers below 3"
NO_CIFAR = [  # a file, what it holds, what is wrong with it
    ("data_batch_3", b"", "Ran out of input"),
    ("data_batch_3", dump_like_python_2(batch(0))[:-1000], ""),
    ("data_batch_3", dump_like_python_2([1, 2]), "'list' object has no attribute 'items'"),
    ("data_batch_3", dump_like_python_2({}), NO_BATCH),
    ("data_batch_3", wrong(data=np.zeros((PER_BATCH, 3071), np.uint8)), NO_BATCH),
    ("data_batch_3", wrong(data=np.zeros((0, 3072), np.uint8), labels=[]), NO_BATCH),
    ("data_batch_3", wrong(data=np.zeros((PER_BATCH, 3072), np.float32)), "it has an array of f4; expected u1"),
    ("data_batch_3", wrong(data=[0] * 3072), NO_BATCH),
    ("data_batch_3", wrong(labels=[0] * 11), NO_BATCH),
    *(("data_batch_3", wrong(labels=[label] * PER_BATCH), NO_BATCH) for label in (3, -1, 0.0)),
    ("data_batch_3", pickle.dumps(batch(0) | {"extra": np.load}), "it asks for numpy.load, which no dataset needs"),
    ("test_batch", pickle.dumps(batch(0) | {"extra": eval}), "it asks for builtins.eval, which no dataset needs"),
    *(
        ("batches.meta", dump_like_python_2(names), "it needs a list label_names of class names")
        for names in ({}, *({"label_names": names} for names in ("cat", [1, 2], ["cat"])))
    ),
]


@pytest.mark.parametrize(("file", "content", "says"), NO_CIFAR)
def test_a_file_that_is_not_of_cifar(tmp_path, file, content, says):
    path = write_cifar(tmp_path / "cifar10") / file
    path.write_bytes(content)
    with tiny.refused(f"{path}: is not one of CIFAR-10's Python batches (") as caught:
        load(tmp_path, "cifar10", valid_size=15)
    assert f"({says}" in str(caught.value)
    assert str(caught.value).endswith("remove it, and get it with: python -m enas download cifar10")


# --- folders ----------------------------------------------------------------------------------------------------------


def test_class_folders(tmp_path):
    write_folder(tmp_path / "mine")
    dataset = load(tmp_path)
    assert (dataset.name, dataset.classes, dataset.is_rotation, dataset.notes) == ("mine", ("cat", "dog"), False, ())
    assert [len(dataset.train), len(dataset.valid), len(dataset.test)] == [12, 6, 8]
    mean, std = channel_statistics(dataset.train)
    assert torch.equal(dataset.mean, mean) and torch.equal(dataset.std, std)
    numbers = itertools.count()
    for split, count in (("train", 6), ("valid", 3), ("test", 4)):
        images, labels = getattr(dataset, split).images, getattr(dataset, split).labels
        assert labels.tolist() == [0] * count + [1] * count
        assert images.dtype == torch.uint8
        for image in images:
            assert np.array_equal(image.permute(1, 2, 0), pixels(next(numbers)))


def test_no_class_folders_mean_rotation(tmp_path):
    write_folder(tmp_path / "mine", classes=())
    dataset = load(tmp_path)
    assert dataset.is_rotation and dataset.classes == ROTATIONS
    assert [len(dataset.train), len(dataset.valid), len(dataset.test)] == [6, 3, 4]
    assert dataset.train.labels.tolist() == [0] * 6
    (note,) = dataset.notes
    assert note.endswith("has no class folders; the search trains on telling rotations by 0°, 90°, 180° and 270°")


def test_the_image_of_another_size_is_named_even_if_it_is_the_first(tmp_path):
    write_folder(tmp_path / "mine", classes=())
    write(tmp_path / "mine" / "train" / "0.png", pixels(0, 1, 60_000))
    with tiny.refused("mine/train/0.png: is 60000 × 1 pixels, not "):
        load(tmp_path)


def test_rotation_alone_needs_square_images(tmp_path):
    for split in SPLITS:
        write(tmp_path / "mine" / split / "0.png", pixels(0, 6, 8))
        for name in "ab":
            write(tmp_path / "sorted" / split / name / "0.png", pixels(0, 6, 8))
    assert load(tmp_path, "sorted").train.images.shape == (2, 3, 6, 8)
    with tiny.refused("train/0.png: is 8 × 6 pixels, not 8 × 8; images have one size, and without class folders"):
        load(tmp_path)
    assert load(tmp_path, image_size=5).train.images.shape == (1, 3, 5, 5)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".jpg", ".jpeg", ".gif", ".webp"])
def test_formats(tmp_path, suffix):
    image = np.full((8, 8, 3), (200, 100, 50), dtype=np.uint8)
    write(tmp_path / f"image{suffix}", image)
    difference = abs(read_image(tmp_path / f"image{suffix}").astype(int) - image.transpose(2, 0, 1))
    assert difference.max() <= (0 if suffix.lower() in (".png", ".bmp") else 10)


def test_an_image_that_cannot_be_opened_is_no_unreadable_image(tmp_path):
    """Whoever scores candidates stops at a file that is gone, and goes on after a candidate without a score."""
    with pytest.raises(NotFoundError) as caught:
        read_image(tmp_path / "gone.png")
    assert str(caught.value).count("gone.png") == 1 and isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 100, 0, 255), (200, 100, 0)),
        ("RGBA", (200, 100, 0, 0), (255, 255, 255)),
        ("RGBA", (200, 100, 0, 51), (244, 224, 204)),  # a fifth of the colour, and four fifths of white
        ("LA", (100, 51), (224, 224, 224)),
    ],
)
def test_other_kinds_become_rgb(tmp_path, mode, colour, expected):
    write(tmp_path / "image.png", Image.new(mode, (4, 4), colour))
    read = read_image(tmp_path / "image.png")
    assert read.shape == (3, 4, 4)
    assert abs(read.astype(int) - np.reshape(expected, (3, 1, 1))).max() <= 1


@pytest.mark.parametrize("side", [9_000, 13_000])
def test_an_image_too_large_for_memory_is_refused_by_its_header(tmp_path, side):
    write_folder(tmp_path / "mine")
    path = tmp_path / "mine" / "train" / "cat" / "0.png"
    Image.new("1", (side, side)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tiny.refused(f"{path}: {UNREADABLE} ({side:,} × {side:,} pixels of Pillow's mode 1); {REPLACE}"):
            load(tmp_path, image_size=8)


def test_palette_with_a_transparent_entry(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "image.png", transparency=0)
    assert read_image(tmp_path / "image.png")[:, 0].T.tolist() == [[255, 255, 255], [40, 50, 60]]


def test_images_of_several_kinds_are_said(tmp_path):
    write_folder(tmp_path / "mine")
    for i, mode in enumerate(("L", "L", "RGBA")):
        write(tmp_path / "mine" / "train" / "cat" / f"{i}.png", Image.new(mode, (8, 8)))
    expected = "mine: images of several kinds became RGB: 23 colour, 2 grey-scale, 1 transparent"
    assert load(tmp_path).notes == (f"{expected}; what is transparent became white",)


def test_orientation_is_that_of_the_camera(tmp_path):
    image = Image.fromarray(pixels(0, 4, 6))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    image.save(tmp_path / "image.png", exif=exif)
    expected = np.rot90(pixels(0, 4, 6), -1).transpose(2, 0, 1)
    assert np.array_equal(read_image(tmp_path / "image.png"), expected)


@pytest.mark.parametrize("is_wide", [True, False])
def test_resizing_cuts_the_longer_side_around_the_middle(tmp_path, is_wide):
    image = np.zeros((10, 30, 3), dtype=np.uint8)
    image[:, 10:20] = (10, 200, 30)
    write(tmp_path / "image.png", image if is_wide else image.transpose(1, 0, 2))
    for size in (5, 10, 20):
        read = read_image(tmp_path / "image.png", size)
        assert read.shape == (3, size, size)
        assert read[:, size // 2, size // 2].tolist() == [10, 200, 30]
        assert abs(read.mean(axis=(1, 2)) - (10, 200, 30)).max() < 12  # the filter sees a little of the black around


def test_hidden_files_are_ignored_and_others_passed_over(tmp_path):
    write_folder(tmp_path / "mine")
    before = load(tmp_path)
    for name in (".DS_Store", ".hidden.png", "cat/.hidden.png"):
        (tmp_path / "mine" / "train" / name).write_bytes(b"nothing")
    (tmp_path / "mine" / "train" / ".cache").mkdir()
    for place in ("", "train", "train/dog"):  # as archives made on a Mac have it
        write(tmp_path / "mine" / place / "__MACOSX" / "._1.png", np.zeros((8, 8, 3), np.uint8))
    assert (load(tmp_path).notes, load(tmp_path).classes) == ((), ("cat", "dog"))
    (tmp_path / "mine" / "train" / "labels.csv").touch()
    (tmp_path / "mine" / "train" / "dog" / "notes.txt").touch()
    dataset = load(tmp_path)
    assert torch.equal(dataset.train.images, before.train.images)
    first = tmp_path / "mine" / "train" / "labels.csv"
    assert dataset.notes == (f"{first} and 1 more files: skipped, not an image",)


def test_a_class_missing_from_validation_is_said(tmp_path):
    write_folder(tmp_path / "mine")
    for file in (tmp_path / "mine" / "valid" / "cat").iterdir():
        file.unlink()
    for remove in (False, True):
        if remove:
            (tmp_path / "mine" / "valid" / "cat").rmdir()
        dataset = load(tmp_path)
        assert dataset.notes == (f"{tmp_path / 'mine' / 'valid'}: has no images of cat",)
        assert dataset.valid.labels.tolist() == [1, 1, 1]


# --- what is refused --------------------------------------------------------------------------------------------------


REFUSED = {  # what is done to a folder -> the path and the fault that the line names
    "no split": (lambda at: at("valid").rename(at("val")), "valid: no such folder"),
    "no images": (lambda at: [file.unlink() for file in at("test").glob("*/*")], "test: has no images"),
    "empty class": (lambda at: at("train/bird").mkdir(), "train/bird: has no images"),
    "one class": (
        lambda at: [at(split, "dog").rename(at(split, ".dog")) for split in SPLITS],
        "train/cat: is the only",
    ),
    "unknown class": (lambda at: write(at("valid/bird/0.png"), pixels(0)), "valid/bird: is no class of train"),
    "beside classes": (lambda at: write(at("train/loose.png"), pixels(0)), "train/loose.png: is out of place"),
    "no classes": (
        lambda at: (at("test").rename(at(".test")), write(at("test/loose.png"), pixels(0))),
        "test: is no class of train",
    ),
    "nested": (lambda at: at("train/cat/kittens").mkdir(), "train/cat/kittens: is out of place"),
    "size": (lambda at: write(at("test/dog/3.png"), pixels(0, 8, 9)), "test/dog/3.png: is 9 × 8 pixels, not 8 × 8"),
    **{  # Pillow runs Ghostscript on PostScript, whatever the file is called
        kind: (
            lambda at, kind=kind: Image.fromarray(pixels(0)).save(at("train/cat/0.png"), format=kind),
            f"train/cat/0.png: {UNREADABLE}",
        )
        for kind in ("EPS", "TIFF", "PPM", "PCX")
    },
    "empty": (lambda at: at("train/dog/1.png").write_bytes(b""), f"train/dog/1.png: {UNREADABLE}"),
    "cut": (lambda at: patch(at("valid/dog/1.png"), slice(-60, None), b""), f"valid/dog/1.png: {UNREADABLE}"),
    "garbled": (lambda at: patch(at("valid/dog/1.png"), slice(60, 90), bytes(30)), f"valid/dog/1.png: {UNREADABLE}"),
    "depth": (
        lambda at: write(at("valid/dog/1.png"), Image.fromarray(np.zeros((8, 8), np.uint16))),
        f"valid/dog/1.png: {UNREADABLE} (8 × 8 pixels of Pillow's mode I;16)",
    ),
}


def patch(path: Path, place: slice, content: bytes) -> None:
    changed = bytearray(path.read_bytes())
    changed[place] = content
    path.write_bytes(changed)


@pytest.mark.parametrize(("spoil", "says"), REFUSED.values(), ids=REFUSED)
def test_a_folder_that_is_no_dataset(tmp_path, spoil, says):
    folder = tmp_path / "mine"
    write_folder(folder)
    assert load(tmp_path).notes == ()
    spoil(folder.joinpath)
    right = REPLACE if UNREADABLE in says else "let --image_size do it" if "pixels" in says else LAYOUT
    with tiny.refused(f"{folder}/{says}", FileNotFoundError if "no such" in says else ValueError) as caught:
        load(tmp_path)
    assert f"; {right}" in str(caught.value) or str(caught.value).endswith(right)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        *((name, {}, f"dataset name {name!r} is not a plain name") for name in ("", "..", "a/b", "a\\b", "a\n")),
        ("flower", {}, "no such dataset; did you mean flowers?"),
        ("zzz", {}, "no such dataset; for your own images, put folders train, valid, test into"),
        ("cifar", {}, "no such dataset; get it with: python -m enas download cifar10 --data_dir "),
        ("ptb", {}, "no such dataset; ptb holds text: leave --network_type cnn out"),
        ("file", {}, "file: no such dataset, but a file; for your own images, put folders train, valid, test"),
        *(("cifar10", {"valid_size": n}, f"valid_size is {n}; it must be between 0 and 59") for n in (-1, 60, 5000)),
        ("cifar100", {}, "meta: no such file; get it with: python -m enas download cifar100"),
    ],
)
def test_what_cannot_be_loaded(tmp_path, name, settings, says):
    write_folder(tmp_path / "flowers")
    (tmp_path / "file").touch()
    if name.startswith("cifar1"):
        write_cifar(tmp_path / name)
    with tiny.refused(says, FileNotFoundError if "no such" in says else ValueError):
        load(tmp_path, name, **settings)


def test_shapes_are_made_on_first_use(tmp_path, monkeypatch):
    few = dict.fromkeys(SPLITS, 10)
    monkeypatch.setitem(builtin.IMAGE_MAKERS, "shapes", lambda folder: builtin.make_shapes(folder, num_images=few))
    dataset = load(tmp_path, "shapes")
    assert dataset.train.images.shape == (10, 3, 32, 32) and len(dataset.classes) == 10 and not dataset.notes
    assert torch.equal(load(tmp_path, "shapes").test.images, dataset.test.images)


# --- too large for memory ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same dataset in memory and left on the disk."""
    folder = tmp_path_factory.mktemp("data")
    write_folder(folder / "mine")
    return load(folder, memory_limit=26 * 8 * 8 * 3), load(folder, memory_limit=26 * 8 * 8 * 3 - 1)


def test_files_give_the_same_minibatches_as_memory(both):
    memory, files = both
    assert isinstance(memory.train, MemoryImages) and isinstance(files.train, FileImages)
    assert files.classes == memory.classes
    assert "26 images take 4.6e-06 GiB, more than the limit of 4.6e-06 GiB; they are read" in files.notes[0]
    assert torch.equal(files.mean, memory.mean) and torch.equal(files.std, memory.std)
    pairs = [
        (itertools.islice(TrainingImages(dataset.train, 5, seed=3), 7), evaluation_batches(dataset.test, 3))
        for dataset in both
    ]
    for one, other in zip(*pairs, strict=True):
        for (images, labels), (same_images, same_labels) in zip(one, other, strict=True):
            assert torch.equal(images, same_images) and torch.equal(labels, same_labels)


def test_reading_ahead_moves_neither_the_cursor_nor_global_random_states(both):
    before = torch.get_rng_state()
    expected = [images for images, _ in itertools.islice(TrainingImages(both[0].train, 5, seed=3), 6)]
    batches, resumed = (TrainingImages(both[1].train, 5, seed=3) for _ in range(2))
    for _ in range(3):
        next(batches)
    assert batches.cursor == 3
    resumed.go_to(batches.cursor)
    assert all(torch.equal(next(resumed)[0], images) for images in expected[3:])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_that_breaks_later_is_one_line_too(tmp_path):
    write_folder(tmp_path / "mine")
    dataset = load(tmp_path, memory_limit=0)
    path = tmp_path / "mine" / "valid" / "cat" / "0.png"
    path.write_bytes(b"gone")
    with tiny.refused(f"{path}: {UNREADABLE}"):
        list(evaluation_batches(dataset.valid, 2))


def test_files_are_read_a_few_minibatches_ahead_by_threads_that_end_with_the_reading(both, monkeypatch):
    before, paths = threading.active_count(), []
    monkeypatch.setattr("enas.cnn.batches.read_image", lambda path, size: paths.append(path) or read_image(path, size))
    reading = TrainingImages(both[1].train, 2, seed=3)
    assert not paths
    for num in range(1, 4):
        next(reading)
        assert 2 * num <= len(paths) <= 2 * (num + READ_AHEAD)
    assert threading.active_count() > before
    del reading
    assert threading.active_count() == before
    assert len(paths) <= 2 * (3 + READ_AHEAD)


def test_threads_that_cannot_begin_are_a_line(both, monkeypatch, capsys):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    assert guarded(lambda: next(evaluation_batches(both[1].train, 2))) == 2
    assert capsys.readouterr().err.startswith("error: out of memory; smaller sizes need less")


# --- minibatches ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.data())
def test_a_pass_shows_no_image_twice_and_leaves_out_only_a_remainder(num, data):
    size = data.draw(st.integers(1, num))
    batches = TrainingImages(split_of(num), size, seed=data.draw(st.integers(0, 5)))
    assert batches.batches_per_pass == num // size
    for _ in range(3):
        seen = [label for _ in range(num // size) for label in next(batches)[1].tolist()]
        assert len(seen) == len(set(seen)) == num - num % size


def test_every_pass_has_an_order_of_its_own():
    batches = TrainingImages(split_of(50), 25, seed=0)
    passes = [tuple(next(batches)[1].tolist() + next(batches)[1].tolist()) for _ in range(5)]
    assert len(set(passes)) == 5
    other = TrainingImages(split_of(50), 25, seed=1)
    assert tuple(next(other)[1].tolist() + next(other)[1].tolist()) not in passes


@given(st.integers(0, 12), st.integers(1, 5))
def test_restored_minibatches_go_on_as_the_saved_ones(num_before, size):
    batches, restored = (TrainingImages(split_of(11), size, seed=4) for _ in range(2))
    next(restored)
    for _ in range(num_before):
        next(batches)
    restored.go_to(batches.cursor)
    for _ in range(8):
        assert torch.equal(next(batches)[1], next(restored)[1])


def test_minibatches_know_no_global_random_state():
    orders = []
    for seed in (1, 2):
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        orders.append([next(TrainingImages(split_of(9), 3, seed=7))[1].tolist(), _evaluated(9, 4)])
    assert orders[0] == orders[1]


@pytest.mark.parametrize("size", [0, 11])
def test_a_minibatch_that_a_split_does_not_fill_is_refused(size):
    with tiny.refused(f"mine, valid: batch size is {size}; it must be between 1 and the number of images, 10"):
        TrainingImages(split_of(10), size, seed=0, name="mine, valid")


def _evaluated(num: int, size: int) -> list[list[int]]:
    return [labels.tolist() for _, labels in evaluation_batches(split_of(num), size)]


@given(st.integers(1, 40), st.integers(1, 45))
def test_evaluation_sees_every_image_once_in_minibatches_of_about_one_size(num, size):
    batches = _evaluated(num, size)
    assert sorted(itertools.chain(*batches)) == list(range(num))
    sizes = [len(labels) for labels in batches]
    assert len(sizes) == -(-num // size) and max(sizes) - min(sizes) <= 1 and max(sizes) <= size
    assert _evaluated(num, size) == batches


def test_evaluation_mixes_the_classes():
    """Files come class by class; batch statistics of one class alone would not be those of training."""
    split = MemoryImages(torch.zeros(400, 3, 1, 1, dtype=torch.uint8), torch.arange(4).repeat_interleave(100))
    for _, labels in evaluation_batches(split, 100):
        assert labels.bincount(minlength=4).min() > 10


# --- statistics -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 3))
def test_channel_statistics(num, size):
    split = split_of(num, size)
    values = split.images.double().transpose(0, 1).flatten(1)
    mean, std = channel_statistics(split)
    torch.testing.assert_close(mean, values.mean(1).float())
    torch.testing.assert_close(std, values.std(1, correction=0).float().clamp(min=1.0))


def test_statistics_of_a_large_split_are_those_of_evenly_spaced_images(monkeypatch):
    monkeypatch.setattr("enas.cnn.batches.STATISTICS_IMAGES", 10)
    split = split_of(25)
    every_third = MemoryImages(split.images[::3], split.labels[::3])
    assert torch.equal(channel_statistics(split)[0], channel_statistics(every_third)[0])

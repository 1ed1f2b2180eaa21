"""The user's own data from Python: what may be given, and that it is read as it was given."""

import io
import itertools
import json
import math

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch.utils.data import IterableDataset, Subset, TensorDataset

from enas.cnn.images import load_images
from enas.config import Config, read_preset
from enas.data.own import A_FRACTION, A_LABEL, A_PICTURE, A_ROW, A_SPLIT, AN_ITEM, numbered, settings_for, write_dataset
from enas.errors import UserError
from enas.rnn.text import load_corpus
from enas.runs import run

SENTENCES = ["the cat sat on the mat", "the dog sat on the cat", "a mat is a mat"] * 30


class Hub(list):
    """A list of dicts with the names of its classes, as Hugging Face gives them."""

    def __init__(self, items, names=()):
        super().__init__(items)
        self.features = {"label": type("ClassLabel", (), {"names": list(names)})} if names else {}


def pictures(num: int, dtype=torch.uint8) -> list[tuple[torch.Tensor, int]]:
    generator = torch.Generator().manual_seed(num)
    pixels = torch.randint(256, (num, 3, 8, 8), generator=generator)
    images = pixels.to(torch.uint8) if dtype == torch.uint8 else pixels / 255
    return [(image, index % 3) for index, image in enumerate(images)]


class Streamed(IterableDataset):
    """Items in order, once; a length, as some have one, does not make them numbered."""

    def __init__(self, items=SENTENCES):
        self.items, self.times = items, 0

    def __iter__(self):
        self.times += 1
        assert self.times == 1, "a stream is read once"
        return iter(self.items)

    def __len__(self):
        return len(self.items)


class Column(list):
    """A column as pandas has it, which takes an index for the name of a row: here in the reversed order."""

    iloc, ndim = "rows by place", 1

    def __getitem__(self, index):
        return super().__getitem__(len(self) - 1 - index)

    def tolist(self):
        return list(self)


class Table:
    """A table as pandas has it: a DataFrame, whose length is that of its columns."""

    iloc, ndim = "rows by place", 2

    def __init__(self, **columns):
        self.columns = columns

    def to_dict(self, kind):
        assert kind == "records"
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


class Broken(list):
    def __getitem__(self, index):
        if index == 3:
            raise KeyError("no such row")
        return super().__getitem__(index)


def truncated() -> Image.Image:
    whole = io.BytesIO()
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 40, 3), dtype=np.uint8)).save(whole, "PNG")
    return Image.open(io.BytesIO(whole.getvalue()[:-2000]))


def all_three(items) -> list:
    return [items] * 3


def labelled(labels) -> list:
    """Three splits of images with such labels."""
    return all_three([(image, labels[index % 3]) for index, (image, _) in enumerate(pictures(6))])


LINES = " <eos> ".join([*SENTENCES, ""])
IDS = [[7, 3, 3, 900], [5, 7]]
TEXTS = {  # items, how they are to be read, and the words that are read
    "strings": (SENTENCES, {}, LINES),
    "words": ([sentence.split() for sentence in SENTENCES], {}, LINES),
    "dicts": (Hub({"text": sentence} for sentence in SENTENCES), {}, LINES),
    "one text": (["\n".join(SENTENCES)], {}, LINES),
    "a column": (Column(reversed(SENTENCES)), {}, " <eos> ".join([*SENTENCES[::-1], ""])),
    "line ends": (["a\u2028b c\r\nd\re\n"] * 2, {}, "a b c <eos> d <eos> e <eos> " * 2),
    **{
        f"ids as {make.__name__}": ([make(ids) for ids in IDS], {"vocab_min_count": 1}, "7 3 3 900 <eos> 5 7 <eos>")
        for make in (torch.tensor, np.array, list)
    },
}


@pytest.mark.parametrize(("items", "settings", "words"), TEXTS.values(), ids=TEXTS)
def test_texts_are_read_as_they_were_given(tmp_path, items, settings, words):
    assert settings_for(numbered("train", items)) == {"network_type": "rnn", **settings}
    write_dataset("mine", all_three(numbered("train", items)), tmp_path)
    corpus = load_corpus("mine", data_dir=tmp_path, **settings)
    assert [corpus.vocabulary[index] for index in corpus.train.tolist()] == words.split()


@pytest.mark.parametrize("kind", ["bytes", "floats", "pillow", "dicts", "tensors"])
def test_every_pixel_and_label_is_kept(tmp_path, kind):
    expected = pictures(30)
    images, labels = torch.stack([one for one, _ in expected]), torch.tensor([label for _, label in expected])
    items = {
        "bytes": expected,
        "floats": [(x - 0.0019 * (x - 0.5).sign(), y) for x, y in pictures(30, torch.float32)],  # which are rounded
        "pillow": [(Image.fromarray(image.permute(1, 2, 0).numpy()), label) for image, label in expected],
        "dicts": Hub([{"img": np.asarray(image.permute(1, 2, 0)), "label": label} for image, label in expected]),
        "tensors": TensorDataset(images, labels),
    }[kind]
    assert settings_for(items) == {"network_type": "cnn"}
    write_dataset("mine", [items] * 3, tmp_path)
    found = load_images("mine", data_dir=tmp_path)
    order = sorted(range(30), key=lambda index: (expected[index][1], index))
    assert torch.equal(found.train.images, torch.stack([expected[index][0] for index in order]))
    assert found.test.labels.tolist() == [expected[index][1] for index in order]


def test_labels_keep_their_order_whatever_classes_are_called(tmp_path):
    items = Hub([{"image": image, "label": label} for image, label in pictures(30)], names=["zebra", "ant", "bee"])
    write_dataset("mine", [items] * 3, tmp_path)
    assert load_images("mine", data_dir=tmp_path).classes == ("0-zebra", "1-ant", "2-bee")
    write_dataset("part", [Subset(Subset(items, range(20)), range(10))] * 3, tmp_path)
    assert load_images("part", data_dir=tmp_path).classes == ("0-zebra", "1-ant", "2-bee")
    many = [(image, index % 12) for index, (image, _) in enumerate(pictures(24))]
    write_dataset("many", [many] * 3, tmp_path)
    found = load_images("many", data_dir=tmp_path)
    assert [int(name.split("-")[1]) for name in found.classes] == list(range(12))


@pytest.mark.parametrize("is_image", [False, True], ids=["text", "images"])
def test_a_search_on_own_data_is_a_run_like_any_other(tmp_path, is_image):
    given = tiny.settings(tmp_path, network_type="cnn" if is_image else "rnn", dataset="mine")
    splits = [pictures(num) if is_image else SENTENCES[: 2 * num] for num in (45, 24, 24)]
    folder = run.search(*splits, **given).folder
    assert folder == tiny.only_run(tmp_path / "logs")
    results = run.test(folder)
    assert results["test_accuracy" if is_image else "test_perplexity"] is not None
    assert run.search(*splits, **given).folder != folder  # the same data, written already
    assert run.resume(folder, max_epoch=3)["epoch"] == 3


def images_like(image) -> list:
    """Three splits of two such images."""
    return all_three([(image, 0), (image, 1)])


SHAPE = "the image of train 0 has shape"
REFUSED = {  # the sentence of a kind: splits, and what the line says of them
    A_SPLIT: [
        ([[], SENTENCES, SENTENCES], "train is [] (list)"),
        ([SENTENCES, [], SENTENCES], "valid is [] (list)"),
        (("one long text", "of a", "file"), "train is 'one long text' (str)"),
        ([None, SENTENCES, SENTENCES], "train cannot be read (TypeError(\"'NoneType' object is not iterable\"))"),
        ([SENTENCES, None, SENTENCES], "valid cannot be read (TypeError"),
        ([0.5, SENTENCES, SENTENCES], "train cannot be read (TypeError(\"'float' object is not iterable\"))"),
        ([SENTENCES, iter([]), SENTENCES], "valid is <list_iterato"),
        ([SENTENCES, set(SENTENCES), SENTENCES], "valid is {"),
        ([SENTENCES, (1 // 0 for _ in SENTENCES), SENTENCES], "valid cannot be read (ZeroDivisionError"),
        (all_three(torch.tensor(3)), "train cannot be read (TypeError('len() of a 0-d tensor'))"),
        (
            all_three((np.zeros((9, 8, 8)), np.zeros(8, dtype=int))),
            "train cannot be read (ValueError('zip() arg",
        ),
        (all_three({"train": SENTENCES, "test": []}), "(dict); a split is a list"),
        (all_three(Broken(SENTENCES)), "train 3 cannot be read (KeyError('no such row'))"),
    ],
    AN_ITEM: [
        (all_three([["a b", "c"]]), "a token of train 0 is 'a b' (str)"),
        (all_three([["a", " b"]]), "a token of train 0 is ' b' (str)"),  # which would be read as b
        (all_three([object()]), "train 0 is <object"),
        (all_three([b"bytes"]), "train 0 is b'bytes'"),
        ([SENTENCES, [{"text": 3}], SENTENCES], "valid 0 is 3 (int)"),
        (all_three([("good", 1), ("bad", 0)]), "a token of train 0 is 1 (int)"),
        (all_three([[1, 2.5]]), "a token of train 0 is 2.5 (float)"),
        (all_three([[True, False]]), "a token of train 0 is True (bool)"),
        (all_three(torch.zeros(2, 3, 8, 8)), "a token of train 0 is [[0.0"),
        (all_three(["a b", [1, 2]]), "train 1 is token ids, but train begins with text"),
        ([[["a"]], [[1]], [["a"]]], "valid 0 is token ids, but train begins with text"),
        (all_three([*pictures(3), "a b"]), "train 3 is text, but train begins with an image"),
        (all_three([*pictures(3), ""]), "train 3 is text, but train begins with an image"),
        (labelled([0, "dog", 0]), "train 1 is an image with a name, but train begins with an image with a number"),
    ],
    A_ROW: [
        (all_three([{"title": "x"}]), "train 0 is {'title': 'x'} (dict)"),
        ([SENTENCES, Table(text=["a b", None]), SENTENCES], "valid 1 is {'text': None} (dict)"),
    ],
    A_FRACTION: [
        ([SENTENCES, 0.0, 0.1], "valid is 0.0; "),
        ([SENTENCES, -0.1, SENTENCES], "valid is -0.1; "),
        ([SENTENCES, float("nan"), 0.1], "valid is nan; "),
        ([SENTENCES, 0.5, 0.5], "train is 0 of 90 items"),
        ([SENTENCES, 0.7, 0.6], "train is -0.3 of 90 items"),
        ([pictures(30), 0.5, 0.5], "train is 0 of 30 items"),
        ([pictures(30), 0.6, 0.6], "train is -0.2 of 30 items"),
        ([SENTENCES[:4], 0.1, SENTENCES], "valid is 0.1 of 4 items"),
    ],
    "which UTF-8 cannot hold; replace it": [
        (all_three([["\ud800"]]), "train 0 has the character '\\ud800'"),
        (all_three(["a \udc80 b"]), "train 0 has the character '\\udc80'"),
    ],
    A_LABEL: [
        (labelled(torch.tensor([0.0, 0.37, 0.74])), "the label of train 0 is 0.0 (float)"),
        (labelled(np.eye(3, dtype=int)), "the label of train 0 is [1, 0, 0] (list)"),
        (labelled([0, None, 1]), "the label of train 1 is None"),
        (all_three((np.zeros((9, 8, 8)), np.zeros(9))), "the label of train 0 is 0.0 (float)"),
        (all_three(Table(image=[image for image, _ in pictures(3)], label=[0, 1, math.nan])), "train 2 is nan (float)"),
        ([pictures(20), labelled([0, 1, b"2"])[0], 0.1], "the label of valid 2 is b'2' (bytes)"),
        ([labelled([0, 1, np.eye(3)[0]])[0], 0.1, 0.1], "the label of train 2 is [1.0, 0.0, 0.0] (list)"),
    ],
    A_PICTURE: [
        (images_like(torch.full((3, 4, 4), 2.0)), f"{SHAPE} (3, 4, 4) and float32 values from 2.0 to 2.0"),
        (images_like(torch.full((4, 4), torch.nan)), f"{SHAPE} (4, 4) and float32 values from nan to nan"),
        (images_like(torch.full((3, 4, 4), 300)), f"{SHAPE} (3, 4, 4) and int64 values from 300 to 300"),
        (images_like(torch.zeros(5, 4, 4)), f"{SHAPE} (5, 4, 4)"),
        (images_like(torch.zeros(3, 0, 4)), f"{SHAPE} (3, 0, 4)"),
        (images_like(np.full((4, 4), "x")), f"{SHAPE} (4, 4) and <U1 values"),
        (images_like(Image.new("F", (4, 4))), "the image of train 0 has Pillow's mode F"),
        (images_like(Image.new("LAB", (4, 4))), "the image of train 0 has Pillow's mode LAB"),
        (
            all_three([(truncated(), 0), (Image.new("RGB", (40, 40)), 1)]),
            "image of train 0 cannot be read (OSError",
        ),
    ],
    "open it with Pillow, or use class folders": [
        (all_three(["a/0.PNG", "b/1.png"]), "train begins with a/0.PNG, the name of a picture"),
        (all_three([("a/0.jpg", "cat"), ("b/1.jpg", "dog")]), "train begins with a/0.jpg, the name of a picture"),
    ],
    "--vocab_min_count 1": [(all_three(["all words differ here"]), "every word is rarer than vocab_min_count 2")],
}


@pytest.mark.parametrize(
    ("splits", "says", "right"), [(*case, right) for right, cases in REFUSED.items() for case in cases]
)
def test_what_cannot_be_used_leaves_nothing(tmp_path, splits, says, right):
    with tiny.refused(says) as error:
        run.search(*splits, dataset="mine", data_dir=str(tmp_path), log_dir=str(tmp_path / "logs"))
    assert str(error.value).endswith(right)
    assert f"{tmp_path}/." not in str(error.value)  # where the data lie until they are whole
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "RGBX"])
def test_images_that_png_does_not_know_become_rgb(tmp_path, mode):
    colours = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    write_dataset("mine", [[(image.convert(mode), index) for index, image in enumerate(colours)]] * 3, tmp_path)
    found = load_images("mine", data_dir=tmp_path).train.images
    assert (found[:, :, 0, 0].int() - torch.tensor([[255, 0, 0], [0, 0, 255]])).abs().max() <= 2


def test_labels_of_every_integer_type_are_kept(tmp_path):
    images = [image for image, _ in pictures(5)]
    labels = [2, np.int64(1), torch.tensor(0), np.array([2]), True]
    write_dataset("mine", [list(zip(images, labels, strict=True))] * 3, tmp_path)
    assert load_images("mine", data_dir=tmp_path).train.labels.tolist() == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("odd", ["", "__MACOSX", ".hidden", "a/b", "a\0b", "x" * 300, "é" * 200, "\ud800"])
def test_any_name_may_be_a_label(tmp_path, odd):
    items = [(image, ("cat", odd)[index % 2]) for index, (image, _) in enumerate(pictures(6))]
    write_dataset("mine", [items] * 3, tmp_path)
    found = load_images("mine", data_dir=tmp_path)
    assert len(found.classes) == 2
    order = sorted(range(6), key=lambda index: (items[index][1], index))
    assert torch.equal(found.train.images, torch.stack([items[index][0] for index in order]))


def test_other_data_of_the_same_name_are_not_overwritten(tmp_path):
    write_dataset("mine", [SENTENCES] * 3, tmp_path)
    before = tiny.tree(tmp_path)
    with pytest.raises(UserError, match="mine: exists and holds other data; remove it, or give"):
        write_dataset("mine", [SENTENCES[:-1]] * 3, tmp_path)
    assert tiny.tree(tmp_path) == before


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"num_blocks": 0}, "num_blocks is 0"), ({"network_type": "cnn"}, "network_type is cnn; these data need rnn")],
)
def test_a_wrong_setting_is_refused_before_data_are_written(tmp_path, wrong, says):
    with pytest.raises(UserError, match=says):
        run.search(*all_three(SENTENCES), dataset="mine", **wrong, data_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


QUICK = {"max_epoch": 1, "shared_max_step": 2, "controller_max_step": 10, "derive_num_sample": 2}
SMALL_IMAGES = {"cnn_num_layers": 3, "cnn_hid": 4, "batch_size": 8, "reward_batch_size": 8}
NO_CONTROLLER = {name: value for name, value in tiny.SETTINGS.items() if not name.startswith("controller_")}
GIVEN = {  # items, settings of the caller, and all that they lead to
    "text": (SENTENCES, QUICK | {"num_blocks": 3, "shared_embed": 8, "shared_hid": 8}, read_preset("small")),
    "images": (pictures(40), QUICK | SMALL_IMAGES, read_preset("small_cnn")),
    "a preset": (SENTENCES, {"config": "{folder}/own.py", "max_epoch": 1}, tiny.SETTINGS | {"shared_optim": "sgd"}),
    # A random search has no controller to train, and the settings of one are left out without a word.
    "a random search": (SENTENCES, NO_CONTROLLER | {"train_type": "random", "shared_optim": "sgd"}, {}),
}


@pytest.mark.parametrize(("items", "given", "rest"), GIVEN.values(), ids=GIVEN)
def test_settings_of_the_caller_replace_those_of_the_preset_or_of_small_data(tmp_path, items, given, rest):
    (tmp_path / "own.py").write_text("".join(f"{key} = {value!r}\n" for key, value in tiny.SETTINGS.items()))
    given = {"num_gpu": 0, "num_threads": 1, **given, "dataset": "mine"}
    given |= {"data_dir": str(tmp_path / "data"), "log_dir": str(tmp_path / "logs")}
    if "config" in given:
        given["config"] = given["config"].format(folder=tmp_path)
    params = json.loads((run.search(*all_three(items), **given).folder / "params.json").read_text())
    given.pop("config", None)
    wanted = {**rest, **given}
    assert {key: params[key] for key in wanted} == wanted


@pytest.mark.parametrize("space", ["macro", "micro"])
def test_the_settings_for_small_images_fit_both_spaces(space):
    config = Config(config="small_cnn", cnn_space=space, cnn_hid=8)
    assert (config.cnn_space, config.cnn_hid, config.cnn_reward) == (space, 8, "log_likelihood")


class Attributed(list):
    """Items with attributes of a user's own, by names that libraries use for the classes."""

    features, classes = torch.ones(3), 10


@pytest.mark.parametrize(
    ("pixel", "stored"),
    [(torch.tensor(1.0, dtype=torch.bfloat16), 255), (torch.tensor(1.0, requires_grad=True), 255), (True, 255)],
)
def test_images_of_rarer_types(tmp_path, pixel, stored):
    image = torch.stack([torch.as_tensor(pixel)] * 36).view(6, 6)
    items = Attributed([(image if isinstance(pixel, torch.Tensor) else image.numpy(), label) for label in (0, 1)])
    write_dataset("mine", (items, items, items), tmp_path)
    (first, *_) = sorted((tmp_path / "mine" / "train").rglob("*.png"))
    assert (np.asarray(Image.open(first)) == stored).all()


def test_photographs_are_stored_upright(tmp_path):
    """A camera that is held sideways says so in the file, which the reader of folders heeds too."""
    photograph, turned = io.BytesIO(), Image.Exif()
    turned[0x0112] = 6  # the orientation
    Image.new("RGB", (6, 4), "red").save(photograph, "JPEG", exif=turned)
    items = [(Image.open(photograph), label) for label in (0, 1)]
    write_dataset("mine", (items, items, items), tmp_path)
    assert {Image.open(path).size for path in (tmp_path / "mine").rglob("*.png")} == {(4, 6)}


# --- data as people have them -----------------------------------------------------------------------------------------


def read_back(folder, *splits, **settings):
    """The splits as a run reads them, of a search that is not run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "open_run", lambda *args, **kwargs: (_ for _ in ()).throw(Opened))
        with pytest.raises(Opened):
            run.search(*splits, dataset="mine", data_dir=str(folder), **settings)
    return {split: (folder / "mine" / f"{split}.txt").read_text().splitlines() for split in ("train", "valid", "test")}


class Opened(Exception):
    """The run begins."""


FORMS = {
    "a generator": lambda: (line for line in SENTENCES),
    "a stream": Streamed,
    "a file": lambda: io.StringIO("\n".join(SENTENCES)),
    "a table": lambda: Table(label=range(90), text=SENTENCES),
    "a stream of rows": lambda: Streamed([{"text": line} for line in SENTENCES]),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_texts_come_in_many_forms_and_keep_their_order(tmp_path, make):
    assert read_back(tmp_path, make(), make(), make()) == dict.fromkeys(("train", "valid", "test"), SENTENCES)


@pytest.mark.parametrize("name", ["review", "text"])
def test_columns_of_any_name_are_read(tmp_path, name):
    rows = [{"id": index, "sentence": "no", name: line} for index, line in enumerate(SENTENCES)]
    for given in (rows, Table(**{key: [row[key] for row in rows] for key in rows[0]}), Streamed(rows)):
        found = read_back(tmp_path, given, rows, rows, text=name)
        assert found["train"] == SENTENCES
    with tiny.refused("train cannot be read (KeyError('review')); a split is"):
        run.search([{"text": "a"}], dataset="other", data_dir=str(tmp_path), text="review")


def test_pandas_gives_tables_and_columns(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"review": SENTENCES, "stars": range(90)}).sample(frac=1, random_state=0)
    found = read_back(tmp_path, table, table["review"], table[["review"]], text="review")
    assert found["train"] == found["test"] == [*table["review"]]


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("axes", ["CHW", "HWC", "HW"])
def test_pairs_of_arrays_are_images_and_labels(tmp_path, library, axes):
    images = torch.stack([image for image, _ in pictures(12)])
    labels = torch.arange(12) % 3
    given = {"CHW": images, "HWC": images.permute(0, 2, 3, 1), "HW": images[:, 0]}[axes]
    pair = (given, labels) if library == "torch" else (given.numpy(), labels.numpy())
    write_dataset("mine", all_three(numbered("train", pair)), tmp_path)
    found = load_images("mine", data_dir=tmp_path).train
    order = labels.argsort(stable=True)
    assert torch.equal(found.labels, labels[order])
    assert torch.equal(found.images, (images[:, :1].expand(-1, 3, -1, -1) if axes == "HW" else images)[order])


# --- fractions --------------------------------------------------------------------------------------------------------


def test_fractions_of_a_text_are_blocks_of_lines_that_keep_their_order(tmp_path):
    lines = [f"line {index}" for index in range(1000)]
    found = read_back(tmp_path / "a", ["\n".join(lines[:500]), *lines[500:]], 0.1, 0.2)
    assert {split: len(part) for split, part in found.items()} == {"train": 700, "valid": 100, "test": 200}
    assert sorted(itertools.chain(*found.values()), key=lines.index) == lines
    for split, part in found.items():
        places = [lines.index(line) for line in part]
        gaps = [later for before, later in itertools.pairwise(places) if later != before + 1]
        assert places == sorted(places) and all(place % 10 == 0 for place in gaps)
        assert len(gaps) > 5, split
    assert read_back(tmp_path / "b", lines, 0.1, 0.2) == found  # the same seed
    assert read_back(tmp_path / "c", lines, 0.1, 0.2, random_seed=1) != found


def test_fractions_of_images_divide_each_class_alike(tmp_path):
    images = [(image, [0, 0, 0, 1, 2][index % 5]) for index, (image, _) in enumerate(pictures(100))]
    read_back_images(tmp_path, images, 0.2, 0.1)
    found = load_images("mine", data_dir=tmp_path)
    counts = [torch.bincount(getattr(found, split).labels).tolist() for split in ("train", "valid", "test")]
    assert counts == [[42, 14, 14], [12, 4, 4], [6, 2, 2]]
    both = torch.cat([getattr(found, split).images for split in ("train", "valid", "test")])
    assert {tuple(image.flatten().tolist()) for image, _ in images} == {tuple(x.flatten().tolist()) for x in both}


@pytest.mark.parametrize("labels", [[0] * 3 + [1] + [2] * 30, [0] * 30 + [1], [0, 1, 2, 3] + [4] * 20])
def test_every_class_is_trained_on_however_rare(tmp_path, labels):
    images = [(image, label) for (image, _), label in zip(pictures(len(labels)), labels, strict=True)]
    read_back_images(tmp_path, images, 0.2, 0.2)
    assert torch.bincount(load_images("mine", data_dir=tmp_path).train.labels).min() > 0


def read_back_images(folder, *splits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "open_run", lambda *args, **kwargs: (_ for _ in ()).throw(Opened))
        with pytest.raises(Opened):
            run.search(*splits, dataset="mine", data_dir=str(folder), batch_size=8)


def test_a_fraction_of_token_ids_stays_token_ids_and_the_start_says_the_counts(tmp_path):
    items = [torch.arange(3) + index % 5 for index in range(60)]
    settings = tiny.settings(tmp_path, dataset="mine")
    folder = run.search(items, 0.25, items[:20], **settings).folder
    assert "mine: divided with random_seed 12345: train 45, valid 15, test 20" in (folder / "train.log").read_text()
    assert tiny.params(folder)["vocab_min_count"] == 1


# --- the folder -------------------------------------------------------------------------------------------------------


def test_data_of_no_use_leave_no_folder(tmp_path):
    with tiny.refused("every word is rarer than vocab_min_count 2"):
        run.search(*all_three(["all words differ here"]), dataset="mine", data_dir=str(tmp_path))
    assert tiny.tree(tmp_path) == {}

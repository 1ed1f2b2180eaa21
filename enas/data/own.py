"""The user's own data from Python objects, written once as the folder of a dataset, which every mode then reads.

An item is a text (one string, which may have several lines), a sequence of words or of token ids, a pair of an image
and its label, or a dict of these, as Hugging Face datasets give them ({"text": …}, {"image": …, "label": …}). A split
is a list, a dataset, a table or column of pandas, a pair of arrays (images, labels), or an iterable, which is read once
and in order; valid and test may be fractions of train.
"""

import random
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import IterableDataset, Subset

from enas.data.builtin import IMAGE_MAKERS, MAKERS
from enas.data.dataset_folder import RESOURCES, SPLITS, folder_of
from enas.data.download import ALIASES, CATALOGUE
from enas.errors import UserError
from enas.files import atomic_folder
from enas.terminal import progress_bar

TEXT_KEYS = ("text", "sentence", "tokens", "input_ids")
IMAGE_KEYS = ("image", "img")
LABEL_KEYS = ("label", "labels", "fine_label")
TEXT, IDS, IMAGE = "text", "token ids", "an image"  # the kinds of items; labels divide images into two kinds
AS_PNG = ("1", "L", "LA", "P", "RGB", "RGBA")  # Pillow's modes that a PNG file holds, 8 bits a channel
AS_RGB = ("CMYK", "HSV", "RGBX", "YCbCr")  # the modes that Pillow converts
BLOCKS = 10  # of consecutive lines, in the smallest split that is a fraction of a text
LONGEST_NAME = 60  # letters of a label in the name of a folder
Check = Callable[[str], object]
NOT_UTF_8 = re.compile("[\ud800-\udfff]")

# Each error ends in one of these sentences.
A_SPLIT = "a split is a list, a dataset, a table, a pair of arrays (images, labels) or an iterable, and is not empty"
A_FRACTION = "a fraction of train is above 0, leaves some to train on, and is one item or more"
AN_ITEM = "an item is a text, its words without blanks, its token ids, or (image, label), and all are of one kind"
A_ROW = f"a row has one of the columns {', '.join(TEXT_KEYS)}, or image and label; text=, image=, label= name others"
A_LABEL = "a label is an integer or a name (for one-hot labels, the place of the 1)"
A_PICTURE = "an image has 1 or 3 channels of 8 bits, or of floating point in 0 … 1 that is not normalised"


def numbered(split: str, given: Any, columns: Mapping[str, str] = {}) -> Any:
    """Return a split as numbered items, after reading an iterable once; a fraction of train stays what it is.

    `columns` are the user's names of the columns text, image and label. UserError if `given` is no split, or empty.
    """
    if isinstance(given, float) and split != SPLITS[0]:
        if not 0 < given < 1:
            raise UserError(f"{split} is {given}; {A_FRACTION}")
        return given
    items: Any = given
    try:
        if hasattr(given, "iloc"):  # of pandas
            items = given.to_dict("records") if given.ndim == 2 else given.tolist()
        elif isinstance(given, tuple) and len(given) == 2 and getattr(given[0], "ndim", 0) in (3, 4):
            items = [*zip(*given, strict=True)]
        elif isinstance(given, IterableDataset) or not hasattr(given, "__getitem__"):
            items = list(given)
        num = 0 if isinstance(given, str | bytes | Mapping | AbstractSet) else len(items)
        if columns:
            items = [_renamed(items[index], columns) for index in range(num)]
    except Exception as error:
        raise UserError(f"{split} cannot be read ({error!r:.200}); {A_SPLIT}") from error
    if not num:
        raise _refused(split, given, A_SPLIT)
    return items


def _renamed(item: Any, columns: Mapping[str, str]) -> Any:
    return {**item, **{key: item[name] for key, name in columns.items()}} if isinstance(item, Mapping) else item


def divided(train: Any, shares: Mapping[str, float], seed: int) -> dict[str, Any]:
    """Draw fractions of train, and return the split of each, and of the rest; UserError if one is not possible.

    Each class of images is divided alike. Of texts, which are read on from line to line, blocks of lines are drawn.
    """
    items, kind, length = train, _kind_of(train), 1
    read = [item[1] if IMAGE in kind else item for item in _read("train", train, kind)]
    if kind == TEXT:
        items = "".join(map(_line, read)).removesuffix("\n").split("\n")
    if IMAGE not in kind:
        length = max(1, int(len(items) * min(shares.values()) / BLOCKS))
    starts = range(0, len(items), length)
    order = random.Random(seed).sample(starts, len(starts))
    if IMAGE in kind:
        order.sort(key=read.__getitem__)
    shares = {**shares, "train": 1 - sum(shares.values())}
    found: dict[str, list[int]] = {split: [] for split in shares}
    credit = dict.fromkeys(shares, 0.0)
    firsts = {*({read[start]: start for start in reversed(order)} if IMAGE in kind else {}).values()}  # of each class
    for start in order:
        credit = {split: credit[split] + share for split, share in shares.items()}
        split = "train" if start in firsts else max(credit, key=credit.__getitem__)
        credit[split] -= 1
        found[split] += range(start, min(start + length, len(items)))
    for split, share in shares.items():
        if share <= 0 or not found[split]:
            raise UserError(f"{split} is {share:.3g} of {len(items)} items; {A_FRACTION}")
    return {split: Subset(items, sorted(indices)) for split, indices in found.items()}


def settings_for(train: Any) -> dict[str, Any]:
    """Return how a run reads such items: "network_type", and for token ids a "vocab_min_count" that keeps rare ones."""
    kind = _kind_of(train)
    return {"network_type": "cnn" if IMAGE in kind else "rnn"} | ({"vocab_min_count": 1} if kind == IDS else {})


def write_dataset(name: str, splits: Sequence[Any], data_dir: str | Path = "data", check: Check = str) -> None:
    """Write train, valid and test as the dataset folder `data_dir/name`, whole or not at all.

    Images are stored as PNG, which keeps every pixel; floating point images range from 0 to 1. Labels are integers, or
    names; their order is kept. UserError when an item is of none of these kinds, the name is taken, or the folder holds
    other data already, or from `check`: it gets the folder in which the dataset lies at first.
    """
    if name in {*MAKERS, *IMAGE_MAKERS, *CATALOGUE, *ALIASES}:
        raise UserError(f"dataset {name} is one that this package makes or downloads; give another name")
    folder, given, kind = folder_of(name, data_dir), dict(zip(SPLITS, splits, strict=True)), _kind_of(splits[0])
    with atomic_folder(folder) as made:
        if IMAGE in kind:
            _write_images(made, given, kind, name)
        else:
            for split, items in given.items():
                lines = map(_line, _read(split, items, kind))
                (made / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
        check(str(made.parent))


def _read(split: str, items: Any, kind: str = "") -> Iterator[Any]:
    """Yield the items of a split, as `_checked` returns them; UserError, naming the item, for one of another `kind`."""
    for index in range(len(items)):
        place = f"{split} {index}"
        try:
            item = items[index]
        except Exception as error:
            raise UserError(f"{place} cannot be read ({error!r:.200}); {A_SPLIT}") from error
        item = _checked(item, place)
        if kind not in ("", _kind(item)) and (item or IMAGE in kind):
            raise UserError(f"{place} is {_kind(item)}, but train begins with {kind}; {AN_ITEM}")
        yield item


def _kind_of(train: Any) -> str:
    first = next((item for item in _read("train", train) if item), "")
    name = first if isinstance(first, str) else first[0]
    if isinstance(name, str) and len(name.split()) == 1 and name.lower().endswith((".png", ".jpg", ".jpeg", ".webp")):
        raise UserError(f"train begins with {name}, the name of a picture; open it with Pillow, or use class folders")
    return _kind(first) if first else TEXT


def _kind(item: Any) -> str:
    if isinstance(item, tuple):
        return f"{IMAGE} with a {'name' if isinstance(item[1], str) else 'number'}"
    return TEXT if all(isinstance(token, str) for token in item[:1]) else IDS


def _refused(place: str, found: object, right: str) -> UserError:
    shown = " ".join(reprlib.repr(found).split())
    return UserError(f"{place} is {shown} ({type(found).__name__}); {right}")


def _checked(item: Any, place: str) -> Any:
    """Return an item as (image, label), a text, or a list of words or token ids; UserError for anything else."""
    if isinstance(item, Mapping):
        image, label, text = (_first(item, keys) for keys in (IMAGE_KEYS, LABEL_KEYS, TEXT_KEYS))
        item = (image, label) if image is not None and label is not None else item if text is None else text
    is_two = isinstance(item, tuple | list) and len(item) == 2
    if is_two and (isinstance(item[0], Image.Image) or getattr(item[0], "ndim", 0) in (2, 3)):
        return item[0], _label(item[1], place)
    return _text(item, place)


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if key in item), None)


def _text(item: Any, place: str) -> str | list[str] | list[int]:
    found = item.tolist() if isinstance(item, torch.Tensor | np.ndarray) else item
    if not isinstance(found, Sequence) or isinstance(found, bytes | bytearray | memoryview):
        raise _refused(place, item, A_ROW if isinstance(item, Mapping) else AN_ITEM)
    tokens = [] if isinstance(found, str) else list(found)
    are_ids = bool(tokens) and not isinstance(tokens[0], str)
    for token in tokens:
        is_word = isinstance(token, str) and token.split() == [token]
        is_id = isinstance(token, Integral) and not isinstance(token, bool)
        if not (is_id if are_ids else is_word):
            raise _refused(f"a token of {place}", token, AN_ITEM)
    if are_ids:
        return [int(token) for token in tokens]
    if odd := NOT_UTF_8.search("".join(found)):
        raise UserError(f"{place} has the character {odd.group()!r}, which UTF-8 cannot hold; replace it")
    return found if isinstance(found, str) else tokens


def _label(label: Any, place: str) -> int | str:
    found = label.tolist() if isinstance(label, torch.Tensor | np.ndarray | np.generic) else label
    found = found[0] if isinstance(found, list) and len(found) == 1 else found
    if not isinstance(found, str | Integral):
        raise _refused(f"the label of {place}", found, A_LABEL)
    return str(found) if isinstance(found, str) else int(found)


def _line(item: str | Sequence[Any]) -> str:
    text = item if isinstance(item, str) else " ".join(map(str, item))
    # Not splitlines: the reader knows line feeds alone.
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n") + "\n"


def _write_images(folder: Path, splits: Mapping[str, Any], kind: str, name: str) -> None:
    found = {label for split, items in splits.items() for _, label in _read(split, items, kind)}
    folders = _folders(sorted(found), _class_names(splits["train"]))
    for split, items in splits.items():
        bar = progress_bar(_read(split, items, kind), f"{name}: writing {split}", len(items))
        for index, (image, label) in enumerate(bar):
            path = folder / split / folders[label] / f"{index:0{len(str(len(items)))}d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            make = _of_pillow if isinstance(image, Image.Image) else _of_array
            make(image, f"the image of {split} {index}").save(path)


def _class_names(items: Any) -> list[str]:
    """Return the names of labels 0, 1, …, if the data bring them, as torchvision and Hugging Face do."""
    while isinstance(items, Subset):
        items = items.dataset
    features = getattr(items, "features", None)
    label = _first(features, LABEL_KEYS) if isinstance(features, Mapping) else None
    found = (getattr(label, "names", None), getattr(items, "classes", None))
    return [str(name) for name in next((names for names in found if isinstance(names, Iterable)), ())]


def _folders(labels: Sequence[Any], known: Sequence[str]) -> dict[Any, str]:
    """Return label -> name of its folder, such that folders in order of name are labels in their own order."""
    names = [known[label] if isinstance(label, int) and 0 <= label < len(known) else str(label) for label in labels]
    # A letter that no folder's name can have is replaced, and a number before the name then tells names apart.
    safe = ["".join(x if x.isprintable() and x != "/" else "-" for x in name[:LONGEST_NAME]) for name in names]
    is_plain = all(name not in ("", RESOURCES) and not name.startswith(".") for name in names)
    if names != safe or names != sorted(set(names)) or not is_plain:
        names = [f"{index:0{len(str(len(labels)))}d}-{name}" for index, name in enumerate(safe)]
    return dict(zip(labels, names, strict=True))


def _of_pillow(image: Image.Image, place: str) -> Image.Image:
    if image.mode not in AS_PNG + AS_RGB:
        raise UserError(f"{place} has Pillow's mode {image.mode}; {A_PICTURE}")
    try:
        image = ImageOps.exif_transpose(image)  # upright, as from a file; it reads the pixels
    except Exception as error:
        raise UserError(f"{place} cannot be read ({error!r:.200}); {A_PICTURE}") from error
    return image if image.mode in AS_PNG else image.convert("RGB")


def _of_array(image: Any, place: str) -> Image.Image:
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image  # NumPy has no bfloat16
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):  # torch's order
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    scale = 255 if pixels.dtype.kind in "fb" else 1
    is_image = pixels.size and pixels.dtype.kind in "fbiu" and pixels.shape[2:] in ((), (3,))
    if not is_image or not 0 <= pixels.min() <= pixels.max() <= 255 / scale:  # NaN is outside too
        values = f" from {pixels.min()} to {pixels.max()}" if is_image else ""
        raise UserError(f"{place} has shape {tuple(image.shape)} and {pixels.dtype} values{values}; {A_PICTURE}")
    return Image.fromarray((pixels * scale).round().astype(np.uint8))

"""The user's own data, out of Python objects: written once as the folder of a dataset, which every mode then reads.

What an item may be: a text (one string, which may have several lines); a sequence of words or of token ids; a pair of
an image and its label; or a dict of these, as Hugging Face datasets give them ({"text": …}, {"image": …, "label": …}).
A `torch.utils.data.Dataset`, a list, or anything else with a length and items will do.
"""

import filecmp
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from enas.data.builtin import SPLITS
from enas.data.dataset_folder import check_plain
from enas.errors import UserError

TEXT_KEYS = ("text", "sentence", "tokens", "input_ids")
IMAGE_KEYS = ("image", "img")
LABEL_KEYS = ("label", "labels", "fine_label")


def settings_for(train: Any) -> dict[str, Any]:
    """How a run reads such items: "network_type", and for token ids "vocab_min_count", so that rare ones are kept.

    Raises:
        UserError: there is no item, or the first is of none of the kinds.
    """
    _check_split("train", train)
    if _is_image(_item(train, 0)):
        return {"network_type": "cnn"}
    return {"network_type": "rnn", **({} if isinstance(_first(train), str) else {"vocab_min_count": 1})}


def _check_split(split: str, items: Any) -> None:
    if isinstance(items, str | bytes):
        raise UserError(f"{split} is one string; give a list of texts, such as the lines of a file")
    if len(items) == 0:
        raise UserError(f"{split} has no items")


def write_dataset(name: str, splits: Sequence[Any], data_dir: str | Path = "data") -> bool:
    """Write train, valid and test as the dataset folder `data_dir/name`, whole or not at all.

    Images are stored as PNG, so that every pixel is kept; where they are floating point, 0 … 1 is the range. Labels are
    integers, or names; their order is kept.

    Args:
        name: of the dataset.
        splits: three of what the module says.
        data_dir: the folder of all datasets.

    Returns:
        whether the folder is new; it may hold the same data already.

    Raises:
        UserError: a split is empty, an item is of none of these kinds, or the folder holds other data already.
    """
    check_plain(name, Path(data_dir))
    for split, items in zip(SPLITS, splits, strict=True):
        _check_split(split, items)
    folder = Path(data_dir) / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as staging:
            ready = Path(staging) / name
            ready.mkdir()
            _write(name, ready, splits)
            is_new = not folder.exists()
            if is_new:
                ready.rename(folder)
            elif not _same(ready, folder):
                raise UserError(f"{folder}: exists and holds other data; give the dataset another name")
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another data_dir") from error
    return is_new


def _write(name: str, folder: Path, splits: Sequence[Any]) -> None:
    if _is_image(_item(splits[0], 0)):
        names = _class_names(splits)
        for split, items in zip(SPLITS, splits, strict=True):
            _write_images(name, folder / split, items, names)
        return
    for split, items in zip(SPLITS, splits, strict=True):
        (folder / f"{split}.txt").write_text("".join(_lines(name, split, items)), encoding="utf-8")


def _same(one: Path, other: Path) -> bool:
    files = [{path.relative_to(root) for path in root.rglob("*") if path.is_file()} for root in (one, other)]
    return files[0] == files[1] and not any(filecmp.cmpfiles(one, other, files[0], shallow=False)[1:])


def _item(items: Any, index: int) -> Any:
    """An item, what a dict holds put into a pair or a text."""
    item = items[index]
    if not isinstance(item, Mapping):
        return item
    image, label = (next((item[key] for key in keys if key in item), None) for keys in (IMAGE_KEYS, LABEL_KEYS))
    if image is not None and label is not None:
        return image, label
    text = next((item[key] for key in TEXT_KEYS if key in item), None)
    if text is None:
        raise UserError(f"an item has {', '.join(map(str, item))}; it needs text, or image and label")
    return text


# --- text -------------------------------------------------------------------------------------------------------------


def _lines(name: str, split: str, items: Any) -> Iterator[str]:
    for index in range(len(items)):
        text = _text(_item(items, index))
        if isinstance(text, str):
            lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
            yield from (f"{line}\n" for line in lines)  # not splitlines: the reader knows line feeds alone
            continue
        if not isinstance(text, Sequence) or _is_image(text):
            raise UserError(
                f"{name}: {split} {index} is of type {type(text).__name__}; it must be a text or its tokens"
            )
        words = [str(word) for word in text]
        odd = next((word for word in words if len(word.split()) != 1), None)
        if odd is not None:
            raise UserError(f"{name}: {split} {index} has the token {odd!r}; tokens hold no blanks")
        yield f"{' '.join(words)}\n"


def _text(item: Any) -> Any:
    return item.tolist() if isinstance(item, torch.Tensor | np.ndarray) else item


def _first(items: Any) -> Any:
    """The first token there is, or the first character of a text."""
    texts = (_text(_item(items, index)) for index in range(len(items)))
    return next((word for text in texts if isinstance(text, Sequence) for word in text), "")


# --- images -----------------------------------------------------------------------------------------------------------


def _is_image(item: Any) -> bool:
    if not isinstance(item, tuple | list) or len(item) != 2:
        return False
    image, _ = item
    return isinstance(image, Image.Image) or getattr(image, "ndim", 0) in (2, 3)


def _class_names(splits: Sequence[Any]) -> dict[Any, str]:
    """Label -> folder, such that folders in order of name are labels in their own order."""
    labels = sorted({_label(items, index) for items in splits for index in range(len(items))})
    known = _given_names(splits[0])
    names = [known[label] if isinstance(label, int) and label < len(known) else str(label) for label in labels]
    if any("/" in name or name.startswith(".") for name in names) or names != sorted(set(names)):
        width = len(str(len(labels)))
        names = [f"{index:0{width}d}-{name.replace('/', '-')}" for index, name in enumerate(names)]
    return dict(zip(labels, names, strict=True))


def _given_names(items: Any) -> list[str]:
    """What torchvision's datasets and those of Hugging Face call their classes."""
    features = getattr(items, "features", None)
    label = next((features[key] for key in LABEL_KEYS if key in features), None) if features else None
    return [str(name) for name in getattr(label, "names", None) or getattr(items, "classes", None) or []]


def _label(items: Any, index: int) -> int | str:
    item = _item(items, index)
    if not _is_image(item):
        raise UserError(f"item {index} is not a pair of an image and its label")
    label = item[1]
    return label if isinstance(label, str) else int(label)


def _write_images(name: str, folder: Path, items: Any, names: dict[Any, str]) -> None:
    for class_name in names.values():
        (folder / class_name).mkdir(parents=True)
    width = len(str(len(items)))
    for index in tqdm(range(len(items)), desc=f"{name}: writing {folder.name}", disable=None, leave=False):
        image, _ = _item(items, index)
        path = folder / names[_label(items, index)] / f"{index:0{width}d}.png"
        _picture(image, f"{name}: {folder.name} {index}").save(path)
    for class_folder in folder.iterdir():
        if not any(class_folder.iterdir()):
            class_folder.rmdir()


def _picture(image: Any, place: str) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    pixels = np.asarray(image.cpu() if isinstance(image, torch.Tensor) else image)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):  # torch's order
        pixels = pixels.transpose(1, 2, 0)
    if np.issubdtype(pixels.dtype, np.floating):
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise UserError(f"{place}: floating point images lie in 0 … 1; leave normalisation out, the run does it")
        pixels = (pixels * 255).round()
    elif pixels.min() < 0 or pixels.max() > 255:
        raise UserError(f"{place}: has values outside of 0 … 255")
    pixels = pixels.astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise UserError(f"{place}: has {pixels.shape[2]} channels; images have 1 or 3")
    return Image.fromarray(pixels)

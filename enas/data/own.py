"""The user's own data, out of Python objects: written once as the folder of a dataset, which every mode then reads.

What an item may be: a text (one string, which may have several lines); a sequence of words or of token ids; a pair of
an image and its label; or a dict of these, as Hugging Face datasets give them ({"text": …}, {"image": …, "label": …}).
A `torch.utils.data.Dataset`, a list, a column of a table, or anything else with a length and numbered items will do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import IterableDataset
from tqdm import tqdm

from enas.data.builtin import SPLITS
from enas.data.dataset_folder import RESOURCES, check_plain
from enas.errors import UserError, refusing
from enas.files import atomic_folder

TEXT_KEYS = ("text", "sentence", "tokens", "input_ids")
IMAGE_KEYS = ("image", "img")
LABEL_KEYS = ("label", "labels", "fine_label")
TEXT, IDS, IMAGE = "text", "token ids", "an image"  # the kinds of items
AS_PNG = ("1", "L", "LA", "P", "RGB", "RGBA")  # Pillow's modes that a PNG file holds, 8 bits a channel
AS_RGB = ("CMYK", "HSV", "RGBX", "YCbCr")  # those that Pillow converts
LONGEST_NAME = 60  # letters of a label in the name of a folder


class Split:
    """The items of a split, each checked when it is read: a text, a list of words or token ids, or (image, label)."""

    def __init__(self, name: str, items: Any):
        self.name = name
        self._items = items.tolist() if getattr(items, "ndim", 0) == 1 and hasattr(items, "iloc") else items
        if flaw := _flaw_of_split(self._items):
            raise UserError(f"{name} {flaw}")

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            place = f"{self.name} {index}"
            try:
                item = self._items[index]
            except Exception as error:
                numbers = f"items have the numbers 0 … {len(self) - 1}"
                raise UserError(f"{place} cannot be read ({_brief(error)}); {numbers}") from error
            if isinstance(item, Mapping):
                item = _of_mapping(item, place)
            yield (item[0], _label(item[1], place)) if _is_pair(item) else _text(item, place)

    def of_kind(self, kind: str) -> Iterator[Any]:
        """Yield all items; UserError for one of another kind."""
        for index, item in enumerate(self):
            if _kind(item) != kind and (item or kind == IMAGE):
                found = f"{self.name} {index} has {_kind(item)}, and train 0 {kind}"
                raise UserError(f"{found}; all items must be of one kind")
            yield item

    @property
    def kind(self) -> str:
        """The kind of the items: that of the first which is not empty."""
        return next((_kind(item) for item in self if item), TEXT)

    @property
    def class_names(self) -> list[str]:
        """The names of labels 0, 1, …, where the data bring them, as those of torchvision and Hugging Face do."""
        features = getattr(self._items, "features", None)
        label = _first(features, LABEL_KEYS) if isinstance(features, Mapping) else None
        found = (getattr(label, "names", None), getattr(self._items, "classes", None))
        return [str(name) for name in next((names for names in found if isinstance(names, Iterable)), ())]


def settings_for(train: Any) -> dict[str, Any]:
    """How a run reads such items: "network_type", and for token ids "vocab_min_count", so that rare ones are kept."""
    kind = Split("train", train).kind
    return {"network_type": "cnn" if kind == IMAGE else "rnn"} | ({"vocab_min_count": 1} if kind == IDS else {})


def write_dataset(name: str, splits: Sequence[Any], data_dir: str | Path = "data") -> bool:
    """Write train, valid and test as the dataset folder `data_dir/name`, whole or not at all.

    Images are stored as PNG, so that every pixel is kept; where they are floating point, 0 … 1 is the range. Labels are
    integers, or names; their order is kept. Returns whether the folder is new; it may hold the same data already.
    UserError when a split is empty, an item is of none of these kinds, or the folder holds other data already.
    """
    check_plain(name, Path(data_dir))
    checked = [Split(split, items) for split, items in zip(SPLITS, splits, strict=True)]
    folder = Path(data_dir) / name
    is_new = not folder.exists()
    taken = f"{folder}: exists and holds other data; give the dataset another name"
    with (
        refusing(lambda error: f"{folder}: cannot be written ({error.strerror}); choose another data_dir"),
        atomic_folder(folder, taken=taken) as ready,
    ):
        kind = checked[0].kind
        names = _class_names(checked) if kind == IMAGE else {}
        for split in checked:
            if kind == IMAGE:
                _write_images(name, ready / split.name, split, names)
            else:
                (ready / f"{split.name}.txt").write_text("".join(_lines(split, kind)), encoding="utf-8")
    return is_new


def _flaw_of_split(items: Any) -> str:
    """What keeps `items` from being a split, as the end of a sentence; empty for nothing."""
    kind = type(items).__name__
    if isinstance(items, str | bytes):
        return "is one string; give a list of texts, such as the lines of a file"
    if isinstance(items, Mapping):
        return f"is a {kind} of {', '.join(map(str, items))}; give the one that is meant"
    if hasattr(items, "iloc"):
        return f'is a table ({kind}); give one column, such as table["text"].tolist()'
    try:
        size = len(items) if hasattr(items, "__getitem__") and not isinstance(items, IterableDataset) else None
    except TypeError:
        size = None
    right = "it must have a length and numbered items, as a list or a torch.utils.data.Dataset has"
    return f"is of type {kind}; {right}" if size is None else "" if size else "has no items"


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _first(item: Mapping[str, Any], keys: Sequence[str], missing: Any = None) -> Any:
    return next((item[key] for key in keys if key in item), missing)


def _of_mapping(item: Mapping[str, Any], place: str) -> Any:
    """The pair of image and label, or the text, in a dict."""
    image, label, text = _first(item, IMAGE_KEYS), _first(item, LABEL_KEYS), _first(item, TEXT_KEYS, Ellipsis)
    if image is not None and label is not None:
        return image, label
    if text is Ellipsis:
        raise UserError(f"{place} has {', '.join(map(str, item))}; it needs text, or image and label")
    return text


def _is_pair(item: Any) -> bool:
    is_two = isinstance(item, tuple | list) and len(item) == 2
    return is_two and (isinstance(item[0], Image.Image) or getattr(item[0], "ndim", 0) in (2, 3))


def _kind(item: Any) -> str:
    if isinstance(item, tuple):
        return IMAGE
    return TEXT if all(isinstance(token, str) for token in item[:1]) else IDS


def _text(item: Any, place: str) -> str | list[str] | list[int]:
    """A text or its tokens; UserError for what is neither."""
    right = "an item is a text, its words, its token ids, or (image, label)"
    if isinstance(item, torch.Tensor | np.ndarray):
        if item.ndim != 1:
            raise UserError(f"{place} is a {type(item).__name__} of shape {tuple(item.shape)}; {right}")
        item = item.tolist()
    if not isinstance(item, Sequence) or isinstance(item, bytes | bytearray | memoryview):
        raise UserError(f"{place} is of type {type(item).__name__}; {right}")
    if not isinstance(item, str) and not all(isinstance(token, str) for token in item):
        if any(not isinstance(token, Integral) or isinstance(token, bool) for token in item):
            types = ", ".join(sorted({type(token).__name__ for token in item}))
            raise UserError(f"{place} has tokens of type {types}; {right}")
        return [int(token) for token in item]
    item = item if isinstance(item, str) else list(item)
    for word in () if isinstance(item, str) else item:
        if len(word.split()) != 1:
            raise UserError(f"{place} has the token {word!r}; tokens hold no blanks")
    try:
        "".join(item).encode()
    except UnicodeEncodeError as error:
        odd = error.object[error.start]
        raise UserError(f"{place} has a character that UTF-8 cannot hold ({odd!r}); replace it") from None
    return item


def _label(label: Any, place: str) -> int | str:
    value = label.tolist() if isinstance(label, torch.Tensor | np.ndarray | np.generic) else label
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str | Integral):
        raise UserError(
            f"{place} has the label {str(value)[:60]}; a label is an integer or a name (for one-hot labels, the place "
            "of the 1; for a quantity to predict, there is no search)"
        )
    return str(value) if isinstance(value, str) else int(value)


def _lines(split: Split, kind: str) -> Iterator[str]:
    for item in split.of_kind(kind):
        text = item if isinstance(item, str) else " ".join(map(str, item))
        # Not splitlines: the reader knows line feeds alone.
        yield text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n") + "\n"


def _class_names(splits: Sequence[Split]) -> dict[int | str, str]:
    """Label -> folder, such that folders in order of name are labels in their own order."""
    found: set[Any] = {label for split in splits for _, label in split.of_kind(IMAGE)}
    name = next((label for label in found if isinstance(label, str)), None)
    if name is not None and any(isinstance(label, int) for label in found):
        raise UserError(f"labels are integers, and names such as {name!r}; they must all be the one or the other")
    labels, known = sorted(found), splits[0].class_names
    names = [known[label] if isinstance(label, int) and 0 <= label < len(known) else str(label) for label in labels]
    if names != sorted(set(names)) or not all(map(_is_folder_name, names)):
        width = len(str(len(labels)))
        names = [f"{index:0{width}d}-{_as_folder_name(name)}" for index, name in enumerate(names)]
    return dict(zip(labels, names, strict=True))


def _is_folder_name(name: str) -> bool:
    return name == _as_folder_name(name) and name not in ("", RESOURCES) and not name.startswith(".")


def _as_folder_name(name: str) -> str:
    return "".join(letter if letter.isprintable() and letter != "/" else "-" for letter in name[:LONGEST_NAME])


def _write_images(name: str, folder: Path, split: Split, names: dict[Any, str]) -> None:
    bar = tqdm(split, desc=f"{name}: writing {split.name}", disable=None, leave=False)
    for index, (image, label) in enumerate(bar):
        path = folder / names[label] / f"{index:0{len(str(len(split)))}d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _picture(image, f"{split.name} {index}").save(path)


def _picture(image: Any, place: str) -> Image.Image:
    if isinstance(image, Image.Image):
        return _storable(image, place)
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image  # NumPy has no bfloat16
    pixels = np.asarray(image)
    pixels = pixels.astype(np.float32) if pixels.dtype == bool else pixels
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):  # torch's order
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    is_float = np.issubdtype(pixels.dtype, np.floating)
    if not pixels.size:
        raise UserError(f"{place}: has no pixels")
    if not (pixels.min() >= 0 and pixels.max() <= (1 if is_float else 255)):  # NaN is outside too
        of_float = "floating point images lie in 0 … 1; leave normalisation out, the run does it"
        raise UserError(f"{place}: {of_float if is_float else 'has values outside of 0 … 255'}")
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise UserError(f"{place}: has {pixels.shape[-1]} channels; images have 1 or 3")
    return Image.fromarray((pixels * 255).round().astype(np.uint8) if is_float else pixels.astype(np.uint8))


def _storable(image: Image.Image, place: str) -> Image.Image:
    if image.mode not in AS_PNG + AS_RGB:
        raise UserError(f"{place}: is of Pillow's mode {image.mode}; convert it to RGB or L")
    try:
        image.load()
    except Exception as error:
        raise UserError(f"{place} cannot be read ({_brief(error)}); replace or remove it") from error
    return image if image.mode in AS_PNG else image.convert("RGB")

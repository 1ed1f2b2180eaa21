"""CIFAR-10 and CIFAR-100 in their official Python batches (Krizhevsky 2009), read without running what they hold."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from enas.cnn.batches import MemoryImages
from enas.data.download import CATALOGUE, hint
from enas.errors import NotFoundError, UserError

SIDE = 32


class Layout(NamedTuple):
    """How a dataset's files are laid out; `prefix` begins the keys of its labels and of its classes' names."""

    title: str
    archive_folder: str
    prefix: str = ""


LAYOUTS = {
    "cifar10": Layout("CIFAR-10", "cifar-10-batches-py"),
    "cifar100": Layout("CIFAR-100", "cifar-100-python", "fine_"),
}


def read_cifar(folder: Path, name: str = "cifar10") -> tuple[tuple[str, ...], MemoryImages, MemoryImages]:
    """Read `data_batch_1` … `data_batch_5`, `test_batch` and `batches.meta`; of cifar100 `train`, `test` and `meta`.

    They are in `folder`, or in the folder inside it that the official archive unpacks into.

    Returns the names of the classes (of cifar100, its fine ones), the training images, and the test images. UserError
    when a file is missing (a NotFoundError), damaged, or holds something else.
    """
    title, archive_folder, prefix = LAYOUTS[name]
    if (folder / archive_folder).is_dir():
        folder = folder / archive_folder
    paths = [folder / file.installed for file in CATALOGUE[name].files]
    for path in paths:
        if not path.is_file():
            raise NotFoundError(f"{path}: no such file; get it with: {hint(name)}")
    *batches, path = paths
    try:
        classes = _classes(_unpickled(path), f"{prefix}label_names")
        contents = []
        for path in batches:
            contents.append(_batch(_unpickled(path), f"{prefix}labels", len(classes)))
    except UserError as error:
        says = f"is not one of {title}'s Python batches ({error}); remove it, and get it with: {hint(name)}"
        raise UserError(f"{path}: {says}") from None
    *train, test = contents
    return classes, MemoryImages(*map(torch.cat, zip(*train, strict=True))), MemoryImages(*test)


def _classes(content: dict[str, Any], key: str) -> tuple[str, ...]:
    names = content.get(key)
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, (str, bytes)) for name in names):
        raise UserError(f"it has no list {key} of class names")
    return tuple(map(_text, names))


def _batch(content: dict[str, Any], key: str, num_classes: int) -> tuple[Tensor, Tensor]:
    """Images, uint8 [N, 3, 32, 32], and labels, int64 [N]."""
    data, labels = content.get("data"), content.get(key)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE or not len(data):
        raise UserError(f"its data is not an array [images, {3 * SIDE * SIDE}]")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise UserError(f"its {key} are not a list, one for each of {len(data)} images")
    if not all(type(label) is int and 0 <= label < num_classes for label in labels):
        raise UserError(f"its {key} are not all integers in 0 … {num_classes - 1}")
    return torch.from_numpy(data).reshape(-1, 3, SIDE, SIDE), torch.tensor(labels)


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="bytes").load()  # the official files come from Python 2
    # A damaged pickle can raise nearly any exception, and this block does nothing but unpickle.
    except Exception as error:
        raise UserError(str(error) or type(error).__name__) from None
    if not isinstance(content, dict):
        raise UserError(f"it holds a {type(content).__name__}")
    return {_text(key): value for key, value in content.items()}


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler for plain containers, numbers, text and arrays of bytes; it refuses any other class."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no dataset needs")
        return _ALLOWED[module, name]


def _empty_array(*_: object) -> np.ndarray:
    # The pickle fills it in next, with a shape, a dtype and bytes that NumPy checks against each other.
    return np.empty(0, dtype=np.uint8)


def _bytes_dtype(code: str | bytes, *_: object) -> np.dtype:
    if _text(code) != "u1":
        raise pickle.UnpicklingError(f"it has an array of {_text(code)}; expected u1, unsigned bytes")
    return np.dtype(np.uint8)


def _encode(text: str, encoding: str) -> bytes:
    # How Python 3 writes bytes in a pickle that Python 2 can read.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has bytes in the encoding {encoding}; expected latin1")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): "the class of the array to make, which is always the same",
    ("numpy", "dtype"): _bytes_dtype,
    ("_codecs", "encode"): _encode,
}

"""CIFAR-10 and CIFAR-100 in their official Python batches (Krizhevsky 2009), read without running what a pickle may
carry.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from enas.data.download import CATALOGUE, hint
from enas.errors import NotFoundError, UserError

SIDE = 32


@dataclass(frozen=True)
class Layout:
    """How one of the two is laid out.

    Attributes:
        title: its usual name.
        archive_folder: what its archive unpacks into.
        labels, names: the keys of the labels, and of the names.
    """

    title: str
    archive_folder: str
    labels: str
    names: str


LAYOUTS = {
    "cifar10": Layout("CIFAR-10", "cifar-10-batches-py", "labels", "label_names"),
    "cifar100": Layout("CIFAR-100", "cifar-100-python", "fine_labels", "fine_label_names"),
}


@dataclass(frozen=True, eq=False)
class Cifar:
    """All of CIFAR-10, or of CIFAR-100 with its fine labels.

    Attributes:
        classes: ten names, or a hundred.
        train_images, test_images: uint8 [N, 3, 32, 32].
        train_labels, test_labels: int64 [N], indices into `classes`.
    """

    classes: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def read_cifar(folder: Path, name: str = "cifar10") -> Cifar:
    """Read `data_batch_1` … `data_batch_5`, `test_batch` and `batches.meta`; of cifar100 `train`, `test` and `meta`.

    They are in `folder`, or in the folder inside it that the official archive unpacks into.

    Raises:
        NotFoundError: one of them is missing.
        UserError: one of them is damaged, or holds something else.
    """
    layout = LAYOUTS[name]
    if (folder / layout.archive_folder).is_dir():
        folder = folder / layout.archive_folder
    paths = [folder / file.installed for file in CATALOGUE[name].files]
    for path in paths:
        if not path.is_file():
            raise NotFoundError(f"{path}: no such file; get it with: {hint(name)}")
    *batches, meta = paths
    try:
        classes = _read_classes(meta, layout)
        *train, test = [_read_batch(path, layout, len(classes)) for path in batches]
    except _NotCifarError as error:
        raise UserError(f"{error}; remove it, and get it with: {hint(name)}") from None
    images, labels = zip(*train, strict=True)
    return Cifar(classes, np.concatenate(images), np.concatenate(labels), *test)


class _NotCifarError(Exception):
    """A file that is none of the official batches. The text names it, and says what is wrong."""

    def __init__(self, path: Path, layout: Layout, reason: str):
        super().__init__(f"{path}: is not one of {layout.title}'s Python batches ({reason})")


def _read_classes(path: Path, layout: Layout) -> tuple[str, ...]:
    names = _unpickle(path, layout).get(layout.names)
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, (str, bytes)) for name in names):
        raise _NotCifarError(path, layout, f"it has no list {layout.names} of class names")
    return tuple(map(_text, names))


def _read_batch(path: Path, layout: Layout, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    content = _unpickle(path, layout)
    data, labels = content.get("data"), content.get(layout.labels)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE or not len(data):
        raise _NotCifarError(path, layout, f"its data is not an array [images, {3 * SIDE * SIDE}]")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise _NotCifarError(path, layout, f"its {layout.labels} are not a list, one for each of {len(data)} images")
    if not all(type(label) is int and 0 <= label < num_classes for label in labels):
        raise _NotCifarError(path, layout, f"its {layout.labels} are not all integers in 0 … {num_classes - 1}")
    return data.reshape(-1, 3, SIDE, SIDE), np.array(labels, dtype=np.int64)


def _unpickle(path: Path, layout: Layout) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file).load()
    # A damaged pickle can raise nearly any exception, and this block does nothing but unpickle.
    except Exception as error:
        raise _NotCifarError(path, layout, str(error) or type(error).__name__) from None
    if not isinstance(content, dict):
        raise _NotCifarError(path, layout, f"it holds a {type(content).__name__}")
    return {_text(key): value for key, value in content.items()}


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler for plain containers, numbers, text and arrays of bytes; it refuses any other class."""

    def __init__(self, file: BinaryIO):
        # The official files come from Python 2, whose strings are bytes.
        super().__init__(file, encoding="bytes")

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

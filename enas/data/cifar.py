"""CIFAR-10 in its official Python batches (Krizhevsky 2009), read without running what a pickle may carry."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from enas.data.download import CATALOGUE, hint
from enas.errors import NotFoundError, UserError

SIDE = 32
ARCHIVE_FOLDER = "cifar-10-batches-py"

_GET_IT = f"get it with: {hint('cifar10')}"


@dataclass(frozen=True, eq=False)
class Cifar:
    """All of CIFAR-10.

    Attributes:
        classes: ten names.
        train_images, test_images: uint8 [N, 3, 32, 32].
        train_labels, test_labels: int64 [N], indices into `classes`.
    """

    classes: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def read_cifar(folder: Path) -> Cifar:
    """Read `data_batch_1` … `data_batch_5`, `test_batch` and `batches.meta`.

    They are in `folder`, or in `cifar-10-batches-py` inside it, as the official archive unpacks.

    Raises:
        NotFoundError: one of them is missing.
        UserError: one of them is damaged, or holds something else.
    """
    if (folder / ARCHIVE_FOLDER).is_dir():
        folder = folder / ARCHIVE_FOLDER
    names = [file.installed for file in CATALOGUE["cifar10"].files]
    for name in names:
        if not (folder / name).is_file():
            raise NotFoundError(f"{folder / name}: no such file; {_GET_IT}")
    classes = _read_classes(folder / "batches.meta")
    batches = {name: _read_batch(folder / name, len(classes)) for name in names if name != "batches.meta"}
    test_images, test_labels = batches.pop("test_batch")
    images, labels = zip(*batches.values(), strict=True)
    return Cifar(classes, np.concatenate(images), np.concatenate(labels), test_images, test_labels)


def _read_classes(path: Path) -> tuple[str, ...]:
    names = _unpickle(path).get("label_names")
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, (str, bytes)) for name in names):
        raise _not_cifar(path, "it has no list label_names of class names")
    return tuple(map(_text, names))


def _read_batch(path: Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    content = _unpickle(path)
    data, labels = content.get("data"), content.get("labels")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE or not len(data):
        raise _not_cifar(path, f"its data is not an array [images, {3 * SIDE * SIDE}]")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise _not_cifar(path, f"its labels are not a list, one for each of {len(data)} images")
    if not all(type(label) is int and 0 <= label < num_classes for label in labels):
        raise _not_cifar(path, f"its labels are not all integers in 0 … {num_classes - 1}")
    return data.reshape(-1, 3, SIDE, SIDE), np.array(labels, dtype=np.int64)


def _unpickle(path: Path) -> dict:
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file).load()
    # A damaged pickle can raise nearly any exception, and this block does nothing but unpickle.
    except Exception as error:
        raise _not_cifar(path, str(error) or type(error).__name__) from None
    if not isinstance(content, dict):
        raise _not_cifar(path, f"it holds a {type(content).__name__}")
    return {_text(key): value for key, value in content.items()}


def _not_cifar(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: is not one of CIFAR-10's Python batches ({reason}); remove it, and {_GET_IT}")


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler for plain containers, numbers, text and arrays of bytes; it refuses any other class."""

    def __init__(self, file: BinaryIO):
        # The official files come from Python 2, whose strings are bytes.
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no dataset needs")
        return _ALLOWED[module, name]


def _empty_array(*_) -> np.ndarray:
    # The pickle fills it in next, with a shape, a dtype and bytes that NumPy checks against each other.
    return np.empty(0, dtype=np.uint8)


def _bytes_dtype(code: str | bytes, *_) -> np.dtype:
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

"""CIFAR-10 and CIFAR-100 in their official Python batches (Krizhevsky 2009), read without running what they hold."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from enas.cnn.batches import MemoryImages
from enas.data.download import CATALOGUE, COMMAND
from enas.errors import NotFoundError, UserError
from enas.files import opened

SIDE = 32
LAYOUTS = {  # name -> title, folder inside the archive, and what the keys of labels and of classes' names begin with
    "cifar10": ("CIFAR-10", "cifar-10-batches-py", ""),
    "cifar100": ("CIFAR-100", "cifar-100-python", "fine_"),
}


def read_cifar(folder: Path, name: str = "cifar10") -> tuple[tuple[str, ...], MemoryImages, MemoryImages]:
    """Read `data_batch_1` … `data_batch_5`, `test_batch` and `batches.meta`; of cifar100 `train`, `test` and `meta`.

    They lie in `folder`, or in the folder inside it that the official archive unpacks into. Returns the names of the
    classes (of cifar100, its fine ones), the training images, and the test images. UserError when a file is damaged or
    holds something else, NotFoundError when a file is missing.
    """
    title, archive_folder, prefix = LAYOUTS[name]
    if (folder / archive_folder).is_dir():
        folder = folder / archive_folder
    *batches, meta = (folder / file.installed for file in CATALOGUE[name].files)
    classes, parts = (), []
    for path in (meta, *batches):
        try:
            with opened(path) as file:
                content = _PlainUnpickler(file, encoding="bytes").load()  # the official files come from Python 2
            content = {_text(key): value for key, value in content.items()}
            if path == meta:
                classes = _classes(content, f"{prefix}label_names")
            else:
                parts.append(_batch(content, f"{prefix}labels", len(classes)))
        except FileNotFoundError:
            raise NotFoundError(f"{path}: no such file; get it with: {COMMAND} {name}") from None
        # A damaged pickle can raise nearly any exception, and this block does nothing but read one.
        except Exception as error:
            fault = f"is not one of {title}'s Python batches ({' '.join(str(error).split()) or type(error).__name__})"
            raise UserError(f"{path}: {fault}; remove it, and get it with: {COMMAND} {name}") from None
    *train, test = parts
    return classes, MemoryImages(*map(torch.cat, zip(*train, strict=True))), MemoryImages(*test)


def _classes(content: dict[str, Any], key: str) -> tuple[str, ...]:
    names = content.get(key)
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, (str, bytes)) for name in names):
        raise UserError(f"it needs a list {key} of class names")
    return tuple(map(_text, names))


def _batch(content: dict[str, Any], key: str, num_classes: int) -> tuple[Tensor, Tensor]:
    """Images, uint8 [N, 3, 32, 32], and labels, int64 [N]."""
    data, labels = content.get("data"), content.get(key)
    fits = isinstance(data, np.ndarray) and data.ndim == 2 and data.shape[1] == 3 * SIDE * SIDE and len(data)
    fits = fits and isinstance(labels, list) and len(labels) == len(data)
    if not fits or not all(type(label) is int and 0 <= label < num_classes for label in labels):
        raise UserError(f"it needs data [images, {3 * SIDE * SIDE}], and as many {key}, integers below {num_classes}")
    return torch.from_numpy(data).reshape(-1, 3, SIDE, SIDE), torch.tensor(labels)


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler for plain containers, numbers, text and arrays of bytes; it refuses any other class."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no dataset needs")
        return _ALLOWED[module, name]


def _bytes_dtype(code: str | bytes, *_: object) -> np.dtype:
    if _text(code) != "u1":
        raise pickle.UnpicklingError(f"it has an array of {_text(code)}; expected u1, unsigned bytes")
    return np.dtype(np.uint8)


_ALLOWED = {
    # The pickle fills the empty array in next, with a shape, a dtype and bytes that NumPy checks against each other.
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: np.empty(0, dtype=np.uint8),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: np.empty(0, dtype=np.uint8),
    ("numpy", "ndarray"): "the class of the array to make, which is always the same",
    ("numpy", "dtype"): _bytes_dtype,
    ("_codecs", "encode"): str.encode,  # how Python 3 writes bytes in a pickle that Python 2 can read
}

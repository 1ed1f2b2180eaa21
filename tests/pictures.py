"""Image files and folders of them, so small that a test can afford them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from enas.data.builtin import SPLITS


def pixels(number: int, height: int = 8, width: int = 8) -> np.ndarray:
    """Random pixels, uint8 [H, W, 3], that `number` fixes."""
    return np.random.RandomState(number).randint(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, image: np.ndarray | Image.Image) -> None:
    """An image file, in the format that its suffix names; its folders are made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)


def write_folder(
    folder: Path, *, classes: Sequence[str] = ("cat", "dog"), counts: Mapping[str, int] | None = None, size: int = 8
) -> None:
    """Images `folder/SPLIT/CLASS/i.png`, by default 6, 3 and 4 a class, no two of them alike; () has no classes."""
    number = 0
    for split in SPLITS:
        for name in classes or (".",):
            for i in range((counts or {"train": 6, "valid": 3, "test": 4})[split]):
                write(folder / split / name / f"{i}.png", pixels(number, size, size))
                number += 1

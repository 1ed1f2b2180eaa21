"""Datasets without a download: `pydoc`, English prose; `markov`, text of a known perplexity floor; `shapes`, images.

A dataset is a folder that appears whole or not at all, with the same bytes at any time and under every Python.
"""

import itertools
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from PIL import Image

from enas.data.dataset_folder import SPLITS
from enas.data.shapes import SHAPES, render_shapes
from enas.files import atomic_folder

SHAPES_IMAGES = {"train": 4000, "valid": 1000, "test": 1000}


def unpack(name: str, folder: Path) -> None:
    """Unpack the text `name` of the package into `folder`; UserError for a folder in use.

    `pydoc` is prose of Python 3.11's language reference; examples/markov.py makes `markov`, and knows its floor.
    """
    with atomic_folder(folder) as made, zipfile.ZipFile(Path(__file__).with_name(f"{name}.zip")) as texts:
        texts.extractall(made)


def make_shapes(folder: str | Path, *, seed: int = 0, num_images: Mapping[str, int] = SHAPES_IMAGES) -> None:
    """Write `num_images` PNG pictures of `enas.data.shapes` a split, equally many of each class, into
    `folder/SPLIT/CLASS`; UserError for a folder in use.
    """
    with atomic_folder(Path(folder)) as made:
        for (number, split), (label, name) in itertools.product(enumerate(SPLITS), enumerate(SHAPES)):
            (made / split / name).mkdir(parents=True)
            for i, one in enumerate(render_shapes(name, num_images[split] // len(SHAPES), seed=(seed, number, label))):
                Image.fromarray(one).save(made / split / name / f"{i:04}.png")


MAKERS: dict[str, Callable[[Path], None]] = {name: partial(unpack, name) for name in ("pydoc", "markov")}
IMAGE_MAKERS: dict[str, Callable[[Path], None]] = {"shapes": make_shapes}

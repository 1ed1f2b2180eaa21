"""Folders of images: their files, checks that these fit together, and their pixels."""

from __future__ import annotations

import os
import signal
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_convert
from tqdm import tqdm

from enas.cnn.batches import Images, MemoryImages
from enas.data.builtin import SPLITS
from enas.data.dataset_folder import RESOURCES
from enas.errors import NotFoundError, UserError

OTHER_NAMES = {"train": ("training",), "valid": ("val", "validation", "dev"), "test": ("testing",)}
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")  # alone: Pillow starts Ghostscript for PostScript, whatever its name
MOST_PIXELS = 2**26  # of an image: it takes half a gigabyte while it is read
MAX_WORKERS = 8
KINDS = {"1": "grey-scale", "L": "grey-scale", "P": "palette", "RGB": "colour"}


@dataclass(frozen=True, eq=False)
class FileImages(Images, Dataset[Any]):
    """A split on disk, read ahead by worker processes: for images that do not fit in memory."""

    paths: Sequence[Path]
    labels: Tensor
    image_size: int = 0
    device: torch.device | str = "cpu"

    @property
    def size(self) -> tuple[int, int]:
        _, height, width = read_image(self.paths[0], self.image_size).shape
        return height, width

    def to(self, device: torch.device | str) -> FileImages:
        return replace(self, device=device)

    def in_memory(self, title: str) -> MemoryImages:
        """The split with its pixels read; `title` names the progress bar."""
        images = np.empty((len(self), 3, *self.size), dtype=np.uint8)
        for position, path in enumerate(tqdm(self.paths, desc=title, disable=None, leave=False)):
            images[position] = read_image(path, self.image_size)
        return MemoryImages(torch.from_numpy(images), self.labels)

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """As `Images.read`; `batches` is consumed some minibatches ahead. UserError for a file that cannot be read."""
        loader = DataLoader(
            self,
            batch_sampler=(index.tolist() for index in batches),
            num_workers=min(MAX_WORKERS, os.cpu_count() or 1),
            collate_fn=default_convert,
            worker_init_fn=_ignore_interrupt,
            generator=torch.Generator(),  # else it would draw from the global one, and change the run
        )
        for content in loader:
            if isinstance(content, UserError):
                raise content
            images, labels = content
            yield images.to(self.device), labels.to(self.device)

    def __getitems__(self, index: list[int]) -> tuple[Tensor, Tensor] | UserError:
        # An error raised in a worker would arrive with its traceback as text; one that is returned keeps its message.
        try:
            images = np.stack([read_image(self.paths[i], self.image_size) for i in index])
        except UserError as error:
            return error
        return torch.from_numpy(images), self.labels[index]


def _ignore_interrupt(_worker: int) -> None:
    # Ctrl-C reaches every process of the terminal; the run still needs its workers to finish the step and save.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def scan_folder(folder: Path, image_size: int = 0) -> tuple[tuple[str, ...], dict[str, FileImages], list[str]]:
    """List the images of `folder/{train,valid,test}`, in class folders or without any, and check their headers.

    Hidden files and `__MACOSX` are ignored. Other files, and a class of `train` missing from `valid` or `test`, give a
    note. UserError, naming the file or folder, for what does not fit together; NotFoundError for a missing split.

    Returns the names of the class folders, sorted, none if there are none; the splits, each class by class and sorted
    by name; and notes for the log.
    """
    notes: list[str] = []
    by_class = {split: _read_split(folder / split, notes) for split in SPLITS}
    classes = tuple(name for name in by_class["train"] if name)
    splits = {}
    for split, found in by_class.items():
        notes += _check_classes(folder / split, found, classes)
        files = [found.get(name, []) for name in classes or ("",)]
        labels = [label for label, paths in enumerate(files) for _ in paths]
        splits[split] = FileImages([*chain(*files)], torch.tensor(labels), image_size)
    paths = [path for split in splits.values() for path in split.paths]
    notes += _check_headers(paths, folder.name, image_size, is_square=not classes)
    return classes, splits, notes


def read_image(path: Path, image_size: int = 0) -> np.ndarray:
    """The pixels of a file, uint8 [3, H, W], turned as its EXIF orientation says.

    Other kinds become RGB, and transparent pixels white. Of an animation, the first frame is read. UserError if the
    file is not a readable image.
    """
    with _opened(path) as image:
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        pixels = resize(image.convert("RGB"), image_size)
    return np.asarray(pixels).transpose(2, 0, 1)  # [3, H, W]


def resize(image: Image.Image, image_size: int) -> Image.Image:
    """Bring the shorter side to `image_size` and cut the longer one to it, around the middle; 0 changes nothing."""
    return ImageOps.fit(image, (image_size, image_size)) if image_size else image


def _read_split(folder: Path, notes: list[str]) -> dict[str, list[Path]]:
    """The images of a split by class; or, under the name "", those without one. Notes are added to `notes`."""
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder; {_advice(folder)}")
    folders, loose, others = _entries(folder)
    if folders and loose:
        raise UserError(
            f"{loose[0]}: lies beside class folders such as {folders[0].name}; put every image into a class folder, "
            "or have no class folders at all, to train on rotation"
        )
    by_class = {"": loose} if loose else {}
    for class_folder in folders:
        inner, by_class[class_folder.name], more = _entries(class_folder)
        if inner:
            raise UserError(f"{inner[0]}: is a folder inside a class; put its images straight into {class_folder}")
        others += more
    if not any(by_class.values()):
        raise UserError(f"{folder}: has no images; they end in {', '.join(SUFFIXES)}")
    if others:
        besides = f" and {len(others) - 1:,} more files" if others[1:] else ""
        notes.append(f"{others[0]}{besides}: skipped, not an image")
    return by_class


def _advice(folder: Path) -> str:
    for name in OTHER_NAMES[folder.name]:
        if folder.with_name(name).is_dir():
            return f"rename {folder.with_name(name)} to {folder.name}"
    return (
        f"an image dataset has the folders {', '.join(SPLITS)}, each with a folder of images for every class, or with "
        "images alone"
    )


def _entries(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """The visible folders, images and other files in a folder, each sorted by name."""
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != RESOURCES)
    kinds: tuple[list[Path], list[Path], list[Path]] = [], [], []
    for path in visible:
        kinds[0 if path.is_dir() else 1 if path.suffix.lower() in SUFFIXES else 2].append(path)
    return kinds


def _check_classes(folder: Path, by_class: dict[str, list[Path]], classes: tuple[str, ...]) -> list[str]:
    """Compare a split's classes with those of the training split; returns notes."""
    is_train = folder.name == "train"
    if ("" in by_class) == bool(classes):
        has, has_not = ("train", folder.name) if classes else (folder.name, "train")
        raise UserError(f"{folder}: {has} has class folders and {has_not} has none; sort all splits alike")
    if is_train and len(classes) == 1:
        raise UserError(
            f"{folder}: has the one class {classes[0]}; classification needs two or more (and images without class "
            "folders train on rotation)"
        )
    unknown = [name for name in by_class if name and name not in classes]
    if unknown:
        raise UserError(f"{folder / unknown[0]}: train has no class {unknown[0]}; it has {', '.join(classes)}")
    empty = [name for name in classes if not by_class.get(name)]
    if empty and is_train:
        raise UserError(f"{folder / empty[0]}: has no images; fill or remove the class")
    return [f"{folder}: has no images of {', '.join(empty)}"] if empty else []


def _check_headers(paths: list[Path], name: str, image_size: int, is_square: bool) -> list[str]:
    """Check that all images have one size; returns a note if grey-scale, palette or transparent ones are mixed in."""
    kinds: Counter[str] = Counter()
    size = None
    for path in tqdm(paths, desc=f"{name}: looking", unit="image", disable=None, leave=False):
        with _opened(path) as image:
            kinds["transparent" if image.has_transparency_data else KINDS.get(image.mode, image.mode)] += 1
            found = (image_size, image_size) if image_size else image.size
        size = size or found
        if found != size:
            raise UserError(
                f"{path}: is {found[0]} × {found[1]} pixels, and {paths[0]} is {size[0]} × {size[1]}; make them of one "
                "size, or let --image_size do it"
            )
    if is_square and size and size[0] != size[1]:
        raise UserError(
            f"{paths[0]}: is {size[0]} × {size[1]} pixels; images without class folders train on rotation and must be "
            "square; --image_size makes them so"
        )
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    white = "; what is transparent became white" if "transparent" in kinds else ""
    return [f"{name}: images of several kinds became RGB: {counts}{white}"] if len(kinds) > 1 else []


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image in a file, upright; pixels are decoded when they are asked for."""
    # Besides OSError, Pillow meets damage with SyntaxError, ValueError, struct.error and others. All of them mean the
    # same here, and nothing but reading the image goes on inside such a block.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=FORMATS)
        with opened as image:
            if image.width * image.height > MOST_PIXELS:
                size = f"{image.width:,} × {image.height:,}"
                raise UserError(f"{path}: is {size} pixels; images may have {MOST_PIXELS:,}: make it smaller")
            if image.mode[0] in "IF":
                raise UserError(
                    f"{path}: has more than 8 bits a channel (Pillow's mode {image.mode}); convert it to 8 bits"
                )
            ImageOps.exif_transpose(image, in_place=True)
            yield image
    except UserError:
        raise
    except Exception as error:
        why = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise UserError(f"{path}: is not a readable image{why}; replace or remove it") from None

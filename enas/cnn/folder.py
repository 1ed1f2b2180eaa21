"""Folders of images: their files by class, checks that these fit together, and the pixels of a file."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from enas.cnn.network import pixels
from enas.data.dataset_folder import RESOURCES, SPLITS
from enas.errors import NotFoundError, UserError
from enas.files import MOST_PIXELS, opened
from enas.settings import place
from enas.terminal import progress_bar

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")  # alone: Pillow starts Ghostscript for PostScript, whatever its name
KINDS = {"1": "grey-scale", "L": "grey-scale", "P": "palette", "RGB": "colour"}
LAYOUT = (
    f"an image dataset has the folders {', '.join(SPLITS)}, each with the same two or more class folders of images, or "
    f"with images alone, to train on rotation; images end in {', '.join(SUFFIXES)}"
)


def scan_folder(folder: Path, image_size: int = 0) -> tuple[tuple[str, ...], dict[str, dict[Path, int]], list[str]]:
    """List the images of `folder/{train,valid,test}`, in class folders or without any, and check their headers.

    Returns the names of the class folders, sorted, none if there are none; the label of each image of each split, class
    by class and sorted by name; and notes for the log, on files that are no images, and on a class of `train` missing
    from `valid` or `test`. Hidden files and `__MACOSX` are ignored. UserError, naming the file or folder, for what does
    not fit together; NotFoundError for a missing split.
    """
    notes: list[str] = []
    splits = {}
    found = {split: _by_class(folder / split, notes) for split in SPLITS}
    names = list(found["train"])
    if len(names) == 1 and names[0]:
        raise _refused(folder / "train" / names[0], "is the only class")
    for split, by_class in found.items():
        if strange := [name for name in by_class if name not in names]:
            raise _refused(folder / split / strange[0], "is no class of train")
        empty = [name for name in names if not by_class.get(name)]
        if empty and split == "train":
            raise _refused(folder / split / empty[0], "has no images")
        if empty:
            notes.append(f"{folder / split}: has no images of {', '.join(empty)}")
        splits[split] = {path: label for label, name in enumerate(names) for path in by_class.get(name, [])}
    classes = tuple(filter(None, names))
    paths = [path for images in splits.values() for path in images]
    return classes, splits, notes + _check_headers(paths, folder.name, image_size, is_square=not classes)


def read_image(path: Path, image_size: int = 0) -> np.ndarray:
    """Read the `pixels` of a file, uint8 [3, H, W]; of an animation, the first frame.

    The shorter side becomes `image_size`, unless that is 0. UserError if the file is not a readable image.
    """
    with _opened(path) as image:
        return pixels(image, image_size or image.height, image_size or image.width).numpy()


def _refused(path: Path, fault: str) -> UserError:
    return UserError(f"{path}: {fault}; {LAYOUT}")


def _by_class(folder: Path, notes: list[str]) -> dict[str, list[Path]]:
    """Return the images of a split by class, under "" if there are no classes. Other files add a note to `notes`."""
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder; {LAYOUT}")
    folders, loose, others = _entries(folder)
    by_class = {"": loose} if loose else {}
    for class_folder in folders:
        inner, by_class[Path(place(class_folder, "a class")).name], more = _entries(class_folder)
        if inner or loose:
            raise _refused((inner + loose)[0], "is out of place")
        others += more
    if not any(by_class.values()):
        raise _refused(folder, "has no images")
    if others:
        besides = f" and {len(others) - 1:,} more files" if others[1:] else ""
        notes.append(f"{others[0]}{besides}: skipped, not an image")
    return by_class


def _entries(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Return the visible folders, images and other files in a folder, each sorted by name."""
    kinds: tuple[list[Path], list[Path], list[Path]] = [], [], []
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.name != RESOURCES:
            kinds[0 if path.is_dir() else 1 if path.suffix.lower() in SUFFIXES else 2].append(path)
    return kinds


def _check_headers(paths: list[Path], name: str, image_size: int, *, is_square: bool) -> list[str]:
    """Check that all images have one size; returns a note if grey-scale, palette or transparent ones are mixed in."""
    kinds: Counter[str] = Counter()
    sizes: dict[Path, tuple[int, int]] = {}
    with warnings.catch_warnings():  # here and not with each image, which threads read later
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it is refused
        for path in progress_bar(paths, f"{name}: looking", unit="image"):
            with _opened(path) as image:
                kinds["transparent" if image.has_transparency_data else KINDS.get(image.mode, image.mode)] += 1
                sizes[path] = (image_size, image_size) if image_size else image.size
    ((width, height), _), *_ = Counter(sizes.values()).most_common()
    height = width if is_square else height
    for path, size in sizes.items():
        if size != (width, height):
            right = "without class folders, to train on rotation, they are square: let --image_size do it"
            found = f"is {size[0]} × {size[1]} pixels, not {width} × {height}"
            raise UserError(f"{path}: {found}; images have one size, and {right}")
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    white = "; what is transparent became white" if "transparent" in kinds else ""
    return [f"{name}: images of several kinds became RGB: {counts}{white}"] if len(kinds) > 1 else []


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open the image in a file, upright; pixels are decoded when they are asked for."""
    # Pillow meets damage with OSError, SyntaxError, ValueError, struct.error and others, which mean the same here.
    try:
        with opened(path) as file:
            image = Image.open(file, formats=FORMATS)
            if image.width * image.height > MOST_PIXELS or image.mode[0] in "IF":
                raise ValueError(f"{image.width:,} × {image.height:,} pixels of Pillow's mode {image.mode}")
            ImageOps.exif_transpose(image, in_place=True)
            yield image
    except (UserError, MemoryError):
        raise
    except Exception as error:
        right = f"replace or remove it; images have 8 bits a channel and at most {MOST_PIXELS:,} pixels"
        raise UserError(f"{path}: is not a readable image ({error}); {right}") from error

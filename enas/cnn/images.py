"""Image datasets: CIFAR-10, `shapes`, and folders of images, split and ready to be cut into minibatches."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from enas.cnn.batches import FileImages, MemoryImages, channel_statistics
from enas.cnn.cifar import LAYOUTS, read_cifar
from enas.cnn.folder import read_image, resize, scan_folder
from enas.data.builtin import IMAGE_MAKERS, SPLITS
from enas.data.dataset_folder import Kind
from enas.data.download import ALIASES
from enas.data.identity import Identity, digest_of_files, digest_of_tensors
from enas.errors import UserError

IMAGES = Kind(
    layout="an image dataset is a folder with train, valid and test in it",
    own="for images of your own, put folders train, valid and test",
    example="train/",
    downloads=LAYOUTS,
    makers=IMAGE_MAKERS,
)
ROTATIONS = ("0°", "90°", "180°", "270°")


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """An image dataset.

    Attributes:
        name: the dataset's name, also that of its folder.
        classes: label -> name. Those of images without labels are `ROTATIONS`, and as the files hold them all images
            have label 0.
        train, valid, test: the splits.
        mean, std: of each colour channel of the training split, in units of 0 … 255, float32 [3].
        is_rotation: whether the images have no labels, so that rotations by quarter turns are to be told apart
            (Liu et al. 2020, "Are Labels Necessary for Neural Architecture Search?").
        notes: log lines about the data.
        digests: split -> digest of its content; see `identity`.
    """

    name: str
    classes: tuple[str, ...]
    train: MemoryImages | FileImages
    valid: MemoryImages | FileImages
    test: MemoryImages | FileImages
    mean: Tensor
    std: Tensor
    is_rotation: bool
    notes: tuple[str, ...]
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> Identity:
        """What another reading of the images must have in common with this one."""
        return Identity("classes", self.classes, self.digests)


def load_images(
    name: str,
    *,
    data_dir: str | Path = "data",
    image_size: int = 0,
    valid_size: int = 5000,
    memory_limit: int | None = None,
) -> ImageDataset:
    """Read CIFAR-10 (`cifar10` or `cifar`), CIFAR-100 (`cifar100`), or `data_dir/name/{train,valid,test}`.

    `shapes` is made on first use.

    Args:
        name: the dataset.
        data_dir: the folder of all datasets.
        image_size: side in pixels that images are brought to: the shorter side is resized, the longer one cut around
            the middle. 0 leaves them as they are, and all must then be of one size.
        valid_size: how many of CIFAR's training images are held out for validation, the same ones always, as many
            of each class (paper section 3.2: 5,000); 0 holds none out, so that `valid` is empty.
        memory_limit: bytes. A folder whose pixels take more is left on the disk, and worker processes read it
            throughout the run. By default half of the machine's memory.

    Raises:
        NotFoundError: the dataset or a part of it is missing; the message says how to get it.
        UserError: an argument or the content of a file is unusable; see also `scan_folder`.
    """
    name = ALIASES.get(name, name)
    if image_size < 0:
        raise UserError(f"image_size is {image_size}; it must be at least 0, which leaves images as they are")
    folder = IMAGES.find(name, Path(data_dir))
    if name in LAYOUTS:
        return _load_cifar(name, folder, image_size, valid_size)
    if memory_limit is None:
        memory_limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _load_folder(folder, image_size, memory_limit)


def _load_cifar(name: str, folder: Path, image_size: int, valid_size: int) -> ImageDataset:
    cifar = read_cifar(folder, name)
    num = len(cifar.train_labels)
    if not 0 <= valid_size < num:
        raise UserError(f"valid_size is {valid_size}; it must be between 0 and {num - 1:,}, one less than all")
    # Its own generator, so that the split does not depend on the run's seed.
    rng = random.Random(f"{name} validation")
    is_valid = stratified_choice(cifar.train_labels, valid_size, [rng.random() for _ in range(num)])
    train = _in_memory(cifar.train_images[~is_valid], cifar.train_labels[~is_valid], image_size)
    valid = _in_memory(cifar.train_images[is_valid], cifar.train_labels[is_valid], image_size)
    test = _in_memory(cifar.test_images, cifar.test_labels, image_size)
    note = f"{name}: {valid_size:,} of {num:,} training images are held out for validation"
    if valid_size == 0:
        note = f"{name}: all {num:,} images are trained on and none validates; the last epoch is tested"
    digests = {
        split: digest_of_tensors(images.images, images.labels)
        for split, images in zip(SPLITS, (train, valid, test), strict=True)
    }
    return ImageDataset(name, cifar.classes, train, valid, test, *channel_statistics(train), False, (note,), digests)


def _in_memory(images: np.ndarray, labels: np.ndarray, image_size: int) -> MemoryImages:
    if image_size not in (0, images.shape[-1]) and len(images):
        pictures = (Image.fromarray(image.transpose(1, 2, 0)) for image in images)
        images = np.stack([np.asarray(resize(picture, image_size)).transpose(2, 0, 1) for picture in pictures])
    return MemoryImages(torch.from_numpy(images), torch.from_numpy(labels))


def stratified_choice(labels: np.ndarray, num: int, keys: Sequence[float]) -> np.ndarray:
    """Mark `num` examples, the same share of each class: bool [N].

    Args:
        labels: integers [N].
        num: how many to mark.
        keys: a random number for each example; within a class, those with the lowest are marked.
    """
    order = np.lexsort((np.asarray(keys), labels))  # class by class, by key within each
    _, first, count = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(first, count)
    quantile = (rank + 0.5) / np.repeat(count, count)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order[np.argsort(quantile, kind="stable")[:num]]] = True
    return chosen


def _load_folder(folder: Path, image_size: int, memory_limit: int) -> ImageDataset:
    found = scan_folder(folder, image_size)
    notes = list(found.notes)
    num = sum(len(paths) for paths in found.paths.values())
    num_bytes = num * 3 * found.height * found.width
    is_large = num_bytes > memory_limit
    if is_large:
        notes.append(
            f"{folder}: {num:,} images take {num_bytes / 2**30:.2g} GiB, more than the limit of "
            f"{memory_limit / 2**30:.2g} GiB; worker processes read them throughout the run"
        )
    if not found.classes:
        rotations = f"{', '.join(ROTATIONS[:-1])} and {ROTATIONS[-1]}"
        notes.append(f"{folder}: has no class folders; the search trains on telling rotations by {rotations}")
    files = {split: FileImages(found.paths[split], torch.tensor(found.labels[split]), image_size) for split in SPLITS}
    splits = (
        files if is_large else {split: _decoded(files[split], f"{folder.name}: decoding {split}") for split in files}
    )
    mean, std = channel_statistics(splits["train"])
    return ImageDataset(
        name=folder.name,
        classes=found.classes or ROTATIONS,
        mean=mean,
        std=std,
        is_rotation=not found.classes,
        notes=tuple(notes),
        digests={split: digest_of_files(found.paths[split], folder) for split in SPLITS},
        **splits,
    )


def _decoded(split: FileImages, title: str) -> MemoryImages:
    images = np.empty((len(split), 3, *split.size), dtype=np.uint8)
    for position, path in enumerate(tqdm(split.paths, desc=title, disable=None, leave=False)):
        images[position] = read_image(path, split.image_size)
    return MemoryImages(torch.from_numpy(images), split.labels)

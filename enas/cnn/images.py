"""Image datasets: CIFAR-10, `shapes`, and folders of images, split and ready to be cut into minibatches."""

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from enas.cnn.batches import FileImages, Images, MemoryImages, channel_statistics
from enas.cnn.cifar import LAYOUTS, read_cifar
from enas.cnn.folder import scan_folder
from enas.cnn.network import pixels
from enas.data.builtin import IMAGE_MAKERS, MAKERS
from enas.data.dataset_folder import Kind
from enas.data.download import ALIASES, TEXTS
from enas.data.identity import UNKNOWN, Identity, digest_of_files, digest_of_tensors
from enas.errors import UserError

OTHERS = {one: f"{one} holds text: leave --network_type cnn out" for one in (*MAKERS, *TEXTS)}
IMAGES = Kind("for your own images, put folders train, valid, test", "train/", LAYOUTS, IMAGE_MAKERS, OTHERS)
HALF_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # bytes
ROTATIONS = ("0°", "90°", "180°", "270°")


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """An image dataset and its three splits."""

    name: str
    classes: tuple[str, ...]  # label -> name; `ROTATIONS` for images without labels, whose labels are 0 in the splits
    train: Images
    valid: Images
    test: Images
    mean: Tensor  # of each colour channel of the training split, in units of 0 … 255, float32 [3]
    std: Tensor
    is_rotation: bool  # the images have no labels, and rotations are told apart (Liu et al. 2020, arXiv:2003.12056)
    notes: tuple[str, ...]  # log lines about the data
    identity: Identity = UNKNOWN  # the digests that another reading of the images must share


def load_images(
    name: str, *, data_dir: str | Path, image_size: int = 0, valid_size: int = 5000, memory_limit: int = HALF_MEMORY
) -> ImageDataset:
    """Read CIFAR-10 (`cifar10` or `cifar`), CIFAR-100 (`cifar100`), or `data_dir/name`; `shapes` is made on first use.

    Args:
        image_size: side of the images in pixels: the shorter side is resized, the longer one cut around the middle. 0
            leaves images as they are, and all must then be of one size.
        valid_size: how many of CIFAR's training images are held out for validation, always the same ones, as many
            of each class (paper section 3.2: 5,000); 0 holds none out, so that `valid` is empty.
        memory_limit: bytes. If its pixels take more, a folder is left on the disk, and read throughout the run.

    NotFoundError, which says how to get it, when the dataset or a part of it is missing; UserError when an argument or
    a file is unusable, see also `scan_folder`.
    """
    name = ALIASES.get(name, name)
    folder = IMAGES.find(name, data_dir)
    if name in LAYOUTS:
        return _load_cifar(name, folder, image_size, valid_size)
    return _load_folder(folder, image_size, memory_limit)


def _load_cifar(name: str, folder: Path, image_size: int, valid_size: int) -> ImageDataset:
    classes, images, test = read_cifar(folder, name)
    num = len(images)
    if not 0 <= valid_size < num:
        raise UserError(f"valid_size is {valid_size}; it must be between 0 and {num - 1:,}, one less than all")
    # Its own generator, so that the split does not depend on the run's seed.
    rng = random.Random(f"{name} validation")
    chosen = stratified_choice(images.labels.numpy(), valid_size, [rng.random() for _ in range(num)])
    is_valid = torch.from_numpy(chosen)
    train, valid = (MemoryImages(images.images[mask], images.labels[mask]) for mask in (~is_valid, is_valid))
    splits = [_resized(part, image_size) for part in (train, valid, test)]
    note = f"{name}: {valid_size:,} of {num:,} training images are held out for validation"
    if valid_size == 0:
        note = f"{name}: all {num:,} images are trained on and none validates; the last epoch is tested"
    # Of the images as they are published: a run from scratch may hold out others than its search, and resize.
    digests = {name: digest_of_tensors(one.images, one.labels) for name, one in (("train", images), ("test", test))}
    identity = Identity("classes", classes, digests)
    return ImageDataset(name, classes, *splits, *channel_statistics(splits[0]), False, (note,), identity)


def _resized(split: MemoryImages, image_size: int) -> MemoryImages:
    if image_size in (0, split.size[1]) or not len(split):
        return split
    pictures = (Image.fromarray(image) for image in split.images.permute(0, 2, 3, 1).numpy())
    images = torch.stack([pixels(picture, image_size, image_size) for picture in pictures])
    return MemoryImages(images.contiguous(), split.labels)


def stratified_choice(labels: np.ndarray, num: int, keys: Sequence[float]) -> np.ndarray:
    """Mark `num` of N examples, the same share of each class, by the lowest random `keys` of a class: bool [N]."""
    order = np.lexsort((np.asarray(keys), labels))  # class by class, by key within each
    _, counts = np.unique(labels, return_counts=True)
    quantile = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])  # within the class
    return np.isin(np.arange(len(labels)), order[np.argsort(quantile, kind="stable")[:num]])


def _load_folder(folder: Path, image_size: int, memory_limit: int) -> ImageDataset:
    classes, found, notes = scan_folder(folder, image_size)
    files = {split: FileImages([*one], torch.tensor([*one.values()]), image_size) for split, one in found.items()}
    digests = {split: digest_of_files(part.paths, folder) for split, part in files.items()}
    num = sum(map(len, files.values()))
    num_bytes = num * 3 * int(np.prod(files["train"].size))
    splits: Mapping[str, Images] = files
    if num_bytes > memory_limit:
        size, limit = (f"{size / 2**30:.2g} GiB" for size in (num_bytes, memory_limit))
        large = f"{num:,} images take {size}, more than the limit of {limit}"
        notes.append(f"{folder}: {large}; they are read throughout the run")
    else:
        splits = {split: part.in_memory(f"{folder.name}: decoding {split}") for split, part in files.items()}
    if not classes:
        task = "the search trains on telling rotations by 0°, 90°, 180° and 270°"
        notes.append(f"{folder}: has no class folders; {task}")
    statistics, identity = channel_statistics(splits["train"]), Identity("classes", classes or ROTATIONS, digests)
    return ImageDataset(folder.name, identity.names, *splits.values(), *statistics, not classes, tuple(notes), identity)

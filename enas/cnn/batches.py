"""Image splits, in memory or on disk, and the minibatches cut from them.

Shapes: N images in a split, B in a minibatch, [3, H, W] each; uint8, red, green and blue.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from enas.cnn.folder import read_image
from enas.errors import UserError
from enas.terminal import progress_bar

STATISTICS_IMAGES = 50_000  # enough for means to three digits; reading millions of files would take long
READERS = 8  # threads: Pillow decodes and resizes without Python's lock
READ_AHEAD = 4  # minibatches


@dataclass(frozen=True, eq=False)
class MemoryImages:
    """A split in memory: N images of one size, uint8 [N, 3, H, W], and their labels, int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[3]

    def to(self, device: torch.device | str) -> Self:
        """Return the split with its minibatches on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images [B, 3, H, W] and labels [B] for each of `batches`, int64 [B] indices into the split."""
        for index in batches:
            yield self.images[index], self.labels[index]


@dataclass(frozen=True, eq=False)
class FileImages:
    """A split on disk, read ahead by threads, for images that do not fit in memory: as `MemoryImages`."""

    paths: Sequence[Path]
    labels: Tensor
    image_size: int = 0
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        return read_image(self.paths[0], self.image_size).shape[1:]

    def to(self, device: torch.device | str) -> Self:
        return replace(self, device=device)

    def in_memory(self, title: str) -> MemoryImages:
        """Read the pixels of the split; `title` names the progress bar."""
        images = np.empty((len(self), 3, *self.size), dtype=np.uint8)
        for position, path in enumerate(progress_bar(self.paths, title)):
            images[position] = read_image(path, self.image_size)
        return MemoryImages(torch.from_numpy(images), self.labels)

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """As `MemoryImages.read`, but some minibatches ahead of `batches`; UserError for an unreadable file."""
        pool = ThreadPoolExecutor(READERS)
        begun = ((index, pool.map(self._image, index.tolist())) for index in batches)
        ahead = deque(islice(begun, READ_AHEAD))
        try:
            while ahead:
                index, images = ahead.popleft()
                ahead.extend(islice(begun, 1))
                yield torch.from_numpy(np.stack([*images])).to(self.device), self.labels[index].to(self.device)
        finally:
            pool.shutdown(cancel_futures=True)

    def _image(self, index: int) -> np.ndarray:
        return np.ascontiguousarray(read_image(self.paths[index], self.image_size))  # else stacking would take long


Images = MemoryImages | FileImages


class TrainingImages(Iterator[tuple[Tensor, Tensor]]):
    """Endless minibatches `(images, labels)`: pass after pass, each in a fresh random order.

    A pass drops the images that fill no minibatch. UserError, which calls the split `name`, if all are too few for one.
    """

    def __init__(self, split: Images, batch_size: int, *, seed: int, name: str = "the split"):
        if not 1 <= batch_size <= len(split):
            right = f"it must be between 1 and the number of images, {len(split):,}"
            raise UserError(f"{name}: batch size is {batch_size}; {right}")
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.batches_per_pass = len(split) // batch_size
        self.go_to(0)

    def go_to(self, cursor: int) -> None:
        """Go on with the minibatch after the first `cursor` ones."""
        self.cursor = cursor  # with the seed it fixes all that follow, so nothing else is saved
        # Not a method's generator: a cycle of references would delay the end of the threads that read ahead.
        self._reader = self.split.read(_endless(self.split, self.batch_size, self.seed, cursor))

    def __next__(self) -> tuple[Tensor, Tensor]:
        batch = next(self._reader)
        self.cursor += 1
        return batch


def _endless(split: Images, batch_size: int, seed: int, cursor: int) -> Iterator[Tensor]:
    """Yield the images of each minibatch from the cursor on, [B] each."""
    per_pass = len(split) // batch_size
    for number in count(cursor // per_pass):
        order = _shuffled(len(split), seed, number).to(split.labels.device)
        yield from order.split(batch_size)[cursor % per_pass : per_pass]
        cursor = 0


def evaluation_batches(split: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Return minibatches `(images, labels)` of at most `batch_size` that hold every image once.

    Their sizes differ by at most one and their order is a fixed shuffle: models normalise by batch statistics, which a
    few left-over images, or one class after the other, would distort.
    """
    order = _shuffled(len(split), 0).to(split.labels.device)
    return split.read(order.tensor_split(-(-len(split) // batch_size)))


def channel_statistics(split: Images) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each colour channel in units of 0 … 255, float32 [3] each.

    All pixels count, or if there are more images than `STATISTICS_IMAGES`, the pixels of about as many, evenly spaced.
    """
    step = -(-len(split) // STATISTICS_IMAGES)
    histogram = torch.zeros(3, 256, dtype=torch.float64)
    for images, _ in split.read(torch.arange(0, len(split), step).split(256)):
        histogram += torch.stack([images[:, channel].flatten().bincount(minlength=256) for channel in range(3)]).cpu()
    share = histogram / histogram.sum(1, keepdim=True)  # [3, 256]
    value = torch.arange(256, dtype=torch.float64)
    mean = (share * value).sum(1)
    variance = (share * (value - mean.unsqueeze(1)).square()).sum(1)
    # A channel of one value only has nothing to scale; by 1 it stays finite.
    return mean.float(), variance.sqrt().clamp(min=1.0).float()


def _shuffled(num: int, *seed: int) -> Tensor:
    """0 … num−1 in the order that the integers of `seed` fix: int64 [num]. No global random state is touched."""
    return torch.from_numpy(np.random.default_rng(seed).permutation(num))

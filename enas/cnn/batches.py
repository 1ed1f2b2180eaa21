"""Image splits and the minibatches cut from them.

Shapes: N images in a split, B in a minibatch, [3, H, W] each; uint8, red, green and blue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from enas.errors import UserError

STATISTICS_IMAGES = 50_000  # enough for means to three digits; reading millions of files would take long


class Images(ABC):
    """A split: N images, all of one size, and their labels, int64 [N]."""

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Images:
        """The split with its minibatches on `device`."""

    @abstractmethod
    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images [B, 3, H, W] and labels [B] for each of `batches`, int64 [B] indices into the split."""


@dataclass(frozen=True, eq=False)
class MemoryImages(Images):
    """A split that is held in memory: uint8 [N, 3, H, W]."""

    images: Tensor
    labels: Tensor

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[3]

    def to(self, device: torch.device | str) -> MemoryImages:
        return MemoryImages(self.images.to(device), self.labels.to(device))

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for index in batches:
            yield self.images[index], self.labels[index]


class TrainingImages(Iterator[tuple[Tensor, Tensor]]):
    """Endless minibatches `(images, labels)`: pass after pass, each in a fresh random order.

    The remainder of a pass that does not fill a minibatch is dropped; it differs from pass to pass.

    Attributes:
        batches_per_pass: number of minibatches from one order of the images to the next.
        cursor: minibatches drawn so far. With the seed it determines all that follow, so it is all there is to save.

    UserError when the split, which the line calls `name`, does not fill a minibatch.
    """

    def __init__(self, split: Images, batch_size: int, *, seed: int, name: str = "the split"):
        if not 1 <= batch_size <= len(split):
            raise UserError(
                f"{name}: batch size is {batch_size}; it must be between 1 and the number of images, {len(split):,}"
            )
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.batches_per_pass = len(split) // batch_size
        self.cursor = 0
        self._reader: Iterator[tuple[Tensor, Tensor]] | None = None

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self._reader is None:
            # Not a method's generator: a cycle of references through the worker processes would delay their end.
            self._reader = self.split.read(_endless(self.split, self.batch_size, self.seed, self.cursor))
        batch = next(self._reader)
        self.cursor += 1
        return batch

    def go_to(self, cursor: int) -> None:
        """Go on with the minibatch after the first `cursor` ones."""
        self.cursor, self._reader = cursor, None


def _endless(split: Images, batch_size: int, seed: int, cursor: int) -> Iterator[Tensor]:
    """The images of each minibatch from the cursor on, [B] each."""
    batches_per_pass = len(split) // batch_size
    number, start = divmod(cursor, batches_per_pass)
    while True:
        order = _shuffled(len(split), seed, number).to(split.labels.device)
        yield from order.split(batch_size)[start:batches_per_pass]
        number, start = number + 1, 0


def evaluation_batches(split: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches `(images, labels)` of at most `batch_size` that hold every image once.

    Their sizes differ by at most one and their order is a fixed shuffle: models normalise by batch statistics, which
    those of a few left-over images, or of one class after the other, would distort.
    """
    order = _shuffled(len(split), 0).to(split.labels.device)
    return split.read(order.tensor_split(-(-len(split) // batch_size)))


def channel_statistics(split: Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each colour channel in units of 0 … 255, float32 [3] each.

    They are those of all pixels, or of the pixels of `STATISTICS_IMAGES` evenly spaced images where there are more.
    """
    step = -(-len(split) // STATISTICS_IMAGES)
    histogram = torch.zeros(3, 256, dtype=torch.float64)
    for images, _ in split.read(torch.arange(0, len(split), step).split(256)):
        for channel in range(3):
            histogram[channel] += images[:, channel].flatten().bincount(minlength=256).cpu()
    share = histogram / histogram.sum(1, keepdim=True)  # [3, 256]
    value = torch.arange(256, dtype=torch.float64)
    mean = (share * value).sum(1)
    variance = (share * (value - mean.unsqueeze(1)).square()).sum(1)
    # A channel of one value only has nothing to scale; by 1 it stays finite.
    return mean.float(), variance.sqrt().clamp(min=1.0).float()


def _shuffled(num: int, *seed: int) -> Tensor:
    """0 … num−1 in the order that the integers of `seed` fix: int64 [num]. No global random state is touched."""
    return torch.from_numpy(np.random.default_rng(seed).permutation(num))

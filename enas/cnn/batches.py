"""Image splits and the minibatches cut from them.

Shapes: N images in a split, B in a minibatch, [3, H, W] each; uint8, red, green and blue.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from enas.cnn.folder import read_image
from enas.errors import UserError

MAX_WORKERS = 8
STATISTICS_IMAGES = 50_000  # enough for means to three digits; reading millions of files would take long


@dataclass(frozen=True, eq=False)
class MemoryImages:
    """A split that is held in memory.

    Attributes:
        images: uint8 [N, 3, H, W].
        labels: int64 [N].
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.images.shape[2:]
        return height, width

    def to(self, device: torch.device | str) -> MemoryImages:
        """The split on `device`; its minibatches are there too."""
        return MemoryImages(self.images.to(device), self.labels.to(device))

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images [B, 3, H, W] and labels [B] for each of `batches`, int64 [B] indices into the split."""
        for index in batches:
            index = index.to(self.labels.device)
            yield self.images[index], self.labels[index]


@dataclass(frozen=True, eq=False)
class FileImages(Dataset[Any]):
    """A split on disk, read ahead by worker processes: for images that do not fit in memory.

    Attributes:
        paths: N files.
        labels: int64 [N].
        image_size: see `read_image`.
        device: of the minibatches.
    """

    paths: Sequence[Path]
    labels: Tensor
    image_size: int = 0
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        _, height, width = read_image(self.paths[0], self.image_size).shape
        return height, width

    def to(self, device: torch.device | str) -> FileImages:
        """The split with its minibatches on `device`."""
        return replace(self, device=device)

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """As `MemoryImages.read`; `batches` is consumed some minibatches ahead.

        Raises:
            UserError: a file cannot be read.
        """
        loader = DataLoader(
            self,
            batch_sampler=(index.tolist() for index in batches),
            num_workers=min(MAX_WORKERS, os.cpu_count() or 1),
            collate_fn=_unchanged,
            worker_init_fn=_ignore_interrupt,
            generator=torch.Generator(),  # else it would draw from the global one, and change the run
        )
        for content in loader:
            if isinstance(content, ValueError):
                raise content
            images, labels = content
            yield images.to(self.device), labels.to(self.device)

    def __getitems__(self, index: list[int]) -> tuple[Tensor, Tensor] | ValueError:
        # An error raised in a worker would arrive with its traceback as text; one that is returned keeps its message.
        try:
            images = np.stack([read_image(self.paths[i], self.image_size) for i in index])
        except UserError as error:
            return error
        return torch.from_numpy(images), self.labels[index]


def _unchanged(content: Any) -> Any:
    return content


def _ignore_interrupt(_worker: int) -> None:
    # Ctrl-C reaches every process of the terminal; the run still needs its workers to finish the step and save.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class TrainingImages:
    """Endless minibatches `(images, labels)`: pass after pass, each in a fresh random order.

    The remainder of a pass that does not fill a minibatch is dropped; it differs from pass to pass.

    Attributes:
        cursor: minibatches drawn so far. With the seed it determines all that follow, so it is the whole state.
    """

    def __init__(self, split: MemoryImages | FileImages, batch_size: int, *, seed: int, name: str = "the split"):
        """`name` says in an error which split was too small: UserError unless it fills a minibatch."""
        if not 1 <= batch_size <= len(split):
            raise UserError(
                f"{name}: batch size is {batch_size}; it must be between 1 and the number of images, {len(split):,}"
            )
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.cursor = 0
        self._reader: Iterator[tuple[Tensor, Tensor]] | None = None

    @property
    def batches_per_pass(self) -> int:
        """Number of minibatches from one order of the images to the next."""
        return len(self.split) // self.batch_size

    def __iter__(self) -> TrainingImages:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self._reader is None:
            # Not a method's generator: a cycle of references through the worker processes would delay their end.
            self._reader = self.split.read(_endless(self.split, self.batch_size, self.seed, self.cursor))
        batch = next(self._reader)
        self.cursor += 1
        return batch

    def state_dict(self) -> dict[str, int]:
        """The position, as plain integers."""
        return {"cursor": self.cursor, **self._identity()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken; UserError if that was with other images, batch size or seed."""
        for key, value in self._identity().items():
            if state[key] != value:
                raise UserError(
                    f"the saved reading position belongs to {key} {state[key]}, not {value}; use the images, the batch "
                    "size and the seed it was saved with"
                )
        if state["cursor"] < 0:
            raise UserError(f"the saved cursor is {state['cursor']}; it must be at least 0")
        self.cursor = state["cursor"]
        self._reader = None

    def _identity(self) -> dict[str, int]:
        return {"num_images": len(self.split), "batch_size": self.batch_size, "seed": self.seed}


def _endless(split: MemoryImages | FileImages, batch_size: int, seed: int, cursor: int) -> Iterator[Tensor]:
    """The images of each minibatch from the cursor on, [B] each."""
    batches_per_pass = len(split) // batch_size
    number, start = divmod(cursor, batches_per_pass)
    while True:
        order = _shuffled(len(split), seed, number).to(split.labels.device)
        yield from order.split(batch_size)[start:batches_per_pass]
        number, start = number + 1, 0


def evaluation_batches(split: MemoryImages | FileImages, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches `(images, labels)` of at most `batch_size` that hold every image once.

    Their sizes differ by at most one and their order is a fixed shuffle: models normalise by batch statistics, which
    those of a few left-over images, or of one class after the other, would distort.

    Raises UserError for a batch size below 1.
    """
    if batch_size < 1:
        raise UserError(f"batch size is {batch_size}; it must be at least 1")
    order = _shuffled(len(split), 0).to(split.labels.device)
    return split.read(order.tensor_split(-(-len(split) // batch_size)))


def channel_statistics(split: MemoryImages | FileImages) -> tuple[Tensor, Tensor]:
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

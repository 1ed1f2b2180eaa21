"""Augmentation of whole minibatches on their device, without a loop over images.

Shapes: B images, C channels, H × W pixels. Random numbers come from the device's global generator.
"""

import torch
from torch import Tensor

from enas.cnn.settings import AugmentConfig


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise uint8 [B, C, H, W] to float32 by each channel's mean and standard deviation, both [C]."""
    return (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


def augment(images: Tensor, mean: Tensor, std: Tensor, config: AugmentConfig) -> Tensor:
    """Crop, flip, normalise and cut out, with independent draws for each image: uint8 [B, C, H, W] to float32.

    Pixels outside the image and cut-out pixels are 0 after normalisation: the mean colour.
    """
    height, width = images.shape[-2:]
    rows, inside_rows = _shifted(images, height, config.cnn_crop_padding)  # [B, H]
    columns, inside_columns = _shifted(images, width, config.cnn_crop_padding)  # [B, W]
    if config.cnn_flip:
        flipped = torch.rand(len(images), 1, device=images.device) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
        inside_columns = torch.where(flipped, inside_columns.flip(1), inside_columns)
    pixels = _gather(images, rows.unsqueeze(2) * width + columns.unsqueeze(1))
    seen = _both(inside_rows, inside_columns)
    if config.cnn_cutout:
        seen = seen & ~_both(*(_window(images, size, config.cnn_cutout) for size in (height, width)))
    return normalise(pixels, mean, std) * seen


def rotate(images: Tensor, quarter_turns: Tensor) -> Tensor:
    """Turn each of [B, C, H, H] counter-clockwise by its number of quarter turns: integers 0 … 3, [B].

    Mirror images before, not after: the mirror image of one quarter turn is three quarter turns.
    """
    upright = torch.arange(images[0, 0].numel(), device=images.device).view(images.shape[-2:])
    table = torch.stack([upright.rot90(turns) for turns in range(4)])  # [4, H, H]: where each pixel comes from
    return _gather(images, table[quarter_turns])


def _shifted(images: Tensor, size: int, padding: int) -> tuple[Tensor, Tensor]:
    """Return each image's positions 0 … size−1, shifted by one draw from ±padding, and which stay inside: [B, size]."""
    shift = torch.randint(-padding, padding + 1, (len(images), 1), device=images.device)
    source = torch.arange(size, device=images.device) + shift
    return source.clamp(0, size - 1), (source >= 0) & (source < size)


def _window(images: Tensor, size: int, length: int) -> Tensor:
    """Return, for each image, the positions within `length` pixels around one drawn from 0 … size−1: bool [B, size]."""
    start = torch.randint(size, (len(images), 1), device=images.device) - length // 2
    position = torch.arange(size, device=images.device)
    return (position >= start) & (position < start + length)


def _both(rows: Tensor, columns: Tensor) -> Tensor:
    """[B, H] and [B, W] to [B, 1, H, W]: the pixels whose row and column are both marked."""
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def _gather(images: Tensor, source: Tensor) -> Tensor:
    """Return, for each image, the pixels at `source`, int64 [B, H, W], counted row by row."""
    flat = source.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1)  # [B, C, HW]
    return images.flatten(2).gather(2, flat).view_as(images)

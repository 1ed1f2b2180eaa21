"""`shapes`: rendered images of ten plane figures that differ only in form.

Every figure covers the same area before it is scaled. Its place, size, angle and colours, the background and the noise
are drawn alike for all classes, so that colour says nothing of the class.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

SIDE = 32  # pixels
SUPERSAMPLING = 4  # samples a pixel, in each direction

AREA = (120.0, 240.0)  # pixels; at the upper end the star, which reaches furthest, just fits
LARGEST_TURN = 0.35  # radians, either way
MIN_CONTRAST = 0.35  # how much brighter, in the unit interval, the figure is than both colours of the background
NOISE = (0.0, 0.06)  # standard deviation


def _sides(x: np.ndarray, y: np.ndarray, num: int, distance: float) -> np.ndarray:
    """Count, for each point, how many of `num` lines at equal angles and `distance` have it on the middle's side."""
    angles = 2 * np.pi * (np.arange(num) + 0.5) / num
    sides = [x * float(np.sin(angle)) + y * float(np.cos(angle)) < distance for angle in angles]
    return np.asarray(np.sum(sides, axis=0, dtype=np.int8))


# Each function says which points (x, y) belong to the figure. No figure reaches much further than 1 from the middle.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "arrow": lambda x, y: np.where(y > 0.1, abs(x) < 0.8 / 0.9 * (1 - y), (y > -1) & (abs(x) < 0.28)),  # head or shaft
    "circle": lambda x, y: np.hypot(x, y) < 1,
    "crescent": lambda x, y: (np.hypot(x, y) < 1) & (np.hypot(x - 0.45, y) > 0.8),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 0.95),
    "heart": lambda x, y: (x**2 + (1.25 * (y + 0.1) - np.sqrt(abs(x))) ** 2) < 0.8,
    "ring": lambda x, y: (np.hypot(x, y) < 1) & (np.hypot(x, y) > 0.58),
    "semicircle": lambda x, y: (np.hypot(x, y + 0.42) < 1) & (y > -0.42),
    "square": lambda x, y: _sides(x, y, 4, np.cos(np.pi / 4)) == 4,  # corners at distance 1
    "star": lambda x, y: _sides(x, y, 5, np.cos(2 * np.pi / 5)) >= 4,  # each point lies beyond one of five lines
    "triangle": lambda x, y: _sides(x, y, 3, np.cos(np.pi / 3)) == 3,
}


def render_shapes(name: str, num: int, *, seed: int | tuple[int, ...]) -> np.ndarray:
    """Render `num` images of the figure `name`, one of `SHAPES`: uint8 [num, 32, 32, 3]."""
    # The numbers of this old generator are the same in every version of NumPy.
    rng = np.random.RandomState(seed)
    figure = SHAPES[name]
    position = (np.arange(512) + 0.5) / 512 * 2.4 - 1.2  # a fine grid counts the area of the unscaled figure
    unit_area = float(figure(*np.meshgrid(position, position)).mean() * 2.4**2)
    return np.stack([_render(figure, unit_area, rng) for _ in range(num)])


def _render(figure: Callable[..., Any], unit_area: float, rng: np.random.RandomState) -> np.ndarray:
    scale = np.sqrt(rng.uniform(*AREA) / unit_area)  # pixels
    free = max(0.0, SIDE / 2 - scale)
    centre = SIDE / 2 + rng.uniform(-free, free, 2)
    colour, start, end = _colours(rng)
    cover = _cover(figure, centre, scale, rng.uniform(-LARGEST_TURN, LARGEST_TURN))[..., None]  # [32, 32, 1]
    angle = rng.uniform(0, 2 * np.pi)  # the direction in which the background goes from one colour to the other
    position = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    along = position[None, :] * np.cos(angle) + position[:, None] * np.sin(angle)  # within ±√½
    share = (0.5 + along / np.sqrt(2))[..., None]  # [32, 32, 1]
    image = cover * colour + (1 - cover) * ((1 - share) * start + share * end)
    image += rng.uniform(*NOISE) * rng.standard_normal(image.shape)
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)


def _cover(figure: Callable[..., Any], centre: np.ndarray, scale: float, angle: float) -> np.ndarray:
    """Return the share of each pixel that the figure covers: [32, 32]."""
    position = (np.arange(SIDE * SUPERSAMPLING, dtype=np.float32) + 0.5) / SUPERSAMPLING  # of samples, in pixels: [128]
    # Python floats, unlike NumPy's, leave the samples in float32, which is twice as fast.
    scale, cos, sin = float(scale), float(np.cos(angle)), float(np.sin(angle))
    x, y = (position[None, :] - float(centre[0])) / scale, (position[:, None] - float(centre[1])) / scale
    inside = figure(x * cos - y * sin, x * sin + y * cos)
    return inside.reshape(SIDE, SUPERSAMPLING, SIDE, SUPERSAMPLING).mean(axis=(1, 3))


def _colours(rng: np.random.RandomState) -> np.ndarray:
    """Draw the colour of the figure, and two colours of the background that are darker by enough: [3, 3]."""
    while True:
        colours = rng.uniform(0, 1, (3, 3))
        if colours[0].mean() - colours[1:].mean(axis=1).max() >= MIN_CONTRAST:
            return colours

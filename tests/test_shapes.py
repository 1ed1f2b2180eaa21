"""The built-in images: what tells the classes apart, and what does not."""

import numpy as np
import pytest
import tiny
from PIL import Image

from enas.data import shapes
from enas.data.builtin import SPLITS, make_shapes
from enas.data.shapes import AREA, SHAPES, SIDE, render_shapes

FEW = dict.fromkeys(SPLITS, 20)
LABELS = {"train": np.repeat(np.arange(10), 60), "test": np.repeat(np.arange(10), 30)}


@pytest.fixture(scope="module")
def images():
    return {
        part: np.concatenate(
            [render_shapes(name, len(labels) // 10, seed=(part == "test", k)) for k, name in enumerate(SHAPES)]
        )
        for part, labels in LABELS.items()
    }


def accuracy_of_nearest_mean(features: dict[str, np.ndarray]) -> float:
    means = np.stack([features["train"][LABELS["train"] == label].mean(0) for label in range(10)])
    distances = np.linalg.norm(features["test"][:, None] - means, axis=2)
    return float((distances.argmin(1) == LABELS["test"]).mean())


def form(image: np.ndarray) -> np.ndarray:
    """Of the pixels that stand out from the background: area and moments that no turn, shift or scale changes."""
    colours = image.reshape(-1, 3) / 255
    row, column = (axis.ravel() for axis in np.mgrid[:SIDE, :SIDE])
    plane = np.stack([np.ones(SIDE * SIDE), row, column], axis=1)
    border = (row % (SIDE - 1) == 0) | (column % (SIDE - 1) == 0)
    background = plane @ np.linalg.lstsq(plane[border], colours[border])[0]
    padded = np.pad(np.linalg.norm(colours - background, axis=1).reshape(SIDE, SIDE), 1, mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).mean(axis=(2, 3))
    y, x = np.nonzero(smooth > 0.5 * np.sort(smooth.ravel())[-60])
    z = x - x.mean() + 1j * (y - y.mean())
    size = (abs(z) ** 2).mean() ** 0.5
    powers = [(2, 0), (2, 1), (3, 0), (2, 2), (3, 1), (4, 0), (3, 2), (5, 0), (3, 3)]
    return np.array([len(z) / size**2, *(abs(((z / size) ** a * (z / size).conj() ** b).mean()) for a, b in powers)])


@pytest.mark.parametrize(("feature", "at_most"), [(np.mean, 0.17), (np.std, 0.2)], ids=["mean colour", "contrast"])
def test_colour_says_little_of_the_class(images, feature, at_most):
    features = {part: feature(images[part], axis=(1, 2)) for part in images}
    assert accuracy_of_nearest_mean(features) < at_most  # chance is 0.1, with a standard deviation of 0.017


def test_form_tells_the_classes_apart(images):
    forms = {part: np.stack([form(image) for image in images[part]]) for part in images}
    low, middle, high = np.percentile(forms["train"], (25, 50, 75), axis=0)
    scaled = {part: np.tanh((values - middle) / (high - low)) for part, values in forms.items()}
    assert accuracy_of_nearest_mean(scaled) > 0.85


@pytest.mark.parametrize("name", SHAPES)
def test_areas_are_drawn_alike_for_every_class(name, monkeypatch):
    monkeypatch.setattr(shapes, "NOISE", (0.0, 0.0))
    monkeypatch.setattr(shapes, "_colours", lambda rng: np.array([(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)]))
    areas = render_shapes(name, 60, seed=0)[..., 0].sum(axis=(1, 2)) / 255
    assert AREA[0] * 0.95 < areas.min() and areas.max() < AREA[1] * 1.05
    assert areas.mean() == pytest.approx(sum(AREA) / 2, abs=20)  # the mean of 60 has a standard deviation of 6
    assert areas.std() > 25


def test_the_seed_fixes_the_files_in_class_folders(tmp_path):
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        make_shapes(tmp_path / folder, seed=seed, num_images=FEW)
    one, two, three = (tiny.tree(tmp_path / folder) for folder in ("one", "two", "three"))
    assert one == two and one.keys() == three.keys() and one != three
    assert {name for name, content in one.items() if content is None} == {
        *SPLITS, *(f"{split}/{name}" for split in SPLITS for name in SHAPES),
    }  # fmt: skip
    pictures = [Image.open(file) for file in (tmp_path / "one").glob("*/*/*.png")]
    assert len(pictures) == len({picture.tobytes() for picture in pictures}) == 60
    assert {picture.size for picture in pictures} == {(SIDE, SIDE)}

"""Augmentation of whole minibatches: each image by draws of its own, and what the draws may do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from enas.cnn.augment import augment, normalise, rotate
from enas.cnn.settings import AugmentConfig

# No pixel equals a mean: 0 after normalisation can only come from blanking.
MEAN, STD = torch.tensor([10.5, 20.5, 30.5]), torch.tensor([2.0, 4.0, 8.0])
PLAIN = AugmentConfig(cnn_crop_padding=0, cnn_flip=False)
MANY = 2000  # images, to see every outcome of a draw


def numbered(batch: int, height: int, width: int) -> torch.Tensor:
    """Images [B, 3, H, W] whose pixels tell where they were: 1 … HW, the same in each channel and image."""
    return torch.arange(1, height * width + 1, dtype=torch.uint8).view(height, width).expand(batch, 3, -1, -1)


def raw(images: torch.Tensor) -> torch.Tensor:
    """Undo `normalise`, but leave what is exactly 0, which augmentation has blanked, at 0."""
    restored = images * STD.view(-1, 1, 1) + MEAN.view(-1, 1, 1)
    return torch.where(images == 0, 0, restored).round().to(torch.uint8)


def test_normalise_by_hand():
    images = torch.tensor([[0], [128], [255]], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [(0 - 10.5) / 2, (128 - 20.5) / 4, (255 - 30.5) / 8]
    assert normalise(images, MEAN, STD).flatten().tolist() == expected
    assert normalise(images, MEAN, STD).dtype == torch.float32


@given(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))
def test_no_augmentation_is_normalisation(batch, height, width):
    images = torch.randint(256, (batch, 3, height, width), dtype=torch.uint8)
    assert torch.equal(augment(images, MEAN, STD, PLAIN), normalise(images, MEAN, STD))


def outcomes_by_hand(image: torch.Tensor, padding: int, flip: bool) -> dict[bytes, int]:
    """Every crop of one zero-padded image [3, H, W], and of its mirror image, and how often it was seen: never."""
    height, width = image.shape[1:]
    padded = [torch.nn.functional.pad(each, (padding,) * 4) for each in ([image, image.flip(2)] if flip else [image])]
    places = [(y, x) for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    return {each[:, y : y + height, x : x + width].numpy().tobytes(): 0 for each in padded for y, x in places}


@pytest.mark.parametrize(("height", "width"), [(5, 5), (4, 7)])
@pytest.mark.parametrize(("padding", "flip"), [(2, False), (0, True), (1, True)])
def test_crops_and_mirror_images_are_drawn_independently_each_as_often(height, width, padding, flip):
    torch.manual_seed(0)
    images = numbered(MANY, height, width)
    counts = outcomes_by_hand(images[0], padding, flip)
    for image in raw(augment(images, MEAN, STD, AugmentConfig(cnn_crop_padding=padding, cnn_flip=flip))):
        counts[image.numpy().tobytes()] += 1
    expected = MANY / len(counts)
    assert len(counts) == (2 * padding + 1) ** 2 * (1 + flip)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_cutout_blanks_a_square_around_a_uniform_pixel(length):
    torch.manual_seed(0)
    size = 7
    images = numbered(MANY, size, size)
    out = augment(images, MEAN, STD, AugmentConfig(cnn_crop_padding=0, cnn_flip=False, cnn_cutout=length))
    assert torch.equal(raw(out)[out != 0], images[out != 0])
    blank = (out == 0).all(dim=1)
    assert ((out == 0) == blank.unsqueeze(1)).all()  # in every channel alike
    counts: dict[tuple, int] = {}
    for rows, columns in zip(blank.any(dim=2).tolist(), blank.any(dim=1).tolist(), strict=True):
        counts[tuple(rows), tuple(columns)] = counts.get((tuple(rows), tuple(columns)), 0) + 1
    assert torch.equal(blank, blank.any(dim=2, keepdim=True) & blank.any(dim=1, keepdim=True))

    def window(middle):
        return tuple(middle - length // 2 <= place < middle - length // 2 + length for place in range(size))

    assert set(counts) == {(window(y), window(x)) for y in range(size) for x in range(size)}
    assert min(counts.values()) > 15  # 41 expected, with a standard deviation of 6


def test_images_have_draws_of_their_own_that_the_seed_fixes():
    images = numbered(64, 8, 8).clone()
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(augment(images, MEAN, STD, AugmentConfig(cnn_cutout=2)))
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])
    assert len(outs[0].unique(dim=0)) > 60
    assert torch.equal(images, numbered(64, 8, 8)), "the images given are left alone"


@given(st.integers(1, 6), st.integers(1, 5), st.data())
def test_rotation_is_that_of_each_image_by_itself(size, batch, data):
    turns = data.draw(st.lists(st.integers(0, 3), min_size=batch, max_size=batch))
    images = torch.rand(batch, 3, size, size)
    expected = torch.stack([image.rot90(k, (1, 2)) for image, k in zip(images, turns, strict=True)])
    assert torch.equal(rotate(images, torch.tensor(turns)), expected)


def test_labels_stay_true_when_flips_come_first():
    """Turned back by its label, every image is upright: as it was, or mirrored left to right."""
    torch.manual_seed(0)
    images = numbered(200, 5, 5)
    labels = torch.arange(4).repeat(50)
    rotated = rotate(augment(images, MEAN, STD, AugmentConfig(cnn_crop_padding=0)), labels)
    upright = raw(rotate(rotated, (4 - labels) % 4))
    assert ((upright == images) | (upright == images.flip(3))).all()

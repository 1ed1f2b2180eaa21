"""The faster ways of convolutional operations on a CPU against PyTorch's own modules, forward and backward."""

import pytest
import torch
from torch import Tensor, nn

from enas.cnn import narrow
from enas.cnn.narrow import AvgPool3x3, BatchNorm2d, DepthwiseConv2d, MaxPool3x3

SIZES = [(16, 16), (5, 7), (9, 5), (6, 1), (1, 6)]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """A few pixels are enough to go the other way."""
    monkeypatch.setattr(narrow, "MANY_PIXELS", 1)


@pytest.fixture
def taken(monkeypatch) -> list[str]:
    """Which of the functions with a gradient of their own were applied."""
    names: list[str] = []

    def watch(function: type[torch.autograd.Function]) -> None:
        apply = function.apply

        def noted(*arguments: object) -> object:
            names.append(function.__name__)
            return apply(*arguments)

        monkeypatch.setattr(function, "apply", noted)

    watch(narrow._DepthwiseConvolution)
    watch(narrow._BatchNormalisation)
    return names


def images(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def outcome(module: nn.Module, x: Tensor) -> list[Tensor]:
    """The result for `x`, its gradient, those of the parameters, and the buffers afterwards."""
    x = x.clone().requires_grad_()
    y = module(x)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y).sin()
    gradients = torch.autograd.grad((y * weights).sum(), [x, *module.parameters()])
    return [y.detach(), *gradients, *(buffer.to(x.dtype) for buffer in module.buffers())]


def assert_same(mine: nn.Module, theirs: nn.Module, x: Tensor, tolerance: float = 1e-10) -> None:
    theirs.load_state_dict(mine.state_dict())
    for ours, expected in zip(outcome(mine, x), outcome(theirs, x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("cached", [1, narrow.CACHED], ids=["image by image", "at once"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_depthwise_convolution(taken, monkeypatch, height, width, cached, stride):
    monkeypatch.setattr(narrow, "CACHED", cached)
    arguments = {"padding": 2, "stride": stride, "groups": 6, "bias": False, "dtype": torch.float64}
    mine, theirs = DepthwiseConv2d(6, 6, 5, **arguments), nn.Conv2d(6, 6, 5, **arguments)
    assert_same(mine, theirs, images(3, 6, height, width))
    assert bool(taken) == (min(height, width) >= 5)


def test_depthwise_convolution_by_the_kernels_of_float32(taken):
    arguments = {"padding": 2, "groups": 12, "bias": False}
    mine, theirs = DepthwiseConv2d(12, 12, 5, **arguments), nn.Conv2d(12, 12, 5, **arguments)
    assert_same(mine, theirs, images(4, 12, 16, 16, dtype=torch.float32), tolerance=2e-4)
    assert taken


@pytest.mark.parametrize("learns", ["image", "weight"])
def test_only_the_gradient_that_is_asked_for(learns):
    convolution = DepthwiseConv2d(4, 4, 5, padding=2, groups=4, bias=False).double()
    x = images(2, 4, 8, 8).requires_grad_(learns == "image")
    convolution.weight.requires_grad_(learns == "weight")
    convolution(x).sum().backward()
    assert (x.grad is not None, convolution.weight.grad is not None) == (learns == "image", learns == "weight")


@pytest.mark.parametrize("tracks", [False, True], ids=["batch statistics", "running averages"])
@pytest.mark.parametrize("channels", [1, 3, 12, 23, 25, 36])
def test_batch_normalisation(taken, channels, tracks):
    mine, theirs = (kind(channels, track_running_stats=tracks).double() for kind in (BatchNorm2d, nn.BatchNorm2d))
    nn.init.uniform_(mine.weight, 0.5, 1.5)
    nn.init.uniform_(mine.bias, -1, 1)
    assert_same(mine, theirs, 3 * images(4, channels, 6, 8) - 2)
    assert taken
    assert_same(mine, theirs, images(4, channels, 6, 8))  # the averages move from where they are


def test_batch_normalisation_of_values_far_from_zero():
    x = images(16, 12, 8, 8, dtype=torch.float32) + 1000
    exact = nn.BatchNorm2d(12).double()(x.double())
    torch.testing.assert_close(BatchNorm2d(12)(x).double(), exact, rtol=0, atol=1e-3)


def test_an_activation_may_write_over_what_was_normalised():
    norm, plain = BatchNorm2d(12).double(), nn.BatchNorm2d(12).double()
    assert_same(nn.Sequential(norm, nn.ReLU(inplace=True)), nn.Sequential(plain, nn.ReLU()), images(4, 12, 4, 4))


@pytest.mark.parametrize(
    ("norm", "shape", "dtype"),
    [
        pytest.param(BatchNorm2d(32), (4, 32, 4, 4), torch.float32, id="whole vectors"),
        pytest.param(BatchNorm2d(12), (3, 12, 3, 3), torch.float32, id="27 pixels"),
        pytest.param(BatchNorm2d(12).eval(), (4, 12, 4, 4), torch.float32, id="by running averages"),
        pytest.param(BatchNorm2d(12), (4, 12, 4, 4), torch.bfloat16, id="two types"),
    ],
)
def test_pytorch_normalises_the_rest(taken, norm, shape, dtype):
    norm(images(*shape, dtype=dtype))
    assert not taken


def test_other_layouts_and_mixed_precision_are_left_to_pytorch(taken):
    x = images(4, 12, 8, 8, dtype=torch.float32)
    modules = BatchNorm2d(12), DepthwiseConv2d(12, 12, 5, padding=2, groups=12, bias=False)
    for module in modules:
        module(x.contiguous())
        with torch.autocast("cpu", torch.bfloat16):
            module(x)
    assert not taken


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pools(height, width, stride):
    x = images(3, 6, height, width)
    average = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    assert_same(AvgPool3x3(stride), average, x)
    greatest = nn.MaxPool2d(3, stride, padding=1)
    assert_same(MaxPool3x3(stride), greatest, x)
    assert MaxPool3x3(stride)(x).equal(greatest(x))  # without a gradient, by another way


def test_the_greatest_of_what_is_not_a_number_is_not_a_number():
    x = images(1, 2, 6, 6)
    x[0, 1, 2, 3] = torch.nan
    assert torch.equal(MaxPool3x3(1)(x).isnan(), nn.MaxPool2d(3, 1, padding=1)(x).isnan())

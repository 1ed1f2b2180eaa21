"""The operations of the convolutional search spaces against their definitions.

Shapes: B batch, C channels, H and W height and width.
"""

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from enas.cnn.layout import ReluOfEverySecondPixel, dense_gradient
from enas.cnn.model import SharedMacroCNN, SharedMicroCNN
from enas.cnn.operation_names import MACRO_OPERATIONS
from enas.cnn.operations import (
    BATCH_STATISTICS,
    FactorisedReduction,
    Join,
    Operations,
    classifier,
    convolution,
    drop_path,
)
from enas.cnn.settings import MacroConfig, MicroConfig

CHANNELS = 4
SIZES = [(6, 6), (7, 7), (5, 8), (1, 1)]


def images(height: int = 7, width: int = 6, channels: int = CHANNELS, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, height, width, dtype=torch.float64, generator=generator)


def built(make, *arguments) -> nn.Module:
    torch.manual_seed(0)
    return tiny.randomised(make(*arguments))


def windows(x: torch.Tensor, kernel: int, outside: float) -> torch.Tensor:
    """The kernel·kernel pixels around each pixel, `outside` beyond the edge: [B, C, kernel, kernel, H, W]."""
    height, width = x.shape[2:]
    reach = kernel // 2
    padded = F.pad(x, (reach, reach, reach, reach), value=outside)
    rows = [
        torch.stack([padded[:, :, i : i + height, j : j + width] for j in range(kernel)], dim=2) for i in range(kernel)
    ]
    return torch.stack(rows, dim=2)


def dense(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A convolution as the sum it stands for; `weight` is [outputs, inputs, kernel, kernel]."""
    return torch.einsum("bcijhw,ocij->bohw", windows(x, weight.shape[2], 0.0), weight)


def dense_weight(convolution: nn.Module) -> torch.Tensor:
    """The weight of a plain convolution, or the outer product of a separable one's two kernels."""
    if isinstance(convolution, nn.Conv2d):
        return convolution.weight
    depthwise, pointwise = (part.weight for part in convolution)  # [C, 1, kernel, kernel], [C, C, 1, 1]
    return pointwise * depthwise.transpose(0, 1)


def normalised(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    """Batch normalisation by the batch's own mean and variance, channel by channel."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


def plain_pool(name: str, x: torch.Tensor) -> torch.Tensor:
    if name == "max3x3":
        return windows(x, 3, -torch.inf).amax((2, 3))
    return windows(x, 3, 0.0).sum((2, 3)) / windows(torch.ones_like(x), 3, 0.0).sum((2, 3))


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def assert_is_named(convolution: nn.Module, name: str) -> None:
    """Separable where the name says so, and of the size it says."""
    size = int(name[-1])
    shapes = [(4, 1, size, size), (4, 4, 1, 1)] if name.startswith("sep") else [(4, 4, size, size)]
    assert [tuple(parameter.shape) for parameter in convolution.parameters()] == shapes


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", Operations.convolutions)
def test_a_convolution_equals_the_dense_one_of_its_kernels(name, stride):
    operation = built(Operations.convolutions[name], CHANNELS, stride)
    assert_is_named(operation, name)
    assert_equal(operation(images()), dense(images(), dense_weight(operation))[:, :, ::stride, ::stride])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [*SIZES, (9, 5), (6, 1), (1, 6)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", Operations.pools)
def test_pools_leave_out_what_lies_beyond_the_edge(name, stride, size, layout):
    """In either layout, with a gradient and without, for which there are faster ways."""
    x = images(*size).contiguous(memory_format=layout) - 5  # negative: a zero beyond the edge would be a maximum
    pool, expected = Operations.pools[name](stride), plain_pool(name, x)[:, :, ::stride, ::stride]
    assert_equal(pool(x), expected)
    x.requires_grad_()
    assert_equal(pool(x), expected)
    weights = torch.rand_like(expected)
    found, wanted = (
        torch.autograd.grad((way(x) * weights).sum(), x)[0]
        for way in (pool, lambda x: plain_pool(name, x)[:, :, ::stride, ::stride])
    )
    assert_equal(found, wanted)


def test_the_greatest_of_what_is_not_a_number_is_not_a_number():
    x = images().contiguous(memory_format=torch.channels_last)
    x[0, 1, 2, 3] = torch.nan
    assert torch.equal(Operations.pools["max3x3"](1)(x).isnan(), nn.MaxPool2d(3, 1, padding=1)(x).isnan())


def test_convolutions_start_as_he_et_al_propose():
    torch.manual_seed(0)
    for conv, fan_in in [(convolution(32, 64, 3), 32 * 9), (convolution(512, 512, 5, groups=512), 25)]:
        assert conv.bias is None
        assert conv.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)
        assert conv.weight.mean().item() == pytest.approx(0, abs=0.03 * (2 / fan_in) ** 0.5)


@pytest.mark.parametrize("name", MACRO_OPERATIONS)
def test_a_macro_operation_follows_a_narrow_convolution(name):
    operation = built(Operations.macro, name, CHANNELS, BATCH_STATISTICS)
    narrow, norm, _, core, *rest = operation
    x = normalised(dense(images(), narrow.weight), norm).clamp(min=0)
    if name in Operations.pools:
        assert not rest
        expected = plain_pool(name, x)
    else:
        assert_is_named(core, name)
        expected = normalised(dense(x, dense_weight(core)), rest[0]).clamp(min=0)
    assert_equal(operation(images()), expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["sep3x3", "sep5x5"])
def test_separable_convolutions_of_the_micro_space_are_applied_twice(name, stride):
    operation = built(Operations.micro, name, CHANNELS, stride, BATCH_STATISTICS)
    _, first, first_norm, _, second, second_norm = operation
    assert_is_named(first, name)
    assert_is_named(second, name)
    x = dense(images().clamp(min=0), dense_weight(first))[:, :, ::stride, ::stride]
    x = dense(normalised(x, first_norm).clamp(min=0), dense_weight(second))
    assert_equal(operation(images()), normalised(x, second_norm))


def test_pools_of_the_micro_space_are_nothing_else_and_the_identity_reduces_at_stride_2():
    for name in Operations.pools:
        assert_equal(Operations.micro(name, CHANNELS, 1, BATCH_STATISTICS)(images()), plain_pool(name, images()))
    assert Operations.micro("identity", CHANNELS, 1, BATCH_STATISTICS)(images()).equal(images())
    operation = built(Operations.micro, "identity", CHANNELS, 2, BATCH_STATISTICS)
    assert_equal(operation(images()), built(FactorisedReduction, CHANNELS, CHANNELS, BATCH_STATISTICS)(images()))


@pytest.mark.parametrize("outputs", [6, 5])
@pytest.mark.parametrize("size", SIZES)
def test_factorised_reduction_joins_two_grids_of_pixels(size, outputs):
    reduction = built(FactorisedReduction, CHANNELS, outputs, BATCH_STATISTICS)
    x = images(*size).clamp(min=0)
    even = x[:, :, 0::2, 0::2]
    odd = torch.zeros_like(even)  # the second grid ends earlier at odd sizes
    shifted = x[:, :, 1::2, 1::2]
    odd[:, :, : shifted.shape[2], : shifted.shape[3]] = shifted
    joined = torch.cat([dense(even, reduction.even.weight), dense(odd, reduction.odd.weight)], dim=1)
    assert joined.shape == (3, outputs, -(-size[0] // 2), -(-size[1] // 2))
    assert_equal(reduction(images(*size)), normalised(joined, reduction.norm))


def test_no_1x1_convolution_of_a_network_has_a_stride():
    """With one, oneDNN writes outside its memory on AVX2 without AVX-512."""
    models = (SharedMacroCNN(3, MacroConfig(cnn_num_layers=6)), SharedMicroCNN(3, MicroConfig(cnn_num_layers=3)))
    for conv in (module for model in models for module in model.modules() if isinstance(module, nn.Conv2d)):
        assert conv.kernel_size != (1, 1) or conv.stride == (1, 1)


@given(st.lists(st.integers(0, 4), min_size=1, unique=True))
def test_a_join_is_a_sum_of_convolutions_of_its_sources(sources):
    join = built(Join, range(5), CHANNELS, BATCH_STATISTICS)
    maps = {source: images() * (source + 1) + source for source in sources}
    expected = sum(dense(x, join.slices[str(source)]) for source, x in maps.items())
    assert_equal(join(maps), normalised(expected, join.norm))


def test_drop_path_keeps_or_drops_whole_examples_and_the_expectation():
    """And does nothing in evaluation, or at 0."""
    torch.manual_seed(0)
    x = torch.rand(20_000, 2, 1, 1) + 1
    ratio = (drop_path(x, 0.5, training=True) / x).flatten(1)
    assert ratio.eq(ratio[:, :1]).all() and ratio.unique().tolist() == [0.0, 2.0]
    ratio = drop_path(x, 0.3, training=True) / x
    assert ratio.mean().item() == pytest.approx(1, abs=0.02)
    assert (ratio == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert drop_path(x, 0.5, training=False).equal(x) and drop_path(x, 0.0, training=True).equal(x)


def test_the_classifier_averages_over_the_image_and_drops_out_while_training():
    torch.manual_seed(0)
    head = built(classifier, CHANNELS, 5, 0.5)
    assert not head(images()).allclose(head(images()))
    linear = head.eval()[-1]
    assert_equal(head(images()), images().clamp(min=0).mean((2, 3)) @ linear.weight.t() + linear.bias)


@pytest.mark.parametrize("size", [6, 7])
def test_reductions_read_the_relu_of_even_and_of_odd_pixels(size):
    x = torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True)
    padded = F.pad(F.relu(x), (0, size % 2, 0, size % 2))
    torch.testing.assert_close(ReluOfEverySecondPixel.apply(x), (padded[:, :, ::2, ::2], padded[:, :, 1::2, 1::2]))
    assert torch.autograd.gradcheck(ReluOfEverySecondPixel.apply, x)


@pytest.mark.parametrize("read", ["reduction", "join", "mean"])
def test_gradients_are_laid_out_like_what_they_are_of(read):
    """On gradients in another order of channels, what comes before is many times slower."""
    x = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    other = x.detach().clone()
    reduction, join = FactorisedReduction(4, 4, BATCH_STATISTICS), Join((0, 1), 4, BATCH_STATISTICS)
    readers = {
        "reduction": reduction,
        "join": lambda y: join({0: y, 1: other}),
        "mean": lambda y: dense_gradient(y).mean((2, 3)),
    }
    y, is_last = x * 1.0, []
    y.register_hook(lambda grad: is_last.append(grad.is_contiguous(memory_format=torch.channels_last)))
    readers[read](y).square().sum().backward()
    assert is_last == [True]

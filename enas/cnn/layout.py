"""The memory layout of convolutional networks, and calls that are fast in it.

Convolutions, most of all the separable ones, are about twice as fast with channels innermost. Gradients must then be
laid out so too: on slices and expansions, elementwise kernels are many times slower. PyTorch's pools go from pixel to
pixel, which fills vectors badly with the 12 to 80 channels of a search.

Shapes: B batch, C channels, H and W height and width, which a stride makes h and w.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def _is_plain(x: Tensor) -> bool:
    """Whether the pools below are faster than PyTorch's."""
    return (
        x.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class AvgPool3x3(nn.AvgPool2d):
    """The average of the 3×3 pixels around each, those outside the image not counted, as a depthwise convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, h, w]."""
        if not _is_plain(x):
            return super().forward(x)
        channels = x.shape[1]
        ones = x.new_ones(channels, 1, 3, 3)
        counts = F.conv2d(x.new_ones(1, 1, *x.shape[2:]), ones[:1], None, self.stride, 1)
        return F.conv2d(x, ones, None, self.stride, 1, groups=channels) * counts.reciprocal_()


class MaxPool3x3(nn.MaxPool2d):
    """The greatest of the 3×3 pixels around each; without a gradient, by rows and then by columns."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, h, w]."""
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        if self.stride != 1 or needs_gradient or not _is_plain(x):
            return super().forward(x)
        return _greatest_of_three(_greatest_of_three(x, dim=3), dim=2)


def _greatest_of_three(x: Tensor, dim: int) -> Tensor:
    """Return the maximum of each entry and its two neighbours along `dim`."""
    rest = x.shape[dim] - 1
    y = x.clone()
    for mine, its in ((1, 0), (0, 1)):
        target = y.narrow(dim, mine, rest)
        torch.maximum(target, x.narrow(dim, its, rest), out=target)
    return y


class PooledReLU(nn.ReLU):
    """ReLU in front of a global pool, whose gradient is an expansion; see `dense_gradient`."""

    def forward(self, x: Tensor) -> Tensor:
        return dense_gradient(super().forward(x))


class ReluOfEverySecondPixel(torch.autograd.Function):
    """The ReLU [B, C, ⌈H/2⌉, ⌈W/2⌉] of `x` at even places and at odd places; zeros beyond the edge."""

    # The gradient that autograd makes of slices has another layout, on which all earlier parts are many times slower.
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = x.shape[2:]
        even = F.relu(x[:, :, ::2, ::2])
        odd = F.relu(x[:, :, 1::2, 1::2])
        if height % 2 or width % 2:
            odd = F.pad(odd, (0, width % 2, 0, height % 2)).contiguous(memory_format=_memory_format(x))
        ctx.save_for_backward(even, odd)
        ctx.shape, ctx.memory_format = x.shape, _memory_format(x)
        return even, odd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_even: Tensor, grad_odd: Tensor) -> Tensor:
        even, odd = ctx.saved_tensors
        grad = torch.empty(ctx.shape, dtype=even.dtype, device=even.device, memory_format=ctx.memory_format).zero_()
        grad[:, :, ::2, ::2] = torch.ops.aten.threshold_backward(grad_even, even, 0)
        inside = grad[:, :, 1::2, 1::2]
        inside.copy_(torch.ops.aten.threshold_backward(grad_odd, odd, 0)[:, :, : inside.shape[2], : inside.shape[3]])
        return grad


def _memory_format(x: Tensor) -> torch.memory_format:
    is_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


def dense_gradient(x: Tensor) -> Tensor:
    """Return `x`; its gradient will be laid out like `x` itself."""
    y, layout = x.view_as(x), _memory_format(x)
    if y.requires_grad:
        y.register_hook(lambda grad: grad.contiguous(memory_format=layout))
    return y


def concatenation(maps: Mapping[int, Tensor]) -> Tensor:
    """Concatenate maps [B, C, H, W], by label, along the depth."""
    return torch.cat([dense_gradient(x) for x in maps.values()], dim=1)


class Sliced(nn.Module):
    """The weight of a 1×1 convolution or a linear layer that reads the depth concatenation of any of several sources.

    Each source, of `inputs` channels, has its own slice, so that an absent source gets no gradient. `make` makes the
    layer of all sources, given the number of its inputs.
    """

    def __init__(self, sources: Iterable[int], inputs: int, make: Callable[[int], nn.Conv2d | nn.Linear]):
        super().__init__()
        names = [*map(str, sources)]
        slices = make(inputs * len(names)).weight.detach().split(inputs, dim=1)
        self.slices = nn.ParameterDict({n: nn.Parameter(w.clone()) for n, w in zip(names, slices, strict=True)})

    def weight(self, sources: Iterable[int]) -> Tensor:
        """Return the weight for the concatenation of these sources."""
        return torch.cat([self.slices[str(source)] for source in sources], dim=1)


@contextmanager
def remembering(*modules: nn.Module) -> Iterator[None]:
    """Inside, each of the modules runs once and then repeats its result: for inputs that stay the same."""
    results: dict[nn.Module, Tensor] = {}

    def once(module: nn.Module, compute: Callable[[Any], Tensor], x: Any) -> Tensor:
        if module not in results:
            results[module] = compute(x)
        return results[module]

    for module in modules:
        module.forward = partial(once, module, module.forward)
    try:
        yield
    finally:
        for module in modules:
            del module.forward

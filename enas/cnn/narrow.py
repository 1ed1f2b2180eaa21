"""Modules of PyTorch whose kernels for a CPU are slow where images have few channels, by way of faster calls.

A search has 12 to 80 channels. PyTorch's pools and batch normalisation go from pixel to pixel, and fill their vectors
badly. oneDNN's gradient of the weight of a depthwise convolution is several times slower where the kernel is more than
three wide. Each class has the parameters and, to rounding, the results of the one that it derives from, and is that
one on a GPU, in other layouts and in mixed precision.

Shapes: B batch, C channels, H and W height and width; a stride makes the latter h and w.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

VECTOR = 8  # PyTorch normalises multiples of so many channels well
GROUP = 8  # pixels that are normalised as if they were one, of so many times the channels
MANY_PIXELS = 2**13  # in a batch; with fewer, more calls cost more than they save
CACHED = 2**19  # numbers in a part of a batch that stays in the cache

_aten = torch.ops.aten


def _is_plain(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of every channel by itself, without bias, that keeps height and width, but for a stride of 1 or 2.

    With a kernel of 5×5 the weight's gradient is that of two overlapping kernels of 5×3.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, h, w]."""
        if self.kernel_size != (5, 5) or min(x.shape[2:]) < 5 or not _is_plain(x):
            return super().forward(x)
        return _DepthwiseConvolution.apply(x, self.weight, self.stride[0])


class _DepthwiseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, 2, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, _ = ctx.needs_input_grad
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = _gradients(grad, x, weight, ctx.stride, (2, 2), (True, False))[0] if needs_x else None
        grad_weight = _gradient_of_5x5(grad, x, weight, ctx.stride) if needs_weight else None
        return grad_x, grad_weight, None


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    steps, holes, channels = [stride, stride], [1, 1], len(weight)
    grad_x, grad_weight, _ = _aten.convolution_backward(
        grad, x, weight, None, steps, padding, holes, False, [0, 0], channels, [*wanted, False]
    )
    return grad_x, grad_weight


def _gradient_of_5x5(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    # oneDNN is fast where a kernel is at most three wide and its padding at most one. So one more column of zeros is
    # stored at each side of the image. Columns 0 to 2 of the kernel then belong to an output at its own place, columns
    # 2 to 4 to one that comes two columns of the image later.
    narrow = weight[..., :3].contiguous()
    total = torch.zeros_like(weight)
    size = max(1, CACHED // x[0].numel())
    for part, part_grad in zip(x.split(size), grad.split(size), strict=True):
        padded = F.pad(part, (1, 1))
        at_its_place, later = (
            _gradients(shifted, padded, narrow, stride, (2, 1), (False, True))[1]
            for shifted in _shifted(part_grad, 2 // stride)
        )
        total[..., :3] += at_its_place
        total[..., 3:] += later[..., 1:]
    return total


def _shifted(x: Tensor, by: int) -> tuple[Tensor, Tensor]:
    # [B, C, H, W] with `by` columns of zeros after it, and before it. Both are one memory: the zeros after a row are
    # those before the next.
    batch, channels, height, width = x.shape
    wide = width + by
    memory = x.new_zeros((batch * height * wide + by) * channels)
    shape, strides = (batch, channels, height, wide), (height * wide * channels, 1, wide * channels, channels)
    before = memory.as_strided(shape, strides)
    after = memory.as_strided(shape, strides, by * channels)
    after[..., :width].copy_(x)
    return after, before


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with scale and shift. Several pixels at a time are read as one of as many times C."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same."""
        if not self._is_slow(x):
            return super().forward(x)
        y, mean, var = _BatchNormalisation.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            pixels = x.numel() // x.shape[1]
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (pixels / (pixels - 1)), self.momentum)
        return y

    def _is_slow(self, x: Tensor) -> bool:
        channels, pixels = x.shape[1], x.numel() // x.shape[1]
        return (
            (self.training or not self.track_running_stats)
            and channels % VECTOR != 0
            and pixels >= MANY_PIXELS
            and pixels % GROUP == 0
            and x.dtype == self.weight.dtype
            and _is_plain(x)
        )


class _BatchNormalisation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        groups = _groups(x)
        means, variances = (part.view(GROUP, -1) for part in _aten.batch_norm_update_stats(groups, None, None, 0.0))
        between, mean = torch.var_mean(means, 0, correction=0)
        var = variances.mean(0) + between
        scale = weight * torch.rsqrt(var + eps)
        shift = torch.addcmul(bias, mean, scale, value=-1)
        y = torch.empty_like(x)
        torch.addcmul(shift.repeat(GROUP), groups, scale.repeat(GROUP), out=_groups(y))
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, var = ctx.saved_tensors
        groups, grads = _groups(x), _groups(grad.contiguous(memory_format=torch.channels_last))
        means, variances = mean.repeat(GROUP), var.repeat(GROUP)
        _, *sums = _aten.native_batch_norm_backward(
            grads, groups, means, means, variances, None, None, False, ctx.eps, [False, True, True]
        )
        grad_weight, grad_bias = (part.view(GROUP, -1).sum(0) for part in sums)
        # The gradient of x is an affine function of that of y and of x.
        inverse, pixels = torch.rsqrt(var + ctx.eps), x.numel() // x.shape[1]
        scale = weight * inverse
        slope = scale * inverse * grad_weight / -pixels
        shift = torch.addcmul(scale * grad_bias / -pixels, mean, slope, value=-1)
        grad_x = torch.empty_like(x)
        torch.addcmul(shift.repeat(GROUP), grads, scale.repeat(GROUP), out=_groups(grad_x))
        _groups(grad_x).addcmul_(groups, slope.repeat(GROUP))
        return grad_x, grad_weight, grad_bias, None


def _groups(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).view(-1, GROUP * x.shape[1])


class AvgPool3x3(nn.AvgPool2d):
    """The average of the pixels around each, those outside the image not counted, as a depthwise convolution."""

    def __init__(self, stride: int):
        super().__init__(3, stride, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, h, w]."""
        if not _is_plain(x):
            return super().forward(x)
        channels = x.shape[1]
        ones = x.new_ones(channels, 1, 3, 3)
        counts = F.conv2d(x.new_ones(1, 1, *x.shape[2:]), ones[:1], None, self.stride, 1)
        return F.conv2d(x, ones, None, self.stride, 1, groups=channels) * counts.reciprocal_()


class MaxPool3x3(nn.MaxPool2d):
    """The greatest of the pixels around each; without a gradient, by rows and then by columns."""

    def __init__(self, stride: int):
        super().__init__(3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, h, w]."""
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        if self.stride != 1 or needs_gradient or not _is_plain(x):
            return super().forward(x)
        return _greatest_of_three(_greatest_of_three(x, dim=3), dim=2)


def _greatest_of_three(x: Tensor, dim: int) -> Tensor:
    # Each entry and its two neighbours along `dim`.
    rest = x.shape[dim] - 1
    y = x.clone()
    for mine, its in ((1, 0), (0, 1)):
        target = y.narrow(dim, mine, rest)
        torch.maximum(target, x.narrow(dim, its, rest), out=target)
    return y

"""The operations of both convolutional search spaces, and the other parts that convolutional networks share.

One table serves the search and the final network. Convolutions have no bias, because batch normalisation follows
each of them, and start as He et al. 2015 propose. The order is ReLU, convolution, normalisation in the micro space
(paper, appendix on the convolutional search spaces), and convolution, normalisation, ReLU in the macro space.

Shapes: B batch, C channels, H and W height and width. A stride of 2 makes them ⌈H/2⌉ and ⌈W/2⌉.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.cnn import network
from enas.cnn.layout import AvgPool3x3, MaxPool3x3, PooledReLU, ReluOfEverySecondPixel, Sliced, concatenation
from enas.cnn.network import Norm, convolution
from enas.cnn.operation_names import MACRO_OPERATIONS, MICRO_OPERATIONS, OPERATIONS
from enas.errors import UserError
from enas.search.own_code import note_owner

# While searching, running averages would mix the statistics of different architectures.
BATCH_STATISTICS: Norm = partial(nn.BatchNorm2d, track_running_stats=False)
RUNNING_AVERAGES: Norm = nn.BatchNorm2d


def register_operation(
    name: str, make: Callable[[int, int], nn.Module], *, label: str = "", colour: str = "white"
) -> None:
    """Add an operation to both convolutional search spaces; `--cnn_operations` can leave it out.

    Args:
        name: its name in JSON files, letters, digits and _; UserError if it is taken, or has other characters.
        make: (number of channels, stride) to a module that keeps the channels. Macro networks put a 1×1 convolution
            before it, and normalise after each; micro networks apply two of them, the first with the stride.
        label, colour: how drawings show it.
    """
    if name in (*OPERATIONS, *dir(nn.ModuleDict())) or not name.replace("_", "").isalnum():
        raise UserError(f"operation {name!r} cannot be registered; choose another name, of letters, digits and _")
    note_owner(name)
    OPERATIONS[name] = label or name, colour
    Operations.convolutions[name] = make
    for operations in (MACRO_OPERATIONS, MICRO_OPERATIONS):
        operations.append(name)


def pooled(dropout: float) -> nn.Sequential:
    """ReLU, global average pool and dropout: [B, C, H, W] to [B, C]."""
    return nn.Sequential(PooledReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))


def classifier(inputs: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Make the layers of `pooled` and a linear one: [B, inputs, H, W] to logits [B, classes]."""
    return nn.Sequential(*pooled(dropout), nn.Linear(inputs, num_classes))


class FactorisedReduction(network.Reduction):
    """A `network.Reduction` with a fast gradient.

    The pixels are picked first and then convolved with stride 1. A strided 1×1 convolution is the same sum, but
    oneDNN's kernel of its weight gradient for AVX2 writes outside its memory below 8 channels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, ⌈H/2⌉, ⌈W/2⌉]."""
        even, odd = ReluOfEverySecondPixel.apply(x)
        return self.norm(torch.cat([self.even(even), self.odd(odd)], dim=1))


class Operations(network.Operations):
    """The operations of either space (paper sections 2.3 and 2.4), the user's own ones among them."""

    pools: Mapping[str, Callable[[int], nn.Module]] = {
        "avg3x3": partial(AvgPool3x3, 3, padding=1, count_include_pad=False),
        "max3x3": partial(MaxPool3x3, 3, padding=1),
    }
    reduction = FactorisedReduction


class Join(Sliced):
    """Depth concatenation, 1×1 convolution and batch normalisation of any of several sources (paper section 2.3)."""

    def __init__(self, sources: Iterable[int], channels: int, norm: Norm):
        super().__init__(sources, channels, partial(convolution, outputs=channels, kernel=1))
        self.norm = norm(channels)

    def forward(self, maps: Mapping[int, Tensor]) -> Tensor:
        """Join maps [B, C, H, W], by label, to one [B, C, H, W]."""
        return self.norm(F.conv2d(concatenation(maps), self.weight(maps)))


class CellInput(nn.Module):
    """A `Join` of the ReLU of an earlier cell's nodes, of `inputs` channels each; to halve, a `FactorisedReduction`."""

    def __init__(self, sources: Iterable[int], inputs: int, channels: int, norm: Norm, halve: bool):
        super().__init__()
        widths = (channels - channels // 2, channels // 2) if halve else (channels,)
        self.paths = nn.ModuleList(Sliced(sources, inputs, partial(convolution, outputs=w, kernel=1)) for w in widths)
        self.norm = norm(channels)

    def forward(self, maps: Mapping[int, Tensor]) -> Tensor:
        """Bring maps [B, inputs, H, W], by label, to [B, channels, H, W], or to ⌈H/2⌉ and ⌈W/2⌉."""
        x = concatenation(maps)
        grids = ReluOfEverySecondPixel.apply(x) if len(self.paths) == 2 else (F.relu_(x),)
        paths = [F.conv2d(grid, path.weight(maps)) for path, grid in zip(self.paths, grids, strict=True)]
        return self.norm(torch.cat(paths, dim=1))


class SlicedClassifier(Sliced):
    """The `classifier` of the depth concatenation of any of several sources, each normalised first.

    The authors' final network has no normalisation here. Without it the scale of the input differs from architecture to
    architecture, and shared weights learn much more slowly.
    """

    def __init__(self, sources: Iterable[int], inputs: int, num_classes: int, dropout: float, norm: Norm):
        super().__init__(sources, inputs, lambda total: nn.Linear(total, num_classes))
        self.norms = nn.ModuleDict({source: norm(inputs) for source in self.slices})
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.pool = pooled(dropout)

    def forward(self, maps: Mapping[int, Tensor]) -> Tensor:
        """Make logits [B, classes] of maps [B, inputs, H, W] by label."""
        normalised = {source: self.norms[str(source)](x) for source, x in maps.items()}
        return F.linear(self.pool(concatenation(normalised)), self.weight(maps), self.bias)


def drop_path(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero `x` [B, …] for whole examples with probability p; the others are scaled by 1/(1−p) (Larsson et al. 2017)."""
    if not training or p == 0:
        return x
    kept = x.new_empty(x.shape[0], *(1,) * (x.dim() - 1)).bernoulli_(1 - p)
    return x * (kept / (1 - p))

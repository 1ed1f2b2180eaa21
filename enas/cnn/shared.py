"""The shared convolutional models: one set of weights ω for every network of a search space (paper sections 2.3, 2.4).

Each choice has its own parameters, so that one that was not sampled gets no gradient, and so no weight decay and no
update. Batches are normalised by their own statistics, in evaluation too.

Shapes: B batch, H and W height and width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from enas.cnn.layout import Sliced
from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import CELL_INPUTS, MicroNetwork
from enas.cnn.model import CellChoices, MacroChoices, MacroGraph, MicroGraph
from enas.cnn.operations import BATCH_STATISTICS
from enas.cnn.settings import MacroConfig, MicroConfig
from enas.errors import UserError


def align_slices(model: nn.Module) -> None:
    """Let each `Sliced` begin with equal weights for all its sources: the identity, if the number of channels stays."""
    for sliced in (module for module in model.modules() if isinstance(module, Sliced)):
        first, *others = sliced.slices.values()
        if first.dim() == 4 and first.shape[0] == first.shape[1]:
            nn.init.dirac_(first)
        for weight in others:
            weight.copy_(first)


class SharedMacroCNN(MacroGraph):
    """An image classifier whose layers' operations and skip connections are an argument."""

    def __init__(self, num_classes: int, config: MacroConfig):
        choices = MacroChoices.all(config.num_layers)
        super().__init__(num_classes, choices, (config.channels,) * 3, config.cnn_dropout, BATCH_STATISTICS)
        self.config = config
        self._align()

    @torch.no_grad()
    def _align(self) -> None:
        """Initialise so that a layer's channels mean the same whichever operation made them, to every reader.

        Squeezing convolutions and joins begin as the identity, so that a join is the sum; the reductions of all
        layers at one place begin with the same weights. With independent random ones every operation
        would read the others' channels in random order, and learning would start much later.
        """
        align_slices(self)
        for layer in self.layers.values():
            for operation in layer.operations.values():
                nn.init.dirac_(operation[0].weight)
        for place in self.reductions.values():
            first, *others = place.values()
            for reduction in others:
                reduction.load_state_dict(first.state_dict())

    def forward(self, images: Tensor, network: MacroNetwork) -> Tensor:
        """Logits [B, classes] of `network` for images [B, 3, H, W]; UserError if it has another number of layers."""
        if network.num_layers != self.config.num_layers:
            raise UserError(
                f"the network has {network.num_layers} layers, but the shared model has {self.config.num_layers}"
            )
        return self.compute(images, network)


class SharedMicroCNN(MicroGraph):
    """An image classifier whose normal and reduction cell are an argument. Each of its cells has its own weights."""

    def __init__(self, num_classes: int, config: MicroConfig):
        choices = CellChoices.all(config.cnn_num_blocks)
        sizes = config.num_layers, config.channels, config.cnn_dropout
        super().__init__(num_classes, choices, choices, *sizes, BATCH_STATISTICS)
        self.config = config
        self._align()

    @torch.no_grad()
    def _align(self) -> None:
        """Initialise so that a cell's channels mean the same whichever operation made them; see `SharedMacroCNN`.

        The 1×1 convolutions of separable ones begin as the identity, and an operation with the same weights on every
        edge of a cell.
        """
        align_slices(self)
        for cell in self.cells:
            first: dict[tuple[str, bool], dict[str, Any]] = {}
            for key, operation in cell.edges.items():
                for module in operation.modules():
                    if isinstance(module, nn.Conv2d) and module.weight.shape[:2] == (module.out_channels,) * 2:
                        nn.init.dirac_(module.weight)
                _, _, source, name = key.split("_")
                kind = (name, int(source) in CELL_INPUTS)  # these may have another stride
                operation.load_state_dict(first.setdefault(kind, operation.state_dict()))

    def forward(self, images: Tensor, network: MicroNetwork) -> Tensor:
        """Logits [B, classes] of `network` for images [B, 3, H, W]; UserError if this model lacks one of its nodes."""
        last = self.config.cnn_num_blocks + 1
        for name, cell in network.cells.items():
            if cell.nodes[-1] > last:
                raise UserError(f"the {name} cell has node {cell.nodes[-1]}, but the shared model has nodes 2 … {last}")
        return self.compute(images, network)[0]

"""A derived convolutional network as an ordinary `nn.Module`, to be trained from scratch (paper section 3.2).

It has the weights of its own choices only, under the names that they have in the shared model, and keeps running
averages of its batch statistics.

Shapes: B batch, C channels, H and W height and width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroNetwork
from enas.cnn.model import MacroChoices, MacroGraph, MicroGraph
from enas.cnn.operations import RUNNING_AVERAGES, convolution
from enas.cnn.settings import MicroCNNConfig, ScratchCNNConfig
from enas.search.precision import at_least_float32


class MacroCNN(MacroGraph):
    """One network of the macro space; its channels double at each reduction."""

    def __init__(self, network: MacroNetwork, num_classes: int, config: ScratchCNNConfig):
        super().__init__(num_classes, MacroChoices.of(network), config.widths, config.dropout, RUNNING_AVERAGES)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] for images [B, 3, H, W]."""
        return self.compute(images, self.network)

    def loss(self, images: Tensor, labels: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats of `labels` [B], and the logits, whatever the `progress` of training."""
        logits = at_least_float32(self(images))
        return F.cross_entropy(logits, labels), logits


class MicroCNN(MicroGraph):
    """One pair of cells of the micro space, as a network with an auxiliary head at two thirds of its depth.

    The authors' published pair has 3.73 million parameters at 15 layers and 36 channels, without the head. The paper
    has 4.6; the network that the authors' code builds has 3.89, with a second 1×1 convolution on the newer cell input.

    The head reads the output of the second reduction cell and is used in training only.
    """

    def __init__(self, network: MicroNetwork, num_classes: int, config: MicroCNNConfig):
        sizes = config.scratch_cnn_num_layers, config.channels, config.dropout
        super().__init__(num_classes, network.normal, network.reduction, *sizes, RUNNING_AVERAGES)
        self.network = network
        self.config = config
        self.auxiliary_head = auxiliary_head(4 * config.channels * len(network.reduction.output_nodes), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] for images [B, 3, H, W]."""
        return self.compute(images, self.network)[0]

    def logits_and_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, and those of the auxiliary head, both [B, classes], for images [B, 3, H, W]."""
        logits, reduced = self.compute(images, self.network)
        return logits, self.auxiliary_head(torch.cat([*reduced.values()], dim=1))

    def loss(self, images: Tensor, labels: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats of `labels` [B], plus the weighted one of the auxiliary head; and the logits.

        Drop path grows with the `progress` of training, 0 … 1, and from the first cell to the last, as the authors do.
        """
        for depth, cell in enumerate(self.cells, start=1):
            cell.drop_path = self.config.scratch_cnn_drop_path * depth / len(self.cells) * progress
        logits, auxiliary = map(at_least_float32, self.logits_and_auxiliary(images))
        weight = self.config.scratch_cnn_auxiliary_weight
        return F.cross_entropy(logits, labels) + weight * F.cross_entropy(auxiliary, labels), logits


def auxiliary_head(inputs: int, num_classes: int) -> nn.Sequential:
    """A small classifier of maps [B, inputs, H, W] (Szegedy et al. 2015, section 5).

    The pool makes 2×2 maps from any H and W; the first linear layer is a convolution over the whole of them.
    """
    whole = nn.Linear(128 * 2 * 2, 768, bias=False)
    nn.init.kaiming_normal_(whole.weight, nonlinearity="relu")
    return nn.Sequential(
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        convolution(inputs, 128, 1),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.Flatten(),
        whole,
        nn.BatchNorm1d(768),
        nn.ReLU(),
        nn.Linear(768, num_classes),
    )

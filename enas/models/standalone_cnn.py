"""A derived convolutional network as an ordinary `nn.Module`, to be trained from scratch (paper section 3.2).

It has the weights of its own choices only, under the names that they have in the shared model, and keeps running
averages of its batch statistics.

Shapes: B batch, C channels, H and W height and width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.models.cnn import CellChoices, MacroChoices, MacroGraph, MicroGraph
from enas.models.dropout import check_probabilities
from enas.models.operations import RUNNING_AVERAGES, convolution
from enas.models.shared_cnn import check_sizes, check_thirds
from enas.search_space.cnn_macro import MacroNetwork
from enas.search_space.cnn_micro import MicroNetwork


@dataclass(frozen=True, kw_only=True)
class MacroCNNConfig:
    """Sizes and regularisers of a `MacroCNN`.

    Attributes:
        filters: the channels of the first layers.
        growth: the channels are multiplied by this at each reduction; 1 keeps them, as while searching.
        dropout: before the classifier.
    """

    filters: int = 96
    growth: int = 2
    dropout: float = 0.5

    def __post_init__(self):
        check_sizes(filters=(self.filters, 2), growth=(self.growth, 1))
        check_probabilities(dropout=self.dropout)


@dataclass(frozen=True, kw_only=True)
class MicroCNNConfig:
    """Sizes and regularisers of a `MicroCNN`.

    Attributes:
        num_layers: the number of normal cells, a multiple of 3; two reduction cells stand between its thirds.
        channels: of the first cells; they double in each reduction cell.
        dropout: before the classifier.
        drop_path: the probability of dropping an operation's result, for an example, in the last cell at the end of
            training; that of the others falls linearly to the front (Zoph et al. 2018), and all grow with training.
        auxiliary_weight: of the auxiliary head's cross-entropy in the loss.
    """

    num_layers: int = 15
    channels: int = 36
    dropout: float = 0.2
    drop_path: float = 0.4
    auxiliary_weight: float = 0.4

    def __post_init__(self):
        check_thirds(self.num_layers)
        check_sizes(channels=(self.channels, 2), auxiliary_weight=(self.auxiliary_weight, 0))
        check_probabilities(dropout=self.dropout, drop_path=self.drop_path)


class MacroCNN(MacroGraph):
    """One network of the macro space."""

    def __init__(self, network: MacroNetwork, num_classes: int, config: MacroCNNConfig):
        widths = [config.filters * config.growth**stage for stage in range(3)]
        super().__init__(num_classes, MacroChoices.of(network), widths, config.dropout, RUNNING_AVERAGES)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] for images [B, 3, H, W]."""
        return self.compute(images, self.network)

    def loss(self, images: Tensor, labels: Tensor, progress: float = 1.0) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats of `labels` [B], a scalar with a gradient, and the logits.

        Nothing here depends on the `progress` of training.
        """
        logits = self(images)
        return F.cross_entropy(logits, labels), logits


class MicroCNN(MicroGraph):
    """One pair of cells of the micro space, as a network with an auxiliary head at two thirds of its depth.

    The authors' published pair has 3.73 million parameters at 15 layers and 36 channels, without the head. The paper
    has 4.6; the network that the authors' code builds has 3.89, with a second 1×1 convolution on the newer cell input.

    The head reads the output of the second reduction cell, and is there to train only.
    """

    def __init__(self, network: MicroNetwork, num_classes: int, config: MicroCNNConfig):
        super().__init__(
            num_classes,
            CellChoices.of(network.normal),
            CellChoices.of(network.reduction),
            num_layers=config.num_layers,
            channels=config.channels,
            dropout=config.dropout,
            drop_path=config.drop_path,
            norm=RUNNING_AVERAGES,
        )
        self.network = network
        self.config = config
        self.auxiliary_head = auxiliary_head(4 * config.channels * len(network.reduction.output_nodes), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] for images [B, 3, H, W]."""
        logits, _ = self.compute(images, self.network)
        return logits

    def logits_and_auxiliary(self, images: Tensor, progress: float = 1.0) -> tuple[Tensor, Tensor]:
        """The logits, and those of the auxiliary head, both [B, classes], for images [B, 3, H, W]."""
        logits, reduced = self.compute(images, self.network, progress)
        return logits, self.auxiliary_head(torch.cat([*reduced.values()], dim=1))

    def loss(self, images: Tensor, labels: Tensor, progress: float = 1.0) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats of `labels` [B], plus the weighted one of the auxiliary head; and the logits.

        `progress`: the share of training that is done, 0 … 1, by which drop path grows.
        """
        logits, auxiliary = self.logits_and_auxiliary(images, progress)
        weight = self.config.auxiliary_weight
        return F.cross_entropy(logits, labels) + weight * F.cross_entropy(auxiliary, labels), logits


def auxiliary_head(inputs: int, num_classes: int) -> nn.Sequential:
    """A small classifier of maps [B, inputs, H, W] (Szegedy et al. 2015, section 5).

    The pool makes 2×2 maps whatever H and W, and the first linear layer is a convolution over the whole of them.
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

"""The convolutional models of both search spaces (paper sections 2.3, 2.4, 3.2).

A graph computes networks. A shared model is a graph with one set of weights ω for every network of its space. Each
choice has its own parameters: one that was not sampled gets no gradient, no weight decay and no update. Batches are
normalised by their own statistics, in evaluation too. The model of one network, trained from scratch, has the weights
of its own choices, under their names in the shared model, and running averages of its batch statistics.

Shapes: B batch, C channels, H and W height and width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.cnn import operations as parts
from enas.cnn.layout import Sliced
from enas.cnn.macro import STEM, MacroNetwork
from enas.cnn.micro import CELL_INPUTS, CELL_NAMES, Edge, MicroCell, MicroNetwork
from enas.cnn.network import Norm, cell_places, convolution, macro_layers, stem
from enas.cnn.settings import MacroConfig, MicroCNNConfig, MicroConfig, ScratchCNNConfig
from enas.errors import UserError
from enas.search.precision import at_least_float32


class MacroGraph(nn.Module):
    """The macro space (paper section 2.3): a stem, L layers, two reductions, and a classifier.

    A layer is an operation, then a `Join` with earlier layers' outputs and ReLU (appendix on the macro space). A
    reduction halves all outputs that are still to be read; `widths` are C before the first reduction, between the two,
    and after the second. There are weights for every skip of the network `most`, and in every layer for all
    `operations`; if these are none, for the layer's own in `most`.
    """

    def __init__(
        self, num_classes: int, most: MacroNetwork, operations: list[str], widths: list[int], dropout: float, norm: Norm
    ):
        super().__init__()
        self.num_layers = most.num_layers
        self.stem = stem(widths[0], norm)
        self.common = [self.stem]  # the parts that networks on the same images need only once
        self.layers = nn.ModuleDict()
        self.reductions = nn.ModuleDict()
        stage = 0
        for layer, operation, skips, reduced in macro_layers(vars(most)):
            if operation:
                names, width = operations or [operation], widths[stage]
                made = nn.ModuleDict({name: parts.Operations.macro(name, width, norm) for name in names})
                join = {"join": parts.Join((*skips, layer), width, norm)} if skips else {}
                self.layers[str(layer)] = nn.ModuleDict({"operations": made, **join})
            if reduced:
                pair = widths[stage : stage + 2]
                reductions = {str(label): parts.FactorisedReduction(*pair, norm) for label in reduced}
                self.reductions[str(layer)] = nn.ModuleDict(reductions)
                stage += 1
        self.classifier = parts.classifier(widths[stage], num_classes, dropout)

    def compute(self, images: Tensor, network: MacroNetwork) -> Tensor:
        """Return logits [B, classes] of `network` for images [B, 3, H, W]; UserError if it has more or fewer layers."""
        if network.num_layers != self.num_layers:
            raise UserError(f"the network has {network.num_layers} layers, but the shared model has {self.num_layers}")
        x = self.stem(images)
        outputs = {STEM: x}  # by label, at the present size
        for layer, operation, skips, reduced in macro_layers(vars(network)):
            if operation:
                module = self.layers[str(layer)]
                x = module["operations"][operation](x)
                if skips:
                    skipped = {label: outputs[label] for label in skips}
                    x = F.relu_(module["join"]({**skipped, layer: x}))
                outputs[layer] = x
            if reduced:
                reduce = self.reductions[str(layer)]
                outputs = {label: reduce[str(label)](outputs[label]) for label in reduced}
                x = outputs[reduced[-1]]
        return self.classifier(x)


class SharedMacroCNN(MacroGraph):
    """An image classifier whose layers' operations and skip connections are an argument.

    At the start a layer's channels mean the same to every reader, whichever operation made them. Squeezing convolutions
    and joins begin as the identity, so that a join is the sum; the reductions at one place begin with the same weights.
    If these were random, operations would read others' channels in random order, and learn much later.
    """

    def __init__(self, num_classes: int, config: MacroConfig):
        skips = tuple(tuple(range(layer)) for layer in range(config.num_layers))
        most = MacroNetwork(config.operations[:1] * len(skips), skips)
        widths = [config.channels] * 3
        super().__init__(num_classes, most, [*config.operations], widths, config.cnn_dropout, parts.BATCH_STATISTICS)
        align_slices(self)
        for layer in self.layers.values():
            for operation in layer["operations"].values():
                nn.init.dirac_(operation[0].weight)
        for place in self.reductions.values():
            first, *others = place.values()
            for reduction in others:
                reduction.load_state_dict(first.state_dict())

    forward = MacroGraph.compute


@torch.no_grad()
def align_slices(model: nn.Module) -> None:
    """Let each `Sliced` begin with equal weights for all its sources: the identity, if the number of channels stays."""
    for sliced in (module for module in model.modules() if isinstance(module, Sliced)):
        first, *others = sliced.slices.values()
        if first.dim() == 4 and first.shape[0] == first.shape[1]:
            nn.init.dirac_(first)
        for weight in others:
            weight.copy_(first)


class MacroCNN(MacroGraph):
    """One network of the macro space; its channels double at each reduction."""

    def __init__(self, network: MacroNetwork, num_classes: int, config: ScratchCNNConfig):
        super().__init__(num_classes, network, [], config.widths, config.dropout, parts.RUNNING_AVERAGES)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, classes] of images [B, 3, H, W]."""
        return self.compute(images, self.network)

    def loss(self, images: Tensor, labels: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats of `labels` [B], and the logits, whatever the `progress` of training."""
        logits = at_least_float32(self(images))
        return F.cross_entropy(logits, labels), logits


Choices = tuple[Sequence[Edge], Sequence[int]]  # of a `Cell`: its edges, and nodes that may be concatenated
Maps = Mapping[int, Tensor]  # maps [B, C, H, W] by label, which are concatenated along the depth


def _inputs_read(edges: Sequence[Edge]) -> list[int]:
    return [label for label in CELL_INPUTS if any(edge.source == label for edge in edges)]


class Cell(nn.Module):
    """A cell of the micro space (paper section 2.4): each node adds two operations on two earlier labels.

    Each of the next two cells brings the output to C channels by a `CellInput`, as the authors' final network does;
    their search has one convolution on the way out instead. Every edge has its own weights, as in the authors' code;
    the paper leaves it open. `edges` are all that a network may have.

    Each of the `calibrations` brings a cell input to C channels and to the size of the other input. The `stride` is of
    operations on cell inputs; 2 makes it a reduction cell.
    """

    drop_path = 0.0  # the probability of dropping the result of an operation other than identity

    def __init__(
        self, edges: Sequence[Edge], calibrations: Sequence[nn.Module], channels: int, stride: int, norm: Norm
    ):
        super().__init__()
        self.calibrations = nn.ModuleDict({str(label): calibrations[label] for label in _inputs_read(edges)})
        made = {edge.key: parts.Operations.micro(edge.operation, channels, edge.stride(stride), norm) for edge in edges}
        self.edges = nn.ModuleDict(made)

    def forward(self, older: Maps, previous: Maps, cell: MicroCell) -> Maps:
        """Return the output of `cell`, given the outputs of the two cells before it."""
        edges = cell.edges
        inputs = (older, previous)
        maps = {label: self.calibrations[str(label)](inputs[label]) for label in _inputs_read(edges)}
        for one, two in zip(edges[0::2], edges[1::2], strict=True):
            maps[one.node] = self.result(one, maps[one.source]) + self.result(two, maps[two.source])
        return {label: maps[label] for label in cell.output_nodes}

    def result(self, edge: Edge, x: Tensor) -> Tensor:
        """Apply the operation of `edge` to `x`; the result is zeros if its path is dropped."""
        output = self.edges[edge.key](x)
        return output if edge.operation == "identity" else parts.drop_path(output, self.drop_path, self.training)


class MicroGraph(nn.Module):
    """The micro space (paper section 2.4): a stem, then N normal cells, a reduction cell, N, a reduction cell, N.

    Each cell reads the outputs of the two before it (the first ones the stem's). There are `num_layers` = 3N normal
    cells. The first ones have `channels`, which double in reduction cells; the stem has three times as many.
    """

    def __init__(
        self, num_classes: int, cells: dict[str, Choices], num_layers: int, channels: int, dropout: float, norm: Norm
    ):
        super().__init__()
        self.places = [*cell_places(num_layers, channels)]
        self.stem = stem(3 * channels, norm)
        older = previous = ((STEM,), 3 * channels)  # labels of the maps that are concatenated, and channels of each
        self.cells = nn.ModuleList()
        for name, width, stride, halve in self.places:
            calibrations = [parts.CellInput(*older, width, norm, halve), parts.CellInput(*previous, width, norm, False)]
            edges, output_nodes = cells[name]
            self.cells.append(Cell(edges, calibrations, width, stride, norm))
            older, previous = previous, (output_nodes, width)
        self.classifier = parts.SlicedClassifier(*previous, num_classes, dropout, norm)
        places = zip(self.cells, (CELL_INPUTS, CELL_INPUTS[:1]), strict=False)  # inputs made of the stem
        inputs = [part for cell, read in places for label, part in cell.calibrations.items() if int(label) in read]
        self.common = [self.stem, *inputs]  # as in `MacroGraph`

    def compute(self, images: Tensor, network: MicroNetwork) -> tuple[Tensor, Maps]:
        """As `MacroGraph.compute`, and the maps [B, 4C, ⌈H/4⌉, ⌈W/4⌉] that the second reduction cell concatenates."""
        older = previous = {STEM: self.stem(images)}
        for module, (name, *_) in zip(self.cells, self.places, strict=True):
            older, previous = previous, module(older, previous, network.cells[name])
            if name == "reduction":
                reduced = previous
        return self.classifier(previous), reduced


class SharedMicroCNN(MicroGraph):
    """An image classifier whose normal and reduction cell are an argument. Each of its cells has its own weights.

    Channels mean the same at the start, as in `SharedMacroCNN`: the 1×1 convolutions of separable ones begin as the
    identity, and an operation begins with the same weights on every edge of a cell.
    """

    def __init__(self, num_classes: int, config: MicroConfig):
        nodes = range(len(CELL_INPUTS), len(CELL_INPUTS) + config.cnn_num_blocks)
        places = [(node, slot, source) for node in nodes for slot in (0, 1) for source in range(node)]
        edges = [Edge(*place, name) for place in places for name in config.operations]
        sizes = config.num_layers, config.channels, config.cnn_dropout
        super().__init__(num_classes, dict.fromkeys(CELL_NAMES, (edges, nodes)), *sizes, parts.BATCH_STATISTICS)
        self.last_node = nodes[-1]
        align_slices(self)
        for cell in self.cells:
            first: dict[tuple[str, bool], dict[str, Any]] = {}
            for edge in edges:
                operation = cell.edges[edge.key]
                for one in operation.modules() if edge.operation in ("sep3x3", "sep5x5") else ():
                    if isinstance(one, nn.Conv2d) and one.kernel_size == (1, 1):
                        nn.init.dirac_(one.weight)
                kind = (edge.operation, edge.source in CELL_INPUTS)  # these may have another stride
                operation.load_state_dict(first.setdefault(kind, operation.state_dict()))

    def forward(self, images: Tensor, network: MicroNetwork) -> Tensor:
        """Return the logits [B, classes] of images [B, 3, H, W]; UserError if `network` has more nodes."""
        for name, cell in network.cells.items():
            if (node := cell.nodes[-1]) > self.last_node:
                raise UserError(f"the {name} cell has node {node}, but the shared model has nodes 2 … {self.last_node}")
        return self.compute(images, network)[0]


class MicroCNN(MicroGraph):
    """One pair of cells of the micro space, as a network with an auxiliary head at two thirds of its depth.

    The head reads the output of the second reduction cell, in training only. Without it, the authors' published pair
    has 3.73 million parameters at 15 layers and 36 channels. The paper has 4.6; the network that the authors' code
    builds has 3.89, with a second 1×1 convolution on the newer cell input.
    """

    def __init__(self, network: MicroNetwork, num_classes: int, config: MicroCNNConfig):
        sizes = config.scratch_cnn_num_layers, config.channels, config.dropout
        cells = {name: (cell.edges, cell.output_nodes) for name, cell in network.cells.items()}
        super().__init__(num_classes, cells, *sizes, parts.RUNNING_AVERAGES)
        self.network = network
        self.config = config
        self.auxiliary_head = auxiliary_head(4 * config.channels * len(network.reduction.output_nodes), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, classes] of images [B, 3, H, W]."""
        return self.compute(images, self.network)[0]

    def loss(self, images: Tensor, labels: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats of `labels` [B], plus the weighted one of the auxiliary head; and the logits.

        Drop path grows with the `progress` of training, 0 … 1, and from the first cell to the last, as the authors do.
        """
        for depth, cell in enumerate(self.cells, start=1):
            cell.drop_path = self.config.scratch_cnn_drop_path * depth / len(self.cells) * progress
        logits, reduced = self.compute(images, self.network)
        auxiliary = at_least_float32(self.auxiliary_head(torch.cat([*reduced.values()], dim=1)))
        logits, weight = at_least_float32(logits), self.config.scratch_cnn_auxiliary_weight
        return F.cross_entropy(logits, labels) + weight * F.cross_entropy(auxiliary, labels), logits


def auxiliary_head(inputs: int, num_classes: int) -> nn.Sequential:
    """Make a small classifier of maps [B, inputs, H, W] (Szegedy et al. 2015, section 5).

    The pool makes 2×2 maps from any H and W; the first linear layer is a convolution over the whole maps.
    """
    whole = nn.Linear(128 * 2 * 2, 768, bias=False)
    nn.init.kaiming_normal_(whole.weight, nonlinearity="relu")
    maps = [nn.ReLU(), nn.AdaptiveAvgPool2d(2), convolution(inputs, 128, 1), nn.BatchNorm2d(128), nn.ReLU()]
    return nn.Sequential(*maps, nn.Flatten(), whole, nn.BatchNorm1d(768), nn.ReLU(), nn.Linear(768, num_classes))

"""What a convolutional network of either search space computes.

`enas.cnn.shared` builds these graphs with the weights of every choice, `enas.cnn.scratch` with those of one network.

Shapes: B batch, C channels, H and W height and width.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from enas.cnn.layout import remembering
from enas.cnn.macro import STEM, MacroNetwork, reduction_layers
from enas.cnn.micro import CELL_INPUTS, Edge, MicroCell, MicroNetwork
from enas.cnn.network import Norm, carried, cell_places
from enas.cnn.operation_names import MACRO_OPERATIONS, MICRO_OPERATIONS
from enas.cnn.operations import (
    CellInput,
    FactorisedReduction,
    Join,
    SlicedClassifier,
    classifier,
    drop_path,
    macro_operation,
    micro_operation,
    stem,
)


class MacroChoices(NamedTuple):
    """Which weights a `MacroGraph` has.

    Layer by layer: the operations it may apply, the earlier layers it may skip from, and, if a reduction follows it,
    those whose outputs are reduced there.
    """

    num_layers: int  # L, which says where the reductions are
    operations: Mapping[int, Sequence[str]]
    skips: Mapping[int, Sequence[int]]
    carried: Mapping[int, Sequence[int]]

    @classmethod
    def all(cls, num_layers: int) -> "MacroChoices":
        """Every choice of the macro space with `num_layers` layers."""
        operations = dict.fromkeys(range(num_layers), tuple(MACRO_OPERATIONS))
        carried = {layer: range(layer + 1) for layer in reduction_layers(num_layers)}
        return cls(num_layers, operations, {layer: range(layer) for layer in operations}, carried)

    @classmethod
    def of(cls, network: MacroNetwork) -> "MacroChoices":
        """The choices that `network` made."""
        skips = dict(zip(network.layers, network.skips, strict=True))
        operations = {layer: (name,) for layer, name in zip(network.layers, network.operations, strict=True)}
        reduced = {layer: carried(skips, layer) for layer in reduction_layers(network.num_layers)}
        return cls(network.num_layers, operations, skips, reduced)


class MacroLayer(nn.Module):
    """An operation, then a `Join` with earlier layers' outputs and ReLU (paper, appendix on the macro space)."""

    def __init__(self, label: int, operations: Sequence[str], skips: Sequence[int], channels: int, norm: Norm):
        super().__init__()
        self.label = label
        self.operations = nn.ModuleDict({name: macro_operation(name, channels, norm) for name in operations})
        self.join = Join((*skips, label), channels, norm) if skips else None

    def forward(self, x: Tensor, operation: str, skipped: Mapping[int, Tensor]) -> Tensor:
        """The output [B, C, H, W] for `x` and the `skipped` outputs of earlier layers, by label, all of that shape."""
        output = self.operations[operation](x)
        if not skipped:
            return output
        return F.relu_(self.join({**skipped, self.label: output}))


class MacroGraph(nn.Module):
    """The macro space (paper section 2.3): a stem, L layers, two reductions, and a classifier.

    A reduction halves the outputs of all earlier layers that are still to be read. `widths` are C before the first
    reduction, between the two, and after the second.
    """

    def __init__(self, num_classes: int, choices: MacroChoices, widths: Sequence[int], dropout: float, norm: Norm):
        super().__init__()
        self.stem = stem(widths[0], norm)
        self.layers = nn.ModuleDict()
        self.reductions = nn.ModuleDict()
        stage = 0
        for layer in range(choices.num_layers):
            if layer in choices.operations:
                parts = choices.operations[layer], choices.skips[layer]
                self.layers[str(layer)] = MacroLayer(layer, *parts, widths[stage], norm)
            if layer in choices.carried:
                self.reductions[str(layer)] = nn.ModuleDict(
                    {str(s): FactorisedReduction(*widths[stage : stage + 2], norm) for s in choices.carried[layer]}
                )
                stage += 1
        self.classifier = classifier(widths[stage], num_classes, dropout)

    def remembering(self) -> AbstractContextManager[None]:
        """Inside, all networks are given the same images and compute only once what they have in common."""
        return remembering(self.stem)

    def compute(self, images: Tensor, network: MacroNetwork) -> Tensor:
        """Logits [B, classes] of `network`, whose weights must be there, for images [B, 3, H, W]."""
        choices = MacroChoices.of(network)
        x = self.stem(images)
        outputs = {STEM: x}  # by label, at the present size
        for layer in range(choices.num_layers):
            if layer in choices.operations:
                skipped = {label: outputs[label] for label in choices.skips[layer]}
                x = outputs[layer] = self.layers[str(layer)](x, *choices.operations[layer], skipped)
            if layer in choices.carried:
                reduce = self.reductions[str(layer)]
                outputs = {label: reduce[str(label)](outputs[label]) for label in choices.carried[layer]}
                x = outputs[max(outputs)]
        return self.classifier(x)


class CellChoices(NamedTuple):
    """Which weights a `Cell` has: the operations it may apply, and the nodes that may be concatenated."""

    edges: Sequence[Edge]
    output_nodes: Sequence[int]

    @classmethod
    def all(cls, num_blocks: int) -> "CellChoices":
        """Every choice of a cell of `num_blocks` nodes."""
        nodes = range(len(CELL_INPUTS), len(CELL_INPUTS) + num_blocks)
        places = [(node, slot, source) for node in nodes for slot in (0, 1) for source in range(node)]
        return cls([Edge(*place, operation) for place in places for operation in MICRO_OPERATIONS], nodes)


def _inputs_read(edges: Sequence[Edge]) -> list[int]:
    return [label for label in CELL_INPUTS if any(edge.source == label for edge in edges)]


Maps = Mapping[int, Tensor]  # what is concatenated along the depth: maps [B, C, H, W] by label


class Cell(nn.Module):
    """A cell of the micro space (paper section 2.4): each node adds two operations on two earlier labels.

    Its output is the concatenation of its loose ends. Each of the next two cells brings that to C channels by a
    `CellInput`, as the authors' final network does; their search has one convolution on the way out instead. Every edge
    has its own weights, as in the authors' code; the paper leaves it open.

    Args:
        calibrations: for each cell input what brings it to C channels and to the size of the other.
        stride: of the operations on cell inputs; 2 makes it a reduction cell.

    Attributes:
        drop_path: the probability of dropping the result of an operation other than identity.
    """

    drop_path = 0.0

    def __init__(
        self,
        choices: CellChoices | MicroCell,
        calibrations: Sequence[CellInput],
        channels: int,
        stride: int,
        norm: Norm,
    ):
        super().__init__()
        self.calibrations = nn.ModuleDict({str(label): calibrations[label] for label in _inputs_read(choices.edges)})
        self.edges = nn.ModuleDict()
        for edge in choices.edges:
            self.edges[edge.key] = micro_operation(edge.operation, channels, edge.stride(stride), norm)

    def forward(self, older: Maps, previous: Maps, cell: MicroCell) -> Maps:
        """The output of `cell`, from those of the two cells before it."""
        edges = cell.edges
        inputs = (older, previous)
        maps = {label: self.calibrations[str(label)](inputs[label]) for label in _inputs_read(edges)}
        for one, two in zip(edges[0::2], edges[1::2], strict=True):
            maps[one.node] = self.result(one, maps[one.source]) + self.result(two, maps[two.source])
        return {label: maps[label] for label in cell.output_nodes}

    def result(self, edge: Edge, x: Tensor) -> Tensor:
        """The operation of `edge` on `x`, or zeros if its path is dropped."""
        output = self.edges[edge.key](x)
        return output if edge.operation == "identity" else drop_path(output, self.drop_path, self.training)


class MicroGraph(nn.Module):
    """The micro space (paper section 2.4): a stem, then N normal cells, a reduction cell, N, a reduction cell, N.

    Each cell reads the outputs of the two before it (the first ones the stem's). There are `num_layers` = 3N normal
    cells. The first ones have `channels`, which double in reduction cells; the stem has three times as many.
    """

    def __init__(
        self,
        num_classes: int,
        normal: CellChoices | MicroCell,
        reduction: CellChoices | MicroCell,
        num_layers: int,
        channels: int,
        dropout: float,
        norm: Norm,
    ):
        super().__init__()
        self.places = [*cell_places(num_layers, channels)]
        self.stem = stem(3 * channels, norm)
        older = previous = ((STEM,), 3 * channels)  # labels of what is concatenated, and the channels of each
        self.cells = nn.ModuleList()
        for width, stride, halve in self.places:
            calibrations = CellInput(*older, width, norm, halve), CellInput(*previous, width, norm, halve=False)
            choices = reduction if stride == 2 else normal
            self.cells.append(Cell(choices, calibrations, width, stride, norm))
            older, previous = previous, (choices.output_nodes, width)
        self.classifier = SlicedClassifier(*previous, num_classes, dropout, norm)

    def remembering(self) -> AbstractContextManager[None]:
        """As `MacroGraph.remembering`, for the stem and what the first two cells make of it."""
        places = zip(self.cells, (CELL_INPUTS, CELL_INPUTS[:1]), strict=False)
        parts = [part for cell, read in places for label, part in cell.calibrations.items() if int(label) in read]
        return remembering(self.stem, *parts)

    def compute(self, images: Tensor, network: MicroNetwork) -> tuple[Tensor, Maps]:
        """Logits [B, classes] of `network`, whose weights must be there, for images [B, 3, H, W]; and the maps [B, 4C,
        ⌈H/4⌉, ⌈W/4⌉] that the second reduction cell concatenates.
        """
        older = previous = {STEM: self.stem(images)}
        for module, (_, stride, _) in zip(self.cells, self.places, strict=True):
            cell = network.reduction if stride == 2 else network.normal
            older, previous = previous, module(older, previous, cell)
            if stride == 2:
                reduced = previous
        return self.classifier(previous), reduced

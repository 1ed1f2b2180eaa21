"""The cost of a convolutional network: its parameters, and the multiply-adds of an image.

Torch's FLOP counter measures each part once, a user's own operation too. Products and convolutions count;
normalisation, pools and activations do not. Parts run on the CPU: tensors on "meta" have no numbers to read.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from enas.cnn import network as readable
from enas.cnn import operations
from enas.cnn.macro import STEM, MacroNetwork
from enas.cnn.micro import CELL_INPUTS, MicroNetwork
from enas.cnn.operations import RUNNING_AVERAGES as NORM
from enas.cnn.settings import MicroCNNConfig, ScratchCNNConfig
from enas.search.cost import Cost

Shape = tuple[int, ...]  # of a map, without the batch


@cache
def _part(make: Callable[..., nn.Module], x: Shape, *args: object) -> tuple[Cost, Shape]:
    """Return the cost of `make(*args)` and the shape of its result on `x`, or on maps like `x` in a range of labels."""
    with torch.device("cpu"), torch.random.fork_rng([]), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module, empty = make(*args).eval(), torch.empty(1, *x)
        result = module(dict.fromkeys(args[0], empty) if isinstance(args[0], range) else empty)
    parameters = sum(weight.numel() for weight in module.parameters())
    return Cost(parameters, counter.get_total_flops() // 2), tuple(result.shape[1:])


class Tally(list[Cost]):
    """The costs of the parts of a network."""

    def run(self, make: Callable[..., nn.Module], x: Shape, *args: object) -> Shape:
        """Add the cost of `make(*args)`, and return the shape that it makes of `x`, see `_part`."""
        cost, result = _part(make, x, *args)
        self.append(cost)
        return result


def macro_cost(network: MacroNetwork, num_classes: int, config: ScratchCNNConfig, size: tuple[int, int]) -> Cost:
    """Return the cost of a `MacroCNN` of `network` with these settings, for an image of this height and width."""
    tally = Tally()
    x = tally.run(readable.stem, (3, *size), config.channels, NORM)
    for _, operation, skips, reduced in readable.macro_layers(vars(network)):
        if operation:
            x = tally.run(operations.Operations.macro, x, operation, x[0], NORM)
        if skips:
            x = tally.run(operations.Join, x, range(len(skips) + 1), x[0], NORM)
        if reduced:
            x = [tally.run(operations.FactorisedReduction, x, x[0], 2 * x[0], NORM) for _ in reduced][-1]
    tally.run(operations.classifier, x, x[0], num_classes, 0.0)
    return sum(tally, Cost())


def micro_cost(network: MicroNetwork, num_classes: int, config: MicroCNNConfig, size: tuple[int, int]) -> Cost:
    """Return the same of a `MicroCNN`, without its auxiliary head."""
    tally, width = Tally(), config.channels
    older = previous = {STEM: tally.run(readable.stem, (3, *size), 3 * width, NORM)}  # concatenated maps, by label
    for name, channels, stride, halve in readable.cell_places(config.scratch_cnn_num_layers, width):
        cell, edges, maps = network.cells[name], network.cells[name].edges, {}
        for label, read, halves in zip(CELL_INPUTS, (older, previous), (halve, False), strict=True):
            if any(edge.source == label for edge in edges):
                x = next(iter(read.values()))
                maps[label] = tally.run(operations.CellInput, x, range(len(read)), x[0], channels, NORM, halves)
        for edge in edges:
            args = (edge.operation, channels, edge.stride(stride), NORM)
            maps[edge.node] = tally.run(operations.Operations.micro, maps[edge.source], *args)
        older, previous = previous, {label: maps[label] for label in cell.output_nodes}
    x = next(iter(previous.values()))
    tally.run(operations.SlicedClassifier, x, range(len(previous)), x[0], num_classes, 0.0, NORM)
    return sum(tally, Cost())

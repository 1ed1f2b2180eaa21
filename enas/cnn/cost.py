"""The cost of a convolutional network: its parameters, and the multiply-adds of an image.

A graph's own `compute` runs over stand-ins for its parts, which return the shape of their result and add their cost.
Torch's FLOP counter measures each part once, a user's own operation too. Products and convolutions count;
normalisation, pools and activations do not.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from enas.cnn import model as cnn
from enas.cnn import network as readable
from enas.cnn import operations
from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroNetwork
from enas.cnn.operations import RUNNING_AVERAGES as NORM
from enas.cnn.settings import MicroCNNConfig, ScratchCNNConfig
from enas.search.cost import Cost


class Shape(tuple[int, ...]):
    """Stands for a tensor of this shape, without the batch; sums and functions of it are free and keep the shape."""

    __slots__ = ()

    def __add__(self, other: tuple[Any, ...]) -> Self:
        return self

    @classmethod
    def __torch_function__(cls, function: object, types: object, args: Any = (), kwargs: object = None) -> Any:
        return args[0]


@cache
def _part(make: Callable[..., nn.Module], x: Shape, *args: object) -> tuple[Cost, Shape]:
    """Return the cost of `make(*args)` and the shape of its result on `x`, or on maps like `x` in a range of labels."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module, empty = make(*args).eval(), torch.empty(1, *x)
        result = module(dict.fromkeys(args[0], empty) if isinstance(args[0], range) else empty)
    parameters = sum(weight.numel() for weight in module.parameters())
    return Cost(parameters, counter.get_total_flops() // 2), Shape(result.shape[1:])


class Tally(list[Cost]):
    """The costs of parts that were run on shapes."""

    def run(self, make: Callable[..., nn.Module], x: Shape | Mapping[int, Shape], *args: object) -> Shape:
        """Return the shape that `make(*args)` makes of `x`, or `make(labels, channels, *args)` of maps by label."""
        if not isinstance(x, Shape):
            labels, x = range(len(x)), next(iter(x.values()))
            args = (labels, x[0], *args)
        cost, result = _part(make, x, *args)
        self.append(cost)
        return result


def macro_cost(network: MacroNetwork, num_classes: int, config: ScratchCNNConfig, size: tuple[int, int]) -> Cost:
    """Return the cost of a `MacroCNN` of `network` with these settings, for an image of this height and width."""
    tally = Tally()

    def halve(x: Shape) -> Shape:
        return tally.run(operations.FactorisedReduction, x, x[0], 2 * x[0], NORM)

    layer = {
        "operations": {
            name: lambda x, name=name: tally.run(operations.Operations.macro, x, name, x[0], NORM)
            for name in network.operations
        },
        "join": lambda maps: tally.run(operations.Join, maps, NORM),
    }
    graph = SimpleNamespace(
        stem=lambda x: tally.run(readable.stem, x, config.channels, NORM),
        layers=defaultdict(lambda: layer),
        reductions=defaultdict(lambda: defaultdict(lambda: halve)),
        classifier=lambda x: tally.run(operations.classifier, x, x[0], num_classes, 0.0),
    )
    cnn.MacroGraph.compute(graph, Shape((3, *size)), network)
    return sum(tally, Cost())


def micro_cost(network: MicroNetwork, num_classes: int, config: MicroCNNConfig, size: tuple[int, int]) -> Cost:
    """Return the same of a `MicroCNN`, without its auxiliary head."""
    tally, width = Tally(), config.channels
    places = [*readable.cell_places(config.scratch_cnn_num_layers, width)]

    def cell(channels: int, stride: int, halve: bool) -> Callable[..., Mapping[int, Shape]]:
        parts = SimpleNamespace(
            calibrations={
                label: lambda maps, halve=halve: tally.run(operations.CellInput, maps, channels, NORM, halve)
                for label, halve in (("0", halve), ("1", False))
            },
            result=lambda edge, x: tally.run(
                operations.Operations.micro, x, edge.operation, channels, edge.stride(stride), NORM
            ),
        )
        return partial(cnn.Cell.forward, parts)

    graph = SimpleNamespace(
        places=places,
        stem=lambda x: tally.run(readable.stem, x, 3 * width, NORM),
        cells=[cell(*place) for _, *place in places],
        classifier=lambda maps: tally.run(operations.SlicedClassifier, maps, num_classes, 0.0, NORM),
    )
    cnn.MicroGraph.compute(graph, Shape((3, *size)), network)
    return sum(tally, Cost())

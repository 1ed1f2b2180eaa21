"""What an architecture costs when it is used: its parameters, and the multiply-adds of a token or an image.

A network's cost is the sum of those of its parts. Each part is built once without memory and measured by torch's own
FLOP counter, so that a search can ask for the cost of every sample, and operations of the user's own are counted too.
Products and convolutions count; normalisation, pools and activations do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from enas.cost import Cost
from enas.models.cnn import IMAGE_CHANNELS, CellChoices, MacroChoices
from enas.models.operations import (
    RUNNING_AVERAGES,
    CellInput,
    FactorisedReduction,
    Join,
    SlicedClassifier,
    classifier,
    convolution,
    macro_operation,
    micro_operation,
)
from enas.search_space.cnn_macro import MacroNetwork
from enas.search_space.cnn_micro import CELL_INPUTS, MicroNetwork

Size = tuple[int, int]  # height and width


def measured(make: Callable[[], nn.Module], run: Callable[[nn.Module], object]) -> Cost:
    """The cost of the module that `make` returns, in the forward pass that `run` does with it; nothing is computed."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module = make().eval()
        run(module)
    return Cost(sum(weight.numel() for weight in module.parameters()), counter.get_total_flops() // 2)


def _on_image(make: Callable[[], nn.Module], channels: int, size: Size) -> Cost:
    return measured(make, lambda module: module(torch.empty(1, channels, *size)))


def _on_maps(make: Callable[[], nn.Module], sources: Sequence[int], channels: int, size: Size) -> Cost:
    return measured(make, lambda module: module({label: torch.empty(1, channels, *size) for label in sources}))


def _halved(size: Size) -> Size:
    return -(-size[0] // 2), -(-size[1] // 2)


@cache
def _stem(channels: int, size: Size) -> Cost:
    return _on_image(
        lambda: nn.Sequential(convolution(IMAGE_CHANNELS, channels, 3), RUNNING_AVERAGES(channels)),
        IMAGE_CHANNELS,
        size,
    )


@cache
def _macro_operation(name: str, channels: int, size: Size) -> Cost:
    return _on_image(lambda: macro_operation(name, channels, RUNNING_AVERAGES), channels, size)


@cache
def _join(num_sources: int, channels: int, size: Size) -> Cost:
    sources = range(num_sources)
    return _on_maps(lambda: Join(sources, channels, RUNNING_AVERAGES), sources, channels, size)


@cache
def _reduction(inputs: int, outputs: int, size: Size) -> Cost:
    return _on_image(lambda: FactorisedReduction(inputs, outputs, RUNNING_AVERAGES), inputs, size)


@cache
def _classifier(channels: int, num_classes: int, size: Size) -> Cost:
    return _on_image(lambda: classifier(channels, num_classes, 0.0), channels, size)


def macro_cost(network: MacroNetwork, num_classes: int, widths: Sequence[int], size: Size) -> Cost:
    """Of a `MacroGraph` with the weights of `network` alone.

    Args:
        widths: the channels before the first reduction, between the two, and after the second.
        size: height and width of an image.
    """
    choices, stage = MacroChoices.of(network), 0
    total = _stem(widths[0], size)
    for layer in range(choices.num_layers):
        if layer in choices.operations:
            (operation,), skips = choices.operations[layer], choices.skips[layer]
            total += _macro_operation(operation, widths[stage], size)
            if skips:
                total += _join(len(skips) + 1, widths[stage], size)
        if layer in choices.carried:
            total += _reduction(*widths[stage : stage + 2], size) * len(choices.carried[layer])
            stage, size = stage + 1, _halved(size)
    return total + _classifier(widths[stage], num_classes, size)


@cache
def _cell_input(num_sources: int, inputs: int, channels: int, size: Size, halve: bool) -> Cost:
    sources = range(num_sources)
    return _on_maps(lambda: CellInput(sources, inputs, channels, RUNNING_AVERAGES, halve=halve), sources, inputs, size)


@cache
def _micro_operation(name: str, channels: int, stride: int, size: Size) -> Cost:
    return _on_image(lambda: micro_operation(name, channels, stride, RUNNING_AVERAGES), channels, size)


@cache
def _sliced_classifier(num_sources: int, channels: int, num_classes: int, size: Size) -> Cost:
    sources = range(num_sources)
    return _on_maps(
        lambda: SlicedClassifier(sources, channels, num_classes, 0.0, RUNNING_AVERAGES), sources, channels, size
    )


def micro_cost(network: MicroNetwork, num_classes: int, reduces: Sequence[bool], channels: int, size: Size) -> Cost:
    """Of a `MicroGraph` with the weights of `network` alone.

    Args:
        reduces: for each cell, first to last, whether it is the reduction cell.
        channels: of the first cells.
        size: height and width of an image.
    """
    total = _stem(3 * channels, size)
    older = previous = (1, 3 * channels, size)  # the number of maps that are concatenated, their channels and size
    for index, is_reduction in enumerate(reduces):
        channels *= 2 if is_reduction else 1
        choices = CellChoices.of(network.reduction if is_reduction else network.normal)
        halve = index > 0 and reduces[index - 1]
        stride, inside = (2, _halved(size)) if is_reduction else (1, size)
        for label in choices.inputs:
            num, inputs, shape = (older, previous)[label]
            total += _cell_input(num, inputs, channels, shape, halve and label == 0)
        for edge in choices.edges:
            reads_input = edge.source in CELL_INPUTS
            place = (stride, size) if reads_input else (1, inside)
            total += _micro_operation(edge.operation, channels, *place)
        size = inside
        older, previous = previous, (len(choices.outputs), channels, size)
    return total + _sliced_classifier(previous[0], channels, num_classes, size)


def cell_cost(num_nodes: int, vocab_size: int, embed: int, hidden: int, tie_weights: bool) -> Cost:
    """Of a language model with a recurrent cell of so many nodes, each of which but the first has one edge."""
    cell = 2 * hidden * (embed + num_nodes * hidden)  # input, state, edges; gates and values
    decoder = vocab_size * hidden
    embedding = vocab_size * embed + (0 if tie_weights else decoder)
    return Cost(embedding + vocab_size + cell, cell + decoder)

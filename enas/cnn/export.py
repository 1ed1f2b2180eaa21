"""Export a convolutional network: `network` is its model.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enas.cnn import network as readable
from enas.cnn.macro import STEM, MacroNetwork
from enas.cnn.micro import MicroNetwork
from enas.cnn.model import MacroChoices
from enas.cnn.settings import MicroCNNConfig, ScratchCNNConfig
from enas.errors import UserError
from enas.search.problem import Exported
from enas.settings import ConfigLike

Sources = Callable[[str], list[str]]  # the weights of a model, by name, that make one of the exported network


def exported(network: MacroNetwork | MicroNetwork, found: Mapping[str, Tensor], config: ConfigLike) -> Exported:
    """The network with those weights of a model, searched or trained alone, that it uses.

    UserError if an operation is of the user's own, or the model has no weights for a choice of the network.
    """
    make: Callable[..., readable.Classifier]
    if isinstance(network, MacroNetwork):
        make, sizes, sources, scratch = readable.MacroNetwork, *_macro(network, found), config[ScratchCNNConfig]
        title = f"A convolutional network of {network.num_layers} layers"
    else:
        make, sizes, sources, scratch = readable.MicroNetwork, *_micro(network, found), config[MicroCNNConfig]
        title = f"A convolutional network of {sizes['num_layers']} normal cells"
    is_search = "stem.1.running_mean" not in found  # only a model from scratch keeps running averages
    settings = {
        "num_classes": len(_joined(found, sources("classifier.bias"))),
        "dropout": config.cnn_dropout if is_search else scratch.dropout,
        "batch_statistics": is_search,
        **sizes,
    }
    contents = {**settings, "architecture": network.to_dict()}
    with torch.device("meta"):
        names = make(found=contents).state_dict()
    return Exported(
        source=Path(readable.__file__),
        example="network.py",
        weights={name: _joined(found, sources(name)) for name in names},
        settings=settings,
        title=title,
        summary=f"{title} for {settings['num_classes']} classes, with `forward(images)` and `features(images)`.",
        make=lambda model: getattr(model, make.__name__)(found=contents),
        inputs={"images": torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))},
        dynamic=({0: "batch", 2: "height", 3: "width"},),
        outputs=("logits",),
    )


def _check(operation: str, known: tuple[str, ...]) -> None:
    if operation not in known:
        raise UserError(f"operation {operation} is not one of {', '.join(known)}; an exported network cannot make it")


def _joined(found: Mapping[str, Tensor], names: list[str]) -> Tensor:
    """Weights side by side: those of normalisations along their channels, those of products along what they read."""
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"the run has no weights {', '.join(missing)}; the network is not one of its search space")
    first = found[names[0]]
    if first.dim() == 0:  # a count of batches
        return first
    return torch.cat([found[name] for name in names], dim=min(first.dim() - 1, 1)).contiguous()


def _macro(network: MacroNetwork, found: Mapping[str, Tensor]) -> tuple[dict[str, Any], Sources]:
    """The sizes of the network, and the sources of its weights."""
    choices = MacroChoices.of(network)
    for (operation,) in choices.operations.values():
        _check(operation, (*readable.POOLS, *readable.CONVOLUTIONS))
    norms = [f"reductions.{layer}.{labels[0]}.norm.weight" for layer, labels in choices.carried.items()]
    widths = [len(_joined(found, [name])) for name in ("stem.0.weight", *norms)]

    def sources(name: str) -> list[str]:
        part, rest = name.split(".", 1)
        kind, layer, label = re.findall(r"([a-z]+)(\d*)_?h?(-?\w*)", part)[0]
        if kind == "layer":
            return [f"layers.{layer}.operations.{choices.operations[int(layer)][0]}.{rest}"]
        if kind == "join" and rest == "0.weight":
            return [f"layers.{layer}.join.slices.{source}" for source in (*choices.skips[int(layer)], layer)]
        if kind == "join":
            return [f"layers.{layer}.join.norm.{rest.removeprefix('1.')}"]
        if kind == "reduce":
            return [f"reductions.{layer}.{STEM if label == 'stem' else label}.{rest}"]
        return [f"classifier.4.{rest}" if kind == "classifier" else name]

    return {"channels": tuple(widths + widths[-1:] * (3 - len(widths)))}, sources


def _micro(network: MicroNetwork, found: Mapping[str, Tensor]) -> tuple[dict[str, Any], Sources]:
    """The sizes of the network, and the sources of its weights."""
    num_layers = len({name.split(".")[1] for name in found if name.startswith("cells.")}) - 2
    cells = [
        network.reduction if stride == 2 else network.normal for _, stride, _ in readable.cell_places(num_layers, 1)
    ]
    keys = [{f"{edge.node}_{edge.slot}": edge.key for edge in cell.edges} for cell in cells]
    outputs = [(STEM,), (STEM,), *(cell.output_nodes for cell in cells)]  # cell k reads those at k and k + 1
    for cell in network.cells.values():
        for edge in cell.edges:
            _check(edge.operation, (*readable.POOLS, "identity", "sep3x3", "sep5x5"))

    def sources(name: str) -> list[str]:
        part, _, rest = name.partition(".")
        if part == "norm":
            return [f"classifier.norms.{label}.{rest}" for label in outputs[-1]]
        if name == "classifier.weight":
            return [f"classifier.slices.{label}" for label in outputs[-1]]
        if part != "cells":
            return [name]
        index, part, rest = rest.split(".", 2)
        if part.startswith("edge"):
            return [f"cells.{index}.edges.{keys[int(index)][part.removeprefix('edge')]}.{rest}"]
        label, rest = int(part.removeprefix("input")), rest.removeprefix("reduction.")
        if rest.startswith("norm."):
            return [f"cells.{index}.calibrations.{label}.{rest}"]
        path = f"cells.{index}.calibrations.{label}.paths.{int(rest == 'odd.weight')}"
        return [f"{path}.slices.{source}" for source in outputs[int(index) + label]]

    return {"channels": len(found["stem.0.weight"]) // 3, "num_layers": num_layers}, sources

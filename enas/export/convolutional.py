"""A convolutional network as Python source that needs torch alone, and its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from enas.errors import UserError
from enas.export.parts import Exported, Signature
from enas.models.cnn import CellChoices, Edge, MacroChoices
from enas.search_space import MacroNetwork, MicroNetwork
from enas.search_space.cnn_macro import STEM
from enas.search_space.cnn_micro import CELL_NAMES, MicroCell

if TYPE_CHECKING:
    from enas.config import Config

# What a file that needs torch alone can make; operations of the user's own are not among them.
POOL_SOURCES = {
    "avg3x3": "nn.AvgPool2d(3, {stride}, padding=1, count_include_pad=False)",
    "max3x3": "nn.MaxPool2d(3, {stride}, padding=1)",
}
MACRO_SOURCES = POOL_SOURCES | {
    "conv3x3": "convolution({c}, {c}, 3)",
    "conv5x5": "convolution({c}, {c}, 5)",
    "sep3x3": "separable({c}, 3)",
    "sep5x5": "separable({c}, 5)",
}
MICRO_SOURCES = POOL_SOURCES | {
    "identity": "nn.Identity()",
    "sep3x3": "twice(c, 3, {stride})",
    "sep5x5": "twice(c, 5, {stride})",
}

PARTS = '''import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_STATISTICS = {batch_statistics}  # normalise by those of the batch, in evaluation too, as the search did


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=not BATCH_STATISTICS)


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


def separable(channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        convolution(channels, channels, kernel, stride, groups=channels), convolution(channels, channels, 1)
    )


class Reduction(nn.Module):
    """Half the height and width: 1×1 convolutions of every second pixel, and of those between them."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.even = convolution(inputs, outputs - outputs // 2, 1)
        self.odd = convolution(inputs, outputs // 2, 1)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        height, width = x.shape[2:]
        odd = F.pad(x, (0, width % 2, 0, height % 2))[:, :, 1::2, 1::2]
        return self.norm(torch.cat([self.even(x[:, :, ::2, ::2]), self.odd(odd)], dim=1))
'''

MACRO = '''"""A convolutional network found by neural architecture search (ENAS). It needs torch alone.

{described}
"""

{parts}

def layer(channels: int, operation: nn.Module) -> nn.Sequential:
    """A 1×1 convolution, then the operation; normalisation and ReLU follow each convolution."""
    is_pool = isinstance(operation, (nn.AvgPool2d, nn.MaxPool2d))
    after = [] if is_pool else [norm(channels), nn.ReLU()]
    return nn.Sequential(convolution(channels, channels, 1), norm(channels), nn.ReLU(), operation, *after)


class Network(nn.Module):
    """Images [B, 3, H, W], each colour with mean 0 and standard deviation 1, to logits [B, classes].

    Args:
        num_classes: how many there are.
        channels: before the first reduction, between the two, and after the second.
        dropout: before the classifier.
    """

    def __init__(self, num_classes: int = {num_classes}, channels: tuple = {channels}, dropout: float = {dropout}):
        super().__init__()
        c0, c1, c2 = channels
        self.stem = nn.Sequential(convolution(3, c0, 3), norm(c0))
{modules}
        self.classifier = nn.Linear({last}, num_classes)
        self.dropout = nn.Dropout(dropout)

    def features(self, images: Tensor) -> Tensor:
        """What the classifier reads, [B, C]."""
        stem = self.stem(images)
{steps}
        return F.relu({result}).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.features(images)))
'''

MICRO = '''"""A convolutional network of cells found by neural architecture search (ENAS). It needs torch alone.

{described}
"""

{parts}

class Input(nn.Module):
    """What a cell makes of the output of an earlier one: its channels, and where that is larger half the size."""

    def __init__(self, inputs: int, channels: int, halve: bool):
        super().__init__()
        self.reduction = Reduction(inputs, channels) if halve else None
        self.conv = None if halve else convolution(inputs, channels, 1)
        self.norm = None if halve else norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(x) if self.reduction is not None else self.norm(self.conv(F.relu(x)))


def twice(channels: int, kernel: int, stride: int) -> nn.Sequential:
    """A separable convolution applied twice, the first one with the stride."""
    return nn.Sequential(
        nn.ReLU(), separable(channels, kernel, stride), norm(channels),
        nn.ReLU(), separable(channels, kernel), norm(channels),
    )


{cells}

class Network(nn.Module):
    """Images [B, 3, H, W], each colour with mean 0 and standard deviation 1, to logits [B, classes].

    Args:
        num_classes: how many there are.
        channels: of the first cells; they double in each reduction cell.
        num_layers: normal cells; a reduction cell stands after each third of them but the last.
        dropout: before the classifier.
    """

    def __init__(
        self,
        num_classes: int = {num_classes},
        channels: int = {channels},
        num_layers: int = {num_layers},
        dropout: float = {dropout},
    ):
        super().__init__()
        stage = (False,) * (num_layers // 3)
        reduces = (*stage, True, *stage, True, *stage)
        self.stem = nn.Sequential(convolution(3, 3 * channels, 3), norm(3 * channels))
        older = previous = 3 * channels
        self.cells = nn.ModuleList()
        for index, is_reduction in enumerate(reduces):
            channels *= 2 if is_reduction else 1
            cell = ReductionCell if is_reduction else NormalCell
            self.cells.append(cell(older, previous, channels, halve=index > 0 and reduces[index - 1]))
            older, previous = previous, cell.outputs * channels
        self.norm = norm(previous)
        self.classifier = nn.Linear(previous, num_classes)
        self.dropout = nn.Dropout(dropout)

    def features(self, images: Tensor) -> Tensor:
        """What the classifier reads, [B, C]."""
        older = previous = self.stem(images)
        for cell in self.cells:
            older, previous = previous, cell(older, previous)
        return F.relu(self.norm(previous)).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.features(images)))
'''

CELL = '''class {name}(nn.Module):
    """{described}"""

    outputs = {outputs}  # nodes that are concatenated

    def __init__(self, older: int, previous: int, c: int, halve: bool):
        super().__init__()
{modules}

    def forward(self, older: Tensor, previous: Tensor) -> Tensor:
{steps}
        return torch.cat([{concatenated}], dim=1)
'''

EXAMPLE = '''"""Load the network with the weights that the search found, and classify noise: python example.py"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from model import Network

network = Network()
network.load_state_dict(load_file(Path(__file__).resolve().parent / "model.safetensors"))
network.eval()
images = torch.randn(4, 3, 32, 32)
with torch.no_grad():
    print("features", tuple(network.features(images).shape), "classes", network(images).argmax(1).tolist())
'''


SIGNATURE = Signature(
    make=lambda model: model.Network(),
    inputs={"images": torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))},
    dynamic=({0: "batch", 2: "height", 3: "width"},),
    outputs=("logits",),
)


def exported(network: MacroNetwork | MicroNetwork, found: Mapping[str, Tensor], config: Config) -> Exported:
    """The network with those weights of a model, searched or trained alone, that it uses.

    Raises:
        UserError: an operation is of the user's own, or the model has no weights for a choice of the network.
    """
    is_macro = isinstance(network, MacroNetwork)
    values = {
        "num_classes": found[_last_layer(found, "bias")].numel(),
        "dropout": _dropout(config, is_macro),
        "batch_statistics": "stem.1.running_mean" not in found,
        **(_macro_sizes(network, found) if is_macro else _micro_sizes(found)),
    }
    source, weights = (_macro if is_macro else _micro)(network, found, values)
    kind = f"of {network.num_layers} layers" if is_macro else f"of {values['num_layers']} normal cells"
    return Exported(
        source=source,
        example=EXAMPLE,
        weights=weights,
        settings=values,
        title=f"A convolutional network {kind}",
        summary=f"A convolutional network {kind} for {values['num_classes']} classes, with `forward(images)` and "
        "`features(images)`.",
        signature=SIGNATURE,
    )


def _dropout(config: Config, is_macro: bool) -> float:
    if config.mode not in ("single", "train_scratch"):
        return config.cnn_dropout
    return config.scratch_cnn_dropout if config.scratch_cnn_dropout != -1 else (0.5 if is_macro else 0.2)


def _last_layer(found: Mapping[str, Tensor], what: str) -> str:
    return next(name for name in found if re.fullmatch(rf"classifier\.(\d+\.)?{what}", name))


class _Names:
    """Collects the weights of the exported module out of those of the model."""

    def __init__(self, found: Mapping[str, Tensor]):
        self.found = found
        self.weights: dict[str, Tensor] = {}

    def take(self, mine: str, theirs: str) -> None:
        """All weights below a prefix."""
        names = [name for name in self.found if name.startswith(f"{theirs}.")]
        for name in names:
            self.weights[mine + name.removeprefix(theirs)] = self.found[name].contiguous()

    def join(self, mine: str, *theirs: str, dim: int = 1) -> None:
        """Several weights side by side; UserError where one is not there."""
        missing = [name for name in theirs if name not in self.found]
        if missing:
            raise UserError(f"the run has no weights {', '.join(missing)}; the network is not one of its search space")
        self.weights[mine] = torch.cat([self.found[name] for name in theirs], dim=dim).contiguous()

    def norm(self, mine: str, *theirs: str) -> None:
        """One normalisation of the channels of several, side by side."""
        for part in ("weight", "bias", "running_mean", "running_var"):
            if f"{theirs[0]}.{part}" in self.found:
                self.join(f"{mine}.{part}", *(f"{name}.{part}" for name in theirs), dim=0)
        if f"{theirs[0]}.num_batches_tracked" in self.found:
            self.weights[f"{mine}.num_batches_tracked"] = self.found[f"{theirs[0]}.num_batches_tracked"]


def _known(operation: str, sources: Mapping[str, str]) -> str:
    if operation not in sources:
        raise UserError(f"operation {operation} is not one of {', '.join(sources)}; an exported network cannot make it")
    return sources[operation]


# --- macro ------------------------------------------------------------------------------------------------------------


def _macro_sizes(network: MacroNetwork, found: Mapping[str, Tensor]) -> dict[str, Any]:
    widths = [found["stem.0.weight"].shape[0]]
    for layer, labels in MacroChoices.of(network).carried.items():
        name = f"reductions.{layer}.{labels[0]}.norm.weight"
        if name not in found:
            raise UserError(f"the run has no weights {name}; the network is not one of its search space")
        widths.append(found[name].shape[0])
    return {"channels": tuple(widths + widths[-1:] * (3 - len(widths)))}


def _macro(network: MacroNetwork, found: Mapping[str, Tensor], values: dict[str, Any]) -> tuple[str, dict[str, Tensor]]:
    names = _Names(found)
    modules: list[str] = []
    steps: list[str] = []
    described: list[str] = []
    names.take("stem", "stem")
    choices, stage, newest = MacroChoices.of(network), 0, STEM
    for layer in range(choices.num_layers):
        if layer in choices.operations:
            (operation,), skips = choices.operations[layer], choices.skips[layer]
            modules += _macro_layer(names, layer, operation, skips, f"c{stage}")
            steps.append(_macro_step(layer, newest, skips))
            described.append(_macro_line(layer, operation, skips))
            newest = layer
        if layer in choices.carried:
            carried = choices.carried[layer]
            for label in carried:
                modules.append(f"self.reduce{layer}_{_value(label)} = Reduction(c{stage}, c{stage + 1})")
                steps.append(f"{_value(label)} = self.reduce{layer}_{_value(label)}({_value(label)})")
                names.take(f"reduce{layer}_{_value(label)}", f"reductions.{layer}.{label}")
            described.append("half the height and width")
            stage += 1
    names.take("classifier", _last_layer(found, "weight").removesuffix(".weight"))
    source = MACRO.format(
        described="\n".join(described),
        parts=PARTS.format(**values),
        modules=_indented(modules),
        steps=_indented(steps),
        last=f"c{stage}",
        result=_value(newest),
        **values,
    )
    return source, names.weights


def _value(label: int) -> str:
    return "stem" if label == STEM else f"h{label}"


def _macro_line(layer: int, operation: str, skips: Sequence[int]) -> str:
    joined = f", joined with {', '.join(map(_value, skips))}" if skips else ""
    return f"h{layer}: {operation}{joined}"


def _macro_layer(names: _Names, layer: int, operation: str, skips: Sequence[int], channels: str) -> Iterator[str]:
    made = _known(operation, MACRO_SOURCES).format(c=channels, stride=1)
    yield f"self.layer{layer} = layer({channels}, {made})"
    names.take(f"layer{layer}", f"layers.{layer}.operations.{operation}")
    if skips:
        join = f"convolution({len(skips) + 1} * {channels}, {channels}, 1), norm({channels})"
        yield f"self.join{layer} = nn.Sequential({join})"
        slices = (f"layers.{layer}.join.slices.{label}" for label in (*skips, layer))
        names.join(f"join{layer}.0.weight", *slices)
        names.take(f"join{layer}.1", f"layers.{layer}.join.norm")


def _macro_step(layer: int, newest: int, skips: Sequence[int]) -> str:
    result = f"self.layer{layer}({_value(newest)})"
    if skips:
        maps = ", ".join([*map(_value, skips), result])
        result = f"F.relu(self.join{layer}(torch.cat([{maps}], dim=1)))"
    return f"h{layer} = {result}"


# --- micro ------------------------------------------------------------------------------------------------------------


def _micro_sizes(found: Mapping[str, Tensor]) -> dict[str, Any]:
    cells = {int(match[1]) for name in found if (match := re.match(r"cells\.(\d+)\.", name))}
    return {"channels": found["stem.0.weight"].shape[0] // 3, "num_layers": max(cells) + 1 - 2}


def _micro(network: MicroNetwork, found: Mapping[str, Tensor], values: dict[str, Any]) -> tuple[str, dict[str, Tensor]]:
    names = _Names(found)
    names.take("stem", "stem")
    third = values["num_layers"] // 3
    older = previous = (STEM,)
    for index in range(values["num_layers"] + 2):
        is_reduction = index in (third, 2 * third + 1)
        cell = network.reduction if is_reduction else network.normal
        halve = index > 0 and index - 1 in (third, 2 * third + 1)
        _micro_weights(names, index, cell, (older, previous), halve)
        older, previous = previous, cell.output_nodes
    names.norm("norm", *(f"classifier.norms.{label}" for label in previous))
    names.join("classifier.weight", *(f"classifier.slices.{label}" for label in previous))
    names.join("classifier.bias", "classifier.bias", dim=0)
    cells = {name: _cell_source(getattr(network, name), f"{name.capitalize()}Cell") for name in CELL_NAMES}
    source = MICRO.format(
        described="\n\n".join(_cell_described(getattr(network, name), name) for name in CELL_NAMES),
        parts=PARTS.format(**values),
        cells="\n\n".join(cells.values()),
        **values,
    )
    return source, names.weights


def _micro_weights(names: _Names, index: int, cell: MicroCell, sources: tuple[Any, ...], halve: bool) -> None:
    choices, mine, theirs = CellChoices.of(cell), f"cells.{index}", f"cells.{index}"
    for label in choices.inputs:
        paths = [f"{theirs}.calibrations.{label}.paths.{path}" for path in range(2 if halve and label == 0 else 1)]
        convs = ("reduction.even", "reduction.odd") if len(paths) == 2 else ("conv",)
        for path, conv in zip(paths, convs, strict=True):
            slices = (f"{path}.slices.{source}" for source in sources[label])
            names.join(f"{mine}.input{label}.{conv}.weight", *slices)
        norm = "reduction.norm" if len(paths) == 2 else "norm"
        names.take(f"{mine}.input{label}.{norm}", f"{theirs}.calibrations.{label}.norm")
    for edge in choices.edges:
        names.take(f"{mine}.{_edge(edge)}", f"{theirs}.edges.{edge.key}")


def _edge(edge: Edge) -> str:
    return f"edge{edge.node}_{edge.slot}"


def _cell_source(cell: MicroCell, name: str) -> str:
    choices = CellChoices.of(cell)
    read = {0: "older", 1: "previous"}
    modules = [
        f"self.input{label} = Input({read[label]}, c, halve={'halve' if label == 0 else 'False'})"
        for label in choices.inputs
    ]
    stride = 2 if name == "ReductionCell" else 1
    modules += [_edge_source(edge, stride if edge.source in read else 1) for edge in choices.edges]
    steps = [f"h{label} = self.input{label}({read[label]})" for label in choices.inputs]
    for first, second in zip(choices.edges[0::2], choices.edges[1::2], strict=True):
        terms = (f"self.{_edge(edge)}(h{edge.source})" for edge in (first, second))
        steps.append(f"h{first.node} = {' + '.join(terms)}")
    return CELL.format(
        name=name,
        described="Two earlier cells' outputs to its own.",
        outputs=len(choices.outputs),
        modules=_indented(modules),
        steps=_indented(steps),
        concatenated=", ".join(f"h{label}" for label in choices.outputs),
    )


def _edge_source(edge: Edge, stride: int) -> str:
    source = _known(edge.operation, MICRO_SOURCES).format(stride=stride)
    if edge.operation == "identity" and stride == 2:
        source = "Reduction(c, c)"
    return f"self.{_edge(edge)} = {source}"


def _cell_described(cell: MicroCell, name: str) -> str:
    lines = [f"{name} cell, of the outputs 0 and 1 of the two cells before it:"]
    for node, sources, operations in zip(cell.nodes, cell.inputs, cell.operations, strict=True):
        terms = (f"{operation} of {source}" for source, operation in zip(sources, operations, strict=True))
        lines.append(f"    node {node}: {' plus '.join(terms)}")
    return "\n".join([*lines, f"    the output is {', '.join(map(str, cell.output_nodes))} side by side"])


def _indented(lines: list[str]) -> str:
    return "\n".join(f"        {line}" for line in lines)

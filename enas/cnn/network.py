"""A convolutional network found by neural architecture search (ENAS); it needs torch, and Pillow for pictures.

A copy of this file is the model.py of an exported network: its `Network` is the network of config.json beside it, a
whole one (Pham et al. 2018, section 2.3) or one of cells (section 2.4).

Shapes: B batch, C channels, H and W height and width.
"""

import json
import math
import runpy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from PIL.Image import Image

HERE = Path(__file__).resolve().parent
STEM = -1  # the label of the stem's output among the labels of layers
Norm = Callable[[int], nn.Module]  # given the number of channels, makes their normalisation


def read(folder: str | Path = HERE, **changes: Any) -> dict[str, Any]:
    """Return an exported folder's config.json, with changes and the "folder"; TypeError for unknown changes."""
    config = {**json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")), "folder": str(folder)}
    if unknown := [name for name in changes if name not in config]:
        raise TypeError(f"{', '.join(unknown)}: no such argument; there are {', '.join(config)}")
    return {**config, **changes}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of safetensors: the length of a header, the header as JSON, and the numbers."""
    data, types = bytearray(path.read_bytes()), {"F32": torch.float32, "F64": torch.float64, "BOOL": torch.bool}
    types |= {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8}  # of buffers
    start = 8 + int.from_bytes(data[:8], "little")
    weights = {}
    for name, place in json.loads(data[8:start]).items():
        if name != "__metadata__":
            settings = {"dtype": types[place["dtype"]], "offset": start + place["data_offsets"][0]}
            weights[name] = torch.frombuffer(data, count=math.prod(place["shape"]), **settings).view(place["shape"])
    return weights


def pixels(image: "Image | str | Path", height: int, width: int) -> Tensor:
    """Return a picture as the search read it, uint8 [3, H, W]: upright, in colours, on white, resized and cut."""
    from PIL import Image, ImageOps

    image = Image.open(image) if isinstance(image, str | Path) else image
    if image.mode[0] in "IF":
        raise ValueError(f"the picture has Pillow's mode {image.mode}; it must have 8 bits a channel, like L or RGB")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = ImageOps.fit(image.convert("RGB"), (width, height))
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Make a convolution that keeps height and width, except for the stride."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


def stem(channels: int, norm: Norm) -> nn.Sequential:
    """Make `channels` maps of an image's three colours."""
    return nn.Sequential(convolution(3, channels, 3), norm(channels))


def separable(channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Make a convolution of each channel alone, then a 1×1 convolution across channels."""
    depthwise = convolution(channels, channels, kernel, stride, groups=channels)
    return nn.Sequential(depthwise, convolution(channels, channels, 1))


class Reduction(nn.Module):
    """Half the height and width: 1×1 convolutions of every second pixel, and of the pixels between them."""

    def __init__(self, inputs: int, outputs: int, norm: Norm):
        super().__init__()
        self.even = convolution(inputs, outputs - outputs // 2, 1)
        self.odd = convolution(inputs, outputs // 2, 1)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, outputs, ⌈H/2⌉, ⌈W/2⌉]; the odd pixels beyond the edge are zeros."""
        x = F.relu(x)
        height, width = x.shape[2:]
        odd = F.pad(x, (0, width % 2, 0, height % 2))[:, :, 1::2, 1::2]
        return self.norm(torch.cat([self.even(x[:, :, ::2, ::2]), self.odd(odd)], dim=1))


class Operations:
    """The operations of both kinds of network; `pools` take the stride, `convolutions` channels and stride."""

    pools: Mapping[str, Callable[[int], nn.Module]] = {
        "avg3x3": lambda stride: nn.AvgPool2d(3, stride, padding=1, count_include_pad=False),
        "max3x3": lambda stride: nn.MaxPool2d(3, stride, padding=1),
    }
    convolutions: ClassVar[dict[str, Callable[[int, int], nn.Module]]] = {
        "conv3x3": lambda channels, stride: convolution(channels, channels, 3, stride),
        "conv5x5": lambda channels, stride: convolution(channels, channels, 5, stride),
        "sep3x3": lambda channels, stride: separable(channels, 3, stride),
        "sep5x5": lambda channels, stride: separable(channels, 5, stride),
    }
    reduction = Reduction

    @classmethod
    def macro(cls, name: str, channels: int, norm: Norm) -> nn.Sequential:
        """Make a 1×1 convolution, then the operation; normalisation and ReLU follow each convolution."""
        squeeze = [convolution(channels, channels, 1), norm(channels), nn.ReLU(inplace=True)]
        if name in cls.pools:
            return nn.Sequential(*squeeze, cls.pools[name](1))
        return nn.Sequential(*squeeze, cls.convolutions[name](channels, 1), norm(channels), nn.ReLU(inplace=True))

    @classmethod
    def micro(cls, name: str, channels: int, stride: int, norm: Norm) -> nn.Module:
        """Make a pool, an identity, or a convolution that is applied twice, the first time with the stride."""
        if name == "identity":
            return nn.Identity() if stride == 1 else cls.reduction(channels, channels, norm)
        if name in cls.pools:
            return cls.pools[name](stride)
        first, second = (cls.convolutions[name](channels, each) for each in (stride, 1))
        return nn.Sequential(nn.ReLU(), first, norm(channels), nn.ReLU(inplace=True), second, norm(channels))


class Classifier(nn.Module):
    """Images [B, 3, H, W], each colour with mean 0 and standard deviation 1, to logits [B, classes].

    Arguments are the content of a config.json, or changes of the one beside this file.
    """

    maps: Callable[[Tensor], Tensor]  # images to the last maps
    classifier: nn.Linear

    def __new__(cls, **arguments: Any) -> Self:
        config = arguments if "architecture" in arguments or cls is not Classifier else read(**arguments)
        return super().__new__(NETWORKS[config["architecture"]["type"]] if cls is Classifier else cls)

    def __init__(self, **arguments: Any):
        super().__init__()
        self.config: dict[str, Any] = arguments if "architecture" in arguments else read(**arguments)
        self.dropout = nn.Dropout(self.config["dropout"])  # before the classifier

    def operations(self) -> type[Operations]:
        """Return the operations; those of a folder's own files are of this network alone."""
        found = dict(Operations.convolutions)
        for name, place in self.config.get("operations", {}).items():
            if "folder" in self.config or name not in found:
                module, _, maker = place.rpartition(".")  # a file of the folder
                found[name] = runpy.run_path(f"{self.config.get('folder', HERE)}/{module}.py")[maker]
        return type("Operations", (Operations,), {"convolutions": found})

    @staticmethod
    def load(folder: str | Path = HERE, **changes: Any) -> "Classifier":
        """Return a folder's network with its weights, in evaluation mode; another num_classes has a new classifier."""
        network, weights = Classifier(**read(folder, **changes)), read_weights(Path(folder) / "model.safetensors")
        if network.classifier.bias.shape != weights["classifier.bias"].shape:
            weights |= {f"classifier.{name}": weight for name, weight in network.classifier.state_dict().items()}
        network.load_state_dict(weights)
        return network.eval()

    @torch.no_grad()
    def predict(self, images: "Image | str | Path | Sequence[Image | str | Path]") -> Any:
        """Return the probabilities of a picture by class, the most probable class first: dict[str, float].

        A picture is a Pillow image or a path, and is resized as in the run. A list of pictures gives a list of
        dictionaries. Sets evaluation mode.
        """
        if isinstance(images, str) or not isinstance(images, Sequence):
            return self.predict([images])[0]
        mean, std = (torch.tensor(self.config[name]).view(3, 1, 1) for name in ("mean", "std"))  # of 0 … 255
        batch = torch.stack([(pixels(image, *self.config["image_size"]) - mean) / std for image in images])
        found = self.eval()(batch.to(self.classifier.weight)).softmax(1).sort(descending=True)
        known, num = self.config["classes"], self.config["num_classes"]
        names = known if len(known) == num else [*map(str, range(num))]
        rows = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        return [{names[label]: share for label, share in zip(*row, strict=True)} for row in rows]

    def new_norm(self, channels: int) -> nn.BatchNorm2d:
        """Normalise by the statistics of the batch, in evaluation too, if the weights were trained so."""
        return nn.BatchNorm2d(channels, track_running_stats=not self.config["batch_statistics"])

    def features(self, images: Tensor) -> Tensor:
        """Return the input of the classifier, [B, C]."""
        return F.relu(self.maps(images)).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classifier(self.dropout(self.features(images)))


class MacroNetwork(Classifier):
    """A chain of layers, which may join their output with outputs of earlier layers; see `Classifier`.

    `channels` are those before the first reduction, between the two, and after the second.
    """

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        norm, operations, widths = self.new_norm, self.operations(), iter(self.config["channels"])
        width = next(widths)
        self.layers = [*macro_layers(self.config["architecture"])]
        self.stem = stem(width, norm)
        for layer, operation, skips, reduced in self.layers:
            if operation:
                self.add_module(f"layer{layer}", operations.macro(operation, width, norm))
            if skips:
                join = convolution((len(skips) + 1) * width, width, 1)
                self.add_module(f"join{layer}", nn.Sequential(join, norm(width)))
            if reduced:
                inputs, width = width, next(widths)
                for label in reduced:
                    self.add_module(reduction_name(layer, label), Reduction(inputs, width, norm))
        self.classifier = nn.Linear(width, self.config["num_classes"])

    def maps(self, images: Tensor) -> Tensor:
        """Return the output of the last layer, [B, C, H, W]."""
        x = self.stem(images)
        outputs = {STEM: x}
        for layer, operation, skips, reduced in self.layers:
            if operation:
                x = getattr(self, f"layer{layer}")(x)
            if skips:
                joined = torch.cat([*(outputs[label] for label in skips), x], dim=1)
                x = F.relu(getattr(self, f"join{layer}")(joined))
            outputs[layer] = x
            if reduced:
                outputs = {label: getattr(self, reduction_name(layer, label))(outputs[label]) for label in reduced}
                x = outputs[reduced[-1]]
        return x


def reduction_layers(num_layers: int) -> tuple[int, ...]:
    """Return the labels of the layers, at one and two thirds of the depth, that a reduction follows: 3 and 7 of 12."""
    return tuple(count - 1 for count in (num_layers // 3, 2 * num_layers // 3) if count > 0)


def macro_layers(network: Mapping[str, Any]) -> Iterator[tuple[int, str, Sequence[int], list[int]]]:
    """Yield each layer's label, its operation ("" if the layer was removed), and the labels that it skips from; fourth,
    if a reduction follows, the labels of the outputs that are read after it: the last one, and those skipped from.
    """
    operations, skips = (dict(zip(network["layers"], network[key], strict=True)) for key in ("operations", "skips"))
    for layer in range(network["num_layers"]):
        reduced = []
        if layer in reduction_layers(network["num_layers"]):
            before = [STEM, *(label for label in skips if label <= layer)]
            read_later = {label for reader, labels in skips.items() if reader > layer for label in labels}
            reduced = [label for label in before if label in read_later or label == before[-1]]
        yield layer, operations.get(layer, ""), skips.get(layer, ()), reduced


def reduction_name(layer: int, label: int) -> str:
    """Return the name of the module that halves the output `label` after `layer`."""
    return f"reduce{layer}_{'stem' if label == STEM else f'h{label}'}"


class MicroNetwork(Classifier):
    """Normal cells in three stages, with a reduction cell between two stages; see `Classifier`.

    Each cell reads the two before it. The first have `channels`, doubled by each reduction; `num_layers` are normal.
    """

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        norm, operations, first = self.new_norm, self.operations(), self.config["channels"]
        self.stem = stem(3 * first, norm)
        older = previous = 3 * first
        self.cells = nn.ModuleList()
        for name, *place in cell_places(self.config["num_layers"], first):
            cell = Cell(self.config["architecture"][name], (older, previous), place, norm, operations)
            self.cells.append(cell)
            older, previous = previous, len(cell.outputs) * place[0]
        self.norm = norm(previous)
        self.classifier = nn.Linear(previous, self.config["num_classes"])

    def maps(self, images: Tensor) -> Tensor:
        """Return the normalised output of the last cell, [B, C, H, W]."""
        older = previous = self.stem(images)
        for cell in self.cells:
            older, previous = previous, cell(older, previous)
        return self.norm(previous)


def cell_places(num_layers: int, channels: int) -> Iterator[tuple[str, int, int, bool]]:
    """Yield each cell's name, channels and stride, and whether its older input is twice as large as its previous one.

    The first of the `num_layers` normal cells have `channels`.
    """
    stage = ["normal"] * (num_layers // 3)
    names = [*stage, "reduction", *stage, "reduction", *stage]
    for name, before in zip(names, ["normal", *names], strict=False):
        stride = 2 if name == "reduction" else 1
        channels *= stride
        yield name, channels, stride, before == "reduction"


class Cell(nn.Module):
    """A cell: each node adds two operations on two earlier labels, of which 0 and 1 are the outputs of earlier cells.

    The outputs of the two cells `before` it have these channels. Its `place` is the channels C of its nodes, the stride
    of operations on labels 0 and 1, and whether the older output is twice as high and wide as the previous one.
    """

    def __init__(
        self, cell: Mapping[str, Any], before: tuple[int, int], place: Any, norm: Norm, operations: type[Operations]
    ):
        super().__init__()
        channels, stride, halve = place
        self.inputs: dict[int, list[int]] = dict(zip(cell["nodes"], cell["inputs"], strict=True))
        read = {label for pair in cell["inputs"] for label in pair}
        self.outputs = [node for node in self.inputs if cell["cell_output"] == "all" or node not in read]
        self.reads = [label for label in (0, 1) if label in read]
        for label in self.reads:
            if halve and label == 0:  # to half its height and width
                parts = {"reduction": Reduction(before[label], channels, norm)}
            else:
                parts = {"relu": nn.ReLU(), "conv": convolution(before[label], channels, 1), "norm": norm(channels)}
            self.add_module(f"input{label}", nn.Sequential(OrderedDict(parts)))
        for (node, labels), names in zip(self.inputs.items(), cell["operations"], strict=True):
            for slot, (label, name) in enumerate(zip(labels, names, strict=True)):
                operation = operations.micro(name, channels, stride if label in (0, 1) else 1, norm)
                self.add_module(f"edge{node}_{slot}", operation)

    def forward(self, older: Tensor, previous: Tensor) -> Tensor:
        """Return [B, outputs · C, H, W], given the outputs of the two cells before."""
        h = {label: getattr(self, f"input{label}")((older, previous)[label]) for label in self.reads}
        for node, (first, second) in self.inputs.items():
            h[node] = getattr(self, f"edge{node}_0")(h[first]) + getattr(self, f"edge{node}_1")(h[second])
        return torch.cat([h[node] for node in self.outputs], dim=1)


NETWORKS = {"cnn_macro": MacroNetwork, "cnn_micro": MicroNetwork}
Network: Any = NETWORKS[read()["architecture"]["type"]] if (HERE / "config.json").exists() else Classifier
build = Classifier  # the network of the content of a config.json, without its weights

"""Export a convolutional network: `network` is its model.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from enas.cnn import network as readable
from enas.cnn.images import ImageDataset
from enas.cnn.macro import STEM, MacroNetwork
from enas.cnn.micro import CELL_INPUTS, MicroNetwork
from enas.cnn.settings import MicroCNNConfig, ScratchCNNConfig, VisionTaskConfig
from enas.cnn.task import Network, ScratchVisionTask
from enas.errors import UserError
from enas.search.own_code import exportable
from enas.search.problem import RUNNING, Exported
from enas.settings import ConfigLike

# By name of a module or weight of the exported network: the model's modules or weights that, side by side, make it.
Sources = dict[str, list[str]]
STATISTICS_BATCHES = 100  # minibatches of training images whose statistics are averaged


def exported(network: Network, found: Mapping[str, Tensor], config: ConfigLike, images: Any = None) -> Exported:
    """Export the network with its weights, which are among those `found` in a model, searched or trained alone.

    With `images`, an `ImageDataset`, it predicts classes, and running statistics replace a search's batch statistics.
    UserError if the model has no weights for a choice of the network, or an operation cannot be exported.
    """
    if isinstance(network, MacroNetwork):
        names = network.operations
        sizes, sources, scratch = *_macro(network, found), config[ScratchCNNConfig]
        title = f"A convolutional network of {len(network.layers)} layers"
    else:
        names = tuple(edge.operation for cell in network.cells.values() for edge in cell.edges)
        sizes, sources, scratch = *_micro(network, found), config[MicroCNNConfig]
        title = f"A convolutional network of {sizes['num_layers']} normal cells"
    is_search = "stem.1.running_mean" not in found  # only a model from scratch keeps running averages
    settings = {
        "num_classes": len(_weight("classifier.bias", sources, found)),
        "dropout": config.cnn_dropout if is_search else scratch.dropout,
        "batch_statistics": is_search,
        **sizes,
    }
    known = readable.Operations.convolutions
    makers = {name: make for name, make in known.items() if getattr(make, "__module__", "") != readable.__name__}
    places, files = exportable("operation", {name: makers[name] for name in names if name in makers})
    settings |= {"operations": places} if places else {}
    settings["architecture"] = network.to_dict()
    weights = {name: _weight(name, sources, found) for name in readable.build(**settings).state_dict()}
    note, size = "", ", ".join(map(str, images.train.size if images is not None else (32, 32)))
    if images is not None:
        settings |= {"classes": images.classes, "image_size": images.train.size}
        settings |= {"mean": images.mean.tolist(), "std": images.std.tolist()}
    if images is not None and is_search:
        weights, note = _with_running_statistics(settings, weights, images, config)
        settings["batch_statistics"] = False
    return Exported(
        source=Path(readable.__file__),
        usage=f"""from model import Network
from PIL import Image

network = Network.load()  # or Network.load(num_classes=5), with a new classifier
print(network.predict(Image.new("RGB", (64, 64))))
print(network(torch.randn(4, 3, {size})).argmax(1))""",
        weights=weights,
        settings=settings,
        title=title,
        summary=f"{title} for {settings['num_classes']} classes, with `predict(pictures)`, `forward(images)` and\n"
        f"`features(images)`.{note}",
        make=lambda model: model.build(**settings),
        inputs={"images": torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))},
        dynamic=({0: "batch", 2: "height", 3: "width"},),
        outputs=("logits",),
        files=files,
    )


def _with_running_statistics(
    settings: dict[str, Any], weights: dict[str, Tensor], images: ImageDataset, config: ConfigLike
) -> tuple[dict[str, Tensor], str]:
    """Return the weights with running statistics of the training images, and a note that compares accuracies."""
    scores = []
    for is_batch in (True, False):
        network = readable.build(**{**settings, "batch_statistics": is_batch}).eval()
        network.load_state_dict(weights, strict=is_batch)
        network.common = []
        task = ScratchVisionTask(images, network, config[VisionTaskConfig], config.random_seed)
        if not is_batch:
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_running_stats()  # an operation of a user's own keeps those of the search
                    module.train().momentum = None  # the mean over all minibatches
            task.evaluate(None, "train", STATISTICS_BATCHES)
            network.eval()
        scores.append(task.evaluate(None, "valid"))
    weights = {name: weight.contiguous() for name, weight in network.state_dict().items()}
    return weights, RUNNING.format("images", "", *scores)


def _weight(name: str, sources: Sources, found: Mapping[str, Tensor]) -> Tensor:
    """Join the weights that make `name`: weights of normalisations along channels, other weights along inputs."""
    part = name
    while part not in sources and "." in part:
        part = part.rpartition(".")[0]
    needed = [source + name.removeprefix(part) for source in sources.get(part, [part])]
    if missing := [each for each in needed if each not in found]:
        raise UserError(f"the run has no weights {', '.join(missing)}; the network is not one of its search space")
    first = found[needed[0]]
    if first.dim() == 0:  # a count of batches
        return first
    return torch.cat([found[each] for each in needed], dim=min(first.dim() - 1, 1)).contiguous()


def _macro(network: MacroNetwork, found: Mapping[str, Tensor]) -> tuple[dict[str, Any], Sources]:
    sources = {"classifier": ["classifier.4"]}
    widths = [len(found["stem.0.weight"])]
    for layer, operation, skips, reduced in readable.macro_layers(vars(network)):
        path = f"layers.{layer}"
        sources[f"layer{layer}"] = [f"{path}.operations.{operation}"]
        sources[f"join{layer}.0.weight"] = [f"{path}.join.slices.{label}" for label in (*skips, layer)]
        sources[f"join{layer}.1"] = [f"{path}.join.norm"]
        for label in reduced:
            sources[readable.reduction_name(layer, label)] = [f"reductions.{layer}.{label}"]
        if reduced:
            widths.append(len(_weight(f"reductions.{layer}.{reduced[0]}.norm.weight", sources, found)))
    return {"channels": tuple(widths + widths[-1:] * (3 - len(widths)))}, sources


def _micro(network: MicroNetwork, found: Mapping[str, Tensor]) -> tuple[dict[str, Any], Sources]:
    sources = {}
    num_layers = len({name.split(".")[1] for name in found if name.startswith("cells.")}) - 2
    older = previous = (STEM,)  # labels of the maps that are concatenated
    for index, (cell_name, *_) in enumerate(readable.cell_places(num_layers, 1)):
        cell = network.cells[cell_name]
        for edge in cell.edges:
            sources[f"cells.{index}.edge{edge.node}_{edge.slot}"] = [f"cells.{index}.edges.{edge.key}"]
        for label, labels in zip(CELL_INPUTS, (older, previous), strict=True):
            mine, its = f"cells.{index}.input{label}", f"cells.{index}.calibrations.{label}"
            sources[f"{mine}.norm"] = sources[f"{mine}.reduction.norm"] = [f"{its}.norm"]
            even, odd = ([f"{its}.paths.{path}.slices.{each}" for each in labels] for path in (0, 1))
            sources[f"{mine}.conv.weight"] = sources[f"{mine}.reduction.even.weight"] = even
            sources[f"{mine}.reduction.odd.weight"] = odd
        older, previous = previous, cell.output_nodes
    sources["norm"] = [f"classifier.norms.{label}" for label in previous]
    sources["classifier.weight"] = [f"classifier.slices.{label}" for label in previous]
    return {"channels": len(found["stem.0.weight"]) // 3, "num_layers": num_layers}, sources

"""A search space of your own: feed-forward networks on a table of numbers. Everything it needs is in this file.

    python main.py --use examples/own_space.py --network_type table --dataset spirals --max_epoch 6 \\
        --shared_optim adam --shared_lr 0.02

Every other command takes such a run with the same --use.

Each layer of a network reads one earlier layer (0 is the input) and has an activation; the last goes to the classifier.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import nn

from enas.pictures.drawing import new_graph, write_graph
from enas.rnn.activations import activate, register_activation
from enas.rnn.settings import SharedOptimConfig
from enas.search.architecture import Architecture
from enas.search.metric import ACCURACY
from enas.search.problem import Problem
from enas.search.registry import SearchSpace, register
from enas.search.settings import BatchConfig
from enas.search.space import Space
from enas.search.task import Task
from enas.settings import setting

register_activation("sine", torch.sin, colour="#C9B7E8")
ACTIVATIONS, WIDTH = ("tanh", "ReLU", "sine"), 16


@dataclass(frozen=True)
class TableNetwork(Architecture):
    """A network: for each of layers 1 … L the layer that it reads, and its activation."""

    type_name, title, keys = "table_network", "a table network", ("layers",)

    layers: tuple[tuple[int, str], ...]


@dataclass(frozen=True, kw_only=True)
class TableConfig(BatchConfig):
    table_layers: int = setting(4, "table: layers of a network", at_least=1)


class TableSpace(Space[TableNetwork]):
    def __init__(self, config):
        self.num_layers = config.table_layers

    @property
    def sizes(self) -> list[int]:
        return [size for layer in range(self.num_layers) for size in (layer + 1, len(ACTIVATIONS))]

    def encode(self, architecture: TableNetwork) -> list[int]:
        return [code for read, name in architecture.layers for code in (read, ACTIVATIONS.index(name))]

    def decode(self, decisions) -> TableNetwork:
        return TableNetwork(tuple(zip(decisions[::2], (ACTIVATIONS[code] for code in decisions[1::2]), strict=True)))


class TableModel(nn.Module):
    def __init__(self, config: TableConfig, network: TableNetwork | None):
        super().__init__()
        pairs = [(read, layer) for layer in range(1, config.table_layers + 1) for read in range(layer)]
        if network is not None:  # from scratch: no weights but its own
            pairs = [(read, layer) for layer, (read, _) in enumerate(network.layers, start=1)]
        self.pairs = nn.ModuleDict({f"{i}_{j}": nn.Linear(WIDTH if i else 2, WIDTH) for i, j in pairs})
        self.classifier = nn.Linear(WIDTH, 3)

    def forward(self, points: torch.Tensor, network: TableNetwork) -> torch.Tensor:
        values = [points]
        for layer, (read, name) in enumerate(network.layers, start=1):
            values.append(activate(name, self.pairs[f"{read}_{layer}"](values[read])))
        return self.classifier(values[-1])


def load_spirals(config) -> SimpleNamespace:
    """The table: points on three spirals, x and y, and the spiral that each is on."""
    generator = torch.Generator().manual_seed(0)
    labels, radius = torch.arange(2500) % 3, torch.rand(2500, generator=generator)
    angle = 5 * radius + 2.1 * labels + 0.15 * torch.randn(2500, generator=generator)
    table = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), labels
    rows = {"train": slice(0, 1500), "valid": slice(1500, 2000), "test": slice(2000, 2500)}
    splits = {split: [column[some] for column in table] for split, some in rows.items()}
    return SimpleNamespace(splits=splits, notes=["spirals: 1,500 points to train on"])


class TableTask(Task):
    metric = ACCURACY

    def __init__(self, config, data, device, network):
        self.config, self.data = config[TableConfig], data
        self.model = TableModel(self.config, network).to(device)
        self.steps_per_epoch = self.config.shared_max_step or 200

    def _minibatch(self, split: str) -> list[torch.Tensor]:
        rows = torch.randint(len(self.data.splits[split][1]), (self.config.batch_size,))
        return [column[rows] for column in self.data.splits[split]]

    @torch.no_grad()
    def _accuracy(self, network, points, labels):
        return (self.model(points, network).argmax(1) == labels).float().mean()

    def shared_loss(self, architectures):
        points, labels = self._minibatch("train")
        losses = [nn.functional.cross_entropy(self.model(points, network), labels) for network in architectures]
        return torch.stack(losses).mean(), self._accuracy(architectures[0], points, labels)

    def rewards(self, architectures):
        batch = self._minibatch("valid")
        return torch.stack([self._accuracy(network, *batch) for network in architectures])

    def evaluate(self, architecture, split, max_batches=None):
        rows = slice(None if max_batches is None else max_batches * self.config.batch_size)
        return float(self._accuracy(architecture, *(column[rows] for column in self.data.splits[split])))


def draw(network: TableNetwork, path, title):
    graph = new_graph("network", title)
    for layer, (read, name) in enumerate(network.layers, start=1):
        graph.node(str(layer), label=f"{layer}: {name}")
        graph.edge(str(read), str(layer))
    return write_graph(graph, path)


register(
    SearchSpace(
        name="table",
        settings=(TableConfig, SharedOptimConfig),
        architecture=TableNetwork,
        train_types=("orig", "random"),
        optim=SharedOptimConfig,
        metric=ACCURACY,
        problem=lambda: Problem(
            space=TableSpace,
            load_data=load_spirals,
            task=TableTask,
            draw=draw,
        ),
    )
)

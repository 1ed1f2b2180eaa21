"""Controllers of the recurrent search space."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from enas.controllers.base import Controller, ControllerConfig, LSTMController, Sample
from enas.search_space import RNNCell

MIN_BLOCKS = 3  # the smallest cell of a FlexibleRNNController

# The node that node j reads, for each shape of a hardcoded cell.
SHAPES = {
    "chain": lambda node: node - 1,
    "tree": lambda node: (node - 1) // 2,
}


class RNNController(LSTMController[RNNCell]):
    """Samples activations and connections: activation of node 0, then previous node and activation of each node.

    Args:
        num_blocks: N.
        activations: the names to choose from.
        cell_output: of the cells sampled, see `RNNCell`.
        config: see `ControllerConfig`.
    """

    def __init__(self, num_blocks: int, activations: Sequence[str], cell_output: str, config: ControllerConfig):
        super().__init__(decision_sizes(num_blocks, len(activations)), config)
        self.activations = tuple(activations)
        self.cell_output = cell_output

    def encode(self, architecture: RNNCell) -> tuple[int, ...]:
        return _encode(architecture, len(self.decoders), self.activations)

    def decode(self, decisions: Sequence[int]) -> RNNCell:
        return RNNCell.decode(decisions, self.activations, self.cell_output)

    def prior(self, index: int) -> Tensor | None:
        return near_prior(self, index) if index % 2 else None


class FlexibleRNNController(LSTMController[RNNCell]):
    """Samples the number of nodes too, 3 … N, as its first decision; then what `RNNController` samples.

    Choice k of the first decision is k+1 nodes. Args as for `RNNController`.

    Raises:
        ValueError: when N is below 3.
    """

    def __init__(self, num_blocks: int, activations: Sequence[str], cell_output: str, config: ControllerConfig):
        if num_blocks < MIN_BLOCKS:
            raise ValueError(
                f"num_blocks is {num_blocks}; train_type flexible samples cells of {MIN_BLOCKS} nodes and more, "
                f"so it must be at least {MIN_BLOCKS}"
            )
        sizes = [num_blocks, *decision_sizes(num_blocks, len(activations))]
        super().__init__(sizes, config, first_allowed=MIN_BLOCKS - 1)
        self.num_blocks = num_blocks
        self.activations = tuple(activations)
        self.cell_output = cell_output

    def encode(self, architecture: RNNCell) -> tuple[int, ...]:
        if not MIN_BLOCKS <= architecture.num_blocks <= self.num_blocks:
            known = f"{MIN_BLOCKS} to {self.num_blocks}"
            raise ValueError(f"the cell has {architecture.num_blocks} nodes, but the controller makes cells of {known}")
        return (architecture.num_blocks - 1, *architecture.encode(self.activations))

    def decode(self, decisions: Sequence[int]) -> RNNCell:
        made = decisions[1 : 2 * (decisions[0] + 1)]  # 2n−1 of them for n nodes
        return RNNCell.decode(made, self.activations, self.cell_output)

    def num_made(self, first: Tensor) -> Tensor:
        return 2 * (first + 1)

    def prior(self, index: int) -> Tensor | None:
        return near_prior(self, index) if index and index % 2 == 0 else None


class HardcodedRNNController(LSTMController[RNNCell]):
    """Samples the activations of a cell whose connections are given: a chain or a binary tree.

    Args:
        shape: "chain", where node j reads j−1, or "tree", where it reads (j−1)//2.
        num_blocks, activations, cell_output, config: as for `RNNController`.

    Raises:
        ValueError: for another shape.
    """

    def __init__(
        self, shape: str, num_blocks: int, activations: Sequence[str], cell_output: str, config: ControllerConfig
    ):
        if shape not in SHAPES:
            raise ValueError(f"architecture is {shape!r}; it must be one of {', '.join(SHAPES)}")
        super().__init__(decision_sizes(num_blocks, len(activations))[::2], config)
        self.shape = shape
        self.activations = tuple(activations)
        self.previous = tuple(SHAPES[shape](node) for node in range(1, num_blocks))
        self.cell_output = cell_output

    def encode(self, architecture: RNNCell) -> tuple[int, ...]:
        decisions = _encode(architecture, 2 * len(self.decoders) - 1, self.activations)
        if architecture.previous != self.previous:
            raise ValueError(f"the cell is no {self.shape}: its nodes read {list(architecture.previous)}")
        return decisions[::2]

    def decode(self, decisions: Sequence[int]) -> RNNCell:
        return RNNCell(tuple(self.activations[code] for code in decisions), self.previous, self.cell_output)


class RandomRNNController(Controller[RNNCell]):
    """Connections and activations uniform: the control that a search has to beat. Nothing to train."""

    def __init__(self, num_blocks: int, activations: Sequence[str], cell_output: str):
        super().__init__()
        self.sizes = decision_sizes(num_blocks, len(activations))
        self.activations = tuple(activations)
        self.cell_output = cell_output

    def sample(self, num: int) -> Sample[RNNCell]:
        rows = torch.stack([torch.randint(size, (num,)) for size in self.sizes], dim=1).tolist()  # [M, D]
        return self._uniform([RNNCell.decode(row, self.activations, self.cell_output) for row in rows])

    def log_prob(self, architectures: Sequence[RNNCell]) -> Sample[RNNCell]:
        for architecture in architectures:
            _encode(architecture, len(self.sizes), self.activations)
        return self._uniform(list(architectures))

    def _uniform(self, architectures: list[RNNCell]) -> Sample[RNNCell]:
        entropies = torch.tensor([math.log(size) for size in self.sizes]).expand(len(architectures), -1)
        return Sample(architectures, -entropies, entropies)


def near_prior(controller: LSTMController, index: int) -> Tensor | None:
    """The prior of the connection that decision `index` is, which prefers near nodes; see `ControllerConfig`."""
    weight, bias = controller.config.near_prior, controller.decoders[index].bias
    if weight == 0:
        return None
    node = len(bias)  # node j has the choices 0 … j−1
    return -weight * (node - torch.arange(node, device=bias.device, dtype=bias.dtype)) ** 2


def decision_sizes(num_blocks: int, num_activations: int) -> list[int]:
    """The number of choices of each of the 2N−1 decisions of a cell of N nodes.

    Raises:
        ValueError: when there is no node, or no activation to choose from.
    """
    if num_blocks < 1:
        raise ValueError(f"num_blocks is {num_blocks}; a cell needs at least 1 node")
    if num_activations < 1:
        raise ValueError("shared_rnn_activations is empty; name at least one activation")
    sizes = [num_activations]
    for node in range(1, num_blocks):
        sizes += [node, num_activations]
    return sizes


def _encode(cell: RNNCell, num_decisions: int, activations: Sequence[str]) -> tuple[int, ...]:
    decisions = cell.encode(activations)
    if len(decisions) != num_decisions:
        known = f"the controller makes cells of {(num_decisions + 1) // 2}"
        raise ValueError(f"the cell has {cell.num_blocks} nodes, but {known}")
    return decisions

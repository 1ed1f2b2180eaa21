"""Controllers of the recurrent search space."""

import math
from collections.abc import Sequence

import torch

from enas.controllers.base import Controller, ControllerConfig, LSTMController, Sample
from enas.search_space import RNNCell


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

"""Controllers of the convolutional search spaces (paper sections 2.3 and 2.4).

Shapes: M architectures, D decisions, H controller hidden units, K anchors: states in which earlier layers or nodes
were decided, which attention chooses among.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, kl_divergence

from enas.controllers.base import Architecture, Controller, ControllerConfig, Sample
from enas.search_space import MACRO_OPERATIONS, MICRO_OPERATIONS, MacroNetwork, MicroNetwork


class Space(Protocol[Architecture]):
    """Architectures of one size as rows of decisions, in the order in which they are made."""

    @property
    def sizes(self) -> list[int]:
        """The number of choices of each decision, D integers."""

    def encode(self, architecture: Architecture) -> Sequence[int]:
        """The D decisions that make `architecture`; ValueError when it is outside the space."""

    def decode(self, decisions: Sequence[int]) -> Architecture:
        """The architecture that D decisions make."""


@dataclass(frozen=True)
class MacroSpace:
    """Networks of `num_layers` layers: for each its operation, then whether it skips from each earlier one."""

    num_layers: int
    operations: tuple[str, ...]

    def __post_init__(self):
        if self.num_layers < 1:
            raise ValueError(f"num_layers is {self.num_layers}; a network needs at least 1 layer")
        if not self.operations:
            raise ValueError("name at least one operation to choose from")

    @property
    def sizes(self) -> list[int]:
        return [size for layer in range(self.num_layers) for size in (len(self.operations), *[2] * layer)]

    def encode(self, architecture: MacroNetwork) -> tuple[int, ...]:
        decisions = architecture.encode(self.operations)
        if architecture.num_layers != self.num_layers:
            known = f"the controller makes networks of {self.num_layers}"
            raise ValueError(f"the network has {architecture.num_layers} layers, but {known}")
        return decisions

    def decode(self, decisions: Sequence[int]) -> MacroNetwork:
        return MacroNetwork.decode(decisions, self.operations)


@dataclass(frozen=True)
class MicroSpace:
    """Pairs of cells of `num_blocks` nodes: for each node its two inputs, then its two operations."""

    num_blocks: int
    operations: tuple[str, ...]
    cell_output: str

    def __post_init__(self):
        if self.num_blocks < 1:
            raise ValueError(f"num_blocks is {self.num_blocks}; a cell needs at least 1 node")
        if not self.operations:
            raise ValueError("name at least one operation to choose from")

    @property
    def sizes(self) -> list[int]:
        cell = [size for node in range(self.num_blocks) for size in [node + 2] * 2 + [len(self.operations)] * 2]
        return cell * 2

    def encode(self, architecture: MicroNetwork) -> list[int]:
        decisions = architecture.encode(self.operations)
        if architecture.normal.num_blocks != self.num_blocks:
            known = f"the controller makes cells of {self.num_blocks}"
            raise ValueError(f"the cells have {architecture.normal.num_blocks} nodes, but {known}")
        return _swap_inner(decisions)

    def decode(self, decisions: Sequence[int]) -> MicroNetwork:
        return MicroNetwork.decode(_swap_inner(decisions), self.operations, self.cell_output)


def _swap_inner(decisions: Sequence[int]) -> list[int]:
    """From input, operation, input, operation of each node to its inputs, then its operations; and back."""
    return [decisions[index + offset] for index in range(0, len(decisions), 4) for offset in (0, 2, 1, 3)]


class _Decisions:
    """Decisions as they are made in turn, [M, D] in the end; drawn, or taken from `given` [M, D]."""

    def __init__(self, num: int, given: Tensor | None = None):
        self.num = num
        self.given = given
        self.num_made = 0
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def make(self, distribution: Distribution) -> Tensor:
        """The next n decisions, one of each of a batch [M, n] of independent distributions; integers, [M, n]."""
        start, self.num_made = self.num_made, self.num_made + distribution.batch_shape[1]
        chosen = distribution.sample().long() if self.given is None else self.given[:, start : self.num_made]
        log_probs = distribution.log_prob(chosen.to(distribution.logits.dtype))
        self.parts.append((chosen, log_probs, distribution.entropy()))
        return chosen

    def gather(self) -> tuple[Tensor, Tensor, Tensor]:
        """All of them, their log-probabilities and their distributions' entropies, each [M, D]."""
        chosen, log_probs, entropies = (torch.cat(part, dim=1) for part in zip(*self.parts, strict=True))
        return chosen, log_probs, entropies


class AnchorController(Controller[Architecture]):
    """An LSTM that chooses operations by softmax and connections by attention over anchors.

    One decoder and one table of embeddings serve all layers, and both cells: the state says which is decided.

    Args:
        space: what is sampled.
        num_operations: how many operations there are to choose from.
        config: see `ControllerConfig`.
    """

    def __init__(self, space: Space[Architecture], num_operations: int, config: ControllerConfig):
        super().__init__()
        self.space = space
        self.config = config
        self.lstm = nn.LSTMCell(config.hidden, config.hidden)
        self.start = nn.Parameter(torch.empty(config.hidden))
        self.operation_decoder = nn.Linear(config.hidden, num_operations)
        self.operation_embedding = nn.Embedding(num_operations, config.hidden)
        self.key = nn.Linear(config.hidden, config.hidden, bias=False)  # W_prev
        self.query = nn.Linear(config.hidden, config.hidden, bias=False)  # W_curr
        self.score = nn.Linear(config.hidden, 1, bias=False)  # v
        for weight in self.parameters():
            nn.init.uniform_(weight, -config.init_range, config.init_range)
        nn.init.zeros_(self.operation_decoder.bias)

    def sample(self, num: int) -> Sample[Architecture]:
        decisions = _Decisions(num)
        penalty = self._decide(decisions)
        chosen, log_probs, entropies = decisions.gather()
        return Sample([self.space.decode(row) for row in chosen.tolist()], log_probs, entropies, penalty)

    def log_prob(self, architectures: Sequence[Architecture]) -> Sample[Architecture]:
        given = torch.tensor([self.space.encode(a) for a in architectures], device=self.start.device)
        decisions = _Decisions(len(given), given)
        penalty = self._decide(decisions)
        _, log_probs, entropies = decisions.gather()
        return Sample(list(architectures), log_probs, entropies, penalty)

    @abstractmethod
    def _decide(self, decisions: _Decisions) -> Tensor | None:
        """Make all decisions in turn; returns `Sample.penalty`."""

    def _choose_operation(self, hidden: Tensor, decisions: _Decisions) -> Tensor:
        """Decide an operation in state `hidden` [M, H]; returns its embedding, the LSTM's next input, [M, H]."""
        logits = self.config.temper(self.operation_decoder(hidden), self.training)  # [M, operations]
        chosen = decisions.make(Categorical(logits=logits.unsqueeze(1)))
        return self.operation_embedding(chosen.squeeze(1))

    def _attend(self, hidden: Tensor, anchors: Tensor) -> Tensor:
        """Logits of the anchors [M, K, H] in state `hidden` [M, H]: vᵀ tanh(W_prev·h_j + W_curr·h_k), [M, K]."""
        scores = self.score(torch.tanh(self.key(anchors) + self.query(hidden).unsqueeze(1))).squeeze(2)
        return self.config.temper(scores, self.training)


class MacroController(AnchorController[MacroNetwork]):
    """Samples macro networks: layer by layer its operation, then whether it skips from each earlier layer.

    The probability of a skip is the softmax of the two logits −s and s, with s the anchor's attention logit
    (differs from the paper, which has sigmoid(s): as in the authors' code). The next layer starts from the mean of a
    learned vector and the anchors skipped from, so from that vector when there are none.

    `Sample.penalty` is the sum, over all pairs of layers, of KL(Bernoulli(probability of the skip) ‖
    Bernoulli(skip_target)), which draws the skip rate there.

    Args:
        num_layers: L.
        operations: the names to choose from.
        config: see `ControllerConfig`.
        skip_target: the skip rate that costs nothing, strictly between 0 and 1; 0.4 in the paper.
    """

    def __init__(
        self,
        num_layers: int,
        config: ControllerConfig,
        operations: Sequence[str] = MACRO_OPERATIONS,
        skip_target: float = 0.4,
    ):
        if not 0 < skip_target < 1:
            raise ValueError(f"skip_target is {skip_target}; it must be above 0 and below 1")
        super().__init__(MacroSpace(num_layers, tuple(operations)), len(operations), config)
        self.num_layers = num_layers
        self.skip_target = skip_target

    def _decide(self, decisions: _Decisions) -> Tensor:
        inputs = self.start.expand(decisions.num, -1)  # [M, H]
        anchors = self.start.new_zeros(decisions.num, 0, self.config.hidden)  # [M, K, H]
        state = None
        penalty = self.start.new_zeros(decisions.num)
        for _ in range(self.num_layers):
            state = self.lstm(inputs, state)
            state = self.lstm(self._choose_operation(state[0], decisions), state)
            skip = Bernoulli(logits=2 * self._attend(state[0], anchors))  # softmax of (−s, s) is sigmoid(2s)
            target = Bernoulli(probs=torch.full_like(skip.logits, self.skip_target))
            penalty = penalty + kl_divergence(skip, target).sum(1)
            chosen = decisions.make(skip).to(anchors.dtype).unsqueeze(1)  # [M, 1, K]
            inputs = (self.start + (chosen @ anchors).squeeze(1)) / (1 + chosen.sum(2))
            anchors = torch.cat([anchors, state[0].unsqueeze(1)], dim=1)
        return penalty


class MicroController(AnchorController[MicroNetwork]):
    """Samples micro networks: the normal cell, then the reduction cell; of each node its inputs, then its operations.

    The anchors of a cell are those of its two inputs and of its earlier nodes; the chosen one is the next input.

    Args:
        num_blocks: B, the nodes of a cell.
        operations: the names to choose from.
        cell_output: of the cells sampled, see `MicroCell`.
        config: see `ControllerConfig`.
    """

    def __init__(
        self,
        num_blocks: int,
        config: ControllerConfig,
        operations: Sequence[str] = MICRO_OPERATIONS,
        cell_output: str = "loose_ends",
    ):
        super().__init__(MicroSpace(num_blocks, tuple(operations), cell_output), len(operations), config)
        self.num_blocks = num_blocks

    def _decide(self, decisions: _Decisions) -> None:
        state = None
        for _ in ("normal", "reduction"):
            state = self._decide_cell(decisions, state)

    def _decide_cell(self, decisions: _Decisions, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        start = self.start.expand(decisions.num, -1)  # [M, H]
        older = self.lstm(start, state)
        state = self.lstm(start, older)
        anchors = torch.stack([older[0], state[0]], dim=1)  # [M, K, H]
        for _ in range(self.num_blocks):
            inputs = start
            for _ in range(2):
                state = self.lstm(inputs, state)
                inputs = self._choose_anchor(state[0], anchors, decisions)
            for _ in range(2):
                state = self.lstm(inputs, state)
                inputs = self._choose_operation(state[0], decisions)
            state = self.lstm(inputs, state)
            anchors = torch.cat([anchors, state[0].unsqueeze(1)], dim=1)
        return state

    def _choose_anchor(self, hidden: Tensor, anchors: Tensor, decisions: _Decisions) -> Tensor:
        """Decide which of the anchors [M, K, H] a node reads; returns that anchor, [M, H]."""
        chosen = decisions.make(Categorical(logits=self._attend(hidden, anchors).unsqueeze(1)))  # [M, 1]
        return anchors.take_along_dim(chosen.unsqueeze(2), dim=1).squeeze(1)


class _RandomController(Controller[Architecture]):
    """Every decision uniform: the control that a search has to beat. Nothing to train."""

    def __init__(self, space: Space[Architecture]):
        super().__init__()
        self.space = space

    def sample(self, num: int) -> Sample[Architecture]:
        rows = torch.stack([torch.randint(size, (num,)) for size in self.space.sizes], dim=1).tolist()  # [M, D]
        return self._uniform([self.space.decode(row) for row in rows])

    def log_prob(self, architectures: Sequence[Architecture]) -> Sample[Architecture]:
        for architecture in architectures:
            self.space.encode(architecture)
        return self._uniform(list(architectures))

    def _uniform(self, architectures: list[Architecture]) -> Sample[Architecture]:
        entropies = torch.tensor([math.log(size) for size in self.space.sizes]).expand(len(architectures), -1)
        return Sample(architectures, -entropies, entropies)


class RandomMacroController(_RandomController[MacroNetwork]):
    """Operations and skips uniform, so half of all skips are there. Args as for `MacroController`."""

    def __init__(self, num_layers: int, operations: Sequence[str] = MACRO_OPERATIONS):
        super().__init__(MacroSpace(num_layers, tuple(operations)))


class RandomMicroController(_RandomController[MicroNetwork]):
    """Inputs and operations uniform. Args as for `MicroController`."""

    def __init__(self, num_blocks: int, operations: Sequence[str] = MICRO_OPERATIONS, cell_output: str = "loose_ends"):
        super().__init__(MicroSpace(num_blocks, tuple(operations), cell_output))

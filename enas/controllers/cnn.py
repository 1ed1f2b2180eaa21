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

SEPARABLE = ("sep3x3", "sep5x5")

State = tuple[Tensor, Tensor] | None  # of the LSTM: hidden and cell, each [M, H]; None is zeros


class Space(Protocol[Architecture]):
    """Architectures of one size as rows of decisions, in the order in which they are made."""

    @property
    def operations(self) -> tuple[str, ...]:
        """The names that the decisions about operations index."""

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

    Each layer, and each input and operation of a node, has parameters of its own where the authors' code shares
    them: the vector that deciding it starts from, its decoder, its embeddings, and the v of its attention. W_prev
    and W_curr are shared. With one v the state that asks would, to first order in small weights, drop out of
    the softmax over anchors, so that every node would prefer the same one.

    Args:
        space: what is sampled.
        config: see `ControllerConfig`.
        num_starts: how often the LSTM starts from a vector of its own.
        num_choices: how many operations are chosen, and how often attention chooses.
    """

    def __init__(self, space: Space[Architecture], config: ControllerConfig, num_starts: int, num_choices: int):
        super().__init__()
        self.space = space
        self.config = config
        hidden, num_operations = config.hidden, len(space.operations)
        self.lstm = nn.LSTMCell(hidden, hidden)
        self.starts = nn.Parameter(torch.empty(num_starts, hidden))
        self.decoders = nn.ModuleList(nn.Linear(hidden, num_operations) for _ in range(num_choices))
        self.embeddings = nn.Parameter(torch.empty(num_choices, num_operations, hidden))
        self.key = nn.Linear(hidden, hidden, bias=False)  # W_prev
        self.query = nn.Linear(hidden, hidden, bias=False)  # W_curr
        self.scores = nn.Parameter(torch.empty(num_choices, hidden))  # v
        for weight in self.parameters():
            nn.init.uniform_(weight, -config.init_range, config.init_range)
        for decoder in self.decoders:
            nn.init.zeros_(decoder.bias)

    def sample(self, num: int) -> Sample[Architecture]:
        decisions = _Decisions(num)
        penalty = self._decide(decisions)
        chosen, log_probs, entropies = decisions.gather()
        return Sample([self.space.decode(row) for row in chosen.tolist()], log_probs, entropies, penalty)

    def log_prob(self, architectures: Sequence[Architecture]) -> Sample[Architecture]:
        given = torch.tensor([self.space.encode(a) for a in architectures], device=self.starts.device)
        decisions = _Decisions(len(given), given)
        penalty = self._decide(decisions)
        _, log_probs, entropies = decisions.gather()
        return Sample(list(architectures), log_probs, entropies, penalty)

    @abstractmethod
    def _decide(self, decisions: _Decisions) -> Tensor | None:
        """Make all decisions in turn; returns `Sample.penalty`."""

    def _choose_operation(self, choice: int, hidden: Tensor, decisions: _Decisions) -> Tensor:
        """Decide an operation in state `hidden` [M, H]; returns its embedding, [M, H]."""
        logits = self._operation_logits(choice, hidden)  # [M, operations]
        chosen = decisions.make(Categorical(logits=logits.unsqueeze(1)))  # [M, 1]
        return self.embeddings[choice, chosen.squeeze(1)]

    def _operation_logits(self, choice: int, hidden: Tensor) -> Tensor:
        return self.config.temper(self.decoders[choice](hidden))

    def _attend(self, choice: int, hidden: Tensor, anchors: Tensor) -> Tensor:
        """Logits of the anchors [M, K, H] in state `hidden` [M, H]: vᵀ tanh(W_prev·h_j + W_curr·h_k), [M, K]."""
        logits = torch.tanh(self.key(anchors) + self.query(hidden).unsqueeze(1)) @ self.scores[choice]
        return self.config.temper(logits)


class MacroController(AnchorController[MacroNetwork]):
    """Samples macro networks: layer by layer its operation, then whether it skips from each earlier layer.

    The probability of a skip is the softmax of two logits −s and s, with s the attention's, as in the authors' code;
    the paper writes sigmoid(s). The next layer starts from the mean of a vector of its own and the anchors of the
    layers skipped from; from that vector when there are none.

    `Sample.penalty` draws the skip rate to `skip_target`: KL(Bernoulli(probability of the skip) ‖
    Bernoulli(skip_target)), summed over the skips of a layer and averaged over the layers that have any, as in the
    authors' code.

    Args:
        num_layers: L.
        config: see `ControllerConfig`.
        operations: the names to choose from.
        skip_target: the skip rate that costs nothing, strictly between 0 and 1; 0.4 in the paper.

    Raises:
        ValueError: when there is no layer or no operation, or for another skip_target.
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
        space = MacroSpace(num_layers, tuple(operations))
        super().__init__(space, config, num_starts=num_layers, num_choices=num_layers)
        self.skip_target = skip_target

    def _decide(self, decisions: _Decisions) -> Tensor:
        anchors = self.starts.new_zeros(decisions.num, 0, self.config.hidden)  # [M, K, H]
        read = self.starts.new_zeros(decisions.num, self.config.hidden)  # sum of the anchors skipped from, [M, H]
        num_read = self.starts.new_zeros(decisions.num, 1)
        penalty = self.starts.new_zeros(decisions.num)
        state = None
        for layer, start in enumerate(self.starts):
            state = self.lstm((start + read) / (1 + num_read), state)
            state = self.lstm(self._choose_operation(layer, state[0], decisions), state)
            skip = Bernoulli(logits=2 * self._attend(layer, state[0], anchors))  # softmax of (−s, s) is sigmoid(2s)
            penalty = penalty + kl_divergence(skip, self._target(skip)).sum(1)
            skips = decisions.make(skip).to(anchors.dtype).unsqueeze(1)  # [M, 1, K]
            read, num_read = (skips @ anchors).squeeze(1), skips.sum(2)
            anchors = torch.cat([anchors, state[0].unsqueeze(1)], dim=1)
        return penalty / max(1, len(self.starts) - 1)

    def _target(self, skip: Bernoulli) -> Bernoulli:
        return Bernoulli(probs=torch.full_like(skip.logits, self.skip_target))


class MicroController(AnchorController[MicroNetwork]):
    """Samples micro networks: the normal cell, then the reduction cell; of each node its inputs, then its operations.

    The anchors of a cell are those of its two inputs and of its earlier nodes. The anchor chosen, or the embedding of
    the operation chosen, is the LSTM's next input.

    Args:
        num_blocks: B, the nodes of a cell.
        config: see `ControllerConfig`.
        operations: the names to choose from.
        cell_output: of the cells sampled, see `MicroCell`.

    Raises:
        ValueError: when there is no node or no operation.
    """

    def __init__(
        self,
        num_blocks: int,
        config: ControllerConfig,
        operations: Sequence[str] = MICRO_OPERATIONS,
        cell_output: str = "loose_ends",
    ):
        space = MicroSpace(num_blocks, tuple(operations), cell_output)
        super().__init__(space, config, num_starts=2 * (num_blocks + 2), num_choices=4 * num_blocks)
        is_separable = torch.tensor([name in SEPARABLE for name in operations])
        self.register_buffer("_is_separable", is_separable, persistent=False)
        with torch.no_grad():
            for decoder in self.decoders:
                decoder.bias[is_separable] = config.separable_start

    def _operation_logits(self, choice: int, hidden: Tensor) -> Tensor:
        config = self.config
        logits = config.temper(self.decoders[choice](hidden), config.operation_tanh_c or None)
        if choice >= len(self.decoders) // 2:  # of the reduction cell
            return logits
        return logits + torch.where(self._is_separable, config.separable_prior, -config.separable_prior)

    def _decide(self, decisions: _Decisions) -> None:
        choices = torch.arange(len(self.decoders)).view(2, -1, 2).tolist()  # [cell, node, 2]
        state = None
        for starts, pairs in zip(self.starts.chunk(2), choices, strict=True):
            state = self._decide_cell(starts, pairs, decisions, state)

    def _decide_cell(self, starts: Tensor, pairs: list[list[int]], decisions: _Decisions, state: State) -> State:
        """Decide a cell, from the LSTM's state before it to the one after it.

        Args:
            starts: what deciding each of its inputs and nodes starts from, [B + 2, H].
            pairs: for each node the numbers of its two choices of an input, and of its two of an operation.
        """
        starts = starts.unsqueeze(1).expand(-1, decisions.num, -1)  # [B + 2, M, H]
        older = self.lstm(starts[0], state)
        state = self.lstm(starts[1], older)
        anchors = torch.stack([older[0], state[0]], dim=1)  # [M, K, H]
        for inputs, pair in zip(starts[2:], pairs, strict=True):
            for choice in pair:
                state = self.lstm(inputs, state)
                inputs = self._choose_anchor(choice, state[0], anchors, decisions)
            for choice in pair:
                state = self.lstm(inputs, state)
                inputs = self._choose_operation(choice, state[0], decisions)
            state = self.lstm(inputs, state)
            anchors = torch.cat([anchors, state[0].unsqueeze(1)], dim=1)
        return state

    def _choose_anchor(self, choice: int, hidden: Tensor, anchors: Tensor, decisions: _Decisions) -> Tensor:
        """Decide in state `hidden` [M, H] which of the anchors [M, K, H] a node reads; returns that anchor, [M, H]."""
        chosen = decisions.make(Categorical(logits=self._attend(choice, hidden, anchors).unsqueeze(1)))  # [M, 1]
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

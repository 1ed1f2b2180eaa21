"""The LSTM controller (paper section 2.1): architectures as a sequence of decisions.

Shapes: M architectures, D decisions, H controller hidden units.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Architecture = TypeVar("Architecture")


@dataclass(frozen=True)
class Sample(Generic[Architecture]):
    """M architectures and how they were drawn.

    Attributes:
        architectures: M of them.
        log_probs: log-probability of each decision in nats, [M, D]; zero for a decision that was not made.
        entropies: entropy of the distribution that each decision was drawn from in nats, [M, D]; likewise.
        penalty: what the search space adds to the controller's loss, in nats, [M]; None where it adds nothing.
    """

    architectures: list[Architecture]
    log_probs: Tensor
    entropies: Tensor
    penalty: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ControllerConfig:
    """Shape of a controller.

    Attributes:
        hidden: LSTM units.
        temperature: logits are divided by this (5.0 in the paper's code).
        tanh_c: logits then become tanh_c · tanh(logits); 0 leaves them alone.
        init_range: weights are uniform in ±this.
        near_prior: of recurrent cells: from the logit of a connection over a distance of d nodes, near_prior · d² is
            taken off after the squash (1/6 in enas_lm, where deep cells are this prior's doing).
        separable_start: of micro cells: where the trained biases of separable convolutions start (10 in the authors'
            code).
        separable_prior: of micro cells: added to the logits of separable convolutions of the normal cell after the
            squash, and taken off those of the other operations (0.25 in the authors' code).
        operation_tanh_c: of micro cells: the tanh_c of operations; 0 is that of connections (1.10 / 2.5 = 0.44 in the
            authors' code).
    """

    hidden: int = 100
    temperature: float = 5.0
    tanh_c: float = 2.5
    init_range: float = 0.1
    near_prior: float = 0.0
    separable_start: float = 0.0
    separable_prior: float = 0.0
    operation_tanh_c: float = 0.0

    def __post_init__(self):
        if self.hidden < 1:
            raise ValueError(f"controller_hid is {self.hidden}; it must be at least 1")
        if self.temperature <= 0:
            raise ValueError(f"softmax_temperature is {self.temperature}; it must be above 0")
        if self.tanh_c < 0:
            raise ValueError(f"tanh_c is {self.tanh_c}; it must be at least 0")

    def temper(self, logits: Tensor, tanh_c: float | None = None) -> Tensor:
        """Logits over the temperature, then squashed: in training and in deriving alike, as in the authors' code.

        `tanh_c` takes the place of the usual one where it is given.
        """
        tanh_c = self.tanh_c if tanh_c is None else tanh_c
        logits = logits / self.temperature
        return tanh_c * torch.tanh(logits) if tanh_c > 0 else logits


class Controller(nn.Module, ABC, Generic[Architecture]):
    """What draws architectures."""

    @property
    def is_trained(self) -> bool:
        """Whether there are parameters θ to train."""
        return any(True for _ in self.parameters())

    @abstractmethod
    def sample(self, num: int) -> Sample[Architecture]:
        """Draw `num` architectures, from one batched pass."""

    @abstractmethod
    def log_prob(self, architectures: Sequence[Architecture]) -> Sample[Architecture]:
        """Score given architectures: the log-probabilities and entropies that drawing them would have had."""


class FixedController(Controller[Architecture]):
    """Draws one and the same architecture, to train it alone. Nothing to train, no decision to make.

    Args:
        architecture: what to draw.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture

    def sample(self, num: int) -> Sample[Architecture]:
        return self.log_prob([self.architecture] * num)

    def log_prob(self, architectures: Sequence[Architecture]) -> Sample[Architecture]:
        for architecture in architectures:
            if architecture != self.architecture:
                raise ValueError(f"this controller draws {self.architecture} alone, never {architecture}")
        nothing = torch.zeros(len(architectures), 0)
        return Sample(list(architectures), nothing, nothing)


class LSTMController(Controller[Architecture]):
    """D softmax decisions in turn; the embedding of each is the LSTM's next input.

    Every decision has its own decoder and its own embeddings.

    Args:
        sizes: the number of choices of each decision, D integers.
        config: see `ControllerConfig`.
        first_allowed: the choices of the first decision below this one have probability zero.
    """

    def __init__(self, sizes: Sequence[int], config: ControllerConfig, first_allowed: int = 0):
        super().__init__()
        self.config = config
        self.first_allowed = first_allowed
        self.lstm = nn.LSTMCell(config.hidden, config.hidden)
        self.decoders = nn.ModuleList(nn.Linear(config.hidden, size) for size in sizes)
        self.embeddings = nn.ModuleList(nn.Embedding(size, config.hidden) for size in sizes[:-1])
        for weight in self.parameters():
            nn.init.uniform_(weight, -config.init_range, config.init_range)
        for decoder in self.decoders:
            nn.init.zeros_(decoder.bias)

    @abstractmethod
    def encode(self, architecture: Architecture) -> Sequence[int]:
        """The D decisions that make `architecture`."""

    @abstractmethod
    def decode(self, decisions: Sequence[int]) -> Architecture:
        """The architecture that D decisions make."""

    def sample(self, num: int) -> Sample[Architecture]:
        decisions, log_probs, entropies = self._decide(num)
        return Sample([self.decode(row) for row in decisions.tolist()], log_probs, entropies)

    def log_prob(self, architectures: Sequence[Architecture]) -> Sample[Architecture]:
        rows = [list(self.encode(architecture)) for architecture in architectures]
        missing = [[0] * (len(self.decoders) - len(row)) for row in rows]
        given = [row + rest for row, rest in zip(rows, missing, strict=True)]
        _, log_probs, entropies = self._decide(len(rows), torch.tensor(given, device=self.decoders[0].bias.device))
        return Sample(list(architectures), log_probs, entropies)

    def prior(self, index: int) -> Tensor | None:
        """What is added to the logits of decision `index` and not trained, [choices]; None adds nothing."""
        return None

    def num_made(self, first: Tensor) -> Tensor | None:
        """How many decisions each architecture takes, [M], given its first, [M]; None when all take all D.

        Decisions beyond that are not made: their log-probability and their entropy are zero.
        """
        return None

    def _decide(self, num: int, given: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Make the decisions, or follow those of `given` [M, D]: decisions, log-probs, entropies, each [M, D]."""
        inputs = self.lstm.bias_hh.new_zeros(num, self.config.hidden)  # [M, H]
        state = None
        steps = []
        for index, decoder in enumerate(self.decoders):
            state = self.lstm(inputs, state)
            logits = self.config.temper(decoder(state[0]))
            prior = self.prior(index)
            if prior is not None:
                logits = logits + prior
            log_probs = torch.log_softmax(self._mask_first(logits) if index == 0 else logits, dim=1)  # [M, choices]
            chosen = torch.multinomial(log_probs.exp(), 1).squeeze(1) if given is None else given[:, index]
            entropy = -(log_probs.exp() * log_probs).sum(1)
            steps.append((chosen, log_probs.gather(1, chosen.unsqueeze(1)).squeeze(1), entropy))
            if index < len(self.embeddings):
                inputs = self.embeddings[index](chosen)
        decisions, log_probs, entropies = (torch.stack(part, dim=1) for part in zip(*steps, strict=True))
        num_made = self.num_made(decisions[:, 0])
        if num_made is None:
            return decisions, log_probs, entropies
        made = torch.arange(len(self.decoders), device=decisions.device) < num_made.unsqueeze(1)  # [M, D]
        return decisions, log_probs * made, entropies * made

    def _mask_first(self, logits: Tensor) -> Tensor:
        forbidden = torch.arange(logits.shape[1], device=logits.device) < self.first_allowed
        # The lowest finite number: −∞ would make the entropy 0 · −∞ and every gradient NaN.
        return logits.masked_fill(forbidden, torch.finfo(logits.dtype).min)

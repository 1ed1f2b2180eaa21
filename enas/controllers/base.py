"""Controllers: architectures as a sequence of decisions (paper sections 2.1 and 2.2).

Shapes: M architectures, D decisions, H controller hidden units.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from enas.errors import UserError
from enas.search_space.decisions import Space
from enas.settings import Settings, setting

ArchT = TypeVar("ArchT")


@dataclass(frozen=True)
class Sample(Generic[ArchT]):
    """M architectures and how they were drawn.

    Attributes:
        architectures: M of them.
        log_probs: log-probability of each decision in nats, [M, D]; zero for a decision that was not made.
        entropies: entropy of the distribution that each decision was drawn from in nats, [M, D]; zero too.
        penalty: what the search space adds to the controller's loss, in nats, [M]; None where it adds nothing.
    """

    architectures: list[ArchT]
    log_probs: Tensor
    entropies: Tensor
    penalty: Tensor | None = None


# For settings of what only a search does, and of what a random controller does not.
SEARCHING = {"mode": "train"}
TRAINED = {"train_type": ("orig", "flexible", "hardcoded"), **SEARCHING}


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(Settings):
    """Shape of a trained controller."""

    controller_hid: int = setting(100, "LSTM units of the controller", at_least=1, only=TRAINED)
    softmax_temperature: float = setting(5.0, "logits are divided by this", above=0, only=TRAINED)
    tanh_c: float = setting(2.5, "logits are then squashed to ±this; 0 does not squash", at_least=0, only=TRAINED)
    controller_init_range: float = setting(0.1, "controller weights start uniform in ±this", above=0, only=TRAINED)

    def temper(self, logits: Tensor, tanh_c: float | None = None) -> Tensor:
        """Divide logits by the temperature, then apply tanh_c · tanh; also in deriving, as in the authors' code.

        `tanh_c` overrides `config.tanh_c`.
        """
        tanh_c = self.tanh_c if tanh_c is None else tanh_c
        logits = logits / self.softmax_temperature
        return tanh_c * torch.tanh(logits) if tanh_c > 0 else logits


class Controller(nn.Module, ABC, Generic[ArchT]):
    """Samples architectures.

    Attributes:
        penalty_weight: of the mean `Sample.penalty` in the controller's loss.
    """

    penalty_weight: float = 0.0

    @property
    def is_trained(self) -> bool:
        """Whether there are parameters θ to train."""
        return any(True for _ in self.parameters())

    @abstractmethod
    def sample(self, num: int) -> Sample[ArchT]:
        """Draw `num` architectures, from one batched pass."""

    @abstractmethod
    def log_prob(self, architectures: Sequence[ArchT]) -> Sample[ArchT]:
        """Score given architectures: the log-probabilities and entropies that drawing them would have had."""


class FixedController(Controller[ArchT]):
    """Always samples the same architecture, for training it from scratch. It has no parameters.

    Args:
        architecture: what to draw.
    """

    def __init__(self, architecture: ArchT):
        super().__init__()
        self.architecture = architecture

    def sample(self, num: int) -> Sample[ArchT]:
        return self.log_prob([self.architecture] * num)

    def log_prob(self, architectures: Sequence[ArchT]) -> Sample[ArchT]:
        for architecture in architectures:
            if architecture != self.architecture:
                raise UserError(f"this controller draws only {self.architecture}, not {architecture}")
        nothing = torch.zeros(len(architectures), 0)
        return Sample(list(architectures), nothing, nothing)


class RandomController(Controller[ArchT]):
    """Makes every decision uniformly: the control that a search has to beat. It has no parameters.

    Args:
        space: what is sampled.
    """

    def __init__(self, space: Space[ArchT]):
        super().__init__()
        self.space = space

    def sample(self, num: int) -> Sample[ArchT]:
        rows = torch.stack([torch.randint(size, (num,)) for size in self.space.sizes], dim=1).tolist()  # [M, D]
        return self._uniform([self.space.decode(row) for row in rows])

    def log_prob(self, architectures: Sequence[ArchT]) -> Sample[ArchT]:
        for architecture in architectures:
            self.space.encode(architecture)
        return self._uniform(list(architectures))

    def _uniform(self, architectures: list[ArchT]) -> Sample[ArchT]:
        entropies = torch.tensor([math.log(size) for size in self.space.sizes]).expand(len(architectures), -1)
        return Sample(architectures, -entropies, entropies)


class LSTMController(Controller[ArchT]):
    """An LSTM that makes D softmax decisions in turn; the embedding of each is its next input.

    Every decision has its own decoder and its own embeddings.

    Args:
        space: what is sampled.
        config: see `ControllerConfig`.
    """

    def __init__(self, space: Space[ArchT], config: ControllerConfig):
        super().__init__()
        self.space = space
        self.config = config
        hidden, sizes = config.controller_hid, space.sizes
        self.lstm = nn.LSTMCell(hidden, hidden)
        self.decoders = nn.ModuleList(nn.Linear(hidden, size) for size in sizes)
        self.embeddings = nn.ModuleList(nn.Embedding(size, hidden) for size in sizes[:-1])
        for weight in self.parameters():
            nn.init.uniform_(weight, -config.controller_init_range, config.controller_init_range)
        for decoder in self.decoders:
            nn.init.zeros_(decoder.bias)

    def sample(self, num: int) -> Sample[ArchT]:
        decisions, log_probs, entropies = self._decide(num)
        return Sample([self.space.decode(row) for row in decisions.tolist()], log_probs, entropies)

    def log_prob(self, architectures: Sequence[ArchT]) -> Sample[ArchT]:
        rows = [list(self.space.encode(architecture)) for architecture in architectures]
        # Any choice will do where a decision was not made: it does not count.
        given = [row + [0] * (len(self.decoders) - len(row)) for row in rows]
        _, log_probs, entropies = self._decide(len(rows), torch.tensor(given, device=self.decoders[0].bias.device))
        return Sample(list(architectures), log_probs, entropies)

    def prior(self, index: int) -> Tensor | None:
        """What is added to the logits of decision `index` and not trained, [choices]; None adds nothing."""
        return None

    def _decide(self, num: int, given: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Make the decisions, or follow those of `given` [M, D]: decisions, log-probs, entropies, each [M, D]."""
        inputs = self.lstm.bias_hh.new_zeros(num, self.config.controller_hid)  # [M, H]
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
        num_made = self.space.num_made(decisions[:, 0])
        if num_made is None:
            return decisions, log_probs, entropies
        made = torch.arange(len(self.decoders), device=decisions.device) < num_made.unsqueeze(1)  # [M, D]
        return decisions, log_probs * made, entropies * made

    def _mask_first(self, logits: Tensor) -> Tensor:
        forbidden = torch.arange(logits.shape[1], device=logits.device) < self.space.first_allowed
        # The lowest finite number: −∞ would make the entropy 0 · −∞ and every gradient NaN.
        return logits.masked_fill(forbidden, torch.finfo(logits.dtype).min)

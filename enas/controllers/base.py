"""Controllers: architectures as a sequence of decisions (paper sections 2.1 and 2.2).

Shapes: M architectures, D decisions, H controller hidden units.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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
        probabilities: the distribution of each decision, D tensors [M, choices], without gradients.
        penalty: what the search space adds to the controller's loss, in nats, [M]; None where it adds nothing.
    """

    architectures: list[ArchT]
    log_probs: Tensor
    entropies: Tensor
    probabilities: list[Tensor]
    penalty: Tensor | None = None


# For settings of what only a search does, and of what a random controller does not.
SEARCHING = {"mode": "train"}
TRAINED = {"train_type": ("orig", "flexible", "hardcoded"), **SEARCHING}
LSTM = TRAINED | {"controller_type": "lstm"}


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(Settings):
    """Shape of a trained controller."""

    controller_type: str = setting(
        "lstm",
        "an LSTM whose decisions depend on earlier ones, or a vector of logits for each decision",
        choices=("lstm", "independent"),
        only=TRAINED,
    )
    controller_hid: int = setting(100, "LSTM units of the controller", at_least=1, only=LSTM)
    softmax_temperature: float = setting(5.0, "logits are divided by this", above=0, only=LSTM)
    tanh_c: float = setting(2.5, "logits are then squashed to ±this; 0 does not squash", at_least=0, only=LSTM)
    controller_init_range: float = setting(0.1, "controller weights start uniform in ±this", above=0, only=LSTM)

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
    space: Space[Any]  # what it samples, where it makes decisions

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
        return Sample(list(architectures), nothing, nothing, [])


class RandomController(Controller[ArchT]):
    """Makes every decision uniformly: the control that a search has to beat. It has no parameters.

    Args:
        space: what is sampled.
        is_balanced: whether the architectures of a sample make each choice of a decision equally often, or nearly so
            where their number is not a multiple of the choices (Chu et al. 2021, FairNAS).
        generator: where the random numbers come from; torch's own generator of the CPU by default.
    """

    def __init__(self, space: Space[ArchT], is_balanced: bool = False, generator: torch.Generator | None = None):
        super().__init__()
        self.space = space
        self.is_balanced = is_balanced
        self.generator = generator

    def sample(self, num: int) -> Sample[ArchT]:
        draw = self._balanced if self.is_balanced else torch.randint
        lowest = [self.space.first_allowed, *[0] * (len(self.space.sizes) - 1)]
        columns = [
            low + draw(size - low, (num,), generator=self.generator)
            for low, size in zip(lowest, self.space.sizes, strict=True)
        ]
        return self._uniform([self.space.decode(row) for row in torch.stack(columns, dim=1).tolist()])

    def _balanced(self, size: int, shape: tuple[int], generator: torch.Generator | None) -> Tensor:
        (num,) = shape
        rounds = [torch.randperm(size, generator=generator) for _ in range(-(-num // size))]
        return torch.cat(rounds)[:num][torch.randperm(num, generator=generator)]

    def log_prob(self, architectures: Sequence[ArchT]) -> Sample[ArchT]:
        return self._uniform(list(architectures))

    def _uniform(self, architectures: list[ArchT]) -> Sample[ArchT]:
        rows = torch.tensor(_padded(self.space, architectures))
        probabilities = [torch.full((len(architectures), size), 1 / size) for size in self.space.sizes]
        first = self.space.first_allowed
        probabilities[0] = torch.cat([torch.zeros(len(rows), first), probabilities[0][:, first:]], dim=1)
        probabilities[0] = probabilities[0] / probabilities[0].sum(1, keepdim=True)
        entropies = torch.tensor([math.log(size) for size in self.space.sizes]).repeat(len(architectures), 1)
        entropies[:, 0] = math.log(self.space.sizes[0] - first)
        log_probs, entropies = _of_made(self.space, rows, -entropies, entropies)
        return Sample(architectures, log_probs, entropies, probabilities)


class IndependentController(Controller[ArchT]):
    """A vector of logits for each decision, zero at the start: no decision depends on another (Bender et al. 2020).

    Args:
        space: what is sampled.
        penalty: from `Sample.probabilities` to `Sample.penalty`.
        penalty_weight: see `Controller`.
    """

    def __init__(
        self,
        space: Space[ArchT],
        penalty: Callable[[list[Tensor]], Tensor] | None = None,
        penalty_weight: float = 0.0,
    ):
        super().__init__()
        self.space = space
        self.penalty = penalty
        self.penalty_weight = penalty_weight
        self.logits = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in space.sizes)

    def sample(self, num: int) -> Sample[ArchT]:
        log_probs = self._log_probs()
        rows = torch.stack([torch.multinomial(p.exp().detach(), num, replacement=True) for p in log_probs], dim=1)
        return self._scored([self.space.decode(row) for row in rows.tolist()], rows, log_probs)

    def log_prob(self, architectures: Sequence[ArchT]) -> Sample[ArchT]:
        rows = torch.tensor(_padded(self.space, architectures), device=self.logits[0].device)
        return self._scored(list(architectures), rows, self._log_probs())

    def _log_probs(self) -> list[Tensor]:
        """Of each decision, [choices]."""
        first, *rest = self.logits
        return [torch.log_softmax(logits, dim=0) for logits in (_allowed(self.space, first), *rest)]

    def _scored(self, architectures: list[ArchT], rows: Tensor, log_probs: list[Tensor]) -> Sample[ArchT]:
        num = len(architectures)
        chosen = torch.stack([values[rows[:, index]] for index, values in enumerate(log_probs)], dim=1)  # [M, D]
        entropies = torch.stack([-(values.exp() * values).sum() for values in log_probs]).expand(num, -1)
        chosen, entropies = _of_made(self.space, rows, chosen, entropies)
        probabilities = [values.exp().expand(num, -1) for values in log_probs]
        penalty = self.penalty(probabilities) if self.penalty else None
        return Sample(architectures, chosen, entropies, [each.detach() for each in probabilities], penalty)


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
        decisions, *scores = self._decide(num)
        return Sample([self.space.decode(row) for row in decisions.tolist()], *scores)

    def log_prob(self, architectures: Sequence[ArchT]) -> Sample[ArchT]:
        given = torch.tensor(_padded(self.space, architectures), device=self.decoders[0].bias.device)
        _, *scores = self._decide(len(given), given)
        return Sample(list(architectures), *scores)

    def prior(self, index: int) -> Tensor | None:
        """What is added to the logits of decision `index` and not trained, [choices]; None adds nothing."""
        return None

    def _decide(self, num: int, given: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Make the decisions, or follow those of `given` [M, D].

        Returns:
            decisions, log-probabilities and entropies, each [M, D], and the probabilities as in `Sample`.
        """
        inputs = self.lstm.bias_hh.new_zeros(num, self.config.controller_hid)  # [M, H]
        state = None
        steps, probabilities = [], []
        for index, decoder in enumerate(self.decoders):
            state = self.lstm(inputs, state)
            logits = self.config.temper(decoder(state[0]))
            prior = self.prior(index)
            if prior is not None:
                logits = logits + prior
            log_probs = torch.log_softmax(_allowed(self.space, logits) if index == 0 else logits, dim=1)  # [M, choices]
            p = log_probs.exp()
            chosen = torch.multinomial(p, 1).squeeze(1) if given is None else given[:, index]
            entropy = -(p * log_probs).sum(1)
            probabilities.append(p.detach())
            steps.append((chosen, log_probs.gather(1, chosen.unsqueeze(1)).squeeze(1), entropy))
            if index < len(self.embeddings):
                inputs = self.embeddings[index](chosen)
        decisions, log_probs, entropies = (torch.stack(part, dim=1) for part in zip(*steps, strict=True))
        return decisions, *_of_made(self.space, decisions, log_probs, entropies), probabilities


def _padded(space: Space[Any], architectures: Sequence[Any]) -> list[list[int]]:
    """The decisions of each architecture, with 0 for those that were not made."""
    num = len(space.sizes)
    return [[*row, *[0] * (num - len(row))] for row in map(space.encode, architectures)]


def _of_made(space: Space[Any], decisions: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """`values` [M, D], each zero for decisions that were not made."""
    num_made = space.num_made(decisions[:, 0])
    if num_made is None:
        return values
    made = torch.arange(decisions.shape[1], device=decisions.device) < num_made.unsqueeze(1)  # [M, D]
    return tuple(value * made for value in values)


def _allowed(space: Space[Any], logits: Tensor) -> Tensor:
    """Logits [..., choices] of the first decision without the choices that are never made."""
    forbidden = torch.arange(logits.shape[-1], device=logits.device) < space.first_allowed
    # The lowest finite number: −∞ would make the entropy 0 · −∞ and every gradient NaN.
    return logits.masked_fill(forbidden, torch.finfo(logits.dtype).min)

"""Controllers: architectures as a sequence of decisions, and how they learn (paper sections 2.1 and 2.2).

Shapes: M architectures, D decisions, H controller hidden units.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import one_hot, pad

from enas.errors import TrainingDivergedError, UserError
from enas.search.reinforce import Reinforce, policy_loss
from enas.search.settings import ControllerConfig, ControllerOptimConfig, ReinforceConfig
from enas.search.space import ArchT, Space
from enas.settings import ConfigLike

INIT_RANGE = 0.1  # paper section 3.1
NO_DECISIONS = torch.empty(0, 0)
Penalty = Callable[[list[Tensor]], Tensor]  # from `Sample.probabilities` to `Sample.penalty`


@dataclass(frozen=True)
class Sample(Generic[ArchT]):
    """M architectures and how they were drawn; a controller that draws from no distribution gives only architectures.

    Logarithms are in nats. A decision that was not made has log-probability and entropy 0.
    """

    architectures: list[ArchT]
    log_probs: Tensor = NO_DECISIONS  # of each decision, [M, D]
    entropies: Tensor = NO_DECISIONS  # of each decision's distribution, [M, D]
    probabilities: list[Tensor] = field(default_factory=list[Tensor])  # D tensors [M, choices], without gradients
    penalty: Tensor | None = None  # the search space's own term of the controller's loss, [M]
    epochs: int = 0  # of training after which `enas strategies` looks at each architecture; 0 is all


def proposed(space: Space[ArchT], architectures: list[ArchT]) -> Sample[ArchT]:
    """Return a sample that was drawn from no distribution: each decision's choice has probability 1."""
    rows = torch.tensor([space.row(one) for one in architectures])
    chosen = [one_hot(made, size).float() for made, size in zip(rows.T, space.sizes, strict=True)]
    return Sample(architectures, probabilities=chosen)


@dataclass
class Decisions:
    """Records the decisions of `num` architectures as they are made, drawn or taken from `given` [M, D]."""

    num: int
    given: Tensor | None = None
    num_made: int = 0
    parts: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)

    def next(self, num: int, draw: Callable[[], Tensor]) -> Tensor:
        """Return the next `num` decisions, integers [M, num]: those that `draw` returns, or the given ones."""
        return draw() if self.given is None else self.given[:, self.num_made : self.num_made + num]

    def add(self, chosen: Tensor, log_probs: Tensor, entropies: Tensor, probabilities: Sequence[Tensor]) -> None:
        """Record n decisions: three tensors [M, n], and the distributions, n tensors [M, choices]."""
        self.num_made += chosen.shape[1]
        self.parts.append((chosen, log_probs, entropies))
        self.probabilities += [each.detach() for each in probabilities]


class Controller(nn.Module, Generic[ArchT]):
    """Samples architectures of `space`, and learns from their rewards.

    A subclass makes the decisions in turn (`_decide`) and learns by REINFORCE, or it overrides `sample` and `learn`. It
    need not have parameters: all else that it learns is tensors and plain data in its `get_extra_state`, see torch. It
    draws from torch's own generator, whose state checkpoints keep. Deriving samples too: `sample` changes nothing else.
    """

    penalty_weight: float = 0.0  # of the mean `Sample.penalty` in the controller's loss
    epoch: int = 1  # the current one, from 1; when deriving, the last finished one. The run sets it
    reinforce: Reinforce  # updates θ, if there are parameters; made by `prepare`

    def __init__(self, space: Space[ArchT]):
        super().__init__()
        self.space = space

    @property
    def is_trained(self) -> bool:
        """Whether the controller learns: it has parameters θ, or a `learn` of its own."""
        return type(self).learn is not Controller.learn or any(True for _ in self.parameters())

    def prepare(self, config: ConfigLike) -> None:
        """Get ready to learn by a run's settings: make the optimiser and the baseline, if there are parameters."""
        if weights := list(self.parameters()):
            self.reinforce = Reinforce(weights, config[ReinforceConfig], config[ControllerOptimConfig])

    def sample(self, num: int) -> Sample[ArchT]:
        """Draw `num` architectures, from one batched pass; TrainingDivergedError if θ gives no probabilities."""
        return self._sample(Decisions(num))

    def learn(self, sample: Sample[ArchT], rewards: Tensor) -> dict[str, float]:
        """Learn from a sample and its rewards [M], all finite; by default θ is updated once, by REINFORCE.

        All processes of a run get the same, and must learn the same. Returns numbers for the curves `controller/…`; the
        epoch has the mean of `entropy`, if there is one. FloatingPointError says why this update must be skipped.
        """
        config, baseline = self.reinforce.config, self.reinforce.baseline
        advantage = self.reinforce.advantage(rewards, sample.log_probs)
        loss = policy_loss(sample.log_probs, advantage)
        if config.entropy_mode == "regularizer":
            loss = loss - config.entropy_coeff * sample.entropies.sum(1).mean()
        if sample.penalty is not None:
            loss = loss + self.penalty_weight * sample.penalty.mean()
        self.reinforce.step(loss, self.epoch)
        values = {"loss": loss, "entropy": sample.entropies.sum(1), "baseline": cast(Tensor, baseline.value)}
        if config.baseline != "leave_one_out":  # whose advantages sum to 0
            values["advantage"] = advantage
        return {name: float(value.detach().mean()) for name, value in values.items()}

    def log_prob(self, architectures: Sequence[ArchT]) -> Sample[ArchT]:
        """Score given architectures: the log-probabilities and entropies that drawing them would have had."""
        device = next((weight.device for weight in self.parameters()), None)
        rows = torch.tensor([self.space.row(one) for one in architectures], device=device)
        return self._sample(Decisions(len(rows), rows), list(architectures))

    def _sample(self, decisions: Decisions, architectures: list[ArchT] | None = None) -> Sample[ArchT]:
        try:
            penalty = self._decide(decisions)
        except RuntimeError:  # torch refuses probabilities that are not numbers
            self.check_finite()
            raise
        rows, log_probs, entropies = (torch.cat(part, dim=1) for part in zip(*decisions.parts, strict=True))  # [M, D]
        places = torch.arange(rows.shape[1], device=rows.device).unsqueeze(1)
        made = (places < self.space.num_made(rows[:, 0])).T  # [M, D], or [1, D] if all are always made
        log_probs, entropies = log_probs * made, entropies * made
        if architectures is None:
            architectures = [self.space.decode(row) for row in rows.tolist()]
        return Sample(architectures, log_probs, entropies, decisions.probabilities, penalty)

    def _decide(self, decisions: Decisions) -> Tensor | None:
        """Make all decisions in turn, and return `Sample.penalty`."""
        raise UserError(f"{type(self).__name__} has no log-probabilities: it makes no decisions in turn")

    def check_finite(self) -> None:
        """Raise TrainingDivergedError unless θ is finite."""
        # The norm: parameters may be finite, and so large that the numbers computed with them are not.
        if not torch.isfinite(nn.utils.get_total_norm(list(self.parameters()))):
            advice = "lower controller_lr (controller_lr_max with a cosine), or set controller_grad_clip above 0"
            raise TrainingDivergedError(f"training diverged: the controller's parameters are not finite; {advice}")


class RandomController(Controller[ArchT]):
    """Samples uniformly: the control that a search has to beat. It has no parameters.

    Samples are uniform over "functions", by `Space.draw`, or over "labels": then every decision is uniform, so that a
    function of more labellings is drawn more often. Log-probabilities and entropies are those of labels. By default
    `generator` is torch's own of the CPU.
    """

    def __init__(self, space: Space[ArchT], generator: Generator | None = None, over: str = "functions"):
        super().__init__(space)
        self.generator, self.over = generator, over

    def sample(self, num: int) -> Sample[ArchT]:
        if self.over == "labels":
            return super().sample(num)
        rng = random.Random(int(torch.randint(2**62, (), generator=self.generator)))
        return self.log_prob([self.space.draw(rng) for _ in range(num)])

    def _decide(self, decisions: Decisions) -> None:
        num, allowed = decisions.num, [(choices.start, len(choices)) for choices in self.space.allowed]
        columns = (low + torch.randint(count, (num,), generator=self.generator) for low, count in allowed)
        rows = decisions.next(len(allowed), lambda: torch.stack([*columns], dim=1))
        entropies = torch.tensor([math.log(count) for _, count in allowed]).repeat(num, 1)
        decisions.add(rows, -entropies, entropies, [pad(torch.full((num, n), 1 / n), (low, 0)) for low, n in allowed])


class IndependentController(Controller[ArchT]):
    """A vector of logits for each decision, zero at the start: no decision depends on another (Bender et al. 2020)."""

    def __init__(self, space: Space[ArchT], penalty: Penalty | None = None, penalty_weight: float = 0.0):
        super().__init__(space)
        self.penalty, self.penalty_weight = penalty, penalty_weight
        self.logits = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in space.sizes)

    def _decide(self, decisions: Decisions) -> Tensor | None:
        num = decisions.num
        first, *rest = self.logits
        log_probs = [torch.log_softmax(logits, dim=0) for logits in (_allowed(self.space, first), *rest)]
        draws = (torch.multinomial(p.exp().detach(), num, replacement=True) for p in log_probs)
        rows = decisions.next(len(log_probs), lambda: torch.stack([*draws], dim=1))
        chosen = torch.stack([values[rows[:, index]] for index, values in enumerate(log_probs)], dim=1)  # [M, D]
        entropies = torch.stack([-(values.exp() * values).sum() for values in log_probs]).expand(num, -1)
        probabilities = [values.exp().expand(num, -1) for values in log_probs]
        decisions.add(rows, chosen, entropies, probabilities)
        return self.penalty(probabilities) if self.penalty else None


class LSTMController(Controller[ArchT]):
    """An LSTM that makes D softmax decisions in turn; each has its own decoder, and its embedding is the next input."""

    def __init__(self, space: Space[ArchT], config: ControllerConfig):
        super().__init__(space)
        self.config = config
        hidden, sizes = config.controller_hid, space.sizes
        self.lstm = nn.LSTMCell(hidden, hidden)
        self.decoders = nn.ModuleList(nn.Linear(hidden, size) for size in sizes)
        self.embeddings = nn.ModuleList(nn.Embedding(size, hidden) for size in sizes[:-1])
        start_small(self)

    def _decide(self, decisions: Decisions) -> None:
        inputs = self.lstm.bias_hh.new_zeros(decisions.num, self.config.controller_hid)  # [M, H]
        state = None
        for index, decoder in enumerate(self.decoders):
            state = self.lstm(inputs, state)
            logits = temper(self.config, decoder(state[0]))
            log_probs = torch.log_softmax(_allowed(self.space, logits) if index == 0 else logits, dim=1)  # [M, choices]
            p = log_probs.exp()
            chosen = decisions.next(1, partial(torch.multinomial, p, 1))
            decisions.add(chosen, log_probs.gather(1, chosen), -(p * log_probs).sum(1, keepdim=True), [p])
            if index < len(self.embeddings):
                inputs = self.embeddings[index](chosen.squeeze(1))


def start_small(controller: Any) -> None:
    """Draw the weights of an LSTM controller anew, uniform in ±`INIT_RANGE`; biases of decoders are zero."""
    for weight in controller.parameters():
        nn.init.uniform_(weight, -INIT_RANGE, INIT_RANGE)
    for decoder in controller.decoders:
        nn.init.zeros_(decoder.bias)


def temper(config: ControllerConfig, logits: Tensor) -> Tensor:
    """Divide logits by the temperature, then apply tanh_c · tanh; also in deriving, as in the authors' code."""
    logits = logits / config.softmax_temperature
    return config.tanh_c * torch.tanh(logits) if config.tanh_c > 0 else logits


def _allowed(space: Space[Any], logits: Tensor) -> Tensor:
    """Mask, in the logits [..., choices] of the first decision, the choices that are never made."""
    forbidden = torch.arange(logits.shape[-1], device=logits.device) < space.first_allowed
    # −∞ would make the entropy 0 · −∞ and every gradient NaN, as would the lowest number times a gradient above 1.
    return logits.masked_fill(forbidden, -1e30)

"""Controllers of the convolutional search spaces (paper sections 2.3 and 2.4).

Shapes: M architectures, D decisions, H controller hidden units, K anchors: states in which earlier layers or nodes
were decided, which attention chooses among.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, kl_divergence

from enas.cnn.macro import MacroNetwork, MacroSpace
from enas.cnn.micro import MicroNetwork, MicroSpace
from enas.cnn.settings import MacroControllerConfig
from enas.search.controllers import Controller, Decisions, Penalty, start_small, temper
from enas.search.settings import ControllerConfig
from enas.search.space import ArchT, Space


def _divergence(skips: Bernoulli, target: float) -> Tensor:
    """KL(skips [M, n] ‖ Bernoulli(target)), summed over the skips, [M]."""
    return kl_divergence(skips, Bernoulli(probs=torch.full_like(skips.probs, target))).sum(1)


def skip_penalty(space: MacroSpace, target: float) -> Penalty:
    """Return the function from `Sample.probabilities` to `Sample.penalty`, as a `MacroController` has it."""
    is_skip = [names[0] == "" for names in space.choices]

    def penalty(probabilities: list[Tensor]) -> Tensor:
        none = probabilities[0].new_zeros(len(probabilities[0]), 0)
        skips = [each[:, 1:] for each, skips in zip(probabilities, is_skip, strict=True) if skips]
        return _divergence(Bernoulli(probs=torch.cat([none, *skips], dim=1)), target) / max(1, space.num_layers - 1)

    return penalty


def _make(decisions: Decisions, distribution: Distribution) -> Tensor:
    """Make the next n decisions, integers [M, n], by a batch [M, n] of independent distributions."""
    chosen = decisions.next(distribution.batch_shape[1], lambda: distribution.sample().long())
    log_probs = distribution.log_prob(chosen.to(distribution.logits.dtype))
    p = distribution.probs  # [M, n, choices], or [M, n] of a Bernoulli
    p = p if p.dim() == 3 else torch.stack([1 - p, p], dim=2)
    decisions.add(chosen, log_probs, distribution.entropy(), p.unbind(1))
    return chosen


class AnchorController(Controller[ArchT]):
    """An LSTM that chooses operations by softmax and connections by attention over anchors.

    Each layer, and each input and operation of a node, has parameters of its own, which the authors' code shares: the
    vector that deciding it starts from, its decoder, its embeddings, and the v of its attention. W_prev and W_curr are
    shared. With one v the state that asks would, to first order in small weights, drop out of the softmax over anchors,
    so that every node would prefer the same one. There are `num_starts` vectors to start from, and `num_choices`
    choices of an operation, and as many by attention.
    """

    def __init__(self, space: Space[ArchT], config: ControllerConfig, num_starts: int, num_choices: int):
        super().__init__(space)
        self.config = config
        hidden, num_operations = config.controller_hid, len(space.operations)
        self.lstm = nn.LSTMCell(hidden, hidden)
        self.starts = nn.Parameter(torch.empty(num_starts, hidden))
        self.decoders = nn.ModuleList(nn.Linear(hidden, num_operations) for _ in range(num_choices))
        self.embeddings = nn.Parameter(torch.empty(num_choices, num_operations, hidden))
        self.key = nn.Linear(hidden, hidden, bias=False)  # W_prev
        self.query = nn.Linear(hidden, hidden, bias=False)  # W_curr
        self.scores = nn.Parameter(torch.empty(num_choices, hidden))  # v
        start_small(self)

    def _choose_operation(self, choice: int, hidden: Tensor, decisions: Decisions) -> Tensor:
        """Decide an operation in state `hidden` [M, H], and return its embedding [M, H]."""
        logits = temper(self.config, self.decoders[choice](hidden))  # [M, operations]
        chosen = _make(decisions, Categorical(logits=logits.unsqueeze(1)))  # [M, 1]
        return self.embeddings[choice, chosen.squeeze(1)]

    def _attend(self, choice: int, hidden: Tensor, anchors: Tensor) -> Tensor:
        """Score the anchors [M, K, H] in state `hidden` [M, H]: logits [M, K], vᵀ tanh(W_prev·h_j + W_curr·h_k)."""
        logits = torch.tanh(self.key(anchors) + self.query(hidden).unsqueeze(1)) @ self.scores[choice]
        return temper(self.config, logits)


class MacroController(AnchorController[MacroNetwork]):
    """Samples macro networks: layer by layer its operation, then whether it skips from each earlier layer.

    The probability of a skip is the softmax of two logits −s and s, with s the attention's, as in the authors' code;
    the paper writes sigmoid(s). The next layer starts from the mean of its own vector and the anchors skipped from.

    `Sample.penalty` pulls the skip rate to `cnn_skip_target`: KL(Bernoulli(probability of the skip) ‖
    Bernoulli(cnn_skip_target)), summed over a layer's skips and averaged over layers with any, as in the authors' code.
    """

    def __init__(self, space: MacroSpace, config: MacroControllerConfig):
        super().__init__(space, config, num_starts=space.num_layers, num_choices=space.num_layers)
        self.penalty_weight = config.cnn_skip_weight

    def _decide(self, decisions: Decisions) -> Tensor:
        hidden = self.config.controller_hid
        anchors = self.starts.new_zeros(decisions.num, 0, hidden)  # [M, K, H]
        read = self.starts.new_zeros(decisions.num, hidden)  # sum of the anchors skipped from
        num_read = self.starts.new_zeros(decisions.num, 1)
        penalty, state = self.starts.new_zeros(decisions.num), None
        for layer, start in enumerate(self.starts):
            state = self.lstm((start + read) / (1 + num_read), state)
            state = self.lstm(self._choose_operation(layer, state[0], decisions), state)
            skip = Bernoulli(logits=2 * self._attend(layer, state[0], anchors))  # softmax of (−s, s) is sigmoid(2s)
            penalty = penalty + _divergence(skip, self.config.cnn_skip_target)
            skips = _make(decisions, skip).to(anchors.dtype).unsqueeze(1)  # [M, 1, K]
            read, num_read = (skips @ anchors).squeeze(1), skips.sum(2)
            anchors = torch.cat([anchors, state[0].unsqueeze(1)], dim=1)
        return penalty / max(1, len(self.starts) - 1)


class MicroController(AnchorController[MicroNetwork]):
    """Samples micro networks: the normal cell, then the reduction cell; for each node its inputs, then its operations.

    The anchors of a cell stand for its two inputs and its earlier nodes. The chosen anchor, or the embedding of the
    chosen operation, is the LSTM's next input.
    """

    def __init__(self, space: MicroSpace, config: ControllerConfig):
        super().__init__(space, config, num_starts=2 * (space.num_blocks + 2), num_choices=4 * space.num_blocks)

    def _decide(self, decisions: Decisions) -> None:
        choices = torch.arange(len(self.decoders)).view(2, -1, 2).tolist()  # of inputs and operations: [cell, node, 2]
        state = None
        for starts, pairs in zip(self.starts.chunk(2), choices, strict=True):
            older_start, start, *node_starts = starts.unsqueeze(1).expand(-1, decisions.num, -1)  # each [M, H]
            older = self.lstm(older_start, state)
            state = self.lstm(start, older)
            anchors = torch.stack([older[0], state[0]], dim=1)  # [M, K, H]
            for inputs, pair in zip(node_starts, pairs, strict=True):
                for choice in pair:
                    state = self.lstm(inputs, state)
                    logits = self._attend(choice, state[0], anchors)  # [M, K]
                    chosen = _make(decisions, Categorical(logits=logits.unsqueeze(1)))  # [M, 1]
                    inputs = anchors.take_along_dim(chosen.unsqueeze(2), dim=1).squeeze(1)
                for choice in pair:
                    state = self.lstm(inputs, state)
                    inputs = self._choose_operation(choice, state[0], decisions)
                state = self.lstm(inputs, state)
                anchors = torch.cat([anchors, state[0].unsqueeze(1)], dim=1)

"""Language modelling as a `Task`."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from enas.rnn.cell import RNNCell
from enas.rnn.language_model import LanguageModel, SequenceOutput
from enas.rnn.settings import LanguageTaskConfig
from enas.rnn.text import Corpus, TrainingBatches, evaluation_batches, to_rows
from enas.search.metric import PERPLEXITY
from enas.search.precision import use
from enas.search.ranks import BATCH
from enas.search.settings import PRECISIONS
from enas.search.task import Task
from enas.terminal import progress_bar

STEPS_PER_EPOCH = 400  # about a pass over Penn Treebank, see configs/config_ours.py
STABLE_NORM = 5.0  # the fixed point of the norm stabiliser
TEST_WARM_UP = 200  # uncounted tokens before each column; LSTMs use about 200 (Khandelwal et al. 2018)
CELLS_AT_ONCE = 10  # bounds the memory of scoring many cells


class LanguageTask(Task):
    """A recurrent model on a corpus. Dropout is off in evaluations. Every state starts at zero, but training carries it
    from minibatch to minibatch until the text ends.

    `from_scratch` trains with random lengths of back-propagation, if `config` says so, and tests with a warm-up.
    """

    metric = PERPLEXITY
    precisions = PRECISIONS
    model: LanguageModel

    def __init__(self, corpus: Corpus, model: LanguageModel, config: LanguageTaskConfig, *, from_scratch: bool = False):
        self.corpus, self.model, self.config = corpus, model, config
        self.precision, self.divisible_batch = model.precision, config.batch_size
        self.steps_per_epoch = config.shared_max_step or STEPS_PER_EPOCH
        self.test_warm_up = TEST_WARM_UP if from_scratch else 0
        random_length = from_scratch and config.scratch_random_length
        self._endless = {"train": self._batches("train", config.batch_size, random_length=random_length)}
        if not from_scratch:  # which has no rewards, and so may have fewer tokens
            size = config.reward_batch_size or config.batch_size
            self._endless["valid"] = self._batches("valid", size, only_whole=True)
        self._state: Tensor | None = None

    def _begin(self, *, training: bool) -> None:
        self.model.train(training)
        self.model.precision, self.model.division = self.precision, (self.ranks, self.divided)
        use(self.precision, self.device)

    def _batches(self, split: str, batch_size: int, **settings: bool) -> TrainingBatches:
        rows = to_rows(getattr(self.corpus, split), batch_size, name=f"{self.corpus.name}, {split}.txt")
        return TrainingBatches(rows.to(self.device), self.config.shared_rnn_max_length, **settings)

    def shared_loss(self, cells: Sequence[RNNCell]) -> tuple[Tensor, Tensor]:
        """Return the mean loss of M cells with regularisers, and their mean cross-entropy, in nats a token."""
        self._begin(training=True)
        batches = self._endless["train"]
        inputs, targets, is_start = next(batches)
        if self.divided == BATCH:
            inputs, targets = self.ranks.part(inputs, -1), self.ranks.part(targets, -1)
        if batches.random_length:  # Merity et al. 2017, section 4.1
            self.lr_scale = len(targets) / self.config.shared_rnn_max_length
        if is_start or self._state is None or len(self._state) != len(cells):
            self._state = self.model.initial_state(len(cells), inputs.shape[1])
        nll, output = self.model.loss(inputs, targets, cells, self._state)
        self._state = output.last.detach().clone()  # a view would keep, and save, all states of the minibatch
        return nll + self._regularisation(output), nll.detach()

    def forget_state(self) -> None:
        self._state = None

    def _regularisation(self, output: SequenceOutput) -> Tensor | float:
        config, penalty = self.config, 0.0
        if config.shared_activation_reg:
            penalty = penalty + config.shared_activation_reg * output.outputs.square().mean()
        if config.shared_temporal_activation_reg and len(output.states) > 1:
            penalty = penalty + config.shared_temporal_activation_reg * output.states.diff(dim=0).square().mean()
        if config.shared_norm_stabilizer:
            norms = torch.linalg.vector_norm(output.states, dim=-1)
            penalty = penalty + config.shared_norm_stabilizer * (norms - STABLE_NORM).square().mean()
        return penalty

    def rewards(self, cells: Sequence[RNNCell]) -> Tensor:
        self._begin(training=False)
        inputs, targets, _ = next(self._endless["valid"])
        nll, _ = self.model.score(inputs, targets, cells, self.model.initial_state(len(cells), inputs.shape[1]))
        return self.as_rewards((nll / targets.numel()).exp()).float()

    def as_rewards(self, perplexities: Tensor) -> Tensor:
        power = 2 if self.config.ppl_square else 1  # 2 as in Zoph & Le 2017, 1 as in the paper's section 2.2
        return self.config.reward_c / perplexities**power

    def rank(self, cells: Sequence[RNNCell], max_batches: int | None = None) -> list[float]:
        starts = progress_bar(range(0, len(cells), CELLS_AT_ONCE), "candidates")
        parts = (cells[start : start + CELLS_AT_ONCE] for start in starts)
        return [score for part in parts for score in self._perplexities(part, "valid", max_batches)]

    def evaluate(self, cell: RNNCell, split: str, max_batches: int | None = None) -> float:
        """Return the perplexity on a split: exp(total cross-entropy / total tokens), every token counted once."""
        return self._perplexities([cell], split, max_batches)[0]

    def _perplexities(self, cells: Sequence[RNNCell], split: str, max_batches: int | None = None) -> list[float]:
        self._begin(training=False)
        sizes = (self.config.batch_size, self.config.shared_rnn_max_length)
        warm_up = self.test_warm_up if split == "test" else 0
        batches = evaluation_batches(getattr(self.corpus, split).to(self.device), *sizes, warm_up=warm_up)
        state, total, count = None, 0.0, 0
        for inputs, targets, mask in itertools.islice(batches, max_batches):
            if state is None:
                state = self.model.initial_state(len(cells), inputs.shape[1])
            nll, state = self.model.score(inputs, targets, cells, state, mask)
            total, count = total + nll, count + mask.sum()
        return (total / count).exp().tolist()

    def epoch_metric(self, mean_loss: float) -> float:
        return math.exp(min(mean_loss, 700.0))

    def state_dict(self) -> dict[str, Any]:
        cursors = {split: {"cursor": batches.cursor} for split, batches in self._endless.items()}
        return {"model": self.model.state_dict(), "state": self.ranks.joined(self._state, self.divided), **cursors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for split, batches in self._endless.items():
            batches.cursor = int(state[split]["cursor"])
        self._state = None
        # A run may go on in a number of processes that does not divide its states.
        if state["state"] is not None and state["state"].shape[self.divided] % self.ranks.size == 0:
            self._state = self.ranks.part(state["state"], self.divided).to(self.device)

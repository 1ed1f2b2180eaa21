"""Language modelling as a search problem: what the training loop needs to know of text.

Shapes: T steps, M architectures, B batch, H hidden.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from enas.data.text import Corpus, TrainingBatches, evaluation_batches, to_rows
from enas.drawing import draw_cell
from enas.models.language_model import LanguageModel, SequenceOutput
from enas.reinforce import perplexity_reward
from enas.search_space import LSTMBaseline, RNNCell

CELLS_AT_ONCE = 10  # bounds the memory of scoring many cells


@dataclass(frozen=True, kw_only=True)
class LanguageTaskConfig:
    """Batches, regularisers and reward of a `LanguageTask`.

    Attributes:
        batch_size, length: B, and T of truncated back-propagation.
        random_length: draw T anew for each training minibatch, see `TrainingBatches`.
        test_batch_size: B on the test split, where it shall be another; 1 reads the text as one stream.
        activation_reg: α of AR, the mean square of the dropped-out output (Merity et al. 2017, section 4.6).
        temporal_activation_reg: β of TAR, the mean square of successive states' difference (same section).
        norm_stabilizer, norm_stabilizer_point: coefficient, and the norm that states are drawn to
            (Krueger & Memisevic 2016, with a fixed point in place of the previous norm).
        reward_c, ppl_square: see `perplexity_reward`.
    """

    batch_size: int
    length: int
    random_length: bool = False
    test_batch_size: int = 0
    activation_reg: float = 0.0
    temporal_activation_reg: float = 0.0
    norm_stabilizer: float = 0.0
    norm_stabilizer_point: float = 5.0
    reward_c: float = 80.0
    ppl_square: bool = False


class LanguageTask:
    """A recurrent model on a corpus. Evaluations leave dropout off; every state starts at zero except in training,
    where it is carried over from minibatch to minibatch as long as the text goes on.

    Args:
        corpus: the text.
        model: the shared parameters ω, or a model of one architecture.
        config: see `LanguageTaskConfig`.

    Attributes:
        lr_scale: factor on the learning rate of the minibatch that `shared_loss` gave last: its length over the
            usual one where lengths are random (Merity et al. 2017, section 4.1), else 1.
    """

    metric = "perplexity"
    has_validation = True

    def __init__(self, corpus: Corpus, model: LanguageModel, config: LanguageTaskConfig):
        self.corpus = corpus
        self.model = model
        self.config = config
        self.device = model.decoder_bias.device
        self.lr_scale = 1.0
        self._train = self._batches("train", config.random_length)
        self._valid = self._batches("valid")
        self._state: Tensor | None = None

    def _batches(self, split: str, random_length: bool = False) -> TrainingBatches:
        rows = to_rows(getattr(self.corpus, split), self.config.batch_size, name=f"{self.corpus.name}, {split}.txt")
        return TrainingBatches(rows, self.config.length, random_length=random_length, device=self.device)

    def shared_loss(self, cells: Sequence[RNNCell]) -> tuple[Tensor, Tensor]:
        """The loss of M cells on the next training minibatch, regularisers included, and its cross-entropy alone.

        Both are scalars in nats a token, averaged over M.
        """
        self.model.train()
        inputs, targets, is_start = next(self._train)
        if self.config.random_length:
            self.lr_scale = len(targets) / self.config.length
        if is_start or self._state is None or len(self._state) != len(cells):
            self._state = self.model.initial_state(len(cells), self.config.batch_size)
        nll, output = self.model.loss(inputs, targets, cells, self._state)
        self._state = output.last.detach()
        return nll + self._regularisation(output), nll.detach()

    def forget_state(self) -> None:
        """Begin the next training minibatch from the zero state, after one that gave no finite loss."""
        self._state = None

    def _regularisation(self, output: SequenceOutput) -> Tensor | float:
        config, penalty = self.config, 0.0
        if config.activation_reg:
            penalty = penalty + config.activation_reg * output.outputs.square().mean()
        if config.temporal_activation_reg and len(output.states) > 1:
            penalty = penalty + config.temporal_activation_reg * output.states.diff(dim=0).square().mean()
        if config.norm_stabilizer:
            norms = torch.linalg.vector_norm(output.states, dim=-1)
            penalty = penalty + config.norm_stabilizer * (norms - config.norm_stabilizer_point).square().mean()
        return penalty

    def rewards(self, cells: Sequence[RNNCell]) -> Tensor:
        """The reward of each of M cells on the next validation minibatch, ω in evaluation mode: [M]."""
        self.model.eval()
        inputs, targets, _ = next(self._valid)
        state = self.model.initial_state(len(cells), self.config.batch_size)
        nll, _ = self.model.score(inputs, targets, cells, state)
        return perplexity_reward((nll / targets.numel()).exp(), self.config.reward_c, self.config.ppl_square).float()

    def rank(self, cells: Sequence[RNNCell], max_batches: int) -> list[float]:
        """Perplexity of each cell on the same first `max_batches` validation minibatches, state carried over."""
        scores: list[float] = []
        for start in range(0, len(cells), CELLS_AT_ONCE):
            scores += self._perplexities(cells[start : start + CELLS_AT_ONCE], "valid", max_batches)
        return scores

    def evaluate(self, cell: RNNCell, split: str, max_batches: int | None = None) -> float:
        """Perplexity on a split: exp(total cross-entropy / total tokens), every token counted once.

        `max_batches` shortens it to the split's first minibatches.
        """
        return self._perplexities([cell], split, max_batches)[0]

    def _perplexities(self, cells: Sequence[RNNCell], split: str, max_batches: int | None = None) -> list[float]:
        self.model.eval()
        config, tokens = self.config, getattr(self.corpus, split)
        batch_size = config.test_batch_size if split == "test" and config.test_batch_size else config.batch_size
        batches = evaluation_batches(tokens, batch_size, config.length, device=self.device)
        state, total, count = None, 0.0, 0
        for index, (inputs, targets, mask) in enumerate(batches):
            if index == max_batches:
                break
            if state is None:
                state = self.model.initial_state(len(cells), inputs.shape[1])
            nll, state = self.model.score(inputs, targets, cells, state, mask)
            total, count = total + nll, count + mask.sum()
        return (total / count).exp().tolist()

    @staticmethod
    def is_better(score: float, than: float | None) -> bool:
        """Whether a perplexity is lower than another; any number beats none and NaN; NaN beats nothing."""
        return not math.isnan(score) and (than is None or math.isnan(than) or score < than)

    @staticmethod
    def epoch_metric(mean_loss: float) -> float:
        """The metric that a mean cross-entropy in nats stands for."""
        return math.exp(min(mean_loss, 700.0))

    @staticmethod
    def draw(cell: RNNCell, path: Path, title: str) -> Path:
        """Draw the cell, its size added to the title; returns the file written."""
        return draw_cell(cell, path, title=f"{title}, {cell.num_blocks} nodes")

    @staticmethod
    def read_architecture(data: dict) -> RNNCell | LSTMBaseline:
        """The cell, or the LSTM, of its JSON dictionary."""
        return (LSTMBaseline if data.get("type") == "lstm" else RNNCell).from_dict(data)

    def state_dict(self) -> dict:
        """Model, cursors and carried state."""
        return {
            "model": self.model.state_dict(),
            "train": self._train.state_dict(),
            "valid": self._valid.state_dict(),
            "state": self._state,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`."""
        self.model.load_state_dict(state["model"])
        self._train.load_state_dict(state["train"])
        self._valid.load_state_dict(state["valid"])
        self._state = state["state"]

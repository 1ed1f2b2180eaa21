"""The part that all language models share: embedding, dropouts, decoder and cross-entropy.

The dropouts (Merity et al. 2017, sections 2, 4.2, 4.3) are the identity if p is 0 or `training` is False.

Shapes: T steps, M architectures, B batch, E embedding, H hidden, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.rnn.fast.cross_entropy import mean_nll, token_nll
from enas.rnn.settings import LanguageModelConfig
from enas.search.precision import product_dtype
from enas.search.ranks import ALONE, ARCHITECTURES, Ranks

EMBED_RANGE = 0.05  # embeddings start uniform in ±this: small, for the decoder is the same matrix


class SequenceOutput(NamedTuple):
    """The output of a sequence."""

    states: Tensor  # of the cells, [T, M, B, H]
    outputs: Tensor  # states that the decoder reads, normalised and with output dropout, [T, M, B, H]
    last: Tensor  # the state to carry into the next sequence, shaped like `LanguageModel.initial_state`


class LanguageModel(nn.Module, ABC):
    """Embedding → recurrent cells → decoder. Subclasses bring the cells."""

    state_parts: ClassVar[int] = 1  # vectors [H] of a state

    def __init__(self, vocab_size: int, config: LanguageModelConfig):
        super().__init__()
        self.config = config
        self.precision = config.precision  # of products, see `enas.search.precision`
        self.division = ALONE, ARCHITECTURES  # of the states [M, B, H]: processes, and the dimension that they divide
        self.embedding = self.decoder = nn.Parameter(torch.empty(vocab_size, config.shared_embed))
        if not config.tie_weights:
            self.decoder = nn.Parameter(torch.empty(vocab_size, config.shared_hid))
        self.decoder_bias = nn.Parameter(torch.zeros(vocab_size))

    def initial_state(self, num_cells: int, batch_size: int) -> Tensor:
        """Return the zero state of M architectures, [M, B, H], or [M, B, 2H] if a state has two parts."""
        return self.decoder_bias.new_zeros(num_cells, batch_size, self.state_parts * self.config.shared_hid)

    @abstractmethod
    def run_cells(self, embedded: Tensor, architectures: Sequence[Any], state: Tensor) -> tuple[Tensor, Tensor]:
        """Run M architectures over the embedded words [T, B, E]: states [T, M, B, H], and the state to carry on."""

    def normalise(self, states: Tensor) -> Tensor:
        """Normalise the states [T, M, B, H] for the decoder; by default return them unchanged."""
        return states

    def _initialise(self, cell_weights: Iterable[nn.Parameter]) -> None:
        cell_range = self.config.shared_init_range or self.config.shared_hid**-0.5
        for weight in cell_weights:
            nn.init.uniform_(weight, -cell_range, cell_range)
        for weight in dict.fromkeys((self.embedding, self.decoder)):
            nn.init.uniform_(weight, -EMBED_RANGE, EMBED_RANGE)

    @torch.no_grad()
    def start_from_frequencies(self, words: Tensor) -> None:
        """Set the decoder's bias to the log frequencies of `words` [tokens], with one more of each word of V."""
        counts = torch.bincount(words, minlength=len(self.decoder_bias)).double() + 1
        self.decoder_bias.copy_(counts.log() - counts.sum().log())

    def forward(self, inputs: Tensor, architectures: Sequence[Any], state: Tensor) -> SequenceOutput:
        """Run M architectures over words [T, B] from a state like `initial_state`; UserError without weights."""
        config, training = self.config, self.training
        embedded = embedding_dropout(self.embedding, inputs, config.shared_dropoute, training)  # [T, B, E]
        if not config.shared_plain_start:
            embedded = embedded * config.shared_embed**0.5
        embedded = locked_dropout(embedded, config.shared_dropouti, training, *self.division)
        states, last = self.run_cells(embedded, architectures, state)  # [T, M, B, H]
        outputs = locked_dropout(self.normalise(states), config.shared_dropout, training, *self.division)
        return SequenceOutput(states, outputs, last)

    def loss(
        self, inputs: Tensor, targets: Tensor, architectures: Sequence[Any], state: Tensor
    ) -> tuple[Tensor, SequenceOutput]:
        """Return the mean cross-entropy of `targets` [T, B] and M architectures in nats, with a gradient."""
        output = self(inputs, architectures, state)
        return mean_nll(*self._decoding(output, targets)), output

    @torch.no_grad()
    def score(
        self, inputs: Tensor, targets: Tensor, architectures: Sequence[Any], state: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of each of M architectures on the same words, and the state after the sequence.

        The cross-entropy, [M] float64 without gradient, is a sum in nats over the targets where `mask` [T, B] is true.
        """
        output = self(inputs, architectures, state)
        nll = token_nll(*self._decoding(output, targets)).view(output.outputs.shape[:3]).double()  # [T, M, B]
        if mask is not None:
            nll = nll * mask.unsqueeze(1)
        return nll.sum((0, 2)), output.last

    def _decoding(self, output: SequenceOutput, targets: Tensor) -> tuple[Any, ...]:
        hidden = output.outputs.flatten(0, 2)  # [T·M·B, H]
        wanted = targets.unsqueeze(1).expand(output.outputs.shape[:3]).flatten()
        return hidden, self.decoder, self.decoder_bias, wanted, product_dtype(self.precision)


def embedding_dropout(weight: Tensor, words: Tensor, p: float, training: bool) -> Tensor:
    """Look `words` […] up in `weight` [V, E]: […, E], with dropped words zero wherever they stand, others over 1−p."""
    embedded, mask = F.embedding(words, weight), dropout_mask(weight[:, 0], p, training)  # mask is [V]
    return embedded if mask is None else embedded * mask[words].unsqueeze(-1)


def locked_dropout(x: Tensor, p: float, training: bool, ranks: Ranks = ALONE, dim: int = -1) -> Tensor:
    """Drop the same units at every step of `x` [T, …]: variational dropout (Gal & Ghahramani 2016)."""
    mask = dropout_mask(x[0], p, training, ranks, dim)
    return x if mask is None else x * mask


def dropout_mask(like: Tensor, p: float, training: bool, ranks: Ranks = ALONE, dim: int = -1) -> Tensor | None:
    """Draw the factors 0 and 1/(1−p) by which dropout multiplies a tensor like `like`; None if it changes nothing.

    If `like` is this process's part of a tensor that the `ranks` divide along `dim`, the mask is this part of the whole
    tensor's mask. A tensor without that dimension has the same mask in every process.
    """
    if not training or p == 0:
        return None
    shape, is_divided = list(like.shape), -dim <= like.dim()
    if is_divided:
        shape[dim] *= ranks.size
    mask = like.new_empty(shape).bernoulli_(1 - p) / (1 - p)
    return ranks.part(mask, dim) if is_divided else mask

"""What every language model here shares: embedding, dropout, decoder and cross-entropy; only the cell differs.

Shapes: T steps, M architectures, B batch, E embedding, H hidden, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from enas.models.cross_entropy import mean_nll, token_nll
from enas.models.dropout import check_probabilities, embedding_dropout, locked_dropout

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Sizes and regularisers of a `LanguageModel`.

    Attributes:
        embed, hidden: E and H.
        tie_weights: the decoder is the transposed embedding (Inan et al. 2017); needs E = H.
        dropoute, dropouti, dropout: word-level embedding dropout; locked dropout on input and on output.
        wdrop: DropConnect on the weights that read the previous state.
        init_range: weights are uniform in ±this; 0 means 1/√H.
        embed_init_range: the same for the embedding (and an untied decoder).
        input_scale: embedded words are multiplied by this; 0 means √E (Vaswani et al. 2017, section 3.4).
        precision: of the decoder's matrix products, "float32" or "bfloat16"; cross-entropy stays in float32.
    """

    embed: int
    hidden: int
    tie_weights: bool = True
    dropoute: float = 0.0
    dropouti: float = 0.0
    dropout: float = 0.0
    wdrop: float = 0.0
    init_range: float = 0.0
    embed_init_range: float = 0.05
    input_scale: float = 0.0
    precision: str = "float32"

    def __post_init__(self):
        for name in ("embed", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.tie_weights and self.embed != self.hidden:
            raise ValueError(
                f"tie_weights needs equal embedding and hidden sizes, not {self.embed} and {self.hidden}; "
                "make them equal or set tie_weights to false"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; it must be one of {', '.join(PRECISIONS)}")
        check_probabilities(dropoute=self.dropoute, dropouti=self.dropouti, dropout=self.dropout, wdrop=self.wdrop)


@dataclass(frozen=True)
class SequenceOutput:
    """What a sequence gave.

    Attributes:
        states: the cells' states, [T, M, B, H].
        outputs: what the decoder reads (normalised, output dropout applied), [T, M, B, H].
        last: the state to carry into the next sequence, shaped like `LanguageModel.initial_state`.
    """

    states: Tensor
    outputs: Tensor
    last: Tensor


class LanguageModel(nn.Module, ABC):
    """Embedding → recurrent cells → decoder. Subclasses bring the cells."""

    def __init__(self, vocab_size: int, config: LanguageModelConfig):
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.embedding = nn.Parameter(torch.empty(vocab_size, config.embed))
        self.decoder = self.embedding if config.tie_weights else nn.Parameter(torch.empty(vocab_size, config.hidden))
        self.decoder_bias = nn.Parameter(torch.zeros(vocab_size))

    @abstractmethod
    def initial_state(self, num_cells: int, batch_size: int) -> Tensor:
        """The zero state of M architectures, [M, B, …]."""

    @abstractmethod
    def run_cells(self, embedded: Tensor, architectures: Sequence, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run M architectures over the embedded words [T, B, E]: states [T, M, B, H], and the state to carry on."""

    def normalise(self, states: Tensor) -> Tensor:
        """What the decoder reads, made of the states [T, M, B, H]: by default the states themselves."""
        return states

    def reset_parameters(self) -> None:
        """Initialise embedding and decoder; biases are 0."""
        for weight in dict.fromkeys((self.embedding, self.decoder)):
            nn.init.uniform_(weight, -self.config.embed_init_range, self.config.embed_init_range)
        nn.init.zeros_(self.decoder_bias)

    @torch.no_grad()
    def start_from_frequencies(self, words: Tensor) -> None:
        """Set the decoder's bias to the log frequencies of `words` [tokens], each word of V counted once more."""
        counts = torch.bincount(words, minlength=self.vocab_size).double() + 1
        self.decoder_bias.copy_(counts.log() - counts.sum().log())

    def forward(self, inputs: Tensor, architectures: Sequence, state: Tensor) -> SequenceOutput:
        """Run M architectures over the same words.

        Args:
            inputs: word numbers, [T, B].
            architectures: M of them.
            state: the state before the sequence, as `initial_state` shapes it.

        Raises:
            ValueError: when the model has no weights for an architecture.
        """
        config, training = self.config, self.training
        embedded = embedding_dropout(self.embedding, inputs, config.dropoute, training)  # [T, B, E]
        embedded = locked_dropout(embedded * (config.input_scale or config.embed**0.5), config.dropouti, training)
        states, last = self.run_cells(embedded, architectures, state)
        return SequenceOutput(states, locked_dropout(self.normalise(states), config.dropout, training), last)

    def loss(
        self, inputs: Tensor, targets: Tensor, architectures: Sequence, state: Tensor
    ) -> tuple[Tensor, SequenceOutput]:
        """Mean cross-entropy in nats of `targets` [T, B], averaged over M architectures: a scalar with a gradient."""
        output = self(inputs, architectures, state)
        wanted = targets.unsqueeze(1).expand(output.outputs.shape[:3])  # [T, M, B]
        nll = mean_nll(*self._decoding(output, wanted))
        return nll, output

    @torch.no_grad()
    def score(
        self,
        inputs: Tensor,
        targets: Tensor,
        architectures: Sequence,
        state: Tensor,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each of M architectures on the same words, in one batched pass, without a gradient.

        Args:
            inputs, targets: word numbers, [T, B].
            architectures: M of them.
            state: as `initial_state` shapes it.
            mask: [T, B], false where a target is padding and does not count.

        Returns:
            the summed cross-entropy of each in nats, [M] float64, and the state after the sequence.
        """
        output = self(inputs, architectures, state)
        wanted = targets.unsqueeze(1).expand(output.outputs.shape[:3])  # [T, M, B]
        nll = token_nll(*self._decoding(output, wanted))
        nll = nll.view(wanted.shape).double()
        if mask is not None:
            nll = nll * mask.unsqueeze(1)
        return nll.sum((0, 2)), output.last

    def _decoding(self, output: SequenceOutput, wanted: Tensor) -> tuple:
        hidden = output.outputs.flatten(0, 2)  # [T·M·B, H]
        return hidden, self.decoder, self.decoder_bias, wanted.flatten(), PRECISIONS[self.config.precision]

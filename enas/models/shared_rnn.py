"""The shared recurrent model: one set of weights ω for every cell of the search space (paper section 2.2).

Shapes: T steps, M architectures, B batch, E embedding, H hidden, N nodes, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from enas.models.cell_sequence import Plan, cell_sequence
from enas.models.cross_entropy import mean_nll, token_nll
from enas.models.dropout import check_probabilities, drop_connect, embedding_dropout, locked_dropout
from enas.search_space import RNNCell

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class SharedRNNConfig:
    """Sizes and regularisers of a `SharedRNN`.

    Attributes:
        embed, hidden: E and H.
        num_blocks: N of the largest cell.
        tie_weights: the decoder is the transposed embedding (Inan et al. 2017); needs E = H.
        dropoute, dropouti, dropout: word-level embedding dropout; locked dropout on input and on output.
        wdrop: DropConnect on [Whc, Whh].
        batch_norm: normalise the output by its batch statistics, step by step. Needs batches of 2 or more.
        norm_bound: the largest Euclidean norm of a state.
        init_range: weights are uniform in ±this; 0 means 1/√H.
        embed_init_range: the same for the embedding (and an untied decoder).
        input_scale: embedded words are multiplied by this; 0 means √E (Vaswani et al. 2017, section 3.4).
        precision: of the decoder's matrix products, "float32" or "bfloat16"; cross-entropy stays in float32.
    """

    embed: int
    hidden: int
    num_blocks: int
    tie_weights: bool = True
    dropoute: float = 0.0
    dropouti: float = 0.0
    dropout: float = 0.0
    wdrop: float = 0.0
    batch_norm: bool = True
    norm_bound: float = 25.0
    init_range: float = 0.0
    embed_init_range: float = 0.05
    input_scale: float = 0.0
    precision: str = "float32"

    def __post_init__(self):
        for name in ("embed", "hidden", "num_blocks"):
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
    """

    states: Tensor
    outputs: Tensor


class SharedRNN(nn.Module):
    """A language model whose recurrent cell is an argument.

    Each ordered pair of nodes has its own parameter [H, 2H] (gate and hidden weights side by side), so that a
    pair that no sampled cell uses gets no gradient, and hence no weight decay and no update.
    """

    def __init__(self, vocab_size: int, config: SharedRNNConfig):
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        hidden = config.hidden
        self.embedding = nn.Parameter(torch.empty(vocab_size, config.embed))
        self.decoder = self.embedding if config.tie_weights else nn.Parameter(torch.empty(vocab_size, hidden))
        self.decoder_bias = nn.Parameter(torch.zeros(vocab_size))
        self.w_input = nn.Parameter(torch.empty(config.embed, 2 * hidden))
        self.w_state = nn.Parameter(torch.empty(hidden, 2 * hidden))
        self.edges = nn.ParameterDict(
            {
                edge_name(i, j): nn.Parameter(torch.empty(hidden, 2 * hidden))
                for j in range(1, config.num_blocks)
                for i in range(j)
            }
        )
        if config.batch_norm:
            self.norm_scale = nn.Parameter(torch.ones(hidden))
            self.norm_shift = nn.Parameter(torch.zeros(hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise every weight; normalisation scales are 1, shifts and biases 0."""
        init_range = self.config.init_range or self.config.hidden**-0.5
        for weight in (self.w_input, self.w_state, *self.edges.values()):
            nn.init.uniform_(weight, -init_range, init_range)
        for weight in dict.fromkeys((self.embedding, self.decoder)):
            nn.init.uniform_(weight, -self.config.embed_init_range, self.config.embed_init_range)
        nn.init.zeros_(self.decoder_bias)
        if self.config.batch_norm:
            nn.init.ones_(self.norm_scale)
            nn.init.zeros_(self.norm_shift)

    @torch.no_grad()
    def start_from_frequencies(self, words: Tensor) -> None:
        """Set the decoder's bias to the log frequencies of `words` [tokens], each word of V counted once more."""
        counts = torch.bincount(words, minlength=self.vocab_size).double() + 1
        self.decoder_bias.copy_(counts.log() - counts.sum().log())

    def initial_state(self, num_cells: int, batch_size: int) -> Tensor:
        """The zero state [M, B, H]."""
        return self.w_state.new_zeros(num_cells, batch_size, self.config.hidden)

    def forward(self, inputs: Tensor, cells: Sequence[RNNCell], state: Tensor) -> SequenceOutput:
        """Run M cells over the same words.

        Args:
            inputs: word numbers, [T, B].
            cells: M cells.
            state: the state before the sequence, [M, B, H].

        Raises:
            ValueError: when a cell has nodes that this model has no weights for.
        """
        config, training = self.config, self.training
        embedded = embedding_dropout(self.embedding, inputs, config.dropoute, training)  # [T, B, E]
        embedded = locked_dropout(embedded * (config.input_scale or config.embed**0.5), config.dropouti, training)
        states = cell_sequence(
            embedded @ self.w_input,
            state,
            drop_connect(self.w_state, config.wdrop, training),
            self._edge_weights(cells),
            Plan.of(cells),
            config.norm_bound,
        )
        outputs = self._normalise(states) if config.batch_norm else states
        return SequenceOutput(states, locked_dropout(outputs, config.dropout, training))

    def loss(
        self, inputs: Tensor, targets: Tensor, cells: Sequence[RNNCell], state: Tensor
    ) -> tuple[Tensor, SequenceOutput]:
        """Mean cross-entropy in nats of `targets` [T, B], averaged over M cells: a scalar with a gradient."""
        output = self(inputs, cells, state)
        wanted = targets.unsqueeze(1).expand(output.outputs.shape[:3])  # [T, M, B]
        nll = mean_nll(*self._decoding(output, wanted))
        return nll, output

    @torch.no_grad()
    def score(
        self, inputs: Tensor, targets: Tensor, cells: Sequence[RNNCell], state: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each of M cells on the same words, in one batched pass, without a gradient.

        Args:
            inputs, targets: word numbers, [T, B].
            state: [M, B, H].
            mask: [T, B], false where a target is padding and does not count.

        Returns:
            the summed cross-entropy of each cell in nats, [M] float64, and the state after the sequence, [M, B, H].
        """
        output = self(inputs, cells, state)
        wanted = targets.unsqueeze(1).expand(output.outputs.shape[:3])  # [T, M, B]
        nll = token_nll(*self._decoding(output, wanted))
        nll = nll.view(wanted.shape).double()
        if mask is not None:
            nll = nll * mask.unsqueeze(1)
        return nll.sum((0, 2)), output.states[-1]

    def _decoding(self, output: SequenceOutput, wanted: Tensor) -> tuple:
        hidden = output.outputs.flatten(0, 2)  # [T·M·B, H]
        return hidden, self.decoder, self.decoder_bias, wanted.flatten(), PRECISIONS[self.config.precision]

    def _edge_weights(self, cells: Sequence[RNNCell]) -> list[Tensor]:
        size = max(cell.num_blocks for cell in cells)
        return [torch.stack([self._edge(cell, j) for cell in cells]) for j in range(1, size)]  # [M, H, 2H] each

    def _edge(self, cell: RNNCell, position: int) -> Tensor:
        if position >= cell.num_blocks:
            return torch.zeros_like(self.w_state)
        name = edge_name(*cell.edges[position - 1])
        if name not in self.edges:
            known = f"nodes 0 … {self.config.num_blocks - 1}"
            raise ValueError(f"the cell has node {cell.nodes[position]}, but the shared model has {known}")
        return self.edges[name]

    def _normalise(self, states: Tensor) -> Tensor:
        if states.shape[2] < 2:
            raise ValueError("batch normalisation by batch statistics needs a batch of at least 2")
        variance, mean = torch.var_mean(states, dim=2, keepdim=True, correction=0)  # [T, M, 1, H]
        return (states - mean) * (torch.rsqrt(variance + 1e-5) * self.norm_scale) + self.norm_shift


def edge_name(previous: int, node: int) -> str:
    """The key of the weights that `node` uses when it reads `previous`, such as "0_3"."""
    return f"{previous}_{node}"

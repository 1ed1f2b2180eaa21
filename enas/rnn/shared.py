"""The shared recurrent model: one set of weights ω for every cell of the search space (paper section 2.1).

Shapes: T steps, M architectures, B batch, E embedding, H hidden, N nodes, V vocabulary.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.errors import UserError
from enas.rnn.cell import RNNCell
from enas.rnn.fast.graph import graph_sequence, is_graphable
from enas.rnn.fast.sequence import Plan, cell_sequence
from enas.rnn.language_model import LanguageModel, dropout_mask
from enas.rnn.settings import SharedRNNConfig
from enas.search.precision import product_dtype


class SharedRNN(LanguageModel):
    """A language model whose recurrent cell is an argument.

    Each (previous, node) pair of `edges`, by default all, has its own parameter [H, 2H] (gate and hidden weights side
    by side), so that a pair that no sampled cell uses gets no gradient, and so no weight decay and no update.
    """

    config: SharedRNNConfig

    def __init__(self, vocab_size: int, config: SharedRNNConfig, edges: Iterable[tuple[int, int]] | None = None):
        super().__init__(vocab_size, config)
        if edges is None:
            edges = [(i, j) for j in range(1, config.num_blocks) for i in range(j)]
        hidden = config.shared_hid
        self.w_input = nn.Parameter(torch.empty(config.shared_embed, 2 * hidden))
        self.w_state = nn.Parameter(torch.empty(hidden, 2 * hidden))
        self.edges = nn.ParameterDict({f"{i}_{j}": torch.empty(hidden, 2 * hidden) for i, j in edges})
        if config.shared_batch_norm:
            self.norm_scale = nn.Parameter(torch.ones(hidden))
            self.norm_shift = nn.Parameter(torch.zeros(hidden))
        self._initialise((self.w_input, self.w_state, *self.edges.values()))

    def run_cells(self, embedded: Tensor, architectures: Sequence[RNNCell], state: Tensor) -> tuple[Tensor, Tensor]:
        plan, config = Plan.of(architectures), self.config
        edges = [self.edge(*edge) for edge in plan.edges]
        w_state = F.dropout(self.w_state, config.shared_wdrop, self.training)  # DropConnect (Wan et al. 2013)
        mask = dropout_mask(state, config.shared_dropouth, self.training, *self.division)
        arguments = (embedded @ self.w_input, state, w_state, edges, plan, config.shared_norm_bound, mask)
        if is_graphable(plan, state):
            states = graph_sequence(*arguments, products=product_dtype(self.precision), largest=config.num_blocks)
        else:
            states = cell_sequence(*arguments)
        return states, states[-1]

    def edge(self, previous: int, node: int) -> Tensor:
        """Return the weights of `node` when it reads `previous`; UserError if the model has none."""
        name, last = f"{previous}_{node}", self.config.num_blocks - 1
        if name in self.edges:
            return self.edges[name]
        if node > last:
            raise UserError(f"the cell has node {node}, but the shared model has nodes 0 … {last}")
        raise UserError(f"node {node} of the cell reads node {previous}; this model has no weights for that pair")

    def normalise(self, states: Tensor) -> Tensor:
        if not self.config.shared_batch_norm:
            return states
        if states.shape[2] < 2:
            raise UserError("batch normalisation by batch statistics needs a batch of at least 2")
        centred = states - states.mean(2, keepdim=True)
        variance = centred.square().mean(2, keepdim=True)  # [T, M, 1, H]; torch.var_mean takes several times as long
        return centred * (torch.rsqrt(variance + 1e-5) * self.norm_scale) + self.norm_shift

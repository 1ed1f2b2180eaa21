"""The recurrent search space written plainly, by automatic differentiation: what the fast path is compared with."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from enas.rnn import reference as rnn_reference
from enas.rnn.cell import RNNCell
from enas.rnn.export import functions
from enas.rnn.language_model import SequenceOutput
from enas.rnn.shared import SharedRNN


class ReferenceRNN(SharedRNN):
    """As `SharedRNN`, of one cell at a time: a loop over time and nodes, and all logits of a minibatch at once."""

    def run_cells(self, embedded: Tensor, architectures: Sequence[RNNCell], state: Tensor) -> tuple[Tensor, Tensor]:
        (cell,) = architectures
        edges = {edge: self.edge(*edge) for edge in cell.edges}
        projected, bound = embedded @ self.w_input, self.config.shared_norm_bound
        nodes = rnn_reference.Nodes.of(cell.to_dict(), functions(cell)[0])
        states = rnn_reference.sequence(nodes, projected, state[0], self.w_state, edges, bound)
        return states.unsqueeze(1), states[-1:]

    def loss(self, inputs: Tensor, targets: Tensor, architectures: Sequence, state: Tensor):
        output: SequenceOutput = self(inputs, architectures, state)
        logits = output.outputs.flatten(0, 2) @ self.decoder.t() + self.decoder_bias
        return F.cross_entropy(logits, targets.flatten()), output

    @torch.no_grad()
    def score(self, inputs, targets, architectures, state, mask=None):
        totals = []
        for one in range(len(architectures)):
            output = self(inputs, architectures[one : one + 1], state[one : one + 1])
            logits = output.outputs.flatten(0, 2) @ self.decoder.t() + self.decoder_bias
            totals.append(F.cross_entropy(logits, targets.flatten(), reduction="sum").double())
        return torch.stack(totals), state

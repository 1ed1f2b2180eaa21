"""A plain LSTM language model: the baseline for a discovered cell at the same number of parameters.

Shapes: T steps, B batch, E embedding, H hidden, V vocabulary. M, the number of architectures, is 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from enas.errors import UserError
from enas.rnn.baseline import LSTMBaseline
from enas.rnn.language_model import LanguageModel
from enas.rnn.settings import LanguageModelConfig


class LSTMModel(LanguageModel):
    """Torch's own LSTM, of one layer, between the embedding and the decoder of a `LanguageModel`.

    DropConnect is on its recurrent weights (Merity et al. 2017, section 2). The state is h and c side by side.
    """

    def __init__(self, vocab_size: int, config: LanguageModelConfig):
        super().__init__(vocab_size, config)
        self.lstm = nn.LSTM(config.shared_embed, config.shared_hid)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise every weight; the LSTM's biases are uniform too, as in torch."""
        init_range = self.config.shared_init_range or self.config.shared_hid**-0.5
        for weight in self.lstm.parameters():
            nn.init.uniform_(weight, -init_range, init_range)
        super().reset_parameters()

    def initial_state(self, num_cells: int, batch_size: int) -> Tensor:
        """The zero state [1, B, 2H]: h, then c."""
        return self.decoder_bias.new_zeros(num_cells, batch_size, 2 * self.config.shared_hid)

    def run_cells(
        self, embedded: Tensor, architectures: Sequence[LSTMBaseline], state: Tensor
    ) -> tuple[Tensor, Tensor]:
        if list(architectures) != [LSTMBaseline(self.config.shared_hid)]:
            raise UserError(f"this model is one LSTM of {self.config.shared_hid} units, not {architectures}")
        dropped = {"weight_hh_l0": F.dropout(self.lstm.weight_hh_l0, self.config.shared_wdrop, self.training)}
        memory = tuple(part.contiguous() for part in state.chunk(2, dim=-1))
        states, last = functional_call(self.lstm, dropped, (embedded, memory))
        return states.unsqueeze(1), torch.cat(last, dim=-1)

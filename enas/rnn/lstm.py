"""A plain LSTM language model: the baseline for a discovered cell at the same number of parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from enas.errors import UserError
from enas.rnn.cell import LSTMBaseline
from enas.rnn.language_model import LanguageModel
from enas.rnn.settings import LanguageModelConfig


class LSTMModel(LanguageModel):
    """Torch's own LSTM, of one layer, between the embedding and the decoder of a `LanguageModel`.

    DropConnect is on its recurrent weights (Merity et al. 2017, section 2). The state is h and c side by side.
    """

    state_parts = 2

    def __init__(self, vocab_size: int, config: LanguageModelConfig):
        super().__init__(vocab_size, config)
        self.lstm = nn.LSTM(config.shared_embed, config.shared_hid)
        self._initialise(self.lstm.parameters())  # its biases too, as torch has it

    def run_cells(
        self, embedded: Tensor, architectures: Sequence[LSTMBaseline], state: Tensor
    ) -> tuple[Tensor, Tensor]:
        if {*architectures} != {LSTMBaseline(self.config.shared_hid)}:
            raise UserError(f"this model is one LSTM of {self.config.shared_hid} units, not {architectures}")
        dropped = {"weight_hh_l0": F.dropout(self.lstm.weight_hh_l0, self.config.shared_wdrop, self.training)}
        memory = tuple(part.flatten(0, 1).unsqueeze(0).contiguous() for part in state.chunk(2, dim=-1))  # [1, M·B, H]
        states, last = functional_call(self.lstm, dropped, (embedded.repeat(1, len(architectures), 1), memory))
        return states.unflatten(1, state.shape[:2]), torch.cat(last, dim=-1).view_as(state)

"""The controller of the recurrent search space (paper section 2.1)."""

import torch
from torch import Tensor

from enas.rnn.cell import RNNCell
from enas.rnn.settings import RNNControllerConfig
from enas.search.controllers import LSTMController


class RNNController(LSTMController[RNNCell]):
    """An LSTM controller of recurrent cells that can prefer near nodes; its `Space` decides which cells."""

    config: RNNControllerConfig

    def prior(self, index: int) -> Tensor | None:
        """−controller_near_prior · d² for a connection over a distance of d nodes."""
        node, weight = self.space.connection(index), self.config.controller_near_prior
        if node is None or weight == 0:
            return None
        bias = self.decoders[index].bias
        return -weight * (node - torch.arange(node, device=bias.device, dtype=bias.dtype)) ** 2

"""What an architecture is: immutable data, no torch."""

from enas.search_space.lstm import LSTMBaseline
from enas.search_space.rnn_cell import ACTIVATIONS, CELL_OUTPUTS, RNNCell

__all__ = ["ACTIVATIONS", "CELL_OUTPUTS", "LSTMBaseline", "RNNCell"]

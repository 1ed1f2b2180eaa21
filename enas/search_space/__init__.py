"""What an architecture is: immutable data, no torch."""

from enas.search_space.cnn_macro import MACRO_OPERATIONS, STEM, MacroNetwork, reduction_layers
from enas.search_space.cnn_micro import MICRO_OPERATIONS, MicroCell, MicroNetwork
from enas.search_space.lstm import LSTMBaseline
from enas.search_space.rnn_cell import ACTIVATIONS, CELL_OUTPUTS, RNNCell

__all__ = [
    "ACTIVATIONS",
    "CELL_OUTPUTS",
    "MACRO_OPERATIONS",
    "MICRO_OPERATIONS",
    "STEM",
    "LSTMBaseline",
    "MacroNetwork",
    "MicroCell",
    "MicroNetwork",
    "RNNCell",
    "reduction_layers",
]

"""What an architecture is: immutable data, no torch."""

from enas.search_space.architecture import CELL_OUTPUTS, Architecture, architecture_from_dict, load_architecture
from enas.search_space.cnn_macro import STEM, MacroNetwork, reduction_layers
from enas.search_space.cnn_micro import MicroCell, MicroNetwork
from enas.search_space.decisions import Space
from enas.search_space.lstm import LSTMBaseline
from enas.search_space.operations import MACRO_OPERATIONS, MICRO_OPERATIONS
from enas.search_space.rnn_cell import ACTIVATIONS, RNNCell

__all__ = [
    "ACTIVATIONS",
    "CELL_OUTPUTS",
    "MACRO_OPERATIONS",
    "MICRO_OPERATIONS",
    "STEM",
    "Architecture",
    "LSTMBaseline",
    "MacroNetwork",
    "MicroCell",
    "MicroNetwork",
    "RNNCell",
    "Space",
    "architecture_from_dict",
    "load_architecture",
    "reduction_layers",
]

"""How an architecture is sampled."""

from enas.controllers.base import Controller, ControllerConfig, LSTMController, Sample
from enas.controllers.cnn import MacroController, MicroController, RandomMacroController, RandomMicroController
from enas.controllers.rnn import RandomRNNController, RNNController

__all__ = [
    "Controller",
    "ControllerConfig",
    "LSTMController",
    "MacroController",
    "MicroController",
    "RNNController",
    "RandomMacroController",
    "RandomMicroController",
    "RandomRNNController",
    "Sample",
]

"""How an architecture is sampled."""

from enas.controllers.base import Controller, ControllerConfig, FixedController, LSTMController, Sample
from enas.controllers.cnn import MacroController, MicroController, RandomMacroController, RandomMicroController
from enas.controllers.rnn import (
    FlexibleRNNController,
    HardcodedRNNController,
    RandomRNNController,
    RNNController,
)

__all__ = [
    "Controller",
    "ControllerConfig",
    "FixedController",
    "FlexibleRNNController",
    "HardcodedRNNController",
    "LSTMController",
    "MacroController",
    "MicroController",
    "RNNController",
    "RandomMacroController",
    "RandomMicroController",
    "RandomRNNController",
    "Sample",
]

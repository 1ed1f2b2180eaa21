"""How an architecture is sampled."""

from enas.controllers.base import (
    Controller,
    ControllerConfig,
    FixedController,
    LSTMController,
    RandomController,
    Sample,
)
from enas.controllers.cnn import MacroController, MacroControllerConfig, MicroController, MicroControllerConfig
from enas.controllers.rnn import RNNController, RNNControllerConfig

__all__ = [
    "Controller",
    "ControllerConfig",
    "FixedController",
    "LSTMController",
    "MacroController",
    "MacroControllerConfig",
    "MicroController",
    "MicroControllerConfig",
    "RNNController",
    "RNNControllerConfig",
    "RandomController",
    "Sample",
]

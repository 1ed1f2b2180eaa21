"""How an architecture is sampled."""

from enas.controllers.base import (
    Controller,
    ControllerConfig,
    FixedController,
    IndependentController,
    LSTMController,
    RandomController,
    Sample,
)
from enas.controllers.cnn import (
    MacroController,
    MacroControllerConfig,
    MicroController,
    MicroControllerConfig,
    skip_penalty,
)
from enas.controllers.rnn import RNNController, RNNControllerConfig

__all__ = [
    "Controller",
    "ControllerConfig",
    "FixedController",
    "IndependentController",
    "LSTMController",
    "MacroController",
    "MacroControllerConfig",
    "MicroController",
    "MicroControllerConfig",
    "RNNController",
    "RNNControllerConfig",
    "RandomController",
    "Sample",
    "skip_penalty",
]

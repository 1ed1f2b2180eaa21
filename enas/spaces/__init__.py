"""The search spaces that runs can choose; importing this registers those of the package."""

from enas.spaces.convolutional import MACRO, MICRO
from enas.spaces.recurrent import RNN
from enas.spaces.registry import SPACES, Replacement, SearchSpace, network_types, register, space_for

__all__ = [
    "MACRO",
    "MICRO",
    "RNN",
    "SPACES",
    "Replacement",
    "SearchSpace",
    "network_types",
    "register",
    "space_for",
]

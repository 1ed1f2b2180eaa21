"""Efficient Neural Architecture Search (Pham et al. 2018, arXiv:1802.03268)."""

from typing import Any

from enas.rnn.cell import RNNCell

__all__ = ["Config", "RNNCell"]


def __getattr__(name: str) -> Any:
    # Config loads torch, which the converter of published formats does not need.
    if name == "Config":
        from enas.config import Config

        return Config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Efficient Neural Architecture Search (Pham et al. 2018, arXiv:1802.03268)."""

from enas.config import Config
from enas.rnn.cell import RNNCell

__all__ = ["Config", "RNNCell"]
__version__ = "0.1.0"

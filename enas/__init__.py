"""Efficient Neural Architecture Search (Pham et al. 2018, arXiv:1802.03268)."""

import os
from typing import Any

from enas.search_space import RNNCell

__all__ = ["Config", "RNNCell"]

# On Linux, torch then keeps large tensors in huge pages, with few page faults. It reads this when it makes its first
# tensor, so that nothing later than the import of the package is early enough. What the user has set wins.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def __getattr__(name: str) -> Any:
    # Config loads torch, which the converter of published formats does not need.
    if name == "Config":
        from enas.config import Config

        return Config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

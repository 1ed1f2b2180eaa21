"""Efficient Neural Architecture Search (Pham et al. 2018, arXiv:1802.03268)."""

import importlib
import sys
from types import ModuleType
from typing import Any

from enas.config import Config
from enas.rnn.cell import RNNCell

__all__ = ["Choice", "Config", "RNNCell", "Run", "load", "search", "search_module", "sweep", "train"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module enas has no attribute {name!r}")
    elsewhere = {"sweep": "enas.studies.sweep", "Choice": "enas.choice.problem"}  # load torch, which flags do without
    return getattr(importlib.import_module(elsewhere.get(name, "enas.runs.run")), name)


class _Search(ModuleType):
    """The package `enas.search`, which can be called: it is `enas.runs.run.search`, too."""

    def __call__(self, *data: Any, **settings: Any) -> Any:
        return importlib.import_module("enas.runs.run").search(*data, **settings)


sys.modules["enas.search"].__class__ = _Search

"""Efficient Neural Architecture Search (Pham et al. 2018, arXiv:1802.03268)."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enas.config import Config
    from enas.rnn.cell import RNNCell

__all__ = ["Choice", "Config", "RNNCell", "Run", "load", "search", "search_module", "sweep", "train"]
__version__ = "0.1.0"
# Loaded when they are asked for, so that a command soon answers to Ctrl-C; the others are in enas.runs.run.
_PLACES = {"sweep": "studies.sweep", "Choice": "choice.problem", "Config": "config", "RNNCell": "rnn.cell"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module enas has no attribute {name!r}")
    importlib.import_module("enas.config")  # registers the search spaces, which drawing and reading architectures need
    return getattr(importlib.import_module(f"enas.{_PLACES.get(name, 'runs.run')}"), name)


class _Search(ModuleType):
    """The package `enas.search`, which can be called: it is `enas.runs.run.search`, too."""

    def __call__(self, *data: Any, **settings: Any) -> Any:
        return importlib.import_module("enas.runs.run").search(*data, **settings)


importlib.import_module("enas.search").__class__ = _Search

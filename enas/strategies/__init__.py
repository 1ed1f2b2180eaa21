"""Search strategies, one algorithm a file, over any search space; `enas strategies` compares them.

A strategy is a controller: `sample` proposes architectures, and `learn` gets their rewards.
"""

from pkgutil import resolve_name
from typing import Any


def _at(place: str) -> Any:
    return lambda space, config: resolve_name(f"enas.strategies.{place}")(space, config)  # which loads torch


TRAIN_TYPES = {  # of every space
    "evolution": _at("evolution:Evolution"),
    "local_search": _at("local_search:LocalSearch"),
    "ppo": _at("ppo:PPO"),
}

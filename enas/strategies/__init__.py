"""Search strategies, one algorithm a file, over any search space; `enas strategies` compares them.

A strategy is a controller: `sample` proposes architectures, and `learn` gets their rewards.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enas.search.problem import Make


def _at(place: str) -> "Make":
    return lambda space, config: resolve_name(f"enas.strategies.{place}")(space, config)  # which loads torch


def _reinforce(kind: str) -> "Make":
    """Return the maker of the search space's own controller, which learns by REINFORCE (paper section 2.2)."""
    return lambda space, c: next(iter(c.space.problem().controllers.values()))(space, c.replace(controller_type=kind))


TRAIN_TYPES: dict[str, "Make"] = {"evolution": _at("evolution:Evolution"), "ppo": _at("ppo:PPO")}  # of every space
# For `enas strategies` alone: a search has the first three by other settings, and no shorter looks.
OTHERS: dict[str, "Make"] = {
    "uniform": lambda space, config: resolve_name("enas.search.controllers:RandomController")(space),
    "enas": _reinforce("lstm"),
    "logits": _reinforce("independent"),
    "halving": _at("halving:Halving"),
}

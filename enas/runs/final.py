"""The architecture that a run ends with, and the weights it did best with."""

from pathlib import Path
from typing import Any

import torch

from enas.errors import NotFoundError, UserError
from enas.runs.files import read_json
from enas.search_space import Architecture, architecture_from_dict
from enas.tasks.base import Metric
from enas.training.checkpoint import Checkpoints


def final_of_search(
    folder: Path, checkpoints: Checkpoints, metric: Metric, best_score: float | None, device: str | torch.device = "cpu"
) -> tuple[Architecture, dict[str, Any] | None]:
    """What was derived last, or in the best epoch, which validated with `best_score`, whichever validates better.

    Returns:
        the architecture, and the best epoch's state where it is that one's.

    Raises:
        UserError: nothing was derived, or the best checkpoint cannot be read.
    """
    architecture, score = _last_derived(folder / "results.json", metric.name)
    if metric.is_better(score, best_score):
        return architecture, None
    try:
        best = checkpoints.load_best(device)
    except NotFoundError:
        return architecture, None
    return architecture_from_dict(best["progress"]["architecture"]), best


def final_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The model's weights in a checkpoint's state, by name: the averaged ones, from scratch, where there are some."""
    average = state.get("average")
    if average is None:
        return state["task"]["model"]
    prefix = "module."
    return {name.removeprefix(prefix): weight for name, weight in average.items() if name.startswith(prefix)}


def _last_derived(path: Path, metric: str) -> tuple[Architecture, float]:
    try:
        results = read_json(path)
        return architecture_from_dict(results["architecture"]), float(results[f"validation_{metric}"])
    except (UserError, TypeError, KeyError):
        raise UserError(f"{path}: names no derived architecture; make one with --mode derive") from None

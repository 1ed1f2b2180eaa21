"""The architecture of a run: the one that its results.json names, for every mode, study, export and picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from enas.errors import UserError
from enas.runs.files import read_json
from enas.search_space import Architecture, architecture_from_dict


@dataclass(frozen=True)
class Final:
    """The architecture of a run.

    Attributes:
        architecture: what `derive` wrote down last, or else what the search itself derived last; from scratch, the one
            that is trained.
        score: its metric on all of validation.
        measured_with: the weights that it was measured with, in words.
    """

    architecture: Architecture
    score: float | None
    measured_with: str


def has_final(folder: Path) -> bool:
    """Whether the run in `folder` names an architecture yet."""
    try:
        return read_json(folder / "results.json")["architecture"] is not None
    except (UserError, TypeError, KeyError):
        return False


def final_of(folder: Path, metric: str) -> Final:
    """The architecture of the run in `folder`, which is judged by `metric`.

    Raises:
        UserError: the run names none yet.
    """
    path = folder / "results.json"
    try:
        results = read_json(path)
        score = results[f"validation_{metric}"]
        architecture = architecture_from_dict(results["architecture"])
    except (UserError, TypeError, KeyError):
        raise UserError(f"{path}: names no architecture; a search makes one with --mode derive") from None
    return Final(architecture, None if score is None else float(score), results.get("measured_with", ""))


def final_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The model's weights in a checkpoint's state, by name: the averaged ones, from scratch, where there are some."""
    average = state.get("average")
    if average is None:
        return state["task"]["model"]
    prefix = "module."
    return {name.removeprefix(prefix): weight for name, weight in average.items() if name.startswith(prefix)}


def pictures_of(folder: Path) -> list[Path]:
    """The pictures in a run's networks/, oldest first: the last one is of the architecture of the run.

    `EPOCH-STEP-SCORE-best.png` says when each was derived. Of those of one moment, that of the run's architecture, by
    the JSON file of the same name, comes last.
    """
    final = _named(folder / "results.json", "architecture")
    found = [path for path in (folder / "networks").glob("*.png") if path.stem.split("-")[0].isdigit()]
    return sorted(found, key=lambda path: (*_moment(path), _drawn(folder, path) == final, path.name))


def _moment(picture: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in picture.stem.split("-")[:2] if part.isdigit())


def _drawn(folder: Path, picture: Path) -> Any:
    return _named(folder / "architectures" / f"{picture.stem}.json")


def _named(path: Path, key: str = "") -> Any:
    try:
        content = read_json(path)
        return content[key] if key else content
    except (UserError, TypeError, KeyError):
        return None

"""The architecture of a run: the one that its results.json names, for every mode, study, export and picture."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas.errors import UserError
from enas.files import read_or_empty, reading
from enas.search.architecture import Architecture, architecture_from_dict


@dataclass(frozen=True)
class Final:
    """The architecture of a run: derived last, by `derive` or the search itself, or the one trained from scratch."""

    architecture: Architecture
    score: float | None  # its metric on all of validation
    measured_with: str  # the weights of that score, in words
    finalists: Any = None  # derive_finalists and derive_rung_epoch of the derivation, if it says so


def find_final(folder: Path, metric: str, needed: type = Architecture) -> Final | None:
    """Return the architecture of the run in `folder`, judged by `metric`; None if results.json names none as needed."""
    results, name = read_or_empty(folder / "results.json"), f"validation_{metric}"
    with suppress(UserError), reading(folder):
        score, architecture = results[name] and float(results[name]), architecture_from_dict(results["architecture"])
        if isinstance(architecture, needed):
            return Final(architecture, score, results.get("measured_with", ""), results.get("finalists"))
    return None


def pictures_of(folder: Path) -> list[Path]:
    """Return the pictures in a run's networks/, one an epoch, oldest first: the last one shows its architecture.

    `EPOCH-STEP-SCORE-best.png` names the moment of each. The newest of an epoch is taken; of two in one moment, the one
    of the run's architecture, by the JSON file of the same name.
    """
    final = read_or_empty(folder / "results.json").get("architecture")

    def order(path: Path) -> Any:
        moment = [int(part) for part in path.stem.split("-")[:2] if part.isdecimal()]
        return moment, read_or_empty(folder / "architectures" / f"{path.stem}.json") == final, path.name

    pictures = [path for path in (folder / "networks").glob("*-best.png") if path.stem.split("-")[0].isdecimal()]
    return list({path.stem.split("-")[0]: path for path in sorted(pictures, key=order)}.values())

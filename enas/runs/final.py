"""The architecture of a run, as its results.json names it; those of JSON files, and baselines, by their names."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from enas.config import Config
from enas.errors import UserError
from enas.files import read_or_empty, reading
from enas.search.architecture import Architecture, architecture_from_dict, load_architecture
from enas.search.controllers import RandomController


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


def named_architecture(config: Config) -> Architecture:
    """Return the architecture that `dag_path` names, a JSON file or a baseline; UserError if there is none."""
    baselines = baselines_of(config)
    if not config.dag_path:
        names = ", or ".join(["its JSON file with --dag_path", *baselines])
        raise UserError(f"mode single trains one given architecture: name {names}")
    maker = baselines.get(config.dag_path)
    return searched_architecture(config, config.dag_path) if maker is None else maker(config)


def baselines_of(config: Config) -> dict[str, Callable[[Config], Architecture]]:
    """Return the makers of the space's baselines, and of a uniform architecture, by name."""
    problem = config.space.problem()

    def random(config: Config) -> Architecture:
        generator = torch.Generator().manual_seed(config.random_seed)
        return RandomController(problem.space(config), generator).sample(1).architectures[0]

    return {**problem.baselines, "random": random}


def searched_architecture(config: Config, path: str | Path) -> Architecture:
    """Return the architecture of the search space in a JSON file; UserError if there is none in it."""
    architecture, needed = load_architecture(path), config.space.architecture
    if not isinstance(architecture, needed):
        raise UserError(f"{path}: is {architecture.title}; {needed.title} is needed here")
    return architecture


def final_or_given(folder: Path, config: Config, dag_path: str | Path, is_scratch: bool) -> Final:
    """Return the architecture of a run, or the one in `dag_path`, which a search has weights for."""
    if dag_path and is_scratch:
        raise UserError(f"{folder}: has the weights of one architecture; leave --dag_path out")
    if dag_path:
        return Final(searched_architecture(config, dag_path), None, "")
    needed = Architecture if is_scratch else config.space.architecture
    if (final := find_final(folder, config.space.metric.name, needed)) is None:
        raise UserError(f"{folder / 'results.json'}: names no architecture; a search makes one with --mode derive")
    return final


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

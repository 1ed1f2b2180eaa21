"""The folders of runs, ablations and evaluations, read for a page."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas.config import Config, named, without_effect
from enas.errors import UserError
from enas.files import read_json, reading
from enas.runs.final import pictures_of
from enas.runs.folder import find_run, saved_config
from enas.settings import USE


@dataclass(frozen=True)
class Record:
    """A run."""

    name: str  # on the page
    folder: Path
    config: Config
    results: dict[str, Any]  # of results.json
    pictures: list[Path]  # of its architecture, oldest first
    policy: Path | None  # the picture of the controller's probabilities, where the controller learns

    def curve(self, name: str) -> tuple[list[int], list[Any]]:
        """Return the epochs at which an entry of the history has a value, and the values."""
        entries = [entry for entry in self.results["history"] if entry.get(name) is not None]
        return [entry["epoch"] for entry in entries], [entry[name] for entry in entries]


def read_runs(load_paths: Sequence[str | Path], log_dir: str | Path) -> list[Record]:
    """Read runs; UserError for one that is missing, damaged, or has no results yet."""
    folders = [find_run(path, log_dir) for path in load_paths]
    names = [folder.resolve().name for folder in folders]
    distinct = names if len(set(names)) == len(names) else map(str, folders)
    return [_read(folder, name) for folder, name in zip(folders, distinct, strict=True)]


def _read(folder: Path, name: str) -> Record:
    config, path = saved_config(folder), folder / "results.json"
    if not path.is_file():
        raise UserError(f"{folder}: has no results yet; its first epoch has not ended")
    pictures = pictures_of(folder) or sorted(folder.glob("architecture.png"))
    return Record(name, folder, config, read_json(path), pictures, next(folder.glob("policy.png"), None))


def settings_table(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """Return the settings that differ from the defaults in a run, each with its value in every run."""
    configs = [record.config for record in records]
    shown = [{name: value for name, value in one.to_dict().items() if not without_effect(name, one)} for one in configs]
    defaults = {name: list(one) if isinstance(one, tuple) else one for name, one in Config().values.items()}
    return [
        (name, [str(one.get(name, "–")) for one in shown])
        for name in dict.fromkeys(itertools.chain(*shown))
        if name not in named(USE) and any(one.get(name, defaults[name]) != defaults[name] for one in shown)
    ]


@dataclass(frozen=True)
class Study:
    """An ablation or an evaluation: its results.json, and the plots that lie beside it."""

    name: str
    metric: str
    results: dict[str, Any]
    path: Path

    @property
    def pictures(self) -> list[Path]:
        """The plots, the main ones first; the test scores of single nodes are in the table."""
        plots = [path for path in self.path.parent.glob("*.png") if path.name != "nodes_test.png"]
        return sorted(plots, key=lambda path: (path.name.startswith("ranking"), path.name))


def read_ablations(records: Sequence[Record], results_dir: Path) -> list[Study]:
    """Read the ablations of these runs, as far as they have come."""
    paths = sorted(results_dir.glob("*/*/results.json"))
    return [study for record in records for path in paths if (study := _ablation_of(record, path))]


def _ablation_of(record: Record, path: Path) -> Study | None:
    content, run, metric = read_json(path), record.folder.resolve(), record.config.space.metric.name
    # The name of the run is followed by nothing, or _train_scratch, or the name of an architecture's file.
    if not f"{content.get('run')}_".startswith(f"{run.name}_"):
        return None
    with reading(path, path.with_name("params.json")):
        # Runs of two log_dirs can have the same name. Where a run has been moved, the name has to do.
        weights = Path(read_json(path.with_name("params.json")).get("weights", run))
        if f"validation_{metric}" not in content["rows"][0] or (weights != run and weights.exists()):
            return None
        return Study(f"{content['ablation'].replace('_', ' ')} · {path.parent.name}", metric, content, path)


def read_evaluations(records: Sequence[Record], results_dir: Path) -> list[Study]:
    """Read the evaluations of searches on the datasets of these runs."""
    datasets, found = {record.config.dataset for record in records}, []
    for path in sorted((results_dir / "search_evaluation").glob("*/results.json")):
        content = read_json(path)
        if content.get("methods") and content.get("dataset") in datasets:
            with reading(path):
                found.append(Study(path.parent.name, content["metric"], content, path))
    return found

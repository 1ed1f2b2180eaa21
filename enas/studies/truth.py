"""Tables of architectures trained from scratch at one budget: the truth that a search is measured against."""

import contextlib
import io
import itertools
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import torch

from enas.allocator import keep_memory
from enas.config import Config, all_settings, named
from enas.data.identity import Identity
from enas.errors import UserError
from enas.files import atomic_write, finite, read_json
from enas.runs import run
from enas.search.architecture import Architecture, architecture_from_dict
from enas.search.controllers import RandomController
from enas.search.record import progress_bar
from enas.search.space import Space
from enas.settings import USE

LARGEST_SPACE = 10_000  # a larger one is sampled
APART = {"dag_path", "random_seed"}  # settings that tell one training of a table from another


@dataclass
class Table:
    """Architectures, each trained from scratch with some seeds at one budget, in a JSON file.

    Attributes:
        settings: of every training, those that differ from the defaults.
        data: digests of the data of every training; see `enas.data.identity`. Empty where nothing is trained yet.
        runs: by (row, seed) what the training reached: "validation" and "test", NaN where it diverged, and "seconds".
    """

    path: Path
    settings: dict[str, Any]
    architectures: list[Architecture]
    data: dict[str, str] = field(default_factory=dict)
    runs: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, config: Config) -> "Table":
        """The table in a file, or a new one; UserError when the file is damaged, or was made with other settings."""
        table = cls(path, budget(config), [])
        if not path.is_file():
            return table
        content = read_json(path)
        try:
            saved, table.data = content["settings"], dict(content["data"])
            for index, row in enumerate(content["rows"]):
                table.architectures.append(architecture_from_dict(row["architecture"]))
                for one in row["runs"]:
                    found = {name: one[name] for name in ("validation", "test", "seconds")}
                    found = {name: math.nan if value is None else value for name, value in found.items()}
                    table.runs[index, one["seed"]] = found
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: not a table of trainings ({error!r})") from None
        check_settings(path, saved, table.settings, "table")
        return table

    def add(self, architectures: Iterable[Architecture], num: int = 0) -> None:
        """Add rows for architectures without one, until there are `num`, or for all of them; UserError for too many."""
        have, rows = set(self.architectures), len(self.architectures)
        if num and rows > num:
            raise UserError(
                f"{self.path}: has {rows} architectures, and num_truth is {num}; give {rows} or more, or name another "
                "table"
            )
        new = [one for one in dict.fromkeys(architectures) if one not in have]
        self.architectures += new[: num - rows] if num else new

    def save(self) -> None:
        """Write the file."""
        rows: list[dict[str, Any]] = [{"architecture": one.to_dict(), "runs": []} for one in self.architectures]
        for (row, seed), scores in sorted(self.runs.items()):
            rows[row]["runs"].append({"seed": seed, **scores})
        # A row a line: a diff shows what was trained.
        lines = ",\n".join(f"    {json.dumps(finite(row))}" for row in rows)
        settings, data = (json.dumps(content, indent=2).replace("\n", "\n  ") for content in (self.settings, self.data))
        with atomic_write(self.path) as file:
            file.write(f'{{\n  "settings": {settings},\n  "data": {data},\n  "rows": [\n{lines}\n  ]\n}}\n'.encode())

    def check_data(self, dataset: str, identity: Identity) -> None:
        """Raise UserError where the data is not what the rows were trained on; note it down where there are none."""
        if self.runs:
            check_data(self.path, self.data, identity, dataset, "table")
        self.data = identity.short()

    def missing(self, seeds: Iterable[int]) -> list[tuple[int, int]]:
        """The (row, seed) pairs that are still to be trained, seed by seed."""
        return [(row, seed) for seed in seeds for row in range(len(self.architectures)) if (row, seed) not in self.runs]

    def scores(self, split: str, seeds: Iterable[int]) -> list[float]:
        """The mean over these seeds of each row; NaN for a row that diverged with one, or is not trained with it."""
        wanted, nothing = list(seeds), {split: math.nan}
        rows = range(len(self.architectures))
        return [sum(self.runs.get((row, seed), nothing)[split] for seed in wanted) / len(wanted) for row in rows]

    @property
    def seconds(self) -> float:
        """The mean time of a training."""
        times = [run["seconds"] for run in self.runs.values()]
        return sum(times) / len(times) if times else math.nan


def check_settings(path: Path, saved: dict[str, Any], ours: dict[str, Any], what: str) -> None:
    """Raise UserError, naming the first setting that differs, where a file was made with others than `ours`."""
    for name in sorted({*saved, *ours}):
        if saved.get(name) != ours.get(name):
            default = all_settings()[name].default if name in all_settings() else None
            raise UserError(
                f"{path}: was made with {name} {saved.get(name, default)}, not {ours.get(name, default)}; "
                f"name another {what}, or use its settings"
            )


def check_data(path: Path, saved: dict[str, str], identity: Identity, dataset: str, what: str) -> None:
    """Raise UserError where a file was made on other data."""
    now = identity.short()
    if changed := [name for name in now if now[name] != saved.get(name)]:
        raise UserError(
            f"{path}: was made on other data: {', '.join(changed)} of {dataset} differ; name another {what}, "
            "or put the data back"
        )


def budget(config: Config) -> dict[str, Any]:
    """The settings of a training that differ from the defaults and say what comes out; JSON-ready."""
    defaults = Config(network_type=config.network_type).to_dict()
    return {
        name: value
        for name, value in config.to_dict().items()
        if name not in named(USE) | APART and (value != defaults[name] or name == "network_type")
    }


def architectures_of(space: Space[Any], num: int) -> list[Architecture]:
    """All architectures of a space for 0, else `num` different ones drawn uniformly, the same at every call.

    UserError when the space is too large to be listed, or has fewer than `num`.
    """
    size = math.prod(space.sizes)
    if num == 0:
        if size > LARGEST_SPACE:
            raise UserError(f"num_truth is 0, but the space has {size:,} architectures; give a number")
        return list(dict.fromkeys(space.decode(row) for row in itertools.product(*map(range, space.sizes))))
    if num > size:
        raise UserError(f"num_truth is {num}, but the space has {size:,} architectures")
    drawn: dict[Architecture, None] = {}
    uniform = RandomController(space, generator=torch.Generator().manual_seed(0))
    while len(drawn) < num:
        drawn.update(dict.fromkeys(uniform.sample(num - len(drawn)).architectures))
    return list(drawn)


def train_from_scratch(settings: dict[str, Any], architecture: dict[str, Any], seed: int) -> dict[str, float]:
    """Train an architecture, as `to_dict` gives it, from scratch, in silence, and keep nothing but the scores.

    These are "validation" and "test" of the best epoch, NaN where it diverged, and the "seconds".
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = Config(**{**settings, "mode": "train_scratch", "random_seed": seed, "log_dir": folder})
        results = run.single_or_diverged(config, architecture_from_dict(architecture))
    metric, seconds = config.space.metric.name, round(time.monotonic() - start, 3)
    return {"validation": results[f"validation_{metric}"], "test": results[f"test_{metric}"], "seconds": seconds}


def side_by_side(
    jobs: int, backend: str, tasks: dict[Any, tuple[Any, ...]], done: Callable[[Any, Any], None], description: str
) -> None:
    """Call each of `tasks`, key → (function, arguments …), `jobs` at once, and `done(key, result)` as each ends."""
    if not tasks:
        return
    calls = [joblib.delayed(_keyed)(key, *task) for key, task in tasks.items()]
    at_once = jobs if backend == "ray" else len(calls)  # Ray's back end gives all results of a call at once
    with (
        _cluster(backend, jobs),
        joblib.parallel_config(backend=backend, n_jobs=jobs),
        joblib.Parallel(return_as="list" if backend == "ray" else "generator_unordered") as parallel,
    ):
        results = (pair for start in range(0, len(calls), at_once) for pair in parallel(calls[start : start + at_once]))
        for key, result in progress_bar(results, description, len(tasks)):
            done(key, result)


@contextmanager
def _cluster(backend: str, jobs: int) -> Iterator[None]:
    """Begin the cluster that RAY_ADDRESS or DASK_SCHEDULER_ADDRESS names, or else a local one of `jobs` processes."""
    if backend == "ray":
        import ray
        from ray.util.joblib import register_ray

        with ray.init(ignore_reinit_error=True, num_cpus=None if "RAY_ADDRESS" in os.environ else jobs):
            register_ray()
            yield
    elif backend == "dask":
        from distributed import Client

        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        local = {} if address else {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": None}
        with Client(address, **local):
            yield
    else:
        yield


def _keyed(key: Any, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    keep_memory()  # a worker is a process of its own
    return key, function(*arguments)


def complete(table: Table, config: Config, missing: Iterable[tuple[int, int]], work: Callable[..., None]) -> None:
    """Train the (row, seed) pairs that are missing in a table; it is saved after each training."""
    settings = config.replace(dag_path="").to_dict()
    rows = [one.to_dict() for one in table.architectures]
    tasks = {(row, seed): (train_from_scratch, settings, rows[row], seed) for row, seed in missing}

    def done(pair: tuple[int, int], scores: dict[str, float]) -> None:
        table.runs[pair] = scores
        table.save()

    work(tasks, done, f"table {table.path.name}")

"""Tables of architectures trained from scratch at one budget: the truth that a search is measured against."""

import io
import itertools
import json
import math
import os
import random
import statistics
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky.backend.resource_tracker import ensure_running

from enas.allocator import keep_memory
from enas.config import Config, all_settings, named
from enas.data.identity import digest, identity_of
from enas.errors import UserError
from enas.files import atomic_write, finite, read_json, reading
from enas.runs import run
from enas.runs.folder import only_user
from enas.runs.opening import pick_device
from enas.search.architecture import Architecture, architecture_from_dict
from enas.search.own_code import check_used, names_for_workers, use
from enas.search.record import seconds_in
from enas.search.registry import REWARDS
from enas.search.space import Space
from enas.settings import USE, place
from enas.signals import follow, held_back
from enas.terminal import progress_bar

LARGEST_SPACE = 10_000  # a larger space is sampled
TRIES = 20  # draws for each function: enough to have all, where all are asked for
CURVE_DECIMALS = 5
APART = {"dag_path", "random_seed"}  # settings in which the trainings of a table differ
PLACES: set[str] = set()  # in a worker: folders of its temporary files


class Table:
    """Architectures, each trained from scratch with some seeds at one budget, in a JSON file.

    A missing file is a new table; UserError when the file is damaged, or was made with other settings.

    Attributes:
        config: the settings of every training, besides its seed.
        data: digests of the data of every training; see `enas.data.identity`. Empty if nothing is trained yet.
        runs: the results of each training by (row, seed): "validation" and "test", NaN if it diverged; "seconds"; and
            the "curve", the validation of each epoch, empty in tables that do not have it.
    """

    def __init__(self, path: Path, config: Config):
        self.path, self.config = path, config
        self.architectures: list[Architecture] = []
        self.data: dict[str, str] = {}
        self.runs: dict[tuple[int, int], dict[str, Any]] = {}
        if not path.exists():
            return
        content = read_made(path, config, "table")
        self.data = content["data"]
        with reading(path):
            for index, row in enumerate(content["rows"]):
                self.architectures.append(architecture_from_dict(row["architecture"]))
                for one in row["runs"]:
                    self.runs[index, int(one["seed"])] = _result(**{key: one[key] for key in one if key != "seed"})

    @property
    def functions(self) -> dict[Architecture, list[int]]:
        """The rows of each function, by its canonical form: twins pool their trainings."""
        rows: dict[Architecture, list[int]] = {}
        for row, one in enumerate(self.architectures):
            rows.setdefault(one.canonical(), []).append(row)
        return rows

    def add(self, architectures: Iterable[Architecture], num: int = 0) -> None:
        """Add rows for new functions, all or until there are `num`; UserError if there are too few or too many."""
        have = [*self.functions]
        functions = [*dict.fromkeys([*have, *(one.canonical() for one in architectures)])]
        if num and len(have) > num:
            right = f"give {len(have)} or more, or name another table"
            raise UserError(f"{self.path}: has {len(have)} functions, and num_truth is {num}; {right}")
        if len(functions) < num:
            raise UserError(f"num_truth is {num}, but the space has {len(functions)} functions; give a smaller number")
        self.architectures += functions[len(have) : num or None]

    def pairs(self, seeds: Iterable[int]) -> list[tuple[int, int]]:
        """List the (row, seed) pairs of all trainings with these seeds, seed by seed."""
        return [(row, seed) for seed in seeds for row in range(len(self.architectures))]

    def train(self, pairs: Iterable[tuple[int, int]], work: Callable[..., None]) -> None:
        """Train those (row, seed) pairs that are not yet trained, by `side_by_side`; save the file after each."""
        settings = self.config.replace(dag_path="").to_dict()

        def done(pair: tuple[int, int], results: dict[str, Any]) -> None:
            self.runs[pair] = _result(**finite(results))  # as it will be read
            # If no training of this call has a result, a flag may be wrong, and the file must not keep that.
            if any("trouble" not in self.runs[one] for one in left if one in self.runs):
                self._save()

        if not (missing := [pair for pair in pairs if pair not in self.runs]):
            return
        with only_user(self.path, is_file=True):
            # Another process may have written the file since it was read.
            latest, known = Table(self.path, self.config), {*self.architectures}
            self.architectures += [one for one in latest.architectures if one not in known]
            rows = {one: row for row, one in enumerate(self.architectures)}
            self.runs |= {(rows[latest.architectures[row]], seed): one for (row, seed), one in latest.runs.items()}
            left = [pair for pair in missing if pair not in self.runs]
            as_json = [one.to_dict() for one in self.architectures]
            tasks = {pair: (train_from_scratch, settings, as_json[pair[0]], pair[1]) for pair in left}
            work(tasks, done, f"table {self.path.name}")

    def _save(self) -> None:
        rows: list[dict[str, Any]] = [{"architecture": one.to_dict(), "runs": []} for one in self.architectures]
        for (row, seed), results in sorted(self.runs.items()):
            rows[row]["runs"].append({"seed": seed, **results})
        # One row per line, so that a diff shows the new trainings.
        lines = ",\n".join(f"    {json.dumps(finite(row))}" for row in rows)
        parts = (budget_of(self.config), self.data)
        settings, data = (json.dumps(part, indent=2).replace("\n", "\n  ") for part in parts)
        with atomic_write(self.path) as file:
            file.write(f'{{\n  "settings": {settings},\n  "data": {data},\n  "rows": [\n{lines}\n  ]\n}}\n'.encode())

    def scores(self, split: str, seeds: Collection[int] = ()) -> dict[Architecture, float]:
        """Return the mean of each function's trainings by these or all seeds; NaN if one diverged, or there is none."""
        return {one: statistics.fmean(known or [math.nan]) for one, known in self.trainings(split, seeds).items()}

    def trainings(self, split: str, seeds: Collection[int] = ()) -> dict[Architecture, list[float]]:
        """Return the scores of each function's trainings by these or all seeds."""
        seeds = seeds or {seed for _, seed in self.runs}
        pairs = {one: itertools.product(rows, seeds) for one, rows in self.functions.items()}
        return {one: [self.runs[pair][split] for pair in some if pair in self.runs] for one, some in pairs.items()}

    @property
    def seconds(self) -> float:
        """The mean time of a training that has a result; NaN if there is none."""
        return statistics.fmean([one["seconds"] for one in self.runs.values() if "trouble" not in one] or [math.nan])


def load_table(path: str | Path) -> Table:
    """Return the table in a file, for a test of another search method (docs/tables.md); UserError if it is damaged."""
    with reading(path := Path(place(path))):
        check_used((settings := read_json(path)["settings"]).get("use"), str(path))
        return Table(path, Config(**settings))


def _result(
    validation: float | None, test: float | None, seconds: float, curve: Sequence[float | None] = (), **trouble: str
) -> dict[str, Any]:
    """Return the result of a training; JSON has null for NaN."""
    scores = [math.nan if score is None else float(score) for score in (validation, test, *curve)]
    return {"validation": scores[0], "test": scores[1], "seconds": float(seconds), "curve": scores[2:], **trouble}


def read_made(path: Path, config: Config, flag: str) -> dict[str, Any]:
    """Read a file with its "settings" and "data"; UserError, naming the file's `flag`, for others than `config`'s."""
    content, ours = read_json(path), budget_of(config)
    with reading(path):
        saved, _ = dict(content["settings"]), dict(content["data"])
    for name in sorted({*saved, *ours}):
        if saved.get(name) != ours.get(name):
            default = all_settings()[name].default if name in all_settings() else None
            then, now = (settings.get(name, default) for settings in (saved, ours))
            raise UserError(f"{path}: was made with {name} {then}, not {now}; name another {flag}, or use its settings")
    return content


def checked_data(path: Path, saved: Any, config: Config, data: Any, flag: str) -> dict[str, str]:
    """Return the digests of the data; UserError if a file was made on others, the `saved` ones, which may be None."""
    now = identity_of(data).short()
    if saved is not None and (changed := [name for name in now if now[name] != saved.get(name)]):
        right = f"name another {flag}, or put the data back"
        raise UserError(f"{path}: was made on other data: {', '.join(changed)} of {config.dataset} differ; {right}")
    return now


def budget_of(config: Config) -> dict[str, Any]:
    """Return the settings of a training that differ from the defaults and affect its results; JSON-ready."""
    known = all_settings()
    return {
        name: value
        for name, value in config.to_dict().items()
        if name not in named(USE) | APART and (config.values[name] != known[name].default or name == "network_type")
    }


def digest_of(content: Any) -> str:
    """Return the digest of JSON-ready data."""
    return digest(json.dumps(content, sort_keys=True).encode())


def functions_of(space: Space[Any], num: int, seed: int = 0) -> list[Architecture]:
    """List all functions of a space for 0, else `num` different ones drawn uniformly, the same at every call.

    There are fewer if the space seems to have no more. UserError when it is too large to be listed.
    """
    size = math.prod(map(len, space.allowed))
    if num == 0 and size > LARGEST_SPACE:
        raise UserError(f"num_truth is 0, but the space has {size:,} architectures; give a number of functions")
    if num == 0:
        return list(dict.fromkeys(space.decode(row).canonical() for row in itertools.product(*space.allowed)))
    rng = random.Random(seed)
    return [*dict.fromkeys(space.draw(rng).canonical() for _ in range(TRIES * num))][:num]


def train_from_scratch(settings: dict[str, Any], architecture: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train an architecture, as `to_dict` gives it, from scratch, in silence, and keep nothing but the scores.

    They are "validation" and "test" of the best epoch; the "curve", the validation of each epoch; and the "seconds" of
    a core, or by the clock on a GPU, of all epochs. Without a result, "trouble" says why, see `run.scored`.
    """
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        config = Config(**{**settings, "mode": "train_scratch", "random_seed": seed, "log_dir": folder})
        results = run.train_to(config, architecture_from_dict(architecture))
    metric, history = config.space.metric.name, results.get("history", ())
    scores = {split: results[f"{split}_{metric}"] for split in ("validation", "test")}
    scores |= {name: results[name] for name in ("trouble",) if name in results}
    curve = [entry[f"validation_{metric}"] for entry in history]
    seconds = seconds_in(history[-1], pick_device(settings["num_gpu"]).type) if history else 0.0
    return {**scores, "seconds": seconds, "curve": [score and round(score, CURVE_DECIMALS) for score in curve]}


def side_by_side(
    jobs: int, backend: str, tasks: dict[Any, tuple[Any, ...]], done: Callable[[Any, Any], None], description: str
) -> None:
    """Call each of `tasks`, key → (function, arguments …), `jobs` at once, and `done(key, result)` as each ends."""
    if not tasks:
        return
    jobs = min(jobs, len(tasks))
    given = {name: make for name, make in REWARDS.items() if hasattr(make, "args")}  # to Config; others are in modules
    if backend == "loky" and jobs != 1:
        held_back()(ensure_running)()  # loky's process that tidies up, which SIGHUP would end
    # joblib warns so if an exception leaves one of its generators unfinished.
    warnings.filterwarnings("ignore", r"\d+ tasks (have been|which were)", UserWarning)
    at_once = jobs if backend == "ray" else len(tasks)  # Ray's back end gives all results of a call at once
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,  # of workers, who are killed at a signal
        _cluster(backend, jobs),
        joblib.parallel_config(backend=backend, n_jobs=jobs),
        joblib.Parallel(return_as="list" if backend == "ray" else "generator_unordered") as parallel,
    ):
        ready = joblib.delayed(partial(_keyed, os.getpid(), folder, Path.cwd(), names_for_workers(), given))
        calls = [ready(key, *task) for key, task in tasks.items()]
        begin = held_back()(parallel)  # workers that begin hold signals back, too: their parent ends them
        results = (pair for start in range(0, len(calls), at_once) for pair in begin(calls[start : start + at_once]))
        for pair in progress_bar(results, description, len(tasks)):
            done(*pair)


def _cluster(backend: str, jobs: int) -> AbstractContextManager[Any]:
    """Connect to the cluster at RAY_ADDRESS or DASK_SCHEDULER_ADDRESS, or else begin one of `jobs` processes here."""
    if backend == "ray":
        import ray
        from ray.util.joblib import register_ray

        register_ray()
        return ray.init(ignore_reinit_error=True, num_cpus=None if "RAY_ADDRESS" in os.environ else jobs)
    if backend == "dask":
        from distributed import Client

        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        local = {} if address else {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": None}
        return Client(address, **local)
    return nullcontext()


def _keyed(
    parent: int, folder: str, place: Path, used: list[str], rewards: dict[str, Any], key: Any, *call: Any
) -> tuple[Any, Any]:
    keep_memory()  # a worker is a process of its own, and stays in the folder in which it began
    with suppress(OSError):  # another machine may not have the folder
        os.chdir(place)
    before = tempfile.tempdir
    if os.getppid() == parent:  # not the same process, and none of a cluster
        if not PLACES:
            follow(parent, PLACES)
        PLACES.add(folder)
        tempfile.tempdir = folder
    try:
        use(used)
        REWARDS.update(rewards)
        return key, call[0](*call[1:])
    finally:
        tempfile.tempdir = before

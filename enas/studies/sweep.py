"""Searches with several settings and seeds, side by side: `enas.sweep`."""

import itertools
import math
import statistics
from pathlib import Path
from typing import Any

from enas.config import Config, named
from enas.errors import TrainingDivergedError, UserError
from enas.runs import run
from enas.settings import USE
from enas.studies.truth import digest_of, side_by_side
from enas.terminal import quietable


class Rows(list[dict[str, Any]]):
    """Rows with the same keys, shown in columns."""

    def __repr__(self) -> str:
        rows = [[f"{one:.4g}" if isinstance(one, float) else str(one) for one in row.values()] for row in self]
        widths = [max(map(len, column)) for column in zip(*self[:1], *rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (*self[:1], *rows)) or "no runs"


class Runs(list[run.Run]):
    """Runs; `asked` has each run's values, by its name, of the settings in which they differ besides their seeds."""

    asked: dict[str, dict[str, Any]]

    def table(self, name: str) -> Rows:
        """Return mean and standard deviation of the result `name` over the seeds, of the runs that have this result."""
        rows: dict[tuple[Any, ...], list[run.Run]] = {}
        for one in self:
            rows.setdefault(tuple(self.asked[one.folder.name].items()), []).append(one)
        table = Rows()
        for key, some in rows.items():
            known = [one[name] for one in some if one.get(name) is not None]
            mean, sd = statistics.fmean(known or [math.nan]), statistics.stdev(known) if known[1:] else math.nan
            counts = {"runs": len(some), "diverged": sum(not one for one in some)}
            table.append({**dict(key), **counts, "mean": mean, "sd": sd})
        return table


@quietable
def sweep(config: Config, *, seeds: int = 1, jobs: int = 1, **varied: list[Any]) -> Runs:
    """Search with each combination of the settings in `varied` and the seeds 1, 2, …, `jobs` runs at once.

    A run's name ends in a digest of its settings: the same call goes on with the runs that it has begun.
    """
    tasks: dict[str, tuple[Any, ...]] = {}
    runs = Runs()
    runs.asked = {}
    if wrong := [name for name, one in varied.items() if name == "random_seed" or not isinstance(one, list | tuple)]:
        raise UserError(f"{wrong[0]}: give each setting a list of values; `seeds` is the number of seeds")
    if not all(isinstance(one, int) and one > 0 for one in (seeds, jobs)):
        raise UserError(f"seeds is {seeds!r} and jobs is {jobs!r}; both must be integers, at least 1")
    for *values, seed in itertools.product(*varied.values(), range(1, seeds + 1)):
        one = config.replace(**dict(zip(varied, values, strict=True)), random_seed=seed)
        settings = {name: value for name, value in one.to_dict().items() if name in varied or name not in named(USE)}
        one = one.replace(name=f"{one.dataset}_{one.train_type}_{seed}_{digest_of(settings)[:8]}")
        tasks[one.name] = (_searched, one.to_dict())
        runs.asked[one.name] = {name: getattr(one, name) for name in varied}
    ended: dict[str, run.Run] = {}
    side_by_side(jobs, "loky", tasks, ended.__setitem__, "runs")
    runs.extend(ended[name] for name in tasks)
    return runs


def _searched(settings: dict[str, Any]) -> run.Run:
    """Search, or go on with the search in its folder, in silence; return the run, without results if it diverged."""
    try:
        return run.load(run.train_or_resume(Config(**settings), quiet=True).folder)
    except TrainingDivergedError:
        return run.Run(Path(settings["log_dir"], settings["name"]), {})

"""The looks that strategies take: at a table of a whole space, or at the shared weights of a run."""

import math
import random
from collections.abc import Callable, Iterable
from functools import cache
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from enas.config import Config
from enas.errors import NotFoundError, UserError
from enas.runs.opening import read_run
from enas.search.metric import PERPLEXITY, Metric
from enas.search.space import Space
from enas.studies.truth import LARGEST_SPACE, functions_of, load_table
from enas.terminal import quietable

OURS = Path("ablation_studies") / "tables"
TABLES: dict[str, Callable[[str], "TableLooks"]] = {}  # by --table: makers of tables, given the folder of all data


class TableLooks:
    """A look is the validation of one training, drawn anew each time. The end is judged by the mean of all trainings.

    With one seed, the looks at a function have the same answers in the same order, whichever strategy asks. A look at
    fewer epochs costs these epochs, and a longer one goes on with the same training. A training that diverged or is
    missing counts as the worst of the table.

    Attributes:
        runs: the trainings of each function of the space, see `Table.runs`.
        epochs: those of a whole training; 1 if the table has no curves.
        splits: names of the scores that judge the end.
    """

    def __init__(self, config: Config, space: Space[Any], metric: Metric, runs: dict[Any, list[Any]]):
        self.config, self.space, self.metric, self.runs = config, space, metric, runs
        every = [*chain(*runs.values())]
        self.splits = [split for split in ("validation", "test") if any(math.isfinite(run[split]) for run in every)]
        curves = [run["curve"] for run in every if math.isfinite(run["validation"])]
        self.epochs = max(1, min(map(len, curves), default=1))
        self.worst = {split: self._best((run[split] for run in every), is_worst=True) for split in self.splits}
        self.lost = {**self.worst, "curve": [self._best(some, is_worst=True) for some in zip(*curves, strict=False)]}
        self.num_missing = sum(not some for some in runs.values())

    def _best(self, scores: Iterable[float], is_worst: bool = False) -> float:
        best = max if self.metric.higher_is_better != is_worst else min
        return best(filter(math.isfinite, scores), default=math.nan)

    def begin(self, seed: int) -> None:
        """Forget all looks; the next ones are those of `seed`."""
        self.seed, self.draws, self.begun = seed, dict[Any, random.Random](), dict[Any, tuple[Any, int]]()

    def key(self, architecture: Any) -> Any:
        """Return the function, whose labellings a table does not tell apart; UserError if the table lacks it."""
        if (function := architecture.canonical()) not in self.runs:
            raise UserError(f"{architecture!r:.99} is not in the space")
        return function

    def look(self, function: Any, epochs: int) -> tuple[float, int]:
        """Return the reward after so many epochs, and the number of epochs that this look costs."""
        if function not in self.draws:
            self.draws[function] = random.Random(f"{self.seed} {function}")
        run, done = self.begun.pop(function, (self.lost, epochs))
        if done >= epochs:
            run, done = self.draws[function].choice(self.runs[function] or [self.lost]), 0
        if epochs < self.epochs:
            self.begun[function] = run, epochs
        score = self._after(run, epochs)
        score = self._after(self.lost, epochs) if math.isnan(score) else score
        reward = self.config.reward_c / score if self.metric == PERPLEXITY else -score
        return score if self.metric.higher_is_better else reward, epochs - done

    def _after(self, run: Any, epochs: int) -> float:
        return self._best(run["curve"][:epochs]) if epochs < self.epochs else run["validation"]

    def judge(self, function: Any) -> dict[str, float]:
        runs, worst = self.runs[function] or [self.worst], self.worst
        return {name: fmean(worst[name] if math.isnan(run[name]) else run[name] for run in runs) for name in worst}


class SharedLooks:
    """A look is the score by a run's frozen shared weights on the first `derive_max_batches` validation minibatches.

    The end is judged on all of validation, and by a table, if that holds the architecture.
    """

    epochs, num_missing = 1, 0

    def __init__(self, config: Config, folder: str, table: TableLooks | None):
        trainer = quietable(read_run)(config, Path(folder), quiet=True)
        self.config, self.space, self.table = config, trainer.controller.space, table
        self.task, self.ranking, self.metric = trainer.task, trainer.judge, trainer.task.metric
        self.splits = ["validation", *(f"{split} from scratch" for split in (table.splits if table else ()))]
        self.look, self.judge = cache(self._look), cache(self._judge)
        if table:
            try:
                self.key(next(iter(table.runs)))
            except (AttributeError, UserError) as error:
                raise UserError(f"the table is of another space than {folder}: {error}") from None

    def begin(self, seed: int) -> None:
        """Do nothing: looks are the same for all seeds."""

    def key(self, architecture: Any) -> Any:
        """Return the architecture, as each labelling has weights of its own; UserError if it is not in the space."""
        self.space.encode(architecture)
        return architecture

    def _look(self, architecture: Any, epochs: int) -> tuple[float, int]:
        score = torch.tensor(self.ranking.rank([architecture], self.config.derive_max_batches), dtype=torch.float64)
        return float(self.ranking.as_rewards(score)), 1

    def _judge(self, architecture: Any) -> dict[str, float]:
        function, shared = architecture.canonical(), self.task.evaluate(architecture, "valid")
        alone = self.table.judge(function) if self.table and self.table.runs.get(function) else {}
        return {"validation": shared, **{name: alone.get(name.split()[0], math.nan) for name in self.splits[1:]}}


def open_table(name: str, data_dir: str) -> TableLooks:
    """Return one of `TABLES`, or one of this project, by its path or its name in `OURS`; UserError if it is bad."""
    if name in TABLES:
        return TABLES[name](data_dir)
    path = Path(name) if name.endswith(".json") else OURS / f"{name}.json"
    if not path.is_file():
        known = ", ".join([*TABLES, *sorted(one.stem for one in OURS.glob("*.json"))]) or f"none in {OURS.absolute()}"
        more = "--use examples/nas_bench.py has public ones"
        raise NotFoundError(f"table {name}: there is no {path}; there are {known}; {more}")
    table = load_table(path)
    space = table.config.space.problem().space(table.config)
    if (size := math.prod(map(len, space.allowed))) > LARGEST_SPACE:
        raise UserError(f"table {name}: has a few of {size:,} architectures; give one of a whole space, like cells3")
    runs: dict[Any, list[Any]] = {one: [] for one in functions_of(space, 0)}
    for (row, _), results in sorted(table.runs.items(), key=lambda one: one[0]):
        runs.setdefault(table.architectures[row].canonical(), []).append(results)
    return TableLooks(table.config, space, table.config.space.metric, runs)

"""The record of a run: how far it is, in numbers, and the logbook that the loop writes to."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LARGEST_WRITTEN_OUT = 1e6


@dataclass
class Progress:
    """How far a run is, and the sums of its unfinished epoch: plain numbers, saved in every checkpoint."""

    epoch: int = 0  # finished
    shared_step: int = 0  # of this epoch
    controller_sample: int = 0  # of this epoch
    total_shared_steps: int = 0
    total_controller_updates: int = 0
    value_sum: float = 0.0
    value_count: int = 0
    num_rewarded: int = 0  # samples of this epoch that updated θ
    reward_sum: float = 0.0
    entropy_sum: float = 0.0  # NaN if the controller tells none
    skipped: int = 0
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    lr_scale: float = 1.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    validation: float | None = None
    best: float | None = None
    architecture: dict[str, Any] | None = None  # of the run, with its `validation`
    measured_with: str = ""  # the weights of that validation
    bests: list[str] = field(default_factory=list)  # names of the checkpoints that were the best when they were written
    decisions: list[list[Any]] = field(default_factory=list[Any])  # epoch, and the probabilities of each decision
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Updates of ω and of θ so far: the place in the run, in the names of checkpoints."""
        return self.total_shared_steps + self.total_controller_updates

    def close_epoch(self, metric: str, train: float | None) -> dict[str, Any]:
        """Count the epoch, begin the sums anew, and return its entry in the history; `train` is its training metric."""
        self.epoch += 1
        num = self.num_rewarded
        entry = {
            "epoch": self.epoch,
            f"train_{metric}": train,
            f"validation_{metric}": None,
            "reward": self.reward_sum / num if num else None,
            "entropy": self.entropy_sum / num if num and not math.isnan(self.entropy_sum) else None,
        }
        self.history.append(entry)
        self.shared_step = self.controller_sample = self.value_count = self.num_rewarded = 0
        self.value_sum = self.reward_sum = self.entropy_sum = 0.0
        return entry


class NoLogbook:
    """Writes nothing, for notebooks that want only the result; `enas.runs.logbook` has the one that writes."""

    def __init__(self) -> None:
        self.output_files: dict[str, Path] = {}  # files that the run has written, by kind

    def progress(self, steps: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
        """Yield the items of `steps`; a logbook that writes shows a progress bar."""
        return steps

    info = note = scalars = derived = draw = policy = results = lambda *_, **_settings: None


def flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an epoch's entry with the numbers of its summaries as entries of their own, "policy_median" and so on."""
    parts = {name: value if isinstance(value, dict) else {"": value} for name, value in entry.items()}
    return {f"{name}_{key}" if key else name: value for name, part in parts.items() for key, value in part.items()}


def format_score(score: float) -> str:
    """Return a score as messages show it: perplexities need two decimals, accuracies in 0 … 1 need four."""
    return f"{score:.3g}" if score >= LARGEST_WRITTEN_OUT else f"{score:.{2 if score > 1 else 4}f}"


def describe(entry: dict[str, Any], metric: str, max_epoch: int) -> str:
    """Return a history entry as a short line: the metric in training and on validation, medians of samples, times."""
    epoch, seconds = entry["epoch"], entry["wall_seconds"]
    values = {split: entry[f"{split}_{metric}"] for split in ("train", "validation")}
    if "place" in entry:
        values |= {"policy": entry["policy"]["median"], "uniform": entry["uniform"]["median"]}
    columns = [f"{name} {_short(value):>6}" for name, value in values.items() if value is not None]
    times = f"{epoch_of(epoch, max_epoch)}, {duration(seconds):>6}{time_left(entry, max_epoch):19}"
    return " | ".join([times, *columns])


def epoch_of(epoch: int, max_epoch: int) -> str:
    """Return "epoch 2/8", as wide for each epoch of a run."""
    return f"epoch {epoch:>{len(str(max_epoch))}}/{max_epoch}"


def time_left(entry: dict[str, Any] | None, max_epoch: int) -> str:
    """Return ", about 6 min left", by the mean time of the epochs so far; nothing before the first and at the end."""
    left = 0.0 if entry is None else entry["wall_seconds"] / entry["epoch"] * (max_epoch - entry["epoch"])
    return f", about {duration(left)} left" if left > 0 else ""


def seconds_in(entry: Mapping[str, Any], device: str) -> float:
    """Return the seconds of a run to the end of an epoch; on a "cpu" those of a core, whatever else runs."""
    return entry["cpu_seconds" if device == "cpu" and "cpu_seconds" in entry else "wall_seconds"]


def duration(seconds: float) -> str:
    """Return seconds in the unit that suits them."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def describe_comparison(comparison: dict[str, Any]) -> str:
    """Return `Derivation.comparison` as a log line."""
    spread = "{median} (quartiles {lower_quartile} and {upper_quartile}, best {best})"
    shown = [{name: _short(value) for name, value in comparison[who].items()} for who in ("policy", "uniform")]
    policy, uniform = (spread.format(**values) for values in shown)
    metric, place = comparison["compared_by"].replace("_", " "), comparison["place"]
    held = f"{comparison['samples']} samples, {comparison['functions']} different functions"
    derived = "nothing is derived" if place is None else f"the derived one would be number {place} of the uniform ones"
    return f"{held}; median {metric} of the policy's samples {policy}, of uniform samples {uniform}; {derived}"


def _short(value: float) -> str:
    return f"{value:.1f}" if 10 <= abs(value) < LARGEST_WRITTEN_OUT else f"{value:#.4g}"

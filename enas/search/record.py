"""The record of a run: how far it is, in numbers, and the logbook that the loop writes to."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from enas.search.cost import Cost

LARGEST_WRITTEN_OUT = 1e6
_APART = ("epoch", "wall_seconds", "place", "parameters", "multiply_adds")  # for which `describe` has words of its own


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
    entropy_sum: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    lr_scale: float = 1.0
    seconds: float = 0.0
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
            "entropy": self.entropy_sum / num if num else None,
        }
        self.history.append(entry)
        self.shared_step = self.controller_sample = self.value_count = self.num_rewarded = 0
        self.value_sum = self.reward_sum = self.entropy_sum = 0.0
        return entry


class NoLogbook:
    """Writes nothing: for tests, benchmarks, and notebooks that want only the result.

    `enas.runs.logbook` has the one that writes.
    """

    def __init__(self) -> None:
        self.output_files: dict[str, Path] = {}  # files that the run has written, by kind

    def info(self, line: str) -> None:
        """Write a log line."""

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Add a point to each of the curves `group/name`."""

    def derived(self, architecture: Any, name: str, title: str, step: int) -> None:
        """Write a derived architecture and its picture."""

    def policy(self, space: Any, decisions: list[Any], derived: Any, warm_up_epochs: int, step: int) -> None:
        """Draw the probability of each choice of `space`, epoch by epoch; `decisions` as in `Progress`.

        The choices of the architecture `derived` are marked, and so is the warm-up.
        """

    def results(self, results: dict[str, Any]) -> None:
        """Write results.json."""

    def progress(self, steps: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
        """Yield the items of `steps`, with a progress bar."""
        return steps


def progress_bar(steps: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
    """Yield the items of `steps`, with a tqdm bar on stderr; the bar is hidden if stderr is not a terminal."""
    return tqdm(steps, total=total, desc=description, leave=False, disable=None, dynamic_ncols=True)


def format_score(score: float) -> str:
    """Return a score as messages show it: perplexities need two decimals, accuracies in 0 … 1 need four."""
    if score >= LARGEST_WRITTEN_OUT:
        return f"{score:.3g}"
    return f"{score:.{2 if score > 1 else 4}f}"


def describe(entry: dict[str, Any], max_epoch: int) -> str:
    """Return a history entry as a log line."""
    parts = [f"epoch {entry['epoch']}/{max_epoch}"]
    for name, value in entry.items():
        if not isinstance(value, (dict, str)) and name not in _APART and value is not None:
            parts.append(f"{name.replace('_', ' ')} {_short(value)}")
    if "place" in entry:
        parts.append(describe_comparison(entry))
    if "parameters" in entry:
        parts.append(str(Cost(entry["parameters"], entry["multiply_adds"])))
    return ", ".join(parts) + f" ({entry['wall_seconds']:.0f} s)"


def describe_comparison(comparison: dict[str, Any]) -> str:
    """Return `Derivation.comparison` as a part of a log line."""
    policy, uniform = (_spread(comparison[who]) for who in ("policy", "uniform"))
    metric, place = comparison["compared_by"].replace("_", " "), comparison["place"]
    derived = "nothing derived" if place is None else f"derived in place {place} among those"
    return f"median {metric} of the policy {policy}, of uniform {uniform}, {derived}"


def _short(value: float) -> str:
    return f"{value:.1f}" if 10 <= abs(value) < LARGEST_WRITTEN_OUT else f"{value:.4g}"


def _spread(values: dict[str, float]) -> str:
    quartiles = f"quartiles {_short(values['lower_quartile'])} and {_short(values['upper_quartile'])}"
    return f"{_short(values['median'])} ({quartiles}, best {_short(values['best'])})"

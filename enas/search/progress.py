"""How far a run is, and how an epoch reads as a log line."""

from dataclasses import dataclass, field
from typing import Any

from enas.search.cost import Cost
from enas.search.record import LARGEST_WRITTEN_OUT


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
        """Updates of ω and of θ so far: where the run is, in the names of checkpoints."""
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


_APART = ("epoch", "wall_seconds", "place", "parameters", "multiply_adds")


def describe(entry: dict[str, Any], max_epoch: int) -> str:
    """A history entry as a log line."""
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
    """`Derivation.comparison` as a part of a log line."""
    policy, uniform = (_spread(comparison[who]) for who in ("policy", "uniform"))
    metric, place = comparison["compared_by"].replace("_", " "), comparison["place"]
    derived = "nothing derived" if place is None else f"derived in place {place} among those"
    return f"median {metric} of the policy {policy}, of uniform {uniform}, {derived}"


def _short(value: float) -> str:
    return f"{value:.1f}" if 10 <= abs(value) < LARGEST_WRITTEN_OUT else f"{value:.4g}"


def _spread(values: dict[str, float]) -> str:
    median, lower, upper, best = (
        _short(values[name]) for name in ("median", "lower_quartile", "upper_quartile", "best")
    )
    return f"{median} (quartiles {lower} and {upper}, best {best})"

"""Several processes: how much faster than one they are, and how much of a shared step is the exchange of gradients.

OMP_NUM_THREADS=1 torchrun --nproc_per_node=2 -m benchmarks.ranks --config ptb_small --num_gpu 0 --precision float32
"""

import statistics
import sys
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.measure import Action, seconds
from benchmarks.problems import trainer
from enas.config import Config
from enas.guard import guarded
from enas.parser import Parser, parse_flags
from enas.runs.opening import pick_device
from enas.search.ranks import ALONE, Ranks, join

ROUNDS = 10
SCORED = 10


def main(argv: list[str] | None = None) -> int:
    """Measure as the flags say; returns the exit status."""
    return guarded(lambda: _measure(Config(**parse_flags(Parser(__doc__.splitlines()[0]), argv))))


def _measure(config: Config) -> None:
    ranks, device = join(config.num_gpu, config.rank_timeout), pick_device(config.num_gpu)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    together = _actions(config, ranks, device, ranks.size)
    alone = _actions(config, ALONE, device, ranks.size) if ranks.is_first else together
    lines = ["| | together, ms | alone, ms | times faster | efficiency |", "|---|---|---|---|---|"]
    for action, same in zip(together, alone, strict=True):
        pairs = [_pair(action, same, ranks, device) for _ in range(ROUNDS + 1)][1:]  # the first warms up
        both, one = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
        faster = statistics.median(one / both for both, one in pairs)
        lines.append(f"| {action.name} | {both:.1f} | {one:.1f} | {faster:.2f} | {faster / ranks.size:.2f} |")
    lines += ["", *_split(config, ranks, device)]
    if ranks.is_first:
        print("\n".join(lines))


@dataclass(frozen=True)
class _Timed(Ranks):
    """Processes that note how long each average of gradients took, without waiting for the slowest, and its bytes."""

    noted: list[tuple[float, int]] = field(default_factory=list)

    def average(self, model: nn.Module, *values: Tensor) -> tuple[Tensor, ...]:
        self.largest(0)  # all begin at once
        begun = time.perf_counter()
        averages = super().average(model, *values)
        size = sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.grad is not None)
        self.noted.append((time.perf_counter() - begun, size))
        return averages


def _split(config: Config, ranks: Ranks, device: torch.device) -> list[str]:
    """Return a table of one row: the time of a shared step, and of the average within it."""
    timed = _Timed(ranks.rank, ranks.size)
    search = trainer(config, device, ranks=timed)
    mine = timed.share(search.controller.sample(config.shared_num_sample * timed.size).architectures)
    steps = [timed.largest(round(1e6 * seconds(lambda: search.shared_step(mine), device))) for _ in range(ROUNDS + 1)]
    average, size = (statistics.median(column) for column in zip(*timed.noted[1:], strict=True))
    step = statistics.median(steps[1:]) / 1e3
    return [
        "| processes | step, ms | average of gradients, ms | gradients, MB |",
        "|---|---|---|---|",
        f"| {timed.size} | {step:.0f} | {1e3 * average:.1f} | {size / 1e6:.1f} |",
    ]


def _actions(config: Config, ranks: Ranks, device: torch.device, size: int) -> list[Action]:
    """Return a shared step of `size` processes' architectures, and scoring ten, by `ranks`."""
    search = trainer(config, device, ranks=ranks)
    trained = ranks.share(search.controller.sample(config.shared_num_sample * size).architectures)
    scored = search.controller.sample(SCORED).architectures
    return [
        Action(f"shared step of {config.shared_num_sample * size}", lambda: search.shared_step(trained), 1, "steps"),
        Action(f"{SCORED} scored", lambda: ranks.divided(search.task.rewards, scored), SCORED, "architectures"),
    ]


def _pair(together: Action, alone: Action, ranks: Ranks, device: torch.device) -> tuple[float, float]:
    """Seconds of all processes together, and of the first one alone while the others wait for it."""
    ranks.largest(0)  # all begin at once
    both = seconds(together.run, device)
    return both, ranks.from_first(lambda: seconds(alone.run, device))


if __name__ == "__main__":
    sys.exit(main())

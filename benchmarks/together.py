"""Cells trained from scratch side by side in one process: how much faster than one after the other.

python -m benchmarks.together --config ptb_small_final --num_together 4
"""

import statistics
import sys

from benchmarks.measure import seconds
from benchmarks.problems import trainer
from enas.cli import guarded
from enas.config import Config
from enas.runs.commands import parse_flags
from enas.runs.run import TOGETHER_ON_GPU, pick_device
from enas.training.checkpoint import Draws
from enas.training.together import Member, step_together

ROUNDS = 10


def main(argv: list[str] | None = None) -> int:
    """Measure as the flags say; returns the exit status."""
    return guarded(lambda: _measure(Config(**parse_flags(argv, __doc__.splitlines()[0]))))


def _measure(config: Config) -> None:
    config, device = config.replace(mode="train_scratch", scratch_random_length=False), pick_device(config.num_gpu)
    num = config.num_together or TOGETHER_ON_GPU
    cells = config.space.controllers["random"](config).sample(num).architectures
    members = []
    for cell in cells:
        one = trainer(config, device, architecture=cell)
        config = config.replace(precision=one.task.precision)
        members.append(Member(one, Draws()))
    trainers = [member.trainer for member in members]

    def one_by_one() -> None:
        for one in trainers:
            one.shared_step([one.architecture])

    def at_once() -> None:
        step_together(members)

    pairs = [(seconds(one_by_one, device), seconds(at_once, device)) for _ in range(ROUNDS + 1)]
    del pairs[0]  # which warmed up
    apart, together = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print("| cells | precision | one after the other, ms | side by side, ms | times faster |\n|---|---|---|---|---|")
    print(f"| {num} | {config.precision} | {apart:.1f} | {together:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    sys.exit(main())

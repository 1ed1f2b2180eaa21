"""The controller: sampling, and the gradient of an update, the scoring of the samples left out.

python -m benchmarks.controller --config ptb
"""

import sys

import torch

from benchmarks.command import Benchmark, main
from benchmarks.measure import Action
from benchmarks.problems import trainer
from enas.config import Config
from enas.search.trainer import Trainer

SAMPLES = (1, 10, 100)
GROWTHS = {"num_blocks": (3, 6, 12), "samples": (1, 10, 100, 1000)}


def actions(config: Config, device: torch.device) -> list[Action]:
    """Return sampling, and an update."""
    search = trainer(config, device)
    return [*(_sampling(search, num) for num in SAMPLES), _update(search, config.controller_num_aggregate)]


def grown(config: Config, name: str, value: int, device: torch.device) -> list[Action]:
    """Return the same actions with another size."""
    num = value if name == "samples" else config.controller_num_aggregate
    search = trainer(config if name == "samples" else config.replace(**{name: value}), device)
    return [_sampling(search, num), _update(search, num)]


def _sampling(search: Trainer, num: int) -> Action:
    def sample() -> None:
        with torch.no_grad():
            search.controller.sample(num)

    return Action(f"{num} sampled", sample, num, "architectures")


def _update(search: Trainer, num: int) -> Action:
    search.task.rewards = lambda architectures: torch.rand(len(architectures), device=search.task.device)
    return Action(f"update by {num}", lambda: search.update_controller(num), num, "architectures")


BENCHMARK = Benchmark(__doc__.splitlines()[0], {}, actions, GROWTHS, grown)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))

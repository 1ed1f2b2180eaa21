"""Convolutional networks: shared steps, and scoring, of ten sampled networks one after the other: they differ in cost.

python -m benchmarks.cnn --config cifar_macro_small --grow cnn_hid,cnn_num_layers
"""

import sys

import torch

from benchmarks.command import Benchmark, main
from benchmarks.measure import Action
from benchmarks.problems import trainer
from enas.config import Config
from enas.search.trainer import Trainer

NETWORKS = 10
GROWTHS = {"cnn_hid": (12, 24, 48), "cnn_num_layers": (3, 6, 12), "batch_size": (32, 64, 128)}


def actions(config: Config, device: torch.device) -> list[Action]:
    """Shared steps, and scoring."""
    search = trainer(config, device)
    return _actions(search, search.controller.sample(NETWORKS).architectures)


def grown(config: Config, name: str, value: int, device: torch.device) -> list[Action]:
    """Return the same actions with another size."""
    return actions(config.replace(**{name: value}), device)


def _actions(search: Trainer, networks: list) -> list[Action]:
    config = search.task.config

    def steps() -> None:
        for network in networks:
            search.shared_step([network])

    scored = len(networks) * (config.reward_batch_size or config.batch_size)
    return [
        Action(f"{NETWORKS} shared steps", steps, len(networks) * config.batch_size, "images"),
        Action(f"{NETWORKS} scored", lambda: search.task.rewards(networks), scored, "images"),
    ]


BENCHMARK = Benchmark(__doc__.splitlines()[0], {"network_type": "cnn"}, actions, GROWTHS, grown)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))

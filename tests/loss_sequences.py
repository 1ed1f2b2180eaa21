"""What a few short runs compute in float64, step by step, as recorded in loss_sequences.json.

python tests/loss_sequences.py    records it anew, where a change is meant to change what runs compute
"""

import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import tiny
import torch

from enas.search.record import NoLogbook

RECORD = Path(__file__).resolve().parent / "loss_sequences.json"
SEARCH = {"max_epoch": 2, "shared_max_step": 4, "controller_max_step": 6, "controller_num_aggregate": 2}
CNN = {"network_type": "cnn", **SEARCH}
SINGLE = {"max_epoch": 2, "shared_max_step": 4}
# Settings of each search; those from scratch name the network of `tiny` that they train.
SEARCHES = {
    "orig": {**SEARCH, "shared_num_sample": 2},
    "flexible": {**SEARCH, "train_type": "flexible", "baseline": "leave_one_out", "advantage_spread_decay": 0.9},
    "regularised": {
        **SEARCH, "shared_activation_reg": 1.0, "shared_temporal_activation_reg": 1.0, "shared_norm_stabilizer": 1.0,
        "shared_dropouth": 0.2, "shared_optim": "adam", "shared_lr": 0.01, "entropy_mode": "regularizer",
    },
    "independent": {**SEARCH, "controller_type": "independent", "controller_start": 0.5, "shared_num_sample": 2},
    "macro": {**CNN, "max_flops": 100_000},
    "micro": {**CNN, "cnn_space": "micro", "cnn_reward": "log_likelihood", "reward_batch_size": 12, "cnn_cutout": 4},
}  # fmt: skip
SCRATCH = {"scratch macro": {"network_type": "cnn"}, "scratch micro": {"network_type": "cnn", "cnn_space": "micro"}}


class Recorder(NoLogbook):
    """Keeps every point of every curve."""

    def __init__(self):
        self.curves: dict[str, list[float]] = defaultdict(list)

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.curves[f"{group}/{name}"].append(value)


def sequences() -> dict[str, dict[str, list[float]]]:
    """The curves of each run, computed now."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        found = {name: _curves(**changes) for name, changes in SEARCHES.items()}
        return found | {name: _curves(is_scratch=True, **changes) for name, changes in SCRATCH.items()}
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def _curves(is_scratch: bool = False, **changes) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        if is_scratch:
            network = tiny.NETWORKS[changes.get("cnn_space", "macro")]
            trainer = tiny.scratch_trainer(Path(folder), network, **SINGLE, **changes)
        else:
            trainer = tiny.trainer(Path(folder), **changes)
        if "network_type" in changes:
            task = trainer.task
            task._mean, task._std = task._mean.double(), task._std.double()
        trainer.logbook = Recorder()
        trainer.train()
        return dict(trainer.logbook.curves)


if __name__ == "__main__":
    RECORD.write_text(json.dumps(sequences(), indent=1) + "\n")
    sys.exit(0)

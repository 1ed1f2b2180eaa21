"""Complete, atomic checkpoints: everything that a run needs to go on exactly where it was.

A checkpoint is loaded on the CPU, wherever it was saved; `load_state_dict` copies it to where the run computes.
"""

import random
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import PicklingError
from typing import Any

import numpy as np
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from enas.errors import NotFoundError, UserError
from enas.files import atomic_write, opened, reading
from enas.search.ranks import ALONE, Ranks
from enas.search.record import Progress


def random_states() -> dict[str, Any]:
    """Return the random states of Python, NumPy and torch (CPU and each GPU), as tensors and plain data."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Go on from `random_states`."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@dataclass
class Checkpoints:
    """The checkpoints of a run, `EPOCH-STEP.pt` in one folder.

    Each names, in `progress.bests`, the checkpoints that were the run's best when they were written. So one rename
    makes a checkpoint both the newest and the best, and a run killed at any moment leaves the two in agreement.
    """

    folder: Path  # made when the first checkpoint is saved
    max_save_num: int = 1  # number of newest checkpoints to keep
    ranks: Ranks = ALONE  # the processes of the run; only the first one reads and writes

    def save(self, state: dict[str, Any], name: str, bests: Sequence[str] = ()) -> None:
        """Write a checkpoint; then keep the newest `max_save_num`, and of `bests` the last one before them."""
        if not self.ranks.is_first:
            return
        with atomic_write(self.folder / name) as file:
            try:
                torch.save(state, file)
                file.flush()
                if unknown := get_unsafe_globals_in_checkpoint(file.name):
                    raise PicklingError(f"no checkpoint can hold {', '.join(unknown)}")
            except (PicklingError, AttributeError, TypeError) as error:  # pickle raises all three
                raise UserError(f"{self.folder / name}: {error}; a state holds tensors and plain data alone") from error
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # torch could not close the archive that it could not write
                    raise error.__context__ from None
                raise
        # After a fallback to an older checkpoint, delete the later ones: the newest is taken.
        kept = [path for path in self.paths() if path.name <= name][-self.max_save_num :]
        # A run whose newer checkpoints are damaged goes on from the oldest, which names an older best one.
        best = [self.folder / name for name in bests if name <= kept[0].name][-1:]
        for path in {*self.paths()} - {*kept, *best}:
            path.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """Return the files of the checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("*.pt") if re.fullmatch(r"\d+-\d+\.pt", path.name))

    def newest(self, report: Callable[[str], object] = str, below: float = float("inf")) -> tuple[Path, dict[str, Any]]:
        """Return the newest readable checkpoint, if possible of fewer than `below` shared steps; UserError for none."""

        def found() -> tuple[Path, dict[str, Any]]:
            first, spare = None, None
            for path in reversed(self.paths()):
                try:
                    one = path, _of_run(path)
                    spare = spare or one
                    if one[1]["progress"]["total_shared_steps"] < below:
                        return one
                except UserError as error:
                    report(f"{error}; trying the checkpoint before it")
                    first = first or UserError(f"{error}; no older checkpoint can be read")
            if spare:
                return spare
            raise first or NotFoundError(f"{self.folder}: no checkpoint; the run has not come to its first one")

        return self.ranks.from_first(found)

    def best(self) -> tuple[Path, dict[str, Any]]:
        """Return the best checkpoint, as the newest readable one names it; UserError if it is missing or damaged."""
        newest = self.newest()[1]["progress"]

        def found() -> tuple[Path, dict[str, Any]]:
            path = self.folder.joinpath(*newest["bests"][-1:])
            if path not in self.paths():
                raise NotFoundError(f"{path}: no best checkpoint; the run had none yet, or the file was removed")
            state = _of_run(path)
            if (score := state["progress"]["best"]) != newest["best"]:
                raise UserError(f"{path}: has the best score {score}, and the newest checkpoint has {newest['best']}")
            return path, state

        return self.ranks.from_first(found)


def checkpoint_name(epoch: int, step: int) -> str:
    """Return the file name of a checkpoint; later ones sort after earlier ones."""
    return f"{epoch:05d}-{step:08d}.pt"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state in a checkpoint file; UserError, naming it, if it is damaged."""
    with opened(path) as file, reading(path):
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():  # torch.load does not notice a wrong checksum
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        return torch.load(path, map_location="cpu", weights_only=True)


def _of_run(path: Path) -> dict[str, Any]:
    """Return the state in a run's checkpoint; UserError, naming it, without the parts of every run, of their kinds."""
    state = load_checkpoint(path)
    with reading(path):
        progress, perhaps = state["progress"], {"validation": 0.0, "best": 0.0, "architecture": state["task"]["model"]}
        for name, one in (vars(Progress()) | perhaps).items():
            if name not in perhaps or progress[name] is not None:
                type(one)(progress[name])  # which refuses another kind
        "".join(progress["bests"])
    return state

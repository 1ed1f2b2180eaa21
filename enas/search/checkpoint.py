"""Complete, atomic checkpoints: everything that a run needs to go on exactly where it was.

A checkpoint is loaded on the CPU, wherever it was saved; `load_state_dict` copies it to where the run computes.
"""

import random
import re
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from enas.errors import NotFoundError, UserError
from enas.files import atomic_write, opened
from enas.search.ranks import ALONE, Ranks


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
        """Write a checkpoint; then keep the newest `max_save_num`, and of `progress.bests` the last one before them."""
        if not self.ranks.is_first:
            return
        with atomic_write(self.folder / name) as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # torch could not close the archive that it could not write
                    raise error.__context__ from None
                raise
        # After a fallback to an older checkpoint, delete the later ones: load_newest would pick them.
        kept = [path for path in self.paths() if path.name <= name][-self.max_save_num :]
        # A run whose newer checkpoints are damaged goes on from the oldest, which names an older best one.
        best = [self.folder / name for name in bests if name <= kept[0].name][-1:]
        for path in {*self.paths()} - {*kept, *best}:
            path.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """Return the files of the checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("*.pt") if re.fullmatch(r"\d+-\d+\.pt", path.name))

    def load_newest(self, report: Callable[[str], object] = lambda line: None) -> dict[str, Any]:
        """Return the newest readable checkpoint; `report` gets a line on each newer one. UserError if there is none."""

        def newest() -> dict[str, Any]:
            paths = self.paths()
            if not paths:
                raise NotFoundError(f"{self.folder}: no checkpoint; the run was stopped before its first one")
            for path in reversed(paths):
                with suppress(UserError):
                    return load_checkpoint(path)
                report(f"{path}: unreadable checkpoint (truncated or damaged); trying the one before it")
            raise UserError(f"{paths[-1]}: unreadable checkpoint (truncated or damaged), and no older one can be read")

        return self.ranks.from_first(newest)

    def load_best(self) -> dict[str, Any]:
        """Return the best checkpoint, as the newest readable one names it; UserError if it is missing or damaged."""
        path = self.folder.joinpath(*self.load_newest()["progress"].get("bests", [])[-1:])
        if not self.ranks.from_first(path.is_file):
            raise NotFoundError(f"{path}: no best checkpoint; the run had none yet, or the file was removed")
        return self.ranks.from_first(lambda: load_checkpoint(path))


def checkpoint_name(epoch: int, step: int) -> str:
    """Return the file name of a checkpoint; later ones sort after earlier ones."""
    return f"{epoch:05d}-{step:08d}.pt"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state in a checkpoint file; UserError, naming the file, if it is damaged."""
    with opened(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()  # torch.load does not notice a wrong checksum
            if damaged:
                raise zipfile.BadZipFile(f"{damaged} is damaged")
            return torch.load(path, map_location="cpu", weights_only=True)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # zipfile and torch raise errors of many types
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{path}: unreadable checkpoint: {reason}") from None


def misfit(expected: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Return why a run whose state is `expected` cannot load `found`, by tensors' names and shapes; None if it can."""
    if expected.keys() - found.keys():
        return f"it holds {', '.join(found)}, not {', '.join(expected)}"
    pairs = [(state["task"]["model"], state.get("controller", {})) for state in (expected, found)]
    for mine, saved in zip(*pairs, strict=True):
        if mine.keys() != saved.keys():
            return f"other weights: {', '.join(sorted(mine.keys() ^ saved.keys())[:3])}"
        for name, weight in mine.items():
            if isinstance(weight, torch.Tensor) and weight.shape != saved[name].shape:
                return f"{name} has shape {list(saved[name].shape)}, not {list(weight.shape)}"
    return None

"""Complete, atomic checkpoints: everything that a run needs to go on exactly where it was."""

import random
import re
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from enas.files import atomic_write

BEST = "best.pt"


def random_states() -> dict:
    """The random states of Python, NumPy and torch (CPU and each GPU), as plain data."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def restore_random_states(states: dict) -> None:
    """Go on from `random_states`."""
    random.setstate(states["python"])
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"].cpu())
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Checkpoints:
    """The checkpoints of a run, `EPOCH-STEP.pt` in one folder, with the best one kept as `best.pt`.

    Args:
        folder: made when the first checkpoint is saved.
        max_save_num: how many of the newest to keep.
    """

    def __init__(self, folder: Path, max_save_num: int = 1):
        self.folder = folder
        self.max_save_num = max_save_num

    def save(self, state: dict, *, epoch: int, step: int, is_best: bool) -> Path:
        """Write `state` (tensors and plain data), then remove what is older than the newest `max_save_num`."""
        path = self.folder / f"{epoch:05d}-{step:08d}.pt"
        with atomic_write(path) as file:
            torch.save(state, file)
        if is_best:
            with atomic_write(self.folder / BEST) as file:
                file.write(path.read_bytes())
        self._prune(path)
        return path

    def _prune(self, newest: Path) -> None:
        # What is named later than the newest is of a future that was given up: nobody could read it, or go on from it.
        kept = [path for path in self.paths() if path <= newest][-self.max_save_num :]
        unfinished = self.folder.glob(".*.pt.*")  # by a run that was killed while it wrote
        for path in {*self.paths(), *unfinished} - {*kept}:
            path.unlink()

    def paths(self) -> list[Path]:
        """The checkpoints, oldest first, `best.pt` not among them."""
        return sorted(path for path in self.folder.glob("*.pt") if re.fullmatch(r"\d+-\d+\.pt", path.name))

    def load_newest(self, report=lambda line: None, device: str | torch.device = "cpu") -> dict:
        """The newest checkpoint that can be read; each newer one that cannot is told to `report`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: there are some, and none can be read.
        """
        paths = self.paths()
        if not paths:
            raise FileNotFoundError(f"{self.folder}: no checkpoint; the run was stopped before its first one")
        for path in reversed(paths):
            with suppress(ValueError):
                return load_checkpoint(path, device)
            report(f"{path}: unreadable checkpoint (truncated or damaged); trying the one before it")
        raise ValueError(f"{paths[-1]}: unreadable checkpoint (truncated or damaged), and no older one can be read")


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict:
    """The state in a checkpoint file; ValueError, naming it, when it cannot be read."""
    try:
        _check_sums(path)
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # there is no end to what a damaged file makes the unpickler raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path}: unreadable checkpoint: {reason}") from None


def _check_sums(path: Path) -> None:
    """Raise ValueError when a part of the file is not what was written: torch.load takes damaged weights."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"{damaged} is damaged")

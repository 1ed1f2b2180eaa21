"""What a run writes down: TensorBoard, train.log, params.json, results.json, pictures and progress bars."""

import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import imageio.v3 as imageio
import tensorboardX
from tqdm import tqdm

from enas.runs.files import write_json
from enas.runs.mirror import Mirror

LARGEST_WRITTEN_OUT = 1e6


def format_score(score: float) -> str:
    """A score as messages show it: perplexities need two decimals, accuracies in 0 … 1 need four."""
    if score >= LARGEST_WRITTEN_OUT:
        return f"{score:.3g}"
    return f"{score:.{2 if score > 1 else 4}f}"


class Logbook:
    """The written record of a run, in its folder.

    Args:
        folder: the run folder, which exists.
        purge_step: TensorBoard entries from this step on are void: a resumed run writes them again.
        curves: whether TensorBoard gets anything; the log and the results are written all the same.
        mirror: gets what TensorBoard gets.
    """

    def __init__(
        self, folder: Path, purge_step: int | None = None, *, curves: bool = True, mirror: Mirror | None = None
    ):
        self.folder = folder
        self._mirror = mirror
        # The name holds the second; two logbooks of one second must not share a file, and are read in order of names.
        suffix = f".{time.time_ns()}"
        self._writer = tensorboardX.SummaryWriter(
            str(folder), purge_step=purge_step, filename_suffix=suffix, write_to_disk=curves
        )
        self._log = logging.Logger(f"enas.{folder.name}")
        file = logging.FileHandler(folder / "train.log", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._log.addHandler(file)

    def info(self, line: str) -> None:
        """A log line: on the terminal and in train.log."""
        self._log.info(line)
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """TensorBoard curves `group/name`."""
        named = {f"{group}/{name}": value for name, value in values.items()}
        for name, value in named.items():
            self._writer.add_scalar(name, value, step)
        if self._mirror and named:
            self._mirror.scalars(named, step)

    def picture(self, tag: str, path: Path, step: int) -> None:
        """A PNG for TensorBoard; a drawing left as .dot is skipped."""
        if path.suffix != ".png":
            return
        self._writer.add_image(tag, imageio.imread(path)[..., :3], step, dataformats="HWC")
        if self._mirror:
            self._mirror.picture(tag, path, step)

    def results(self, results: dict) -> None:
        """Rewrite results.json."""
        write_json(self.folder / "results.json", results)

    def progress(self, steps: Iterable, description: str, total: int | None = None) -> Iterable:
        """`steps` with a progress bar, on a terminal; `total` is their number where they cannot tell it."""
        return progress_bar(steps, description, total)

    def close(self) -> None:
        """Flush and close every file."""
        self._writer.close()
        if self._mirror:
            self._mirror.close()
        for handler in self._log.handlers:
            handler.close()


class NoLogbook:
    """Writes nothing: for tests, benchmarks, and notebooks that want only the result."""

    def info(self, line: str) -> None:
        """Nothing."""

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Nothing."""

    def picture(self, tag: str, path: Path, step: int) -> None:
        """Nothing."""

    def results(self, results: dict) -> None:
        """Nothing."""

    def progress(self, steps: Iterable, description: str, total: int | None = None) -> Iterable:
        """`steps`, bare."""
        return steps

    def close(self) -> None:
        """Nothing."""


def progress_bar(steps: Iterable, description: str, total: int | None = None) -> Iterable:
    """A tqdm bar on stderr, hidden where stderr is not a terminal."""
    return tqdm(steps, total=total, desc=description, leave=False, disable=None, dynamic_ncols=True)

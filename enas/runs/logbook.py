"""What a run writes down: TensorBoard, train.log, params.json, results.json, pictures and progress bars."""

import logging
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from enas.errors import UserError
from enas.files import write_json
from enas.runs.curves import Curves
from enas.runs.mirror import Mirror
from enas.search.record import NoLogbook, progress_bar


class Logbook(NoLogbook):
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
        self._curves = Curves(folder, purge_step) if curves else None
        self._log = logging.Logger(f"enas.{folder.name}")
        file = _LogFile(folder / "train.log", encoding="utf-8")
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
        if self._curves:
            self._curves.scalars(named, step)
        if self._mirror and named:
            self._mirror.scalars(named, step)

    def picture(self, tag: str, path: Path, step: int) -> None:
        """A PNG for TensorBoard; a drawing left as .dot is skipped."""
        if path.suffix != ".png":
            return
        if self._curves:
            self._curves.picture(tag, path, step)
        if self._mirror:
            self._mirror.picture(tag, path, step)

    def results(self, results: dict[str, Any]) -> None:
        """Rewrite results.json."""
        write_json(self.folder / "results.json", results)
        if self._curves:
            self._curves.flush()

    def progress(self, steps: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
        """`steps` with a progress bar, on a terminal; `total` is their number where they cannot tell it."""
        return progress_bar(steps, description, total)

    def close(self) -> None:
        """Flush and close every file."""
        for handler in self._log.handlers:
            handler.close()
        if self._mirror:
            self._mirror.close()
        if self._curves:
            self._curves.close()


class _LogFile(logging.FileHandler):
    """A log file that ends the run where it cannot be written, in place of tracebacks beside it."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise UserError(f"{self.baseFilename}: cannot be written ({sys.exc_info()[1]}); make room")

    def close(self) -> None:
        with suppress(OSError):  # what is left in memory could not be written before, and has been said
            super().close()

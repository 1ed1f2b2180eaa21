"""What a run writes down as it goes: TensorBoard, train.log, results.json, pictures and progress bars."""

import logging
import sys
from collections.abc import Callable
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
    """The written record of a run, in its folder, which exists.

    Args:
        last: see `Curves`.
        curves: whether TensorBoard gets anything; `mirror` gets what TensorBoard gets.
        draw: makes a picture of an architecture: (architecture, path, title) to the file written.
    """

    def __init__(
        self,
        folder: Path,
        last: tuple[int, int] | None = None,
        *,
        curves: bool = True,
        mirror: Mirror | None = None,
        draw: Callable[[Any, Path, str], Path] | None = None,
    ):
        super().__init__()
        self.folder = folder
        self._draw = draw
        self._curves = Curves(folder, last) if curves else None
        self._pages = [page for page in (self._curves, mirror) if page]
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
        for page in self._pages if named else ():
            page.scalars(named, step)

    def derived(self, architecture: Any, name: str, title: str, step: int) -> None:
        """Write an architecture as a JSON file, and a picture."""
        path = self.folder / "architectures" / f"{name}.json"
        write_json(path, architecture.to_dict())
        self.output_files["architecture"] = path
        if self._draw is not None:
            picture = self._draw(architecture, self.folder / "networks" / f"{name}.png", title)
            self._picture("derive/best", picture, step)
            self.output_files["picture"] = picture

    def policy(self, space: Any, decisions: list[Any], derived: Any, warm_up_epochs: int, step: int) -> None:
        """Draw the probability of each choice, epoch by epoch, if there is one; `decisions` as in `Progress`."""
        if all(len(names) == 1 for names in space.choices):
            return
        from enas.pictures.plots import policy_figure, write_figure  # loads matplotlib, which takes a second

        encoded = () if derived is None else space.encode(derived)
        figure = policy_figure(space.choices, decisions, encoded, warm_up_epochs)
        path = write_figure(figure, self.folder / "policy.png")
        self._picture("derive/policy", path, step)
        self.output_files["policy"] = path

    def _picture(self, tag: str, path: Path, step: int) -> None:
        """A PNG for TensorBoard; a drawing left as .dot is skipped."""
        for page in self._pages if path.suffix == ".png" else ():
            page.picture(tag, path, step)

    def results(self, results: dict[str, Any]) -> None:
        """Rewrite results.json."""
        write_json(self.folder / "results.json", results)
        if self._curves:
            self._curves.flush()

    progress = staticmethod(progress_bar)

    def close(self) -> None:
        for handler in self._log.handlers:
            handler.close()
        for page in reversed(self._pages):
            page.close()


class _LogFile(logging.FileHandler):
    """A log file that ends the run where it cannot be written, in place of tracebacks beside it."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise UserError(f"{self.baseFilename}: cannot be written ({sys.exc_info()[1]}); make room")

    def close(self) -> None:
        with suppress(OSError):  # what is left in memory could not be written before, and has been said
            super().close()

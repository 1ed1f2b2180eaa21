"""Lines and progress bars of runs, on the terminal or in a notebook; both can be silenced."""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

LOGGER = logging.getLogger("enas")  # of the lines that runs print


class _Terminal(logging.Handler):
    """Prints lines on stdout, above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(record.getMessage(), file=sys.stdout)
        sys.stdout.flush()


LOGGER.addHandler(_Terminal())
LOGGER.setLevel(LOGGER.level or logging.INFO)
LOGGER.propagate = False  # the root logger's handlers would print each line again


@contextmanager
def silenced(is_quiet: bool = True) -> Iterator[None]:
    """Show no lines and no bars inside this block, if `is_quiet`; log files are written anyway."""
    before = LOGGER.level
    LOGGER.setLevel(logging.WARNING if is_quiet else before)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


def progress_bar(steps: Iterable[Any] | None, description: str, total: int | None = None, **settings: Any) -> Any:
    """Return `steps` with a tqdm bar, which shows on a terminal (stderr) and in a notebook; `settings` are tqdm's."""
    in_notebook = "ipykernel" in sys.modules  # whose stderr is no terminal
    is_hidden = (False if in_notebook else None) if LOGGER.isEnabledFor(logging.INFO) else True
    return tqdm(steps, total=total, desc=description, leave=False, disable=is_hidden, dynamic_ncols=True, **settings)

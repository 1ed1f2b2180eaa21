"""Lines and progress bars, on a terminal or in a notebook; the level of the logger `enas` silences both, too."""

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")
LOGGER = logging.getLogger("enas")
_quiet = ContextVar("quiet", default=False)


# tqdm's own lock is one between processes, and a process that is killed leaves its semaphore behind.
_Bar: Any = type("_Bar", (tqdm,), {"_lock": threading.RLock()})


class _Terminal(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if not _quiet.get():
            with suppress(OSError, ValueError):  # a closed pipe, a full disk, a letter that the stream does not know
                _Bar.write(record.getMessage())  # above the bars
                sys.stdout.flush()


LOGGER.addHandler(_Terminal())
LOGGER.setLevel(LOGGER.level or logging.INFO)
LOGGER.propagate = False  # the root logger's handlers would print each line again


def quietable(function: Callable[..., T]) -> Callable[..., T]:
    """Give a function the argument `quiet`: whether it shows no lines and no bars."""

    @wraps(function)
    def called(*args: Any, quiet: bool = False, **settings: Any) -> T:
        before = _quiet.set(quiet or _quiet.get())
        try:
            return function(*args, **settings)
        finally:
            _quiet.reset(before)

    return called


def progress_bar(steps: Iterable[Any] | None, description: str, total: int | None = None, **settings: Any) -> Any:
    """Return `steps` with a tqdm bar, which shows on a terminal (stderr) and in a notebook; `settings` are tqdm's."""
    is_seen = LOGGER.isEnabledFor(logging.INFO) and not _quiet.get()
    is_hidden = (False if "ipykernel" in sys.modules else None) if is_seen else True  # a notebook is no terminal
    return _Bar(steps, total=total, desc=description, leave=False, disable=is_hidden, dynamic_ncols=True, **settings)

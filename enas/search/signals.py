"""SIGINT and SIGTERM end a run after the current step, with everything saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Signals:
    """Notes signals inside `noted`."""

    received = 0  # the number of the signal that has come; 0 for none

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note signals inside this block; a second signal of a kind ends the process at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can handle signals
            return
        handlers = {signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    def _note(self, signum: int, frame: object) -> None:
        signal.signal(signum, signal.SIG_DFL)
        self.received = signum

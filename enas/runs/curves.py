"""A run's curves and pictures for TensorBoard.

tensorboardX's own writer has a thread, which a full disk ends in a traceback, and whose queue then holds up the run.
"""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from enas.errors import refusing

SECONDS_BETWEEN_FLUSHES = 30


class Curves:
    """Events of one run, in its folder; every method raises UserError when nothing can be written there.

    Entries from `purge_step` on are void: a resumed run writes them again.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        self.folder = folder
        self._flushed_at = time.monotonic()
        with self._guarded():
            # The name holds the second; two runs of one second must not share a file, and are read in order of names.
            self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        if purge_step is not None:
            self._add(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Points of curves, by name."""
        for name, value in values.items():
            self._add(Event(step=step, summary=summary.scalar(name, value)))

    def picture(self, tag: str, path: Path, step: int) -> None:
        """A PNG."""
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._add(Event(step=step, summary=summary.image(tag, pixels, dataformats="HWC")))

    def flush(self) -> None:
        """Write what is in memory."""
        with self._guarded():
            self._writer.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Write what is in memory, and close the file."""
        with self._guarded():
            self._writer.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        with self._guarded():
            self._writer.write_event(event)
        if time.monotonic() - self._flushed_at > SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def _guarded(self) -> AbstractContextManager[None]:
        return refusing(lambda error: f"{self.folder}: its curves cannot be written ({error.strerror}); make room")

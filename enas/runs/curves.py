"""A run's curves and pictures for TensorBoard.

tensorboardX's own writer has a thread, which a full disk ends in a traceback, and whose queue then holds up the run.
"""

import struct
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from enas.errors import refusing
from enas.files import atomic_write

SECONDS_BETWEEN_FLUSHES = 30


class Curves:
    """Events of one run, in its folder; every method raises UserError when nothing can be written there.

    `last` are the updates of ω and of θ that a resumed run begins with. Later points are removed: it writes them again.
    """

    def __init__(self, folder: Path, last: tuple[int, int] | None = None):
        self.folder = folder
        self._flushed_at = time.monotonic()
        with self._guarded():
            if last is not None:
                for path in folder.glob("events.out.tfevents.*"):
                    _remove_after(path, last)
            # The name holds the second; two runs of one second must not share a file, and are read in order of names.
            self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each of these curves."""
        for name, value in values.items():
            self._add(Event(step=step, summary=summary.scalar(name, value)))

    def picture(self, tag: str, path: Path, step: int) -> None:
        """Add a picture, a PNG."""
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


def _remove_after(path: Path, last: tuple[int, int]) -> None:
    """Remove later points from a file of events, whose steps are updates of θ under controller/, else of ω."""
    content, kept, start = path.read_bytes(), [], 0
    while start + 16 <= len(content):
        (size,) = struct.unpack_from("<Q", content, start)
        record = content[start : start + size + 16]  # the event, after its size and a checksum, before another one
        start += size + 16
        if size == 0 or start > len(content):  # a killed run leaves half an event, and a power cut zeros
            break
        event = Event.FromString(record[12:-4])
        is_controller = any(value.tag.startswith("controller/") for value in event.summary.value)
        if event.step <= last[is_controller]:
            kept.append(record)
    with atomic_write(path) as file:
        file.write(b"".join(kept))

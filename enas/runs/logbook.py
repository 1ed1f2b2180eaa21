"""The written record of a run: TensorBoard, Weights & Biases, train.log, results.json, pictures and progress bars.

tensorboardX's own writer has a thread, which a full disk ends in a traceback, and whose queue then holds up the run.
"""

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from enas.data.identity import digest
from enas.errors import UserError
from enas.files import atomic_write, opened, read_or_empty, write_json
from enas.search.record import NoLogbook
from enas.terminal import LOGGER, progress_bar

SECONDS_BETWEEN_FLUSHES = 30
SECONDS_BETWEEN_LINES = 60  # about progress, without a terminal


class Curves:
    """Events of one run, in its folder; methods raise OSError or UserError if nothing can be written there.

    `last` is the numbers of updates of ω and of θ at which a resumed run begins; later points are removed.
    """

    helper = "TensorBoard"

    def __init__(self, folder: Path, last: tuple[int, int] | None = None):
        self.folder = folder
        self._flushed_at = time.monotonic()
        if last is not None:
            for path in folder.glob("events.out.tfevents.*"):
                _remove_after(path, last)
        # The name holds the second; two runs of one second must not share a file, and are read in order of names.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            point = Summary.Value(tag=name, simple_value=float(value))
            self._add(Event(step=step, summary=Summary(value=[point])))

    def picture(self, tag: str, path: Path, step: int) -> None:
        with Image.open(path, formats=["PNG"]) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._add(Event(step=step, summary=summary.image(tag, pixels, dataformats="HWC")))

    def flush(self) -> None:
        self._writer.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        self._writer.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
        if time.monotonic() - self._flushed_at > SECONDS_BETWEEN_FLUSHES:
            self.flush()


def _remove_after(path: Path, last: tuple[int, int]) -> None:
    """Remove later points from a file of events, whose steps are updates of θ under controller/, else of ω."""
    with opened(path) as file:
        content, events, start = file.read(), [], 0
    while start + 16 <= len(content):
        (size,) = struct.unpack_from("<Q", content, start)
        record = content[start : start + size + 16]  # the event, after its size and a checksum, before another one
        start += size + 16
        if size == 0 or start > len(content):  # a killed run leaves half an event, and a power cut zeros
            break
        with suppress(Exception):  # protobuf's, for an event with wrong bits
            event = Event.FromString(record[12:-4])
            events.append((record, event.step, [value.tag for value in event.summary.value]))
    kept = [record for record, step, tags in events if step <= last["controller/" in "".join(tags)[:11]]]
    with atomic_write(path) as file:
        file.write(b"".join(kept))


class Mirror:
    """A copy of `Curves` in Weights & Biases: a run with the settings of this one, named like its folder, and in it.

    With WANDB_MODE=offline everything stays on this machine; `wandb sync` uploads it later.
    """

    helper = "Weights & Biases"

    def __init__(self, folder: Path, settings: dict[str, Any]):
        import wandb

        self._wandb, own = wandb, f"{folder.name}-{digest(bytes(folder.resolve()))[:8]}"
        quiet = wandb.Settings(console="off", silent=True)
        self._run = wandb.init(
            project="enas", id=own, name=folder.name, dir=folder, config=settings, resume="allow", settings=quiet
        )
        # A resumed run writes some steps again, which wandb's own count of steps would refuse.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def picture(self, tag: str, path: Path, step: int) -> None:
        self._run.log({tag: self._wandb.Image(str(path)), "step": step})

    def flush(self) -> None:
        """Do nothing: wandb's own process writes as it gets."""

    def close(self) -> None:
        self._run.finish()


class Logbook(NoLogbook):
    """The written record of a run, in its folder, which exists.

    With `curves` TensorBoard gets points, see `Curves` for `last`; `mirror` makes a page that gets the same ones.
    `draw` makes a picture of an architecture: (architecture, path, title) to the file written.
    """

    def __init__(
        self,
        folder: Path,
        last: tuple[int, int] | None = None,
        *,
        curves: bool = True,
        mirror: Callable[[], Mirror] | None = None,
        draw: Callable[[Any, Path, str], Path] | None = None,
    ):
        super().__init__()
        self.folder, self._draw = folder, draw
        self._missed: set[str] = set()  # helpers that the run goes on without
        self._bar: Any = None
        descriptor = os.open(folder / "train.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
        self._log = os.fdopen(descriptor, "a", encoding="utf-8")  # a pipe would wait for its reader
        self._pages: list[Any] = []
        for page, make in ((Curves, partial(Curves, folder, last) if curves else None), (Mirror, mirror)):
            with self._helped(page.helper):
                self._pages += [make()] if make else []

    def progress(self, steps: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
        """Yield the items of `steps` with a progress bar; without a terminal, say now and then how far it is."""
        self._bar = progress_bar(steps, description, total)
        said_at = time.monotonic()
        for done, item in enumerate(self._bar):
            if self._bar.disable and time.monotonic() - said_at > SECONDS_BETWEEN_LINES:
                self.info(f"{description}, {done} of {total}")
                said_at = time.monotonic()
            yield item

    def info(self, line: str) -> None:
        """Write a log line on the terminal and into train.log."""
        self.note(line)
        LOGGER.info(line)

    def note(self, line: str) -> None:
        """Write a line into train.log."""
        now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        try:
            print(now, line, file=self._log, flush=True)
        except (OSError, UnicodeError) as error:
            raise UserError(f"{self.folder / 'train.log'}: cannot be written ({error}); make room") from error

    @contextmanager
    def _helped(self, helper: str) -> Iterator[None]:
        """Go on without what `helper` would do in this block, if it cannot; say so the first time."""
        try:
            yield
        except Exception as error:  # whatever it is, it must not end a search
            if helper not in self._missed:
                self.info(f"without {helper}: {' '.join(str(error).split()) or type(error).__name__}")
            self._missed.add(helper)

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Add points to the curves `group/name`, or `name` without a group."""
        named = {f"{group}/{name}".lstrip("/"): value for name, value in values.items()}
        if self._bar is not None and "loss" in values:
            self._bar.set_postfix_str(f"loss {values['loss']:.4g}", refresh=False)
        for page in self._pages if named else ():
            with self._helped(page.helper):
                page.scalars(named, step)

    def derived(self, architecture: Any, name: str, title: str, step: int) -> None:
        """Write an architecture as a JSON file, and a picture."""
        path = self.folder / "architectures" / f"{name}.json"
        write_json(path, architecture.to_dict())
        self.output_files["architecture"] = path
        self.draw(architecture, self.folder / "networks" / f"{name}.png", title, step)

    def draw(self, architecture: Any, path: Path, title: str, step: int | None = None) -> None:
        """Write a picture of an architecture; show it beside the curves too, if a step is given."""
        if self._draw is not None:
            with self._helped("the picture"):
                self.output_files["picture"] = picture = self._draw(architecture, path, title)
                self._show("derive/best", picture, step)

    def policy(self, space: Any, decisions: list[Any], derived: Any, warm_up_epochs: int, step: int) -> None:
        """Draw the probability of each choice, epoch by epoch, if there is one; `decisions` as in `Progress`."""
        if all(len(names) == 1 for names in space.choices):
            return
        with self._helped("the picture of the policy"):
            from enas.pictures.plots import policy_figure, write_figure  # loads matplotlib, which takes a second

            encoded = () if derived is None else space.encode(derived)
            figure = policy_figure(space.choices, decisions, encoded, warm_up_epochs)
            self.output_files["policy"] = path = write_figure(figure, self.folder / "policy.png")
            self._show("derive/policy", path, step)

    def _show(self, tag: str, path: Path, step: int | None) -> None:
        """Show a PNG in TensorBoard at a step; skip a drawing left as .dot."""
        for page in self._pages if path.suffix == ".png" and step is not None else ():
            with self._helped(page.helper):
                page.picture(tag, path, step)

    def results(self, results: dict[str, Any]) -> None:
        """Rewrite results.json; keep its test score, also in `results`, if architecture and weights are the same."""
        before = read_or_empty(self.folder / "results.json")
        tested = {name: score for name, score in before.items() if name[:5] == "test_" and results.get(name) is None}
        if all(before.get(name) == results.get(name) for name in ("architecture", "measured_with")):
            results |= tested
        write_json(self.folder / "results.json", results)
        for page in self._pages:
            with self._helped(page.helper):
                page.flush()

    def close(self) -> None:
        for page in reversed(self._pages):
            with self._helped(page.helper):
                page.close()
        with suppress(OSError):  # the rest could not be written before, which the user was told
            self._log.close()

"""A script of the project with a fault put into it at a chosen point; see `benchmarks.resuming`.

python -m benchmarks.faulty FAULT RECORD SCRIPT FLAGS…

FAULT is JSON; RECORD is a file that the process keeps, which survives any end of it: how
many steps were trained, and how many trainings were begun.
"""

import errno
import json
import os
import resource
import runpy
import shutil
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from enas import files
from enas.search.scratch import ScratchTrainer
from enas.search.trainer import Trainer
from enas.search.training import Training

FORMAT = "qq"  # steps, trainings


class Faulty:
    """Does what a fault says at the n-th time that its point is reached.

    Args:
        fault: as `benchmarks.resuming.Fault`, and "data", the folder that kind data loses.
        record: see this module.
    """

    def __init__(self, fault: dict, record: Path):
        self.fault = fault
        self.left = fault["count"] if os.environ.get("RANK", "0") == str(fault["rank"]) else 0
        self.broken: OSError | None = None
        self.trainer: Training | None = None
        self.numbers = [0, 0]
        self.file = os.open(record, os.O_RDWR | os.O_CREAT) if os.environ.get("RANK", "0") == "0" else None
        if self.file is not None and os.fstat(self.file).st_size:
            self.numbers = list(struct.unpack(FORMAT, os.pread(self.file, struct.calcsize(FORMAT), 0)))

    def note(self, steps: int, trainings: int = 0) -> None:
        """Keep how far training is."""
        self.numbers = [steps, self.numbers[1] + trainings]
        if self.file is not None:
            os.pwrite(self.file, struct.pack(FORMAT, *self.numbers), 0)

    def reach(self, point: str) -> None:
        """Come to a point of the program."""
        if point == self.fault["point"] and self.left > 0:
            self.left -= 1
            if self.left == 0:
                getattr(self, f"_{self.fault['kind']}")()
        if self.broken is not None and point in ("open", "fsync", "rename"):
            raise self.broken

    def _kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _terminate(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def _interrupt(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def _hang(self) -> None:
        time.sleep(3600)

    def _full(self) -> None:
        self.broken = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _readonly(self) -> None:
        self.broken = OSError(errno.EROFS, os.strerror(errno.EROFS))

    def _limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.fault["size"], self.fault["size"]))

    def _data(self) -> None:
        shutil.rmtree(self.fault["data"])

    def _nan_shared(self) -> None:
        _spoil(self.trainer.task.model)

    def _nan_controller(self) -> None:
        _spoil(self.trainer.controller)

    def install(self) -> None:
        """Put the points into the program."""
        self._around(files.tempfile, "NamedTemporaryFile", before="open")
        self._around(os, "replace", before="rename", after="renamed")
        fsync = os.fsync

        def on_fsync(descriptor: int) -> None:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            self.reach("folder fsync" if is_folder else "fsync")
            fsync(descriptor)

        os.fsync = on_fsync
        self._around(Trainer, "update_controller", before="controller update", is_step=True)
        for kind in (Trainer, ScratchTrainer):
            self._around(kind, "shared_step", before="shared step", is_step=True)
            self._around(kind, "evaluate", before="evaluation")
            self._note_beginning(kind)
        self.reach("start")

    def _note_beginning(self, kind: type) -> None:
        train = kind.train

        def begun(trainer: Training) -> dict:
            self.trainer = trainer
            self.note(trainer.progress.step, trainings=1)
            return train(trainer)

        kind.train = begun

    def _around(self, owner, name: str, before: str, after: str = "", is_step: bool = False) -> None:
        original: Callable = getattr(owner, name)

        def wrapped(*args, **settings):
            self.reach(before)
            result = original(*args, **settings)
            if is_step:
                self.note(args[0].progress.step)
            if after:
                self.reach(after)
            return result

        setattr(owner, name, wrapped)


def _spoil(module: torch.nn.Module) -> None:
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))


def main(argv: list[str]) -> None:
    """Run the script that the command line names, with its fault."""
    fault, record, script, *flags = argv
    Faulty(json.loads(fault), Path(record)).install()
    sys.argv = [script, *flags]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])

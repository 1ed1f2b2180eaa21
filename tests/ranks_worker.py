"""Several runs, one after the other, in each of the processes that `torchrun` begins: see test_distributed.

The runs are the arguments: a JSON object of settings for each. Besides settings of the run it may hold

- load_path: the run to resume, a pattern of its path; given: an architecture to train from scratch;
- stop, fail: in which shared step the last process gets SIGTERM, or finds that a file is gone;
- spoil: the last process has another controller from the first epoch's end on;
- last: settings that the last process has in place of the others' own;
- use: a file that registers a controller.
"""

import atexit
import glob
import json
import os
import runpy
import signal
import sys
from contextlib import ExitStack
from functools import partial

import pytest
import tiny
import torch
import torch.distributed as dist

from enas.config import Config
from enas.errors import UserError
from enas.guard import guarded
from enas.rnn.task import LanguageTask
from enas.runs import run
from enas.search.architecture import architecture_from_dict
from enas.search.trainer import Trainer

IS_LAST = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1


def start(settings: dict) -> None:
    load_path, architecture = settings.pop("load_path", None), settings.pop("given", None)
    if load_path:
        run.resume(glob.glob(load_path)[0], **settings)
    elif architecture:
        run.train(Config(**settings), architecture_from_dict(architecture))
    else:
        run.train(Config(**settings))


def fail() -> None:
    raise UserError("a file is gone")


def spoil(patch: pytest.MonkeyPatch) -> None:
    train_controller = Trainer.train_controller

    def spoiling(self):
        train_controller(self)
        with torch.no_grad():
            next(self.controller.parameters()).view(-1)[0] += 1e-7

    patch.setattr(Trainer, "train_controller", spoiling)


atexit.register(lambda: print(f"group at the end: {dist.is_initialized()}"))
for text in sys.argv[1:]:
    settings = json.loads(text)
    stop, fails = settings.pop("stop", 0), settings.pop("fail", 0)
    spoils, last = settings.pop("spoil", False), settings.pop("last", {})
    if used := settings.pop("use", ""):
        runpy.run_path(used)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as acting:
        if IS_LAST:
            for step, action in ((stop, partial(signal.raise_signal, signal.SIGTERM)), (fails, fail)):
                acting.enter_context(tiny.in_call(LanguageTask, "shared_loss", step, action))
        if spoils and IS_LAST:
            spoil(patch)
        status = guarded(lambda given={**settings, **(last if IS_LAST else {})}: start(given))
    if status:
        print(f"status {status}")

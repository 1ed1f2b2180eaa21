"""Several runs, one after the other, in each of the processes that `torchrun` begins: see test_distributed.

The runs are the arguments: a JSON object of settings for each. Besides settings of the run it may hold

- load_path: the run to resume, a pattern of its path; given: an architecture to train from scratch;
- stop, fail: in which shared step the last process gets SIGTERM, or finds that a file is gone;
- spoil: the last process has another controller from the first epoch's end on;
- last: settings that the last process has in place of the others' own.
"""

import atexit
import glob
import json
import os
import signal
import sys
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist

from enas.config import Config
from enas.errors import UserError
from enas.parser import guarded
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
        run.single(Config(**settings), architecture_from_dict(architecture))
    else:
        run.train(Config(**settings))


def in_step(step: int, action: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    calls, shared_loss = [], LanguageTask.shared_loss

    def acting(self, cells):
        calls.append(cells)
        if len(calls) == step:
            action()
        return shared_loss(self, cells)

    patch.setattr(LanguageTask, "shared_loss", acting)


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
    with pytest.MonkeyPatch.context() as patch:
        if stop and IS_LAST:
            in_step(stop, lambda: signal.raise_signal(signal.SIGTERM), patch)
        if fails and IS_LAST:
            in_step(fails, fail, patch)
        if spoils and IS_LAST:
            spoil(patch)
        status = guarded(lambda given={**settings, **(last if IS_LAST else {})}: start(given))
    if status:
        print(f"status {status}")

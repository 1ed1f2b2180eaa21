"""The random numbers and threads that runs share with their process."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from enas.errors import UserError
from enas.search.checkpoint import random_states, restore_random_states

# By process: a forked process lacks the thread that would release its parent's lock.
_locks: dict[int, Any] = {}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let no other thread begin a run inside this block, and give the caller its random states and threads back.

    Such blocks may be nested: finalists are runs within a run.

    Raises:
        UserError: another thread is inside such a block.
    """
    lock = _locks.setdefault(os.getpid(), threading.RLock())
    if not lock.acquire(blocking=False):
        raise UserError(
            "another thread of this process is busy with a run, which needs the random numbers of the process for "
            "itself; wait for its end, or begin this one in a process of its own"
        )
    with ExitStack() as at_the_end:
        at_the_end.callback(lock.release)
        at_the_end.callback(restore_random_states, random_states())
        at_the_end.callback(torch.set_num_threads, torch.get_num_threads())
        yield

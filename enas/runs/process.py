"""What runs share with the process that they are in: its random numbers and its threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from enas.errors import UserError
from enas.training.checkpoint import random_states, restore_random_states

_ONE_AT_A_TIME = threading.RLock()  # a thread that has it may take it again: finalists are runs within a run


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let no other thread begin a run inside this block, and give the caller its random states and threads back.

    Raises:
        UserError: another thread is inside such a block.
    """
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise UserError(
            "another thread of this process is busy with a run, which needs the random numbers of the process for "
            "itself; wait for its end, or begin this one in a process of its own"
        )
    states, num_threads = random_states(), torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        restore_random_states(states)
        _ONE_AT_A_TIME.release()

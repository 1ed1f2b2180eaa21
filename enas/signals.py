"""The signals that stop a program: SIGINT (Ctrl-C), SIGTERM and SIGHUP, which a closed terminal sends."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

STOPPING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
SECONDS_BETWEEN_LOOKS = 0.3


@contextmanager
def handled(handler: Callable[[int, Any], object]) -> Iterator[None]:
    """Let `handler` handle the signals that stop a program inside this block, except a SIGHUP that nohup ignores."""
    before = {}
    if threading.current_thread() is threading.main_thread():  # other threads cannot
        for signum in STOPPING:
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
                before[signum] = signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, signal.SIG_DFL if old is None else old)  # None: a handler that is not Python's


@contextmanager
def held_back() -> Iterator[None]:
    """Hold back this thread's signals until this block ends; processes that begin inside it keep them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow(parent: int, left: Collection[str]) -> None:
    """Let this process, which `parent` began, remove the folders `left`, and die, soon after the parent's end."""
    os.setpgrp()  # signals to the parent's group are for the parent to answer

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()

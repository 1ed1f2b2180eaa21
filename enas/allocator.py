"""How the process gets memory for tensors from Linux.

Steps make and free the same tensors over and over. glibc gives free memory at the end of its heap back to the system,
and has to ask for it again, page by page, in the next operation: how often depends on what happens to lie there, and
can make a step a third longer.
"""

import ctypes
import os
from collections.abc import Callable

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # read by torch
OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
NEVER = 2**31 - 1
LARGEST = 32 * 2**20  # what glibc's own threshold grows to; setting the other one stops its growth


def keep_memory() -> None:
    """Have glibc keep what it frees, and torch ask for huge pages for large tensors.

    The user's environment variables win. Commands call this, and a program that calls the package does not have to: it
    changes the whole process. Torch reads its variable when it makes its first tensor; call this before. Without glibc
    only that variable is set, which only Linux heeds.
    """
    os.environ.setdefault(HUGE_PAGES, "1")
    if any(name in os.environ for name in OF_THE_USER):
        return
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST)
        mallopt(TRIM_THRESHOLD, NEVER)


def _mallopt() -> Callable[[int, int], int] | None:
    try:
        return ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows does not open a library without a name
        return None

"""How glibc and torch get memory for tensors from Linux.

Each step makes and frees the same tensors. glibc returns free memory at the end of its heap to the system, and asks for
it again, page by page, in the next operation. This can make a step a third longer.
"""

import ctypes
import os

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # read by torch
OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
NEVER = 2**31 - 1
LARGEST = 32 * 2**20  # glibc's own threshold grows up to this, but no longer once the other one is set


def keep_memory() -> None:
    """Let glibc keep freed memory, and torch ask for huge pages for large tensors, unless the user has set otherwise.

    Commands call this; importing the package does not, because it changes the whole process. Call it before torch makes
    its first tensor. Without glibc it only sets torch's variable, which has an effect on Linux alone.
    """
    os.environ.setdefault(HUGE_PAGES, "1")
    if any(name in os.environ for name in OF_THE_USER):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows does not open a library without a name
        return
    mallopt(MMAP_THRESHOLD, LARGEST)
    mallopt(TRIM_THRESHOLD, NEVER)

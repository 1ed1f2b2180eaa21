"""What the process keeps of its memory, and that large tensors lie in huge pages, where the system has them."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ROOT

from enas.allocator import HUGE_PAGES, OF_THE_USER

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
ROLLUP = Path("/proc/self/smaps_rollup")

KILOBYTES = f"""
import torch
from enas.allocator import keep_memory
keep_memory()
tensor = torch.ones(32 << 20)
lines = open({str(ROLLUP)!r}).read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("AnonHugePages")))
"""

# The second time, all pages are there unless the first time's were given back. What is smaller than 32 MB comes from
# the end of the heap, where nothing may lie behind it: of a tensor, its other parts might.
FAULTS = """
import ctypes, resource
from enas.guard import guarded
guarded(lambda: None)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def faults():
    memory = libc.malloc(28 << 20)
    ctypes.memset(memory, 1, 28 << 20)
    libc.free(memory)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(-faults() + faults())
"""


def _number(code: str, **variables: str) -> int:
    """What `code` prints in a process of its own, where the environment says nothing but `variables` of memory."""
    environment = {name: value for name, value in os.environ.items() if name not in (HUGE_PAGES, *OF_THE_USER)}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    return int(subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True).stdout)


@pytest.mark.skipif(
    not (ENABLED.is_file() and "[madvise]" in ENABLED.read_text() and ROLLUP.is_file()),
    reason="this system does not give huge pages to those who ask, and to them alone",
)
def test_large_tensors_lie_in_huge_pages_unless_the_user_says_otherwise():
    by_default = _number(KILOBYTES)
    if by_default < 2 * 1024 and _number(KILOBYTES, THP_MEM_ALLOC_ENABLE="1") < 2 * 1024:
        pytest.skip("the system has no huge pages left")
    assert by_default > 2 * 1024  # that there are fewer than the tensor's is the system's to decide
    assert _number(KILOBYTES, THP_MEM_ALLOC_ENABLE="0") < 2 * 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_freed_memory_is_kept_unless_the_user_says_otherwise():
    pages = 28 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert _number(FAULTS) < pages / 10
    assert _number(FAULTS, MALLOC_TRIM_THRESHOLD_="131072") > pages / 2
    assert _number(FAULTS, GLIBC_TUNABLES="glibc.malloc.trim_threshold=131072") > pages / 2

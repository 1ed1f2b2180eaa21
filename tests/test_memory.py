"""Large tensors lie in huge pages, where the system has them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ROOT

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
ROLLUP = Path("/proc/self/smaps_rollup")

KILOBYTES = f"""
import enas.models, torch
tensor = torch.ones(32 << 20)
lines = open({str(ROLLUP)!r}).read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("AnonHugePages")))
"""


def _kilobytes(**variables: str) -> int:
    """The kilobytes in huge pages of a process with a tensor of 128 MB."""
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, "-c", KILOBYTES], env=environment, check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(
    not (HUGE_PAGES.is_file() and "[madvise]" in HUGE_PAGES.read_text() and ROLLUP.is_file()),
    reason="this system does not give huge pages to those who ask, and to them alone",
)
def test_large_tensors_lie_in_huge_pages_unless_the_user_says_otherwise():
    if _kilobytes(THP_MEM_ALLOC_ENABLE="1") < 2 * 1024:
        pytest.skip("the system has no huge pages left")
    assert _kilobytes() > 2 * 1024  # that there are fewer than the tensor's is the system's to decide
    assert _kilobytes(THP_MEM_ALLOC_ENABLE="0") < 2 * 1024

"""One thread; examples that are few and the same in every run; a finished search; and stubs of the slowest parts."""

import gc
import os
import signal
from pathlib import Path

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported: kernels then run on the CPU

import joblib
import pytest
import tiny
from hypothesis import HealthCheck, settings

# nohup, and a script that runs tests in its background, leave signals ignored; processes of the tests inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
settings.register_profile(
    "enas", deadline=None, derandomize=True, max_examples=20, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("enas")
gc.freeze()  # what was imported stays; looking through a million objects again and again takes 4 % of the time


def pytest_xdist_auto_num_workers() -> int:
    """One more process than there are cores: many tests wait for a process that they began."""
    return 1 + joblib.cpu_count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that none is left to one process at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def quick():
    """Drawings stay .dot files, plots are empty, files need not survive a power cut, and no trial chooses a precision.

    Tests make hundreds of runs of 0.1 s each, which take 1 s when everything is drawn, and wait for the disk; and how
    fast two precisions are is no matter for a test. `tiny.rendering` and `tiny.real` undo this: for tests that look at
    drawings, and for a journey through every mode in each search space (test_printed_commands).
    """
    with pytest.MonkeyPatch.context() as patch:
        for stub in tiny.STUBS:
            patch.setattr(*stub)
        yield


@pytest.fixture
def rendered():
    """Drawings and plots as users see them."""
    with tiny.rendering():
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The folder of a finished search that nobody changes; its data lie in `data`, beside `logs`."""
    return tiny.run_in(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def folder(tmp_path, trained) -> Path:
    """A copy of that run and of its data, under `tmp_path`."""
    return tiny.moved(trained.parent.parent, tmp_path) / "logs" / trained.name

"""One thread; examples that are few and the same in every run; and nothing slow that a test does not look at."""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported: kernels then run on the CPU

import graphviz
import pytest
import tiny
from hypothesis import HealthCheck, settings
from matplotlib.backends.backend_agg import FigureCanvasAgg

from enas.search import precision

torch.set_num_threads(1)
settings.register_profile(
    "enas", deadline=None, derandomize=True, max_examples=20, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("enas")


@pytest.fixture(scope="session", autouse=True)
def quick():
    """Files need not survive a power cut, drawings stay .dot files, and plots stay empty; see `tiny.rendering`.

    No trial of a few milliseconds chooses the precision.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "BFLOAT16_INSTRUCTIONS", ())
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(graphviz.Digraph, "pipe", tiny.no_dot)
        patch.setattr(FigureCanvasAgg, "print_png", tiny.no_plot)
        yield


@pytest.fixture
def rendered():
    """Drawings and plots as users see them."""
    with tiny.rendering():
        yield

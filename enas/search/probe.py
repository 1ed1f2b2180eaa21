"""Trials that find the fastest precision of matrix products and the fastest number of threads on this machine."""

import copy
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from enas.search.checkpoint import random_states, restore_random_states
from enas.search.controllers import Controller
from enas.search.precision import available
from enas.search.task import Task

THREADS_VARIABLE = "OMP_NUM_THREADS"
TRIES = 3
LONG = 1.0  # seconds
BESIDE_A_GPU = 2  # threads; more made updates of a paper-size controller slower
GAIN = 1.1  # less precision, or more threads, must be this much faster to be chosen


def seconds(action: Callable[[], object]) -> float:
    """The shortest time that `action` takes, of a few tries after one to warm up.

    An action that takes long is tried once, but on a GPU, for which the first try compiles and records.
    """
    times = [_timed(action)]
    if times[0] < LONG or torch.cuda.is_available():
        times = [_timed(action) for _ in range(TRIES)]
    return min(times)


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def choose_precision(task: Task, controller: Controller[Any], num_architectures: int) -> tuple[str, str]:
    """The precision in which a training step is fastest, and why, in words; the exact one unless it loses `GAIN`.

    Args: as for `choose_threads`; the task is left as it was, and its precision is to be set.
    """
    names = [name for name in available(task.device) if name in task.precisions]
    if len(names) == 1:
        return names[0], f"this {_kind(task.device)} has no other"
    before, times = task.precision, {}
    with _unchanged(task):
        architectures = _sampled(controller, num_architectures)
        for name in names:
            task.precision = name
            times[name] = seconds(lambda: task.shared_loss(architectures)[0].backward())
    task.precision = before
    fastest = min(times, key=times.get)
    tried = ", ".join(f"{1e3 * time:.3g} ms in {name}" for name, time in times.items())
    return (fastest if times[names[0]] > GAIN * times[fastest] else names[0]), f"a step takes {tried}"


def choose_threads(task: Task, controller: Controller[Any], num_architectures: int) -> tuple[int, str]:
    """How many threads train fastest, and why, in words.

    `OMP_NUM_THREADS` wins. Otherwise the fewest threads are chosen whose training step takes at most `GAIN` times the
    shortest, which leaves cores to other runs. Afterwards the task, its model and all random states are as before; the
    process computes with the chosen threads.

    Args:
        task: see `enas.search.trainer.Task`.
        controller: what samples.
        num_architectures: of a step.
    """
    most = torch.get_num_threads()
    if THREADS_VARIABLE in os.environ:
        return most, f"{THREADS_VARIABLE} is set"
    if most == 1:
        return 1, "there is one core"
    if task.device.type != "cpu":
        torch.set_num_threads(BESIDE_A_GPU)
        return BESIDE_A_GPU, "beside a GPU there is only the controller to compute"
    times = {}
    with _unchanged(task):
        architectures = _sampled(controller, num_architectures)
        for num in _counts(most):
            torch.set_num_threads(num)
            times[num] = seconds(lambda: task.shared_loss(architectures)[0].backward())
    chosen = min(num for num, time in times.items() if time <= GAIN * min(times.values()))
    torch.set_num_threads(chosen)
    tried = ", ".join(f"{1e3 * time:.3g} ms with {num}" for num, time in times.items())
    return chosen, f"a step takes {tried}"


def _sampled(controller: Controller[Any], num: int) -> list[Any]:
    with torch.no_grad():
        return controller.sample(num).architectures


@contextmanager
def _unchanged(task: Task) -> Iterator[None]:
    """The task, its model and all random states are as before when the block ends."""
    before, states = _copied(task), random_states()
    yield
    task.load_state_dict(before)
    task.model.zero_grad(set_to_none=True)
    restore_random_states(states)


def _copied(task: Task) -> dict[str, Any]:
    """The state of the task, copied but for the parameters, which a trial leaves alone, and which may be large."""
    state, parameters = task.state_dict(), dict(task.model.named_parameters())
    kept = {id(tensor): tensor for name, tensor in state["model"].items() if name in parameters}
    return copy.deepcopy(state, kept)


def _counts(most: int) -> list[int]:
    """1, 2, 4 … and `most`."""
    return sorted({most, *(2**power for power in range(most.bit_length()) if 2**power <= most)})


def _kind(device: torch.device) -> str:
    return "GPU" if device.type == "cuda" else "processor"

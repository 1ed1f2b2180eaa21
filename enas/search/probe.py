"""Trials that find the fastest precision of matrix products and the fastest number of threads on this machine."""

import copy
import os
from collections.abc import Callable
from timeit import Timer
from typing import Any, TypeVar

import torch

from enas.search.checkpoint import random_states, restore_random_states
from enas.search.precision import available
from enas.search.task import Task

THREADS_VARIABLE = "OMP_NUM_THREADS"
TRIES = 3
LONG = 1.0  # seconds
BESIDE_A_GPU = 2  # threads; with more, updates of a paper-size controller are slower
GAIN = 1.1  # less precision, or more threads, must be this many times as fast to be chosen
Choice = TypeVar("Choice", str, int)


def seconds(action: Callable[[], object]) -> float:
    """Return the seconds that `action` takes, the shortest of a few tries after the first; or of one, if it is long."""

    def tried() -> None:
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    timer = Timer(tried)
    first = timer.timeit(1)
    is_repeated = first < LONG or torch.cuda.is_available()  # beside a GPU the first try compiles
    return min(timer.repeat(TRIES, number=1)) if is_repeated else first


def choose_precision(task: Task, draw: Callable[[], list[Any]]) -> tuple[str, str]:
    """Return the precision in which a training step is fastest, and why, in words.

    It is the exact one unless another is `GAIN` times as fast. As for `choose_threads`, the task stays as it was.
    """
    names = [name for name in available(task.device) if name in task.precisions]
    if len(names) == 1:
        return names[0], f"this {'GPU' if task.device.type == 'cuda' else 'processor'} has no other"
    before = task.precision
    times, why = _times(task, draw, names, "in", lambda name: setattr(task, "precision", name))
    task.precision = before
    fastest = min(names, key=times.__getitem__)
    return fastest if times[names[0]] > GAIN * times[fastest] else names[0], why


def choose_threads(task: Task, draw: Callable[[], list[Any]]) -> tuple[int, str]:
    """Return the number of threads that train fastest, and why, in words; the process then computes with this number.

    `OMP_NUM_THREADS` wins. Otherwise this is the smallest number with which a training step takes at most `GAIN` times
    the shortest step's time, which leaves cores to other runs. `draw` returns the step's architectures. The task and
    all random states stay as they were.
    """
    most = torch.get_num_threads()
    if THREADS_VARIABLE in os.environ:
        return most, f"{THREADS_VARIABLE} is set"
    if most == 1:
        return 1, "there is one core"
    if task.device.type != "cpu":
        torch.set_num_threads(BESIDE_A_GPU)
        return BESIDE_A_GPU, "beside a GPU there is only the controller to compute"
    counts = sorted({most, *(2**power for power in range(most.bit_length()))})  # 1, 2, 4 … and the most
    times, why = _times(task, draw, counts, "with", torch.set_num_threads)
    chosen = min(num for num, time in times.items() if time <= GAIN * min(times.values()))
    torch.set_num_threads(chosen)
    return chosen, why


def _times(
    task: Task, draw: Callable[[], list[Any]], choices: list[Choice], word: str, use: Callable[[Choice], None]
) -> tuple[dict[Choice, float], str]:
    """Return the seconds of a training step with each choice, and in words; task and random states are as before."""
    # Parameters, which may be large, are not copied: trials leave them alone.
    state, parameters = task.state_dict(), dict(task.model.named_parameters())
    kept = {id(tensor): tensor for name, tensor in state["model"].items() if name in parameters}
    before, states, times = copy.deepcopy(state, kept), random_states(), {}
    with torch.no_grad():
        architectures = draw()
    for choice in choices:
        use(choice)
        times[choice] = seconds(lambda: task.shared_loss(architectures)[0].backward())
    task.load_state_dict(before)
    task.model.zero_grad(set_to_none=True)
    restore_random_states(states)
    return times, "a step takes " + ", ".join(f"{1e3 * time:.3g} ms {word} {choice}" for choice, time in times.items())

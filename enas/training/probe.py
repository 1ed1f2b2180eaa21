"""Trials that find the fastest precision of matrix products and the fastest number of threads on this machine."""

import copy
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from enas.controllers import Controller
from enas.models.cross_entropy import CHUNK_ELEMENTS, mean_nll
from enas.training.checkpoint import random_states, restore_random_states

THREADS_VARIABLE = "OMP_NUM_THREADS"
TRIES = 3
LONG = 1.0  # seconds; a slower action is tried once
GAIN = 1.1  # bfloat16, or more threads, must be this much faster to be chosen

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # on x86, x86 and Arm


def seconds(action: Callable[[], object]) -> float:
    """The shortest time that `action` takes, of a few tries after one to warm up."""
    times = [_timed(action)]
    if times[0] < LONG:
        times = [_timed(action) for _ in range(TRIES)]
    return min(times)


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 instructions; emulating them is many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older torch versions cannot tell.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in BFLOAT16_INSTRUCTIONS)


def choose_precision(num_words: int, vocab_size: int, hidden: int, device: torch.device) -> tuple[str, str]:
    """The precision in which `num_words` words of a step are decoded faster, and why, in words.

    Args:
        num_words: steps × architectures × batch.
        vocab_size, hidden: of the decoder's weight.

    Returns:
        "float32" or "bfloat16", and the reason.
    """
    if not has_bfloat16(device):
        return "float32", f"this {_kind(device)} has no bfloat16 instructions"
    rows = max(1, min(num_words, CHUNK_ELEMENTS // vocab_size))  # as many as the decoder takes at a time
    states = torch.full((rows, hidden), 0.1, device=device, requires_grad=True)
    weight = torch.full((vocab_size, hidden), 0.1, device=device, requires_grad=True)
    bias = torch.zeros(vocab_size, device=device, requires_grad=True)
    targets = torch.zeros(rows, dtype=torch.int64, device=device)

    def decode(precision: torch.dtype | None) -> Callable[[], Tensor]:
        return lambda: mean_nll(states, weight, bias, targets, precision)

    exact, short = seconds(decode(None)), seconds(decode(torch.bfloat16))
    reason = f"{rows} rows of the decoder take {1e3 * exact:.3g} ms in float32 and {1e3 * short:.3g} in bfloat16"
    return ("bfloat16" if exact > GAIN * short else "float32"), reason


def choose_threads(task, controller: Controller, num_architectures: int) -> tuple[int, str]:
    """How many threads train fastest, and why, in words.

    `OMP_NUM_THREADS` wins. Otherwise the fewest threads are chosen whose training step takes at most `GAIN` times the
    shortest, which leaves cores to other runs. Afterwards the task, its model and all random states are as before; the
    process computes with the chosen threads.

    Args:
        task: see `enas.training.trainer.Task`.
        controller: what samples.
        num_architectures: of a step.
    """
    most = torch.get_num_threads()
    if THREADS_VARIABLE in os.environ:
        return most, f"{THREADS_VARIABLE} is set"
    if most == 1:
        return 1, "there is one core"
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


def choose_controller_steps(task, controller: Controller, share: float, shared: int, at_once: int) -> tuple[int, str]:
    """How many architectures to sample an epoch for the controller to take `share` of its time, and why, in words.

    Args:
        task, controller: as for `choose_threads`; both are left as they were.
        share: above 0, below 1.
        shared: architectures of a shared step.
        at_once: architectures of an update of the controller, of which the result is a multiple.
    """
    with _unchanged(task):
        shared_architectures, sample = _sampled(controller, shared), _sampled(controller, at_once)
        step = seconds(lambda: task.shared_loss(shared_architectures)[0].backward())
        update = seconds(lambda: task.rewards(sample))
    wanted = share / (1 - share) * task.steps_per_epoch * step
    num = at_once * max(1, round(wanted / update))
    return num, f"a shared step takes {1e3 * step:.3g} ms and an update of the controller {1e3 * update:.3g}"


def _sampled(controller: Controller, num: int) -> list:
    with torch.no_grad():
        return controller.sample(num).architectures


@contextmanager
def _unchanged(task) -> Iterator[None]:
    """The task, its model and all random states are as before when the block ends."""
    before, states = copy.deepcopy(task.state_dict()), random_states()
    yield
    task.load_state_dict(before)
    task.model.zero_grad(set_to_none=True)
    restore_random_states(states)


def _counts(most: int) -> list[int]:
    """1, 2, 4 … and `most`."""
    return sorted({most, *(2**power for power in range(most.bit_length()) if 2**power <= most)})


def _kind(device: torch.device) -> str:
    return "GPU" if device.type == "cuda" else "processor"

"""Times of actions, taken in turns, so that what else the machine does falls on all of them alike."""

import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.roofline import counted, flops, products


@dataclass(frozen=True)
class Action:
    """Something to time.

    Attributes:
        name: what tables call it.
        run: does it once.
        count: how many `unit`s it processes.
        unit: tokens, images or architectures.
    """

    name: str
    run: Callable[[], object]
    count: int
    unit: str


@dataclass(frozen=True)
class Row:
    """What was measured of an action.

    Attributes:
        milliseconds: the median of its times; `low` and `high` are the quartiles.
        per_second: units processed.
        roofline: the median share of its time that its products take alone; None where it has none, and on a GPU, where
            Python would take longer to ask for the products than they do.
        gflops: billions of floating-point operations of its products a second.
    """

    name: str
    milliseconds: float
    low: float
    high: float
    per_second: float
    unit: str
    roofline: float | None
    gflops: float


def in_turns(actions: list[Action], rounds: int, device: torch.device) -> list[Row]:
    """Time each action and, right after it, its products alone, `rounds` times in turn."""
    on_gpu = device.type == "cuda"
    with counted():
        replays = [(lambda: None) if on_gpu else products(action.run) for action in actions]
        work = [flops(action.run) for action in actions]
    times = [[] for _ in actions]
    alone = [[] for _ in actions]
    for number in range(rounds + 1):
        for action, replay, mine, its in zip(actions, replays, times, alone, strict=True):
            both = seconds(action.run, device), seconds(replay, device)
            if number > 0:  # the first round warms up
                mine.append(both[0])
                its.append(both[1])
    return [_row(*each, has_roofline=not on_gpu) for each in zip(actions, times, alone, work, strict=True)]


def _row(action: Action, times: list[float], alone: list[float], work: int, *, has_roofline: bool) -> Row:
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (median,) * 3
    shares = [product / whole for product, whole in zip(alone, times, strict=True)]
    return Row(
        action.name,
        milliseconds=round(1e3 * median, 3),
        low=round(1e3 * low, 3),
        high=round(1e3 * high, 3),
        per_second=round(action.count / median, 1),
        unit=action.unit,
        roofline=round(statistics.median(shares), 3) if work and has_roofline else None,
        gflops=round(work / median / 1e9, 2),
    )


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the time of one call, to the end of its work on the device."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> float:
    """Return the peak of memory, in MB: of the GPU's allocator, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def machine(device: torch.device) -> dict:
    """Return the machine that the figures were measured on."""
    return {
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| | ms | quartiles | a second | of it products | GFLOP/s |", "|---|---|---|---|---|---|"]
    for row in rows:
        share = "" if row.roofline is None else f"{row.roofline:.2f}"
        lines.append(
            f"| {row.name} | {row.milliseconds:.1f} | {row.low:.1f}–{row.high:.1f} | {row.per_second:,.0f} {row.unit} "
            f"| {share} | {row.gflops:.1f} |"
        )
    return "\n".join(lines)


def as_dicts(rows: list[Row]) -> list[dict]:
    """Return the rows as plain data."""
    return [asdict(row) for row in rows]

"""The command line of a benchmark: the flags of a run, and how it is measured."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measure import Action, Row, as_dicts, in_turns, machine, peak_memory, table
from enas.config import Config
from enas.errors import UserError
from enas.files import write_json
from enas.guard import guarded
from enas.parser import Parser, parse_flags
from enas.runs.opening import pick_device


@dataclass(frozen=True)
class Benchmark:
    """A benchmark.

    Attributes:
        description: what --help says first.
        defaults: settings where no flag gives them.
        actions: (config, device) to what is timed.
        growths: by the name of a setting, the values that `--grow` gives it.
        grown: (config, setting, value, device) to what is timed then.
    """

    description: str
    defaults: dict
    actions: Callable[[Config, torch.device], list[Action]]
    growths: dict[str, tuple[int, ...]]
    grown: Callable[[Config, str, int, torch.device], list[Action]]


def main(benchmark: Benchmark, argv: list[str] | None = None) -> int:
    """Measure as the flags say; returns the exit status."""
    return guarded(lambda: _measure(benchmark, argv))


def _measure(benchmark: Benchmark, argv: list[str] | None) -> None:
    parser = Parser(benchmark.description)
    _add_flags(parser)
    given = parse_flags(parser, argv)
    own = {name: given.pop(name, default) for name, default in OWN.items()}
    grow = [name for name in own["grow"].split(",") if name]
    for name in grow:
        if name not in benchmark.growths:
            raise UserError(f"grow: {name} is not measured; there are {', '.join(benchmark.growths)}")
    if own["rounds"] < 1:
        raise UserError(f"rounds is {own['rounds']}; it must be at least 1")
    given.setdefault("num_gpu", {"cpu": 0, "cuda": 1}[own["device"]])
    config = Config(**{**benchmark.defaults, **given})
    device = pick_device(config.num_gpu)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    actions = benchmark.actions(config, device)
    memory = memory_of(actions, device)
    rows = in_turns(actions, own["rounds"], device)
    results = {
        "machine": machine(device),
        "settings": {**benchmark.defaults, **given},
        "peak_megabytes": memory,
        "rows": as_dicts(rows),
    }
    print(json.dumps(results["machine"]))
    print(f"{table(rows)}\n")
    print("peak memory, those before included: " + ", ".join(f"{name} {used:,} MB" for name, used in memory.items()))
    if grow:
        results["growth"] = {name: _grow(benchmark, config, name, own["rounds"], device) for name in grow}
    if own["output"]:
        write_json(Path(own["output"]), results)
        if grow:
            from benchmarks.plots import write_growth  # loads matplotlib, which would count as memory of the actions

            write_growth(results["growth"], Path(own["output"]).with_suffix(".png"))


def memory_of(actions: list[Action], device: torch.device) -> dict[str, int]:
    """Return the peak of memory after each action, before any of its products are recorded; on a GPU that of each."""
    used = {}
    for action in actions:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        for _ in range(MEMORY_RUNS):
            action.run()
        used[action.name] = round(peak_memory(device))
    return used


def _grow(benchmark: Benchmark, config: Config, name: str, rounds: int, device: torch.device) -> list[dict]:
    points = []
    for value in benchmark.growths[name]:
        rows: list[Row] = in_turns(benchmark.grown(config, name, value, device), rounds, device)
        points.append({"value": value, "rows": as_dicts(rows)})
        print(f"{name} {value}: " + ", ".join(f"{row.name} {row.milliseconds:.1f} ms" for row in rows), flush=True)
    return points


MEMORY_RUNS = 2  # the second runs beside what the first left in caches and optimisers
OWN = {"device": "cpu", "rounds": 10, "output": "", "grow": ""}


def _add_flags(parser: Parser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to measure (default: cpu)")
    parser.add_argument("--rounds", type=int, metavar="N", help="times that each action is timed (default: 10)")
    parser.add_argument("--output", metavar="FILE.json", help="where the figures go; with --grow a plot beside it")
    parser.add_argument("--grow", metavar="NAMES", help="sizes, by commas, along which to measure too")

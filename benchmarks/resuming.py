"""Do runs survive? Faults are put into small runs, which are then continued and compared with undisturbed ones.

python -m benchmarks.resuming --output resuming.json
"""

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.faulty import FORMAT
from benchmarks.measure import machine
from enas.files import read_json, write_json
from enas.guard import guarded
from enas.parser import Parser
from enas.rnn.cell import RNNCell
from enas.search.checkpoint import Checkpoints, load_checkpoint
from enas.terminal import progress_bar

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ("train", "valid", "test")
SIZES = {
    "dataset": "letters", "num_gpu": 0, "num_threads": 1, "precision": "float32", "num_blocks": 3, "batch_size": 4,
    "shared_embed": 8, "shared_hid": 8, "shared_rnn_max_length": 6, "shared_max_step": 10, "shared_lr": 1.0,
}  # fmt: skip
SEARCH = SIZES | {
    "max_epoch": 4, "save_epoch": 1, "controller_hid": 8, "controller_max_step": 5, "derive_num_sample": 4,
    "derive_max_batches": 1, "log_step": 5, "max_save_num": 3,
}  # fmt: skip
ALONE = SIZES | {"max_epoch": 2}
STEPS_BETWEEN_CHECKPOINTS = 15  # of the search: an epoch
RANK_TIMEOUT = 5

# The statuses that a clean end may have; 0 besides, where the run was over before.
STATUSES = {
    "kill": (-signal.SIGKILL,),
    "terminate": (128 + signal.SIGTERM, -signal.SIGTERM),
    "interrupt": (128 + signal.SIGINT, -signal.SIGINT),  # when all is done and Python ends
    "full": (2,),
    "limit": (2,),
    "readonly": (2,),
    "data": (0,),
    "nan_shared": (0, 1),
    "nan_controller": (1,),
    "truncate": (-signal.SIGKILL,),
    "flip": (-signal.SIGKILL,),
    "hang": (1, 3),
}
SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
KINDS = {
    "kill": "SIGKILL",
    "terminate": "SIGTERM",
    "interrupt": "SIGINT",
    "full": "disk full",
    "limit": "files limited to some kilobytes",
    "readonly": "read-only folder",
    "data": "data removed",
    "nan_shared": "NaN in ω",
    "nan_controller": "NaN in θ",
    "truncate": "SIGKILL, newest checkpoint truncated",
    "flip": "SIGKILL, a bit of the newest checkpoint flipped",
    "hang": "hung",
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and where.

    Attributes:
        work: search, ablation, evaluation, or ranks: a search by two processes of torchrun.
        kind: a key of `KINDS`.
        point: where in the program, see `benchmarks.faulty`; "any time" is a random moment.
        count: at which time that the point is reached.
        share: of the undisturbed run's time, for "any time".
        rank: of ranks, the process that is hit.
        size: of kind limit, bytes.
    """

    work: str
    kind: str
    point: str
    count: int = 1
    share: float = 0.0
    rank: int = 0
    size: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        problem: what is wrong with it; empty where nothing is.
        steps_lost: steps of training that were done and had to be done again.
        trainings_repeated: of an ablation or evaluation, trainings that were begun again.
    """

    problem: str = ""
    steps_lost: int = 0
    trainings_repeated: int = 0


def plan(seed: int) -> list[Fault]:
    """Return the trials, more than a hundred; the places within a run are drawn with `seed`."""
    rng = random.Random(seed)
    faults = []
    writing = ("fsync", "rename", "renamed", "folder fsync")
    training = ("shared step", "controller update", "evaluation")
    for kind, times in (("kill", 3), ("terminate", 1), ("interrupt", 1)):
        for point in (*writing, *training):
            most = {"shared step": 40, "controller update": 20, "evaluation": 4}.get(point, 16)
            faults += [Fault("search", kind, point, rng.randint(1, most)) for _ in range(times)]
        faults += [Fault("search", kind, "any time", share=rng.uniform(0.4, 0.98)) for _ in range(3 + 2 * times)]
    for kind, point, most, times in (
        ("full", "fsync", 16, 5),
        ("full", "folder fsync", 16, 2),
        ("readonly", "open", 16, 5),
        ("data", "shared step", 40, 3),
        ("nan_shared", "shared step", 40, 4),
        ("nan_controller", "controller update", 20, 4),
        ("truncate", "shared step", 40, 5),
        ("flip", "shared step", 40, 5),
    ):
        low = 12 if kind in ("truncate", "flip") else 1  # there must be an older checkpoint
        faults += [Fault("search", kind, point, rng.randint(low, most)) for _ in range(times)]
    faults += [Fault("search", "limit", "start", size=size) for size in (100, 1000, 3000, 8000, 16_000, 24_000, 40_000)]
    for work, most in (("ablation", 12), ("evaluation", 20)):
        for kind in ("kill", "terminate", "interrupt"):
            faults += [Fault(work, kind, point, rng.randint(1, most)) for point in ("fsync", "rename", "renamed")]
            faults.append(Fault(work, kind, "any time", share=rng.uniform(0.4, 0.98)))
        for kind, point in (("full", "fsync"), ("readonly", "open")):
            faults.append(Fault(work, kind, point, rng.randint(1, most)))
    for rank in (0, 1):
        for kind, point, most in (("kill", "shared step", 40), ("kill", "evaluation", 4), ("hang", "shared step", 40)):
            faults.append(Fault("ranks", kind, point, rng.randint(2, most), rank=rank))
    return faults


# --- the work ---------------------------------------------------------------------------------------------------------


def _flags(settings: dict) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def command(work: str) -> list[str]:
    """Return the script and the flags of some work in the working directory."""
    if work == "ablation":
        return [str(ROOT / "ablation_studies/node_removal.py"), "--mode", "train_scratch", "--dag_path", "cell.json",
                *_flags(ALONE)]  # fmt: skip
    if work == "evaluation":
        table = {"budget": "budget.py", "table": "table.json", "num_truth": 3, "truth_seeds": 1, "seeds": 1,
                 "methods": "search,uniform", "backend": "sequential"}  # fmt: skip
        return [str(ROOT / "ablation_studies/search_evaluation.py"), *_flags(table | SEARCH)]
    limit = {"rank_timeout": RANK_TIMEOUT} if work == "ranks" else {}
    return [str(ROOT / "main.py"), *_flags(SEARCH | limit)]


def prepare(folder: Path) -> None:
    """Write what the work reads: a text, an architecture, a budget."""
    rng = random.Random(0)
    (folder / "data" / "letters").mkdir(parents=True)
    for split in SPLITS:
        lines = [" ".join(rng.choices("abcdefgh", k=6)) for _ in range(80 if split == "train" else 30)]
        (folder / "data" / "letters" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    (folder / "cell.json").write_text(RNNCell(("tanh", "ReLU", "identity"), (0, 1)).to_json())
    places = ("num_gpu", "num_threads")
    lines = [f"{name} = {value!r}" for name, value in ALONE.items() if name not in places]
    (folder / "budget.py").write_text("\n".join(lines) + "\n")


def start(work: str, folder: Path, fault: dict, flags: list[str]) -> subprocess.Popen:
    """Start a process that does the work with a fault in it."""
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"] if work == "ranks" else []
    words = [sys.executable, *ranks, "-m", "benchmarks.faulty", json.dumps(fault), str(folder / "record"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for a process: its status, and what it wrote to stderr."""
    _, err = process.communicate(timeout=300)
    return process.returncode, err


NOTHING = {"kind": "kill", "point": "never", "count": 0, "rank": 0}


@dataclass(frozen=True)
class Undisturbed:
    """What a run of some work leaves where nothing goes wrong, how long it takes, and how many trainings it begins."""

    left: dict
    seconds: float
    trainings: int


def undisturbed(work: str, folder: Path) -> Undisturbed:
    """Do the work once."""
    prepare(folder)
    start_time = time.monotonic()
    status, err = finish(start(work, folder, NOTHING, command(work)))
    if status != 0:
        raise RuntimeError(f"{work} fails without a fault: {err}")
    return Undisturbed(left_by(work, folder), time.monotonic() - start_time, _record(folder)[1])


def _record(folder: Path) -> tuple[int, int]:
    path = folder / "record"
    content = path.read_bytes() if path.exists() else b""
    return struct.unpack(FORMAT, content) if content else (0, 0)


def _run_folders(folder: Path) -> list[Path]:
    return sorted((folder / "logs").glob("*_*")) if (folder / "logs").exists() else []


def left_by(work: str, folder: Path) -> dict:
    """Return the files that the work left, without readings of the clock."""
    if work == "ablation":
        return _timeless(read_json(folder / "analysis_results/node_removal/cell_train_scratch/results.json"))
    if work == "evaluation":
        results = read_json(folder / "analysis_results/search_evaluation/table/results.json")
        return _timeless({"results": results, "table": read_json(folder / "table.json")})
    run = _run_folders(folder)[-1]
    state = load_checkpoint(Checkpoints(run / "checkpoints").paths()[-1])
    return _timeless({"state": state, "results": read_json(run / "results.json")})


def _timeless(value):
    clock = ("seconds", "cpu_seconds", "wall_seconds", "training_seconds")
    if isinstance(value, dict):
        return {name: _timeless(item) for name, item in value.items() if name not in clock}
    if isinstance(value, list | tuple):
        return [_timeless(item) for item in value]
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else value


# --- a trial ----------------------------------------------------------------------------------------------------------


def trial(fault: Fault, folder: Path, expected: Undisturbed) -> Outcome:
    """Do the work with a fault in it, continue it, and compare."""
    prepare(folder)
    status, err = _disturbed(fault, folder, expected)
    problem = _unclean(fault, status, err)
    if problem:
        return Outcome(problem)
    done = _record(folder)[0]
    if fault.kind in ("truncate", "flip"):
        _damage(_newest(folder), fault)
    lost = max(0, done - _saved_step(folder)) if fault.work in ("search", "ranks") and status != 0 else 0
    if fault.kind == "data":
        problem = _refused_without_data(fault, folder)
        prepare_data_again(folder)
    if fault.kind == "nan_shared":
        return Outcome("" if status == 1 or _is_finite(folder) else "its results are not finite", lost)
    status, err = _continued(fault, folder)
    if status != 0:
        return Outcome(f"cannot be continued: {err.strip()}", lost)
    repeated = max(0, _record(folder)[1] - expected.trainings) if fault.work in ("ablation", "evaluation") else 0
    if left_by(fault.work, folder) != expected.left:
        problem = problem or "ends otherwise than the undisturbed run"
    return Outcome(problem or _too_much(fault, lost, repeated), lost, repeated)


def _disturbed(fault: Fault, folder: Path, expected: Undisturbed) -> tuple[int, str]:
    description = {**asdict(fault), "kind": "kill" if fault.kind in ("truncate", "flip") else fault.kind}
    process = start(fault.work, folder, {**description, "data": str(folder / "data")}, command(fault.work))
    if fault.point == "any time":
        time.sleep(fault.share * expected.seconds)
        process.send_signal(SIGNALS[fault.kind])
    return finish(process)


def _unclean(fault: Fault, status: int, err: str) -> str:
    """Return the fault in how a process ended."""
    if fault.work == "ranks":
        said = [line for line in err.splitlines() if line.startswith("error: ")]
        return "" if status != 0 and len(said) <= 1 and "enas/" not in err else f"status {status}: {err[-500:]}"
    if status not in (*STATUSES[fault.kind], 0):
        return f"ended with status {status}: {err[-500:]}"
    return "" if len(err.strip().splitlines()) <= 1 else f"said {err[-500:]}"


def _newest(folder: Path) -> Path | None:
    runs = _run_folders(folder)
    paths = Checkpoints(runs[-1] / "checkpoints").paths() if runs else []
    return paths[-1] if paths else None


def _saved_step(folder: Path) -> int:
    """How many steps the newest checkpoint that can be read has."""
    runs = _run_folders(folder)
    if _newest(folder) is None:
        return 0
    progress = Checkpoints(runs[-1] / "checkpoints").newest()[1]["progress"]
    return progress["total_shared_steps"] + progress["total_controller_updates"]


def _damage(path: Path, fault: Fault) -> None:
    content = bytearray(path.read_bytes())
    place = (fault.count * 7919) % len(content)
    if fault.kind == "truncate":
        del content[place:]
    else:
        content[place] ^= 1 << fault.count % 8
    path.write_bytes(content)


def _refused_without_data(fault: Fault, folder: Path) -> str:
    status, err = finish(
        start(fault.work, folder, NOTHING, [str(ROOT / "main.py"), "--mode", "test", "--num_gpu", "0"])
    )
    return "" if status == 2 and len(err.splitlines()) == 1 else f"without data: status {status}, {err[-500:]}"


def prepare_data_again(folder: Path) -> None:
    """Put back what was removed."""
    with tempfile.TemporaryDirectory() as other:
        prepare(Path(other))
        shutil.copytree(Path(other) / "data", folder / "data")


def _is_finite(folder: Path) -> bool:
    return read_json(_run_folders(folder)[-1] / "results.json")["validation_perplexity"] is not None


def _continued(fault: Fault, folder: Path) -> tuple[int, str]:
    flags = command(fault.work)
    if fault.work in ("search", "ranks"):
        if _newest(folder) is None:  # nothing was saved yet
            shutil.rmtree(folder / "logs", ignore_errors=True)
        else:
            flags = [str(ROOT / "main.py"), "--load_path", str(_run_folders(folder)[-1]), "--num_gpu", "0"]
    return finish(start(fault.work, folder, NOTHING, flags))


def _too_much(fault: Fault, steps: int, trainings: int) -> str:
    """Return the steps that a run lost beyond the work since its last checkpoint."""
    most = STEPS_BETWEEN_CHECKPOINTS * (2 if fault.kind in ("truncate", "flip") else 1)
    if fault.kind in ("terminate", "interrupt") and fault.work == "search" and fault.point != "any time":
        most = STEPS_BETWEEN_CHECKPOINTS if fault.point in ("fsync", "rename", "renamed", "folder fsync") else 0
    if steps > most:
        return f"{steps} steps lost, and {most} lie between two checkpoints"
    return f"{trainings} trainings repeated" if trainings > 1 else ""


# --- the table --------------------------------------------------------------------------------------------------------


def run(faults: list[Fault], folder: Path) -> Iterator[tuple[Fault, Outcome]]:
    """Yield the outcome of each trial."""
    known = {}
    for number, fault in enumerate(progress_bar(faults, "faults")):
        if fault.work not in known:
            known[fault.work] = undisturbed(fault.work, folder / fault.work)
        place = folder / str(number)
        yield fault, trial(fault, place, known[fault.work])
        shutil.rmtree(place)


def table(rows: list[tuple[Fault, Outcome]]) -> list[str]:
    """Trials and losses by work and kind, as Markdown."""
    groups = defaultdict(list)
    for fault, outcome in rows:
        groups[fault.work, fault.kind].append((fault, outcome))
    lines = ["| work | fault | where | trials | survived | steps lost, at most | trainings repeated, at most |"]
    lines.append("|---" * 7 + "|")
    for (work, kind), found in groups.items():
        points = ", ".join(dict.fromkeys(fault.point for fault, _ in found))
        good = sum(not outcome.problem for _, outcome in found)
        steps, trainings = (
            max(getattr(outcome, name) for _, outcome in found) for name in ("steps_lost", "trainings_repeated")
        )
        lines.append(f"| {work} | {KINDS[kind]} | {points} | {len(found)} | {good} | {steps} | {trainings} |")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Run the trials as the flags say; returns the exit status, 1 where a run did not survive."""
    parser = Parser("Put faults into small runs, and see whether they survive.", prog="python -m benchmarks.resuming")
    parser.add_argument("--seed", type=int, default=1, help="of the places within a run (default: 1)")
    parser.add_argument("--works", default="search,ablation,evaluation,ranks", help="which of them (default: all)")
    parser.add_argument("--output", metavar="FILE.json", default="", help="where the outcomes are written")
    failed = []
    status = guarded(lambda: failed.extend(_measure(**parser.given(argv))))
    return status or int(bool(failed))


def _measure(seed: int, works: str, output: str) -> list[Fault]:
    faults = [fault for fault in plan(seed) if fault.work in works.split(",")]
    rows: list[tuple[Fault, Outcome]] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in run(faults, Path(folder)):
            rows.append(row)
            if row[1].problem:
                print(f"{row[0]}: {row[1].problem}", flush=True)
            if output:
                trials = [{**asdict(fault), **asdict(outcome)} for fault, outcome in rows]
                write_json(Path(output), {"machine": machine(torch.device("cpu")), "trials": trials})
    print("\n".join(table(rows)))
    return [fault for fault, outcome in rows if outcome.problem]


if __name__ == "__main__":
    sys.exit(main())

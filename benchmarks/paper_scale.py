"""The experiments of the paper's size, for a GPU that can be had only for minutes at a time.

python -m enas download ptb
python -m benchmarks.paper_scale --output FOLDER --minutes 9
python -m benchmarks.paper_scale --output FOLDER --report

Each call goes on where the one before it stopped, until every piece has ended; --piece NAME runs one piece. All that
has to outlast a call is in FOLDER: figures in rows.jsonl, and the state of the run in progress in four files, together
below --megabytes. Weights are rounded if only that makes the state small enough, and the rows say so. Without rounding,
several calls give the result of one. A state that no rounding makes small enough ends its piece when the time is up.
Below 147 MB that happens to the search of `ptb`, which gets furthest if --piece search has a call for itself.

On a machine that starts bare, has no network and gives one folder back, a call is one line:

    mkdir -p state; cp -r state/. "$OUT"; PYTHONPATH=site python -m benchmarks.paper_scale --output "$OUT" --minutes 8

These folders travel with the project: `state`, which came back from the call before (there is none at first);
`data/ptb`; and `site`, where `pip install --no-deps --target site PACKAGE` left those packages of requirements.txt that
the machine lacks. The image pieces need `data/cifar10` (180 MB), or another dataset, which --images names. If all that
travels has a limit, choose --megabytes so that the data fit beside the state.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import cnn, rnn
from benchmarks.carried import carried, pack, remove, unpack
from benchmarks.command import memory_of
from benchmarks.measure import as_dicts, in_turns, machine
from benchmarks.paper_rows import Rows, report_of
from enas.config import Config, with_preset
from enas.errors import Interrupted, NotFoundError, TrainingDivergedError, UserError
from enas.files import make_writable
from enas.guard import guarded
from enas.parser import Parser
from enas.runs import run
from enas.runs.folder import saved_config
from enas.runs.opening import pick_device
from enas.search.architecture import architecture_from_dict
from enas.search.checkpoint import Checkpoints

LM = str(Path(__file__).resolve().parent.parent / "configs" / "architectures" / "enas_lm.json")
SCRATCH = {"config": "ptb_final", "mode": "single", "max_epoch": 300}
# In one precision, so that the plain model is compared with the same arithmetic.
SPEEDS = {f"speed_{name}": {"config": name, "precision": "tf32"} for name in ("ptb", "cifar_macro", "cifar_micro")}
RUNS: dict[str, dict[str, Any]] = {
    "search": {"config": "ptb", "max_epoch": 50, "save_epoch": 5},
    "search_200": {"config": "ptb", "max_epoch": 50, "save_epoch": 5, "shared_embed": 200, "shared_hid": 200},
    "derived": SCRATCH,  # the architecture that `search` derives
    "enas_lm": {**SCRATCH, "dag_path": LM},
    "cifar_macro": {"config": "cifar_macro", "max_epoch": 10, "save_epoch": 5},
    "cifar_micro": {"config": "cifar_micro", "max_epoch": 10, "save_epoch": 5},
}
PIECES = (*SPEEDS, *RUNS)
SMALL_EITHER = {"max_epoch": 4, "controller_max_step": 4, "controller_num_aggregate": 2, "derive_num_sample": 3}
SMALL_EITHER |= {
    "precision": "float32",
    "save_epoch": 2,
    "derive_max_batches": 1,
    "shared_max_step": 4,
    "num_threads": 1,
    "num_gpu": 0,
}
SMALL = {
    "rnn": {**SMALL_EITHER, "dataset": "markov", "num_blocks": 3, "shared_embed": 16, "shared_hid": 16},
    "cnn": {**SMALL_EITHER, "dataset": "shapes", "image_size": 8, "cnn_num_layers": 3, "cnn_hid": 4, "batch_size": 8},
}
SECONDS_TO_BEGIN = 60  # a training takes so long before its first step
EPOCHS_A_ROW = 25  # of a training from scratch
ROUNDS = 5


@dataclass
class Call:
    """One call of this program: where figures and state go, when it ends, and with which data it runs."""

    output: Path
    rows: Rows
    until: float  # on the monotonic clock
    data_dir: str
    images: str  # the dataset of the image pieces
    megabytes: float
    small: bool

    def config(self, settings: dict[str, Any], log_dir: str = "logs") -> Config:
        """Return the settings of a piece."""
        values = with_preset({**settings, "max_save_num": 1, "data_dir": self.data_dir, "log_dir": log_dir})
        kind = values.get("network_type", "rnn")
        values |= {"dataset": self.images} if kind == "cnn" else {}
        return Config(**{**values, **(SMALL[kind] if self.small else {})})


def main(argv: list[str] | None = None) -> int:
    """Measure, or report, as the flags say; returns the exit status."""
    parser = Parser("The experiments of the paper's size, minutes at a time.", prog="python -m benchmarks.paper_scale")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the figures and the state go")
    parser.add_argument("--minutes", type=float, default=9, help="the call ends soon after these (default: 9)")
    parser.add_argument("--piece", default="", metavar="NAME", help=f"run one piece: {', '.join(PIECES)}")
    parser.add_argument("--data_dir", default="data", help="the folder of the datasets (default: data)")
    parser.add_argument("--images", default="cifar", help="the dataset of the image pieces (default: cifar)")
    parser.add_argument("--megabytes", type=float, default=60, help="limit on the state between calls (default: 60)")
    parser.add_argument("--commit", default="", help="the version in the rows (default: that of git)")
    parser.add_argument("--small", action="store_true", default=False, help="tiny settings, for seconds of a CPU")
    parser.add_argument("--report", action="store_true", default=False, help="print the rows as Markdown, run nothing")
    return guarded(lambda: _main(**parser.given(argv)))


def _main(output: str, minutes: float, piece: str, commit: str, report: bool, **given: Any) -> None:
    if piece not in ("", *PIECES):
        raise UserError(f"piece: {piece} is unknown; there are {', '.join(PIECES)}")
    facts = {**machine(pick_device(0 if given["small"] else -1)), "commit": commit or _commit() or "unknown"}
    rows = Rows(Path(output) / "rows.jsonl", facts)
    if report:
        print(report_of(rows.read(), PIECES))
        return
    call = Call(Path(output), rows, time.monotonic() + 60 * minutes, **given)
    make_writable(call.output)
    failed = []
    for name in [piece] if piece else PIECES:
        needed = SECONDS_TO_BEGIN if name in RUNS and not call.small else 0
        if any(row.get("ended") for row in rows.read(name)):
            print(f"{name}: has ended")
        elif time.monotonic() < call.until - needed:
            try:
                (_measure_speed if name in SPEEDS else _train)(name, call)
            except Exception as error:  # the minutes that are left are the other pieces'
                if piece or isinstance(error, Interrupted):
                    raise
                failed.append(name)
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    if failed:
        raise UserError(f"not measured: {', '.join(failed)}; the lines above say why")
    if time.monotonic() >= call.until:
        print("the time is up; the same command goes on")


def _measure_speed(name: str, call: Call) -> None:
    config, start = call.config(SPEEDS[name]), time.monotonic()
    device = pick_device(config.num_gpu)
    actions = (cnn if config.network_type == "cnn" else rnn).actions(config, device)
    peaks, rows = memory_of(actions, device), as_dicts(in_turns(actions, ROUNDS, device))
    rows = [{**row, "peak_megabytes": peaks[row["name"]], "precision": config.precision} for row in rows]
    call.rows.append(name, [*rows, {"ended": True, "note": "", "seconds": round(time.monotonic() - start, 1)}])


def _train(name: str, call: Call) -> None:
    """Begin or go on with a run until the time is up; write its rows, and its state unless it has ended."""
    if (other := carried(call.output)) not in ("", name):
        raise UserError(f"{call.output}: holds the state of {other}; end it with --piece {other}, or remove {other}.*")
    with tempfile.TemporaryDirectory() as logs:
        folder, stop, failure, total = Path(logs) / name, None, None, {"ended": True, "note": ""}
        earlier = unpack(call.output, name, folder)
        roundings, here = earlier or [], {"data_dir": call.data_dir, "num_gpu": 0 if call.small else -1}
        try:
            with _stopped_at(call.until):
                results = _begin(name, call, logs) if earlier is None else run.resume(folder, **here)
            folder = next(Path(logs).glob("*/params.json")).parent
            if results["mode"] == "single":
                try:
                    total["test"] = run.test(folder, **here)["test_perplexity"]
                except NotFoundError:
                    total["note"] = "the best epoch was in an earlier call, and is not tested"
        except Interrupted as error:
            stop, total["ended"] = error, False
        except TrainingDivergedError as error:
            total["note"] = str(error)
        except Exception as error:  # its newest checkpoint is kept for the next call
            failure, total["ended"] = error, False
        folder = next((path.parent for path in Path(logs).glob("*/params.json")), folder)
        if any(folder.glob("checkpoints/*.pt")):
            _record(name, call, folder, roundings, total)
    if failure is not None:
        raise failure
    if stop is not None and time.monotonic() < call.until:  # the signal is somebody else's
        raise Interrupted(stop.status - 128, "the same command goes on")


def _record(name: str, call: Call, folder: Path, roundings: list[int], total: dict[str, Any]) -> None:
    """Write the rows of a run, and the state that it goes on from; `total` says whether it has ended."""
    progress = Checkpoints(folder / "checkpoints").newest()[1]["progress"]
    if not total["ended"]:
        bits = pack(call.output, name, folder, roundings, call.megabytes)
        total["ended"] = bits is None and progress["architecture"] is not None  # without one it begins again
        too_large = f"stopped: with 8 bits a weight its state exceeds {call.megabytes:g} MB"
        total["note"] = f"weights carried in {bits} bits" if bits else too_large
    total |= {"epochs": progress["epoch"], "of": saved_config(folder).max_epoch}
    total |= {"architecture": progress["architecture"], "seconds": round(progress["wall_seconds"], 1)}
    total["precision"] = saved_config(folder).precision
    fresh = call.rows.new(name, progress["history"], 1 if call.small else EPOCHS_A_ROW)
    call.rows.append(name, [{**row, "rounded": roundings} for row in [*fresh, total]])
    if total["ended"]:
        remove(call.output, name)


def _begin(name: str, call: Call, logs: str) -> dict[str, Any]:
    config, architecture = call.config(RUNS[name], logs), None
    if config.mode != "single":
        return run.train(config)
    if name == "derived":
        found = [row["architecture"] for row in call.rows.read("search") if row.get("architecture")]
        if not found:
            raise UserError("derived: the search has derived no architecture yet; run --piece search first")
        architecture = architecture_from_dict(found[-1])
    return run.train(config, architecture)


@contextmanager
def _stopped_at(until: float) -> Iterator[None]:
    """Send this process SIGTERM at a time of the monotonic clock; outside of training it raises Interrupted."""

    def stop(signum: int, _frame: object) -> None:
        raise Interrupted(signum, "the same command goes on")

    before = signal.signal(signal.SIGTERM, stop)
    timer = threading.Timer(max(0.0, until - time.monotonic()), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)


def _commit() -> str:
    with suppress(OSError):  # no git
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        return found.stdout.strip()
    return ""


if __name__ == "__main__":
    sys.exit(main())

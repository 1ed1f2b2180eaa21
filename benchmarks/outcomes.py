"""Does a change of structure change an outcome? Record what runs and commands give, and compare another tree with it.

python -m benchmarks.outcomes --output before.json --data_dir data
python -m benchmarks.outcomes --output after.json --data_dir data --compare before.json

It calls nothing but commands, so that modules may move. Both recordings must be made on the same processor.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from enas.errors import UserError
from enas.guard import guarded
from enas.parser import Parser

ROOT = Path(__file__).resolve().parent.parent
MACHINE = "--num_gpu 0 --num_threads 1 --precision float32"
SMALL = (
    "--dataset markov --num_blocks 4 --shared_embed 16 --shared_hid 16 --shared_max_step 20 --controller_max_step 10 "
)
SMALL += "--max_epoch 2 --save_epoch 1 --derive_num_sample 10"
IMAGES = "--network_type cnn --dataset shapes --cnn_hid 8 --cnn_num_layers 3 --cnn_num_blocks 2 --shared_max_step 10 "
IMAGES += "--controller_max_step 10 --max_epoch 2 --save_epoch 1 --derive_num_sample 10 --scratch_cnn_hid 8"
# Searches by name; each is followed by every mode, study and export of what it left.
SEARCHES = {
    "demo": "--config demo --max_epoch 4",
    "flexible": f"{SMALL} --train_type flexible",
    "tree": f"{SMALL} --train_type hardcoded --architecture tree",
    "chain": f"{SMALL} --train_type hardcoded --architecture chain",
    "random": f"{SMALL} --train_type random",
    "macro": f"{IMAGES} --cnn_space macro",
    "micro": f"{IMAGES} --cnn_space micro --scratch_cnn_num_layers 3",
    "ptb_small": "--config ptb_small --max_epoch 2",
    "cifar_macro_small": "--config cifar_macro_small --max_epoch 2",
    "cifar_micro_small": "--config cifar_micro_small --max_epoch 2",
}
LARGE = ("ptb_small", "cifar_macro_small", "cifar_micro_small")  # need data that is not built in; searched only
AFTERWARDS = {
    "derive": "main.py --mode derive --load_path RUN --derive_num_sample 20",
    "test": "main.py --mode test --load_path RUN",
    "node_removal": "ablation_studies/node_removal.py --load_path RUN --max_batches 1",
    "gif": "generate_gif.py --model_name RUN --output search.gif",
    "export": "-m enas export --load_path RUN --output taken",
    "report": "-m enas report --load_path RUN --output report.html",
    "train_scratch": "main.py --mode train_scratch --load_path RUN --max_epoch 2 --log_dir scratch "
    "--num_threads 1 --precision float32",
}
SINGLES = {
    "lstm": f"main.py --mode single --dag_path lstm {SMALL} {MACHINE}",
    "enas_micro": f"main.py --mode single --dag_path {ROOT}/configs/architectures/enas_micro.json {IMAGES} "
    f"--cnn_space micro --cnn_num_blocks 5 --scratch_cnn_num_layers 3 {MACHINE}",
}
REFUSED = (
    "main.py --help",
    "main.py --help_all",
    "main.py --shared_lrr 3",
    "main.py --shared_lr -3",
    "main.py --config nonesuch",
    "main.py --config ptb_small --network_type cnn",
    "main.py --mode derive --dataset markov",
    "main.py --mode single --dataset markov",
    "main.py --dataset nonesuch",
    "main.py --load_path nonesuch",
    "main.py --train_type flexible --num_blocks 2",
    "ablation_studies/node_removal.py --mode single",
    "ablation_studies/search_evaluation.py --config cells3",
    "generate_gif.py --model_name nonesuch --output a.gif",
    "-m enas",
    "-m enas nonesuch",
    "-m enas export --load_path nonesuch --output a",
    "-m enas convert --from enas 0 0 9",
)


def record(data_dir: str, only: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield each outcome by name: what stands in files, and what commands say."""
    with tempfile.TemporaryDirectory() as work:
        home = Path(work)
        for name, flags in SEARCHES.items():
            if only and name not in only:
                continue
            if name in LARGE and not data_dir:
                print(f"{name}: left out; --data_dir names its data")
                continue
            place = f" --data_dir {Path(data_dir).resolve()}" if name in LARGE else f" --data_dir {home / 'data'}"
            yield from _searched(home / name, name, f"{flags}{place} {MACHINE}")
        if only:
            return
        yield "resumed", _resumed(home / "resumed", f"{SEARCHES['demo']} --data_dir {home / 'data'} {MACHINE}")
        ranks = f"-m torch.distributed.run --nproc_per_node=2 {ROOT}/main.py {SMALL} --shared_num_sample 2"
        _call(f"{ranks} --data_dir {home / 'data'} {MACHINE}", home / "ranks")
        yield "ranks", _left(home / "ranks")
        for name, command in SINGLES.items():
            _call(f"{command} --data_dir {home / 'data'}", home / name)
            yield name, _left(home / name)
        for command in REFUSED:
            yield command, _call(command, home / "refused", is_expected=False)


def _searched(home: Path, name: str, flags: str) -> Iterator[tuple[str, Any]]:
    said = _call(f"main.py {flags}", home)
    yield name, {"said": said, **_left(home)}
    if name in LARGE:
        return
    (run,) = (home / "logs").iterdir()
    for what, command in AFTERWARDS.items():
        said = _call(command.replace("RUN", str(run)), home)
        yield f"{name}, {what}", {"said": said, **_left(home)}


def _resumed(home: Path, flags: str) -> Any:
    """Return the outcome of a search that is stopped once, at any moment, and goes on."""
    process = _start(f"main.py {flags}", home)
    while not any((home / "logs").glob("*/checkpoints/00002-*.pt")) and process.poll() is None:
        time.sleep(0.1)
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    (run,) = (home / "logs").iterdir()
    _call(f"main.py --load_path {run}", home)
    return _left(home)


def _start(command: str, home: Path) -> subprocess.Popen[str]:
    home.mkdir(parents=True, exist_ok=True)
    words = [str(ROOT / word) if word.endswith(".py") and (ROOT / word).is_file() else word for word in command.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *words], cwd=home, env=environment, text=True, **pipes)


def _call(command: str, home: Path, *, is_expected: bool = True) -> dict[str, Any]:
    process = _start(command, home)
    out, err = process.communicate()
    if is_expected and process.returncode:
        raise UserError(f"{command}: ended with {process.returncode}: {err[-2000:]}")
    return {"status": process.returncode, "stdout": _plain(out, home), "stderr": _plain(err, home)}


def _left(home: Path) -> dict[str, Any]:
    """Return the files that runs left in a folder, and the content that a change must not move."""
    files = sorted(path for path in home.rglob("*") if path.is_file() and path.name != ".lock")
    found: dict[str, Any] = {"files": sorted({_plain(str(path.relative_to(home)), home) for path in files})}
    for path in files:
        key = _plain(str(path.relative_to(home)), home)
        if path.suffix in (".json", ".csv") or path.name in ("model.py", "modeling_enas.py"):
            found[key] = _plain(path.read_text(), home)
    for folder in {path.parent for path in files if path.suffix == ".pt"}:
        newest = max(folder.glob("0*.pt"))
        state = torch.load(newest, weights_only=True)
        model, controller = state["task"]["model"], state.get("controller", {})
        shapes = {name: list(tensor.shape) for part in (model, controller) for name, tensor in part.items()}
        found[_plain(str(newest.relative_to(home)), home)] = {"shapes": shapes, "digest": _digest(model, controller)}
    return found


def _digest(*parts: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for name, tensor in sorted(part.items()):
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _plain(text: str, home: Path) -> str:
    """Text without what differs from call to call: places, times and dates."""
    text = text.replace(str(home.parent), "WORK").replace(str(ROOT), "ROOT")
    text = re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?", "TIME", text)
    text = re.sub(r"events\.out\.tfevents\.\S+", "EVENTS", text)
    text = re.sub(r'"(wall_seconds|cpu_seconds|seconds|torch)": [^,\n}]+', r'"\1": …', text)
    return re.sub(r"\(\d+ s\)", "(… s)", text)


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Yield a line for each place where two recordings differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from differences(before.get(key), after.get(key), f"{place} / {key}" if place else key)
    elif isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        ours, theirs = before.splitlines(), after.splitlines()
        for line in ours:
            if line not in theirs:
                yield f"{place}: − {line.strip()}"
        for line in theirs:
            if line not in ours:
                yield f"{place}: + {line.strip()}"
    elif before != after:
        yield f"{place}: {before!r} became {after!r}"


def main(argv: list[str] | None = None) -> int:
    """Record, and compare; returns the exit status, 1 where something differs."""
    parser = Parser("Record what runs and commands give, and say what differs from an earlier recording.")
    parser.add_argument("--output", metavar="FILE", required=True, help="where the recording goes")
    parser.add_argument("--compare", metavar="FILE", help="the earlier recording")
    parser.add_argument("--data_dir", metavar="DIR", help="where ptb and cifar10 lie; without it they are left out")
    parser.add_argument("--only", metavar="NAME,…", help=f"some of the searches: {', '.join(SEARCHES)}")
    found: list[str] = []

    def act() -> None:
        given = parser.given(argv)
        recording = {}
        for name, outcome in record(
            given.get("data_dir", ""), given.get("only", "").split(",") if "only" in given else []
        ):
            print(name, flush=True)
            recording[name] = outcome
            Path(given["output"]).write_text(json.dumps(recording, indent=1, ensure_ascii=False))
        if "compare" in given:
            before = json.loads(Path(given["compare"]).read_text())
            found.extend(differences({name: before.get(name) for name in recording}, recording))
            print("\n".join(found) if found else "nothing differs")

    return guarded(act) or bool(found)


if __name__ == "__main__":
    sys.exit(main())

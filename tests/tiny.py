"""Runs so small that a test can afford them, and ways to look at what they left."""

import json
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pictures
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from enas import cli
from enas.cnn.macro import MacroNetwork
from enas.cnn.micro import MicroCell, MicroNetwork
from enas.cnn.operation_names import MACRO_OPERATIONS, MICRO_OPERATIONS, OPERATIONS
from enas.cnn.operations import Operations
from enas.config import Config
from enas.data.builtin import SPLITS
from enas.errors import TrainingDivergedError, UserError
from enas.guard import guarded
from enas.pictures import drawing, plots
from enas.rnn.cell import ACTIVATIONS
from enas.runs.commands import execute
from enas.runs.opening import make_problem, make_trainer
from enas.search import own_code, precision
from enas.search.checkpoint import Checkpoints, load_checkpoint, seed_everything
from enas.search.registry import REWARDS, SPACES, STRATEGIES
from enas.studies.looks import TABLES


def run_command(name: str, argv: list[str]) -> int:
    """The exit status of a command, of which ablations have two words."""
    return command_line([*name.split(), *argv])


def command_line(words: list[str]) -> int:
    """The exit status of the command that `words` name."""
    return guarded(lambda: cli.carry_out(words))


main = partial(run_command, "search")
ROOT = Path(__file__).resolve().parent.parent

_EITHER = {
    "dataset": "tiny",
    "num_gpu": 0,
    "num_threads": 1,
    "precision": "float32",
    "controller_hid": 8,
    "max_epoch": 2,
    "save_epoch": 1,
    "log_step": 1,
    "derive_max_batches": 2,
}
SETTINGS = {
    **_EITHER,
    "num_blocks": 4,
    "batch_size": 4,
    "shared_embed": 8,
    "shared_hid": 8,
    "shared_rnn_max_length": 6,
    "shared_max_step": 10,
    "shared_lr": 1.0,
    "controller_max_step": 6,
    "derive_num_sample": 5,
}
# Language models without dropout, for tests of something else.
CALM = {"shared_dropoute": 0.0, "shared_dropouti": 0.0, "shared_dropout": 0.0, "shared_wdrop": 0.0}
IMAGE_SETTINGS = {
    **_EITHER,
    "network_type": "cnn",
    "cnn_num_layers": 3,
    "cnn_num_blocks": 2,
    "cnn_hid": 4,
    "batch_size": 6,
    "shared_max_step": 5,
    "scratch_cnn_hid": 4,
    "scratch_cnn_num_layers": 3,
    "controller_max_step": 4,
    "derive_num_sample": 4,
}
CLASSES = ("red", "green", "blue")
_CELL = MicroCell(((0, 1), (1, 2)), (("sep3x3", "identity"), ("max3x3", "sep5x5")))
# A network of each space, of the size that IMAGE_SETTINGS give.
NETWORKS = {
    "macro": MacroNetwork(("conv3x3", "sep5x5", "max3x3"), ((), (0,), (1,))),
    "micro": MicroNetwork(_CELL, _CELL),
}


def write_corpus(folder: Path, *, lines: int = 60, seed: int = 0) -> None:
    """A text of 10 words in which each word is likely to be followed by the next one of the alphabet."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        text = [" ".join(_sentence(rng)) for _ in range(lines if split == "train" else lines // 2)]
        (folder / f"{split}.txt").write_text("\n".join(text) + "\n", encoding="utf-8")


def _sentence(rng: random.Random) -> list[str]:
    start = rng.randrange(10)
    return [chr(ord("a") + (start + step + (rng.random() < 0.2)) % 10) for step in range(rng.randint(3, 9))]


def write_images(folder: Path, *, has_classes: bool = True) -> None:
    """Noisy images of 16×16 pixels whose upper half has more of one colour: 24 of them in train, 12 in valid and test.

    The colour is the class; without class folders, the bright half tells how an image was turned.
    """
    rng = np.random.RandomState(0)
    for split in SPLITS:
        for label, name in enumerate(CLASSES):
            for i in range(8 if split == "train" else 4):
                image = rng.randint(0, 128, (16, 16, 3), dtype=np.uint8)
                image[:8, :, label] += 127
                pictures.write(folder / split / (f"{name}/{i}.png" if has_classes else f"{name}{i}.png"), image)


def settings(folder: Path, **changes) -> dict:
    """Settings of a tiny run that reads from and writes into `folder`, its dataset made there when missing.

    It is a recurrent search on text unless `changes` have another network_type.
    """
    is_cnn = changes.get("network_type") == "cnn"
    if not (folder / "data").exists():
        (write_images if is_cnn else write_corpus)(folder / "data" / "tiny")
    places = {"data_dir": str(folder / "data"), "log_dir": str(folder / "logs")}
    return {**(IMAGE_SETTINGS if is_cnn else SETTINGS), **places, **changes}


has_dot = shutil.which("dot") is not None
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or needs GNU's tools")
needs_dot = pytest.mark.skipif(not has_dot, reason="the Graphviz program `dot` is not installed")


def _no_dot(*args, **kwargs):
    """Start a program as it is where `dot` is not installed."""
    raise FileNotFoundError("dot")


def _no_plot(canvas, file) -> None:
    """Write a picture of one pixel instead of a plot."""
    Image.new("RGB", (1, 1)).save(file, "PNG")


# (owner, name, the stub that tests have unless they ask for the real one)
DRAWING = (
    (drawing, "run", _no_dot),
    (plots, "policy_figure", lambda *args: plots.Figure()),
    (FigureCanvasAgg, "print_png", _no_plot),
)
STUBS = (*DRAWING, (os, "fsync", lambda descriptor: None), (precision, "BFLOAT16_INSTRUCTIONS", ()))
_REAL = {(owner, name): getattr(owner, name) for owner, name, _ in STUBS}


@contextmanager
def real(stubs: tuple = STUBS) -> Iterator[None]:
    """Inside this block nothing is stubbed, or not these."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, _ in stubs:
            patch.setattr(owner, name, _REAL[owner, name])
        yield


rendering = partial(real, DRAWING)  # drawings and plots are made, which takes most of the time of a small run


def spy(owner: object, name: str) -> list[tuple[tuple, object]]:
    """Record each call of a method of an object, which goes on as before: positional arguments and result."""
    method, calls = getattr(owner, name), []

    def spied(*args, **kwargs):
        calls.append((args, method(*args, **kwargs)))
        return calls[-1][1]

    setattr(owner, name, spied)
    return calls


@contextmanager
def in_call(owner: object, name: str, when: int | Callable, action: Callable[[], object]) -> Iterator[list[tuple]]:
    """Let the `when`-th call of a method, or each whose arguments `when` holds for, begin with `action`; gives all."""
    method, calls = getattr(owner, name), []

    def acting(*args, **kwargs):
        calls.append(args)
        if when(*args) if callable(when) else when == len(calls):
            action()
        return method(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, acting)
        yield calls


def interrupt() -> None:
    """What Ctrl-C does where nothing handles it."""
    raise KeyboardInterrupt


def diverge() -> None:
    """What training ends in whose losses stay not finite."""
    raise TrainingDivergedError("training diverged")


def run_out() -> None:
    """What Python raises where no memory is left."""
    raise MemoryError


def refuse() -> None:
    """What an architecture raises that does not fit."""
    raise UserError("this one is refused")


TROUBLES = {"diverged": diverge, "out of memory": run_out, "refused": refuse}


@contextmanager
def registering() -> Iterator[None]:
    """What is registered inside this block is forgotten after it."""
    tables = (SPACES, STRATEGIES, REWARDS, TABLES, ACTIVATIONS, OPERATIONS, Operations.convolutions, MACRO_OPERATIONS)
    tables += (MICRO_OPERATIONS, own_code.OWNERS)
    before = [table.copy() for table in tables]
    try:
        yield
    finally:
        for table, entries in zip(tables, before, strict=True):
            table.clear()
            (table.update if isinstance(table, dict) else table.extend)(entries)


@contextmanager
def fresh() -> Iterator[None]:
    """As in a new process: modules of a user's own that are loaded inside this block are forgotten after it."""
    path, loaded = sys.path.copy(), own_code.LOADED.copy()
    own_code.LOADED.clear()
    with registering():
        try:
            yield
        finally:
            for name in own_code.LOADED.keys() - loaded:
                sys.modules.pop(name, None)
            own_code.LOADED.clear()
            own_code.LOADED.update(loaded)
            sys.path[:] = path


def flags(values: dict) -> list[str]:
    """The command line that gives these settings."""
    return [word for name, value in values.items() for word in (f"--{name}", _text(value))]


def _text(value) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def trainer(folder: Path, architecture=None, /, **changes):
    """A Trainer of a tiny run that writes down nothing but its checkpoints, in `folder/run`."""
    config = Config(**settings(folder, **changes))
    seed_everything(config.random_seed)
    data = config.space.problem().load_data(config)
    task, source = make_problem(config, data, architecture, torch.device("cpu"))
    made = make_trainer(config, data, task, source, folder / "run")
    if architecture is None:
        made.folder = None
    return made


def scratch_trainer(folder: Path, architecture, /, **changes):
    """The same for one architecture from scratch."""
    return trainer(folder, architecture, mode="single", **changes)


def randomised(model):
    """A float64 model with no scale, shift or bias at 1 or 0, which would hide a mistake."""
    model.double()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def with_large_embeddings(model):
    """A language model whose embeddings, and tied decoder, are as large as its other weights in tests."""
    with torch.no_grad():
        for weight in {model.embedding, model.decoder}:
            weight *= 20
    return model


def enlarged(controller, factor: float):
    """A controller whose weights were drawn from a larger range; biases of decoders are not drawn."""
    with torch.no_grad():
        for name, weight in controller.named_parameters():
            if not (name.startswith("decoders") and name.endswith("bias")):
                weight *= factor
    return controller


def only_run(log_dir: Path) -> Path:
    """The one run folder in `log_dir`."""
    (folder,) = log_dir.iterdir()
    return folder


def run_in(folder: Path, **changes) -> Path:
    """Run what the settings of a tiny run in `folder`, with these changes, ask for; its run folder."""
    made = settings(folder, **changes)
    execute(**made)
    return only_run(Path(made["log_dir"]))


def params(folder: Path) -> dict:
    """A run's settings, as its folder has them."""
    return json.loads((folder / "params.json").read_text())


def results(folder: Path) -> dict:
    """What a run's results.json holds."""
    return json.loads((folder / "results.json").read_text())


def newest_state(folder: Path) -> dict:
    """The newest checkpoint of a run, without the clock's readings."""
    return without_clock(load_checkpoint(Checkpoints(folder / "checkpoints").paths()[-1]))


def without_clock(state: dict) -> dict:
    """A trainer's state, its readings of the clock removed."""
    for name in ("wall_seconds", "cpu_seconds"):
        del state["progress"][name]
    for entry in state["progress"]["history"]:
        del entry["wall_seconds"], entry["cpu_seconds"]
    return state


def difference(a, b, path: str = "state", *, within: float = 0.0) -> str | None:
    """Where two nested values first differ by as much as a bit, or `within` of 1 + their size; None if nowhere."""
    if type(a) is not type(b):
        return f"{path}: {type(a).__name__} and {type(b).__name__}"
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
        if not same and within and a.shape == b.shape and a.is_floating_point():
            same = torch.allclose(a, b, within, within, equal_nan=True)
        return None if same else path
    if isinstance(a, (list, tuple)):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if not isinstance(a, dict):
        same = a == b or (isinstance(a, float) and abs(a - b) < within * (1 + abs(a)))
        return None if same else f"{path}: {a!r} and {b!r}"
    if list(a) != list(b):
        return f"{path}: keys {list(a)} and {list(b)}"
    return next(filter(None, (difference(a[key], b[key], f"{path}.{key}", within=within) for key in a)), None)


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    """The points of a curve in TensorBoard's files: step and value."""
    return [(event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars(tag)]


def killed_while_writing(path: Path, kind: str = "file") -> None:
    """Let a process be killed while it writes a file, or fills a folder, at `path`."""
    make = {"file": "atomic_write", "folder": "atomic_folder"}[kind]
    code = f"import os; from pathlib import Path; from enas.files import *\nwith {make}(Path({str(path)!r})):\n"
    done = subprocess.run([sys.executable, "-c", f"{code} os.kill(os.getpid(), 9)"], cwd=ROOT)
    assert done.returncode == -9


def is_alive(pid: int) -> bool:
    """Whether a process is there, and has not ended."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return state.strip() != "" and not state.startswith("Z")


def wait_for_end(*pids: int) -> None:
    """Wait until all these processes have ended."""
    until = time.monotonic() + 120
    while any(map(is_alive, pids)):
        assert time.monotonic() < until, f"of {pids} some have not ended"
        time.sleep(0.1)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder but what Python compiled: paths and contents, None for a folder."""
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def moved(home: Path, place: Path) -> Path:
    """A copy of `home`, with its runs and their data, in `place`."""
    shutil.copytree(home, place, dirs_exist_ok=True)
    for path in place.glob("logs/*/params.json"):
        places = {"data_dir": str(place / "data"), "log_dir": str(place / "logs")}
        path.write_text(json.dumps(params(path.parent) | places))
    return place


def run_script(script: str | Path, argv: list[str]) -> int:
    """A script of the project in this process: its exit status."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr("sys.argv", [str(script), *argv])
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return end.value.code


def refused(message: str, kind: type[Exception] = ValueError):
    """An error of one line whose text contains `message`, word for word."""
    return pytest.raises(kind, match=r"\A(?=[^\n]*\Z).*" + re.escape(message))


def refusal(argv: list[str], folder: Path, capsys, command: Callable = main) -> str:
    """The one line on stderr that a command line ends in, with status 2; nothing in `folder` may change."""
    before = tree(folder)
    capsys.readouterr()
    status = command(argv)
    out, err = capsys.readouterr()
    assert (status, len(err.splitlines()), out) == (2, 1, ""), (out, err)
    assert err.startswith("error: ")
    assert tree(folder) == before
    return err


def start(argv: list[str], cwd: Path, script: str = "main.py") -> subprocess.Popen:
    """A script of the project as a process of its own, with as many threads as this one."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    words = [sys.executable, str(ROOT / script), *argv]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Wait for a process: its status, stdout and stderr."""
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def wait(process: subprocess.Popen, log_dir: Path, holds: Callable[[Path], bool]) -> Path:
    """Wait until `holds` of the run folder; returns it."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        assert process.poll() is None, finish(process)
        found = next((path for path in log_dir.glob("*") if holds(path)), None)
        if found is not None:
            return found
        time.sleep(0.002)
    process.kill()
    raise AssertionError("the run did not come as far as it should")


def has_finished(epochs: int) -> Callable[[Path], bool]:
    """For `wait`: whether a run folder holds a checkpoint of that many epochs."""
    return lambda folder: any(path.name >= f"{epochs:05d}" for path in (folder / "checkpoints").glob("0*.pt"))

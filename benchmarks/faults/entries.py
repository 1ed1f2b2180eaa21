"""The entry points that trials go through, and the folders in which they start."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from enas.rnn.cell import RNNCell

SPLITS = ("train", "valid", "test")
PLACES = {"num_gpu": 0, "num_threads": 1}
SIZES = {
    "dataset": "letters", "precision": "float32", "num_blocks": 3, "batch_size": 4, "shared_embed": 8, "shared_hid": 8,
    "shared_rnn_max_length": 6, "shared_max_step": 10, "shared_lr": 1.0, "log_step": 5,
}  # fmt: skip
CONTROL = {
    "save_epoch": 1, "controller_hid": 8, "controller_max_step": 4, "derive_num_sample": 4, "derive_max_batches": 1,
}  # fmt: skip
SEARCH = {**SIZES, **CONTROL, "max_epoch": 3}
PICTURES = {
    "network_type": "cnn", "dataset": "squares", "precision": "float32", "cnn_num_layers": 2, "cnn_num_blocks": 2,
    "cnn_hid": 4, "scratch_cnn_hid": 4, "scratch_cnn_num_layers": 2, "batch_size": 4, "shared_max_step": 5,
    "log_step": 5, **CONTROL, "max_epoch": 2,
}  # fmt: skip
TABLE = {
    "budget": "budget.py", "table": "table.json", "num_truth": 3, "truth_seeds": 1, "seeds": 1,
    "methods": "search,uniform", **SEARCH, "max_epoch": 2,
}  # fmt: skip


def flags(settings: dict) -> list[str]:
    """Return settings as the words of a command line."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Entry:
    """A way into the program.

    Attributes:
        words: what follows `python`, in the folder of a trial.
        home: the folder in which it starts, see `HOMES`.
        makes: what it leaves, relative to the folder; a run folder ends in "/".
        again: what follows `python` where it goes on after trouble; the same words by default.
    """

    name: str
    words: tuple[str, ...]
    home: str = "text"
    makes: str = ""
    again: tuple[str, ...] = ()

    def goes_on(self, folder: Path) -> tuple[str, ...]:
        """Return the command that goes on, or begins again where no checkpoint was written."""
        run = folder / self.makes if self.makes.endswith("/") else None
        if run is None or not self.again:
            return self.again or self.words
        if any((run / "checkpoints").glob("*.pt")):
            return self.again
        shutil.rmtree(run, ignore_errors=True)
        return self.words


def _run(name: str, settings: dict, home: str, *before: str) -> Entry:
    words = (*before, "main.py", *flags({**settings, **PLACES, "name": "new"}))
    again = (*before, "main.py", *flags({"load_path": "logs/new", **PLACES}))
    if settings.get("mode"):
        again += ("--mode", settings["mode"])
    return Entry(name, words, home, "logs/new/", again)


def _enas(name: str, *words: str, home: str = "searched", makes: str = "") -> Entry:
    return Entry(name, ("-m", "enas", *words), home, makes)


RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
LAUNCHED = ("launched.py",)
FOUND = ("--load_path", "logs/found")
HERE = tuple(flags(PLACES))
_ALONE = {**SIZES, "max_epoch": 2, "save_epoch": 1, "mode": "single", "dag_path": "cell.json"}
ENTRIES = {
    entry.name: entry
    for entry in (
        _run("text", SEARCH, "text"),
        _run("macro", {**PICTURES, "cnn_space": "macro"}, "images"),
        _run("micro", {**PICTURES, "cnn_space": "micro", "cnn_num_layers": 3, "scratch_cnn_num_layers": 3}, "images"),
        _run("disk", {**PICTURES, "cnn_space": "macro"}, "images", *LAUNCHED, "disk"),
        _run("torchrun", {**SEARCH, "rank_timeout": 20}, "text", *RANKS),
        _run("single", _ALONE, "text"),
        Entry("resume", ("main.py", *FOUND, *HERE, "--max_epoch", "4"), "searched"),
        Entry("resume scratch", ("main.py", "--mode", "single", "--load_path", "logs/alone", *HERE, "--max_epoch", "3"),
              "trained"),
        _enas("derive", "derive", *FOUND, *HERE),
        _enas("finalists", "derive", *FOUND, *HERE, "--derive_finalists", "2", "--derive_shortlist", "4",
              "--derive_rung_epoch", "1"),
        _enas("test", "test", *FOUND, *HERE),
        _enas("scratch", "scratch", *FOUND, *HERE, "--max_epoch", "1", "--name", "again", makes="logs/again"),
        _enas("ablate", "ablate", "node_removal", *FOUND, *HERE, "--max_batches", "1"),
        _enas("ablate scratch", "ablate", "node_removal", "--mode", "train_scratch", "--dag_path", "cell.json",
              *flags({**SIZES, **PLACES, "max_epoch": 1}), home="text"),
        _enas("evaluate", "evaluate", *flags({**TABLE, **PLACES, "backend": "sequential"}), home="text"),
        _enas("evaluate jobs", "evaluate", *flags({**TABLE, **PLACES, "jobs": 2}), home="text"),
        _enas("evaluate again", "evaluate", *flags({**TABLE, **PLACES, "backend": "sequential"}), home="evaluated"),
        _enas("export", "export", *FOUND, "--output", "cell", makes="cell"),
        _enas("export scratch", "export", "--load_path", "logs/alone", "--output", "cell", home="trained",
              makes="cell"),
        _enas("report", "report", *FOUND, "--output", "page.html", makes="page.html"),
        _enas("report evaluated", "report", *FOUND, "--output", "page.html", home="evaluated", makes="page.html"),
        _enas("gif", "gif", "--model_name", "logs/found", "--output", "search.gif", makes="search.gif"),
        Entry("download", (*LAUNCHED, "catalogue", "-m", "enas", "download", "ptb", "--from", "ptb.tar"), "text",
              "data/ptb"),
        _enas("convert", "convert", "--from", "json", "cell.json", home="text"),
    )
}  # fmt: skip


# --- the folders ------------------------------------------------------------------------------------------------------


def _text(folder: Path) -> None:
    rng = random.Random(0)
    (folder / "data" / "letters").mkdir(parents=True)
    for split in SPLITS:
        lines = [" ".join(rng.choices("abcdefgh", k=6)) for _ in range(80 if split == "train" else 30)]
        (folder / "data" / "letters" / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "cell.json").write_text(RNNCell(("tanh", "ReLU", "identity"), (0, 1)).to_json(), encoding="utf-8")
    alone = {**SIZES, "max_epoch": 1}
    lines = [f"{name} = {value!r}" for name, value in alone.items()]
    (folder / "budget.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    archive = ("tar", "-C", str(folder / "data" / "letters"), "-cf", str(folder / "ptb.tar"))
    subprocess.run([*archive, *(f"{split}.txt" for split in SPLITS)], check=True)


def _images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for split in SPLITS:
        for label, name in enumerate(("one", "two")):
            place = folder / "data" / "squares" / split / name
            place.mkdir(parents=True)
            for number in range(8 if split == "train" else 4):
                pixels = rng.integers(0, 128, (8, 8, 3), dtype=np.uint8)
                pixels[:4, :, label] += 127
                Image.fromarray(pixels).save(place / f"{number}.png")


def _searched(_folder: Path) -> list[tuple[str, ...]]:
    return [("main.py", *flags({**SEARCH, **PLACES, "name": "found"}))]


def _trained(_folder: Path) -> list[tuple[str, ...]]:
    return [("main.py", *flags({**_ALONE, **PLACES, "name": "alone"}))]


HOMES: dict[str, tuple[str, Callable]] = {
    "text": ("", _text),
    "images": ("", _images),
    "searched": ("text", _searched),
    "trained": ("text", _trained),
    "evaluated": ("searched", lambda _folder: [ENTRIES["evaluate"].words]),
}


def home(name: str, store: Path, root: Path) -> Path:
    """Return the folder of a name in `store`, made on first use."""
    place = store / name
    if place.exists():
        return place
    base, make = HOMES[name]
    made = store / f"making {name}"
    shutil.rmtree(made, ignore_errors=True)
    if base:
        shutil.copytree(home(base, store, root), made)
    else:
        made.mkdir(parents=True)
    for words in make(made) or ():
        command = [sys.executable, *located(words, root)]
        subprocess.run(command, cwd=made, env=environment(root), check=True, capture_output=True)
    os.replace(made, place)
    return place


def located(words: tuple[str, ...], root: Path) -> list[str]:
    """Return the words of a command, its scripts in the tree `root` and in this folder."""
    places = {"main.py": str(root / "main.py"), "launched.py": str(Path(__file__).with_name("launched.py"))}
    return [places.get(word, word) for word in words]


def environment(root: Path) -> dict[str, str]:
    """Return the environment of a trial."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return {**kept, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def read(path: Path):
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))

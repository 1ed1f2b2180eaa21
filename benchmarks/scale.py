"""What large data and long runs take: a text of 100 million tokens, a folder of 200,000 images, 200 epochs.

python -m benchmarks.scale --what text,images,epochs

Each measurement is a process of its own, so that its peak memory is its own; see RESULTS.md for figures.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.resuming import SEARCH, prepare
from enas.cnn.images import HALF_MEMORY, load_images
from enas.config import Config
from enas.errors import UserError
from enas.guard import guarded
from enas.parser import Parser
from enas.rnn.text import load_corpus
from enas.runs import run
from enas.search.trainer import Trainer

VOCABULARY = 50_000
WORDS_A_LINE = 25
CLASSES = 10
SIDE = 32  # pixels
SHORT = {
    "num_gpu": 0,
    "num_threads": 1,
    "max_epoch": 1,
    "precision": "float32",
    "controller_max_step": 2,
    "derive_num_sample": 2,
    "derive_max_batches": 1,
}
EPOCHS_READ = (10, 50, 100, 150, 200)


def peak_mb() -> int:
    """Return the peak of memory of this process in MB, pages of mapped files included."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def rss_mb() -> float:
    """Return the memory that it holds now."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def write_text(folder: Path, num_tokens: int) -> None:
    """Write a text of so many words in train, and a hundredth in valid and test, as frequent as in Zipf's law."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(VOCABULARY)], dtype=object)
    cumulated = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    folder.mkdir(parents=True)
    for split, share in (("train", 1), ("valid", 100), ("test", 100)):
        with (folder / f"{split}.txt").open("w") as file:
            for left in range(num_tokens // share, 0, -1_000_000):
                drawn = rng.random(min(left, 1_000_000)) * cumulated[-1]
                line = words[np.minimum(np.searchsorted(cumulated, drawn), VOCABULARY - 1)]
                file.writelines(
                    " ".join(line[start : start + WORDS_A_LINE]) + "\n" for start in range(0, len(line), WORDS_A_LINE)
                )


def write_images(folder: Path, num_images: int) -> None:
    """JPEG files, nine in ten of them in train: each the picture of its class with one row of another colour."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (CLASSES, SIDE, SIDE, 3), dtype=np.uint8)
    for split, num in (("train", num_images * 9 // 10), ("valid", num_images // 20), ("test", num_images // 20)):
        for label in range(CLASSES):
            (folder / split / f"class{label}").mkdir(parents=True)
        for number in range(num):
            picture = pictures[number % CLASSES].copy()
            picture[rng.integers(SIDE)] = rng.integers(256)
            Image.fromarray(picture).save(folder / split / f"class{number % CLASSES}" / f"{number}.jpg", quality=85)


def read_text(folder: str) -> dict:
    """Load it."""
    start = time.monotonic()
    corpus = load_corpus("text", data_dir=folder)
    return {"tokens": len(corpus.train), "seconds": round(time.monotonic() - start, 1), "peak MB": peak_mb()}


def read_images(folder: str, memory_limit: int = HALF_MEMORY) -> dict:
    """Load them, into memory unless they take more than `memory_limit` bytes."""
    start = time.monotonic()
    images = load_images("images", data_dir=folder, memory_limit=memory_limit)
    return {"images": len(images.train), "seconds": round(time.monotonic() - start, 1), "peak MB": peak_mb()}


def search(folder: str, **settings) -> dict:
    """Run a short search on the data."""
    start = time.monotonic()
    settings |= {"data_dir": folder, "log_dir": f"{folder}/logs", **SHORT}
    run.train(Config(**settings))
    return {"seconds": round(time.monotonic() - start, 1), "peak MB": peak_mb()}


def epochs(folder: str, num: int) -> dict:
    """Memory after some epochs of a small search."""
    prepare(Path(folder) / "run")
    held, finish = {}, Trainer.finish_epoch

    def measured(trainer: Trainer) -> None:
        finish(trainer)
        if trainer.progress.epoch in EPOCHS_READ:
            held[f"MB after {trainer.progress.epoch}"] = round(rss_mb(), 1)

    Trainer.finish_epoch = measured
    run.train(Config(**{**SEARCH, "max_epoch": num, "data_dir": f"{folder}/run/data", "log_dir": f"{folder}/run/logs"}))
    return held


def apart(function: Callable, *arguments, **settings) -> dict:
    """Return the result of a function of this module, called in a process of its own."""
    call = json.dumps([function.__name__, arguments, settings])
    out = subprocess.run([sys.executable, "-m", "benchmarks.scale", call], capture_output=True, text=True, check=False)
    if out.returncode:
        raise UserError(f"{function.__name__}: {out.stderr.splitlines()[-1]}")
    return json.loads(out.stdout.splitlines()[-1])


def _called(text: str) -> int:
    name, arguments, settings = json.loads(text)
    print(json.dumps(globals()[name](*arguments, **settings)))
    return 0


def main(argv: list[str]) -> int:
    """Measure as the flags say; returns the exit status."""
    if argv and argv[0].startswith("["):
        return _called(argv[0])
    parser = Parser("What large data and long runs take.", prog="python -m benchmarks.scale")
    parser.add_argument("--what", default="text,images,epochs", help="which of them (default: all)")
    parser.add_argument("--tokens", type=int, default=100_000_000, help="of the text (default: 100,000,000)")
    parser.add_argument("--images", type=int, default=200_000, help="in the folder (default: 200,000)")
    parser.add_argument("--epochs", type=int, default=200, help="of the long run (default: 200)")
    return guarded(lambda: _measure(**parser.given(argv)))


def _measure(what: str, tokens: int, images: int, epochs: int) -> None:
    sizes = {"text": tokens, "images": images, "epochs": epochs}
    for name in what.split(","):
        if name not in sizes:
            raise UserError(f"what: {name} is not measured; there are {', '.join(sizes)}")
        with tempfile.TemporaryDirectory() as folder:
            for line, found in MEASURED[name](folder, sizes[name]).items():
                print(f"{line}: {', '.join(f'{key} {value:,}' for key, value in found.items())}", flush=True)


def _text(folder: str, num: int) -> dict[str, dict]:
    write_text(Path(folder) / "text", num)
    sizes = {"num_blocks": 4, "shared_embed": 32, "shared_hid": 32, "shared_max_step": 10}
    return {
        "text": apart(read_text, folder),
        "a search on it": apart(search, folder, dataset="text", **sizes),
    }


def _images(folder: str, num: int) -> dict[str, dict]:
    write_images(Path(folder) / "images", num)
    sizes = {"network_type": "cnn", "cnn_num_layers": 3, "cnn_hid": 4, "shared_max_step": 20}
    return {
        "images, into memory": apart(read_images, folder),
        "images, left on the disk": apart(read_images, folder, memory_limit=0),
        "a search on them": apart(search, folder, dataset="images", **sizes),
    }


MEASURED = {
    "text": _text,
    "images": _images,
    "epochs": lambda folder, num: {f"{num} epochs": apart(epochs, folder, num)},
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

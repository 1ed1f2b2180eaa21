"""Bounds on the time, the memory and the sizes that a file or a flag asks for; only regular files are read."""

import json
from contextlib import suppress
from pathlib import Path

from benchmarks.faults.cases.spoiling import Spoil, as_fifo, as_link, content, text
from benchmarks.faults.entries import ENTRIES
from benchmarks.faults.trial import DONE, REFUSED, STOPPED, Case, Stop, crossed

KIND = "bounds"
EITHER = (*DONE, *REFUSED)
SHORT = 25  # seconds
INPUTS = {  # entry -> files that it reads
    "text": ("data/letters/train.txt", "data/letters/valid.txt", "data/letters/test.txt"),
    "single": ("cell.json",),
    "convert": ("cell.json",),
    "evaluate": ("budget.py",),
    "macro": ("data/squares/train/one/0.png", "data/squares/test/two/3.png"),
    "resume": ("logs/found/params.json", "logs/found/checkpoints/*.pt", "logs/found/data.json", "logs/found/train.log"),
    "report": ("logs/found/results.json", "logs/found/policy.png"),
    "gif": ("logs/found/networks/*.png",),
    "download": ("ptb.tar",),
    "evaluate again": ("table.json",),
}
DEVICES = ("/dev/zero", "/dev/full")
IMAGE = "data/squares/train/one/0.png"


def _deep_cell(num: int):
    """Repeat the nodes of the cell, each reading the one before it."""

    def spoil(folder: Path) -> None:
        path = folder / "cell.json"
        data = json.loads(path.read_text())
        lists = {"nodes": [*range(num)], "activations": ["tanh"] * num, "previous": [*range(num - 1)]}
        data.update(lists, num_blocks=num)
        path.write_text(json.dumps(data))

    return spoil


def _png(width: int, height: int):
    def spoil(folder: Path) -> None:
        from PIL import Image

        Image.new("1", (width, height)).save(folder / IMAGE)

    return spoil


def _big_text(unit: bytes, megabytes: int, name: str = "data/letters/train.txt"):
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(unit * (megabytes * 2**20 // len(unit)))

    return spoil


def _sparse(name: str, gigabytes: int):
    def spoil(folder: Path) -> None:
        with open(folder / name, "wb") as file:
            file.truncate(gigabytes * 2**30)

    return spoil


BOMB = """import gzip, io, tarfile
info = tarfile.TarInfo('train.txt'); info.size = 3 << 30
with gzip.open('bomb.tar.gz', 'wb', 1) as out:
    out.write(info.tobuf())
    for i in range(3 << 10): out.write(bytes(1 << 20))
    out.write(bytes(10240))
"""


def _bomb(folder: Path) -> None:
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", BOMB], cwd=folder, check=True)


SMALL_MEMORY, MEMORY = "ulimit -v 8000000; {command}", "ulimit -v 12000000; {command}"
CELLS: dict[str, Spoil] = {
    "a cell of 3,000 nodes in a chain": _deep_cell(3000),
    "a cell of 100,000 nodes in a chain": _deep_cell(100_000),
}
JSON = {
    "numbers without end": "1" * 10_000,
    "a number of Python's limit": "1e999",
    "a text of 50 MB": f'"{"x" * 50_000_000}"',
    "nested lists": "[" * 50_000,
}
TEXTS: dict[str, Spoil] = {
    "no line feed, 64 MB": _big_text(b"a b c d ", 64),
    "no blank and no line feed, 64 MB": _big_text(b"abcdefgh", 64),
    "no blank, 8 MB of NULs": _big_text(b"\0", 8),
    "200,000 different words": lambda folder: text(
        "data/letters/train.txt", "\n".join(f"w{i} w{i}" for i in range(200_000))
    )(folder),
    "64 GB of nothing": _sparse("data/letters/train.txt", 64),
}
IMAGES: dict[str, Spoil] = {
    "30,000 × 30,000 pixels": _png(30_000, 30_000),
    "60,000 × 1 pixels": _png(60_000, 1),
    "no bytes": text(IMAGE, b""),
    "16 GB": _sparse(IMAGE, 16),
    "a GIF of a header": text(IMAGE, b"GIF89a\xff\xff\xff\xff\0\0\0;"),
    "SVG": text(IMAGE, "<svg xmlns='http://www.w3.org/2000/svg'/>"),
}


def _fill(folder: Path) -> None:
    """Leave no room on a small disk."""
    with suppress(OSError), (folder / "fill").open("wb", buffering=0) as file:
        for _ in range(1000):
            file.write(bytes(4096))


_FROM = ENTRIES["download"].words[:-1]
ARCHIVES = (
    Case(
        "an archive of 3 GB of zeros", _bomb, words=(*_FROM, "bomb.tar.gz"), status=REFUSED, tmpfs="size=200m",
        limit=40, names="larger|too large|limit",
    ),
    Case(
        "no space for the archive", _fill, tmpfs="size=200k", status=REFUSED, names="space",
    ),
    Case("the archive is half", content("ptb.tar", lambda old: old[:2000]), status=REFUSED),
    Case("the archive is empty", content("ptb.tar", lambda old: b""), status=REFUSED),
    Case("the archive is 30 GB of nothing", _sparse("ptb.tar", 30), status=REFUSED, limit=40),
)  # fmt: skip
SIZES = {  # settings whose value takes too much memory or time, and must be refused by name
    "shared_hid": "100000", "shared_embed": "1000000", "controller_hid": "1000000", "batch_size": "100000000",
    "num_blocks": "100000", "shared_rnn_max_length": "1000000000", "num_threads": "100000",
}  # fmt: skip
NUMBERS = {  # settings whose value is larger than any machine's integer; the run may end early, or go on
    "derive_num_sample": "1000000000000", "max_save_num": "10000000000000000000",
    "log_step": "10000000000000000000", "rank_timeout": "1e300",
}  # fmt: skip
IMAGE_SIZES = {"cnn_hid": "1000000", "cnn_num_layers": "100000", "image_size": "1000000"}
SURROUNDINGS = (
    Case(f"--shared_max_step {10**18}", flags=("--shared_max_step", str(10**18)), stop=Stop(after=12.0),
         status=STOPPED),
    Case(f"--max_epoch {10**18}", flags=("--max_epoch", str(10**18), "--stop_epoch", "2"), through=SMALL_MEMORY,
         limit=SHORT),
    Case("WORLD_SIZE=2 without torchrun", environment={"WORLD_SIZE": "2"}, status=(2, 3), limit=SHORT),
    Case("WORLD_SIZE=many", environment={"WORLD_SIZE": "many"}, status=EITHER, limit=SHORT),
    Case("RANK=7 alone", environment={"RANK": "7"}, status=EITHER, limit=SHORT),
    Case("OMP_NUM_THREADS=lots", environment={"OMP_NUM_THREADS": "lots"}, status=EITHER, lines=3),
    Case("ENAS_USE names nothing", environment={"ENAS_USE": "nothing"}, status=REFUSED),
    Case(
        "the working folder is gone", status=EITHER, through="mkdir gone && cd gone && rmdir ../gone && "
        "{command} --data_dir {folder}/data --log_dir {folder}/logs",
    ),
)  # fmt: skip
NO_TMPDIR = Case("TMPDIR is not there", environment={"TMPDIR": "/nonexistent"}, status=EITHER)


def _asking(sizes: dict[str, str], status: tuple[int, ...]) -> list[Case]:
    around = {"through": SMALL_MEMORY, "status": status, "limit": SHORT}
    return [
        Case(f"--{name} {value}", flags=(f"--{name}", value), names=name.replace("_", "[_ ]"), **around)
        for name, value in sizes.items()
    ]


def _irregular(file: str) -> list[Case]:
    devices = [
        Case(f"{file} is {name}", as_link(file, name), status=EITHER, limit=SHORT, through=MEMORY) for name in DEVICES
    ]
    return [Case(f"{file} is a FIFO", as_fifo(file), status=EITHER, limit=SHORT), *devices]


TRIALS = [
    *(one for entry, files in INPUTS.items() for one in crossed(KIND, entry, _irregular(files[0]))),
    *(
        one for entry, files in INPUTS.items() for file in files[1:]
        for one in crossed(KIND, entry, _irregular(file)[:1])
    ),
    *crossed(KIND, "single, convert, ablate scratch", [
        Case(name, spoil, status=EITHER, limit=40) for name, spoil in CELLS.items()
    ]),
    *crossed(KIND, "single, convert", [
        Case(f"cell.json is {name}", text("cell.json", value), status=REFUSED, limit=SHORT)
        for name, value in JSON.items()
    ]),
    *crossed(KIND, "text", [
        Case(f"train.txt: {name}", spoil, status=EITHER, limit=40, through=MEMORY) for name, spoil in TEXTS.items()
    ]),
    *crossed(KIND, "macro, disk", [
        Case(f"an image is {name}", spoil, status=REFUSED, limit=40, names=r"\.png") for name, spoil in IMAGES.items()
    ]),
    *crossed(KIND, "download", ARCHIVES),
    *crossed(KIND, "text", [*_asking(SIZES, REFUSED), *_asking(NUMBERS, EITHER), *SURROUNDINGS]),
    *crossed(KIND, "macro", _asking(IMAGE_SIZES, REFUSED)),
    *crossed(KIND, "text, micro, finalists", [NO_TMPDIR]),
    *crossed(KIND, "gif", [
        Case("--max_frame 10^18", flags=("--max_frame", str(10**18)), status=EITHER, limit=SHORT),
        Case("--max_frame 0", flags=("--max_frame", "0"), status=REFUSED),
    ]),
    *crossed(KIND, "evaluate", [
        Case("--jobs 100000", flags=("--jobs", "100000", "--backend", "loky"), status=EITHER, limit=40),
    ]),
]  # fmt: skip

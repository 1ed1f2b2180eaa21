"""What a file or a flag may ask for: time, memory, sizes; and things that are no regular files."""

import json
from pathlib import Path

from benchmarks.faults.cases.spoiling import as_fifo, as_link, content, text
from benchmarks.faults.entries import ENTRIES
from benchmarks.faults.trial import DONE, REFUSED, Case, Trial

KIND = "bounds"
EITHER = (*DONE, *REFUSED)
SHORT = 40  # seconds
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
DEVICES = {"/dev/zero": "/dev/zero", "/dev/full": "/dev/full"}
IMAGE = "data/squares/train/one/0.png"


def _cell(num: int) -> str:
    return json.dumps({"kind": "rnn_cell", "activations": ["tanh"] * num, "inputs": [0] * (num - 1)})


def _deep_cell(num: int):
    """Repeat the nodes of the cell, each reading the one before it."""

    def spoil(folder: Path) -> None:
        path = folder / "cell.json"
        data = json.loads(path.read_text())
        for name, value in data.items():
            if isinstance(value, list) and value and isinstance(value[0], str):
                data[name] = ["tanh"] * num
            elif isinstance(value, list):
                data[name] = [*range(num - 1)]
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


def _memory(name: str, kilobytes: int, *flags: str, entry: str = "text", says: str = "") -> Trial:
    case = Case(name, flags=flags, through=f"ulimit -v {kilobytes}; {{command}}", status=REFUSED, names=says, limit=60)
    return Trial(KIND, entry, case)


def _trials() -> list[Trial]:
    trials = []
    for entry, files in INPUTS.items():
        for file in files:
            trials.append(Trial(KIND, entry, Case(f"{file} is a FIFO", as_fifo(file), status=EITHER, limit=SHORT)))
        for name, target in DEVICES.items():
            spoil = as_link(files[0], target)
            through = "ulimit -v 12000000; {command}"
            case = Case(f"{files[0]} is {name}", spoil, status=EITHER, limit=SHORT, through=through)
            trials.append(Trial(KIND, entry, case))
    sizes = {
        "a cell of 3,000 nodes in a chain": _deep_cell(3000),
        "a cell of 100,000 nodes in a chain": _deep_cell(100_000),
    }
    for entry in ("single", "convert", "ablate scratch"):
        for name, spoil in sizes.items():
            trials.append(Trial(KIND, entry, Case(name, spoil, status=EITHER, limit=60)))
    for name, value in {"numbers without end": "1" * 10_000, "a number of Python's limit": "1e999",
                        "a text of 50 MB": '"' + "x" * 50_000_000 + '"', "nested lists": "[" * 50_000}.items():  # fmt: skip
        for entry in ("single", "convert"):
            case = Case(f"cell.json is {name}", text("cell.json", value), status=REFUSED, limit=SHORT)
            trials.append(Trial(KIND, entry, case))
    texts = {
        "no line feed, 64 MB": _big_text(b"a b c d ", 64),
        "no blank and no line feed, 64 MB": _big_text(b"abcdefgh", 64),
        "no blank, 8 MB of NULs": _big_text(b"\0", 8),
        "200,000 different words": lambda folder: (folder / "data/letters/train.txt").write_text(
            "\n".join(f"w{i} w{i}" for i in range(200_000))),
        "64 GB of nothing": _sparse("data/letters/train.txt", 64),
    }  # fmt: skip
    for name, spoil in texts.items():
        through = "ulimit -v 12000000; {command}"
        trials.append(Trial(KIND, "text", Case(f"train.txt: {name}", spoil, status=EITHER, limit=60, through=through)))
    images = {
        "30,000 × 30,000 pixels": _png(30_000, 30_000),
        "60,000 × 1 pixels": _png(60_000, 1),
        "no bytes": text(IMAGE, b""),
        "16 GB": _sparse(IMAGE, 16),
        "a GIF of a header": text(IMAGE, b"GIF89a\xff\xff\xff\xff\0\0\0;"),
        "SVG": text(IMAGE, "<svg xmlns='http://www.w3.org/2000/svg'/>"),
    }
    for entry in ("macro", "disk"):
        for name, spoil in images.items():
            trials.append(
                Trial(KIND, entry, Case(f"an image is {name}", spoil, status=REFUSED, limit=60, names="0.png"))
            )
    download = ENTRIES["download"].words[:-1]
    trials += [
        Trial(KIND, "download", Case("an archive of 3 GB of zeros", _bomb, words=(*download, "bomb.tar.gz"),
                                     status=REFUSED, tmpfs="size=200m", limit=60, names="larger|too large|limit")),
        Trial(KIND, "download", Case("no space for the archive", tmpfs="size=200k", status=REFUSED, names="space",
              spoil=lambda folder: (folder / "fill").write_bytes(bytes(100_000)))),
        Trial(KIND, "download", Case("the archive is half", content("ptb.tar", lambda old: old[:len(old) // 2]), status=REFUSED)),
        Trial(KIND, "download", Case("the archive is empty", content("ptb.tar", lambda old: b""), status=REFUSED)),
        Trial(KIND, "download", Case("the archive is 30 GB of nothing", _sparse("ptb.tar", 30), status=REFUSED, limit=60)),
    ]  # fmt: skip
    huge = {
        "--shared_hid": "100000", "--shared_embed": "1000000", "--controller_hid": "1000000", "--batch_size": "100000000",
        "--num_blocks": "100000", "--shared_rnn_max_length": "1000000000", "--num_threads": "100000",
        "--derive_num_sample": "1000000000000", "--max_epoch": "10000000000000000000", "--max_save_num": "10000000000000000000",
        "--log_step": "10000000000000000000", "--shared_max_step": "10000000000000000000000",
        "--rank_timeout": "1e300",
    }  # fmt: skip
    for flag, value in huge.items():
        through = "ulimit -v 8000000; {command}"
        ends = ("max_epoch", "shared_max_step", "max_save_num", "log_step", "rank_timeout", "derive_num_sample")
        status = EITHER if flag[2:] in ends else REFUSED
        case = Case(f"{flag} {value}", flags=(flag, value), through=through, status=status, limit=SHORT, names=flag[2:])
        trials.append(Trial(KIND, "text", case))
    for flag, value in {"--cnn_hid": "1000000", "--cnn_num_layers": "100000", "--image_size": "1000000"}.items():
        through = "ulimit -v 8000000; {command}"
        case = Case(
            f"{flag} {value}", flags=(flag, value), through=through, status=REFUSED, limit=SHORT, names=flag[2:]
        )
        trials.append(Trial(KIND, "macro", case))
    trials += [
        Trial(KIND, "gif", Case("--max_frame 10^18", flags=("--max_frame", str(10**18)), status=EITHER, limit=SHORT)),
        Trial(KIND, "gif", Case("--max_frame 0", flags=("--max_frame", "0"), status=REFUSED)),
        Trial(KIND, "evaluate", Case("--jobs 100000", flags=("--jobs", "100000", "--backend", "loky"), status=EITHER, limit=60)),
        Trial(KIND, "text", Case("WORLD_SIZE=2 without torchrun", environment={"WORLD_SIZE": "2"}, status=(2, 3), limit=SHORT)),
        Trial(KIND, "text", Case("WORLD_SIZE=many", environment={"WORLD_SIZE": "many"}, status=EITHER, limit=SHORT)),
        Trial(KIND, "text", Case("RANK=7 alone", environment={"RANK": "7"}, status=EITHER, limit=SHORT)),
        Trial(KIND, "text", Case("OMP_NUM_THREADS=lots", environment={"OMP_NUM_THREADS": "lots"}, status=EITHER, lines=3)),
        Trial(KIND, "text", Case("ENAS_USE names nothing", environment={"ENAS_USE": "nothing"}, status=REFUSED)),
        Trial(KIND, "text", Case("TMPDIR is not there", environment={"TMPDIR": "/nonexistent"}, status=EITHER)),
        Trial(KIND, "micro", Case("TMPDIR is not there", environment={"TMPDIR": "/nonexistent"}, status=EITHER)),
        Trial(KIND, "finalists", Case("TMPDIR is not there", environment={"TMPDIR": "/nonexistent"}, status=EITHER)),
        Trial(KIND, "text", Case("no folder for temporary files", environment={"TMPDIR": "/nonexistent"}, status=EITHER,
              through="unshare -m bash -c 'mount -t tmpfs -o ro tmpfs /tmp2 2>/dev/null; mount --bind -o ro /proc /var/tmp; {command}'", root=True)),
        Trial(KIND, "text", Case("the working folder is gone", status=EITHER,
              through="mkdir gone && cd gone && rmdir ../gone && {command} --data_dir {folder}/data --log_dir {folder}/logs")),
    ]  # fmt: skip
    return trials


TRIALS = _trials()

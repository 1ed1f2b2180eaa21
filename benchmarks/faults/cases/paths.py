"""Names and paths that come from outside, and texts from outside."""

import os
import re
from pathlib import Path

from benchmarks.faults.cases.spoiling import all_of, content, mode, text
from benchmarks.faults.entries import ENTRIES
from benchmarks.faults.trial import DONE, REFUSED, Case, Trial, crossed

KIND = "names and paths"
EITHER = (*DONE, *REFUSED)
LONG = "n" * 300
BYTES = os.fsdecode(b"caf\xe9")  # Latin-1
PLACES_OF = {  # entry -> its flags that name paths, those of files and those of folders
    "text": ("--log_dir", "--data_dir", "--dataset", "--config", "--name", "--load_path", "--use"),
    "single": ("--dag_path",),
    "derive": ("--load_path",),
    "export": ("--output", "--load_path", "--dag_path", "--data_dir", "--log_dir"),
    "report": ("--output", "--load_path", "--results_dir", "--log_dir"),
    "gif": ("--output", "--model_name", "--log_dir"),
    "evaluate": ("--table", "--budget", "--output"),
    "download": ("--from", "--data_dir"),
    "convert": ("--from",),
    "ablate": ("--load_path", "--dag_path"),
}
ENDS = {("report", "--output"): ".html", ("gif", "--output"): ".gif", ("evaluate", "--table"): ".json"}


def _without(words: tuple[str, ...], flag: str) -> tuple[str, ...]:
    if flag not in words:
        return words
    at = words.index(flag)
    return words[:at] + words[at + 2 :]


def _tilde_check(folder: Path) -> str:
    return "a folder named ~ is made" if (folder / "~").exists() else ""


VALUES = {  # names that come from outside; "*" is the end that the flag needs
    "300 letters": f"{LONG}*",
    "bytes that are no UTF-8": f"{BYTES}*",
    "~": "~/there*",
    "a NUL's neighbour": "new\x01line\n*",
    "a folder": "data",
    "empty": "",
    "a file as a folder": "cell.json/there*",
    "/dev/null": "/dev/null",
}


def _named(entry: str, flag: str) -> list[Case]:
    end, words = ENDS.get((entry, flag), ""), _without(ENTRIES[entry].words, flag)
    around = {"status": EITHER, "check": _tilde_check, "environment": {"HOME": "{folder}/home"}}
    return [
        Case(f"{flag} is {name}", words=(*words, f"{flag}={value.replace('*', end)}"), **around)
        for name, value in VALUES.items()
    ]


def _permissions() -> list[Trial]:
    closed = {
        "text": ("data/letters/train.txt", "data/letters", "data"),
        "single": ("cell.json",),
        "evaluate": ("budget.py",),
        "resume": tuple(f"logs/found/{name}" for name in ("params.json", "data.json", "checkpoints", "results.json")),
        "report": ("logs/found/results.json", "logs/found/networks"),
        "download": ("ptb.tar",),
        "disk": ("data/squares/train/one/0.png", "data/squares/valid/two"),
    }  # fmt: skip
    trials = [
        Trial(KIND, entry, Case(f"{place} may not be read", mode(place, 0), status=EITHER, user=True))
        for entry, places in closed.items() for place in places
    ]  # fmt: skip
    for entry in ("text", "derive", "export", "report", "evaluate", "ablate", "gif"):
        shut = Case("nothing may be written in the folder", mode(".", 0o555), status=EITHER, user=True)
        trials.append(Trial(KIND, entry, shut))
        logs = "logs/found" if ENTRIES[entry].home != "text" else "data"
        trials.append(Trial(KIND, entry, Case(f"{logs} is read-only", mode(logs, 0o555), status=EITHER, user=True)))
    return trials


MOUNTED = "mkdir -p mounted && mount -t tmpfs tmpfs mounted && {command}"


def _targets() -> list[Trial]:
    def made(entry: str, name: str, target: str, spoil=None, **more) -> Trial:
        words = (*_without(ENTRIES[entry].words, "--output"), "--output", target)
        return Trial(KIND, entry, Case(f"--output is {name}", spoil, words=words, status=EITHER, **more))

    trials = []
    for entry in ("export", "report", "gif"):
        end = {"report": ".html", "gif": ".gif"}.get(entry, "")
        trials += [
            made(entry, "the folder itself", "."),
            made(entry, "the folder above", ".."),
            made(entry, "the root", "/"),
            made(entry, "a link to an empty folder", f"link{end}", all_of(text("empty/x", ""), _linked(end, "empty"))),
            made(entry, "a link to nothing", f"link{end}", _linked(end, "nothing")),
            made(entry, "a link to itself", f"link{end}", _linked(end, f"link{end}")),
            made(entry, "a file", f"there{end}", text(f"there{end}", "old")),
            made(entry, "a mount point", "mounted", through=MOUNTED, root=True),
        ]
    full = "mkdir full && mount -t tmpfs -o size=8k tmpfs full && {command}"
    names = {"export": "full/cell", "report": "full/page.html", "gif": "full/search.gif"}
    for entry, target in names.items():
        trials.append(made(entry, "on a full disk", target, through=f"unshare -m bash -c '{full}'", root=True))
    full_logs = "mkdir logs2 && mount -t tmpfs -o size=16k tmpfs logs2 && {command} --log_dir logs2"
    for entry in ("text", "single", "micro"):
        case = Case(
            "--log_dir is on a full disk", through=f"unshare -m bash -c '{full_logs}'", root=True, status=REFUSED
        )
        trials.append(Trial(KIND, entry, case))
    return trials


def _linked(end: str, target: str):
    return lambda folder: (folder / f"link{end}").symlink_to(target)


def _lines(joined: bytes):
    return lambda old: joined.join(old.split(b"\n"))


_TRAIN, _VALID = "data/letters/train.txt", "data/letters/valid.txt"
TEXTS = {
    "train.txt: carriage returns alone": (_TRAIN, _lines(b"\r")),
    "train.txt: carriage returns alone, one line feed": (_TRAIN, lambda old: _lines(b"\r")(old) + b"\n"),
    "valid.txt: carriage returns late": (_VALID, lambda old: old + old.replace(b"\n", b"\r")),
    "train.txt: CR LF": (_TRAIN, _lines(b"\r\n")),
    "train.txt: a byte order mark": (_TRAIN, lambda old: b"\xef\xbb\xbf" + old),
    "train.txt: a byte order mark in the middle": (_TRAIN, lambda old: old + b"\xef\xbb\xbf" + old),
    "train.txt: NUL late": (_TRAIN, lambda old: old * 20 + b"a \0 b\n"),
    "train.txt: UTF-16": (_TRAIN, lambda old: old.decode().encode("utf-16")),
    "train.txt: UTF-32": (_TRAIN, lambda old: old.decode().encode("utf-32")),
    "train.txt: Latin-1 late": (_TRAIN, lambda old: old * 20 + b"caf\xe9\n"),
    "train.txt: surrogates as bytes": (_TRAIN, lambda old: old + b"\xed\xa0\x80 a b\n" * 9),
    "train.txt: line separators of Unicode": (_TRAIN, _lines("\u2028".encode())),
    "train.txt: form feeds": (_TRAIN, _lines(b"\f")),
    "train.txt: a word of 100,000 letters": (_TRAIN, lambda old: old + b"x" * 100_000 + b"\n"),
    "train.txt: escape sequences": (_TRAIN, lambda old: old.replace(b"a", b"\x1b[31ma")),
    "train.txt: no letter": (_TRAIN, lambda old: b" \n" * 100),
}
PYTHON = """
from enas.runs import run
from enas.errors import UserError
settings = dict(config="small", num_gpu=0, num_threads=1, max_epoch=1, shared_max_step=2, controller_max_step=2,
                derive_num_sample=2, precision="float32", batch_size=4, quiet=True)
import sys
import torch
from PIL import Image
text = ["a b c d", "b c d a"] * 60
{made}
if "config" not in more:
    settings |= dict(num_blocks=2, shared_embed=8, shared_hid=8)
try:
    run.search(train, valid=0.2, test=0.2, **{{**settings, **more}})
except UserError as error:
    print("error:", str(error)[:500], file=sys.stderr)
    sys.exit(2)
"""


WRONG_TEXT = re.compile("carriage returns|NUL|UTF-|Latin|surrogates|no letter")


def _right(name: str) -> tuple[int, ...]:
    """Return the right status for a text: some are refused, a mark in the middle may be, and all others are read."""
    return REFUSED if WRONG_TEXT.search(name) else EITHER if "middle" in name else DONE


MARKED = {  # entry -> text files that people edit
    "single": ("cell.json",),
    "evaluate": ("budget.py",),
    "resume": ("logs/found/params.json", "logs/found/data.json"),
    "report": ("logs/found/results.json",),
}


def _marked(path: str) -> list[Case]:
    return [
        Case(f"{path}: a byte order mark", content(path, lambda old: b"\xef\xbb\xbf" + old)),
        Case(f"{path}: CR LF", content(path, _lines(b"\r\n"))),
    ]


def _flag(name: str, flag: str, value: str, status: tuple[int, ...] = EITHER) -> Case:
    return Case(f"{flag} {name}", flags=(flag, value), status=status)


_RATES = [
    *(_flag(value, "--fps", value) for value in ("0.001", "1e-300", "1e300")),
    _flag("nan", "--fps", "nan", REFUSED),
]
_NUMBERS = [
    Case("--size_beta -1e-1", flags=("--size_beta", "-1e-1", "--max_parameters", "100000")),
    Case("--size_beta -.1", flags=("--size_beta", "-.1", "--max_parameters", "100000")),
    _flag("١", "--shared_lr", "١"),
    _flag("of 5,000 digits", "--max_epoch", "9" * 5000, REFUSED),
    _flag("-1", "--random_seed", "-1"),
    _flag("2^70", "--random_seed", str(2**70)),
]
_CONVERT = ("-m", "enas", "convert", "--from", "json")
_CONVERTED = [
    Case("the text is bytes that are no UTF-8", status=REFUSED, words=(*_CONVERT, os.fsdecode(b"\xff{}"))),
    Case("stdin is bytes that are no UTF-8", status=REFUSED, words=(*_CONVERT, "-"),
         through="printf '\\377{}' | {command}"),
]  # fmt: skip


def _pictures(image: str, label: str = "i % 2") -> str:
    more = "{'config': 'small_cnn', 'cnn_num_layers': 2, 'cnn_hid': 4, 'batch_size': 4}"
    return f"train, more = [({image}, {label}) for i in range(90)], {more}"


_IMAGE = "Image.new('RGB', (8, 8))"
FROM_PYTHON = {  # what Python gives to `run.search`
    "a lone surrogate in a text": "train, more = [*text, 'a \\ud800 b'], {}",
    "a NUL in a text": "train, more = [*text, 'a \\0 b'], {}",
    "carriage returns in a text": "train, more = [*text, 'a\\rb\\rc'], {}",
    "a text of bytes": "train, more = [b'a b c'] * 90, {}",
    "pairs of text and number": "train, more = [('good', 1)] * 90, {}",
    "a set": "train, more = set(text), {}",
    "None": "train, more = None, {}",
    "a generator": "train, more = (one for one in text), {}",
    "items that are None": "train, more = [None] * 90, {}",
    "a dataset's name with a surrogate": "train, more = text, {'dataset': 'a\\ud800'}",
    "a run's name with a surrogate": "train, more = text, {'name': 'a\\ud800'}",
    "a log_dir with a surrogate": "train, more = text, {'log_dir': 'a\\ud800/b'}",
    "negative token ids": "train, more = [[1, -2, 3]] * 90, {}",
    "token ids that are truth values": "train, more = [[True, False]] * 90, {}",
    "token ids beyond 64 bits": "train, more = [[2**70, 1, 2]] * 90, {}",
    **{f"images of mode {mode}": _pictures(f"Image.new('{mode}', (8, 8))")
       for mode in ("CMYK", "YCbCr", "HSV", "F", "I;16", "PA")},
    "images of mode LAB": _pictures("Image.merge('LAB', [Image.new('L', (8, 8))] * 3)"),
    "labels of 300 letters": _pictures(_IMAGE, "'ab'[i % 2] * 300"),
    "labels with a slash": _pictures(_IMAGE, "'../' + 'ab'[i % 2]"),
    "labels that are NaN": _pictures(_IMAGE, "float('nan')"),
    "an image of no size": _pictures("torch.zeros(3, 0, 0)"),
}  # fmt: skip
TRIALS = [
    *(one for entry, names in PLACES_OF.items() for flag in names for one in crossed(KIND, entry, _named(entry, flag))),
    *_permissions(),
    *_targets(),
    *crossed(KIND, "text", [
        Case(name, content(path, change), status=_right(name), names=r"\.txt") for name, (path, change) in TEXTS.items()
    ]),
    *(one for entry, files in MARKED.items() for path in files for one in crossed(KIND, entry, _marked(path))),
    *crossed(KIND, "gif", _RATES),
    *crossed(KIND, "text", _NUMBERS),
    *crossed(KIND, "convert", _CONVERTED),
    *crossed(KIND, "text", [
        Case("from Python: nothing is wrong with texts", words=("-c", PYTHON.format(made="train, more = text, {}"))),
        Case("from Python: nothing is wrong with images", words=("-c", PYTHON.format(made=_pictures(_IMAGE)))),
    ]),
    *crossed(KIND, "text", [
        Case(f"from Python: {name}", words=("-c", PYTHON.format(made=made)), status=EITHER)
        for name, made in FROM_PYTHON.items()
    ]),
]  # fmt: skip

"""Names and paths that come from outside, and texts from outside."""

import os
from pathlib import Path

from benchmarks.faults.cases.spoiling import all_of, content, mode, text
from benchmarks.faults.entries import ENTRIES
from benchmarks.faults.trial import DONE, REFUSED, Case, Trial

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
    "gif": ("--output", "--model_name", "--log_dir", "--title"),
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


def _trials() -> list[Trial]:
    trials = []
    values = {
        "300 letters": (lambda end: LONG + end, EITHER),
        "bytes that are no UTF-8": (lambda end: BYTES + end, EITHER),
        "~": (lambda end: f"~/there{end}", EITHER),
        "a NUL's neighbour": (lambda end: f"new\x01line\n{end}", EITHER),
        "a folder": (lambda end: "data", EITHER),
        "empty": (lambda end: "", EITHER),
        "a file as a folder": (lambda end: f"cell.json/there{end}", EITHER),
        "/dev/null": (lambda end: "/dev/null", EITHER),
    }
    for entry, places in PLACES_OF.items():
        for flag in places:
            for name, (make, status) in values.items():
                end = ENDS.get((entry, flag), "")
                words = _without(ENTRIES[entry].words, flag)
                case = Case(f"{flag} is {name}", words=(*words, f"{flag}={make(end)}"), status=status, check=_tilde_check,
                            environment={"HOME": "{folder}/tmp"})  # fmt: skip
                trials.append(Trial(KIND, entry, case))
    return [*trials, *_permissions(), *_targets(), *_texts(), *_titles()]


def _permissions() -> list[Trial]:
    closed = {
        "text": ("data/letters/train.txt", "data/letters", "data"),
        "single": ("cell.json",),
        "evaluate": ("budget.py",),
        "resume": ("logs/found/params.json", "logs/found/data.json", "logs/found/checkpoints", "logs/found/results.json"),
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


def _texts() -> list[Trial]:
    train, valid = "data/letters/train.txt", "data/letters/valid.txt"
    cases = {
        "train.txt: carriage returns alone": (train, _lines(b"\r")),
        "train.txt: carriage returns alone, one line feed": (train, lambda old: _lines(b"\r")(old) + b"\n"),
        "valid.txt: carriage returns late": (valid, lambda old: old + old.replace(b"\n", b"\r")),
        "train.txt: CR LF": (train, _lines(b"\r\n")),
        "train.txt: a byte order mark": (train, lambda old: b"\xef\xbb\xbf" + old),
        "train.txt: a byte order mark in the middle": (train, lambda old: old + b"\xef\xbb\xbf" + old),
        "train.txt: NUL late": (train, lambda old: old * 20 + b"a \0 b\n"),
        "train.txt: UTF-16": (train, lambda old: old.decode().encode("utf-16")),
        "train.txt: UTF-32": (train, lambda old: old.decode().encode("utf-32")),
        "train.txt: Latin-1 late": (train, lambda old: old * 20 + b"caf\xe9\n"),
        "train.txt: surrogates as bytes": (train, lambda old: old + b"\xed\xa0\x80 a b\n" * 9),
        "train.txt: line separators of Unicode": (train, _lines("\u2028".encode())),
        "train.txt: form feeds": (train, _lines(b"\f")),
        "train.txt: a word of 100,000 letters": (train, lambda old: old + b"x" * 100_000 + b"\n"),
        "train.txt: escape sequences": (train, lambda old: old.replace(b"a", b"\x1b[31ma")),
        "train.txt: no letter": (train, lambda old: b" \n" * 100),
    }
    trials = [
        Trial(KIND, "text", Case(name, content(path, change), status=EITHER)) for name, (path, change) in cases.items()
    ]
    marks = {"cell.json": "single", "budget.py": "evaluate", "logs/found/params.json": "resume",
             "logs/found/results.json": "report", "logs/found/data.json": "resume"}  # fmt: skip
    for path, entry in marks.items():
        bom = Case(f"{path}: a byte order mark", content(path, lambda old: b"\xef\xbb\xbf" + old))
        trials.append(Trial(KIND, entry, bom))
        crlf = Case(f"{path}: CR LF", content(path, _lines(b"\r\n")))
        trials.append(Trial(KIND, entry, crlf))
    return trials


PYTHON = """
from enas import run
from enas.errors import UserError
settings = dict(config="small", num_gpu=0, num_threads=1, max_epoch=1, shared_max_step=2, controller_max_step=1,
                derive_num_sample=2, num_blocks=2, quiet=True)
import sys
import torch
from PIL import Image
text = ["a b c d", "b c d a"] * 60
{made}
try:
    run.search(train, valid=0.2, test=0.2, **{{**settings, **more}})
except UserError as error:
    print("error:", str(error)[:500], file=sys.stderr)
    sys.exit(2)
"""


def _titles() -> list[Trial]:
    title = os.fsdecode(b"\xff title")
    trials = [
        Trial(KIND, "gif", Case("--title of bytes that are no UTF-8", flags=("--title", title), status=EITHER)),
        Trial(KIND, "gif", Case("--title of 5,000 letters", flags=("--title", "W" * 5000), status=EITHER)),
        Trial(KIND, "gif", Case("--title without glyphs", flags=("--title", "搜索 \U0001f600"), status=EITHER)),
        Trial(KIND, "gif", Case("--title of two lines", flags=("--title", "one\ntwo\x07"), status=EITHER)),
        Trial(KIND, "gif", Case("--fps 0.001", flags=("--fps", "0.001"), status=EITHER)),
        Trial(KIND, "gif", Case("--fps 1e-300", flags=("--fps", "1e-300"), status=EITHER)),
        Trial(KIND, "gif", Case("--fps nan", flags=("--fps", "nan"), status=REFUSED)),
        Trial(KIND, "gif", Case("--fps 1e300", flags=("--fps", "1e300"), status=EITHER)),
        Trial(KIND, "text", Case("--size_beta -1e-1", flags=("--size_beta", "-1e-1"), status=EITHER)),
        Trial(KIND, "text", Case("--size_beta -.1", flags=("--size_beta", "-.1"), status=EITHER)),
        Trial(KIND, "text", Case("--shared_lr ١", flags=("--shared_lr", "١"), status=EITHER)),
        Trial(KIND, "text", Case("--max_epoch of 5,000 digits", flags=("--max_epoch", "9" * 5000), status=REFUSED)),
        Trial(KIND, "text", Case("--random_seed -1", flags=("--random_seed", "-1"), status=EITHER)),
        Trial(KIND, "text", Case("--random_seed 2^70", flags=("--random_seed", str(2**70)), status=EITHER)),
        Trial(KIND, "convert", Case("the text is bytes that are no UTF-8", status=REFUSED,
              words=("-m", "enas", "convert", "--from", "json", os.fsdecode(b"\xff{}")))),
        Trial(KIND, "convert", Case("stdin is bytes that are no UTF-8", status=REFUSED,
              words=("-m", "enas", "convert", "--from", "json", "-"), through="printf '\\377{}' | {command}")),
    ]  # fmt: skip
    python = {
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
        **{f"images of mode {name}": f"train, more = [(Image.new('RGB' if '{name}' == 'LAB' else '{name}', (8, 8)), i % 2)"
           f" for i in range(90)], {{'config': 'small_cnn', 'cnn_num_layers': 2}}" for name in ("CMYK", "YCbCr", "HSV", "F", "I;16", "PA")},
        "labels of 300 letters": "train, more = [(Image.new('RGB', (8, 8)), 'ab'[i % 2] * 300) for i in range(90)], {'config': 'small_cnn', 'cnn_num_layers': 2}",
        "labels with a slash": "train, more = [(Image.new('RGB', (8, 8)), '../' + 'ab'[i % 2]) for i in range(90)], {'config': 'small_cnn', 'cnn_num_layers': 2}",
        "labels that are NaN": "train, more = [(Image.new('RGB', (8, 8)), float('nan')) for i in range(90)], {'config': 'small_cnn'}",
        "an image of no size": "train, more = [(torch.zeros(3, 0, 0), i % 2) for i in range(90)], {'config': 'small_cnn'}",
    }  # fmt: skip
    for name, made in python.items():
        words = ("-c", PYTHON.format(made=made))
        trials.append(Trial(KIND, "text", Case(f"from Python: {name}", words=words, status=EITHER)))
    return trials


TRIALS = _trials()

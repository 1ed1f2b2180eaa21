"""Helpers of the program die, hang or are missing: the run says so once, and goes on."""

import os
from dataclasses import replace
from pathlib import Path

from benchmarks.faults.cases.spoiling import all_of, mode, program, text
from benchmarks.faults.entries import ENTRIES, LAUNCHED
from benchmarks.faults.trial import DONE, REFUSED, Case, crossed

KIND = "helpers"
EITHER = (*DONE, *REFUSED)
FIRST = {"PATH": f"{{folder}}/bin:{os.environ.get('PATH', '')}"}


def _is_complete(folder: Path) -> str:
    return "" if (folder / "logs/new/results.json").is_file() else "the run did not come to its end"


def _dot(name: str, script: str, **more) -> Case:
    return Case(f"dot {name}", program("dot", script), environment=FIRST, check=_is_complete, **more)


DRAWING = (
    _dot("prints nothing", "exit 0"),
    _dot("fails", "echo 'Error: no fonts' >&2; exit 1", lines=3),
    _dot("prints no picture", "echo hello"),
    _dot("is killed", "kill -9 $$", lines=3),
    _dot("hangs", "exec sleep 1000", limit=40),
    _dot("ends with 3 and half a picture", "printf '\\211PNG'; exit 3", lines=3),
    Case("dot is not executable", all_of(program("dot", "exit 0"), mode("bin/dot", 0o644)),
         environment={"PATH": "{folder}/bin:/usr/bin/nothing"}, check=_is_complete),
)  # fmt: skip


def _rc(name: str, lines: str) -> Case:
    spoil = text("settings/matplotlibrc", lines)
    return Case(f"matplotlibrc: {name}", spoil, environment={"MATPLOTLIBRC": "{folder}/settings"}, lines=2)


PLOTTING = (
    Case("MPLBACKEND of a notebook", environment={"MPLBACKEND": "module://matplotlib_inline.backend_inline"}),
    Case("MPLBACKEND that is not there", environment={"MPLBACKEND": "module://nowhere"}),
    Case("MPLBACKEND without a screen", environment={"MPLBACKEND": "TkAgg", "DISPLAY": ":77"}),
    _rc("TeX, which is not there", "text.usetex: True\n"),
    _rc("no such font", "font.family: Nothing Sans\n"),
    _rc("wrong lines", "savefig.dpi: many\nnonsense\n"),
    _rc("a size without end", "savefig.dpi: 100000\n"),
    _rc("SVG", "savefig.format: svg\nsavefig.bbox: tight\n"),
    Case("MPLCONFIGDIR is a file", text("config", ""), environment={"MPLCONFIGDIR": "{folder}/config"}, lines=2),
)
PRINTING = (
    Case("stdout is full", through="{command} > /dev/full"),
    Case("stdout and stderr are full", through="{command} > /dev/full 2> /dev/full"),
    Case("stdout is closed", through="{command} >&-"),
    Case("stderr is closed", through="{command} 2>&-"),
    Case("stdin is closed", through="{command} <&-"),
    Case("| head -1", through="{command} | head -1; exit ${PIPESTATUS[0]}", status=(0, 141)),
    Case("| true", through="{command} | true; exit ${PIPESTATUS[0]}", status=(0, 141)),
    Case("2>&1 | true", through="{command} 2>&1 | true; exit ${PIPESTATUS[0]}", status=(0, 141)),
    Case("ASCII alone", environment={"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}),
    Case("cp1252", environment={"PYTHONIOENCODING": "cp1252"}),
    Case("locale C, no UTF-8", environment={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    Case("locale that is not there", environment={"LC_ALL": "xx_XX.UTF-8", "LANGUAGE": "xx"}, lines=2),
    Case("terminal of no width", environment={"COLUMNS": "0", "TERM": "nonsense"}),
    Case("a time zone that is not there", environment={"TZ": "Nowhere/At_All"}),
    Case("no home", environment={"HOME": "/nonexistent"}, lines=2),
)


def _with(what: str, entry: str) -> tuple[str, ...]:
    words = ENTRIES[entry].words
    return (*LAUNCHED, what, *words)


SMALL_SHM = "mount -t tmpfs -o size=4k tmpfs /dev/shm && {command}"
MACHINE = (
    Case("/dev/shm of 4 kB", through="unshare -m bash -c '" + SMALL_SHM + "'", status=EITHER, root=True),
    Case("ulimit -n 32", through="ulimit -n 32; {command}", status=EITHER),
    Case("ulimit -n 64", through="ulimit -n 64; {command}", status=EITHER),
    Case("ulimit -f 8", through="ulimit -f 8; {command}", status=REFUSED),
    Case("ulimit -c 0 and -s 512", through="ulimit -s 512; {command}", status=EITHER),
)


HELP = (("main.py", "--help"), ("main.py", "--help_all"), ("-m", "enas"), ("-m", "enas", "export", "--help"))
_OFFLINE = {"WANDB_MODE": "offline"}
SERVICES = (
    Case("TensorBoard's file is on a full disk", words=_with("no curves", "text")),
    Case("locks are not supported", words=_with("no locks", "text"), check=_is_complete),
    Case("wandb is missing", words=(*_with("no wandb", "text"), "--wandb"), status=REFUSED),
    Case("wandb offline", flags=("--wandb",), environment=_OFFLINE, lines=3),
    Case("wandb without an account", flags=("--wandb",), environment={"WANDB_API_KEY": "x"}, status=EITHER, lines=1),
    Case(
        "wandb's folder is a file", text("w", ""), flags=("--wandb",), lines=40,  # of wandb's own program
        environment={**_OFFLINE, "WANDB_DIR": "{folder}/w", "WANDB_CACHE_DIR": "{folder}/w"},
    ),
    Case(
        "wandb's service is killed", flags=("--wandb",), lines=3, status=EITHER, environment=_OFFLINE,
        through="{command} & pid=$!; for i in $(seq 400); do sleep 0.05; [ -d logs/new/wandb ] && break; done; "
        "sleep 0.5; pkill -9 -s $(ps -o sess= $$) wandb-core; wait $pid",
    ),
    Case("git hangs", program("git", "exec sleep 1000"), environment=FIRST, limit=40),
    Case("git fails", program("git", "exit 128"), environment=FIRST),
)  # fmt: skip


def _help(words: tuple[str, ...], case: Case) -> Case:
    """Return the case for a text of help, which may be lost whole on a full disk."""
    status = (0, 1, 2, 141) if "full" in case.name else case.status
    return replace(case, name=f"{' '.join(words)}: {case.name}", words=words, status=status)


TRIALS = [
    *crossed(KIND, "text", DRAWING),
    *crossed(KIND, "micro, derive, single", [replace(DRAWING[0], check=lambda folder: "")]),
    *crossed(KIND, "text", PLOTTING),
    *crossed(KIND, "ablate, report", PLOTTING[:5]),
    *crossed(KIND, "text", PRINTING),
    *crossed(KIND, "evaluate, export, convert, single", PRINTING[:9]),
    *crossed(KIND, "text", [_help(words, PRINTING[place]) for words in HELP for place in (0, 5, 6, 8, 9)]),
    *crossed(KIND, "disk, text", MACHINE),
    *crossed(KIND, "evaluate jobs", MACHINE[:3]),
    *crossed(KIND, "text", SERVICES),
    *crossed(KIND, "resume", [Case("locks are not supported", words=_with("no locks", "resume"))]),
]

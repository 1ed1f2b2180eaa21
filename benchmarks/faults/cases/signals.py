"""Signals to the whole process group: what is done is kept, one line is said, and the same command goes on."""

import signal
from pathlib import Path

from benchmarks.faults.trial import Case, Stop, Trial, crossed

KIND = "signals"


def _has(pattern: str, num: int = 1):
    return lambda folder: len([*folder.glob(pattern)]) >= num


SAVED = _has("logs/new/checkpoints/*.pt")
MOMENTS = {  # of an entry point: when the work is under way
    "text": SAVED,
    "macro": SAVED,
    "micro": SAVED,
    "disk": SAVED,
    "torchrun": SAVED,
    "single": SAVED,
    "resume": lambda folder: "epoch 4" in (folder / "logs/found/train.log").read_text() or _grown(folder),
    "finalists": _has("logs/found/finalists/*/checkpoints/*.pt"),
    "derive": _has("logs/found/.lock"),
    "scratch": _has("logs/again/params.json"),
    "ablate scratch": _has("analysis_results/**/results.json"),
    "evaluate": _has("table.json"),
    "evaluate jobs": _has("table.json"),
    "export": _has(".cell.*"),
    "report": _has(".page.html.*"),
    "download": _has("data/.ptb.*"),
}
STATUS = {signal.SIGTERM: (143, -signal.SIGTERM), signal.SIGINT: (130, -signal.SIGINT), signal.SIGHUP: (129, -1)}


def _grown(folder: Path) -> bool:
    return len([*(folder / "logs/found/checkpoints").glob("00004*")]) > 0


BRIEF = ("derive", "scratch", "export", "report", "download")  # which may end before they hear a signal


def _nothing(_folder: Path) -> None:
    """Nothing is left to mend: the same command goes on."""


def _stopped(name: str, entry: str, signum: int, after: float = 0.0, *, whole: bool = True) -> list[Trial]:
    """Return the trial of a signal that comes `after` the entry point's moment."""
    # torchrun says in many lines, and with a status of its own, that it was stopped.
    status, lines = ((*STATUS[signum], 1), 60) if entry == "torchrun" else (STATUS[signum], 1)
    status += (0,) * (entry in BRIEF)
    stop = Stop(signum, MOMENTS[entry], after, whole)
    return crossed(KIND, entry, [Case(name, stop=stop, status=status, lines=lines, mend=_nothing)])


def _early(name: str, signum: int, after: float) -> Case:
    """Return the case of a signal in the first seconds, while modules are imported."""
    ends = (*STATUS[signum], 0)  # a short command may have ended
    return Case(f"{name} after {after} s", stop=Stop(signum, after=after), status=ends, mend=_nothing)


TWICE = Case(
    "two Ctrl-C", status=(130, -2), lines=2, mend=_nothing,
    through="{command} & pid=$!; until ls logs/new/checkpoints/*.pt >/dev/null 2>&1; do sleep 0.02; done; "
    "kill -INT $pid; kill -INT $pid; wait $pid",
)  # fmt: skip
KILLED = "kill -9, then again: nothing is left"
TRIALS = [
    *(one for entry in MOMENTS for one in _stopped("SIGTERM to the group", entry, signal.SIGTERM)),
    *(
        one for entry in ("text", "disk", "finalists", "evaluate jobs", "ablate scratch", "download", "torchrun")
        for one in (*_stopped("Ctrl-C", entry, signal.SIGINT),
                    *_stopped("SIGTERM a while later", entry, signal.SIGTERM, 0.4))
    ),
    *(
        one for entry in ("text", "evaluate jobs", "disk")
        for one in (*_stopped("SIGTERM to the first process", entry, signal.SIGTERM, whole=False),
                    *_stopped("SIGHUP, the terminal is closed", entry, signal.SIGHUP))
    ),
    *crossed(KIND, "text, export, evaluate, report, convert, disk, download", [
        _early("Ctrl-C", signal.SIGINT, after) for after in (0.2, 0.5, 0.9, 1.5)
    ]),
    *crossed(KIND, "text, export", [_early("SIGTERM", signal.SIGTERM, after) for after in (0.1, 0.6, 1.2)]),
    *crossed(KIND, "text", [TWICE]),
    *(
        Trial(KIND, entry, Case(KILLED, stop=Stop(signal.SIGKILL, MOMENTS[entry]), status=(-9, 0), mend=_nothing))
        for entry in ("text", "evaluate jobs", "finalists", "ablate scratch", "export", "download")
    ),
]  # fmt: skip

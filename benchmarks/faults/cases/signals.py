"""Signals to the whole process group: what is done is kept, one line is said, and the same command goes on."""

import signal
from pathlib import Path

from benchmarks.faults.trial import Case, Stop, Trial

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
    "finalists": _has("logs/found/finalists/*/*/checkpoints/*.pt"),
    "derive": _has("logs/found/.lock"),
    "scratch": _has("logs/again/params.json"),
    "ablate scratch": _has("analysis_results/**/results.json"),
    "evaluate": _has("table.json"),
    "evaluate jobs": _has("table.json"),
    "export": _has(".cell-*"),
    "report": _has(".page.html.*"),
    "download": _has("data/.ptb-*"),
}
STATUS = {signal.SIGTERM: (143, -signal.SIGTERM), signal.SIGINT: (130, -signal.SIGINT), signal.SIGHUP: (129, -1)}


def _grown(folder: Path) -> bool:
    return len([*(folder / "logs/found/checkpoints").glob("00004*")]) > 0


def _nothing(_folder: Path) -> None:
    """Nothing is left to mend: the same command goes on."""


def _case(name: str, entry: str, signum: int, when, after: float = 0.0, whole: bool = True) -> Trial:
    lines = 1
    # torchrun says itself that it was stopped, in many lines.
    status = (*STATUS[signum], 0) if entry != "torchrun" else (*STATUS[signum], 0, 1)
    if entry == "torchrun":
        lines = 60
    case = Case(name, stop=Stop(signum, when, after, whole), status=status, lines=lines, mend=_nothing)
    return Trial(KIND, entry, case)


def _trials() -> list[Trial]:
    trials = []
    for entry, when in MOMENTS.items():
        trials.append(_case("SIGTERM to the group", entry, signal.SIGTERM, when))
        if entry in ("text", "disk", "finalists", "evaluate jobs", "ablate scratch", "download", "torchrun"):
            trials.append(_case("Ctrl-C", entry, signal.SIGINT, when))
            trials.append(_case("SIGTERM a while later", entry, signal.SIGTERM, when, 0.4))
        if entry in ("text", "evaluate jobs", "disk"):
            trials.append(_case("SIGTERM to the first process", entry, signal.SIGTERM, when, whole=False))
            trials.append(_case("SIGHUP, the terminal is closed", entry, signal.SIGHUP, when))
    for entry in ("text", "export", "evaluate", "report", "convert", "disk", "download"):
        for after in (0.05, 0.2, 0.5, 0.9, 1.5):
            trials.append(_case(f"Ctrl-C after {after} s", entry, signal.SIGINT, lambda _folder: True, after))
    for entry in ("text", "export"):
        for after in (0.1, 0.6, 1.2):
            trials.append(_case(f"SIGTERM after {after} s", entry, signal.SIGTERM, lambda _folder: True, after))
    twice = Case("two Ctrl-C", status=(130, -2), lines=2, mend=_nothing, through=(
        "{command} & pid=$!; until ls logs/new/checkpoints/*.pt >/dev/null 2>&1; do sleep 0.02; done; "
        "kill -INT $pid; kill -INT $pid; wait $pid"))  # fmt: skip
    trials.append(Trial(KIND, "text", twice))
    for entry in ("text", "evaluate jobs", "finalists", "ablate scratch", "export", "download"):
        killed = Case("kill -9, then again: nothing is left", stop=Stop(signal.SIGKILL, MOMENTS[entry]), status=(-9, 0),
                      mend=_nothing)  # fmt: skip
        trials.append(Trial(KIND, entry, killed))
    return trials


TRIALS = _trials()

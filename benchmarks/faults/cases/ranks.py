"""The processes of torchrun: the failing one says why, the others name it; what must be alike is compared."""

import shutil
from pathlib import Path

from benchmarks.faults.cases.spoiling import content
from benchmarks.faults.entries import ENTRIES, LAUNCHED, RANKS
from benchmarks.faults.trial import Case, Trial

KIND = "ranks"
FAILED = (1, 2, 3)
MANY = 120  # lines of torchrun itself


def _other(change):
    def spoil(folder: Path) -> None:
        shutil.copytree(folder / "data", folder / "other")
        change(folder)

    return spoil


def _case(name: str, what: str, says: str, *, spoil=None, status=FAILED, entry: str = "torchrun", flags=()) -> Trial:
    words = ENTRIES[entry].words
    words = (*RANKS, *LAUNCHED, what, *words[len(RANKS) :], *flags)
    # torchrun's own report of a process that ended has a traceback of its own wrapper; "Traceback" of ours is looked
    # for by `says`.
    return Trial(KIND, entry, Case(name, spoil, words=words, status=status, says=says, lines=MANY))


TRIALS = [
    _case("other data in rank 1", "1:other data", r"rank 1.*differ", spoil=_other(lambda folder: content(
        "other/letters/train.txt", lambda old: old.replace(b"a", b"b"))(folder))),
    _case("a file is missing in rank 1", "1:other data", r"rank 1.*no such file", spoil=_other(
        lambda folder: (folder / "other/letters/valid.txt").unlink())),
    _case("a folder is missing in rank 1", "1:other data", r"rank 1.*no such dataset", spoil=_other(
        lambda folder: shutil.rmtree(folder / "other/letters"))),
    _case("a file is missing in rank 0", "0:other data", r"rank 0.*no such file", spoil=_other(
        lambda folder: (folder / "other/letters/valid.txt").unlink())),
    _case("another setting in rank 1", "1:other settings", r"rank 1.*shared_lr"),
    _case("other weights in rank 1", "1:other weights", r"rank 1"),
    _case("weights drift in rank 1", "1:other step", r"rank 1"),
    _case("weights drift in rank 0", "0:other step", r"rank"),
    _case("rank 1 is killed", "1:dies", r"rank 0[^\n]*(gone|ended)"),
    _case("rank 0 is killed", "0:dies", r"rank 1[^\n]*(gone|ended)"),
    _case("rank 1 runs out of memory", "1:runs out", r"rank 1[^\n]*memory|memory[^\n]*rank 1"),
    _case("locks are not supported in rank 1", "1:no locks", "", status=(0,)),
    _case("rank 1 may not write", "1:no curves", "", status=(0,)),
    _case("an unknown flag in both", "disk", "unknown flag", flags=("--no_such_flag", "1")),
    _case("a dataset that is missing in both", "disk", "no such dataset", flags=("--dataset", "nothing")),
    Trial(KIND, "torchrun", Case("an export under torchrun", status=FAILED, lines=MANY, says="torchrun",
          words=(*RANKS, "-m", "enas", "export", "--load_path", "x", "--output", "y"))),
    Trial(KIND, "torchrun", Case("a report under torchrun", status=FAILED, lines=MANY, says="torchrun",
          words=(*RANKS, "-m", "enas", "report", "--load_path", "x", "--output", "y.html"))),
    Trial(KIND, "torchrun", Case("an evaluation under torchrun", status=FAILED, lines=MANY, says="torchrun",
          words=(*RANKS, *ENTRIES["evaluate"].words))),
    Trial(KIND, "torchrun", Case("the head of torchrun's output", lines=MANY, status=(0, 1, 141),
          through="{command} 2>&1 | head -1; exit ${PIPESTATUS[0]}")),
    Trial(KIND, "torchrun", Case("stdout is full", lines=MANY, through="{command} > /dev/full")),
]  # fmt: skip

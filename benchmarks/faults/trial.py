"""A trial: an entry point meets a case of trouble; it holds if it ends as it should and, where it can, goes on."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.entries import ENTRIES, environment, home, located

LIMIT = 60  # seconds of a machine that does nothing else until a trial has failed because it does not end
SHOWN = 400  # letters of output that a problem shows
DONE, REFUSED, STOPPED = (0,), (2,), (128 + signal.SIGTERM,)


@dataclass(frozen=True)
class Stop:
    """A signal, sent once `when` holds of the trial's folder, `after` so many seconds.

    `whole` sends it to the process group, as SLURM, docker and Ctrl-C do, else to the process alone.
    """

    signum: int = signal.SIGTERM
    when: Callable[[Path], object] = lambda folder: True
    after: float = 0.0
    whole: bool = True


@dataclass(frozen=True)
class Case:
    """Some trouble, and the end that is right.

    Attributes:
        spoil: makes the trouble in the trial's folder, before the command starts.
        flags: of the command, after its own.
        words: instead of the command's own words.
        environment: of the process; "{folder}" in a value is the trial's.
        through: a shell's line around the command, "{command}".
        stop: a signal on the way.
        status: the statuses that are right.
        says: a pattern that the output must contain.
        names: a pattern that a refusal, status 2, must contain.
        lines: most lines on stderr.
        mend: takes the trouble away; the entry point must then come to its end. None if there is nothing to go on.
        check: returns what is wrong in the folder, or nothing.
        root: whether it needs the rights of root, to mount.
        tmpfs: bytes, or words of `mount -o`, of a small file system in which the trial's folder lies.
        user: whether the permissions of files hold for the command, even of root.
        limit: seconds on a machine that does nothing else.
    """

    name: str
    spoil: Callable[[Path], object] | None = None
    flags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    through: str = "{command}"
    stop: Stop | None = None
    status: tuple[int, ...] = DONE
    says: str = ""
    names: str = ""
    lines: int = 1
    mend: Callable[[Path], object] | None = None
    check: Callable[[Path], str] = lambda folder: ""
    root: bool = False
    tmpfs: str = ""
    user: bool = False
    limit: float = LIMIT


@dataclass(frozen=True)
class Trial:
    """A case at an entry point."""

    kind: str
    entry: str
    case: Case

    @property
    def key(self) -> tuple[str, str, str]:
        return self.kind, self.entry, self.case.name


def crossed(kind: str, entries: str, cases: Iterable[Case]) -> list[Trial]:
    """Return the trials of cases at entry points, whose names commas separate."""
    return [Trial(kind, entry, case) for entry in entries.split(", ") for case in cases]


@dataclass(frozen=True)
class Outcome:
    """What became of a trial: "holds", "not right" or "skipped", and why; the status, and the seconds it took."""

    verdict: str
    why: str = ""
    status: int | None = None
    seconds: float = 0.0


def attempt(trial: Trial, store: Path, root: Path, place: Path) -> Outcome:
    """Make a trial in the new folder `place`, with the program in the tree `root`."""
    case, entry = trial.case, ENTRIES[trial.entry]
    if (case.root or case.tmpfs or case.user) and os.geteuid() != 0:
        return Outcome("skipped", "needs root, for mounts and permissions")
    origin, start = home(entry.home, store, root), time.monotonic()
    with _folder(place, case) as folder:
        if folder is None:
            return Outcome("skipped", "mount is not allowed here")
        shutil.copytree(origin, folder, dirs_exist_ok=True, symlinks=True)
        (folder / "tmp").mkdir()
        if case.spoil is not None:
            case.spoil(folder)
        before = set(_files(folder))
        words = case.words or entry.words
        end = _carried_out(case, words, folder, root)
        why = _fault(case, words, end) or case.check(folder)
        if not why and end.status != -signal.SIGKILL:  # which leaves what it wrote to the next command
            why = _half_written(folder, before)
        if not why and case.stop is not None and not end.is_sent:
            return Outcome("skipped", "it ended before the signal came", end.status)
        if not why and case.mend is not None:
            case.mend(folder)
            why = _trouble_later(_carried_out(Case("again"), entry.goes_on(folder), folder, root), folder)
    return Outcome("not right" if why else "holds", why, end.status, round(time.monotonic() - start, 1))


def _trouble_later(end: "End", folder: Path) -> str:
    """Return what is wrong after the command that goes on."""
    if end.status != 0 or "Traceback" in end.errors:
        return f"does not go on: status {end.status}, {_shown(end.errors)}"
    left = _half_written(folder, set())
    return f"after going on: {left}" if left else ""


@contextmanager
def _folder(place: Path, case: Case) -> Iterator[Path | None]:
    place.mkdir(parents=True)
    place.chmod(0o755)
    is_mounted = False
    try:
        if case.tmpfs:
            words = ["mount", "-t", "tmpfs", "-o", case.tmpfs, "tmpfs", str(place)]
            is_mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
        yield None if case.tmpfs and not is_mounted else place
    finally:
        for path in place.rglob("mounted"):
            subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)
        if is_mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)
        shutil.rmtree(place, ignore_errors=True)


class End(NamedTuple):
    """The end of a command: its status (None if it did not end), stdout, stderr, the processes that are left."""

    status: int | None
    output: str
    errors: str
    left: int
    is_sent: bool  # the signal of the case, if it has one


def _carried_out(case: Case, words: tuple[str, ...], folder: Path, root: Path) -> End:
    """Carry out a command as a case says."""
    command = shlex.join([sys.executable, *located(words, root), *case.flags])
    # exec: the signals and limits are those of the command itself.
    line = case.through.replace("{command}", command)
    line = line if case.through != "{command}" else f"exec {command}"
    line = line.replace("{folder}", shlex.quote(str(folder)))
    extra = {name: value.replace("{folder}", str(folder)) for name, value in case.environment.items()}
    around = ["/usr/bin/env", "--default-signal=INT,PIPE"]  # which a shell lets its background processes ignore
    # Permissions of files then hold for root, too, who alone may reach this machine's Python.
    around += ["/usr/bin/setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] * case.user
    variables = {**environment(root), "TMPDIR": str(folder / "tmp"), **extra}
    # Files, not pipes: a process that outlives the command must not hold up the trial.
    with open(f"{folder}.out", "wb+") as out, open(f"{folder}.err", "wb+") as err:
        process = subprocess.Popen(
            [*around, "/bin/bash", "-c", line], cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=out,
            stderr=err, start_new_session=True,
        )  # fmt: skip
        try:
            is_sent = _stop(process, case, folder)
            status = process.wait(_patience(case.limit))
        except subprocess.TimeoutExpired:
            status = None
        left = 0 if status is None else _left(process.pid)
        _end(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    for name in ("out", "err"):
        os.unlink(f"{folder}.{name}")
    return End(status, *texts, left, is_sent)


def _patience(limit: float) -> float:
    """Return a limit of time for a machine whose cores other programs share."""
    return limit * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _stop(process: subprocess.Popen, case: Case, folder: Path) -> bool:
    """Send the signal of a case, if it has one; return whether the process was still there."""
    if case.stop is None:
        return True
    until = time.monotonic() + _patience(case.limit)
    while not case.stop.when(folder) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(case.stop.after)
    if process.poll() is not None:
        return False
    (os.killpg if case.stop.whole else os.kill)(process.pid, case.stop.signum)
    return True


def _left(session: int) -> int:
    """Count the processes of a session that do not end soon after the first one."""
    until = time.monotonic() + _patience(3)
    while (left := _members(session)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _members(session: int) -> int:
    """Count the living processes of a session."""
    words = ["/bin/ps", "-o", "stat=", "-s", str(session)]
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()
    return sum(not state.startswith("Z") for state in found)


def _end(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _fault(case: Case, command: Sequence[str], end: End) -> str:
    """Return what is wrong with the end of a command; nothing if it is right."""
    lines, said = [line for line in end.errors.splitlines() if line.strip()], _shown(end.errors or end.output)
    # torchrun has a traceback of its own about a process that failed.
    is_launched = "torch.distributed.run" in command
    trace = r'File "[^"]*enas/(?![^"]*site-packages)' if is_launched else "Traceback|Exception ignored"
    is_named = re.search(case.names, end.errors) and lines and lines[0].startswith("error: ")
    faults = {
        f"does not end within {case.limit:.0f} s": end.status is None,
        f"traceback of {len(lines)} lines, status {end.status}": re.search(trace, end.errors + end.output),
        f"status {end.status}, not {' or '.join(map(str, case.status))}": end.status not in case.status,
        f"{len(lines)} lines on stderr, not {case.lines}": len(lines) > case.lines,
        f"says nothing of {case.says!r}": not re.search(case.says, end.errors + end.output, re.DOTALL),
        f"the refusal does not name {case.names!r}": end.status in REFUSED and not is_named,
        f"{end.left} processes are left": end.left,
    }
    return next((f"{fault}; {said}" for fault, is_so in faults.items() if is_so), "")


def _shown(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return " … ".join(lines[-2:])[-SHOWN:] if lines else "nothing is said"


def _files(folder: Path) -> Iterator[str]:
    for at, _, names in os.walk(folder):
        yield from (str(Path(at, name).relative_to(folder)) for name in names)


def _half_written(folder: Path, before: set[str]) -> str:
    """Return a new file that is temporary, or not whole."""
    for name in sorted(set(_files(folder)) - before):
        path = folder / name
        parts = Path(name).parts
        if any(part.startswith(".") and part not in (".lock", ".config", ".cache") for part in parts):
            return f"leaves {name}"
        if parts[0] == "tmp" and not re.search("torch_|torchinductor|matplotlib|fontconfig|fontlist|cache", name):
            return f"leaves {name}"
        if path.suffix == ".json" and path.is_file():
            try:
                json.loads(path.read_bytes())
            except ValueError:
                return f"{name} is not whole"
        if path.suffix == ".pt" and not zipfile.is_zipfile(path):
            return f"{name} is not whole"
        if path.suffix in (".png", ".gif", ".html") and not path.stat().st_size:
            return f"{name} is empty"
    return ""

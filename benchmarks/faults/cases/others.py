"""Security, one candidate's trouble, the newest run, and other systems."""

import json
import os
import shlex
import shutil
import stat
import sys
from pathlib import Path

from benchmarks.faults.cases.spoiling import all_of, content, edited, program, removed, text
from benchmarks.faults.entries import ENTRIES, HERE, LAUNCHED
from benchmarks.faults.trial import DONE, REFUSED, Case, Trial

EITHER = (*DONE, *REFUSED)
FIRST = {"PATH": f"{{folder}}/bin:{os.environ.get('PATH', '')}"}

# --- security ---------------------------------------------------------------------------------------------------------

SECURITY = "security"
IMAGE = "data/squares/train/one/0.png"
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
EVIL = "<script>alert(1)</script>"
MARKDOWN = "x](http:evil) **b** `c` # |"


def _not_started(folder: Path) -> str:
    return "Ghostscript was started" if (folder / "started").exists() else ""


def _renamed_dataset(name: str):
    def spoil(folder: Path) -> None:
        shutil.move(folder / "data/letters", folder / "data" / name)
        edited("logs/found/params.json", lambda data: data.update(dataset=name))(folder)

    return spoil


def _escaped(pattern: str, raw: str):
    def check(folder: Path) -> str:
        for path in folder.glob(pattern):
            if raw in path.read_text(encoding="utf-8", errors="replace"):
                return f"{path.name} holds {raw!r} as it is"
        return ""

    return check


def _modes(mask: int):
    def check(folder: Path) -> str:
        for path in (folder / "logs").rglob("*"):
            bits = stat.S_IMODE(path.stat().st_mode)
            wanted = (0o777 if path.is_dir() else 0o666) & ~mask
            if path.name != ".lock" and bits != wanted and not path.is_symlink():
                return f"{path.relative_to(folder)} has the permissions {bits:o}, not {wanted:o}"
        return ""

    return check


def _output_modes(pattern: str, mask: int):
    def check(folder: Path) -> str:
        for path in folder.glob(pattern):
            bits = stat.S_IMODE(path.stat().st_mode)
            wanted = (0o777 if path.is_dir() else 0o666) & ~mask
            if bits != wanted:
                return f"{path.name} has the permissions {bits:o}, not {wanted:o}"
        return ""

    return check


def _archive(member: str):
    """Put a member that leads out of the folder, or a link, into the archive."""

    def spoil(folder: Path) -> None:
        import io
        import tarfile

        with tarfile.open(folder / "ptb.tar", "a") as tar:
            info = tarfile.TarInfo(member)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"bad"))
            link = tarfile.TarInfo("valid.txt.link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)

    return spoil


def _pickle(folder: Path) -> None:
    import torch

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {folder}/started",)

    for path in folder.glob("logs/*/checkpoints/*.pt"):
        torch.save({"progress": Evil(), "task": {}}, path)


KILLED_WRITING = """
import os, sys
from pathlib import Path
from enas.files import atomic_folder, atomic_write
kind, name = sys.argv[1:]
with (atomic_write if kind == "file" else atomic_folder)(Path(name)) as made:
    (made.write if kind == "file" else (made / "x").write_bytes)(b"half")
    os.kill(os.getpid(), 9)
"""
WRITTEN = {  # entry -> files and folders at whose writing an earlier process was killed
    "resume": ("file logs/found/results.json", "file logs/found/checkpoints/00003-00000042.pt",
               "file logs/found/architectures/3.json"),
    "export": ("folder cell",),
    "report": ("file page.html",),
    "gif": ("file search.gif",),
    "evaluate again": ("file table.json", "file analysis_results/search_evaluation/table/results.json"),
    "download": ("folder data/ptb",),
}  # fmt: skip


def _killed_before(*names: str) -> str:
    """Return the line of a shell in which processes are killed while they write, and then the command comes."""
    words = f"{shlex.quote(sys.executable)} -c {shlex.quote(KILLED_WRITING)}"
    # The shell inside the brackets says that a process was killed.
    return " ".join(f"({words} {name}; true) 2> /dev/null;" for name in names) + " {command}"


def _nothing_outside(folder: Path) -> str:
    return "a file lies outside" if (folder.parent / "outside.txt").exists() else ""


def _nothing_hidden(folder: Path) -> str:
    left = [path for path in folder.rglob(".*") if path.name not in (".lock", ".config", ".cache")]
    return f"{left[0].relative_to(folder)} is left for ever" if left else ""


def _security() -> list[Trial]:
    gs = program("gs", "touch {}; exit 0".format('"$(dirname "$0")/../started"'))
    trials = []
    for entry in ("macro", "disk"):
        for place, name in ((IMAGE, "an image"), ("data/squares/test/two/3.png", "a test image")):
            spoil = all_of(gs, text(place, POSTSCRIPT))
            case = Case(f"{name} is PostScript", spoil, environment=FIRST, status=REFUSED, check=_not_started)
            trials.append(Trial(SECURITY, entry, case))
    raws = {
        "HTML": EVIL.replace("/", ""), "Markdown": MARKDOWN.replace("/", ""), "a table": "a|b",
        "an image of Markdown": "![x](y)", "quotes": "\"'><b>",
    }  # fmt: skip
    for name, raw in raws.items():
        for entry, made in (("export", "cell/*.md"), ("report", "page.html"), ("gif", "nothing")):
            check = _escaped(made, raw) if entry != "report" or "<" in raw else lambda folder: ""
            trials.append(
                Trial(SECURITY, entry, Case(f"a dataset's name is {name}", _renamed_dataset(raw), check=check))
            )
    odd = all_of(lambda folder: os.rename(folder / "logs/found", folder / "logs" / EVIL.replace("/", "")))
    words = ("-m", "enas", "report", "--load_path", EVIL.replace("/", ""), "--output", "page.html")
    trials.append(
        Trial(
            SECURITY,
            "report",
            Case("a run's name is HTML", odd, words=words, check=_escaped("page.html", EVIL.replace("/", ""))),
        )
    )
    trials.append(
        Trial(
            SECURITY,
            "export",
            Case(
                "words of the vocabulary are HTML",
                all_of(content("data/letters/train.txt", lambda old: old + b"<script> <script> `x` `x` |\n" * 9)),
                status=EITHER,
            ),
        )
    )
    trials.append(
        Trial(
            SECURITY,
            "micro",
            Case(
                "a class's name is HTML",
                lambda folder: [
                    os.rename(path, path.with_name(EVIL.replace("/", ""))) for path in folder.glob("data/squares/*/one")
                ],
            ),
        )
    )
    for mask in (0o077, 0o002, 0o027):
        through = f"umask {mask:03o}; {{command}}"
        trials.append(Trial(SECURITY, "text", Case(f"umask {mask:03o}", through=through, check=_modes(mask))))
        for entry, made in (
            ("export", "cell"),
            ("export", "cell/*"),
            ("report", "page.html"),
            ("gif", "search.gif"),
            ("evaluate", "table.json"),
            ("download", "data/ptb/*"),
        ):
            case = Case(f"umask {mask:03o}: {made}", through=through, check=_output_modes(made, mask))
            trials.append(Trial(SECURITY, entry, case))
    for entry, names in WRITTEN.items():
        around, name = _killed_before(*names), "temporary files of a killed process are swept"
        trials.append(Trial(SECURITY, entry, Case(name, through=around, check=_nothing_hidden)))
    for member in ("../../outside.txt", "/tmp/outside.txt", "x/../../train.txt2"):
        case = Case(f"a member {member}", _archive(member), check=_nothing_outside, status=EITHER)
        trials.append(Trial(SECURITY, "download", case))
    for entry in ("resume", "export", "derive", "test"):
        case = Case("a checkpoint runs code", _pickle, status=REFUSED, check=_not_started)
        trials.append(Trial(SECURITY, entry, case))
    planted = all_of(
        text("matplotlib.py", "raise SystemExit('planted')"), text("json.py", "raise SystemExit('planted')")
    )
    trials.append(
        Trial(
            SECURITY,
            "report",
            Case(
                "modules in the working folder",
                planted,
                status=EITHER,
                lines=60,
                words=("-P", *ENTRIES["report"].words),
            ),
        )
    )
    return trials


# --- one candidate's trouble ------------------------------------------------------------------------------------------

CANDIDATES = "one candidate"
TROUBLES = ("diverges", "memory", "no memory", "refuses")


def _rows(folder: Path) -> str:
    table = folder / "table.json"
    return "" if not table.exists() or json.loads(table.read_text()) else "the table is empty"


def _candidates() -> list[Trial]:
    trials = []
    for trouble in TROUBLES:
        for entry in ("evaluate", "ablate scratch", "finalists"):
            words = (*LAUNCHED, trouble, *ENTRIES[entry].words)
            case = Case(f"the second one: {trouble}", words=words, mend=lambda folder: None, lines=2, status=(0,))
            trials.append(Trial(CANDIDATES, entry, case))
    high = {"the learning rate is 1e20": "1e20", "the learning rate is 1e30": "1e30"}
    for name, rate in high.items():
        spoil = content(
            "budget.py", lambda old, rate=rate: old.replace(b"shared_lr = 1.0", f"shared_lr = {rate}".encode())
        )
        trials.append(Trial(CANDIDATES, "evaluate", Case(name, spoil, status=(1, 2))))
        trials.append(Trial(CANDIDATES, "ablate scratch", Case(name, flags=("--shared_lr", rate), status=(0, 1, 2))))
        trials.append(Trial(CANDIDATES, "text", Case(name, flags=("--shared_lr", rate), status=(0, 1))))
        trials.append(Trial(CANDIDATES, "single", Case(name, flags=("--shared_lr", rate), status=(1,))))
    limit = Case("every cell is over --max_parameters", flags=("--max_parameters", "1"), status=EITHER)
    trials += [Trial(CANDIDATES, entry, limit) for entry in ("derive", "finalists", "text")]
    low = Case("--controller_lr 1e30", flags=("--controller_lr", "1e30"), status=(0, 1), lines=1)
    trials += [Trial(CANDIDATES, entry, low) for entry in ("text", "micro")]
    worker = Case("a worker is killed", through=(
        "{command} & pid=$!; for i in $(seq 300); do sleep 0.05; [ -f table.json ] && break; done; "
        "kill -9 $(pgrep -P $pid | tail -1); wait $pid"), status=(0, 1, 2), mend=lambda folder: None)  # fmt: skip
    trials.append(Trial(CANDIDATES, "evaluate jobs", worker))
    return trials


# --- the newest run ---------------------------------------------------------------------------------------------------

NEWEST = "newest run"


def _named(*names: str):
    """Make runs with these local times in their names, oldest first."""

    def spoil(folder: Path) -> None:
        for name in names:
            shutil.copytree(folder / "logs/found", folder / "logs" / f"letters_orig_{name}")
            (folder / "logs" / f"letters_orig_{name}" / "which").write_text(name)
        shutil.rmtree(folder / "logs/found")

    return spoil


def _without_checkpoint(name: str):
    return lambda folder: shutil.rmtree(folder / "logs" / f"letters_orig_{name}" / "checkpoints")


def _newest() -> list[Trial]:
    first, second = "2026-01-01_10-00-00", "2026-01-01_11-00-00"
    two = _named(first, second)
    commands = {
        "test": ("-m", "enas", "test", *HERE),
        "derive": ("-m", "enas", "derive", *HERE),
        "export": ("-m", "enas", "export", "--output", "cell"),
        "report": ("-m", "enas", "report", "--output", "page.html"),
        "gif": ("-m", "enas", "gif", "--output", "search.gif"),
        "scratch": ("-m", "enas", "scratch", *HERE, "--max_epoch", "1"),
        "ablate": ("-m", "enas", "ablate", "node_removal", *HERE, "--max_batches", "1"),
    }
    trials = []
    params = f"logs/letters_orig_{second}/params.json"
    said = f"{first}|passed over|skipped|no checkpoint"
    cases = {
        "the newest has no checkpoint": (all_of(two, _without_checkpoint(second)), said),
        "the newest has no params.json": (all_of(two, removed(params)), first),
        "the newest has a damaged params.json": (all_of(two, text(params, "{")), first),
    }
    for entry, words in commands.items():
        trials.append(Trial(NEWEST, entry, Case("the later name", two, words=words, says=second, lines=2)))
        for name, (spoil, says) in cases.items():
            trials.append(Trial(NEWEST, entry, Case(name, spoil, words=words, says=says, lines=2)))
    # In Berlin's night of 25 October 2026 the hour from 2 to 3 comes twice: 02-30 of summer time is before 02-10.
    back = _zoned(
        [("2026-10-25_02-30-00", "2026-10-25T02:30:00+02:00"), ("2026-10-25_02-10-00", "2026-10-25T02:10:00+01:00")]
    )
    zones = _zoned(
        [("2026-05-05_23-00-00", "2026-05-05T23:00:00+09:00"), ("2026-05-05_16-00-00", "2026-05-05T16:00:00+00:00")]
    )
    for name, runs, newest in (
        ("the clock was set back at the end of summer time", back, "02-10-00"),
        ("two machines in two time zones", zones, "16-00-00"),
    ):
        trials.append(Trial(NEWEST, "test", Case(name, runs, says=newest, words=commands["test"], lines=2)))
    mixed = _zoned([("2026-05-05_16-00-00", "2026-05-05T16:00:00"), ("2026-05-05_17-00-00", "yesterday")])
    trials.append(Trial(NEWEST, "test", Case("a moment that is no time", mixed, words=commands["test"], lines=2)))
    many = all_of(two, lambda folder: [(folder / "logs" / f"letters_orig_{second}-{n}").mkdir() for n in range(2, 4)])
    trials.append(
        Trial(NEWEST, "test", Case("empty folders of later runs", many, words=commands["test"], says=second, lines=2))
    )
    link = all_of(two, lambda folder: (folder / "logs/letters_orig_2026-02-01_00-00-00").symlink_to("nothing"))
    trials.append(Trial(NEWEST, "test", Case("a link to nothing", link, words=commands["test"], says=second, lines=2)))
    year = _named("9999-99-99_99-99-99", second)
    trials.append(
        Trial(NEWEST, "test", Case("a name of no date", year, words=commands["test"], lines=2, status=EITHER))
    )
    return trials


def _zoned(runs: list[tuple[str, str]]):
    """Make runs, oldest first: the times in their names, and the moments at which they were begun."""

    def spoil(folder: Path) -> None:
        for name, moment in runs:
            target = folder / "logs" / f"letters_orig_{name}"
            shutil.copytree(folder / "logs/found", target)
            machine = json.loads((target / "machine.json").read_text())
            (target / "machine.json").write_text(json.dumps({moment: next(iter(machine.values()))}))
            params = json.loads((target / "params.json").read_text())
            (target / "params.json").write_text(json.dumps({**params, "name": ""}))
        shutil.rmtree(folder / "logs/found")

    return spoil


# --- other systems ----------------------------------------------------------------------------------------------------

SYSTEMS = "other systems"


def _systems() -> list[Trial]:
    trials = []
    for entry in ("text", "micro", "export", "report", "gif", "evaluate", "download", "convert"):
        words = (*LAUNCHED, "windows", *ENTRIES[entry].words)
        case = Case("Windows", words=words, status=REFUSED, names="Windows|Linux")
        trials.append(Trial(SYSTEMS, entry, case))
    return trials


TRIALS = [*_security(), *_candidates(), *_newest(), *_systems()]

"""Does the program survive what others do to it? Kinds of trouble, crossed with the ways into the program.

python -m benchmarks.faults --output trials.json
"""

import json
import os
import re
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults.cases import TRIALS
from benchmarks.faults.trial import Outcome, Trial, attempt
from enas.files import write_json
from enas.guard import guarded
from enas.parser import Parser

ROOT = Path(__file__).resolve().parents[2]


def chosen(kind: str, only: str) -> list[Trial]:
    """Return the trials of a kind (all by default) whose "ENTRY: CASE" the pattern `only` finds."""
    found = [trial for trial in TRIALS if kind in ("", trial.kind)]
    return [trial for trial in found if re.search(only, f"{trial.entry}: {trial.case.name}")]


def table(rows: list[tuple[Trial, Outcome]]) -> list[str]:
    """Return the trials as Markdown, and a total for each kind."""
    lines = ["| kind | entry point | case | holds | what happened | s |", "|---" * 6 + "|"]
    for trial, outcome in rows:
        why = outcome.why.replace("|", "\\|")
        lines.append(" | ".join(("", *trial.key, outcome.verdict, why, f"{outcome.seconds} |")).strip())
    counts: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(("holds", "not right", "skipped"), 0))
    for trial, outcome in rows:
        counts[trial.kind][outcome.verdict] += 1
        counts["all"][outcome.verdict] += 1
    lines += ["", "| kind | holds | not right | skipped |", "|---" * 4 + "|"]
    counts["all"] = counts.pop("all", counts["none"])
    return lines + [f"| {kind} | {' | '.join(map(str, found.values()))} |" for kind, found in counts.items()]


def main(argv: list[str] | None = None) -> int:
    """Make the trials that the flags choose; returns the exit status, 1 where one is not right."""
    parser = Parser("Make trials of kinds of trouble.", prog="python -m benchmarks.faults")
    parser.add_argument("--kind", default="", help=f"one of {', '.join(dict.fromkeys(one.kind for one in TRIALS))}")
    parser.add_argument("--only", default="", metavar="PATTERN", help="trials whose ENTRY: CASE the pattern finds")
    parser.add_argument(
        "--output", default="", metavar="FILE.json", help="outcomes; trials that it has are not repeated"
    )
    parser.add_argument("--root", default=str(ROOT), metavar="TREE", help="the program's tree (default: this one)")
    parser.add_argument("--homes", default="", metavar="DIR", help="where the folders that trials start in are kept")
    parser.add_argument("--list", action="store_true", default=False, help="print the trials, and make none")
    failed = []
    status = guarded(lambda: failed.extend(_made(**parser.given(argv))))
    return status or int(bool(failed))


def _made(kind: str, only: str, output: str, root: str, homes: str, list: bool) -> list[Trial]:
    trials, path = chosen(kind, only), Path(output or os.devnull)
    if list:
        print("\n".join(" | ".join(trial.key) for trial in trials))
        return []
    known = {}
    if output and path.exists():
        known = {(row["kind"], row["entry"], row["case"]): row for row in json.loads(path.read_text())["trials"]}
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-") as around:
        os.chmod(around, 0o755)
        for number, trial in enumerate(trials):
            row = known.get(trial.key)
            if row is not None:
                outcome = Outcome(*(row[name] for name in ("verdict", "why", "status", "seconds")))
            else:
                outcome = attempt(
                    trial, Path(homes or f"{around}/homes").resolve(), Path(root).resolve(), Path(around, str(number))
                )
                print(
                    f"{number + 1}/{len(trials)} {' | '.join(trial.key)}: {outcome.verdict} {outcome.why}", flush=True
                )
            rows.append((trial, outcome))
            if output:
                known[trial.key] = dict(zip(("kind", "entry", "case"), trial.key, strict=True)) | asdict(outcome)
                write_json(path, {"trials": [*known.values()]})
    print("\n".join(table(rows)))
    return [trial for trial, outcome in rows if outcome.verdict == "not right"]


if __name__ == "__main__":
    sys.exit(main())

"""Trials of `benchmarks.faults` that hold, and what its judge finds out."""

from pathlib import Path

import pytest
import tiny

from benchmarks.faults.__main__ import chosen, main, table
from benchmarks.faults.cases import TRIALS
from benchmarks.faults.trial import Case, Outcome, Trial, attempt

ROOT = Path(__file__).resolve().parent.parent
HOLD = (
    ("read back", "export", "every checkpoint is damaged"),
    ("helpers", "text", "main.py --help: cp1252"),
    ("signals", "convert", "Ctrl-C after 0.2 s"),
    ("names and paths", "text", "train.txt: NUL late"),
    ("names and paths", "convert", "stdin is bytes that are no UTF-8"),
    ("bounds", "download", "the archive is half"),
    ("bounds", "convert", "cell.json is nested lists"),
    ("newest run", "export", "the newest has a damaged params.json"),
    ("security", "macro", "an image is PostScript"),
    ("security", "export", "a checkpoint runs code"),
)


pytestmark = tiny.needs_proc


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> Path:
    """Where the folders lie in which trials start."""
    return tmp_path_factory.mktemp("homes")


@pytest.mark.slow
@pytest.mark.parametrize("key", HOLD, ids=" ".join)
def test_a_trial_holds(key, homes, tmp_path):
    trial = next(one for one in TRIALS if one.key == key)
    outcome = attempt(trial, homes, ROOT, tmp_path / "trial")
    assert outcome.verdict in ("holds", "skipped"), outcome.why
    assert not (tmp_path / "trial").exists()


SEARCH = "import pathlib, sys; logs = pathlib.Path('logs/new'); logs.mkdir(parents=True); "
BROKEN = {  # a program that is wrong -> what the judge says
    "raise ValueError('no')": "traceback of",
    "sys.exit(3)": "status 3, not 0",
    "print('one', file=sys.stderr); print('two', file=sys.stderr)": "2 lines on stderr, not 1",
    "(logs / '.results.json.x1').touch()": "leaves logs/new/.results.json.x1",
    "(logs / 'results.json').write_text('{')": "logs/new/results.json is not whole",
    "(logs / '00001-00000001.pt').write_text('PK')": "logs/new/00001-00000001.pt is not whole",
    "(logs / 'policy.png').touch()": "logs/new/policy.png is empty",
    "pathlib.Path('tmp/left').touch()": "leaves tmp/left",
    "import time; time.sleep(60)": "does not end within 1 s",
    "import subprocess; subprocess.Popen(['sleep', '60'])": "1 processes are left",
    "pass": "",
}


@pytest.mark.parametrize("lines", BROKEN)
def test_the_judge_finds_out(lines, homes, tmp_path):
    (tmp_path / "main.py").write_text(SEARCH + lines + "\n")
    limit = 1 if "sleep(60)" in lines else 20
    outcome = attempt(Trial("read back", "text", Case("none", limit=limit)), homes, tmp_path, tmp_path / "trial")
    assert (outcome.verdict, outcome.why.startswith(BROKEN[lines])) == ("not right" if BROKEN[lines] else "holds", True)


def test_a_refusal_must_name_its_cause(homes, tmp_path):
    refused = "import sys; print('error: something is wrong', file=sys.stderr); sys.exit(2)\n"
    (tmp_path / "main.py").write_text(refused)
    trial = Trial("read back", "text", Case("none", status=(2,), names="train.txt"))
    outcome = attempt(trial, homes, tmp_path, tmp_path / "trial")
    assert outcome.why.startswith("the refusal does not name 'train.txt'")


def test_a_run_must_go_on(homes, tmp_path):
    once = "import pathlib, sys; path = pathlib.Path('once'); sys.exit(1) if path.exists() else path.touch()\n"
    (tmp_path / "main.py").write_text(once)
    trial = Trial("signals", "text", Case("none", mend=lambda folder: None))
    outcome = attempt(trial, homes, tmp_path, tmp_path / "trial")
    assert outcome.why.startswith("does not go on: status 1")


def test_trials_are_many_and_have_distinct_names():
    keys = [trial.key for trial in TRIALS]
    assert len(keys) == len({*keys}) >= 200
    assert chosen("ranks", "rank 1 is killed") == [one for one in TRIALS if one.key[2] == "rank 1 is killed"]


def test_outcomes_are_kept_and_counted(tmp_path, capsys, monkeypatch):
    made = []
    outcomes = iter((Outcome("holds"), Outcome("not right", "a | b", 1, 0.1), Outcome("skipped")))
    monkeypatch.setattr("benchmarks.faults.__main__.attempt", lambda *given: made.append(given) or next(outcomes))
    argv = ["--kind", "ranks", "--only", "is killed|may not write", "--output", str(tmp_path / "trials.json")]
    assert main(argv) == 1
    assert len(made) == 3
    assert main(argv) == 1
    assert len(made) == 3  # the outcomes were taken from the file
    shown = capsys.readouterr().out
    assert "| ranks | 1 | 1 | 1 |" in shown and "a \\| b" in shown
    assert table([])[0].startswith("| kind |")

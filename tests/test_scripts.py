"""The scripts hand their command line to the package, from whatever folder they are started in."""

from functools import partial

import pytest
import tiny

ABLATIONS = sorted(f"ablation_studies/{path.name}" for path in (tiny.ROOT / "ablation_studies").glob("*.py"))
SCRIPTS = ["main.py", "train_scripts/train_regular.py", "generate_gif.py", *ABLATIONS]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_flag_that_is_not_known(tmp_path, capsys, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    line = tiny.refusal(["--no_such_flag", "5"], tmp_path, capsys, partial(tiny.run_script, script))
    assert line.startswith("error: unknown flag --no_such_flag")


@pytest.mark.slow
def test_as_a_process(tmp_path):
    status, out, err = tiny.finish(tiny.start(["--num_blokcs", "5"], tmp_path))
    assert (status, out, err) == (2, "", "error: unknown flag --num_blokcs; did you mean --num_blocks?\n")
    assert not list(tmp_path.iterdir())

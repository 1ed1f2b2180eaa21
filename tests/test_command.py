"""The installed command and the scripts: one table of commands, from whatever folder they are started in."""

import os
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
import tiny

from enas import cli
from enas.config import read_variation

ABLATIONS = sorted(f"ablation_studies/{path.name}" for path in (tiny.ROOT / "ablation_studies").glob("*.py"))
SCRIPTS = ["main.py", "train_scripts/train_regular.py", "generate_gif.py", *ABLATIONS]


def test_the_installed_package_knows_the_variations(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    source, wheel = tmp_path / "source", tmp_path / "wheel"
    source.mkdir()
    for name in ("enas", "configs"):
        shutil.copytree(tiny.ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*tiny.ROOT.glob("*.py"), *tiny.ROOT.glob("*.md"), tiny.ROOT / "pyproject.toml", tiny.ROOT / "LICENSE"):
        shutil.copy(path, source)
    build = f"from setuptools import build_meta; print(build_meta.build_wheel({str(wheel)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(wheel.glob("*.whl"))) as archive:
        archive.extractall(tmp_path / "installed")
    look = "import enas.config; print(enas.config.__file__, *sorted(enas.config.read_variation('demo')))"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
    )
    file, *names = done.stdout.split()
    assert Path(file).is_relative_to(tmp_path) and names == sorted(read_variation("demo"))
    assert (tmp_path / "installed" / "enas" / "report" / "page.html").is_file()
    (entries,) = (tmp_path / "installed").glob("*.dist-info/entry_points.txt")
    assert entries.read_text().split() == ["[console_scripts]", "enas", "=", "enas.cli:main"]


def test_help_names_every_command_and_every_ablation(capsys):
    assert cli.main(["--help"]) == cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)
    for words in (["ablate"], ["ablate", "--help"]):
        assert cli.main(words) == 0
        assert "\n  ablate node_removal " in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_flags(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*name.split(), "--help"])
    assert end.value.code == 0
    assert "usage: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("serch", "command 'serch' is unknown; did you mean search?; there are search, derive"),
        ("ablate node_removel", "ablation 'node_removel' is unknown; did you mean node_removal?"),
        ("search --dataste ptb", "unknown flag --dataste"),
    ],
)
def test_unknown_commands_and_flags_are_refused(words, says, tmp_path, capsys):
    assert says in tiny.refusal(words.split(), tmp_path, capsys, cli.main)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_refuses_an_unknown_flag(tmp_path, capsys, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    line = tiny.refusal(["--no_such_flag", "5"], tmp_path, capsys, partial(tiny.run_script, script))
    assert line.startswith("error: unknown flag --no_such_flag")


def test_help_loads_no_torch():
    look = "import contextlib, sys; from enas.cli import run_command\nfor name in sys.argv[1:]:\n"
    look += " with contextlib.suppress(SystemExit): run_command(name, ['--help'])\n"
    look += "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    words = [sys.executable, "-c", look, "search", "evaluate", "export", "convert"]
    assert subprocess.run(words, capture_output=True).returncode == 0

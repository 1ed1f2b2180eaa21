"""The installed command does what the scripts do."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import tiny

from enas import cli as command
from enas.config import read_variation
from enas.search.architecture import load_architecture


def test_the_package_installs_it():
    project = tomllib.loads((tiny.ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"enas": "enas.cli:main"}


def test_what_is_installed_knows_the_variations(tmp_path):
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


def test_help_names_every_command(capsys):
    assert command.main(["--help"]) == command.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in command.COMMANDS)


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_has_flags(name, capsys):
    words = [*name.split(), "--help"]
    with pytest.raises(SystemExit) as end:
        command.main(words)
    assert end.value.code == 0
    assert "usage: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["serch"], "error: command 'serch' is unknown; did you mean search?; there are search, derive"),
        (["ablate", "node_removel"], "error: ablation 'node_removel' is unknown; did you mean node_removal?"),
        (["ablate"], "error: ablation '' is unknown; there are activation_replacement"),
        (["search", "--dataste", "ptb"], "error: unknown flag --dataste"),
    ],
)
def test_what_it_does_not_know(words, line, capsys):
    assert command.main(words) == 2
    assert capsys.readouterr().err.startswith(line)


def test_from_search_to_export(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(["search", *tiny.flags(tiny.settings(tmp_path, max_epoch=1))]) == 0
    run = str(tiny.only_run(tmp_path / "logs"))
    places = ["--load_path", run, "--data_dir", str(tmp_path / "data")]
    assert command.main(["derive", *places]) == 0
    assert command.main(["ablate", "node_removal", *places, "--max_batches", "1"]) == 0
    assert command.main(["export", "--load_path", run, "--output", "cell"]) == 0
    assert load_architecture(tmp_path / "cell" / "architecture.json").num_blocks == 4


@pytest.mark.parametrize("name", ["search", "evaluate", "export", "convert"])
def test_help_loads_no_torch(name):
    look = f"import sys; from enas.cli import run_command\ntry: run_command({name!r}, ['--help'])\n"
    look += "except SystemExit: sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], capture_output=True).returncode == 0

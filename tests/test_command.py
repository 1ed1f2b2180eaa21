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

import enas
from enas import cli
from enas.config import read_preset
from enas.files import write_json
from enas.runs.folder import newest_run

ABLATIONS = sorted(f"ablation_studies/{path.name}" for path in (tiny.ROOT / "ablation_studies").glob("*.py"))
SCRIPTS = ["main.py", "train_scripts/train_regular.py", "generate_gif.py", *ABLATIONS]


def test_the_installed_package_knows_the_presets(tmp_path):
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
    look = "import enas.config; print(enas.config.__file__, *sorted(enas.config.read_preset('demo')))"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
    )
    file, *names = done.stdout.split()
    assert Path(file).is_relative_to(tmp_path) and names == sorted(read_preset("demo"))
    for file in ("report/page.html", "export/card.jinja", "data/pydoc.zip", "data/pydoc.LICENSE.txt"):
        assert (tmp_path / "installed" / "enas" / file).is_file()
    (entries,) = (tmp_path / "installed").glob("*.dist-info/entry_points.txt")
    assert entries.read_text().split() == ["[console_scripts]", "enas", "=", "enas.__main__:main"]


def test_help_names_every_command_and_every_ablation(capsys):
    assert tiny.command_line(["--help"]) == tiny.command_line([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)
    for words in (["ablate"], ["ablate", "--help"]):
        assert tiny.command_line(words) == 0
        assert "\n  ablate node_removal " in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_flags(name, capsys):
    with pytest.raises(SystemExit) as end:
        tiny.command_line([*name.split(), "--help"])
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
    assert says in tiny.refusal(words.split(), tmp_path, capsys, tiny.command_line)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_refuses_an_unknown_flag(tmp_path, capsys, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    line = tiny.refusal(["--no_such_flag", "5"], tmp_path, capsys, partial(tiny.run_script, script))
    assert line.startswith("error: unknown flag --no_such_flag")


@pytest.mark.parametrize("words", [["ablate"], ["ablate", "--help"]])
def test_help_names_the_ablations(words, capsys):
    assert tiny.command_line(words) == 0
    usage, *rows = capsys.readouterr().out.splitlines()
    assert usage.startswith("usage: enas ablate ABLATION …")
    assert [row.split()[:2] for row in rows] == [["ablate", name] for name in cli.ABLATIONS]


def test_help_of_an_ablation_tells_its_own_modes(capsys):
    with pytest.raises(SystemExit, match="0"):
        tiny.command_line(["ablate", "node_removal", "--help"])
    out = capsys.readouterr().out
    assert out.count("  --mode ") == out.count("  --mode {derive,train_scratch}") == 1 and "(default: derive)" in out


def test_version(capsys):
    assert tiny.command_line(["--version"]) == 0
    assert capsys.readouterr().out == f"enas {enas.__version__}\n"


@pytest.mark.parametrize(
    ("script", "usage"),
    [("main.py", "enas search"), ("generate_gif.py", "enas gif"), (ABLATIONS[-1], "enas strategies")],
)
def test_the_usage_of_a_script_names_the_command(script, usage, capsys):
    assert tiny.run_script(script, ["--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: {usage} ")


def test_commands_with_one_mode(folder, capsys):
    """`scratch` takes the architecture of the newest search, and `test` and `single` do what their modes do."""
    assert tiny.command_line(["test", "--load_path", str(folder)]) == 0
    assert tiny.results(folder)["mode"] == "test"
    places = ["--log_dir", str(folder.parent), "--dataset", "tiny"]
    data = ["--data_dir", str(folder.parent.parent / "data")]
    assert tiny.command_line(["scratch", *places, *data, "--max_epoch", "1"]) == 0
    assert f"taking the newest run, {folder}\n" in capsys.readouterr().out
    (scratch,) = set(folder.parent.glob("*/")) - {folder}
    assert tiny.results(scratch)["mode"] == "train_scratch"
    alone = ["--dag_path", str(scratch / "architecture.json"), "--log_dir", str(folder.parent / "alone")]
    assert tiny.command_line(["single", *tiny.flags(tiny.SETTINGS | {"max_epoch": 1}), *data, *alone]) == 0
    assert tiny.results(tiny.only_run(folder.parent / "alone"))["mode"] == "single"
    line = tiny.refusal(["test", "--mode", "derive"], folder, capsys, tiny.command_line)
    assert line == "error: mode is derive; enas test always has mode test: leave --mode out\n"


def test_without_a_name_the_newest_run_is_taken(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    older = folder.with_name("tiny_orig_2001-01-01_00-00-00")
    shutil.copytree(folder, older)
    outputs = {"export": "cell", "report": "page.html", "gif": "search.gif"}
    for name, output in {**outputs, "ablate node_removal": ""}.items():
        words = ["--output", output] if output else ["--max_batches", "1"]
        status = tiny.command_line([*name.split(), *words])
        out, err = capsys.readouterr()
        assert f"taking the newest run, logs/{folder.name}\n" in out
        assert status == 0 or (name == "gif" and ".dot" in err)  # tests leave drawings undrawn
    for name, output in outputs.items():
        words = [name, "--output", f"other_{output}", "--log_dir", "nowhere"]
        line = tiny.refusal(words, tmp_path, capsys, tiny.command_line)
        assert line.startswith("error: nowhere: holds no runs; name one with --")


def test_the_newest_run_that_fits_is_found_behind_runs_that_cannot_be_read(folder, tmp_path, capsys):
    """One of a search space that only its own script knows, and one from scratch, of which no GIF can be made."""
    strange = folder.with_name("spirals_orig_2099-01-01_00-00-00")
    shutil.copytree(folder, strange)
    write_json(strange / "params.json", {"network_type": "table"})
    places = ["--log_dir", str(folder.parent), "--data_dir", str(folder.parent.parent / "data")]
    assert tiny.command_line(["test", *places]) == 0
    assert f"taking the newest run, {folder}\n" in capsys.readouterr().out
    only = {"log_dir": str(shutil.copytree(strange, tmp_path / "only" / strange.name).parent)}
    with tiny.refused("network_type is 'table'"):
        newest_run(only)
    shutil.rmtree(strange)
    scratch = shutil.copytree(folder, folder.with_name("tiny_orig_2099-01-01_00-00-00"))
    write_json(scratch / "params.json", {**tiny.params(folder), "mode": "train_scratch"})
    tiny.command_line(["gif", "--output", str(tmp_path / "search.gif"), "--log_dir", str(folder.parent)])
    assert f"taking the newest run, {folder}\n" in capsys.readouterr().out


def test_a_command_that_is_interrupted_says_how_to_run_it_again(monkeypatch, capsys):
    def interrupt(**flags):
        raise KeyboardInterrupt

    monkeypatch.setattr("enas.studies.ablations.node_removal", interrupt)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "enas", "ablate", "node_removal", "--load_path", "a b"])
    assert tiny.command_line(["ablate", "node_removal", "--load_path", "a b"]) == 130
    again = "to run it again: python -m enas ablate node_removal --load_path 'a b'\n"
    assert capsys.readouterr().err == f"stopped by SIGINT; {again}"


def test_an_unknown_run_lists_the_newest_ones(folder, capsys):
    for day in range(1, 6):
        shutil.copytree(folder, folder.with_name(f"tiny_orig_2001-01-0{day}_00-00-00"))
    words = ["report", "--load_path", "tyni", "--output", "page.html", "--log_dir", str(folder.parent)]
    line = tiny.refusal(words, folder, capsys, tiny.command_line)
    names = f"{folder.name}, tiny_orig_2001-01-05_00-00-00, tiny_orig_2001-01-04_00-00-00"
    assert line.endswith(f"{folder.parent}; newest here: {names}\n")


def test_help_loads_no_torch():
    look = "import contextlib, sys; from enas import cli\nfor name in sys.argv[1:]:\n"
    look += " with contextlib.suppress(SystemExit): cli.carry_out([name, '--help'])\n"
    look += "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    words = [sys.executable, "-c", look, "search", "evaluate", "export", "convert"]
    assert subprocess.run(words, capture_output=True).returncode == 0

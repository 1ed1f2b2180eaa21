"""Every command and every line of Python in the README runs, on a tiny text in the place of Penn Treebank."""

import ast
import json
import re
import runpy
import shlex
import shutil
import sys
import tomllib

import pytest
import tiny
import torch
from test_image import write_cifar

from enas.config import read_variation
from enas.rnn.text import load_corpus

README = (tiny.ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if line.startswith("python ")
]
RUN = "ptb_orig_2026-11-25_12-00-00"  # the run that the README speaks of
OTHERWISE_TESTED = ("-m enas download", "search_evaluation.py")  # the one needs a network, the other an hour


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working folder with the texts that the README names, and the run that it speaks of."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("ptb", "pydoc", "tiny"):
        tiny.write_corpus(folder / "data" / name)
    tiny.write_images(folder / "data" / "shapes")
    write_cifar(folder / "data" / "cifar10")
    (folder / "configs").symlink_to(tiny.ROOT / "configs")
    return folder


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


def _arguments(words: list[str]) -> list[str]:
    """A command's own flags, and sizes small enough for a test where it does not set them."""
    given = {word.split("=")[0] for word in words if word.startswith("--")}
    if "--load_path" in given or {"derive", "test"} & set(words):
        return [*words, "--num_gpu", "0"]  # the sizes are those of the run
    config = words[words.index("--config") + 1] if "--config" in words else "config_ours"
    is_cnn = "cnn" in words or read_variation(config).get("network_type") == "cnn"
    settings = {**(tiny.IMAGE_SETTINGS if is_cnn else tiny.SETTINGS), "max_epoch": 1}
    settings |= {"valid_size": 20} if is_cnn else {}
    sizes = {name: value for name, value in settings.items() if f"--{name}" not in given}
    if "--dataset" in given or "--config" in given:
        sizes.pop("dataset", None)
    return [*words, *tiny.flags(sizes)]


def _run(command: str, monkeypatch) -> None:
    script, *rest = shlex.split(command)[1:]
    if script != "-m":
        assert tiny.run_script(script, rest if script == "generate_gif.py" else _arguments(rest)) == 0, command
        return
    module, *rest = rest
    monkeypatch.setattr("sys.argv", [module, *rest])
    monkeypatch.delitem(sys.modules, f"{module}.__main__", raising=False)  # other tests import it
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    assert end.value.code == 0, command


def test_the_package_imports_what_it_depends_on_and_nothing_else():
    project = tomllib.loads((tiny.ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    extras = {name for names in project["optional-dependencies"].values() for name in names}
    extras -= {"dask", "onnx", "onnxscript"}  # joblib and torch import them
    pinned = (tiny.ROOT / "requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in pinned if "==" in line} == names | {"tensorboard"}  # which shows the curves
    imported = {name for path in (tiny.ROOT / "enas").rglob("*.py") for name in _imported(ast.parse(path.read_text()))}
    imported -= {"enas", *sys.stdlib_module_names}
    imported -= {"triton", "model"}  # comes with torch where there is a GPU; the file beside an exported example
    assert {{"pillow": "PIL"}.get(name, name) for name in names | extras} == imported


def _imported(tree: ast.Module) -> set[str]:
    """The packages that a module imports anywhere in it."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


@pytest.mark.slow
def test_every_command_runs(at_home, monkeypatch):
    """In the order of the README, since the later ones use what the earlier ones leave."""
    assert len(COMMANDS) > 12
    first = next(command for command in COMMANDS if "--train_type orig --mode train" in command)
    with tiny.rendering():
        _run(first, monkeypatch)
    (made,) = (at_home / "logs").iterdir()
    shutil.copytree(made, at_home / "logs" / RUN)
    for command in COMMANDS:
        if command != first and not any(name in command for name in OTHERWISE_TESTED):
            _run(command, monkeypatch)
    assert (at_home / "search.gif").is_file()
    assert {path.name for path in (at_home / "analysis_results").iterdir()} == {
        "activation_replacement",
        "node_removal",
    }


@pytest.mark.slow
@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
def test_the_python_runs_and_learns(at_home, code):
    """As it is printed; a search that it makes knows more than how frequent words are."""
    before = set((at_home / "logs").glob("*"))
    exec(code, {})
    made = set((at_home / "logs").glob("*")) - before
    assert len(made) == len(re.findall(r"run\.(?:train|search)\(", code))
    for folder in made:
        params, results = (json.loads((folder / f"{name}.json").read_text()) for name in ("params", "results"))
        assert results["validation_perplexity"] < perplexity_of_frequencies(load_corpus(params["dataset"])) / 2


def perplexity_of_frequencies(corpus) -> float:
    """The perplexity of the validation split where each word is as likely as it is frequent in training."""
    counts = torch.bincount(corpus.train, minlength=len(corpus.vocabulary)).double()
    return float((counts / counts.sum())[corpus.valid].log().mean().neg().exp())

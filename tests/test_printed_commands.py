"""Commands as people have them in scripts and sweeps, at a tiny size: each train type through every mode."""

import json
import shlex

import pytest
import tiny
from test_image import write_cifar

LINE = (
    "--network_type rnn --dataset ptb --controller_optim adam --controller_lr 0.00035 --shared_optim sgd "
    "--shared_lr 20.0 --entropy_coeff 0.0001"
)
TYPES = {
    "orig": "--train_type orig",
    "flexible": "--train_type flexible --num_blocks 12",
    "tree": "--train_type hardcoded --architecture tree",
    "chain": "--train_type hardcoded --architecture chain",
    "random": "--train_type random",
}
CNN_LINE = (
    "--network_type cnn --dataset cifar --controller_optim momentum --controller_lr_cosine=True "
    "--controller_lr_max 0.05 --controller_lr_min 0.0001 --entropy_coeff 0.1"
)


def _shrunk(line: str, sizes: dict) -> list[str]:
    words = shlex.split(line)
    given = {word.split("=")[0] for word in words}
    return [*words, *tiny.flags({name: value for name, value in sizes.items() if f"--{name}" not in given})]


def _run(script: str, words: list[str]) -> None:
    assert tiny.run_script(script, words) == 0, (script, words)


@pytest.mark.parametrize("name", TYPES)
def test_the_line_of_a_search_goes_through_every_mode(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    tiny.write_corpus(tmp_path / "data" / "ptb")
    line, script = f"{LINE} {TYPES[name]}", "train_scripts/train_regular.py"
    with tiny.rendering():
        _run(script, _shrunk(f"{line} --mode train", tiny.SETTINGS))
    said = [row for row in capsys.readouterr().out.splitlines() if "no effect with" in row]
    idle = "controller_optim, controller_lr, entropy_coeff"
    assert [idle in row for row in said] == ([True] if name == "random" else [])
    made = tiny.only_run(tmp_path / "logs")
    _run(script, [*shlex.split(line), "--mode", "derive", "--num_gpu", "0"])
    _run(script, [*shlex.split(line), "--mode", "test", "--num_gpu", "0"])
    _run(script, [*shlex.split(line), "--mode", "train_scratch", "--num_gpu", "0", "--max_epoch", "1"])
    for ablation in ("activation_replacement", "node_removal"):
        _run(f"ablation_studies/{ablation}.py", [f"--load_path={made.name}", "--mode=derive", "--num_gpu", "0"])
    _run("generate_gif.py", [f"--model_name={made.name}", "--output=search.gif"])
    assert (tmp_path / "search.gif").is_file()
    tested = json.loads((made / "results.json").read_text())
    assert tested["mode"] == "test" and tested["test_perplexity"] > 1
    ablations = {path.parent.parent.name for path in (tmp_path / "analysis_results").glob("*/*/results.json")}
    assert ablations == {"activation_replacement", "node_removal"}


def test_the_line_of_a_network_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path / "data" / "cifar10")
    _run("main.py", _shrunk(CNN_LINE, {**tiny.IMAGE_SETTINGS, "valid_size": 20}))
    assert json.loads((tiny.only_run(tmp_path / "logs") / "results.json").read_text())["validation_accuracy"] > 0

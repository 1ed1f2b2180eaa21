"""Commands as people have them in scripts and sweeps, at a tiny size: each kind of search through every mode."""

import json
import shlex
from contextlib import nullcontext

import pytest
import tiny
from PIL import Image
from test_image import write_cifar

TEXT = (
    "--network_type rnn --dataset ptb --controller_optim adam --controller_lr 0.00035 --shared_optim sgd "
    "--shared_lr 20.0 --entropy_coeff 0.0001"
)
IMAGES = (
    "--network_type cnn --dataset cifar --controller_optim momentum --controller_lr_cosine=True "
    "--controller_lr_max 0.05 --controller_lr_min 0.0001 --entropy_coeff 0.1"
)
LINES = {
    "orig": f"{TEXT} --train_type orig",
    "flexible": f"{TEXT} --train_type flexible --num_blocks 12",
    "tree": f"{TEXT} --train_type hardcoded --architecture tree",
    "chain": f"{TEXT} --train_type hardcoded --architecture chain",
    "random": f"{TEXT} --train_type random",
    "macro": IMAGES,
    "micro": f"{IMAGES} --cnn_space micro",
}
REAL = ("orig", "macro", "micro")  # with precision auto, threads by trial, and every picture
SCRIPTS = {"search": "train_scripts/train_regular.py", "gif": "generate_gif.py"}


def _shrunk(line: str, sizes: dict) -> list[str]:
    given = {word.split("=")[0] for word in shlex.split(line)}
    return [*shlex.split(line), *tiny.flags({name: value for name, value in sizes.items() if f"--{name}" not in given})]


def _run(name: str, command: str, words: list[str]) -> None:
    """Cells by the scripts, networks by the installed command, which do the same."""
    if name in ("macro", "micro"):
        assert tiny.command_line([*command.split(), *words]) == 0, words
        return
    script = SCRIPTS.get(command, f"ablation_studies/{command.removeprefix('ablate ')}.py")
    assert tiny.run_script(script, words) == 0, words


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_the_line_of_a_search_goes_through_every_mode(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    line, is_cnn = LINES[name], name in ("macro", "micro")
    if is_cnn:
        write_cifar(tmp_path / "data" / "cifar10")
    else:
        tiny.write_corpus(tmp_path / "data" / "ptb")
    sizes = {**tiny.IMAGE_SETTINGS, "valid_size": 20} if is_cnn else tiny.SETTINGS
    if name in REAL:
        sizes = {key: value for key, value in sizes.items() if key not in ("precision", "num_threads")}
    with tiny.real() if name in REAL else nullcontext():
        _run(name, "search", _shrunk(line, sizes))
        said = [row for row in capsys.readouterr().out.splitlines() if "no effect with" in row]
        idle = "controller_optim, controller_lr, entropy_coeff"
        assert any(idle in row for row in said) == (name == "random")
        made = tiny.only_run(tmp_path / "logs")
        for mode in ("derive", "test", "train_scratch --max_epoch 1"):
            _run(name, "search", shlex.split(f"{line} --num_gpu 0 --mode {mode}"))
        for ablation in (f"{'operation' if is_cnn else 'activation'}_replacement", "node_removal"):
            _run(name, f"ablate {ablation}", [f"--load_path={made.name}", "--mode=derive", "--num_gpu", "0"])
            assert list((tmp_path / "analysis_results" / ablation).glob("*/results.json"))
        if name in REAL and tiny.has_dot:
            _run(name, "gif", [f"--model_name={made.name}", "--output=search.gif"])
            pictures = [tmp_path / "search.gif", made / "policy.png", *(made / "networks").glob("*.png")]
            assert len(pictures) > 3 and all(min(Image.open(path).size) > 50 for path in pictures)
    assert tiny.command_line(["export", "--load_path", str(made), "--output", "taken"]) == 0
    (scratch,) = set((tmp_path / "logs").iterdir()) - {made}
    paths = (made / "results.json", scratch / "results.json", tmp_path / "taken" / "architecture.json")
    tested, trained, exported = (json.loads(path.read_text()) for path in paths)
    assert tested["mode"] == "test" and trained["mode"] == "train_scratch"
    assert tested["architecture"] == trained["architecture"] == exported
    assert all(results["test_accuracy" if is_cnn else "test_perplexity"] > 0 for results in (tested, trained))

"""Whatever the user gets wrong ends in one line on stderr and status 2, before anything is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from tiny import main

from enas.rnn.task import LanguageTask
from enas.runs.commands import execute
from enas.search.checkpoint import Checkpoints


def _flags(folder: Path, **changes) -> list[str]:
    """The command line of a tiny run, with some settings changed; None leaves one out."""
    settings = tiny.settings(folder, **changes)
    return tiny.flags({name: value for name, value in settings.items() if value is not None})


# --- flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--num_blokcs", "5"], "unknown flag --num_blokcs; did you mean --num_blocks?"),
        (["train"], "unexpected argument 'train'"),
        (["--num_blocks", "0"], "num_blocks is 0; it must be at least 1"),
        (["--num_blocks", "many"], "--num_blocks: invalid int value: 'many'"),
        (["--num_blocks"], "--num_blocks: expected one argument"),
        (["--tie_weights", "rue"], "--tie_weights: 'rue' is not true or false"),
        (["--shared_optim", "adagrad"], "--shared_optim: invalid choice: 'adagrad' (choose from"),
        (["--network_type", "gnn"], "--network_type: invalid choice: 'gnn'"),
        (["--shared_rnn_activations", ","], "shared_rnn_activations is ()"),
        (["--num_gpu", "99"], "num_gpu is 99, but this machine has"),
        (["--num_gpu", "-2"], "num_gpu is -2"),
        (["--shared_embed", "16"], "shared_embed is 16 and shared_hid 8; make them equal, or set tie_weights to false"),
        (["--batch_size", "100000"], "tiny, train.txt: "),
        (["--config", "config_our"], "did you mean config_ours?"),
        (["--dataset", "tinyy"], "did you mean tiny?"),
        (["--dataset", "../tiny"], "dataset name '../tiny' is not a plain name"),
        (["--load_path", "nonesuch"], "load_path nonesuch: no such run, neither as a path nor in "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags(tmp_path, capsys, wrong, says):
    assert says in tiny.refusal([*_flags(tmp_path), *wrong], tmp_path, capsys)
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("text", ["import os\nos.mkdir('x')", "num_blocks = 1 if True else 2"])
def test_a_config_file_with_code_in_it(tmp_path, capsys, text):
    argv = [*_flags(tmp_path), "--config", str(tmp_path / "mine.py")]
    (tmp_path / "mine.py").write_text(text)
    assert "mine.py, line 1: a config file holds lines like batch_size = 64" in tiny.refusal(argv, tmp_path, capsys)


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["ptb", "wikitext"])
def test_a_dataset_to_be_downloaded(tmp_path, capsys, dataset):
    (tmp_path / "data").mkdir()
    line = tiny.refusal(_flags(tmp_path, dataset=dataset), tmp_path, capsys)
    assert f"get it with: python -m enas download {dataset}" in line


def test_a_dataset_that_is_not_there(tmp_path, capsys):
    line = tiny.refusal(_flags(tmp_path, dataset="mine"), tmp_path, capsys)
    assert f"put train.txt, valid.txt and test.txt into {tmp_path / 'data' / 'mine'}" in line


@pytest.mark.parametrize(
    ("split", "content", "says"),
    [
        ("train", b"", "train.txt: has no words"),
        ("test", b"\n \n", "test.txt: has no words"),
        ("train", b"a a c\n", "train.txt: 4 tokens are too few for batch size 4, which takes at least 8"),
        ("valid", b"a b c\n", "valid.txt: 4 tokens are too few for batch size 4, which takes at least 8"),
        ("train", b"a b\na \xff b\n", "train.txt, line 2: byte 0xff is not UTF-8"),
        ("valid", None, "valid.txt: no such file"),
    ],
)
def test_a_text_that_cannot_be_used(tmp_path, capsys, split, content, says):
    argv, path = _flags(tmp_path), tmp_path / "data" / "tiny" / f"{split}.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert says in tiny.refusal(argv, tmp_path, capsys)
    assert not (tmp_path / "logs").exists()


def test_a_file_in_place_of_the_dataset_folder(tmp_path, capsys):
    argv = _flags(tmp_path, dataset="mine")
    (tmp_path / "data" / "mine").write_text("a b c")
    assert f"{tmp_path / 'data' / 'mine'}: is a file" in tiny.refusal(argv, tmp_path, capsys)


def test_a_file_in_place_of_a_split_folder(tmp_path, capsys):
    argv, path = _flags(tmp_path), tmp_path / "data" / "tiny" / "valid.txt"
    path.unlink()
    path.mkdir()
    assert "valid.txt: cannot be read" in tiny.refusal(argv, tmp_path, capsys)


# --- where the run would be written -----------------------------------------------------------------------------------


def test_a_file_in_place_of_the_log_folder(tmp_path, capsys):
    argv = _flags(tmp_path)
    (tmp_path / "logs").write_text("mine")
    line = tiny.refusal(argv, tmp_path, capsys)
    assert f"{tmp_path / 'logs'}" in line and "choose another --log_dir" in line


def test_a_log_folder_that_cannot_be_written_to(tmp_path, capsys, monkeypatch):
    argv = _flags(tmp_path)
    mkdir = Path.mkdir

    def refuse(path, *args, **kwargs):
        if "logs" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return mkdir(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    line = tiny.refusal(argv, tmp_path, capsys)
    assert "the run folder cannot be made (Permission denied); choose another --log_dir" in line


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a finished run that nobody changes."""
    folder = tmp_path_factory.mktemp("trained")
    execute(**tiny.settings(folder))
    return tiny.only_run(folder / "logs")


@pytest.fixture
def folder(tmp_path, trained) -> Path:
    """A copy of that run and of its data, under `tmp_path`."""
    shutil.copytree(trained.parent.parent, tmp_path, dirs_exist_ok=True)
    copy = tmp_path / "logs" / trained.name
    params = json.loads((copy / "params.json").read_text())
    params |= {"data_dir": str(tmp_path / "data"), "log_dir": str(tmp_path / "logs")}
    (copy / "params.json").write_text(json.dumps(params))
    return copy


MODES = pytest.mark.parametrize("mode", ["train", "derive"])


def _truncate_checkpoints(folder: Path) -> None:
    for path in Checkpoints(folder / "checkpoints").paths():
        path.write_bytes(path.read_bytes()[:500])


def _replace_checkpoints(folder: Path) -> None:
    checkpoints = Checkpoints(folder / "checkpoints")
    for path in checkpoints.paths():
        path.unlink()
    checkpoints.save({"weights": 1}, "00001-00000001.pt")


def _params(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "params.json").write_bytes(content)


def _other_text(folder: Path) -> None:
    data = folder.parent.parent / "data" / "tiny"
    (data / "train.txt").write_text("quite different words\n" * 100)


@MODES
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: shutil.rmtree(folder / "checkpoints"), "checkpoints: no checkpoint"),
        (_truncate_checkpoints, "unreadable checkpoint (truncated or damaged), and no older one can be read"),
        (_replace_checkpoints, "its checkpoint does not fit"),
        (_params(b"{"), "params.json: not JSON"),
        (_params(b""), "params.json: not JSON"),
        (_params(b"\xff\xfe"), "params.json: not JSON"),
        (_params(b"[]"), "params.json: holds a list"),
        (_params(b"null"), "params.json: holds a NoneType"),
        (_params(b'{"num_blokcs": 3}'), "unknown setting num_blokcs; did you mean num_blocks?"),
        (_params(b'{"num_blocks": "3"}'), "num_blocks is '3'; it must be of type int"),
        (lambda folder: (folder / "params.json").unlink(), "not a run folder: params.json is missing"),
        (_other_text, "tiny is not the data that this run was begun with: its vocabulary ("),
        (lambda folder: (folder / "data.json").unlink(), "data.json: cannot be read"),
        (lambda folder: (folder / "data.json").write_text("{}"), "data.json: does not say what the data was"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_that_was_damaged(tmp_path, capsys, folder, mode, spoil, says):
    spoil(folder)
    line = tiny.refusal(["--load_path", str(folder), "--mode", mode], tmp_path, capsys)
    assert says in line and len(line) < 800


@MODES
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--num_blocks", "5"], "num_blocks is 5, but the run"),
        (["--train_type", "random"], "train_type is 'random', but the run"),
        (["--shared_lr", "2"], "shared_lr is 2.0, but the run"),
        (["--derive_num_sample", "0"], "derive_num_sample is 0; it must be at least 1"),
        (["--num_gpu", "99"], "num_gpu is 99"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_that_contradict_the_run(tmp_path, capsys, folder, mode, wrong, says):
    assert says in tiny.refusal(["--load_path", str(folder), "--mode", mode, *wrong], tmp_path, capsys)


def test_a_run_folder_that_cannot_be_written_to(tmp_path, capsys, folder, monkeypatch):
    touch = Path.touch

    def refuse(path, *args, **kwargs):
        if folder in path.parents:
            raise OSError(30, "Read-only file system", str(path))
        return touch(path, *args, **kwargs)

    monkeypatch.setattr(Path, "touch", refuse)
    line = tiny.refusal(["--load_path", str(folder)], tmp_path, capsys)
    assert f"{folder}: cannot be written to (Read-only file system)" in line


def test_a_load_path_that_is_a_file(tmp_path, capsys, folder):
    path = Checkpoints(folder / "checkpoints").paths()[-1]
    assert f"{path}: not a run folder" in tiny.refusal(["--load_path", str(path)], tmp_path, capsys)


def test_derive_without_a_run(tmp_path, capsys):
    line = tiny.refusal(_flags(tmp_path, mode="derive"), tmp_path, capsys)
    assert "no run of orig on tiny; make one with: python main.py --dataset tiny --train_type orig --mode train" in line


def test_derive_where_all_runs_are_others(tmp_path, capsys, folder):
    line = tiny.refusal(_flags(tmp_path, mode="derive", train_type="random"), tmp_path, capsys)
    assert "no run of random on tiny" in line


# --- from Python ------------------------------------------------------------------------------------------------------


def test_python_callers_get_the_same_text(tmp_path):
    with pytest.raises(ValueError, match="num_blocks is 0; it must be at least 1"):
        execute(**tiny.settings(tmp_path, num_blocks=0))
    with pytest.raises(FileNotFoundError, match="no such run"):
        execute(load_path="nonesuch")


def test_training_that_diverges_is_no_bad_input(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(LanguageTask, "shared_loss", lambda self, cells: 2 * (self.model.embedding.sum() * 1e999,))
    assert main(_flags(tmp_path)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: training diverged")

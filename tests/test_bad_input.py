"""Whatever the user gets wrong ends in one line on stderr and status 2, before anything is written."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from enas.runs import run
from enas.runs.commands import execute
from enas.search.checkpoint import Checkpoints


def _flags(folder: Path, **changes) -> list[str]:
    return tiny.flags(tiny.settings(folder, **changes))


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("--num_blokcs 5", "unknown flag --num_blokcs; did you mean --num_blocks?"),
        ("--num_block 5", "unknown flag --num_block; did you mean --num_blocks?"),  # flags are not abbreviated
        ("train", "unexpected argument 'train'"),
        ("--num_blocks many", "--num_blocks: invalid int value: 'many'"),
        ("--num_blocks", "--num_blocks: expected one argument"),
        ("--tie_weights rue", "--tie_weights: 'rue' is not true or false"),
        ("--shared_optim adagrad", "shared_optim is 'adagrad'; it must be one of sgd, adam"),
        ("--network_type gnn", "network_type is 'gnn'; it must be one of cnn, rnn, module; --use loads your own"),
        ("--network_type cnn --cnn_space tiny", "cnn_space is 'tiny'; it must be one of macro, micro; --use"),
        ("--train_type none", ", enas, regular; --use loads your own"),
        ("--num_gpu 99", "num_gpu is 99, but this machine has"),
        ("--num_gpu -2", "num_gpu is -2"),
        ("--train_type flexible --num_blocks 2", "num_blocks is 2; it must be at least 3 for train_type flexible"),
        # The data; the tests of each kind of data have the other errors.
        ("--batch_size 100000", "tiny, train.txt: "),
        ("--dataset tinyy", "did you mean tiny?"),
        ("--dataset mine", "put train.txt, valid.txt and test.txt into {folder}/data/mine"),
        ("--dataset cifar10", "cifar10 holds images: add --network_type cnn"),
        ("--dataset ptb", "get it with: python -m enas download ptb"),
        # Other runs and architectures.
        ("--log_dir {folder}/data/file", "choose another --log_dir"),
        ("--load_path nonesuch", "load_path nonesuch: no such run, neither as a path nor in "),
        ("--load_path {folder}/data/file", "{folder}/data/file: not a run folder"),
        (
            "--mode derive",
            "no run with --dataset tiny --train_type orig; make one with: python main.py --dataset tiny",
        ),
        ("--mode test --dataset other", "no run with --dataset other --train_type orig; make one with: python main.py"),
        ("--mode single", "name its JSON file with --dag_path, or lstm"),
        ("--mode single --dag_path nonesuch.json", "nonesuch.json: cannot be read (No such file or directory)"),
    ],
)
def test_a_command_line(tmp_path, capsys, wrong, says):
    argv = _flags(tmp_path)
    (tmp_path / "data" / "file").write_text("a b c")
    line = tiny.refusal([*argv, *wrong.format(folder=tmp_path).split()], tmp_path, capsys)
    assert says.format(folder=tmp_path) in line
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(("owner", "method"), [(Path, "mkdir"), (tempfile, "mkdtemp")])
def test_a_folder_that_cannot_be_written_to(tmp_path, capsys, folder, monkeypatch, owner, method):
    """Neither logs for a new run, nor the folder of a run that goes on."""
    act = getattr(owner, method)

    def refuse(*args, **kwargs):
        if "logs" in Path(args[-1]).parts:
            raise OSError(30, "Read-only file system", str(args[-1]))
        return act(*args, **kwargs)

    argv = _flags(tmp_path) if method == "mkdir" else ["--load_path", str(folder)]
    monkeypatch.setattr(owner, method, refuse)
    line = tiny.refusal(argv, tmp_path, capsys)
    assert "(Read-only file system)" in line and ("choose another --log_dir" in line or str(folder) in line)


# --- a run folder -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(trained, tmp_path_factory) -> Path:
    """The folder of data, a search, and a run from scratch of its architecture, which nobody changes."""
    home = tiny.moved(trained.parent.parent, tmp_path_factory.mktemp("finished"))
    run.train_scratch(home / "logs" / trained.name, max_epoch=1)
    return home


@pytest.fixture
def runs(finished, tmp_path) -> dict[str, Path]:
    """A copy of these runs, by mode."""
    folders = tiny.moved(finished, tmp_path / "home").glob("logs/*")
    return {json.loads((path / "params.json").read_text())["mode"]: path for path in folders}


def _truncate_checkpoints(folder: Path) -> None:
    for path in Checkpoints(folder / "checkpoints").paths():
        path.write_bytes(path.read_bytes()[:500])


def _replace_checkpoints(folder: Path) -> None:
    checkpoints = Checkpoints(folder / "checkpoints")
    for path in checkpoints.paths():
        path.unlink()
    checkpoints.save({"weights": 1}, "00001-00000001.pt")


def _other_text(folder: Path) -> None:
    (folder.parent.parent / "data" / "tiny" / "train.txt").write_text("quite different words\n" * 100)


def _spoilt(name: str, content: bytes | None) -> Callable[[Path], object]:
    """What replaces or removes a file of a run."""
    return lambda folder: (folder / name).unlink() if content is None else (folder / name).write_bytes(content)


NETWORK = tiny.NETWORKS["macro"].to_dict()  # of another space
NO_ANSWER = "names no architecture; a search makes one with --mode derive"
GOING_ON = ("train", "derive")


@pytest.mark.parametrize(
    ("modes", "spoil", "says"),
    [
        (GOING_ON, lambda folder: shutil.rmtree(folder / "checkpoints"), "checkpoints: no checkpoint"),
        (
            GOING_ON,
            _truncate_checkpoints,
            "another version of enas); no older checkpoint can be read",
        ),
        (GOING_ON, _replace_checkpoints, "00001-00000001.pt: KeyError: 'progress' ("),
        (GOING_ON, _other_text, "tiny is not the data that this run was begun with: its vocabulary ("),
        (GOING_ON, _spoilt("params.json", b"{"), "params.json: not JSON"),
        (GOING_ON, _spoilt("params.json", b"\xff\xfe"), "params.json: is not UTF-8"),
        (GOING_ON, _spoilt("params.json", b"[]"), "params.json: the content is [], not dict ("),
        (GOING_ON, _spoilt("params.json", b'{"num_blokcs": 3}'), "did you mean num_blocks?"),
        (GOING_ON, _spoilt("params.json", None), "not a run folder: params.json is missing"),
        (GOING_ON, _spoilt("data.json", None), "data.json: cannot be read"),
        (GOING_ON, _spoilt("data.json", b"{}"), "data.json: KeyError: 'names' ("),
        *(
            (("test",), _spoilt("results.json", content), NO_ANSWER)
            for content in (
                *(None, b"{", b"[]", b"{}", b'{"architecture": null}', b'{"architecture": {"type": "x"}}'),
                json.dumps({"architecture": NETWORK, "validation_perplexity": 3.0}).encode(),
            )
        ),
    ],
)
def test_a_search_that_was_damaged(capsys, runs, modes, spoil, says):
    spoil(runs["train"])
    for mode in modes:
        line = tiny.refusal(["--load_path", str(runs["train"]), "--mode", mode], runs["train"], capsys)
        assert says in line and len(line) < 800


@pytest.mark.parametrize("content", [None, b"{", b'{"type": "rnn_cell"}', b"[]", json.dumps(NETWORK).encode()])
def test_a_run_whose_architecture_was_damaged(capsys, runs, content):
    folder = runs["train_scratch"]
    _spoilt("architecture.json", content)(folder)
    assert "architecture.json" in tiny.refusal(["--mode", "test", "--load_path", str(folder)], folder, capsys)


@pytest.mark.parametrize("content", [b"{", b"[]", json.dumps({"architecture": NETWORK}).encode()])
def test_deriving_mends_damaged_results(runs, content):
    _spoilt("results.json", content)(runs["train"])
    derived = execute(mode="derive", load_path=str(runs["train"]))
    assert tiny.results(runs["train"]) == derived and derived["architecture"]["type"] == "rnn_cell"


def test_a_run_of_another_mode(capsys, runs):
    folder = runs["train_scratch"]
    for mode in ("train", "derive", "single"):
        line = tiny.refusal(["--mode", mode, "--load_path", str(folder)], folder, capsys)
        assert f"{folder}: is a run of mode train_scratch; this needs a run of mode" in line


@pytest.mark.parametrize(
    ("modes", "wrong", "says"),
    [
        (GOING_ON, "--num_blocks 5", "num_blocks is 5, but the run"),
        (GOING_ON, "--shared_lr 2", "shared_lr is 2.0, but the run"),
        (GOING_ON, "--derive_num_sample 0", "derive_num_sample is 0; it must be at least 1"),
        (("train_scratch",), "--num_blocks 9", "num_blocks is 9, but the run"),
        (("derive",), "--derive_finalists 3", "derive_finalists is 3; it must be at most derive_shortlist, which is 1"),
        (("test",), "--dag_path lstm", "lstm: cannot be read (No such file or directory)"),
    ],
)
def test_flags_that_contradict_the_run(capsys, runs, modes, wrong, says):
    for mode in modes:
        argv = ["--load_path", str(runs["train"]), "--mode", mode, *wrong.split()]
        assert says in tiny.refusal(argv, runs["train"], capsys)


# --- from Python ------------------------------------------------------------------------------------------------------


def test_python_callers_get_the_same_text(tmp_path):
    with pytest.raises(ValueError, match="num_blocks is 0; it must lie in "):
        execute(**tiny.settings(tmp_path, num_blocks=0))
    with pytest.raises(FileNotFoundError, match="no such run"):
        execute(load_path="nonesuch")

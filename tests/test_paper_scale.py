"""The experiments of the paper's size go on from call to call, here at tiny sizes."""

import json
import math
import os
import signal
import time
from functools import partial

import pytest
import tiny
import torch

from benchmarks import paper_scale
from benchmarks.carried import BITS, PARTS, _weights_mapped, carried, pack, rounded, unpack, unrounded
from benchmarks.paper_rows import Rows, report_of
from enas.errors import Interrupted
from enas.search.checkpoint import Checkpoints
from enas.search.scratch import ScratchTrainer
from enas.search.trainer import Trainer
from enas.search.training import Training

TERMINATE = partial(os.kill, os.getpid(), signal.SIGTERM)


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """The program on a tiny text: (name of an output folder, flags) to exit status and rows."""
    tiny.write_corpus(tmp_path / "data" / "tiny")
    sizes = {name: tiny.SETTINGS[name] for name in ("batch_size", "shared_rnn_max_length", "controller_hid")}
    small = {**paper_scale.SMALL["rnn"], **sizes, "dataset": "tiny", "shared_lr": 1.0}
    monkeypatch.setitem(paper_scale.SMALL, "rnn", small)

    def measured(output: str, *flags: str) -> tuple[int, list[dict]]:
        words = ["--output", str(tmp_path / output), "--data_dir", str(tmp_path / "data"), "--small", *flags]
        status = paper_scale.main([*words, "--commit", "abc"])
        rows = tmp_path / output / "rows.jsonl"
        return status, [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []

    return measured


def figures(rows: list[dict]) -> list[dict]:
    """The rows of epochs, without the clock's readings."""
    return [
        {key: row[key] for key in row if key not in ("wall_seconds", "cpu_seconds")} for row in rows if "epoch" in row
    ]


def interrupted_in(owner: type, step: int):
    """Let SIGTERM come in that step of ω."""
    return tiny.in_call(owner, "shared_step", step, TERMINATE)


def test_pieces_that_were_stopped_go_on_to_the_same_figures(tmp_path, measure, capsys):
    for piece, owner in (("search", Trainer), ("derived", ScratchTrainer)):
        assert measure("whole", "--piece", piece)[0] == 0
        with interrupted_in(owner, 10):
            status, rows = measure("parts", "--piece", piece)
        assert status == 143 and not rows[-1]["ended"] and rows[-1]["note"] == "weights carried in 32 bits"
        assert carried(tmp_path / "parts") == piece
        assert len(list((tmp_path / "parts").glob(f"{piece}.*"))) == PARTS
        assert measure("parts", "--piece", piece)[0] == 0
        assert carried(tmp_path / "parts") == ""
    whole, parts = measure("whole", "--minutes", "0")[1], measure("parts", "--minutes", "0")[1]
    assert figures(whole) == figures(parts)
    assert [row["epoch"] for row in figures(whole)] == [2, 4, 1, 2, 3, 4]
    for row in whole:
        assert row["commit"] == "abc" and row["torch"] == torch.__version__ and row["processor"]
        assert row.get("wall_seconds", row.get("seconds")) >= 0  # rounded
    end = whole[-1]
    assert end["ended"] and end["epochs"] == end["of"] == 4 and end["architecture"] == whole[2]["architecture"]
    assert end["test"] > 1
    capsys.readouterr()
    assert measure("whole", "--report")[0] == 0
    report = capsys.readouterr().out
    assert all(f"| search | {epoch} |" in report and f"| derived | {epoch} |" in report for epoch in (2, 4))
    assert "torch " + torch.__version__ in report and "speed_cifar_micro, search_200, enas_lm" in report


def test_a_state_that_is_too_large_is_rounded_and_the_rows_say_so(tmp_path, measure, monkeypatch):
    monkeypatch.setitem(paper_scale.SMALL["rnn"], "shared_embed", 64)
    monkeypatch.setitem(paper_scale.SMALL["rnn"], "shared_hid", 64)
    with interrupted_in(Trainer, 3):
        measure("search", "--piece", "search")
    size = sum(path.stat().st_size for path in (tmp_path / "search").glob("search.*"))
    with interrupted_in(Trainer, 8):
        _, rows = measure("search", "--piece", "search", "--megabytes", str(0.9 * size / 1e6))
    assert rows[-1]["note"] == "weights carried in 16 bits" and rows[-1]["rounded"] == []
    assert sum(path.stat().st_size for path in (tmp_path / "search").glob("search.*")) < 0.9 * size
    with interrupted_in(Trainer, 3):
        _, rows = measure("search", "--piece", "search", "--megabytes", "0.001")
    # It goes no further: the next piece has what it derived.
    assert rows[-1]["ended"] and rows[-1]["rounded"] == [16] and rows[-1]["architecture"]
    assert rows[-1]["note"] == "stopped: with 8 bits a weight its state exceeds 0.001 MB"
    assert carried(tmp_path / "search") == ""


def test_weights_come_back_as_rounded_and_all_else_as_it_was(tmp_path):
    run = tiny.run_in(tmp_path, shared_embed=64, shared_hid=64, max_epoch=1)
    newest = Checkpoints(run / "checkpoints").paths()[-1]
    before, sizes = tiny.newest_state(run), []
    for bits in BITS:
        limit = 0.99 * sizes[-1] / 1e6 if sizes else 60
        assert pack(tmp_path, str(bits), run, [8], limit) == bits
        sizes.append(sum(path.stat().st_size for path in tmp_path.glob(f"{bits}.*")))
        folder = tmp_path / f"unpacked{bits}"
        assert unpack(tmp_path, str(bits), folder) == ([8] if bits == 32 else [8, bits])
        assert [path.name for path in Checkpoints(folder / "checkpoints").paths()] == [newest.name]
        assert tiny.params(folder) == tiny.params(run) and tiny.results(folder) == tiny.results(run)
        after = tiny.newest_state(folder)
        for name, weight in before["task"]["model"].items():
            found = after["task"]["model"][name]
            if bits == 32 or weight.dim() < 2:
                assert torch.equal(found, weight)
            elif bits == 16:
                assert torch.equal(found, weight.bfloat16().float())
            else:
                assert ((found - weight).abs() <= weight.abs().flatten(1).amax(1, keepdim=True) / 253).all()
        assert tiny.difference(before | {"task": None}, after | {"task": None}) is None
        assert tiny.difference(before["task"] | {"model": None}, after["task"] | {"model": None}) is None
    assert pack(tmp_path, "none", run, [], 0.001) is None
    assert not list(tmp_path.glob("none.*"))


def test_tied_weights_are_carried_once_and_averages_too():
    weight, average = torch.randn(5, 7, 3), torch.zeros(2, 3)
    model = {"embedding": weight, "decoder": weight, "bias": torch.randn(4)}
    state = {"task": {"model": model, "state": None}, "average": {"module.a": average, "n_averaged": torch.tensor(3)}}
    for bits in BITS:
        packed = _weights_mapped(state, partial(rounded, bits=bits))
        assert packed["task"]["model"]["embedding"] is packed["task"]["model"]["decoder"]
        found = _weights_mapped(packed, unrounded)
        assert found["task"]["model"]["embedding"] is found["task"]["model"]["decoder"]
        assert found["task"]["model"]["embedding"].shape == weight.shape
        assert torch.equal(found["average"]["module.a"], average)
        assert torch.equal(found["average"]["n_averaged"], torch.tensor(3))
        again = _weights_mapped(_weights_mapped(found, partial(rounded, bits=bits)), unrounded)
        torch.testing.assert_close(again["task"]["model"], found["task"]["model"])


def test_a_state_with_a_missing_or_damaged_file_is_refused(tmp_path, measure, capsys):
    output = tmp_path / "search"
    with interrupted_in(Trainer, 3):
        measure("search", "--piece", "search")
    damaged = output / f"search.2of{PARTS}"
    content = damaged.read_bytes()
    damaged.write_bytes(bytes(byte ^ 1 for byte in content))
    capsys.readouterr()
    for piece, says in (("search", "damaged, or not of one state"), ("enas_lm", "holds the state of search; end it")):
        assert measure("search", "--piece", piece)[0] == 2
        assert says in capsys.readouterr().err
    damaged.unlink()
    assert measure("search", "--piece", "search")[0] == 2
    assert f"search.2of{PARTS}: is missing; bring it back" in capsys.readouterr().err


def test_what_cannot_be_measured_is_refused(measure, capsys):
    cases = {"derived": "run --piece search first", "speed": "piece: speed is unknown; there are speed_ptb, "}
    for piece, says in cases.items():
        assert measure("empty", "--piece", piece)[0] == 2
        assert says in capsys.readouterr().err


def test_speed_is_measured_once(measure, monkeypatch, capsys):
    monkeypatch.setattr(paper_scale, "ROUNDS", 1)
    assert measure("speed", "--piece", "speed_ptb")[0] == 0
    _, rows = measure("speed", "--piece", "speed_ptb")
    assert [row["name"] for row in rows[:-1]][:3] == ["shared step", "1 scored", "10 scored"]
    assert all(row["peak_megabytes"] > 50 and row["milliseconds"] > 0 for row in rows[:-1])
    assert rows[-1]["ended"]
    assert "speed_ptb: has ended" in capsys.readouterr().out


def test_a_row_that_is_not_finite_and_half_a_row_are_no_obstacle(tmp_path):
    rows = Rows(tmp_path / "rows.jsonl", {"processor": "p", "torch": "t", "commit": "c"})
    medians = {"policy": {"median": math.inf}, "uniform": {"median": 2.0}}
    rows.append("search", [{"epoch": 5, "place": 1, "compared_by": "perplexity", **medians}])
    rows.append("derived", [{"ended": True, "epochs": 1, "of": 1, "note": "", "test": math.nan}])
    with rows.path.open("a") as file:
        file.write('{"piece": "sea')
    assert "| nan | 2 | 1 |" in report_of(rows.read(), ["search"])


@pytest.mark.parametrize("piece", ["", "search"])
def test_a_piece_that_fails_leaves_the_time_to_the_others(measure, monkeypatch, capsys, piece):
    monkeypatch.setattr(paper_scale, "PIECES", ("search", "speed_ptb"))
    monkeypatch.setattr(paper_scale, "_train", lambda *_: 1 / 0)
    monkeypatch.setattr(paper_scale, "_measure_speed", lambda name, call: print(f"{name} is measured"))
    if piece:
        with pytest.raises(ZeroDivisionError):
            measure("one", "--piece", piece)
        return
    assert measure("one")[0] == 2
    out, err = capsys.readouterr()
    assert "speed_ptb is measured" in out and "search: ZeroDivisionError: division by zero" in err


def test_time_that_is_up_stops_a_run_and_begins_none(tmp_path, measure, capsys):
    with pytest.raises(Interrupted), paper_scale._stopped_at(time.monotonic()):
        signal.pause()
    assert measure("none", "--minutes", "0") == (0, [])
    assert "the time is up; the same command goes on" in capsys.readouterr().out
    save = Training.save

    def long_save(training: Training, is_best: bool = False) -> None:
        save(training, is_best)
        while not training.signum:
            time.sleep(0.01)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "save", long_save)
        status, rows = measure("some", "--piece", "enas_lm", "--minutes", "0.02")
    assert status == 0 and not rows[-1]["ended"] and carried(tmp_path / "some") == "enas_lm"

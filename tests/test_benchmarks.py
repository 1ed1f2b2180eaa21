"""The benchmarks run at small sizes, and count what they say they count."""

import json

import pytest
import tiny
import torch

from benchmarks import cnn, controller, exported, ranks, resuming, rnn
from benchmarks.command import main
from benchmarks.measure import Action, in_turns
from benchmarks.mutations import MUTATIONS, mutated
from benchmarks.plots import growth_figure
from benchmarks.problems import trainer
from benchmarks.resuming import Fault
from benchmarks.roofline import flops, products
from enas.config import Config

CPU = torch.device("cpu")
TEXT = {name: tiny.SETTINGS[name] for name in ("shared_hid", "shared_embed", "batch_size", "precision", "num_threads")}
TEXT |= {"num_gpu": 0, "num_blocks": 3, "shared_rnn_max_length": 5, **tiny.CALM}
IMAGES = {name: tiny.IMAGE_SETTINGS[name] for name in ("cnn_hid", "cnn_num_layers", "batch_size", "precision")}
IMAGES |= {"num_gpu": 0, "num_threads": 1, "image_size": 8}


def test_products_and_convolutions_are_counted_and_repeated():
    x, weight = torch.ones(3, 5), torch.ones(5, 7, requires_grad=True)
    images = torch.ones(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(3, 4, 3)
    product, convolution = lambda: (x @ weight).relu().sum().backward(), lambda: layer(images).sum().backward()
    assert flops(product) == flops(products(product)) == 2 * (2 * 3 * 5 * 7)  # forward, and the gradient of the weight
    assert flops(products(convolution)) == flops(convolution) > 0


def test_actions_are_timed_in_turns():
    order = []
    rows = in_turns([Action(name, lambda name=name: order.append(name), 10, "tokens") for name in "ab"], 3, CPU)
    assert order[-8:] == ["a", "b"] * 4
    assert [row.roofline for row in rows] == [None, None]


def test_an_exported_cell_is_timed_beside_a_gru():
    found = exported.rows(hidden=4, batch=2, sizes=[2, 3], rounds=1)
    assert [row.name for row in found[::2]] == [f"{name}, forward" for name in
                                                ("torch.nn.GRU", "cell of 2 nodes", "cell of 3 nodes")]  # fmt: skip
    assert all(row.milliseconds > 0 and row.unit == "tokens" for row in found)


def test_the_plain_implementation_computes_the_same():
    config = Config(**TEXT)
    fast = trainer(config, CPU)
    plain = rnn._plain(config, fast, CPU)
    cells = fast.controller.sample(2).architectures
    torch.testing.assert_close(plain.task.rewards(cells), fast.task.rewards(cells))
    torch.testing.assert_close(plain.task.shared_loss(cells[:1])[0], fast.task.shared_loss(cells[:1])[0])


@pytest.mark.parametrize(
    "benchmark, settings, grow",
    [
        (rnn.BENCHMARK, TEXT, ""),
        (cnn.BENCHMARK, IMAGES, ""),
        (controller.BENCHMARK, {**TEXT, "controller_num_aggregate": 2}, "samples"),
    ],
)
def test_each_benchmark_writes_what_it_measured(tmp_path, capsys, benchmark, settings, grow):
    path = tmp_path / "figures.json"
    assert main(benchmark, [*tiny.flags(settings), "--rounds", "1", "--output", str(path), "--grow", grow]) == 0
    found = json.loads(path.read_text())
    assert all(row["milliseconds"] > 0 for row in found["rows"])
    assert found["machine"]["torch"] == torch.__version__
    assert list(found["peak_megabytes"]) == [row["name"] for row in found["rows"]]
    peaks = list(found["peak_megabytes"].values())
    assert peaks == sorted(peaks) and peaks[0] > 50  # torch alone takes more
    assert [point["value"] for point in found.get("growth", {}).get("samples", [])] == [1, 10, 100, 1000][
        : 4 * bool(grow)
    ]
    assert path.with_suffix(".png").exists() is bool(grow)
    assert "of it products" in capsys.readouterr().out


def test_a_benchmark_that_is_impossible_is_refused(capsys):
    for words, says in {"--rounds 0": "rounds is 0; it must be at least 1", "--grow x": "grow: x is not meas"}.items():
        assert main(rnn.BENCHMARK, words.split()) == 2
        assert says in capsys.readouterr().err


def test_growth_is_drawn_and_said_in_words():
    points = [
        {"value": value, "rows": [{"name": "linear", "milliseconds": 3.0 * value},
                                  {"name": "square", "milliseconds": 0.1 * value**2}]}
        for value in (10, 20, 80)
    ]  # fmt: skip
    figure = growth_figure({"shared_hid": points, "other": points, "third": points})
    for axes in figure.axes:
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        times = ("linear: twice as much takes 2.0", "square: twice as much takes 4.0")
        assert labels == [f"{text} times as long" for text in times]
    assert [axes.get_xlabel() for axes in figure.axes] == ["hidden units", "other", "third"]


def test_processes_are_compared_with_one(capsys):
    assert ranks.main(tiny.flags(TEXT)) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line]
    assert [row[0].strip() for row in (rows[2], rows[3], rows[-1])] == ["shared step of 1", "10 scored", "1"]
    for _, shared, alone, faster, efficiency in rows[2:4]:
        assert 0 < float(efficiency) == float(faster)
        assert min(float(shared), float(alone)) > 0


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_a_mutation_still_has_its_place(mutation):
    """Otherwise nobody would notice that a mistake is no longer tried."""
    path = tiny.ROOT / "enas" / f"{mutation.place.split()[0].replace('.', '/')}.py"
    right = path.read_text(encoding="utf-8")
    assert mutated(right, mutation) != right


@pytest.mark.slow
def test_a_search_survives_a_kill_and_a_damaged_checkpoint(tmp_path, monkeypatch):
    """One trial; the figures of all of them are in benchmarks/RESULTS.md."""
    monkeypatch.setenv("PATH", "")  # the processes find no Graphviz, which would take most of their time
    fault = Fault("search", "flip", "shared step", 25)
    outcome = resuming.trial(fault, tmp_path, resuming.undisturbed("search", tmp_path / "undisturbed"))
    assert outcome.problem == "" and outcome.steps_lost <= 2 * resuming.STEPS_BETWEEN_CHECKPOINTS
    line = resuming.table([(fault, outcome)])[2]
    assert line.startswith("| search | SIGKILL, a bit of the newest checkpoint flipped |")

"""The benchmarks run at small sizes, and count what they say they count."""

import json

import pytest
import torch

from benchmarks import cnn, controller, ranks, rnn
from benchmarks.command import main
from benchmarks.measure import Action, in_turns
from benchmarks.plots import growth_figure
from benchmarks.problems import trainer
from benchmarks.roofline import flops, products
from enas.config import Config

CPU = torch.device("cpu")
TEXT = {
    "shared_hid": 8, "shared_embed": 8, "num_blocks": 3, "batch_size": 4, "shared_rnn_max_length": 5,
    "precision": "float32", "num_threads": 1, "num_gpu": 0,
    "shared_dropoute": 0.0, "shared_dropouti": 0.0, "shared_dropout": 0.0, "shared_wdrop": 0.0,
}  # fmt: skip
IMAGES = {
    "cnn_hid": 4, "cnn_num_layers": 3, "batch_size": 6, "num_threads": 1, "num_gpu": 0, "image_size": 8,
    "precision": "float32",
}  # fmt: skip


def _flags(settings: dict) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def test_products_are_counted_and_repeated():
    x, weight = torch.ones(3, 5), torch.ones(5, 7, requires_grad=True)

    def step() -> None:
        (x @ weight).relu().sum().backward()

    assert flops(step) == 2 * (2 * 3 * 5 * 7)  # forward, and the gradient of the weight
    assert flops(products(step)) == 2 * (2 * 3 * 5 * 7)


def test_convolutions_are_repeated_with_their_layout():
    images = torch.ones(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(3, 4, 3)

    def step() -> None:
        layer(images).sum().backward()

    assert flops(products(step)) == flops(step) > 0


def test_actions_are_timed_in_turns():
    order = []
    rows = in_turns([Action(name, lambda name=name: order.append(name), 10, "tokens") for name in "ab"], 3, CPU)
    rounds = order[-8:]
    assert rounds == ["a", "b"] * 4
    assert [row.roofline for row in rows] == [None, None]


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
        (cnn.BENCHMARK, {**IMAGES, "cnn_space": "micro"}, ""),
        (controller.BENCHMARK, {**TEXT, "controller_num_aggregate": 2}, "samples"),
    ],
)
def test_each_benchmark_writes_what_it_measured(tmp_path, capsys, benchmark, settings, grow):
    path = tmp_path / "figures.json"
    assert main(benchmark, [*_flags(settings), "--rounds", "1", "--output", str(path), "--grow", grow]) == 0
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


def test_no_rounds_at_all(capsys):
    assert main(rnn.BENCHMARK, ["--rounds", "0"]) == 2
    assert capsys.readouterr().err == "error: rounds is 0; it must be at least 1\n"


def test_a_size_that_is_not_measured(capsys):
    assert main(rnn.BENCHMARK, ["--grow", "shared_lr"]) == 2
    assert "grow: shared_lr is not measured; there are shared_hid" in capsys.readouterr().err


def test_growth_is_drawn_with_its_exponent():
    points = [
        {"value": value, "rows": [{"name": "linear", "milliseconds": 3.0 * value},
                                  {"name": "square", "milliseconds": 0.1 * value**2}]}
        for value in (10, 20, 80)
    ]  # fmt: skip
    figure = growth_figure({"size": points, "other": points})
    for axes in figure.axes:
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["linear: exponent 1.00", "square: exponent 2.00"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["size", "other"]


def test_processes_are_compared_with_one(capsys):
    assert ranks.main(_flags(TEXT)) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0].strip() for row in rows] == ["shared step of 1", "10 scored"]
    for _, shared, alone, faster, efficiency in rows:
        assert 0 < float(efficiency) == float(faster)
        assert min(float(shared), float(alone)) > 0

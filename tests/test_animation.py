"""The GIF of a search: which frames, in which order, how long, what is written on them, and what is refused."""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence
from tiny import run_command

from enas.report.animation import LONGEST_SIDE, animate, find_pictures, render, select

main = partial(run_command, "gif")

# In the order of epoch and step, which is not the order of the names as text.
NAMES = [
    "2-800-300.5000-best",
    "3-801-299.0000-best",
    "4-1600-143.2000-best",
    "10-900-120.0000-best",
    "100-40000-99.1234-best",
]
COLOURS = [(230, 30, 30), (30, 200, 30), (40, 40, 230), (220, 200, 20), (20, 190, 200)]
SIZE = (500, 300)


def make_run(folder: Path, *, names: list[str] = NAMES, size=SIZE) -> Path:
    """A run folder whose pictures are filled with COLOURS, one each, made in another order than they belong in."""
    (folder / "networks").mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps({"network_type": "rnn"}))
    for name, colour in list(zip(names, COLOURS * len(names), strict=False))[::-1]:
        Image.new("RGB", size, colour).save(folder / "networks" / f"{name}.png")
    return folder


@pytest.fixture
def run(tmp_path) -> Path:
    return make_run(tmp_path / "logs" / "tiny_orig_2026-11-24_12-00-00")


def frames_of(path: Path) -> list[Image.Image]:
    with Image.open(path) as gif:
        return [frame.copy() for frame in ImageSequence.Iterator(gif)]


@pytest.mark.parametrize(
    ("max_frame", "fps", "milliseconds"),
    [
        (20, 2, [500] * 4 + [2000]),
        (3, 3, [330, 330, 2000]),
        (2, 0.25, [4000] * 2),
        (2, 1e-9, [655350] * 2),
        (2, 1e-310, [655350] * 2),
        (1, 2, [2000]),
    ],
)
def test_the_last_frame_lasts_two_seconds_or_longer(run, tmp_path, max_frame, fps, milliseconds):
    frames = frames_of(animate(run, tmp_path / "search.gif", max_frame=max_frame, fps=fps))
    assert [frame.info["duration"] for frame in frames] == milliseconds
    assert frames[0].info["loop"] == 0  # for ever


def test_frames_are_one_an_epoch_in_order_and_other_files_are_none(run):
    for name in (
        "1-5-nan-best",
        "1-6-inf-best",
        "4-1599-1.0-best",
        "mine",
        "7-7-3.0-worst",
        "mine-1-best",
        "²-1-3.0-best",
    ):
        (run / "networks" / f"{name}.png").touch()
    assert [path.stem for path in find_pictures(run)] == ["1-6-inf-best", *NAMES]


@given(num=st.integers(1, 200), max_frame=st.integers(1, 60))
def test_selection_is_even_and_has_both_ends(num, max_frame):
    chosen = [int(path.stem) for path in select([Path(f"{epoch}.png") for epoch in range(num)], max_frame)]
    assert len(chosen) == min(num, max_frame)
    assert chosen[-1] == num - 1 and (max_frame == 1 or chosen[0] == 0)
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


@pytest.mark.parametrize("size", [SIZE, (4000, 1000), (300, 3000)])
def test_pictures_are_scaled_by_one_factor_and_centred(tmp_path, size):
    """The second one has half the size."""
    run = make_run(tmp_path / "run", names=NAMES[:1], size=size)
    Image.new("RGB", tuple(side // 2 for side in size), COLOURS[0]).save(run / "networks" / f"{NAMES[1]}.png")
    frames = render(find_pictures(run))
    boxes = []
    for frame in frames:
        rows, columns = np.nonzero((np.asarray(frame) == COLOURS[0]).all(axis=2))
        boxes.append((np.ptp(columns) + 1, np.ptp(rows) + 1))
        assert columns.min() + columns.max() == pytest.approx(frame.width - 1, abs=1)
    assert len({frame.size for frame in frames}) == 1
    factor = min(1, max(boxes[0]) / max(size))
    assert boxes == pytest.approx(np.array([size, np.array(size) / 2]) * factor, abs=2)
    assert max(size) <= LONGEST_SIDE or LONGEST_SIDE >= max(frames[0].size) > 0.9 * LONGEST_SIDE


def test_pictures_of_one_size_are_the_frames(run):
    frames = render(find_pictures(run))
    assert [(frame.size, frame.getpixel((0, 0))) for frame in frames] == [(SIZE, colour) for colour in COLOURS]


def test_what_is_transparent_is_white(tmp_path):
    run = make_run(tmp_path / "run", names=NAMES[:1])
    Image.new("RGBA", SIZE, (0, 0, 0, 0)).save(run / "networks" / f"{NAMES[0]}.png")
    (frame,) = render(find_pictures(run))
    assert frame.getpixel((frame.width // 2, frame.height // 2)) == (255, 255, 255)


def flags(run: Path, output: Path, *more: str) -> list[str]:
    return [f"--model_name={run}", f"--output={output}", *more]


def test_a_run_by_name_as_a_command(run, tmp_path, capsys):
    output = tmp_path / "made" / "search.gif"
    argv = flags(Path(run.name), output, "--log_dir", str(run.parent), "--max_frame=2", "--fps=4")
    assert main(argv) == 0
    assert capsys.readouterr().out == f"wrote {output}\n"
    assert len(frames_of(output)) == 2
    assert os.listdir(output.parent) == [output.name]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("--max_frame=0", "max_frame is 0; it must be at least 1"),
        ("--fps=nan", "fps is nan; it must lie in (0, 50]"),
        ("--output=search.png", "output is search.png; its name must end in .gif"),
        ("--output=RUN/params.json/search.gif", "/params.json/search.gif: cannot be written ("),
        ("--model_name=nonesuch", "model_name nonesuch: no such run, neither as a path nor in logs"),
        ("--model_name=RUN/networks", "not a run folder: params.json is missing"),
    ],
)
def test_what_it_refuses(run, tmp_path, capsys, monkeypatch, wrong, says):
    monkeypatch.chdir(tmp_path)
    argv = [*flags(run, tmp_path / "search.gif"), wrong.replace("RUN", str(run))]
    assert says in tiny.refusal(argv, tmp_path, capsys, main)


@pytest.mark.parametrize(
    ("left", "says"),
    [
        ({}, "no pictures; a run draws one"),
        ({f"{NAMES[0]}.dot": b"digraph {}"}, "its pictures are .dot files: Graphviz was missing"),
    ],
)
def test_a_run_with_nothing_to_show(tmp_path, capsys, left, says):
    run = make_run(tmp_path / "run", names=[])
    for name, content in left.items():
        (run / "networks" / name).write_bytes(content)
    if not left:
        (run / "networks").rmdir()
    assert says in tiny.refusal(flags(run, tmp_path / "search.gif"), tmp_path, capsys, main)


@pytest.mark.parametrize("keep", [0, 60, 400])
def test_a_damaged_picture_is_named(run, tmp_path, capsys, keep):
    path = run / "networks" / f"{NAMES[2]}.png"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path}: " in tiny.refusal(flags(run, tmp_path / "search.gif"), tmp_path, capsys, main)

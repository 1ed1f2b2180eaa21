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

from enas.cli import run_command
from enas.report.animation import LONGEST_SIDE, animate, find_pictures, render, select, status_line
from enas.rnn.cell import ACTIVATIONS

main = partial(run_command, "gif")

# In the order of epoch and step, which is not the order of the names as text.
NAMES = [
    "2-800-300.5000-best",
    "2-801-299.0000-best",
    "4-1600-143.2000-best",
    "10-900-120.0000-best",
    "100-40000-99.1234-best",
]
COLOURS = [(230, 30, 30), (30, 200, 30), (40, 40, 230), (220, 200, 20), (20, 190, 200)]
SIZE = (500, 300)


def make_run(folder: Path, *, network_type: str = "rnn", names: list[str] = NAMES, size=SIZE) -> Path:
    """A run folder whose pictures are filled with COLOURS, one each, made in another order than they belong in."""
    (folder / "networks").mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps({"network_type": network_type}))
    for name, colour in list(zip(names, COLOURS * len(names), strict=False))[::-1]:
        Image.new("RGB", size, colour).save(folder / "networks" / f"{name}.png")
    return folder


@pytest.fixture
def run(tmp_path) -> Path:
    return make_run(tmp_path / "logs" / "tiny_orig_2026-11-24_12-00-00")


def frames_of(path: Path) -> list[np.ndarray]:
    """The frames of a GIF, [height, width, 3]."""
    with Image.open(path) as gif:
        return [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]


def centre(frame: np.ndarray) -> np.ndarray:
    return frame[frame.shape[0] // 2, frame.shape[1] // 2].astype(int)


# --- which frames -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_frame", "fps", "shown", "milliseconds"),
    [(20, 2, COLOURS, 500), (3, 3, COLOURS[::2], 330), (2, 50, [COLOURS[0], COLOURS[-1]], 20), (1, 2, COLOURS[-1:], 0)],
)
def test_frames_are_in_order_of_epoch_and_step_and_the_last_holds_three_times_as_long(
    run, tmp_path, max_frame, fps, shown, milliseconds
):
    path = animate(run, tmp_path / "search.gif", max_frame=max_frame, fps=fps)
    frames = frames_of(path)
    assert len(frames) == len(shown)
    for frame, colour in zip(frames, shown, strict=True):
        assert np.abs(centre(frame) - colour).max() <= 8
    with Image.open(path) as gif:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
        assert gif.info["loop"] == 0  # for ever
    assert durations == ([milliseconds] * (len(shown) - 1) + [3 * milliseconds] if milliseconds else [1500])


def test_scores_that_are_no_numbers_and_other_files(run):
    for name in ("1-5-nan-best.png", "1-6-inf-best.png", "mine.png", "1-7-3.0-worst.png", "notes.txt"):
        (run / "networks" / name).touch()
    assert [path.stem for path in find_pictures(run)] == ["1-5-nan-best", "1-6-inf-best", *NAMES]


@given(num=st.integers(1, 200), max_frame=st.integers(1, 60))
def test_selection_is_even_and_has_both_ends(num, max_frame):
    chosen = [int(path.stem) for path in select([Path(f"{epoch}.png") for epoch in range(num)], max_frame)]
    assert len(chosen) == min(num, max_frame)
    assert chosen[-1] == num - 1
    if max_frame > 1:
        assert chosen[0] == 0
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


# --- what a frame looks like ------------------------------------------------------------------------------------------


def test_all_frames_have_one_size_and_pictures_keep_theirs(run):
    Image.new("RGB", (200, 100), (0, 0, 0)).save(run / "networks" / "200-50000-98.0000-best.png")
    *frames, small = map(np.asarray, render(find_pictures(run), "perplexity"))
    assert {frame.shape for frame in frames} == {small.shape}
    rows, columns = np.nonzero((small == 0).all(axis=2)[-SIZE[1] :])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (100, 200)
    assert columns.min() + columns.max() == SIZE[0] - 1  # centred
    assert rows.min() == 0  # right below the header
    assert (small[-100:] == 255).all()  # the rest is white


@pytest.mark.parametrize("size", [(4000, 1000), (300, 3000), (1200, 900)])
def test_large_pictures_are_scaled_by_one_factor(tmp_path, size):
    run = make_run(tmp_path / "run", names=NAMES[:1], size=size)
    half = tuple(side // 2 for side in size)
    Image.new("RGB", half, COLOURS[1]).save(run / "networks" / f"{NAMES[1]}.png")
    shapes = []
    frames = map(np.asarray, render(find_pictures(run), "perplexity", "A title"))
    for frame, colour in zip(frames, COLOURS[:2], strict=True):
        assert max(frame.shape) <= LONGEST_SIDE
        rows, columns = np.nonzero((frame == colour).all(axis=2))
        shapes.append((np.ptp(columns) + 1, np.ptp(rows) + 1))
    assert shapes[0][0] / shapes[0][1] == pytest.approx(size[0] / size[1], rel=0.02)
    assert np.array(shapes[0]) == pytest.approx(2 * np.array(shapes[1]), abs=2)
    assert max(shapes[0]) > 0.9 * LONGEST_SIDE


@pytest.mark.parametrize(
    ("metric", "name", "says"),
    [
        ("perplexity", "4-1600-143.2060-best", "epoch 4   step 1600   perplexity 143.21"),
        ("accuracy", "4-1600-0.9126-best", "epoch 4   step 1600   accuracy 0.9126"),
        ("perplexity", "4-1600-inf-best", "epoch 4   step 1600   perplexity inf"),
    ],
)
def test_what_the_header_says(metric, name, says):
    assert status_line(Path(f"{name}.png"), metric) == says


def test_a_title_makes_the_header_higher(run):
    pictures = find_pictures(run)
    bare, titled = (np.stack(render(pictures, "perplexity", *title)) for title in ([], ["A search of cells"]))
    added = titled.shape[1] - bare.shape[1]
    assert added > 20
    assert (titled[:, added + 20 :] == bare[:, 20:]).all()


def test_colours_of_drawings_survive_the_palette_and_what_is_transparent_is_white(tmp_path):
    """All box colours in one frame, beside a gradient that wants every entry of the palette."""
    run = make_run(tmp_path / "run", names=NAMES[:2])
    picture = Image.linear_gradient("L").resize(SIZE).convert("RGBA")
    colours = [*(activation.colour for activation in ACTIVATIONS.values()), (0, 0, 0, 0)]
    for row, colour in enumerate(colours):
        picture.paste(colour, (0, 40 * row, 400, 40 * row + 30))
    picture.save(run / "networks" / f"{NAMES[0]}.png")
    frame = frames_of(animate(run, tmp_path / "search.gif"))[0]
    for row, colour in enumerate([*colours[:-1], "#FFFFFF"]):
        expected = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        seen = frame[frame.shape[0] - SIZE[1] + 40 * row + 15, 200].astype(int)
        assert np.abs(seen - expected).max() <= 12


# --- what is refused --------------------------------------------------------------------------------------------------


line_of = partial(tiny.refusal, command=main)


def flags(run: Path, output: Path, *more: str) -> list[str]:
    return [f"--model_name={run}", f"--output={output}", *more]


def test_a_run_by_name_as_a_command(run, tmp_path, capsys):
    output = tmp_path / "made" / "search.gif"
    argv = flags(Path(run.name), output, "--log_dir", str(run.parent), "--max_frame=2", "--fps=4", "--title", "Mine")
    assert main(argv) == 0
    assert capsys.readouterr().out == f"wrote {output}\n"
    assert len(frames_of(output)) == 2
    assert os.listdir(output.parent) == [output.name]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("--max_frame=0", "max_frame is 0; it must be at least 1"),
        ("--max_frame=two", "--max_frame: invalid int value: 'two'"),
        ("--fps=0", "fps is 0.0; it must lie in (0, 50]"),
        ("--fps=nan", "fps is nan; it must lie in (0, 50]"),
        ("--max_frames=3", "unknown flag --max_frames; did you mean --max_frame?"),
        ("--output=search.png", "output is search.png; its name must end in .gif"),
        ("--output=.gif", "output is .gif; its name must end in .gif"),
        ("--output=RUN/params.json/search.gif", "/params.json/search.gif: cannot be written ("),
        ("--model_name=nonesuch", "model_name nonesuch: no such run, neither as a path nor in logs"),
        ("--model_name=RUN/networks", "not a run folder: params.json is missing"),
        ("-model_name", "--model_name is missing; --help"),
        ("-output", "--output is missing; --help"),
    ],
)
def test_what_it_refuses(run, tmp_path, capsys, monkeypatch, wrong, says):
    monkeypatch.chdir(tmp_path)
    argv = [*flags(run, tmp_path / "search.gif"), wrong.replace("RUN", str(run))]
    if not wrong.startswith("--"):  # leaves out a flag
        argv = [word for word in argv if wrong not in word]
    assert says in line_of(argv, tmp_path, capsys)


@pytest.mark.parametrize(
    ("left", "says"),
    [
        ({}, "no pictures; a run draws one"),
        ({f"{NAMES[0]}.dot": b"digraph {}"}, "its pictures are still .dot files, because Graphviz was missing"),
        ({f"{NAMES[0]}.png": b"", "../params.json": b"{"}, "params.json: "),
        ({f"{NAMES[0]}.png": b"", "../params.json": b'{"network_type": "gan"}'}, "params.json: "),
    ],
)
def test_a_run_with_nothing_to_show(tmp_path, capsys, left, says):
    run = make_run(tmp_path / "run", names=[])
    for name, content in left.items():
        (run / "networks" / name).write_bytes(content)
    if not left:
        (run / "networks").rmdir()
    assert says in line_of(flags(run, tmp_path / "search.gif"), tmp_path, capsys)


@pytest.mark.parametrize("keep", [0, 60, 400])
def test_a_damaged_picture_is_named(run, tmp_path, capsys, keep):
    path = run / "networks" / f"{NAMES[2]}.png"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path}: cannot be read as a PNG (" in line_of(flags(run, tmp_path / "search.gif"), tmp_path, capsys)

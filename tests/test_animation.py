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

from enas.pictures import animation
from enas.pictures.animation import Picture, animate, find_pictures, main, render, select, status_line
from enas.search_space import ACTIVATIONS

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


def durations_of(path: Path) -> list[int]:
    """Milliseconds that each frame holds."""
    with Image.open(path) as gif:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]


def centre(frame: np.ndarray) -> np.ndarray:
    return frame[frame.shape[0] // 2, frame.shape[1] // 2].astype(int)


# --- which frames -----------------------------------------------------------------------------------------------------


def test_frames_are_in_order_of_epoch_and_step(run, tmp_path):
    frames = frames_of(animate(run, tmp_path / "search.gif"))
    assert len(frames) == len(COLOURS)
    for frame, colour in zip(frames, COLOURS, strict=True):
        assert np.abs(centre(frame) - colour).max() <= 8


def test_pictures_say_epoch_step_and_score(run):
    assert [(p.path.stem, p.epoch, p.step, p.score) for p in find_pictures(run)] == [
        (NAMES[0], 2, 800, 300.5),
        (NAMES[1], 2, 801, 299.0),
        (NAMES[2], 4, 1600, 143.2),
        (NAMES[3], 10, 900, 120.0),
        (NAMES[4], 100, 40000, 99.1234),
    ]


def test_scores_that_are_no_numbers_and_other_files(run):
    for name in ("1-5-nan-best.png", "1-6-inf-best.png", "mine.png", "1-7-3.0-worst.png", "notes.txt"):
        (run / "networks" / name).touch()
    assert [picture.path.name for picture in find_pictures(run)][:3] == [
        "1-5-nan-best.png",
        "1-6-inf-best.png",
        f"{NAMES[0]}.png",
    ]
    assert len(find_pictures(run)) == len(NAMES) + 2


@given(num=st.integers(1, 200), max_frame=st.integers(1, 60))
def test_selection_is_even_and_has_both_ends(num, max_frame):
    pictures = [Picture(Path(f"{epoch}.png"), epoch, 0, 1.0) for epoch in range(num)]
    chosen = [picture.epoch for picture in select(pictures, max_frame)]
    assert len(chosen) == min(num, max_frame)
    assert chosen[-1] == num - 1
    if max_frame > 1:
        assert chosen[0] == 0
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_max_frame_bounds_the_gif(run, tmp_path):
    frames = frames_of(animate(run, tmp_path / "search.gif", max_frame=3))
    for frame, colour in zip(frames, COLOURS[::2], strict=True):
        assert np.abs(centre(frame) - colour).max() <= 8


# --- timing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fps", "milliseconds"), [(2, 500), (3, 330), (50, 20)])
def test_the_last_frame_holds_three_times_as_long(run, tmp_path, fps, milliseconds):
    path = animate(run, tmp_path / "search.gif", fps=fps)
    assert durations_of(path) == [milliseconds] * (len(NAMES) - 1) + [3 * milliseconds]


def test_it_repeats_for_ever(run, tmp_path):
    with Image.open(animate(run, tmp_path / "search.gif")) as gif:
        assert gif.info["loop"] == 0


def test_a_single_picture_is_a_gif_too(tmp_path):
    run = make_run(tmp_path / "run", names=NAMES[:1])
    assert durations_of(animate(run, tmp_path / "search.gif")) == [1500]


# --- what a frame looks like ------------------------------------------------------------------------------------------


def test_all_frames_have_one_size_and_pictures_keep_theirs(run):
    Image.new("RGB", (200, 100), (0, 0, 0)).save(run / "networks" / "200-50000-98.0000-best.png")
    *frames, small = render(find_pictures(run), "perplexity")
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
    for frame, colour in zip(render(find_pictures(run), "perplexity", "A title"), COLOURS, strict=False):
        assert max(frame.shape) <= animation.LONGEST_SIDE
        rows, columns = np.nonzero((frame == colour).all(axis=2))
        shapes.append((np.ptp(columns) + 1, np.ptp(rows) + 1))
    assert shapes[0][0] / shapes[0][1] == pytest.approx(size[0] / size[1], rel=0.02)
    assert np.array(shapes[0]) == pytest.approx(2 * np.array(shapes[1]), abs=2)
    assert max(shapes[0]) > 0.9 * animation.LONGEST_SIDE


def test_transparent_parts_are_white(run):
    Image.new("RGBA", SIZE, (0, 0, 0, 0)).save(run / "networks" / f"{NAMES[0]}.png")
    assert tuple(centre(render(find_pictures(run), "perplexity")[0])) == (255, 255, 255)


@pytest.mark.parametrize(
    ("metric", "name", "says"),
    [
        ("perplexity", "4-1600-143.2060-best", "epoch 4   step 1600   perplexity 143.21"),
        ("accuracy", "4-1600-0.9126-best", "epoch 4   step 1600   accuracy 0.9126"),
        ("perplexity", "4-1600-inf-best", "epoch 4   step 1600   perplexity inf"),
    ],
)
def test_what_the_header_says(tmp_path, metric, name, says):
    (picture,) = find_pictures(make_run(tmp_path / "run", names=[name]))
    assert status_line(picture, metric) == says


def test_a_title_makes_the_header_higher(run):
    pictures = find_pictures(run)
    bare, titled = render(pictures, "perplexity"), render(pictures, "perplexity", "A search of cells")
    added = titled[0].shape[0] - bare[0].shape[0]
    assert added > 20
    assert all(
        (with_title[added + 20 :] == without[20:]).all() for with_title, without in zip(titled, bare, strict=True)
    )


def test_colours_of_drawings_survive_the_palette(tmp_path):
    """All box colours in one frame, beside a gradient that wants every entry of the palette."""
    run = make_run(tmp_path / "run", names=NAMES[:2])
    picture = Image.linear_gradient("L").resize(SIZE).convert("RGB")
    for row, colour in enumerate(activation.colour for activation in ACTIVATIONS.values()):
        picture.paste(colour, (0, 50 * row, 400, 50 * row + 40))
    picture.save(run / "networks" / f"{NAMES[0]}.png")
    frame = frames_of(animate(run, tmp_path / "search.gif"))[0]
    for row, colour in enumerate(activation.colour for activation in ACTIVATIONS.values()):
        expected = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        seen = frame[frame.shape[0] - SIZE[1] + 50 * row + 20, 200].astype(int)
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
    assert durations_of(output) == [250, 750]
    assert os.listdir(output.parent) == [output.name]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("--max_frame=0", "max_frame is 0; it must be at least 1"),
        ("--max_frame=two", "--max_frame: invalid int value: 'two'"),
        ("--fps=0", "fps is 0.0; it must lie in (0, 50]"),
        ("--fps=nan", "fps is nan; it must lie in (0, 50]"),
        ("--max_frames=3", "unknown flag --max_frames; did you mean --max_frame?"),
    ],
)
def test_flags_that_are_wrong(run, tmp_path, capsys, wrong, says):
    assert says in line_of(flags(run, tmp_path / "search.gif", wrong), tmp_path, capsys)


@pytest.mark.parametrize("missing", ["model_name", "output"])
def test_flags_that_are_missing(run, tmp_path, capsys, missing):
    argv = [word for word in flags(run, tmp_path / "search.gif") if missing not in word]
    assert f"--{missing} is missing; usage: generate_gif.py" in line_of(argv, tmp_path, capsys)


@pytest.mark.parametrize("name", ["search.png", "search", "gif", ".gif"])
def test_an_output_that_is_no_gif(run, tmp_path, capsys, name):
    line = line_of(flags(run, tmp_path / name), tmp_path, capsys)
    assert f"output is {tmp_path / name}; its name must end in .gif" in line


def test_an_output_below_a_file(run, tmp_path, capsys):
    output = run / "params.json" / "search.gif"
    assert f"{output}: cannot be written (" in line_of(flags(run, output), tmp_path, capsys)


def test_a_full_disk_leaves_the_old_gif(run, tmp_path, capsys, monkeypatch):
    output = animate(run, tmp_path / "search.gif")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("enas.runs.files.os.fsync", full)
    line = line_of(flags(run, output, "--title=new"), tmp_path, capsys)
    assert f"{output}: cannot be written (No space left on device)" in line


def test_no_such_run(run, tmp_path, capsys):
    argv = flags(Path("nonesuch"), tmp_path / "search.gif", f"--log_dir={run.parent}")
    line = line_of(argv, tmp_path, capsys)
    assert f"model_name nonesuch: no such run, neither as a path nor in {run.parent}" in line


def test_a_folder_that_is_no_run(run, tmp_path, capsys):
    assert "not a run folder: params.json is missing" in line_of(
        flags(run.parent, tmp_path / "search.gif"), tmp_path, capsys
    )


def test_a_run_without_pictures(tmp_path, capsys):
    run = make_run(tmp_path / "run", names=[])
    line = line_of(flags(run, tmp_path / "search.gif"), tmp_path, capsys)
    assert f"{run / 'networks'}: no pictures; a run draws one" in line
    (run / "networks").rmdir()
    assert "no pictures" in line_of(flags(run, tmp_path / "search.gif"), tmp_path, capsys)


def test_a_run_whose_pictures_are_dot_files(tmp_path, capsys):
    run = make_run(tmp_path / "run", names=[])
    (run / "networks" / f"{NAMES[0]}.dot").write_text("digraph {}")
    line = line_of(flags(run, tmp_path / "search.gif"), tmp_path, capsys)
    assert "its pictures are still .dot files, because Graphviz was missing" in line


@pytest.mark.parametrize("keep", [0, 60, 400])
def test_a_damaged_picture_is_named(run, tmp_path, capsys, keep):
    path = run / "networks" / f"{NAMES[2]}.png"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path}: cannot be read as a PNG (" in line_of(flags(run, tmp_path / "search.gif"), tmp_path, capsys)


@pytest.mark.parametrize("content", [b"{", b'{"network_type": "gan"}'])
def test_a_run_whose_settings_were_damaged(run, tmp_path, capsys, content):
    (run / "params.json").write_bytes(content)
    assert f"{run / 'params.json'}: " in line_of(flags(run, tmp_path / "search.gif"), tmp_path, capsys)

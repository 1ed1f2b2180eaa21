"""A GIF of a search: the architectures that a run derived, in order.

from enas.pictures.animation import animate
animate("ptb_orig_2026-11-24_12-00-00", "search.gif")
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from enas.cli import Parser, guarded
from enas.errors import UserError
from enas.runs.files import atomic_write
from enas.runs.final import pictures_of
from enas.runs.folder import find_run, saved_config
from enas.runs.logbook import format_score, progress_bar

LONGEST_SIDE = 1000  # pixels
LAST_FRAME_HOLDS = 3  # times as long as the others

_NAME = re.compile(r"(\d+)-(\d+)-(\d+(?:\.\d+)?(?:e\+\d+)?|inf|nan)-best")
_FONT: Any = ImageFont.load_default(size=24)
_LINE = sum(_FONT.getmetrics()) + 4  # pixels from one line of text to the next
_MARGIN = 12  # pixels around the text


@dataclass(frozen=True)
class Picture:
    """A drawing in a run's networks/, and what its name says: the score is in the run's metric."""

    path: Path
    epoch: int
    step: int
    score: float


def main(argv: list[str] | None = None) -> int:
    """Make the GIF that the flags ask for; returns the exit status, 0 or 2."""
    return guarded(lambda: print(f"wrote {animate(**_flags(argv))}"))


def _flags(argv: list[str] | None) -> dict[str, Any]:
    parser = Parser("Make a GIF of a search out of the pictures that its run left.")
    parser.add_argument("--model_name", metavar="RUN", help="the run: its name in log_dir, or its path")
    parser.add_argument("--output", metavar="FILE.gif", help="where the GIF goes")
    parser.add_argument("--max_frame", type=int, metavar="N", help="most frames, evenly spaced (default: 20)")
    parser.add_argument("--title", metavar="TEXT", help="a line above every frame (default: none)")
    parser.add_argument("--fps", type=float, metavar="F", help="frames a second (default: 2)")
    parser.add_argument("--log_dir", metavar="DIR", help="where run folders lie (default: logs)")
    given = parser.given(argv)
    for name in ("model_name", "output"):
        if name not in given:
            raise UserError(f"--{name} is missing; usage: generate_gif.py --model_name=RUN --output=FILE.gif")
    return given


def animate(
    model_name: str | Path,
    output: str | Path,
    *,
    max_frame: int = 20,
    title: str = "",
    fps: float = 2.0,
    log_dir: str | Path = "logs",
) -> Path:
    """Make a GIF, which repeats for ever, of the pictures in a run's networks/, in order of epoch and step.

    The file is written whole or not at all; a missing folder is made. The last frame lasts three times as long.

    Args:
        model_name: the run: its name in `log_dir`, or its path.
        output: where the GIF goes; ends in .gif.
        max_frame: with more pictures than this, that many are taken, evenly spaced, the first and the last among
            them; of one, the last.
        title: a line above every frame.
        fps: frames a second, at most 50.
        log_dir: where run folders lie.

    Returns:
        `output`.

    Raises:
        UserError: an argument is wrong, there is no such run, it has no pictures, one of them is damaged, or `output`
            cannot be written.
    """
    output = Path(output)
    if output.suffix.lower() != ".gif":
        raise UserError(f"output is {output}; its name must end in .gif")
    if max_frame < 1:
        raise UserError(f"max_frame is {max_frame}; it must be at least 1")
    if not 0 < fps <= 50:  # viewers slow down what is faster
        raise UserError(f"fps is {fps}; it must lie in (0, 50]")
    folder = find_run(model_name, log_dir, "model_name")
    pictures = select(find_pictures(folder), max_frame)
    content = encode(render(pictures, saved_config(folder).space.metric.name, title), fps)
    with atomic_write(output) as file:
        file.write(content)
    return output


def find_pictures(folder: Path) -> list[Picture]:
    """The pictures of the run in `folder`, see `pictures_of`; UserError, saying why, when there are none."""
    networks = folder / "networks"
    pictures = [_picture(path) for path in pictures_of(folder) if _NAME.fullmatch(path.stem)]
    if pictures:
        return pictures
    if any(networks.glob("*.dot")):
        raise UserError(
            f"{networks}: its pictures are still .dot files, because Graphviz was missing when the run drew them; "
            "install Graphviz, then make each a picture: dot -Tpng NAME.dot -o NAME.png"
        )
    raise UserError(f"{networks}: no pictures; a run draws one, EPOCH-STEP-SCORE-best.png, whenever it derives")


def _picture(path: Path) -> Picture:
    epoch, step, score, _ = path.stem.split("-")
    return Picture(path, int(epoch), int(step), float(score))


def select(pictures: Sequence[Picture], max_frame: int) -> list[Picture]:
    """At most `max_frame` of the pictures, evenly spaced, the first and the last included; of one, the last."""
    if len(pictures) <= max_frame:
        return list(pictures)
    if max_frame == 1:
        return [pictures[-1]]
    return [pictures[index * (len(pictures) - 1) // (max_frame - 1)] for index in range(max_frame)]


def render(pictures: Sequence[Picture], metric: str, title: str = "") -> list[np.ndarray]:
    """The frames: each picture centred under a header with the title, the epoch, the step and the score.

    All are scaled by the same factor, so that boxes keep their size from frame to frame; the longest side of a frame
    is at most `LONGEST_SIDE`.

    Returns:
        one frame a picture, [height, width, 3], bytes.

    Raises:
        UserError: a picture cannot be read.
    """
    status = [status_line(picture, metric) for picture in pictures]
    header = _MARGIN + _LINE * (2 if title else 1)
    drawings = [open_picture(picture.path) for picture in pictures]
    width, height = (max(drawing.size[side] for drawing in drawings) for side in (0, 1))
    factor = min(1, LONGEST_SIDE / width, (LONGEST_SIDE - header) / height)
    text_width = round(max(map(_FONT.getlength, [title, *status])))
    canvas = (max(round(width * factor), text_width + 2 * _MARGIN), header + round(height * factor))
    # The status starts at the same place in every frame, so that it does not shift when digits change.
    left = (canvas[0] - max(map(_FONT.getlength, status))) / 2

    frames = []
    for drawing, line in zip(progress_bar(drawings, "frames"), status, strict=True):
        frame = Image.new("RGB", canvas, "white")
        draw = ImageDraw.Draw(frame)
        draw.text((canvas[0] / 2, _MARGIN), title, "black", _FONT, anchor="ma")
        draw.text((left, header - _LINE), line, "black", _FONT)
        scaled = drawing.resize([max(1, round(side * factor)) for side in drawing.size], Image.Resampling.LANCZOS)
        frame.paste(scaled, ((canvas[0] - scaled.width) // 2, header), scaled)
        frames.append(np.asarray(frame))
    return frames


def status_line(picture: Picture, metric: str) -> str:
    """The line above a picture: its epoch, step and score."""
    return f"epoch {picture.epoch}   step {picture.step}   {metric} {format_score(picture.score)}"


def open_picture(path: Path) -> Image.Image:
    """The picture in a PNG file with its transparency, which `paste` takes as its mask.

    Raises:
        UserError: it is not a PNG.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as a PNG ({error}); remove it, or draw it again") from None


def encode(frames: Sequence[np.ndarray], fps: float) -> bytes:
    """The frames [height, width, 3] as a GIF that repeats for ever."""
    duration = 10 * round(100 / fps)  # milliseconds, in the steps that a GIF knows
    last = LAST_FRAME_HOLDS * duration
    # Pillow takes no list of one.
    durations = [duration] * (len(frames) - 1) + [last] if len(frames) > 1 else last
    return imageio.imwrite("<bytes>", np.stack(frames), extension=".gif", plugin="pillow", duration=durations, loop=0)

"""A GIF of a search: the architectures that a run derived, in order.

from enas.report.animation import animate
animate("ptb_orig_2026-11-24_12-00-00", "search.gif")
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from enas.errors import UserError
from enas.files import atomic_write
from enas.runs.final import pictures_of
from enas.runs.folder import find_run, saved_config
from enas.search.record import format_score, progress_bar

LONGEST_SIDE = 1000  # pixels
LAST_FRAME_HOLDS = 3  # times as long as the others

_NAME = re.compile(r"(\d+)-(\d+)-(\d+(?:\.\d+)?(?:e\+\d+)?|inf|nan)-best")
_FONT: Any = ImageFont.load_default(size=24)
_LINE = sum(_FONT.getmetrics()) + 4  # pixels from one line of text to the next
_MARGIN = 12  # pixels around the text


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
    UserError for a wrong argument, for no such run, no pictures or a damaged one, or when `output` cannot be written.

    Args:
        model_name: the run: its name in `log_dir`, or its path; if empty, the newest run.
        output: where the GIF goes, which is returned; ends in .gif.
        max_frame: see `select`.
        title: a line above every frame.
        fps: frames a second, at most 50.
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
    first, *others = render(pictures, saved_config(folder).space.metric.name, title)
    duration = 10 * round(100 / fps)  # milliseconds, in the steps that a GIF knows
    durations = [duration] * len(others) + [LAST_FRAME_HOLDS * duration]
    held = durations if others else durations[0]  # Pillow takes no list of one
    with atomic_write(output) as file:
        first.save(file, "GIF", save_all=True, append_images=others, duration=held, loop=0)
    return output


def find_pictures(folder: Path) -> list[Path]:
    """The pictures of the run in `folder`, see `pictures_of`; UserError, saying why, when there are none."""
    networks = folder / "networks"
    if pictures := [path for path in pictures_of(folder) if _NAME.fullmatch(path.stem)]:
        return pictures
    if any(networks.glob("*.dot")):
        raise UserError(
            f"{networks}: its pictures are still .dot files, because Graphviz was missing when the run drew them; "
            "install Graphviz, then make each a picture: dot -Tpng NAME.dot -o NAME.png"
        )
    raise UserError(f"{networks}: no pictures; a run draws one, EPOCH-STEP-SCORE-best.png, whenever it derives")


def select(pictures: Sequence[Path], max_frame: int) -> list[Path]:
    """At most `max_frame` of the pictures, evenly spaced, the first and the last included; of one, the last."""
    num = min(len(pictures), max_frame)
    return [*(pictures[index * (len(pictures) - 1) // (num - 1)] for index in range(num - 1)), pictures[-1]]


def render(pictures: Sequence[Path], metric: str, title: str = "") -> list[Image.Image]:
    """The frames: each picture centred under a header with the title, the epoch, the step and the score.

    All are scaled by the same factor, so that boxes keep their size from frame to frame; the longest side of a frame
    is at most `LONGEST_SIDE`. UserError when a picture cannot be read.
    """
    status = [status_line(picture, metric) for picture in pictures]
    header = _MARGIN + _LINE * (2 if title else 1)
    drawings = [open_picture(picture) for picture in pictures]
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
        frames.append(frame)
    return frames


def status_line(picture: Path, metric: str) -> str:
    """The line above a picture: its epoch, step and score, which its name says."""
    epoch, step, score, _ = picture.stem.split("-")
    return f"epoch {int(epoch)}   step {int(step)}   {metric} {format_score(float(score))}"


def open_picture(path: Path) -> Image.Image:
    """The picture in a PNG file with its transparency, which `paste` takes as its mask; UserError for another file."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as a PNG ({error}); remove it, or draw it again") from None

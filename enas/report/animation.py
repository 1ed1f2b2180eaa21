"""A GIF of a search: the architectures that a run derived, one an epoch, in order."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from enas.errors import UserError
from enas.files import MOST_PIXELS, atomic_write, opened, reading
from enas.runs.final import pictures_of
from enas.runs.folder import find_run
from enas.settings import SEARCHES, place
from enas.terminal import progress_bar

LONGEST_SIDE = 1000  # pixels
LAST_FRAME_HOLDS = 2000  # milliseconds, at least


def animate(
    model_name: str | Path, output: str | Path, *, max_frame: int = 20, fps: float = 1.0, log_dir: str | Path = "logs"
) -> Path:
    """Make a GIF, which repeats for ever, of the pictures in a run's networks/, one an epoch; return `output`.

    The last frame lasts at least two seconds. UserError for a wrong argument, for no such run, no pictures or a damaged
    one, or when `output`, which ends in .gif, cannot be written.
    """
    output = Path(place(output, "output"))
    if output.suffix.lower() != ".gif":
        raise UserError(f"output is {output}; its name must end in .gif")
    if max_frame < 1:
        raise UserError(f"max_frame is {max_frame}; it must be at least 1")
    if not 0 < fps <= 50:  # viewers slow down what is faster
        raise UserError(f"fps is {fps}; it must lie in (0, 50]")
    pictures = find_pictures(find_run({"model_name": model_name, "log_dir": log_dir}, SEARCHES, "model_name"))
    first, *others = render(select(pictures, max_frame))
    duration = 10 * round(min(100 / fps, 65_535))  # milliseconds, in the steps, and up to the most, that a GIF knows
    last = max(LAST_FRAME_HOLDS, duration)
    durations = [duration] * len(others) + [last] if others else last  # Pillow takes no list of one
    with atomic_write(output) as file:
        first.save(file, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return output


def find_pictures(folder: Path) -> list[Path]:
    """Return the pictures of the run in `folder`, see `pictures_of`; UserError, saying why, when there are none."""
    if pictures := pictures_of(folder):
        return pictures
    why = "no pictures; a run draws one, EPOCH-STEP-SCORE-best.png, whenever it derives"
    if any(folder.glob("networks/*.dot")):
        why = "its pictures are .dot files: Graphviz was missing; make each a PNG by dot -Tpng NAME.dot -o NAME.png"
    raise UserError(f"{folder / 'networks'}: {why}")


def select(pictures: Sequence[Path], max_frame: int) -> list[Path]:
    """Return at most `max_frame` of the pictures, evenly spaced, the first and the last included; of one, the last."""
    num = min(len(pictures), max_frame)
    return [*(pictures[index * (len(pictures) - 1) // (num - 1)] for index in range(num - 1)), *pictures[-1:]]


def render(pictures: Sequence[Path]) -> list[Image.Image]:
    """Return the frames: each picture, which says its epoch and score, centred at the top.

    All are scaled by the same factor, so that boxes keep their size from frame to frame; the longest side of a frame
    is at most `LONGEST_SIDE`. UserError when a picture cannot be read.
    """
    drawings = [open_picture(picture) for picture in pictures]
    width, height = (max(drawing.size[side] for drawing in drawings) for side in (0, 1))
    factor = min(1, LONGEST_SIDE / width, LONGEST_SIDE / height)
    canvas = (max(1, round(width * factor)), max(1, round(height * factor)))
    frames = []
    for drawing in progress_bar(drawings, "frames"):
        frame = Image.new("RGB", canvas, "white")
        scaled = drawing.resize([max(1, round(side * factor)) for side in drawing.size], Image.Resampling.LANCZOS)
        frame.paste(scaled, ((canvas[0] - scaled.width) // 2, 0))
        frames.append(frame)
    return frames


def open_picture(file: Path | BinaryIO) -> Image.Image:
    """Return the picture in a PNG file, on white where it is transparent; UserError for another file."""
    with (
        reading(file),
        opened(file) if isinstance(file, Path) else file as content,
        Image.open(content, formats=["PNG"]) as image,
    ):
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width:,} × {image.height:,} pixels")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")

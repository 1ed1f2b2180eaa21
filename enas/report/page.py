"""The page: figures and tables put into a template."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from enas.errors import UserError
from enas.files import atomic_write
from enas.pictures.plots import png_of
from enas.report import figures
from enas.report.animation import open_picture, select
from enas.report.record import read_ablations, read_evaluations, read_runs, settings_table
from enas.search.record import format_score

# So that a page about two runs stays below 1 MB.
FRAMES = 12  # pictures of architectures, divided among the runs
WIDTH = 1000  # pixels
COLOURS = 128


def report(
    load_path: Sequence[str | Path] | str | Path,
    output: str | Path,
    *,
    log_dir: str | Path = "logs",
    results_dir: str | Path = "analysis_results",
) -> Path:
    """Write a page about runs, which needs nothing but a browser: no network, no other file.

    It begins with a sentence on each run, and shows the curves, the architecture over time, the controller's
    probabilities, the ablations and evaluations that belong to the runs, and the settings that differ from the default.
    UserError when there is no such run, it has no results yet, or `output` cannot be written.

    Args:
        load_path: a run or several, searches or from scratch: names in `log_dir` or paths; if empty, the newest run.
        output: where the page goes, which is returned; ends in .html. A page that is there is replaced.
        results_dir: where ablations and evaluations lie.
    """
    output = Path(output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"output is {output}; its name must end in .html")
    records = read_runs([load_path] if isinstance(load_path, str | Path) else load_path or [""], log_dir)
    environment = Environment(
        loader=PackageLoader("enas.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "score": lambda value: "–" if value is None else format_score(value),
        "count": lambda value: f"{value:,}" if isinstance(value, int) else "–",
        "inline": _inline,
    }
    page = environment.get_template("page.html").render(
        title=", ".join(record.name for record in records),
        records=records,
        frames=[select(record.pictures, max(1, FRAMES // len(records))) for record in records],
        settings=settings_table(records),
        curves=figures.curves(records),
        comparisons=[figures.comparison(record) for record in records],
        ablations=read_ablations(records, Path(results_dir)),
        evaluations=read_evaluations(records, Path(results_dir)),
    )
    with atomic_write(output) as file:
        file.write(page.encode())
    return output


def _inline(picture: Path | Figure) -> str:
    """Return a picture of few colours as an address that holds all of it; UserError for a file that is no PNG."""
    image = open_picture(picture if isinstance(picture, Path) else io.BytesIO(png_of(picture)))
    image.thumbnail((WIDTH, 4 * WIDTH))
    content = io.BytesIO()
    image.quantize(COLOURS, Image.Quantize.FASTOCTREE).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"

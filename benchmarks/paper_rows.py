"""Write and read the rows of `benchmarks.paper_scale`, and print them as Markdown tables."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas.files import finite

PUBLISHED = {300: 63.8}  # validation perplexity after so many epochs: Li & Talwalkar 2019, table 4


@dataclass(frozen=True)
class Rows:
    """A file with one row a line; each row names its piece, and says `facts`."""

    path: Path
    facts: dict[str, Any]

    def read(self, piece: str = "") -> list[dict[str, Any]]:
        """Return the rows so far, of one piece or of all."""
        lines = self.path.read_text().splitlines() if self.path.is_file() else ()
        rows = [json.loads(line) for line in lines if line.endswith("}")]  # a killed call leaves half a line
        return [row for row in rows if piece in ("", row["piece"])]

    def append(self, piece: str, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows of a piece."""
        with self.path.open("a") as file:
            file.writelines(json.dumps(finite({"piece": piece, **row, **self.facts})) + "\n" for row in rows)

    def new(self, piece: str, history: Sequence[dict[str, Any]], every: int) -> list[dict[str, Any]]:
        """Return the epochs of a run's history that should have a row, and have none.

        They are those in which a search compared its policy; of a training from scratch, one in `every`.
        """
        known, best, found = {row.get("epoch") for row in self.read(piece)}, math.inf, []
        for entry in history:
            score = entry.get("validation_perplexity") or math.inf
            best = min(best, score)
            is_due = "place" in entry or (score < math.inf and entry["epoch"] % every == 0)
            if is_due and entry["epoch"] not in known:
                found.append({**entry, "best": best})
        return found


def report_of(rows: Sequence[dict[str, Any]], pieces: Sequence[str]) -> str:
    """Return a line on where the rows were measured and what is missing, and a table of each kind of row."""
    tables: dict[str, list[str]] = {}
    newest = {row["piece"]: row for row in rows if "ended" in row}
    for row in (row for row in rows if newest.get(row["piece"], row) is row or "ended" not in row):
        head, line = _shown(row)
        tables.setdefault(head, ["", head, "|" + "---|" * (head.count("|") - 1)]).append(line)
    places = dict.fromkeys("{processor}, torch {torch}, commit {commit}".format(**row) for row in rows)
    missing = [name for name in pieces if not any(row["piece"] == name and row.get("ended") for row in rows)]
    first = f"Measured on {'; '.join(places) or 'nothing'}. Not measured to the end: {', '.join(missing) or 'nothing'}."
    return "\n".join([first, *(line for lines in tables.values() for line in lines)])


def _shown(row: dict[str, Any]) -> tuple[str, str]:
    """Return the head of the table that shows a row, and the row's line there."""
    if "milliseconds" in row:
        head = "| speed | precision | action | ms | quartiles | a second | peak MB |"
        cells = "{piece} | {precision} | {name} | {milliseconds} | {low}–{high} | {per_second:,.0f} {unit}"
        cells += " | {peak_megabytes:,}"
    elif "place" in row:
        head = "| search | epoch | derived | by | policy's median | uniform median | place | minutes |"
        cells = "{piece} | {epoch} | {score} | {compared_by} | {policy[median]:.4g} | {uniform[median]:.4g} | {place}"
        cells += " | {minutes}"
    elif "epoch" in row:
        head = "| from scratch | epochs | validation | best so far | published | minutes | weights rounded to bits |"
        cells = "{piece} | {epoch} | {score} | {best:.2f} | {published} | {minutes} | {rounded}"
    else:
        head = "| piece | precision | ended | epochs | of | minutes | test | note |"
        cells = "{piece} | {precision} | {ended} | {epochs} | {of} | {minutes} | {test_score} | {note}"
    score = row.get("validation_perplexity") or row.get("validation_accuracy")
    known = {
        "score": f"{score:.4g}" if score else "",
        "minutes": f"{row.get('wall_seconds', row.get('seconds', 0)) / 60:.1f}",
        "published": PUBLISHED.get(row.get("epoch", 0), ""),
        "epochs": "",
        "of": "",
        "test_score": f"{row['test']:.2f}" if row.get("test") else "",
        "rounded": [],
        "precision": "",
        **row,
    }
    for name in ("policy", "uniform"):  # JSON has null for a median that is not finite
        known[name] = {key: math.nan if one is None else one for key, one in row.get(name, {}).items()}
    return head, f"| {cells.format(**known)} |"

"""Where the loop says what it does: nowhere, unless a run gives it a logbook (`enas.runs.logbook`)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

LARGEST_WRITTEN_OUT = 1e6


def format_score(score: float) -> str:
    """A score as messages show it: perplexities need two decimals, accuracies in 0 … 1 need four."""
    if score >= LARGEST_WRITTEN_OUT:
        return f"{score:.3g}"
    return f"{score:.{2 if score > 1 else 4}f}"


class NoLogbook:
    """Writes nothing: for tests, benchmarks, and notebooks that want only the result.

    Attributes:
        output_files: files that the run has written, by kind.
    """

    def __init__(self) -> None:
        self.output_files: dict[str, Path] = {}

    def info(self, line: str) -> None:
        """Nothing."""

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Nothing."""

    def derived(self, architecture: Any, name: str, title: str, step: int) -> None:
        """Nothing."""

    def policy(self, space: Any, decisions: list[Any], derived: Any, warm_up_epochs: int, step: int) -> None:
        """Nothing."""

    def results(self, results: dict[str, Any]) -> None:
        """Nothing."""

    def progress(self, steps: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
        """`steps`, bare."""
        return steps

    def close(self) -> None:
        """Nothing."""


def progress_bar(steps: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
    """A tqdm bar on stderr, hidden where stderr is not a terminal."""
    return tqdm(steps, total=total, desc=description, leave=False, disable=None, dynamic_ncols=True)

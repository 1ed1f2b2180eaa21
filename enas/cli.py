"""The command line: flags in, one line on stderr and a status out."""

import sys
from collections.abc import Callable

from enas import run
from enas.config import parse_flags
from enas.trainer import Interrupted, TrainingDivergedError

BAD_INPUT = 2
DIVERGED = 1


def main(argv: list[str] | None = None) -> int:
    """Search as the flags say; returns the exit status: 0, 2 for bad input, 130 or 143 when stopped by a signal."""
    return guarded(lambda: run.execute(parse_flags(sys.argv[1:] if argv is None else argv, "Search with ENAS.")))


def guarded(action: Callable[[], object]) -> int:
    """Run `action`; what a user can get wrong ends in one line on stderr, not in a traceback."""
    try:
        action()
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.status
    except TrainingDivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return DIVERGED
    except (ValueError, OSError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return 130
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'system'}: {error.strerror}"
    return " ".join(str(error).split())

"""The parser of every command line, and how each command reports errors."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from enas.allocator import keep_memory
from enas.errors import Interrupted, RankLostError, TrainingDivergedError, UserError, did_you_mean

BAD_INPUT = 2  # exit statuses
DIVERGED = 1
RANK_LOST = 3


class Parser(argparse.ArgumentParser):
    """Argument parser that raises UserError where argparse would print its usage; absent flags have no value."""

    def __init__(self, description: str, **settings: Any):
        super().__init__(description=description, allow_abbrev=False, argument_default=argparse.SUPPRESS, **settings)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")

    def given(self, argv: list[str] | None = None) -> dict[str, Any]:
        """The values of the flags in `argv`; UserError for a wrong value or an unknown flag, with the nearest one."""
        known, unknown = self.parse_known_args(sys.argv[1:] if argv is None else argv)
        for word in unknown:
            if not word.strip():
                continue  # a backslash followed by a space at the end of a line gives this argument
            flag = word.split("=")[0]
            if flag.startswith("--"):
                raise UserError(f"unknown flag {flag}{did_you_mean(flag, self._option_string_actions)}")
            raise UserError(f"unexpected argument {word!r}; settings are given as --name value")
        return vars(known)


def _say(line: str) -> None:
    """Print what ends all processes of torchrun on this machine alike, once."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(line, file=sys.stderr)


def _leave_word(line: str) -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1":
        from enas.search.ranks import leave_word  # loads torch, which not every command needs

        leave_word(line)


def guarded(action: Callable[[], object]) -> int:
    """Run `action` and report expected errors in one line on stderr. Returns the exit status.

    0 for success, 2 for a UserError, 1 for divergence, 3 for a lost process of several, 130 or 143 for a signal. Other
    exceptions keep their traceback.
    """
    keep_memory()
    try:
        action()
    except UserError as error:
        line = " ".join(str(error).split())
        _say(f"error: {line}")
        _leave_word(line)
        return BAD_INPUT
    except TrainingDivergedError as error:
        _say(f"error: {error}")
        return DIVERGED
    except RankLostError as error:
        print(f"error: {error}", file=sys.stderr)
        return RANK_LOST
    except Interrupted as stop:
        _say(str(stop))
        return stop.status
    except KeyboardInterrupt:
        return 130
    return 0

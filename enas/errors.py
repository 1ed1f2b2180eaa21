"""The errors that end a command in one line and with their `status`. Any other is a bug, and keeps its traceback."""

import difflib
import errno
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Something the user can mend. The text names it, says what is wrong, and what would be right."""

    status = 2


class NotFoundError(UserError, FileNotFoundError):
    """A file, a dataset or a run that does not exist."""


class TrainingDivergedError(RuntimeError):
    """Losses stayed non-finite after several returns to the last checkpoint with half the learning rate."""

    status = 1


class RankLostError(RuntimeError):
    """Another process of a run on several processes ended, or did not answer in time."""

    status = 3


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP came. `status` is 128 + its number: 130, 143 or 129."""

    def __init__(self, signum: int, text: str):
        super().__init__(f"stopped by {signal.Signals(signum).name}; {text}")
        self.status = 128 + signum


@contextmanager
def refusing(line: Callable[[OSError], str]) -> Iterator[None]:
    """Turn an OSError inside the block into a UserError, or NotFoundError, with the text that `line` makes of it."""
    try:
        yield
    except UserError:  # a NotFoundError is an OSError too
        raise
    except FileNotFoundError as error:
        raise NotFoundError(line(error)) from error
    except OSError as error:
        raise UserError(line(error)) from error


Expected = UserError | TrainingDivergedError | RankLostError | Interrupted


def in_one_line(error: BaseException) -> Expected | None:
    """Return the error that a command reports instead of a traceback; None for a bug, whose traceback is needed."""
    if isinstance(error, Expected):
        return error
    if is_out_of_memory(error):
        return UserError("out of memory; smaller sizes need less: batch_size, units or filters, nodes or layers")
    if isinstance(error, UnicodeError):  # of a name, an argument or standard input
        return UserError(f"a text from outside is not UTF-8 ({error})")
    if getattr(error, "errno", 0) in (errno.EMFILE, errno.ENFILE) or "Too many open files" in str(error):
        return UserError("too many files are open; raise the limit with ulimit -n")
    if "DataLoader worker" in str(error) or type(error).__name__ == "TerminatedWorkerError":
        return UserError("a process of this command was ended from outside, perhaps for lack of memory; start it again")
    if isinstance(error, OSError):
        return UserError(f"{error.filename or 'the system'}: {error.strerror or error}; mend this, or name another one")
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether Python, torch or a GPU had no memory left."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # The words of torch on a CPU, of cuBLAS, and of Python when there is no room for a new thread.
    words = "allocate memory|enough memory|out of memory|bad_alloc|overflowed|ALLOC_FAILED|start new thread"
    return isinstance(error, RuntimeError) and re.search(words, str(error)) is not None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known name, or nothing if none is near."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""

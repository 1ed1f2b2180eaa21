"""How every command begins and ends: its streams, its signals and its errors. Loads little: Ctrl-C may come at once."""

import io
import os
import pkgutil
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enas.errors import Interrupted, RankLostError, UserError, in_one_line, refusing

LONGEST_LINE = 2000  # letters of an error


class _Patient(io.FileIO):
    """A stream of the process that goes on when nobody takes its output: a closed pipe or terminal, a full disk."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(content)


def _keep_streams() -> None:
    """Let no trouble with stdout or stderr end the process; a letter that one of them does not know is replaced."""
    for number, name in enumerate(("stdout", "stderr"), start=1):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):  # the caller's own, not the one of the process
            continue
        raw = _Patient(number if stream else os.devnull, "w", closefd=not stream)
        settings = {"encoding": stream.encoding, "line_buffering": stream.line_buffering} if stream else {}
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), errors="replace", **settings))


def guarded(action: Callable[[], object]) -> int:
    """Run `action`, report expected errors in one line on stderr, and return the exit status, see `enas.errors`."""
    if sys.platform == "win32":
        print("error: this program runs on Linux and macOS; on Windows, run it in WSL", file=sys.stderr)
        return UserError.status
    from enas.signals import handled  # knows signals that Windows lacks

    try:
        with handled(_stop):
            _keep_streams()
            with refusing(lambda error: "the working folder is gone; begin in another one"):
                Path.cwd()  # libraries that torch loads end the process without it
            os.environ.pop("MPLBACKEND", None)  # a notebook's names a module of its own; no command shows a figure
            from enas.allocator import keep_memory

            keep_memory()
            action()
    except Exception as trouble:
        error = in_one_line(trouble)
        line = " ".join(str(error or repr(trouble)).split())
        line = line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 2 :]}"
        if os.environ.get("WORLD_SIZE", "1") != "1" and not isinstance(error, RankLostError):
            from enas.search.ranks import leave_word  # loads torch, which not every command needs

            leave_word(line)
        if error is None:
            raise
        # The processes of torchrun on this machine end alike, and one of them says so, unless they lost another one.
        if os.environ.get("LOCAL_RANK", "0") == "0" or isinstance(error, RankLostError):
            print(line if isinstance(error, Interrupted) else f"error: {line}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt as stopped:
        return _stopped(*stopped.args or (signal.SIGINT,))
    return 0


def loaded(name: str) -> Callable[..., Any]:
    """Import the function "module:name"; a signal ends the process at once, as imports lose exceptions now and then."""
    from enas.signals import handled

    with handled(lambda signum, _: (signal.signal(signum, signal.SIG_DFL), os._exit(_stopped(signum)))):
        return pkgutil.resolve_name(name)


def _stop(signum: int, _frame: object) -> None:
    """End the command by an exception, so that nothing half-written is left."""
    signal.signal(signum, signal.SIG_DFL)
    raise KeyboardInterrupt(signum)


def _stopped(signum: int) -> int:
    sys.stdout.flush()
    if os.environ.get("LOCAL_RANK", "0") == "0":
        launcher = "torchrun … " if os.environ.get("WORLD_SIZE", "1") != "1" else ""
        again = f"{launcher}{shlex.join(sys.orig_argv)}"
        print(f"stopped by {signal.Signals(signum).name}; to run it again: {again}", file=sys.stderr, flush=True)
    return 128 + signum

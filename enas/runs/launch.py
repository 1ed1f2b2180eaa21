"""What torchrun began, and begins again: a run that it restarts goes on where it was."""

import os
import socket
from pathlib import Path

from enas.errors import UserError
from enas.files import read_json, write_json
from enas.search.ranks import num_processes

LAUNCH = "torchrun.json"


def is_launched() -> bool:
    """Whether torchrun began this process together with others."""
    return num_processes() > 1


def is_restart() -> bool:
    """Whether torchrun begins the processes once more, after one of them ended too early."""
    return is_launched() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def mark_launch(folder: Path) -> None:
    """Write into a run folder which torchrun the run belongs to, where there is one."""
    if is_launched():
        write_json(folder / LAUNCH, {"launch": _launch()})


def run_of_launch(log_dir: Path) -> Path | None:
    """The newest run of this torchrun that has a checkpoint; None where there is none."""
    marks = sorted(log_dir.glob(f"*/{LAUNCH}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for mark in marks:
        if read_json(mark).get("launch") == _launch() and any(mark.parent.glob("checkpoints/*.pt")):
            return mark.parent
    return None


def check_not_launched(command: str) -> None:
    """Raise UserError where torchrun began this process together with others, which `command` cannot use."""
    if is_launched():
        raise UserError(f"{command} runs in one process; leave torchrun out")


def _launch() -> str:
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    # Without an id of its own, a torchrun is known by its process, the parent of all that it begins.
    return name if name != "none" else f"{socket.gethostname()} {os.getppid()}"

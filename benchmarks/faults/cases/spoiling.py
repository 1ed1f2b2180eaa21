"""What spoils a file or a folder of a trial."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Spoil = Callable[[Path], object]


def found(folder: Path, pattern: str) -> Path:
    """Return the last path in a folder that fits a pattern."""
    return folder if pattern == "." else max(folder.glob(pattern))


def all_of(*spoils: Spoil) -> Spoil:
    """Return the spoils, one after the other."""
    return lambda folder: [spoil(folder) for spoil in spoils]


def content(pattern: str, change: Callable[[bytes], bytes]) -> Spoil:
    """Change the content of a file."""

    def spoil(folder: Path) -> None:
        path = found(folder, pattern)
        path.write_bytes(change(path.read_bytes()))

    return spoil


def text(name: str, value: str | bytes) -> Spoil:
    """Write a file."""

    def spoil(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value.encode() if isinstance(value, str) else value)

    return spoil


def program(name: str, lines: str) -> Spoil:
    """Put a program into bin/, which an environment can name first in PATH."""

    def spoil(folder: Path) -> None:
        text(f"bin/{name}", f"#!/bin/sh\n{lines}\n")(folder)
        (folder / "bin" / name).chmod(0o755)

    return spoil


def removed(pattern: str) -> Spoil:
    """Remove a file or folder."""

    def spoil(folder: Path) -> None:
        path = found(folder, pattern)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    return spoil


def as_folder(pattern: str) -> Spoil:
    """Put a folder where a file was."""

    def spoil(folder: Path) -> None:
        path = found(folder, pattern)
        path.unlink()
        path.mkdir()

    return spoil


def as_fifo(pattern: str) -> Spoil:
    """Put a FIFO, which nobody writes into, where a file was."""

    def spoil(folder: Path) -> None:
        path = found(folder, pattern)
        path.unlink()
        os.mkfifo(path)

    return spoil


def as_link(pattern: str, target: str) -> Spoil:
    """Put a symbolic link where a file was."""

    def spoil(folder: Path) -> None:
        path = found(folder, pattern)
        path.unlink()
        path.symlink_to(target)

    return spoil


def edited(pattern: str, change: Callable[[Any], Any]) -> Spoil:
    """Change a JSON file; `change` changes its content in place, or returns another one."""

    def spoil(folder: Path) -> None:
        path = found(folder, pattern)
        data = json.loads(path.read_text(encoding="utf-8"))
        changed = change(data)
        path.write_text(json.dumps(data if changed is None else changed), encoding="utf-8")

    return spoil


def state(change: Callable[[dict], Any], pattern: str = "logs/*/checkpoints/*.pt") -> Spoil:
    """Change all checkpoints of a run, which stay files of torch with right checksums."""

    def spoil(folder: Path) -> None:
        for path in folder.glob(pattern):
            data = torch.load(path, weights_only=True)
            changed = change(data)
            torch.save(data if changed is None else changed, path)
            assert zipfile.is_zipfile(path)

    return spoil


def mode(pattern: str, bits: int) -> Spoil:
    """Set the permissions of a file or folder."""
    return lambda folder: found(folder, pattern).chmod(bits)

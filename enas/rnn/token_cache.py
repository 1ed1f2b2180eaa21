"""The token ids of a large text as files beside it, written once and then mapped into memory."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from enas.data.identity import BYTES, digest
from enas.files import atomic_folder

FROM = 20_000_000  # bytes of text from which on a cache is worth its place
META = "meta.json"
Encode = Callable[[Mapping[str, IO[bytes]]], dict[str, Any]]


def cached(
    folder: Path, settings: Mapping[str, Any], files: Mapping[str, Path], encode: Encode
) -> dict[str, Any] | None:
    """What `encode` makes of a text, from the cache where it is there and fits.

    Args:
        folder: the cache, which is made; another text or other settings replace it.
        settings: what else the numbers depend on, JSON-ready.
        files: split -> text.
        encode: writes the int32 token ids of each split to the file that it is given, which it may read again, and
            returns what else there is to know, JSON-ready.

    Returns:
        what `encode` returned, and for each split its tokens, int32 [tokens]; None where nothing can be written.

    Raises:
        UserError: as `encode`.
    """
    key = {**settings, "sources": {split: _digest(path) for split, path in files.items()}}
    found = _load(folder, key, files)
    if found is None:
        with suppress(OSError), atomic_folder(folder, replace=True) as made:
            _write(made, key, files, encode)
        found = _load(folder, key, files)
    return found


def _write(folder: Path, key: dict[str, Any], splits: Iterable[str], encode: Encode) -> None:
    with ExitStack() as opened:
        tokens = {split: opened.enter_context(open(folder / f"{split}.i32", "w+b")) for split in splits}
        content = encode(tokens)
        for file in tokens.values():
            _sync(file)
    meta = {"key": key, "content": content, "digests": _digests(folder, tokens, content)}
    with open(folder / META, "w+b") as file:
        file.write(json.dumps(meta).encode())
        _sync(file)


def _load(folder: Path, key: dict[str, Any], files: Mapping[str, Path]) -> dict[str, Any] | None:
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        if meta["key"] != key or meta["digests"] != _digests(folder, files, meta["content"]):
            return None
        # Pages are read when they are needed.
        numbers = {split: np.memmap(folder / f"{split}.i32", dtype=np.int32, mode="c") for split in files}
        return {**meta["content"], **{split: torch.from_numpy(each) for split, each in numbers.items()}}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _digests(folder: Path, splits: Iterable[str], content: dict[str, Any]) -> dict[str, str]:
    """What a cache holds: a power cut or a worn disk leaves files of the right name with other numbers."""
    return {
        **{split: _digest(folder / f"{split}.i32") for split in splits},
        META: digest(json.dumps(content).encode()),
    }


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=BYTES)).hexdigest()

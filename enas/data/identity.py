"""A dataset in a few digests: trained weights mean nothing on other data."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from enas.files import opened

READ = 2**16  # bytes of a file that its digest covers: all of most images, without reading a large dataset whole
BYTES = 16  # of a digest


@dataclass(frozen=True)
class Identity:
    """The facts that must be the same when trained weights are used again; `vars` gives the content of data.json."""

    kind: str  # "vocabulary" or "classes"
    names: tuple[str, ...]  # the meaning of each index of the data
    splits: dict[str, str]  # split -> digest of its content

    def short(self) -> dict[str, str]:
        """Return digests alone, one of the names among them."""
        return {self.kind: digest("\n".join(self.names).encode()), **self.splits}

    def changes_since(self, saved: dict[str, Any]) -> list[str]:
        """Return what differs from an identity that was saved, a phrase each."""
        names, splits = saved["names"], saved["splits"]
        if len(self.names) != len(names):  # splits hold indices into them, and differ then anyway
            return [f"its {self.kind} ({len(names):,} entries then, {len(self.names):,} now)"]
        for index, (old, new) in enumerate(zip(names, self.names, strict=True)):
            if old != new:
                return [f"its {self.kind} (entry {index} was {old!r} and is {new!r})"]
        return [f"the {name} split" for name, now in self.splits.items() if now != splits.get(name, now)]


UNKNOWN = Identity("names", (), {})


def identity_of(data: Any) -> Identity:
    """Return the identity of the data of a search space, which is UNKNOWN if the space gives none."""
    return getattr(data, "identity", UNKNOWN)


def digest(*parts: bytes | np.ndarray) -> str:
    """Return a digest of bytes and arrays, as hexadecimal text."""
    state = hashlib.blake2b(digest_size=BYTES)
    for part in parts:
        state.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)
    return state.hexdigest()


def digest_of_tensors(*tensors: Tensor) -> str:
    """Return a digest of the integers in tensors, whatever their width."""
    types = ["<i4" if tensor.element_size() > 1 else "u1" for tensor in tensors]
    return digest(*(x.cpu().numpy().astype(dtype, copy=False) for x, dtype in zip(tensors, types, strict=True)))


def digest_of_files(paths: Iterable[Path], root: Path) -> str:
    """Return a digest of files: their places under `root`, their sizes, and how they begin (the first `READ` bytes)."""
    state = hashlib.blake2b(digest_size=BYTES)
    for path in paths:
        with opened(path) as file:
            state.update(os.fsencode(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0"))
            state.update(file.read(READ))
    return state.hexdigest()

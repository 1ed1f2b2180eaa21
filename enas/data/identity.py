"""What a dataset is, in a few digests: what a model has learned means nothing on other data."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

READ = 2**16  # bytes of a file that its digest covers: all of most images, without reading a large dataset whole
BYTES = 16  # of a digest


@dataclass(frozen=True)
class Identity:
    """What must be the same when trained weights are used again."""

    kind: str  # "vocabulary" or "classes"
    names: tuple[str, ...]  # what each index of the data means
    digests: dict[str, str]  # split -> digest of its content

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"kind": self.kind, "names": list(self.names), "splits": self.digests}

    def short(self) -> dict[str, str]:
        """Digests alone, that of the names included."""
        return {self.kind: digest("\n".join(self.names).encode()), **self.digests}

    def changes_since(self, saved: dict[str, Any]) -> list[str]:
        """What differs from an identity that `to_dict` gave, a phrase each."""
        names, splits = saved["names"], saved["splits"]
        if len(self.names) != len(names):  # splits hold indices into them, and differ then anyway
            return [f"its {self.kind} ({len(names):,} entries then, {len(self.names):,} now)"]
        for index, (old, new) in enumerate(zip(names, self.names, strict=True)):
            if old != new:
                return [f"its {self.kind} (entry {index} was {old!r} and is {new!r})"]
        return [f"the {name} split" for name in self.digests if self.digests[name] != splits.get(name)]


def identity_of(data: Any) -> Identity:
    """The identity of what a search space loads; one without digests where the space knows none."""
    return getattr(data, "identity", Identity("names", (), {}))


def digest(*parts: bytes | np.ndarray) -> str:
    """A digest of bytes and arrays, as hexadecimal text."""
    state = hashlib.blake2b(digest_size=BYTES)
    for part in parts:
        state.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)
    return state.hexdigest()


def digest_of_tensors(*tensors: Tensor) -> str:
    """A digest of what tensors hold, integers whatever their width."""
    types = ["<i4" if tensor.element_size() > 1 else "u1" for tensor in tensors]
    return digest(*(x.cpu().numpy().astype(dtype, copy=False) for x, dtype in zip(tensors, types, strict=True)))


def digest_of_files(paths: Iterable[Path], root: Path) -> str:
    """A digest of files: their places under `root`, their sizes, and how they begin (the first `READ` bytes)."""
    state = hashlib.blake2b(digest_size=BYTES)
    for path in paths:
        with open(path, "rb") as file:
            state.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
            state.update(file.read(READ))
    return state.hexdigest()

"""The state of a run in few files of limited size, for machines that keep nothing from one call to the next."""

import functools
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enas.errors import UserError
from enas.files import atomic_write
from enas.search.checkpoint import Checkpoints, checkpoint_name, load_checkpoint
from enas.search.record import Progress

PARTS = 4  # files of a state: machines that give a folder back also limit the size of a file
BITS = (32, 16, 8)  # of a weight: 32 keeps it, 16 is bfloat16, and 8 are a whole number and a scale for each row


def carried(output: Path) -> str:
    """Return the name of the run whose state is in a folder; empty if there is none."""
    return next((path.name.split(".")[0] for path in sorted(output.glob(f"*.*of{PARTS}"))), "")


def pack(output: Path, name: str, folder: Path, roundings: list[int], limit: float) -> int | None:
    """Write the newest checkpoint of the run in `folder`, and its settings, as `name.1of4` and so on.

    Args:
        output: where the files go; those of an earlier state of `name` are replaced.
        name: of the run.
        folder: the run folder.
        roundings: the bits to which weights have been rounded so far.
        limit: MB that the files may have together.

    Returns:
        the bits of a weight in the files, as many of `BITS` as fit; None, and nothing is written, if none do.
    """
    state = Checkpoints(folder / "checkpoints").newest()[1]
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    for bits in BITS:
        now = roundings if bits == max(BITS) else [*roundings, bits]
        small = _weights_mapped(state, functools.partial(rounded, bits=bits))
        buffer = io.BytesIO()
        torch.save({"texts": texts, "roundings": now, "state": small}, buffer)
        content = buffer.getbuffer()
        if len(content) <= 1e6 * limit:
            size = -(-len(content) // PARTS)
            for number, path in enumerate(_paths(output, name)):
                with atomic_write(path) as file:
                    file.write(content[number * size : (number + 1) * size])
            return bits
    return None


def unpack(output: Path, name: str, folder: Path) -> list[int] | None:
    """Make `folder` the run folder that `pack` packed; return the bits of each rounding so far, None without files.

    UserError if a file is missing or damaged.
    """
    paths = _paths(output, name)
    if not any(path.is_file() for path in paths):
        return None
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: is missing; bring it back, or remove {name}.*of{PARTS} to begin {name} again")
    folder.mkdir(parents=True)
    with (folder / "packed").open("wb") as file:
        file.writelines(path.read_bytes() for path in paths)
    try:
        packed = load_checkpoint(folder / "packed")
    except UserError:
        raise UserError(f"{paths[0]}: damaged, or not of one state with the others; remove {name}.*of{PARTS}") from None
    (folder / "packed").unlink()
    for text_name, text in packed["texts"].items():
        (folder / text_name).write_text(text, encoding="utf-8")
    state = _weights_mapped(packed["state"], unrounded)
    progress = Progress(**state["progress"])
    Checkpoints(folder / "checkpoints").save(state, checkpoint_name(progress.epoch, progress.step))
    return packed["roundings"]


def remove(output: Path, name: str) -> None:
    """Remove the files of a run that has ended."""
    for path in _paths(output, name):
        path.unlink(missing_ok=True)


def rounded(weight: Tensor, bits: int) -> Any:
    """Return a weight of two or more dimensions with so many bits, for `unrounded`; any other tensor as it is."""
    if bits == max(BITS) or weight.dim() < 2 or not weight.is_floating_point():
        return weight
    if bits == 16:
        return weight.bfloat16()
    rows = weight.flatten(1)
    scale = rows.abs().amax(1, keepdim=True) / 127
    whole = (rows / scale.clamp_min(torch.finfo(scale.dtype).tiny)).round().to(torch.int8)
    return {"whole": whole.view_as(weight), "scale": scale}


def unrounded(weight: Any) -> Tensor:
    """Return the float32 weight that `rounded` wrote."""
    if isinstance(weight, dict):
        return (weight["whole"].flatten(1) * weight["scale"]).view_as(weight["whole"])
    return weight.float() if weight.dtype == torch.bfloat16 else weight


def _paths(output: Path, name: str) -> list[Path]:
    return [output / f"{name}.{number}of{PARTS}" for number in range(1, PARTS + 1)]


def _weights_mapped(state: dict[str, Any], function: Any) -> dict[str, Any]:
    """Return a checkpoint with `function` of the weights, and of their average; optimisers stay as they are."""
    made: dict[Any, Any] = {}

    def mapped(weights: dict[str, Any]) -> dict[str, Any]:
        for weight in weights.values():
            if (key := _key(weight)) not in made:
                made[key] = function(weight)
        return {name: made[_key(weight)] for name, weight in weights.items()}

    average = {"average": mapped(state["average"])} if state.get("average") else {}
    return {**state, "task": {**state["task"], "model": mapped(state["task"]["model"])}, **average}


def _key(weight: Any) -> Any:
    """Return the same key for tied weights, which are then written once."""
    return (weight.data_ptr(), weight.shape) if isinstance(weight, Tensor) else id(weight)

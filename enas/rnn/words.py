"""The tokens of a text file, piece by piece, so that neither a long file nor a long line is held in memory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tqdm import tqdm

from enas.errors import UserError, refusing

EOS = "<eos>"
UNKNOWN = "<unk>"
PIECE = 2**20  # bytes of a line that are read at once
WITH_BAR = 20_000_000  # bytes from which on a file takes so long to read that a bar is shown


def read_tokens(path: Path, unit: str) -> Iterator[tuple[list[str], bool]]:
    """Read the words of a file, or its characters if `unit` is "character", and an `<eos>` after each line.

    Yields one or more lists of tokens a line, each with whether the line ended in an `<eos>` of its own. UserError
    unless the file is UTF-8 text with line feeds.
    """
    with (
        refusing(lambda error: f"{path}: cannot be read ({error.strerror}); it must be a readable text file"),
        open(path, "rb") as file,
        _bar(path, file) as bar,
    ):
        last = ""  # token of the line
        for number, piece, ends_line in _pieces(file):
            text = _decode(piece, f"{path}, line {number}")
            tokens = text.split() if unit == "word" else list(text.rstrip("\r\n"))
            last = tokens[-1] if tokens else last
            has_own = ends_line and unit == "word" and last == EOS
            if ends_line and not has_own:
                tokens.append(EOS)
            last = "" if ends_line else last
            bar.update(len(piece))
            yield tokens, has_own


def _bar(path: Path, file: IO[bytes]) -> tqdm:
    size = os.fstat(file.fileno()).st_size
    name = f"{path.parent.name}: reading {path.stem}"
    return tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=size < WITH_BAR or None, leave=False)


def _pieces(file: IO[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """Lines, long ones in pieces that end at a blank: the line's number, the piece, and whether the line ends there."""
    number, kept = 1, None  # the last word of a line that goes on
    while read := file.readline(PIECE):
        piece = (kept or b"") + read
        if read.endswith(b"\n") or len(read) < PIECE:  # the end of the line, or of the file
            yield number, piece, True
            number, kept = number + 1, None
        else:
            whole, blank, kept = piece.rpartition(b" ")
            yield number, whole + blank, False
    if kept is not None:
        yield number, kept, True


def _decode(line: bytes, place: str) -> str:
    if b"\r" in line.removesuffix(b"\n").rstrip(b"\r"):
        raise UserError(f"{place}: has a carriage return inside; save the file with line feeds alone")
    if b"\0" in line:
        raise UserError(f"{place}: holds NUL characters, as UTF-16 read as UTF-8 does; save the file as UTF-8")
    try:
        # "-sig" drops the byte order mark that some editors put in front of the first word.
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(f"{place}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None

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
WITH_BAR = 20_000_000  # bytes of a file that takes so long to read that a bar is shown


class Words:
    """The words of a file, or its characters, and an `<eos>` after each line: lists of tokens, one or more a line.

    Args:
        path: the file.
        unit: "word" or "character".

    Attributes:
        brings_eos: whether a line that was read ended in an `<eos>` of its own.
    """

    def __init__(self, path: Path, unit: str):
        self.path = path
        self.unit = unit
        self.brings_eos = False

    def __iter__(self) -> Iterator[list[str]]:
        """Raises UserError for what is not UTF-8 text with line feeds, or cannot be read."""
        last = ""  # token of the line
        advice = "it must be a readable text file"
        with (
            refusing(lambda error: f"{self.path}: cannot be read ({error.strerror}); {advice}"),
            open(self.path, "rb") as file,
            self._bar(file) as bar,
        ):
            for number, piece, ends_line in _pieces(file):
                text = _decode(piece, f"{self.path}, line {number}")
                tokens = text.split() if self.unit == "word" else list(text.rstrip("\r\n"))
                last = tokens[-1] if tokens else last
                if ends_line and self.unit == "word" and last == EOS:
                    self.brings_eos = True
                elif ends_line:
                    tokens.append(EOS)
                if ends_line:
                    last = ""
                bar.update(len(piece))
                yield tokens

    def _bar(self, file: IO[bytes]) -> tqdm:
        size = os.fstat(file.fileno()).st_size
        name = f"{self.path.parent.name}: reading {self.path.stem}"
        return tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=size < WITH_BAR or None, leave=False)


def _pieces(file: IO[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """Lines, long ones in pieces that end at a blank: the line's number, the piece, and whether the line ends there."""
    number, kept, is_open = 1, b"", False
    while read := file.readline(PIECE):
        piece = kept + read
        if read.endswith(b"\n") or len(read) < PIECE:  # which is the end of the file
            yield number, piece, True
            number, kept, is_open = number + 1, b"", False
            continue
        whole, blank, kept = piece.rpartition(b" ")
        if blank:
            yield number, whole + blank, False
        is_open = True
    if is_open:
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

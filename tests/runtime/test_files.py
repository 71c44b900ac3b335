"""Files are complete or missing, even if their writer is killed; one process at a time holds a folder or a file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from taijitu_runtime.errors import FolderInUseError, WriteError
from taijitu_runtime.files import new_folder, put_in_place, replacing, write_whole
from taijitu_runtime.locks import lock_file, lock_folder
from tests.helpers.full_disk import full_disk

Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def started(root: Path) -> Iterator[Started]:
    """Return a function that starts Python code in a process of its own, and waits for its first line."""
    with contextlib.ExitStack() as stack:

        def start(code: str, *arguments: object) -> subprocess.Popen[str]:
            imports = "import os, sys, time\nfrom pathlib import Path\n"
            imports += "from taijitu_runtime.files import *\nfrom taijitu_runtime.locks import *\n"
            process = subprocess.Popen(
                [sys.executable, "-c", imports + code, *map(str, arguments)],
                env=os.environ | {"PYTHONPATH": str(root / "runtime")},
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            return process

        yield start


HALF_WRITTEN = """
def half(stream):
    stream.write(b"half")
    stream.flush()
    print("ready", flush=True)
    time.sleep(600)
write_whole(Path(sys.argv[1]), half)
"""
HALF_WRITTEN_FOLDER = """
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""
HOLDS = """
with lock_folder(Path(sys.argv[1]), "the test"):
    print("ready", flush=True)
    sys.stdin.read() if len(sys.argv) < 3 else time.sleep(600)
"""


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_cleans_up(started: Started, tmp_path: Path) -> None:
    target = tmp_path / "last.pt"
    write_whole(target, b"old")
    others = [tmp_path / f".last.pt.{os.getpid()}.tmp", tmp_path / ".notes.tmp", tmp_path / "a.1-1.tmp"]
    for file in others:
        file.write_bytes(b"half")
    writing, dying = started(HALF_WRITTEN, target), started(HALF_WRITTEN, target)
    killed(dying)
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.glob(".last.pt.*-*.tmp"))) == 2
    write_whole(tmp_path / "another", b"new")
    (left,) = tmp_path.glob(".last.pt.*-*.tmp")
    assert f".{writing.pid}-" in left.name  # whose writer lives
    assert all(file.exists() for file in others)
    assert target.read_bytes() == b"old"


def test_a_folder_appears_complete_and_a_killed_writer_s_is_removed_by_the_next_one(
    started: Started, tmp_path: Path
) -> None:
    killed = started(HALF_WRITTEN_FOLDER, tmp_path / "made")
    assert not (tmp_path / "made").exists()
    killed.kill()
    killed.wait()
    with new_folder(tmp_path / "made") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("whole")
        assert not (tmp_path / "made").exists()
    assert (tmp_path / "made" / "deep" / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    with pytest.raises(WriteError, match="made"), new_folder(tmp_path / "made") as folder:
        (folder / "other").write_text("x")
    assert (tmp_path / "made" / "deep" / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_threads_and_processes_that_write_one_file_never_tear_it(started: Started, tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_whole(target, b"0" * 100_000)
    code = (
        "print('ready', flush=True)\nfor _ in range(50): write_whole(Path(sys.argv[1]), sys.argv[2].encode() * 100_000)"
    )
    processes = [started(code, target, letter) for letter in "ab"]
    threads = [
        threading.Thread(
            target=lambda content: [write_whole(target, content) for _ in range(50)], args=[letter * 100_000]
        )
        for letter in (b"c", b"d")
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or any(process.poll() is None for process in processes):
        content = target.read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1
    assert [process.returncode for process in processes] == [0, 0]
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_stays_a_link_and_a_mode_stays_a_mode(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    link.symlink_to("folder/real")
    before = os.umask(0o027)
    try:
        write_whole(link, b"first")
        assert real.stat().st_mode & 0o777 == 0o640
        real.chmod(0o604)
        write_whole(link, b"second")
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert real.read_bytes() == b"second"
    assert real.stat().st_mode & 0o777 == 0o604
    whole = tmp_path / "whole"
    whole.write_bytes(b"third")
    put_in_place(whole, link)
    assert link.is_symlink()
    assert real.read_bytes() == b"third"
    assert real.stat().st_mode & 0o777 == 0o604


def test_a_private_file_takes_over_neither_a_mode_nor_a_link(tmp_path: Path) -> None:
    file, other = tmp_path / "private", tmp_path / "other"
    other.write_bytes(b"other")
    other.chmod(0o666)
    for place in (lambda: file.symlink_to(other), lambda: (file.unlink(), other.rename(file))):
        place()
        with replacing(file, private=True) as temporary:
            assert temporary.stat().st_mode & 0o777 == 0o600
            temporary.write_bytes(b"private")
        assert not file.is_symlink()
        assert file.read_bytes() == b"private"
        assert file.stat().st_mode & 0o777 == 0o600


def test_pipes_and_devices_are_written_into(tmp_path: Path) -> None:
    write_whole(Path("/dev/null"), b"content")
    assert Path("/dev/null").is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, lambda stream: stream.write(b"content"))
    assert os.read(reader, 100) == b"content"
    os.close(reader)
    with pytest.raises(WriteError), replacing(pipe):
        pass
    assert pipe.is_fifo()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_failed_write_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "file"
    write_whole(target, b"old")

    def fail(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise error

    with pytest.raises(WriteError if error is OSError else error):
        write_whole(target, fail)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_named_with_its_free_space(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_whole(target, b"old")
    with full_disk(1000), pytest.raises(WriteError, match=r"file: .* \d+\.\d MB free") as caught:
        write_whole(target, b"new" * 1000)
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "no" / "file", tmp_path, tmp_path / "loop", Path("/proc/file")):
        with pytest.raises(WriteError, match=str(path)):
            write_whole(path, b"content")


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("ä" * 127)
    write_whole(target, b"content")
    assert target.read_bytes() == b"content"


def test_a_folder_is_held_by_one_process_until_it_ends(started: Started, tmp_path: Path) -> None:
    holder = started(HOLDS, tmp_path, "long")
    with pytest.raises(FolderInUseError) as caught, lock_folder(tmp_path, "this"):
        pass
    for fact in (str(tmp_path), str(holder.pid), "the test"):
        assert fact in str(caught.value)
    killed(holder)
    with lock_folder(tmp_path, "this"):
        with pytest.raises(FolderInUseError, match=str(os.getpid())), lock_folder(tmp_path, "this again"):
            pass
        child = os.fork()
        if child == 0:  # a worker that outlives the process which forked it holds nothing
            with contextlib.suppress(BaseException):
                signal.pause()
            os._exit(0)
    try:
        with lock_folder(tmp_path, "this"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert os.listdir(tmp_path) == []


def test_a_killed_process_whose_child_lives_on_holds_nothing(started: Started, tmp_path: Path) -> None:
    code = """
with lock_folder(Path(sys.argv[1]), "the test"):
    if os.fork() == 0:
        Path(sys.argv[2]).write_text(str(os.getpid()))
        print("ready", flush=True)
    time.sleep(600)
"""
    folder, note = tmp_path / "folder", tmp_path / "child"
    folder.mkdir()
    killed(started(code, folder, note))
    try:
        with lock_folder(folder, "this"):
            pass
    finally:
        os.kill(int(note.read_text()), signal.SIGKILL)


def test_processes_that_add_to_one_file_under_its_lock_lose_nothing(started: Started, tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    write_whole(file, b"")
    code = """
file = Path(sys.argv[1])
print("ready", flush=True)
for i in range(50):
    with lock_file(file):
        write_whole(file, file.read_bytes() + f"[{sys.argv[2]}, {i}]\\n".encode())
"""
    processes = [started(code, file, number) for number in range(3)]
    for i in range(50):
        with lock_file(file):
            write_whole(file, file.read_bytes() + f"[3, {i}]\n".encode())
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    added = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(added) == [[number, i] for number in range(4) for i in range(50)]
    assert os.listdir(tmp_path) == ["numbers"]


def test_a_missing_folder_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="no"), lock_folder(tmp_path / "no", "this"):
        pass

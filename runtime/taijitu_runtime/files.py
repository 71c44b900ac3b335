"""Write files and folders completely or not at all; lock files and folders between processes.

A writer locks its temporary file while it writes; a temporary file without a lock is left over from a process that
died. The kernel releases the locks of a process however it ends. Locks also work between containers of one machine,
where process numbers are ambiguous.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import platform
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from taijitu_runtime.errors import FolderInUseError, WriteError

LOCK_FILE = ".taijitu.lock"

_log = logging.getLogger(__name__)

_TEMPORARY = re.compile(r"\..+\.\d+-\d+\.tmp")
_EARLIER_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp(\.onnx)?")  # of earlier versions, not locked
_MAX_NAME_BYTES = 200  # of the 255 that file systems allow; the rest is for what a temporary name adds
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_calls = itertools.count()
_held: set[int] = set()  # descriptors of lock files
os.register_at_fork(after_in_child=lambda: _close_held())  # a child's copy would hold the lock after its parent died


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write `path` so that it is the old file or the complete new one at any time, also after a power failure.

    Args:
        path: The target. The mode of an existing file is kept. A symbolic link is followed, and the file that it names
            is replaced. A device or a pipe is written to directly.
        content: The bytes, or a function that writes them to a binary file.

    Raises:
        WriteError: The target cannot be written. An existing file is unchanged.
    """
    if _is_stream(path):
        with _write_error(path), path.open("wb") as stream:
            _put(content, stream)
        return
    with replacing(path) as temporary, temporary.open("wb") as stream:
        _put(content, stream)


@contextlib.contextmanager
def replacing(path: Path, private: bool = False) -> Iterator[Path]:
    """Yield an empty temporary file in the folder of `path`, which replaces `path` at the end of a body without errors.

    Args:
        path: The target, as for `write_whole`, but not a device or pipe.
        private: Only this user may read or write the file: the mode is 0600 regardless of that of an existing file,
            and a link is replaced instead of followed.

    Raises:
        WriteError: The target cannot be written, or the body raised OSError. An existing file is unchanged.
    """
    with _write_error(path):
        target = path if private else _real(path)
        remove_stale(target.parent)
        temporary, lock = _new_temporary(target, 0o600 if private else _mode_of(target))
        try:
            yield temporary
            if private:
                _rename(temporary, target)
            else:
                put_in_place(temporary, target)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
            os.close(lock)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder next to `path`, which is renamed to it at the end of a body without errors.

    Args:
        path: The folder to create. Missing parents are created.

    Raises:
        WriteError: The folder cannot be created or is not empty, or the body raised OSError.
    """
    with _write_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent)
        temporary, lock = _new_temporary(path, None, is_folder=True)
        try:
            yield temporary
            for file in temporary.rglob("*"):
                _sync(file)
            _rename(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            os.close(lock)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a finished file of the same file system to `path`, so that a power failure leaves the old or the new one.

    The mode of an existing file is kept, and a symbolic link is followed. Raises OSError.
    """
    target = _real(path)
    mode = _mode_of(target)
    if mode is not None and mode != _mode_of(temporary):
        temporary.chmod(mode)
    _rename(temporary, target)


def _rename(temporary: Path, target: Path) -> None:
    _sync(temporary)
    temporary.replace(target)
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        _sync(target.parent)


def remove_stale(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes have left in `folder`."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if entry.name.endswith((".tmp", ".tmp.onnx"))]:
            earlier = _EARLIER_TEMPORARY.fullmatch(name)
            if _TEMPORARY.fullmatch(name) or (earlier and not _is_alive(int(earlier[1]))):
                _remove_unlocked(folder / name)


@contextlib.contextmanager
def lock_folder(folder: Path, purpose: str) -> Iterator[None]:
    """Lock an existing `folder` for this process; the error in other processes names `purpose`.

    Raises:
        FolderInUseError: Another process has locked it; the text has its number and purpose.
        WriteError: The folder is missing or cannot be written to.
    """
    file = folder / LOCK_FILE
    with _write_error(folder):
        lock = _locked(file, wait=False)
    if lock is None:
        raise FolderInUseError(f"{folder}: in use by {_holder(file)}; wait for it or stop it, or choose another folder")
    with _releasing(lock, file):
        with contextlib.suppress(OSError):  # with a full disk, the lock holds without its text
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()} {platform.node()} {purpose}\n".encode())
        yield


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Lock `path` for reading and writing it; wait while another process or thread has the lock.

    Raises:
        WriteError: The folder is missing or cannot be written to.
    """
    file = path.with_name(f".{path.name}.lock")
    with _write_error(path):
        lock = _locked(file, wait=True)
    assert lock is not None  # it waited
    with _releasing(lock, file):
        yield


def _put(content: bytes | Callable[[BinaryIO], object], stream: BinaryIO) -> None:
    if callable(content):
        content(stream)
    else:
        stream.write(content)


@contextlib.contextmanager
def _write_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason, do = error.strerror or str(error), "check the folder and its permissions, or choose another"
        if error.errno in _NO_ROOM:
            do = "make room, or choose another folder"
            with contextlib.suppress(OSError):
                reason += f", {shutil.disk_usage(path.absolute().parent).free / 1e6:.1f} MB free"
        raise WriteError(f"{path}: could not be written ({reason}), an existing file is unchanged; {do}") from error


def _is_stream(path: Path) -> bool:
    """Return whether `path` exists and is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _real(path: Path) -> Path:
    """Return the regular file, existing or not, that `path` names through any links. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "a device or pipe, expected a regular file")
    return Path(os.path.realpath(path))


def _mode_of(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _new_temporary(target: Path, mode: int | None, is_folder: bool = False) -> tuple[Path, int]:
    """Return an empty file or folder in the folder of `target`, and the descriptor that holds its lock. Raises OSError.

    `mode` is that of the target, so that a private file is also private while it is written.
    """
    mode = 0o666 if mode is None else mode | 0o600
    stem = os.fsdecode(os.fsencode(target.name)[:_MAX_NAME_BYTES])
    while True:
        temporary = target.with_name(f".{stem}.{os.getpid()}-{next(_calls)}.tmp")
        try:
            if is_folder:
                temporary.mkdir()
                descriptor = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except FileExistsError:  # of an earlier process of this number; a copy of its descriptor still holds the lock
            continue
        with contextlib.suppress(OSError):  # on a file system without locks, no file counts as left over
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)  # another process removed it before it was locked


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_unlocked(file: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                shutil.rmtree(file)
            else:
                file.unlink()
        finally:
            os.close(descriptor)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _locked(file: Path, wait: bool) -> int | None:
    """Return a descriptor that holds the lock of `file`, created if missing; None if it is locked. Raises OSError."""
    while True:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            if not _flock(lock, file, wait):
                os.close(lock)
                return None
            # The previous holder may have removed the file that was opened here; then its lock is worth nothing.
            if os.fstat(lock).st_nlink and file.stat().st_ino == os.fstat(lock).st_ino:
                _held.add(lock)
                return lock
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _flock(lock: int, file: Path, wait: bool) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        _log.warning("%s: this file system has no locks; two processes may write here at the same time", file.parent)
    return True


@contextlib.contextmanager
def _releasing(lock: int, file: Path) -> Iterator[None]:
    try:
        yield
    finally:
        if lock in _held:  # it is not in a forked child
            _held.remove(lock)
            with contextlib.suppress(OSError):
                file.unlink()
            os.close(lock)


def _close_held() -> None:
    while _held:
        os.close(_held.pop())


def _holder(file: Path) -> str:
    """Describe the holder of the lock, as far as the file tells it."""
    with contextlib.suppress(OSError, ValueError):
        process, host, purpose = file.read_text().split(maxsplit=2)
        elsewhere = f" on {host}" if host != platform.node() else ""
        return f"process {process}{elsewhere} ({purpose.strip()})"
    return "another process"

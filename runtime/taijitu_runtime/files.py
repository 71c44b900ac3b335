"""Writing files whole or not at all, and locks between processes.

A writer locks its temporary file while it writes; one without a lock is left over from a process that died. The kernel
releases a lock with its process, however that ends. Locks hold between containers of one machine too, where a process
number may be that of another process.
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
_EARLIER_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp(\.onnx)?")  # not locked
_LONGEST_NAME_BYTES = 200  # of the 255 that file systems take, with room for what a temporary name adds
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_calls = itertools.count()
_held: set[int] = set()  # descriptors of lock files
os.register_at_fork(after_in_child=lambda: _forget_held())  # a child's copy would hold the lock after its parent died


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write `path` so that it is the old file or the whole new one at any time, also after a crash or a power failure.

    Args:
        path: The target. An existing file's mode is kept. A symbolic link stays one: the file that it names is
            replaced. Into a device or a pipe the content is written as it is.
        content: The bytes, or what writes them to a binary file.

    Raises:
        WriteError: The target cannot be written. What was there is untouched.
    """
    if _is_stream(path):
        with _write_error(path), path.open("wb") as stream:
            _put(content, stream)
        return
    with replacing(path) as temporary, temporary.open("wb") as stream:
        _put(content, stream)


@contextlib.contextmanager
def replacing(path: Path, private: bool = False) -> Iterator[Path]:
    """An empty temporary file beside `path` to write into, which takes its place at the end of a body without errors.

    Args:
        path: The target, as for `write_whole`, but no device or pipe.
        private: Nobody else may read or write the file, whatever was there: the mode is 0600, and a link is replaced
            rather than followed.

    Raises:
        WriteError: The target cannot be written, or an OSError in the body. What was there is untouched.
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


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a finished file of the same file system to `path`, so that a power failure leaves one of both whole.

    The mode of a file that is replaced is kept, and a symbolic link stays one. OSError.
    """
    target = _real(path)
    mode = _mode_of(target)
    if mode is not None and mode != _mode_of(temporary):
        temporary.chmod(mode)
    _rename(temporary, target)


def _rename(temporary: Path, target: Path) -> None:
    _sync(temporary)
    temporary.replace(target)
    with contextlib.suppress(OSError):  # the file is in its place; some file systems cannot do more
        _sync(target.parent)


def remove_stale(folder: Path) -> None:
    """Remove the temporary files that processes which died while they wrote have left in `folder`."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if entry.name.endswith((".tmp", ".tmp.onnx"))]:
            earlier = _EARLIER_TEMPORARY.fullmatch(name)
            if _TEMPORARY.fullmatch(name) or (earlier and not _is_alive(int(earlier[1]))):
                _remove_unlocked(folder / name)


@contextlib.contextmanager
def lock_folder(folder: Path, purpose: str) -> Iterator[None]:
    """Hold an existing `folder` for this process alone; `purpose` is what the others are told.

    Raises:
        FolderInUseError: Another holds it; the text has its process number and purpose.
        WriteError: The folder is missing or cannot be written to.
    """
    file = folder / LOCK_FILE
    with _write_error(folder):
        lock = _locked(file, wait=False)
    if lock is None:
        raise FolderInUseError(f"{folder}: in use by {_holder(file)}; wait for it or stop it, or choose another folder")
    with _releasing(lock, file):
        with contextlib.suppress(OSError):  # a full disk costs the name, not the lock
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()} {platform.node()} {purpose}\n".encode())
        yield


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Wait until no other process or thread is between reading and writing `path`, and keep the others waiting.

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
        raise WriteError(f"{path}: could not be written ({reason}), what was there is untouched; {do}") from error


def _is_stream(path: Path) -> bool:
    """Whether `path` is there and neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _real(path: Path) -> Path:
    """The regular file, there or not, that `path` names through any links. OSError."""
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


def _new_temporary(target: Path, mode: int | None) -> tuple[Path, int]:
    """An empty file in the folder of `target`, and the descriptor that holds its lock. OSError.

    `mode` is that of the target, so that a private file is private while it is written too.
    """
    mode = 0o666 if mode is None else mode | 0o600
    stem = os.fsdecode(os.fsencode(target.name)[:_LONGEST_NAME_BYTES])
    while True:
        temporary = target.with_name(f".{stem}.{os.getpid()}-{next(_calls)}.tmp")
        try:
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except FileExistsError:  # of an earlier process of this number, whose lock another's copy still holds
            continue
        with contextlib.suppress(OSError):  # without locks on this file system, nothing is taken for left over
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)  # taken for left over before it was locked


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
    """A descriptor that holds the lock of `file`, made if missing; None where another holds it. OSError."""
    while True:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            if not _flock(lock, file, wait):
                os.close(lock)
                return None
            # The holder before may have removed the file that was opened here: then it is nobody's lock any more.
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
        _log.warning("%s: this file system has no locks; nothing keeps two processes apart here", file.parent)
    return True


@contextlib.contextmanager
def _releasing(lock: int, file: Path) -> Iterator[None]:
    try:
        yield
    finally:
        if lock in _held:  # not in a forked child
            _held.remove(lock)
            with contextlib.suppress(OSError):
                file.unlink()
            os.close(lock)


def _forget_held() -> None:
    while _held:
        os.close(_held.pop())


def _holder(file: Path) -> str:
    """Name the holder of the lock, as far as it has said so yet."""
    with contextlib.suppress(OSError, ValueError):
        process, host, purpose = file.read_text().split(maxsplit=2)
        elsewhere = f" on {host}" if host != platform.node() else ""
        return f"process {process}{elsewhere} ({purpose.strip()})"
    return "another process"

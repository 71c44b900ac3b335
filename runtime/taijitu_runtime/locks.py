"""Lock files and folders between processes.

The kernel releases the locks of a process however it ends. Locks also work between containers of one machine, where
process numbers are ambiguous.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from taijitu_runtime.errors import FolderInUseError
from taijitu_runtime.files import write_error

LOCK_FILE = ".taijitu.lock"

_log = logging.getLogger(__name__)

_held: set[int] = set()  # descriptors of lock files
os.register_at_fork(after_in_child=lambda: _close_held())  # a child's copy would hold the lock after its parent died


@contextlib.contextmanager
def lock_folder(folder: Path, purpose: str) -> Iterator[None]:
    """Lock an existing `folder` for this process; the error in other processes names `purpose`.

    Raises:
        FolderInUseError: Another process has locked it; the text has its number and purpose.
        WriteError: The folder is missing or cannot be written to.
    """
    file = folder / LOCK_FILE
    with write_error(folder):
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
    with write_error(path):
        lock = _locked(file, wait=True)
    assert lock is not None  # it waited
    with _releasing(lock, file):
        yield


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
    """Describe the holder of the lock, as far as the file says it."""
    with contextlib.suppress(OSError, ValueError):
        process, host, purpose = file.read_text().split(maxsplit=2)
        elsewhere = f" on {host}" if host != platform.node() else ""
        return f"process {process}{elsewhere} ({purpose.strip()})"
    return "another process"

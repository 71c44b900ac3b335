"""Write files and folders completely or not at all, and hash files.

A writer locks its temporary file while it writes; a temporary file without a lock is left over from a process that
died, as the kernel releases the locks of a process however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from taijitu_runtime.errors import NO_ROOM, UsageError, WriteError, describe

_TEMPORARY = re.compile(r"\..+\.\d+-\d+\.tmp")
_MAX_NAME_BYTES = 200  # of the 255 that file systems allow; the rest is for what a temporary name adds

_calls = itertools.count()


def path_from_text(text: str) -> Path:
    """Return the path that a text names: an absolute one for ./-, as Path drops the ./ and - means standard input."""
    path = Path(text)
    return path.absolute() if str(path) == "-" != text else path


def named_path(path: str | os.PathLike[str], argument: str) -> Path:
    """Return the path given as `argument`.

    UsageError for another object, and for an empty path, by which Path means the working directory.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(f"got {describe(path)} as {argument}, expected a path; give a str or a Path")
    if not os.fspath(path):
        raise UsageError(f'got an empty path as {argument}, expected a name; give "." for the working directory')
    return Path(path)


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
        with write_error(path), path.open("wb") as stream:
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
    with write_error(path):
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
    with write_error(path):
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
        for name in [entry.name for entry in entries if _TEMPORARY.fullmatch(entry.name)]:
            _remove_unlocked(folder / name)


def sha256_of(path: Path) -> str:
    """Return the sha256 of the file at `path`, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _put(content: bytes | Callable[[BinaryIO], object], stream: BinaryIO) -> None:
    if callable(content):
        content(stream)
    else:
        stream.write(content)


@contextlib.contextmanager
def write_error(path: Path) -> Iterator[None]:
    """Turn an OSError into a WriteError about `path`."""
    try:
        yield
    except OSError as error:
        reason, do = error.strerror or str(error), "check the folder and its permissions, or choose another"
        if error.errno in NO_ROOM:
            do = "make room, or choose another folder"
            with contextlib.suppress(OSError):
                reason += f", {shutil.disk_usage(path.absolute().parent).free / 1e6:.1f} MB free"
        raise WriteError(f"{path}: could not be written ({reason}), an existing file is unchanged; {do}") from error


def _is_stream(path: Path) -> bool:
    """Return whether `path` exists and is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _real(path: Path) -> Path:
    """Return the regular file, existing or not, that `path` names through any links. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        try:
            mode = path.stat().st_mode
        except ValueError as error:  # of a path with a null byte, or without an encoding
            raise OSError(errno.EINVAL, str(error)) from None
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

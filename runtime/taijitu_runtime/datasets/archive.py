"""Read tars from their beginning to their end mark, so that a truncated one is not taken for a smaller data set."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from taijitu_runtime.console import DELAY_S, Progress, shown
from taijitu_runtime.datasets.found import first_bytes
from taijitu_runtime.errors import DataError, one_line

BLOCK = 1 << 20
_ZSTD = b"\x28\xb5\x2f\xfd"
_PACKED = (b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh", _ZSTD)  # gzip, xz, bzip2, zstd
BROKEN = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)
_END = tarfile.EOFHeaderError  # type: ignore[attr-defined]  # typeshed lacks these
_CUT = (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]

Read: TypeAlias = Callable[[], bytes]


class _Member(tarfile.TarInfo):
    """A member whose damaged header is an error; tarfile itself takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Member:
        """Read the next header. Raises ReadError unless it is intact."""
        try:
            return super().fromtarfile(archive)
        except _END:  # a block of zeros: the end mark, as it should be
            raise
        except tarfile.HeaderError as error:
            if isinstance(error, _CUT):
                raise tarfile.ReadError("it ends before its end mark") from None
            raise tarfile.ReadError(f"a damaged header at byte {archive.offset}: {error}") from None


def members(path: Path, *, shows_bar: bool = False) -> Iterator[tuple[tarfile.TarInfo, Read]]:
    """Yield the members of a .tar, .tar.gz, .tar.xz or .tar.bz2 with a function that reads each until the next one.

    The file is read to its last byte, so that the checksums of its compression are compared. `shows_bar`: a bar says
    how much of the file is read.

    Raises:
        DataError: The file is not a tar, is damaged, or ends before its end mark; the text names it.
    """
    try:
        with (
            path.open("rb") as file,
            tarfile.open(fileobj=file, mode=_mode(path), tarinfo=_Member) as archive,
            _bar(path, hidden=not shows_bar) as bar,
        ):
            counted = 0
            # In Python 3.10, asking an empty tar again, which is at offset 0, is an error.
            while archive.offset and (member := archive.next()):
                bar.advance(file.tell() - counted)
                counted = file.tell()
                yield member, lambda member=member: _content(path, archive, member)  # type: ignore[misc]
                archive.members = []  # type: ignore[attr-defined]  # a tar remembers every header otherwise
            _check_rest(archive)
    except BROKEN as error:
        raise _damaged(path, error) from None


def is_packed(path: Path) -> bool:
    """Return whether a tar is compressed, so that its members have no place in the file.

    DataError if it is, in a way that this Python does not read, and for a file that cannot be read.
    """
    first = first_bytes(path, 6)
    if first.startswith(_ZSTD) and "zst" not in tarfile.TarFile.OPEN_METH:
        raise DataError(
            f"{path}: got a file of the kind zstd, which Python reads from 3.14 on, expected a .tar, .tar.gz or "
            ".tar.xz; unpack it with zstd -d"
        )
    return first.startswith(_PACKED)


def _bar(path: Path, *, hidden: bool) -> Progress:
    what = f"reading {shown(path.name)}"
    return Progress(path.stat().st_size, "bytes", what=what, delay_s=DELAY_S, hidden=hidden)


def _mode(path: Path) -> Literal["r:*", "r:"]:
    return "r:*" if is_packed(path) else "r:"


def _content(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    try:  # it is called by the reader of the members, outside of the handler there
        content = archive.extractfile(member)
        if content is None:
            raise tarfile.ReadError(f"{member.name} is not a file")
        return content.read()
    except BROKEN as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    reason = one_line(str(error).partition(":\n")[0])  # the messages of every compression follow
    return DataError(
        f"{path}: got a tar that is damaged or cut off ({reason or type(error).__name__}), expected a whole .tar, "
        ".tar.gz or .tar.xz; fetch it again"
    )


def _check_rest(archive: tarfile.TarFile) -> None:
    """Raise ReadError unless only zeros follow the first block of the end mark, which has been read."""
    rest: io.BufferedIOBase = archive.fileobj  # type: ignore[assignment]  # typeshed knows less of it
    while block := rest.read(BLOCK):
        if block.strip(b"\0"):
            raise tarfile.ReadError("it continues after its end mark")

"""The pictures that `classify` is given: files, folders, lists of names, and standard input."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable
from pathlib import Path, PurePath

from taijitu_runtime.console import shown
from taijitu_runtime.datasets import LeftOut, name_of, scan_folder
from taijitu_runtime.errors import UsageError
from taijitu_runtime.files import path_from_text
from taijitu_runtime.pictures.formats import FORMATS
from taijitu_runtime.pictures.limits import Limits

STDIN = "-"
STDIN_NAME = PurePath("stdin")


@dataclasses.dataclass(frozen=True)
class Input:
    """One picture: its path, and what it is called below the folder that was given; its bytes, from standard input."""

    path: Path
    name: PurePath
    content: bytes | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def picture(self) -> Path | bytes:
        """What a Classifier takes."""
        return self.path if self.content is None else self.content


def find_pictures(paths: Iterable[Path], limits: Limits) -> tuple[list[Input], LeftOut]:
    """Find the given files, and the pictures at any depth in the given folders, except hidden ones.

    "-" is the picture whose bytes standard input has.

    Returns:
        The pictures, sorted within each folder, and the files that were left out.

    Raises:
        DataError: A folder cannot be read.
        UsageError: A folder has no picture, or standard input cannot be read.
    """
    inputs: list[Input] = []
    left_out = LeftOut()
    for path in paths:
        if str(path) == STDIN:
            inputs.append(Input(path, STDIN_NAME, _from_stdin(limits.max_bytes + 1)))
            continue
        # Path.is_dir raises without permission, and one picture would end the run; os.path.isdir returns False.
        if not os.path.isdir(path):  # noqa: PTH112
            inputs.append(Input(path, PurePath(path.name)))
            continue
        found = scan_folder(path)
        if not found.pictures:
            got = f" ({found.left_out} in it)" if found.left_out else ""
            raise UsageError(f"{path}: got a folder without pictures{got}, expected {', '.join(FORMATS)}; check it")
        # Not the parts, whose letters are composed: a file from macOS has another name.
        files = [Path(name_of(content)) for content in found.pictures.values()]
        inputs += [Input(file, file.relative_to(path)) for file in files]
        left_out.add(found.left_out)
    return inputs, left_out


def given_paths(pictures: list[Path], source: Path | None) -> list[Path]:
    """Return the paths on the command line, or those in the list `source`, "-" being standard input.

    A list has a null byte after each name, as `find -print0` writes it: a name may have any other character.

    Raises:
        UsageError: There is neither or both, "-" is given twice, or the list cannot be read, or has no name or an empty
            one.
    """
    if source is None:
        if not pictures:
            raise UsageError("got no picture, expected files or folders, - for standard input, or --files0-from FILE")
        if sum(str(path) == STDIN for path in pictures) > 1:
            raise UsageError(f"got {STDIN} twice, expected it once: standard input has one picture")
        return pictures
    if pictures:
        raise UsageError(
            f"got {shown(pictures[0])} and --files0-from {shown(source)}, expected one of both; put all names into the "
            "list"
        )
    expected = "expected names with a null byte after each; write it with: find DIR -type f -print0"
    if str(source) == STDIN:
        return _names_in(source, _from_stdin(), expected)
    try:
        return _names_in(source, source.read_bytes(), expected)
    except OSError as error:
        raise UsageError(f"{source}: got a list that cannot be read ({error.strerror}), {expected}") from None


def _from_stdin(most: int = -1) -> bytes:
    """Read standard input, or its first `most` bytes. UsageError where it cannot be read."""
    try:
        return sys.stdin.buffer.read(most)
    except OSError as error:  # it was opened for writing only
        raise UsageError(
            f"{STDIN}: got a standard input that cannot be read ({error}), expected bytes; use < FILE or a pipe"
        ) from None


def _names_in(source: Path, content: bytes, expected: str) -> list[Path]:
    if b"\0" not in content and b"\n" in content:
        raise UsageError(f"{source}: got a list without a null byte, with a name in each line, {expected}")
    names = content.removesuffix(b"\0").split(b"\0")
    if b"" in names:
        raise UsageError(f"{source}: got a list with {'an empty' if content else 'no'} name, {expected}")
    if STDIN.encode() in names:
        raise UsageError(f"{source}: got {STDIN} in the list, expected names; write ./{STDIN} for a file of that name")
    return [path_from_text(os.fsdecode(name)) for name in names]

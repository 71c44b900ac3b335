"""The models in a folder: which files they are, and whether these changed."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from taijitu_runtime.console import shown
from taijitu_runtime.engine_card import sidecar_of
from taijitu_runtime.model_files import is_model, is_onnx
from taijitu_runtime.onnx_graph.external_data import named_files
from taijitu_server.models.names import NAME, VERSION

log = logging.getLogger("taijitu.server")

ONLY_VERSION = "1"
PLACES = "NAME.onnx or NAME/VERSION/*.onnx, with a NAME of letters, digits, . _ and -, and a VERSION that is a number"

Key = tuple[str, str]  # name, version
Files = tuple[Path, ...]  # of one version: one, except by mistake
FileState = tuple[str, int, int, int]  # of a file: path, inode, time of change in ns, bytes; zeros where it is missing
Stamp = tuple[FileState, ...]  # of a version's files, then of those that belong to them


def find_models(folder: Path) -> dict[Key, Files]:
    """Return the artefacts of a folder: NAME.onnx is version 1, NAME/VERSION/ should hold one each.

    Others are left out, see `misplaced_models`.
    """
    found: dict[Key, Files] = {}
    for entry in sorted(folder.iterdir()):
        if is_model(entry) and _is_file_or_broken(entry) and NAME.fullmatch(entry.stem):
            found.setdefault((entry.stem, ONLY_VERSION), (entry,))
        elif entry.is_dir() and NAME.fullmatch(entry.name):
            try:
                found |= _versions(entry)
            except OSError as error:  # it was removed meanwhile, or is not readable
                log.error("%s: its models were not read: %s", shown(entry), error.strerror)
    return found


def misplaced_models(folder: Path, found: dict[Key, Files]) -> set[Path]:
    """Return the artefacts in a folder that are not in `found`: a name with a space, a version v2, or none."""
    served = {file for files in found.values() for file in files}
    with contextlib.suppress(OSError):  # something was removed meanwhile: the next check finds the rest
        return {
            path
            for pattern in ("*", "*/*", "*/*/*")
            for path in folder.glob(pattern)
            if path not in served and is_model(path) and path.is_file() and not _is_hidden(path, folder)
        }
    return set()


def stamp_of(files: Files, before: Stamp = ()) -> Stamp:
    """Return what changes with a version's files and those that belong to them: an engine's sidecar, a model's weights.

    `before`: the last stamp; the names of weights are read from a model again only where it is another one.
    """
    own = tuple(map(_state, files))
    if own == before[: len(own)]:
        beside = [Path(path) for path, *_ in before[len(own) :]]
    else:
        beside = [path for file in files for path in _files_beside(file)]
    return (*own, *map(_state, beside))


def is_broken(path: Path) -> bool:
    """Return whether it is a broken link: what it led to cannot be loaded, but was not removed."""
    return path.is_symlink() and not path.exists()


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _versions(folder: Path) -> dict[Key, Files]:
    found: dict[Key, Files] = {}
    for version in sorted(folder.iterdir()):
        if not VERSION.fullmatch(version.name):
            continue
        if is_broken(version):
            found[folder.name, version.name] = (version,)
            continue
        if not version.is_dir():
            continue
        files = sorted(file for file in version.iterdir() if is_model(file) and _is_file_or_broken(file))
        if files:
            found[folder.name, version.name] = tuple(files)
    return found


def _is_file_or_broken(path: Path) -> bool:
    return path.is_file() or is_broken(path)


def _files_beside(file: Path) -> list[Path]:
    """Return the files that belong to a model, there or not; none where it cannot be read: loading it says so."""
    if not is_onnx(file):
        return [sidecar_of(file)]
    with contextlib.suppress(OSError):
        return named_files(file, file.read_bytes())
    return []


def _state(file: Path) -> FileState:
    try:
        stat = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), stat.st_ino, stat.st_mtime_ns, stat.st_size

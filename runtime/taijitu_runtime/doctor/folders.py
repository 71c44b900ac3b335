"""Check the folders whose content is kept between runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping

from taijitu_runtime.cache import ANOTHER_FOLDER, UnsafeFolderError, cache_folder, private_folder
from taijitu_runtime.doctor.finding import Finding, ok, warning
from taijitu_runtime.errors import NO_ROOM

ENOUGH_BYTES = 200 * 2**20
MAKE_ROOM = "make room on this disk"
LOST = "models and engines are prepared again at every start"


def check_cache(environment: Mapping[str, str]) -> Finding:
    """Check that only this user can write to the cache folder, and that it has room."""
    try:
        folder = cache_folder(environment)
    except RuntimeError:
        return warning("cache", f"there is no home folder: {LOST}", ANOTHER_FOLDER)
    try:
        folder = private_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"taijitu")
    except UnsafeFolderError as error:
        return warning("cache", f"{folder} is not used: {error}; {LOST}", error.cure)
    except OSError as error:
        cure = MAKE_ROOM if error.errno in NO_ROOM else ANOTHER_FOLDER
        return warning("cache", f"{folder} cannot be written ({error.strerror}): {LOST}", cure)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < ENOUGH_BYTES:
        return warning("cache", f"{free_bytes / 2**20:.0f} MiB are free in {folder}", MAKE_ROOM)
    return ok("cache", f"{folder}, {free_bytes / 2**30:.0f} GiB free")

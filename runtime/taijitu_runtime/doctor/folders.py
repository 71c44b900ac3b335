"""Where things are kept between runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping

from taijitu_runtime.cache import UnsafeFolderError, cache_folder, private_folder
from taijitu_runtime.doctor.finding import Finding, ok, warning

ENOUGH_BYTES = 200 * 2**20
LOST = "models and engines are prepared again at each start"


def check_cache(environment: Mapping[str, str]) -> Finding:
    """The cache folder can be written, by us only, and has room."""
    try:
        folder = cache_folder(environment)
    except RuntimeError:
        return warning("cache", f"there is no home: {LOST}", "set XDG_CACHE_HOME to a folder that can be written")
    try:
        folder = private_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"taijitu")
    except UnsafeFolderError as error:
        return warning("cache", f"{folder} is not used: {error}; {LOST}", f"chmod go-w, or chown to {_user()}")
    except OSError as error:
        cure = f"sudo chown {_user()} {folder}, or set XDG_CACHE_HOME to a folder that can be written"
        return warning("cache", f"{folder} cannot be written ({error.strerror}): {LOST}", cure)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < ENOUGH_BYTES:
        return warning("cache", f"{free_bytes / 2**20:.0f} MiB are free in {folder}", "make room on this disk")
    return ok("cache", f"{folder}, {free_bytes / 2**30:.0f} GiB free")


def _user() -> str:
    return f"user {os.geteuid()}"

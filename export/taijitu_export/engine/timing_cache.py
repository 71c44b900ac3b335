"""TensorRT's timing cache: what was measured while building is not measured again, minutes on a small board."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

from taijitu_export.engine.gpu import Gpu
from taijitu_export.engine.library import Library
from taijitu_runtime.cache import UnsafeFolderError, cache_folder, private_folder
from taijitu_runtime.errors import UsageError, WriteError
from taijitu_runtime.files import write_whole

_log = logging.getLogger(__name__)


class TimingCache:
    """While it is entered, an IBuilderConfig has the cache; what a build that succeeds adds is kept afterwards.

    `file`: where it lies; None for one in the user's cache folder, of this release and GPU. Nothing for TensorRT-RTX,
    which times nothing while it builds. A cache of another release or GPU, or a folder that cannot be written, costs
    time and nothing else. UsageError on entering for a file that is there and cannot be read.
    """

    def __init__(self, library: Library, config: Any, gpu: Gpu | None, file: Path | None) -> None:
        self._config = config
        self._file: Path | None = None
        if library.has("timing cache") and gpu is not None:
            self._file = file or _default_file(library, gpu)

    def __enter__(self) -> TimingCache:
        if self._file is not None:
            known = _content(self._file)
            cache = self._config.create_timing_cache(known)
            if not self._config.set_timing_cache(cache, False) and known:
                self._config.set_timing_cache(self._config.create_timing_cache(b""), False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None or kind is not None:
            return
        try:
            write_whole(self._file, bytes(self._config.get_timing_cache().serialize()))
        except WriteError as refusal:
            _log.warning("the next build measures again: %s", refusal)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as refusal:
        raise UsageError(
            f"{file}: got a timing cache that cannot be read ({refusal.strerror}); check it, or name another with "
            "--timingCacheFile"
        ) from None


def _default_file(library: Library, gpu: Gpu) -> Path | None:
    model = "".join(letter if letter.isalnum() else "_" for letter in gpu.name)
    try:
        folder = private_folder(cache_folder() / "tensorrt")
    except (UnsafeFolderError, OSError, RuntimeError):
        return None
    return folder / f"{library.version}_{model}.timing"

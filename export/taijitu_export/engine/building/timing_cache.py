"""TensorRT's timing cache: timings of one build serve the next, which saves minutes on a small board."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

from taijitu_export.engine.gpu import Gpu
from taijitu_export.engine.library import Library
from taijitu_runtime.cache import cache_folder, private_folder
from taijitu_runtime.errors import UsageError, WriteError
from taijitu_runtime.files import write_whole

_log = logging.getLogger(__name__)


class TimingCache:
    """While it is entered, an IBuilderConfig has the cache; what a successful build adds is kept afterwards.

    Does nothing for TensorRT-RTX, which times nothing while it builds. A cache that cannot be used or written costs
    time and one warning, and nothing else.

    Args:
        library: The library that builds.
        config: Its IBuilderConfig.
        gpu: The GPU that it builds on.
        file: The user's file, which is never overwritten where TensorRT refuses its content: damaged, of
            another release or of another GPU. None for one in the cache folder, of this release and GPU.

    Raises:
        UsageError: On entering, for a file of the user's that is there and cannot be read.
    """

    def __init__(self, library: Library, config: Any, gpu: Gpu | None, file: Path | None) -> None:
        self._library, self._config = library, config
        self._cache: Any = None  # kept until the engine is built, as TensorRT requires
        self._file: Path | None = None
        self._is_users = file is not None
        if library.has("timing cache") and gpu is not None:
            self._file = file or _default_file(library, gpu)

    def __enter__(self) -> TimingCache:
        if self._file is None:
            return self
        try:
            known = _content(self._file)
        except UsageError as error:
            if self._is_users:
                raise
            _log.warning("the next build measures again: %s", error)
            self._file = None
            return self
        if not (known and self._uses(known)):
            if known:
                self._refuse(self._file)
            self._uses(b"")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None or self._cache is None or kind is not None:
            return
        content = _serialised(self._config.get_timing_cache())
        if not content:
            _log.warning("the next build measures again: %s has no timing cache after the build", self._library)
            return
        try:
            write_whole(self._file, content)
        except WriteError as refusal:
            _log.warning("the next build measures again: %s", refusal)

    def _uses(self, known: bytes) -> bool:
        """Give the builder a cache of these bytes. Return False where it refuses them; it has none of them then.

        Some releases answer unreadable bytes with None, others with an empty cache.
        """
        cache = self._config.create_timing_cache(known)
        if cache is None:
            return False
        if known:
            empty = _serialised(self._config.create_timing_cache(b""))
            if _serialised(cache) == empty != known:
                return False
        if not self._config.set_timing_cache(cache, False):
            return False
        self._cache = cache
        return True

    def _refuse(self, file: Path) -> None:
        kept = "; it stays as it is: name another by --timingCacheFile" if self._is_users else ""
        _log.warning(
            "%s: got a timing cache that %s does not take, expected one of this release and GPU; measuring again%s",
            file,
            self._library,
            kept,
        )
        if self._is_users:
            self._file = None


def _serialised(cache: Any) -> bytes:
    """Return the bytes of an ITimingCache; none where there is none."""
    content = cache.serialize() if cache is not None else None
    return bytes(content) if content is not None else b""


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
    except (OSError, RuntimeError):
        return None
    return folder / f"{library.version}_{model}.timing"

"""TensorRT-RTX compiles kernels on the GPU at hand; they are kept, so that only the first start takes the time."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from taijitu_runtime.cache import cache_folder, keep_newest, private_folder, read_own
from taijitu_runtime.errors import WriteError
from taijitu_runtime.files import replacing


class RuntimeCache:
    """The runtime cache of one plan, in `config` (an IRuntimeConfig) from the start, and in a file after `save`.

    Without a folder that nobody else can write to there is no file: what is in it is code.
    """

    def __init__(self, config: Any, plan_sha256: str) -> None:
        self._cache = config.create_runtime_cache()
        self._file: Path | None = None
        self._known = b""
        with contextlib.suppress(OSError, RuntimeError):
            self._file = private_folder(cache_folder() / "rtx") / f"{plan_sha256}.rtxcache"
            known = read_own(self._file)
            # It says no to what another driver, GPU or release has written; then it starts empty.
            self._known = known if self._cache.deserialize(known) else b""
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Keep what was compiled since, if anything was; a disk that is full costs nothing but the cache."""
        content = bytes(self._cache.serialize())
        if self._file is None or content == self._known:
            return
        with contextlib.suppress(OSError, WriteError):
            with replacing(self._file, private=True) as temporary:
                temporary.write_bytes(content)
            keep_newest(self._file.parent.glob("*.rtxcache"))

"""Keep the kernels that TensorRT-RTX compiles on the present GPU, so that only the first start takes that time."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from taijitu_runtime.cache import cache_folder, keep_newest, private_folder, read_own
from taijitu_runtime.errors import WriteError
from taijitu_runtime.files import replacing


class RuntimeCache:
    """The runtime cache of one plan, in `config` (an IRuntimeConfig) from the start, and in a file after `save`.

    Its content is code, so the file is used only in a folder that no other user can write to.
    """

    def __init__(self, config: Any, plan_sha256: str) -> None:
        self._cache = config.create_runtime_cache()
        self._file: Path | None = None
        self._known = b""
        with contextlib.suppress(OSError, RuntimeError):
            self._file = private_folder(cache_folder() / "rtx") / f"{plan_sha256}.rtxcache"
            known = read_own(self._file)
            # It rejects a cache of another driver, GPU or release, and then starts empty.
            self._known = known if self._cache.deserialize(known) else b""
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write newly compiled kernels, if any; on a full disk, only the cache is lost."""
        content = bytes(self._cache.serialize())
        if self._file is None or content == self._known:
            return
        with contextlib.suppress(OSError, WriteError):
            with replacing(self._file, private=True) as temporary:
                temporary.write_bytes(content)
            keep_newest(self._file.parent.glob("*.rtxcache"))

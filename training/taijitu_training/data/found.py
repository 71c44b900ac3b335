"""What the readers of the forms hand to `load_dataset`, and the files that they read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taijitu_training.data.samples import Samples
from taijitu_training.errors import DataError


@dataclass(frozen=True)
class Found:
    """Undecoded pictures; a target is an index into `labels`."""

    form: str
    labels: tuple[str, ...]
    train: Samples
    evaluation: Samples | None  # None: nothing to evaluate on
    evaluation_name: str = "test"


@dataclass(frozen=True)
class Files:
    """Files that belong together, in a folder (their paths) or unpacked from an archive (their bytes)."""

    where: str
    contents: Mapping[str, Path | bytes]

    def __contains__(self, name: str) -> bool:
        return name in self.contents

    def read(self, name: str) -> bytes:
        """The bytes of the file called `name`. DataError where there is none or it cannot be read."""
        content = self.contents.get(name)
        if content is None:
            raise DataError(f"{self.where}: {name} is missing; fetch the data set again, or unpack all of it")
        if isinstance(content, bytes):
            return content
        try:
            return content.read_bytes()
        except OSError as error:
            raise DataError(f"{content}: cannot be read ({error.strerror}); check its permissions") from None

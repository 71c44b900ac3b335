"""Errors of export in addition to taijitu_runtime.errors and taijitu_training.errors, under the same root."""

from __future__ import annotations

from typing import ClassVar

from taijitu_runtime.errors import TaijituError


class ExportError(TaijituError):
    """An artefact was made, is not right, and was not kept; the text says what was measured."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.details = details

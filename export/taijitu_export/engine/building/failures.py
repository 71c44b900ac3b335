"""Errors of TensorRT, in its own words."""

from __future__ import annotations

from typing import Any, TypeVar

from taijitu_export.errors import ExportError
from taijitu_runtime.errors import one_line

T = TypeVar("T")


class BuildError(ExportError):
    """The library could not make an engine; `details`: one line for each of its errors."""


def not_none(thing: T | None, what: str, logger: Any) -> T:
    """Return the library's result. BuildError, with the lines of its logger, where it is None."""
    if thing is None:
        raise BuildError(f"TensorRT could not {what}", log_lines(logger))
    return thing


def log_lines(logger: Any) -> tuple[str, ...]:
    """Return the lines of a library's logger."""
    return tuple(map(one_line, logger.messages)) or ("it gave no reason",)

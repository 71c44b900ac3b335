"""The finding of a check."""

from __future__ import annotations

import dataclasses
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the page. `subject`: the thing that was checked; `cure`: what to do, empty without a problem.

    A problem keeps an installed or connected thing from working; a warning makes it slower, or will matter later.
    """

    level: Level
    subject: str
    text: str
    cure: str = ""


def ok(subject: str, text: str) -> Finding:
    """Return the finding that the subject works, or does not exist here and is not needed."""
    return Finding("ok", subject, text)


def warning(subject: str, text: str, cure: str) -> Finding:
    """Return the finding that the subject works, but not as well as it could."""
    return Finding("warning", subject, text, cure)


def problem(subject: str, text: str, cure: str) -> Finding:
    """Return the finding that the subject does not work."""
    return Finding("problem", subject, text, cure)

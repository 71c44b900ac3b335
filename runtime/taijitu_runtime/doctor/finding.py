"""What a check found."""

from __future__ import annotations

import dataclasses
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the page. `subject`: what was looked at; `cure`: what to do, empty where all is well.

    A problem keeps something that is installed or plugged in from working; a warning is slower, or will surprise later.
    """

    level: Level
    subject: str
    text: str
    cure: str = ""


def ok(subject: str, text: str) -> Finding:
    """All is well, or nothing is there that could be otherwise."""
    return Finding("ok", subject, text)


def warning(subject: str, text: str, cure: str) -> Finding:
    """It works, but not as well as it could."""
    return Finding("warning", subject, text, cure)


def problem(subject: str, text: str, cure: str) -> Finding:
    """It does not work."""
    return Finding("problem", subject, text, cure)

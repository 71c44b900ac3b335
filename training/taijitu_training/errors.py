"""What training raises for input that a user can put right, below the one root of all taijitu's errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from taijitu_runtime.errors import TaijituError

__all__ = ["CheckpointError", "DataError", "TaijituError", "TrainingError", "UnknownNameError"]


class UnknownNameError(TaijituError, ValueError):
    """A model, activation, fusion, recipe or preset that does not exist; the text lists the close names.

    `kind` is the singular noun ("model"), `known` every accepted name.
    """

    def __init__(self, kind: str, got: object, known: Iterable[str]) -> None:
        names = sorted(known)
        by_lower = {name.lower(): name for name in names}
        close = [by_lower[key] for key in difflib.get_close_matches(str(got).lower(), by_lower, n=4, cutoff=0.5)]
        listed = names if len(names) <= 50 else [*names[:5], f"and {len(names) - 5} more"]
        hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(listed)}"
        super().__init__(f"unknown {kind} {got!r}; {hint}")


class DataError(TaijituError):
    """The training pictures are missing, corrupt or do not fit together; the text names the file."""


class CheckpointError(TaijituError):
    """A file that is no checkpoint of ours, or one that does not fit what it was asked for."""


class TrainingError(TaijituError):
    """A run that cannot go on, with the step and what to try."""

"""What this package raises for anything that a user can put right.

TaijituError
├── ArtefactError            a model file that is missing, unreadable, not ours, or whose contract does not hold
├── PictureError             a picture that cannot be decoded or is refused
├── InputError               an array of the wrong type, dtype or shape
├── SourceError              a camera, stream or video that cannot be opened, or was lost for good
├── MissingDependencyError   an optional package is not installed
└── UsageError               a wrong argument, or a call at the wrong time

Every text says what was got, what was expected and what to do. Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal

PictureFault = Literal["unreadable", "empty", "format", "size", "damaged"]


class TaijituError(Exception):
    """Base of every error that a user of `taijitu_runtime` may want to catch."""


class ArtefactError(TaijituError):
    """A model file that is missing, unreadable, without taijitu's contract, or at odds with it."""


class PictureError(TaijituError):
    """A picture that cannot be decoded, or is refused before it is.

    `reason` is one sentence without the picture's name. `fault` is for programs: "unreadable" (no such file, no
    permission), "empty", "format" (no picture of a known kind), "size" (more pixels, bytes or scans than allowed) or
    "damaged". `name` is the picture's path, or empty for bytes.
    """

    def __init__(self, fault: PictureFault, reason: str, name: str = "") -> None:
        super().__init__(f"{name}: {reason}" if name else reason)
        self.fault: PictureFault = fault
        self.reason = reason
        self.name = name


class InputError(TaijituError):
    """An array whose type, dtype, shape or memory order is not what the function takes."""


class SourceError(TaijituError):
    """A camera, stream or video that cannot be opened, or that was lost and did not come back."""


class MissingDependencyError(TaijituError):
    """An optional package is not installed; the text names what to install."""

    def __init__(self, module: str, install: str, detail: object = "no such module") -> None:
        super().__init__(f'got no {module} ({detail}), expected it to be installed; do: pip install "{install}"')


class UsageError(TaijituError):
    """An argument outside its range, an unknown name, or a call at the wrong time."""


def require(module: str, install: str) -> Any:
    """Import and return an optional module; MissingDependencyError, naming `install` for pip, where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(module, install, error) from error

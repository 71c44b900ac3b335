"""Errors for anything that a user can correct: one tree for all packages.

TaijituError
├── ArtefactError                a model file that is missing, unreadable, not ours, or whose contract does not hold
│   ├── EngineError                  an engine that is damaged, or of another GPU, TensorRT or platform: build it again
│   └── ProofError                   a model that does not answer as its passport says
├── DataError                    pictures to learn from or to judge with are missing, damaged or do not fit together
├── DeviceError                  no GPU or driver to run an engine on, or it failed
├── PictureError                 a picture that cannot be decoded or is refused
│   ├── UnreadablePictureError       no such file, or no permission
│   ├── EmptyPictureError            no bytes at all
│   ├── UnknownFormatError           no picture of a known kind
│   ├── DamagedPictureError          truncated or damaged
│   └── PictureTooLargeError         more than the limits allow
│       ├── TooManyBytesError
│       ├── TooManyPixelsError
│       └── TooManyScansError
├── InputError                   an array of the wrong type, dtype or shape
├── MissingDependencyError       an optional package is not installed
├── ProviderError                ONNX Runtime cannot use the processor that was asked for
├── SourceError                  a camera, stream or video that cannot be opened, or was lost
├── UsageError                   a wrong argument, or a call at the wrong time
│   ├── ExplanationError             a model that has no class-activation maps
│   ├── FolderInUseError             another process is at work in the folder
│   └── UnknownNameError             a model, recipe, option, command ... that does not exist; the text has close ones
└── WriteError                   a file that cannot be written: a full disk, no permission, no such folder

`taijitu_training.errors` and `taijitu_export.errors` add those of checkpoints, runs and exports.
Every text says what was got, what was expected and what to do. Anything else that escapes is a bug in taijitu.
"""

from __future__ import annotations

import copyreg
import difflib
import errno
import importlib
import numbers
import re
import sys
from collections.abc import Iterable
from typing import Any, ClassVar

from taijitu_runtime.installed import pip_install

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The numbers of an OSError about a full disk, quota or file."""

OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory", re.IGNORECASE)
"""The texts of torch's RuntimeErrors for a lack of memory."""

MOST_LISTED = 50
"""Known names that are listed; of a longer list the first few are."""


class TaijituError(Exception):
    """Base of every error that a user of taijitu may want to catch.

    `exit_code`: of a command that ends with it. `details`: lines, such as a table, that a command prints before it.
    """

    exit_code: ClassVar[int] = 2
    details: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own calls the class with the text alone, and a pool whose worker raised such an error would break.
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class ArtefactError(TaijituError):
    """A model file that is missing, unreadable, without taijitu's contract, or at odds with it."""


class EngineError(ArtefactError):
    """An engine that does not run here: damaged, or built for another GPU, TensorRT or platform.

    The text says what it was built for, what is here and what to type. Building it again from its ONNX helps.
    """


class ProofError(ArtefactError):
    """A model that does not answer here as its passport says; the text has what differs."""

    exit_code = 1


class DataError(TaijituError):
    """A data set that is missing, damaged, or whose parts do not fit together; the text names the file."""


class DeviceError(TaijituError):
    """No GPU or driver to run an engine on, or a call of CUDA that failed."""


class PictureError(TaijituError):
    """A picture that cannot be decoded, or is refused before it is; always one of the classes below.

    `reason` is one sentence without the picture's name. `fault` is one word for programs, the same for all errors of a
    class. `name` is the picture's path, or empty for bytes.
    """

    fault: ClassVar[str]

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(f"{name}: {reason}" if name else reason)
        self.reason = reason
        self.name = name

    def named(self, name: str) -> PictureError:
        """Return the same error about a picture called `name`."""
        return type(self)(self.reason, name)


class UnreadablePictureError(PictureError):
    """There is no such file, or it may not be read."""

    fault = "unreadable"


class EmptyPictureError(PictureError):
    """A file without a byte."""

    fault = "empty"


class UnknownFormatError(PictureError):
    """Bytes that begin like no picture format that is read, or pixels whose range is not known."""

    fault = "format"


class DamagedPictureError(PictureError):
    """A picture that is cut off or damaged: some of its pixels would have to be guessed."""

    fault = "damaged"


class PictureTooLargeError(PictureError):
    """A picture that would cost more memory or time than `Limits` allow; always one of the three below."""


class TooManyBytesError(PictureTooLargeError):
    """A file longer than `Limits.max_bytes`."""

    fault = "bytes"


class TooManyPixelsError(PictureTooLargeError):
    """A header that declares more than `Limits.max_pixels`."""

    fault = "pixels"


class TooManyScansError(PictureTooLargeError):
    """A JPEG of more than `Limits.max_jpeg_scans`."""

    fault = "scans"


class InputError(TaijituError):
    """An array whose type, dtype, shape or memory order is not what the function takes."""


class SourceError(TaijituError):
    """A camera, stream or video that cannot be opened, or that was lost and not found again."""


class MissingDependencyError(TaijituError, ImportError):
    """An optional package is not installed; the text says how `install`, such as "taijitu[ort]", is installed.

    Where there are several, one has to be installed.
    """

    def __init__(self, module: str, install: str | Iterable[str], detail: object = "no such module") -> None:
        do = pip_install(*([install] if isinstance(install, str) else install))
        super().__init__(f"got no {module} ({detail}), expected it to be installed; do: {do}")


class ProviderError(TaijituError):
    """ONNX Runtime cannot use the processor that was asked for; the text says why, and the cure."""

    def __init__(self, provider: str, reason: str, cure: str) -> None:
        super().__init__(f"got no provider {provider!r} ({reason}), expected ONNX Runtime to load it; do: {cure}")
        self.reason = reason
        self.cure = cure


class UsageError(TaijituError):
    """An argument outside its range, an unknown name, or a call at the wrong time."""


class ExplanationError(UsageError):
    """A model that has no class-activation maps: an engine, or a network that does not end in averaged feature maps."""


class FolderInUseError(UsageError):
    """Another process is at work in the folder; the text has its number."""


class WriteError(TaijituError):
    """A file that cannot be written: a full disk, no permission, no such folder. What was there is untouched."""


class UnknownNameError(UsageError, ValueError):
    """A name that does not exist. `kind`: the noun for it, such as "model"; `known`: every name that does.

    `more`: where all of them are listed.
    """

    def __init__(self, kind: str, got: object, known: Iterable[str], more: str = "") -> None:
        super().__init__(f"unknown {kind} {got!r}; {name_hint(got, known)}{more and f'; {more}'}")


def check_name(kind: str, got: object, known: Iterable[str]) -> None:
    """Raise UnknownNameError unless `got` is one of the `known` names."""
    names = tuple(known)
    if got not in names:
        raise UnknownNameError(kind, got, names)


def check_number(
    name: str, got: object, low: float, high: float, expected: str, *, whole: bool = False, below: bool = False
) -> None:
    """Raise UsageError unless `got` is a number from `low` to `high`, of Python or NumPy.

    `whole`: an integer. `below`: less than `high`.
    """
    kind = numbers.Integral if whole else numbers.Real
    is_one = isinstance(got, kind) and not isinstance(got, bool)
    if not is_one or not low <= got <= high or (below and got == high):  # type: ignore[operator]
        text = repr(got) if not is_one else f"{got:g}" if isinstance(got, float) else str(got)
        raise UsageError(f"got {name} {text}, expected {expected}")


def close_names(got: object, known: Iterable[str], most: int = 4) -> list[str]:
    """Return the known names that are spelt like `got`, ignoring case, the closest first."""
    by_lower = {name.lower(): name for name in known}
    return [by_lower[key] for key in difflib.get_close_matches(str(got).lower(), by_lower, n=most, cutoff=0.51)]


def name_hint(got: object, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the close names, or the known ones."""
    names = sorted(known)
    if close := close_names(got, names):
        return f"did you mean {', '.join(close)}?"
    return f"known: {listed(names, len(names) if len(names) <= MOST_LISTED else 5) or 'none'}"


def listed(names: Iterable[str], most: int = 5, between: str = ", ") -> str:
    """Return the first `most` names in one text, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return between.join(known[:most]) + more


def describe(value: object) -> str:
    """Describe a value for the 'got' of an error: dtype and shape of an array, the type of anything else."""
    import numpy as np  # errors are imported by --help, which does not need it

    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    return f"a {type(value).__name__}"


def path_fault(error: OSError | ValueError) -> str:
    """Return why a path cannot be used; a ValueError is of one with a null byte, or without an encoding."""
    return str(error) if isinstance(error, ValueError) else error.strerror or str(error)


def one_line(error: object) -> str:
    """Return the text of a library's error, which may have several lines, in one."""
    return " ".join(str(error).split())


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, where the others are a trace or a list; its class if it is empty."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def require(module: str, install: str) -> Any:
    """Import and return an optional module; MissingDependencyError, naming `install` for pip, where it is absent."""
    path = list(sys.path)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # OpenCV without one of its libraries leaves its folder there, in which `typing` is one of its own.
        sys.path[:] = path
        raise MissingDependencyError(module, install, error) from error

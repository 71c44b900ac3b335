"""Read pickles of plain types and arrays without running any code that they name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import DataError, one_line


class _Stub:
    """Stands for an object that the pickle would create: it keeps the arguments and creates nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Stub):
    """numpy's _reconstruct(ndarray, (0,), b"b"), then the state (version, shape, dtype, fortran, bytes)."""


class _Buffer(_Stub):
    """numpy's _frombuffer(bytes, dtype, shape, order), of pickle protocol 5."""


class _Bytes(_Stub):
    """codecs.encode(text, "latin1"): bytes, as Python 3 writes them in protocols 0 to 2."""


# Sets, which hash their elements, and ways to create objects that CIFAR's pickles do not use.
_REFUSED_CODES = {
    code[0]
    for code in (
        pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID,
        pickle.BINPERSID, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX,
    )
}  # fmt: skip

_STUBS: dict[tuple[str, str], type[_Stub]] = {
    ("numpy", "ndarray"): _Stub,
    ("numpy", "dtype"): _Stub,
    ("_codecs", "encode"): _Bytes,
}
for _module in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _STUBS[_module + ".multiarray", "_reconstruct"] = _Array
    _STUBS[_module + ".numeric", "_frombuffer"] = _Buffer


_InPython: Any = pickle._Unpickler  # typeshed does not describe its parts


class _Unpickler(_InPython):  # type: ignore[misc]
    """The unpickler in Python, because the one in C cannot be kept from hashing.

    A tuple of two references to a tuple of two references ..., 30 levels deep, takes minutes as a dictionary's key.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        code: load for code, load in _InPython.dispatch.items() if code not in _REFUSED_CODES
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return a stub for a name in CIFAR's pickles. Raises UnpicklingError for any other."""
        if (module, name) not in _STUBS:
            raise pickle.UnpicklingError(f"it wants to run {module}.{name}")
        # A new class, so that changes by the pickle end with it.
        stub = _STUBS[module, name]
        return type(stub.__name__, (stub,), {})

    def load_setitem(self) -> None:
        """Set dict[key] = value, the last three of the stack."""
        _check_key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set all pairs since the mark."""
        for key in self.stack[::2]:
            _check_key(key)
        super().load_setitems()

    def load_dict(self) -> None:
        """Push a dictionary of all pairs since the mark."""
        for key in self.stack[::2]:
            _check_key(key)
        super().load_dict()

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict


def _check_key(key: object) -> None:
    if not isinstance(key, (str, bytes, _Bytes)):
        raise pickle.UnpicklingError(f"it has a {type(key).__name__} for a key")


def load_plain_pickle(content: bytes, name: str) -> dict[str, Any]:
    """Return the pickled dictionary of str keys, plain values and uint8 arrays; nothing is imported or called.

    It may be written by Python 2 or 3.

    Raises:
        DataError: The pickle is damaged, not a dictionary, or has anything else; the text has `name`.
    """
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        if not isinstance(loaded, dict):
            raise ValueError(f"it holds a {type(loaded).__name__}")
        return {_text(key): _plain(value) for key, value in loaded.items()}
    except Exception as error:  # damaged pickles raise nearly anything
        reason = one_line(error) or type(error).__name__
        raise DataError(
            f"{name}: not a pickle of plain arrays and lists ({reason}); nothing of it was run; fetch it again"
        ) from None


def _text(key: Any) -> str:
    key = _plain(key)
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _plain(value: Any) -> Any:
    """Return a value or a list of values. Lists within lists are refused: shared ones may unfold without end."""
    return [_scalar(entry) for entry in value] if isinstance(value, list) else _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, _Bytes):
        if not isinstance(text := value.arguments[0], str):
            raise ValueError(f"it has bytes of a {type(text).__name__}")
        return text.encode("latin1")
    if isinstance(value, _Array):
        _, shape, dtype, fortran, content = value.state
        return _array(content, dtype, shape, "F" if fortran else "C")
    if isinstance(value, _Buffer):
        content, dtype, shape, order = value.arguments
        return _array(content, dtype, shape, order)
    if value is None or isinstance(value, (str, bytes, float)) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    raise ValueError(f"it holds a {type(value).__name__} where plain values and lists of them are expected")


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> NDArray[np.uint8]:
    kind = _scalar(dtype.arguments[0]) if isinstance(dtype, _Stub) else type(dtype).__name__
    if kind not in ("u1", "uint8"):
        raise ValueError(f"got an array of {kind}, expected uint8")
    raw = bytes(content) if isinstance(content, (bytearray, pickle.PickleBuffer)) else _scalar(content)
    if not isinstance(raw, (str, bytes)):
        raise ValueError(f"got the bytes of an array as a {type(raw).__name__}")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    array: NDArray[np.uint8] = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if order == "F" else "C")
    return array

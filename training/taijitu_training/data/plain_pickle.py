"""Pickles of plain types and arrays, read without running anything that they name."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_training.errors import DataError


class _Stub:
    """Stands where the pickle wants an object made: keeps what it was given, makes nothing."""

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


_STUBS: dict[tuple[str, str], type[_Stub]] = {
    ("numpy", "ndarray"): _Stub,
    ("numpy", "dtype"): _Stub,
    ("_codecs", "encode"): _Bytes,
}
for _module in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _STUBS[_module + ".multiarray", "_reconstruct"] = _Array
    _STUBS[_module + ".numeric", "_frombuffer"] = _Buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STUBS:
            raise pickle.UnpicklingError(f"it wants to run {module}.{name}")
        # A class of its own, so that nothing a pickle does to it outlives the pickle.
        stub = _STUBS[module, name]
        return type(stub.__name__, (stub,), {})


def load_plain_pickle(content: bytes, name: str) -> dict[str, Any]:
    """The dictionary that was pickled: str keys, plain values, uint8 arrays as such; nothing is imported or called.

    Written by Python 2 or 3. DataError, with `name`, where it is damaged, no dictionary, or wants anything else.
    """
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        if not isinstance(loaded, dict):
            raise ValueError(f"it holds a {type(loaded).__name__}")
        return {_text(key): _plain(value) for key, value in loaded.items()}
    except Exception as error:  # damaged pickles raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name}: not a pickle of plain arrays and lists ({reason}); nothing of it was run; fetch it again"
        ) from None


def _text(key: Any) -> str:
    key = _plain(key)
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, _Bytes):
        return str(value.arguments[0]).encode("latin1")
    if isinstance(value, _Array):
        _, shape, dtype, fortran, content = value.state
        return _array(content, dtype, shape, "F" if fortran else "C")
    if isinstance(value, _Buffer):
        content, dtype, shape, order = value.arguments
        return _array(content, dtype, shape, order)
    return value


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> NDArray[np.uint8]:
    if not isinstance(dtype, _Stub) or _plain(dtype.arguments[0]) not in ("u1", "uint8"):
        raise ValueError(f"got an array of {dtype.arguments[0] if isinstance(dtype, _Stub) else dtype}, expected uint8")
    content = _plain(content)
    raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
    array: NDArray[np.uint8] = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if order == "F" else "C")
    return array

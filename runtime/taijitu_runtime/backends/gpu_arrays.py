"""Arrays in a GPU's memory, of any library: PyTorch, CuPy, pycuda, Numba, OpenCV.

Two protocols are read. DLPack (`__dlpack__`) comes first where both are there: the library that made the array is told
the stream that will read it, and waits for its own work there. By the CUDA Array Interface
(`__cuda_array_interface__`) it states its stream, and the reader waits. No library is imported.
"""

from __future__ import annotations

import ctypes
import dataclasses
import math
from typing import Any, Protocol

import numpy as np

from taijitu_runtime.errors import InputError, one_line

CUDA_DEVICES = (2, 13)  # DLPack's kDLCUDA and kDLCUDAManaged
DLPACK_KINDS = {0: "i", 1: "u", 2: "f"}
PER_THREAD_STREAM = 2
"""The CUDA stream of this number is another one on each thread."""


@dataclasses.dataclass(frozen=True)
class GpuArray:
    """An array in a GPU's memory: what the protocols say, and a way to give an address as it is.

        GpuArray(mat.cudaPtr(), (1, 224, 224, 3), row_bytes=mat.step)      # OpenCV's GpuMat, RGB

    `address`: of the first element. `shape`, `dtype`: of the array, in C order; a dtype as NumPy takes it. `row_bytes`:
    from one row of a picture to the next, for rows with padding behind them; None for none. `stream`: the CUDA stream,
    as an integer, whose work has to be done before it is read; None for none. `owner`: what has to live until then.
    Raises InputError for a negative size, and for rows that are shorter than their pixels.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = dataclasses.field(default_factory=lambda: np.dtype(np.uint8))
    row_bytes: int | None = None
    stream: int | None = None
    owner: Any = dataclasses.field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        object.__setattr__(self, "shape", tuple(self.shape))
        if min(self.shape, default=0) < 0:
            raise InputError(f"got an array of shape {self.shape} on a GPU, expected no negative size")
        if self.row_bytes is not None and self.row_bytes < self.row_size:
            raise InputError(
                f"got row_bytes {self.row_bytes}, expected at least the {self.row_size} bytes of a row's pixels"
            )

    @property
    def nbytes(self) -> int:
        """The bytes of all elements, without padding."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_size(self) -> int:
        """The bytes of one row without its padding: the last two dimensions, pixels and their channels."""
        return math.prod(self.shape[-2:]) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __str__(self) -> str:
        return f"a {self.dtype} array of shape {self.shape} on a GPU"

    def rows(self, start: int, stop: int) -> GpuArray:
        """Return the images from `start` to before `stop` of a batch (N, H, W, 3), without a copy."""
        stop = min(stop, len(self))
        per_image = (self.row_bytes or self.row_size) * self.shape[1]
        shape = (stop - start, *self.shape[1:])
        return dataclasses.replace(self, address=self.address + start * per_image, shape=shape)

    def as_batch(self) -> GpuArray:
        """Return (H, W, 3) as (1, H, W, 3), and any other shape unchanged."""
        return dataclasses.replace(self, shape=(1, *self.shape)) if len(self.shape) == 3 else self


class DlpackArray(Protocol):
    """An array that names its device by DLPack, such as a tensor of PyTorch; for type checkers."""

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


class CudaArray(Protocol):
    """An array with the CUDA Array Interface, such as one of pycuda; for type checkers."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


def is_on_gpu(thing: Any) -> bool:
    """Return whether a thing says of itself that it is an array in a GPU's memory."""
    if isinstance(thing, GpuArray):
        return True
    if isinstance(thing, np.ndarray):
        return False
    device = getattr(type(thing), "__dlpack_device__", None)
    try:
        if device is not None:
            return int(device(thing)[0]) in CUDA_DEVICES
        return hasattr(thing, "__cuda_array_interface__")
    except Exception:  # such as PyTorch's ValueError for a tensor without memory, on its device "meta"
        return False


def read_gpu_array(thing: Any, stream: int) -> GpuArray:
    """Return an array in a GPU's memory, without a copy.

    It must be asked for on the thread that made the array: libraries have a current stream for each thread.

    Args:
        thing: An array for which `is_on_gpu` is true.
        stream: The CUDA stream, as an integer, that will read it.

    Raises:
        InputError: For an array on another device than the first, one whose elements are not in C order, and one
            that cannot be read.
    """
    if isinstance(thing, GpuArray):
        return thing
    try:
        return _by_dlpack(thing, stream) if hasattr(type(thing), "__dlpack__") else _by_interface(thing)
    except InputError:
        raise
    except Exception as error:  # of each library's own classes, such as PyTorch's for a tensor that needs gradients
        raise InputError(
            f"got {_name(thing)} that cannot be read ({one_line(error)}), expected an array on the GPU; "
            "of a tensor give tensor.detach()"
        ) from None


def _by_interface(thing: Any) -> GpuArray:
    interface = thing.__cuda_array_interface__
    shape, dtype = tuple(map(int, interface["shape"])), np.dtype(interface["typestr"])
    stream = interface.get("stream")
    if stream == 0:  # the protocol forbids it: it could be either of two
        raise InputError(
            f"got {_name(thing)} with stream 0, expected 1 (legacy) or 2 (per thread) or a stream's address"
        )
    if interface.get("mask") is not None:
        raise InputError(f"got {_name(thing)} with a mask, expected an array without; fill it first")
    strides = tuple(map(int, interface["strides"])) if interface.get("strides") else None
    row_bytes = _row_bytes(thing, shape, dtype, strides)
    return GpuArray(int(interface["data"][0]), shape, dtype, row_bytes, None if stream is None else int(stream), thing)


class _DlTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _by_dlpack(thing: Any, stream: int) -> GpuArray:
    kind, device = thing.__dlpack_device__()
    if device != 0:
        raise InputError(f"got {_name(thing)} on GPU {device}, expected it on GPU 0, where the model is; copy it there")
    assert int(kind) in CUDA_DEVICES
    capsule = thing.__dlpack__(stream=stream)
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    # The capsule is not taken over: it frees the array itself when it goes, after the model has read it.
    tensor = ctypes.cast(address(capsule, b"dltensor"), ctypes.POINTER(_DlTensor)).contents
    if tensor.code not in DLPACK_KINDS or tensor.lanes != 1:
        raise InputError(f"got {_name(thing)} of a type that NumPy does not have, expected uint8 or float32")
    dtype = np.dtype(f"{DLPACK_KINDS[tensor.code]}{tensor.bits // 8}")
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(step * dtype.itemsize for step in tensor.strides[: tensor.ndim]) if tensor.strides else None
    start = int(tensor.data or 0) + int(tensor.byte_offset)
    return GpuArray(start, shape, dtype, _row_bytes(thing, shape, dtype, strides), None, (thing, capsule))


def _row_bytes(thing: Any, shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...] | None) -> int | None:
    """Return the bytes from one row of a picture to the next where rows end in padding, otherwise None.

    `strides`: in bytes, None for C order. InputError unless the elements are in C order apart from that padding.
    """
    plain = [dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    row_bytes = None
    if strides is not None and len(shape) in (3, 4):
        row_axis = len(shape) - 3
        row_bytes = strides[row_axis] if strides[row_axis] > plain[row_axis] else None
        if row_bytes is not None:
            plain[row_axis] = row_bytes
            plain[:row_axis] = [row_bytes * shape[row_axis]] * row_axis
    if strides is not None and any(size > 1 and got != wanted for size, got, wanted in zip(shape, strides, plain)):
        raise InputError(
            f"got {_name(thing)} of shape {shape} with strides {strides} in bytes, expected C order; make it contiguous"
        )
    return row_bytes


def _name(thing: Any) -> str:
    return f"a {type(thing).__module__}.{type(thing).__qualname__}"

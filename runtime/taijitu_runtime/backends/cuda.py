"""All calls of CUDA: one GPU's primary context, its memory, streams, events and graphs. TensorRT is not used here.

They use NVIDIA's cuda-bindings, which has wheels for x86-64 and aarch64 and can capture CUDA graphs; pycuda is compiled
at every installation and cannot.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends.gpu_arrays import GpuArray
from taijitu_runtime.errors import DeviceError, InputError, one_line, require
from taijitu_runtime.installed import cuda_release
from taijitu_runtime.machine import board_model

INSTALL = "cuda-bindings"
NO_DRIVER = "got no usable GPU ({}), expected NVIDIA's driver and a GPU; try nvidia-smi, in a container --gpus all"


@dataclasses.dataclass(frozen=True)
class GpuModel:
    """The model of a GPU.

    Attributes:
        name: Such as "NVIDIA GeForce RTX 4090", or "Orin" for every Jetson Orin.
        compute_capability: Such as "8.7".
        multiprocessors: Their number.
        memory_bytes: All memory, on a board shared with the CPU.
        board: The name of the board; "" elsewhere.
    """

    name: str
    compute_capability: str
    multiprocessors: int
    memory_bytes: int
    board: str = ""

    def __str__(self) -> str:
        parts = [self.name, f"{self.multiprocessors} multiprocessors", f"{self.memory_bytes / 2**30:.1f} GiB"]
        return ", ".join(parts + ([self.board] if self.board else []))


class Gpu:
    """The first GPU that CUDA shows (CUDA_VISIBLE_DEVICES chooses), in its primary context.

    The context is made current on the calling thread, and every method must be called there. The Gpu owns everything
    that it returns (memory, streams, events, graphs) and frees it in `close`, the last first.

    Raises:
        DeviceError: There is no driver or GPU.
        MissingDependencyError: cuda-bindings is not installed.
    """

    def __init__(self) -> None:
        self._driver = require("cuda.bindings.driver", INSTALL)
        self._owned = ExitStack()
        try:
            self._call("cuInit", 0)
            self._device = self._call("cuDeviceGet", 0)
        except DeviceError as error:
            raise DeviceError(NO_DRIVER.format(error)) from None
        # The primary context is the one that TensorRT, PyTorch and all other users of CUDA's runtime share.
        context = self._call("cuDevicePrimaryCtxRetain", self._device)
        self._owned.callback(self._call, "cuDevicePrimaryCtxRelease", self._device)
        self._call("cuCtxPushCurrent", context)
        self._owned.callback(self._call, "cuCtxPopCurrent")

    def close(self) -> None:
        """Free everything; may be called twice."""
        self._owned.close()

    @property
    def model(self) -> GpuModel:
        """The model of the GPU."""
        text: bytes = self._call("cuDeviceGetName", 256, self._device)
        major, minor = self._attribute("COMPUTE_CAPABILITY_MAJOR"), self._attribute("COMPUTE_CAPABILITY_MINOR")
        return GpuModel(
            name=text.split(b"\0")[0].decode(),
            compute_capability=f"{major}.{minor}",
            multiprocessors=self._attribute("MULTIPROCESSOR_COUNT"),
            memory_bytes=int(self._call("cuDeviceTotalMem", self._device)),
            board=board_model(),
        )

    @property
    def driver(self) -> str:
        """The newest CUDA that the driver supports, such as "CUDA 13.0"."""
        return f"CUDA {cuda_release(int(self._call('cuDriverGetVersion')))}"

    @property
    def free_bytes(self) -> int:
        """The free bytes of its memory."""
        free, _ = self._call("cuMemGetInfo")
        return int(free)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Allocate page-locked host memory as an array, for direct copies; freed with the Gpu."""
        size = max(1, int(np.prod(shape))) * np.dtype(dtype).itemsize
        address = int(self._call("cuMemHostAlloc", size, 0))
        self._owned.callback(self._call, "cuMemFreeHost", address)
        raw = (ctypes.c_uint8 * size).from_address(address)
        return np.frombuffer(raw, dtype, count=int(np.prod(shape))).reshape(shape)

    def memory(self, size_bytes: int) -> int:
        """Allocate memory of the GPU and return its address."""
        address = int(self._call("cuMemAlloc", max(1, size_bytes)))
        self._owned.callback(self._call, "cuMemFree", address)
        return address

    def stream(self) -> int:
        """Create a stream and return it as the integer that TensorRT takes."""
        stream = self._call("cuStreamCreate", self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value)
        self._owned.callback(self._call, "cuStreamDestroy", stream)
        return int(stream)

    def event(self) -> Any:
        """Create an event with timing."""
        event = self._call("cuEventCreate", self._driver.CUevent_flags.CU_EVENT_DEFAULT.value)
        self._owned.callback(self._call, "cuEventDestroy", event)
        return event

    def record(self, event: Any, stream: int) -> None:
        """Record the event when the stream reaches it."""
        self._call("cuEventRecord", event, stream)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Return the time between two events that have been recorded."""
        return float(self._call("cuEventElapsedTime", start, end))

    def upload(self, target: int, source: NDArray[Any], stream: int) -> None:
        """Start to copy a pinned, C-contiguous array to the GPU."""
        self._call("cuMemcpyHtoDAsync", target, source.ctypes.data, source.nbytes, stream)

    def download(self, target: NDArray[Any], source: int, stream: int) -> None:
        """Start to copy from the GPU into a pinned, C-contiguous array."""
        self._call("cuMemcpyDtoHAsync", target.ctypes.data, source, target.nbytes, stream)

    def copy(self, target: int, source: GpuArray, stream: int) -> None:
        """Start to copy an array on this GPU to another place there, without the padding of its rows."""
        if source.row_bytes is None:
            self._call("cuMemcpyDtoDAsync", target, source.address, source.nbytes, stream)
            return
        copy = self._driver.CUDA_MEMCPY2D()
        copy.srcMemoryType = copy.dstMemoryType = self._driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
        copy.srcDevice, copy.srcPitch = source.address, source.row_bytes
        copy.dstDevice, copy.dstPitch = target, source.row_size
        copy.WidthInBytes, copy.Height = source.row_size, source.nbytes // source.row_size
        self._call("cuMemcpy2DAsync", copy, stream)

    def wait_for(self, other: int, stream: int) -> None:
        """Let `stream` continue when `other`, numbered as the CUDA Array Interface does, has done its work so far."""
        event = self._call("cuEventCreate", self._driver.CUevent_flags.CU_EVENT_DISABLE_TIMING.value)
        try:
            self._call("cuEventRecord", event, other)
            self._call("cuStreamWaitEvent", stream, event, 0)
        finally:
            self._call("cuEventDestroy", event)  # CUDA keeps it for as long as it is waited for

    def check_address(self, address: int) -> None:
        """Raise InputError unless an address is in this GPU's memory."""
        kind = self._driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        try:
            ordinal = int(self._call("cuPointerGetAttribute", kind, address))
        except DeviceError as error:
            raise InputError(
                f"got an array at {address:#x}, which is in no GPU's memory ({error}), expected one on the GPU"
            ) from None
        if ordinal != int(self._device):
            raise InputError(
                f"got an array on GPU {ordinal}, expected it on the model's, {int(self._device)}; copy it there"
            )

    def synchronise(self, stream: int) -> None:
        """Wait until the stream has finished; a fault on the GPU is raised here."""
        self._call("cuStreamSynchronize", stream)

    @contextmanager
    def capturing(self, stream: int) -> Iterator[list[Any]]:
        """Capture the work on the stream instead of running it; the list then holds one graph for `launch`."""
        graphs: list[Any] = []
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)
        try:
            yield graphs
        except BaseException:
            # The stream must leave capture mode also where capturing failed; then there is no graph.
            self._driver.cuStreamEndCapture(stream)
            raise
        graph = self._call("cuStreamEndCapture", stream)
        try:
            executable = self._call("cuGraphInstantiate", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)
        self._owned.callback(self._call, "cuGraphExecDestroy", executable)
        graphs.append(executable)

    def launch(self, graph: Any, stream: int) -> None:
        """Put a captured graph on the stream."""
        self._call("cuGraphLaunch", graph, stream)

    def _attribute(self, name: str) -> int:
        kind = getattr(self._driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._call("cuDeviceGetAttribute", kind, self._device))

    def _call(self, name: str, *arguments: Any) -> Any:
        """Return the results of a call without its status: None, a value, or a tuple. DeviceError for a bad status."""
        function = getattr(self._driver, name)
        try:
            status, *values = function(*arguments)
        except (RuntimeError, OSError) as error:  # no libcuda, or one that is too old for this call
            raise DeviceError(f"{name}: {one_line(error)}") from None
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"{name}: {status.name}")
        return values[0] if len(values) == 1 else tuple(values) or None

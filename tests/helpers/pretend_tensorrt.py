"""A simulation of TensorRT and a GPU by their documentation, in the host's memory, for code that would need a GPU.

The network is the colours' average. A context has the shape that it was given last, and a graph the work that was on
the stream while it was captured, so that a graph of another shape, or memory that was not given, is noticed.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends.gpu_arrays import GpuArray

SIDE = 8


class PretendGpu:
    """The methods of backends.cuda.Gpu. `launched`: the number of pictures of each captured graph that ran."""

    def __init__(self, bytes_a_graph: int = 0) -> None:
        self.memories: list[NDArray[np.uint8]] = []
        self.launched: list[int] = []
        self.waits: list[int] = []
        self.free_bytes = 1 << 30
        self._bytes_a_graph = bytes_a_graph
        self._recording: list[Callable[[], int]] | None = None

    def stream(self) -> int:
        return 7

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    def memory(self, size_bytes: int) -> int:
        self.memories.append(np.full(max(1, size_bytes), 255, np.uint8))
        return int(self.memories[-1].ctypes.data)

    def upload(self, target: int, source: NDArray[Any], stream: int) -> None:
        ctypes.memmove(target, source.ctypes.data, source.nbytes)

    def download(self, target: NDArray[Any], source: int, stream: int) -> None:
        ctypes.memmove(target.ctypes.data, source, target.nbytes)

    def copy(self, target: int, source: GpuArray, stream: int) -> None:
        step = source.row_bytes or source.row_size
        for row in range(source.nbytes // source.row_size):
            ctypes.memmove(target + row * source.row_size, source.address + row * step, source.row_size)

    def check_address(self, address: int) -> None:
        pass

    def wait_for(self, other: int, stream: int) -> None:
        self.waits.append(other)

    def synchronise(self, stream: int) -> None:
        assert self._recording is None, "no stream can be waited for while it is captured"

    @contextmanager
    def capturing(self, stream: int) -> Iterator[list[Any]]:
        graphs: list[Any] = []
        self._recording = recorded = []
        try:
            yield graphs
        finally:
            self._recording = None
        graphs.append(recorded)
        self.free_bytes -= self._bytes_a_graph

    def launch(self, graph: list[Callable[[], int]], stream: int) -> None:
        self.launched += [work() for work in graph]

    def put(self, work: Callable[[], int]) -> None:
        """Run or record the work that a context enqueues."""
        if self._recording is None:
            work()
        else:
            self._recording.append(work)


class Strategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class Context:
    """An IExecutionContext of the colours' average."""

    def __init__(self, gpu: PretendGpu, has_memory: bool) -> None:
        self._gpu, self._has_memory = gpu, has_memory
        self._addresses: dict[str, int] = {}
        self._batch = 0
        self.runs = 0

    def set_device_memory(self, address: int, size: int) -> None:
        self._has_memory = size > 0

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._batch = shape[0]
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if not self._has_memory or not self._batch:
            return False
        batch, images, logits = self._batch, self._addresses["images"], self._addresses["logits"]

        def work() -> int:
            pictures = np.ctypeslib.as_array((ctypes.c_uint8 * (batch * SIDE * SIDE * 3)).from_address(images))
            averages = pictures.reshape(batch, SIDE * SIDE, 3).mean(axis=1).astype(np.float32)
            ctypes.memmove(logits, averages.ctypes.data, averages.nbytes)
            return batch

        self.runs += 1
        self._gpu.put(work)
        return True


class PlainContext(Context):
    """A context before TensorRT 10.1, to which memory cannot be given."""

    set_device_memory = None  # type: ignore[assignment]


class PretendEngine:
    """An ICudaEngine for pictures of SIDE x SIDE, and the IRuntime that deserialises it."""

    device_memory_size_v2 = 1024
    num_io_tensors = 2

    def __init__(self, gpu: PretendGpu, smallest: int, largest: int, context: type[Context] = Context) -> None:
        self._gpu, self._context = gpu, context
        self._smallest, self._largest = smallest, largest
        self.contexts: list[Context] = []

    def deserialize_cuda_engine(self, plan: bytes) -> PretendEngine:
        return self

    def get_tensor_name(self, index: int) -> str:
        return ("images", "logits")[index]

    def get_tensor_mode(self, name: str) -> str:
        return {"images": "in", "logits": "out"}[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return {"images": (-1, SIDE, SIDE, 3), "logits": (-1, 3)}[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return {"images": np.uint8, "logits": np.float32}[name]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(size, SIDE, SIDE, 3) for size in (self._smallest, self._largest, self._largest)]

    def create_execution_context(self, strategy: object = Strategy.STATIC) -> Context:
        self.contexts.append(self._context(self._gpu, strategy is not Strategy.USER_MANAGED))
        return self.contexts[-1]

    def create_runtime_config(self) -> SimpleNamespace:
        cache = SimpleNamespace(deserialize=lambda known: True, serialize=lambda: b"")
        return SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=lambda cache: True)


class Module:
    """The module `tensorrt`, or `tensorrt_rtx`."""

    float32 = np.float32
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    ExecutionContextAllocationStrategy = Strategy
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE=1, DISABLED=0)

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1)

    def __init__(self, context: type[Context] = Context) -> None:
        is_plain = issubclass(context, PlainContext)
        self.IExecutionContext = type("IExecutionContext", (), {}) if is_plain else context

    @staticmethod
    def nptype(dtype: Any) -> Any:
        return dtype

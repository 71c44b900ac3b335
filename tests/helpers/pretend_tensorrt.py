"""A simulation of TensorRT and a GPU by their documentation, in the host's memory, for code that would need a GPU.

A network is a function of arrays: the colours' average, or another one. A context has the shape that it was given last,
and a graph the work that was on the stream while it was captured, so that a graph of another shape, or memory that was
not given, is noticed.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from taijitu_runtime.backends.cuda import GpuModel
from taijitu_runtime.backends.gpu_arrays import GpuArray
from taijitu_runtime.card import ModelCard
from taijitu_runtime.engine_card import BuiltFor, Library, ShapeRange, Source, TensorSpec, platform_here
from tests.helpers.tiny_engine import save_with_sidecar

SIDE = 8


class PretendGpu:
    """The methods of backends.cuda.Gpu.

    `launched`: the number of pictures of each captured graph that ran. `copies`: how many arrays went up and down.
    `synchronised`: the streams that were waited for, each with the thread that did.
    """

    model = GpuModel("card", "8.7", 8, 1 << 33)

    def __init__(self, bytes_a_graph: int = 0) -> None:
        self.memories: list[NDArray[np.uint8]] = []
        self.launched: list[int] = []
        self.waits: list[int] = []
        self.synchronised: list[tuple[int, int]] = []
        self.copies = {"up": 0, "down": 0}
        self.is_closed = False
        self.free_bytes = 1 << 30
        self._bytes_a_graph = bytes_a_graph
        self._recording: list[Callable[[], int]] | None = None

    def stream(self) -> int:
        return 7

    def event(self) -> list[float]:
        return [math.nan]

    def record(self, event: list[float], stream: int) -> None:
        event[0] = time.perf_counter()

    def elapsed_ms(self, start: list[float], end: list[float]) -> float:
        return 1000 * (end[0] - start[0])

    def close(self) -> None:
        self.is_closed = True

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    def memory(self, size_bytes: int) -> int:
        self.memories.append(np.full(max(1, size_bytes), 255, np.uint8))
        return int(self.memories[-1].ctypes.data)

    def upload(self, target: int, source: NDArray[Any], stream: int) -> None:
        self.copies["up"] += 1
        ctypes.memmove(target, source.ctypes.data, source.nbytes)

    def download(self, target: NDArray[Any], source: int, stream: int) -> None:
        self.copies["down"] += 1
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
        self.synchronised.append((stream, threading.get_ident()))

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


@dataclasses.dataclass(frozen=True)
class Network:
    """Dtype and shape of each input and output by name, -1 for the batch, and a function from arrays to arrays.

    `largest`: the shapes of outputs whose shape depends on the values.
    """

    inputs: dict[str, tuple[Any, tuple[int, ...]]]
    outputs: dict[str, tuple[Any, tuple[int, ...]]]
    compute: Callable[..., tuple[NDArray[Any], ...]]
    largest: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        return {**self.inputs, **self.outputs}


COLOURS = Network(
    {"images": (np.uint8, (-1, SIDE, SIDE, 3))},
    {"logits": (np.float32, (-1, 3))},
    lambda images: (images.reshape(len(images), SIDE * SIDE, 3).mean(axis=1),),
)
SCALED = Network(
    {"x": (np.float32, (-1, 3, 4, 5)), "scale": (np.float16, (-1, 1))},
    {"result": (np.float32, (-1, 3)), "halves": (np.float16, (-1, 1))},
    lambda x, scale: (x.mean(axis=(2, 3)) * scale, scale / 2),
)
CHOSEN = Network(
    {"x": (np.float32, (-1, 5))},
    {"places": (np.int64, (2, -1))},
    lambda x: (np.full((2, 20), x.sum()),),
    largest={"places": (2, 20)},
)


class Context:
    """An IExecutionContext of a network."""

    def __init__(self, gpu: PretendGpu, has_memory: bool, network: Network = COLOURS) -> None:
        self._gpu, self._has_memory, self._network = gpu, has_memory, network
        self._addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.profiler: Any = None
        self.runs = 0

    def set_device_memory(self, address: int, size: int) -> None:
        self._has_memory = size > 0

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in self._network.tensors

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return name in self._network.inputs

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._network.largest:
            return self._network.tensors[name][1]
        batch = next(iter(self.shapes.values()))[0]
        return self.shapes.get(name) or (batch, *self._network.tensors[name][1][1:])

    def get_max_output_size(self, name: str) -> int:
        return math.prod(self._network.largest[name]) * np.dtype(self._network.tensors[name][0]).itemsize

    def execute_async_v3(self, stream: int) -> bool:
        if not self._has_memory or not self._network.inputs.keys() <= self.shapes.keys():
            return False
        arrays = {name: self._array(name, dtype) for name, (dtype, _) in self._network.tensors.items()}

        def work() -> int:
            results = self._network.compute(*(arrays[name] for name in self._network.inputs))
            for name, result in zip(self._network.outputs, results):
                arrays[name][...] = result
            return next(iter(self.shapes.values()))[0]

        self.runs += 1
        self._gpu.put(work)
        if self.profiler is not None:
            self.profiler.report_layer_time("all", 0.5)
        return True

    def _array(self, name: str, dtype: Any) -> NDArray[Any]:
        shape = self._network.largest.get(name) or self.get_tensor_shape(name)
        size = math.prod(shape) * np.dtype(dtype).itemsize
        return np.frombuffer((ctypes.c_uint8 * size).from_address(self._addresses[name]), dtype).reshape(shape)


class PlainContext(Context):
    """A context before TensorRT 10.1, to which memory cannot be given."""

    set_device_memory = None  # type: ignore[assignment]


class PretendEngine:
    """An ICudaEngine of a network, and the IRuntime that deserialises it."""

    device_memory_size_v2 = 1024

    def __init__(
        self, gpu: PretendGpu, smallest: int, largest: int, context: type[Context] = Context, network: Network = COLOURS
    ) -> None:
        self._gpu, self._context, self._network = gpu, context, network
        self._smallest, self._largest = smallest, largest
        self.num_io_tensors = len(network.tensors)
        self.contexts: list[Context] = []

    def deserialize_cuda_engine(self, plan: bytes) -> PretendEngine:
        return self

    def get_tensor_name(self, index: int) -> str:
        return list(self._network.tensors)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in self._network.inputs else "out"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._network.tensors[name][1]

    def get_tensor_dtype(self, name: str) -> Any:
        return np.dtype(self._network.tensors[name][0])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        rest = self._network.inputs[name][1][1:]
        return [(size, *rest) for size in (self._smallest, self._largest, self._largest)]

    def create_execution_context(self, strategy: object = Strategy.STATIC) -> Context:
        self.contexts.append(self._context(self._gpu, strategy is not Strategy.USER_MANAGED, self._network))
        return self.contexts[-1]

    def create_engine_inspector(self) -> SimpleNamespace:
        told = {"Layers": ["all"], "Bindings": list(self._network.tensors)}
        return SimpleNamespace(get_engine_information=lambda how: json.dumps(told))

    def create_runtime_config(self) -> SimpleNamespace:
        cache = SimpleNamespace(deserialize=lambda known: True, serialize=lambda: b"")
        return SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=lambda cache: True)


class Module:
    """The module `tensorrt`, or `tensorrt_rtx`."""

    __version__ = "10.3.0"
    float32 = np.float32
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    ExecutionContextAllocationStrategy = Strategy
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE=1, DISABLED=0)

    LayerInformationFormat = SimpleNamespace(JSON=1)
    IProfiler = object

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1)

    def __init__(self, context: type[Context] = Context, engine: PretendEngine | None = None) -> None:
        self.Runtime = lambda logger: engine
        is_plain = issubclass(context, PlainContext)
        self.IExecutionContext = type("IExecutionContext", (), {}) if is_plain else context

    @staticmethod
    def nptype(dtype: Any) -> Any:
        return dtype


def pretend(
    path: Path,
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    *,
    smallest: int = 1,
    largest: int = 4,
    card: ModelCard | None = None,
) -> tuple[PretendGpu, PretendEngine]:
    """Write an engine of TensorRT with its sidecar, which the simulation deserialises. `card`: its contract, if any."""
    gpu = PretendGpu()
    engine = PretendEngine(gpu, smallest, largest, network=network)
    monkeypatch.setitem(sys.modules, "tensorrt", cast(Any, Module(engine=engine)))
    monkeypatch.setattr("taijitu_runtime.backends.trt.plan.Gpu", lambda: gpu)

    def specs(tensors: dict[str, tuple[Any, tuple[int, ...]]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name, np.dtype(dtype).name, shape) for name, (dtype, shape) in tensors.items())

    save_with_sidecar(
        path,
        b"ftrt, pretended",
        card=card,
        library=Library("tensorrt", Module.__version__),
        built_for=BuiltFor(platform=platform_here(), compute_capabilities=("8.7",), gpu=gpu.model.name, driver=None),
        layers=1,
        profile={name: ShapeRange(*engine.get_tensor_profile_shape(name, 0)) for name in network.inputs},
        inputs=specs(network.inputs),
        outputs=specs(network.outputs),
        source=Source("model.onnx", "0" * 64),
        arguments=(),
    )
    return gpu, engine

"""Any engine to be measured: a classifier with a contract, or another one, as for trtexec."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends.contract import Tensor
from taijitu_runtime.backends.trt.plan import Plan, open_plan
from taijitu_runtime.bench.inputs import Shape, requested_shapes
from taijitu_runtime.engine_card import EngineCard, ShapeRange, TensorSpec
from taijitu_runtime.errors import UsageError

Buffer = tuple[NDArray[Any], int]
"""A pinned array, and the address of its counterpart on the GPU."""


class TrtNetwork:
    """An engine with its sidecar: `with TrtNetwork(path) as network: network.prepare(feeds)`.

    `rebuild` and the errors as for TrtBackend, except that nothing is asked of labels, names, types and shapes.
    `cuda_graph`: the network is one CUDA graph. Everything is called on the thread that enters it.
    """

    bulk = None
    """How many images are answered at once: not by several runs, as on a CPU."""

    def __init__(self, path: Path, *, cuda_graph: bool = False, rebuild: bool = False) -> None:
        self.path, self.cuda_graph = path, cuda_graph
        self._rebuild = rebuild
        self._plan: Plan | None = None
        self._inputs: dict[str, Buffer] = {}
        self._outputs: dict[str, Buffer] = {}
        self._context: Any = None
        self._graph: Any = None

    def __enter__(self) -> TrtNetwork:
        self._plan = open_plan(self.path, EngineCard.read(self.path), rebuild=self._rebuild)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context = None  # before the plan
        traceback.clear_frames(trace)  # those of an error may hold contexts too
        plan, self._plan = self.plan, None
        plan.close()

    @property
    def plan(self) -> Plan:
        """The opened plan."""
        assert self._plan is not None, "it is used inside `with`"
        return self._plan

    @property
    def inputs(self) -> list[Tensor]:
        """What it takes. Raises UsageError for a type that NumPy does not have."""
        return [self._tensor(each) for each in self.plan.card.inputs]

    @property
    def title(self) -> str:
        """What it is called, and its precision where a card says so."""
        card = self.plan.card.card
        if card is None:
            return f"{self.path.stem}, without a contract"
        return f"{card.architecture.name}, {card.precision.name}"

    def shapes(self, text: str | None) -> dict[str, Shape]:
        """Return the shape of each input: the requested one, or the smallest that it was built for.

        `text`: of --shapes. UsageError where the engine was not built for it.
        """
        asked = requested_shapes(text)
        ranges = {tensor.name: self._range(tensor) for tensor in self.plan.card.inputs}
        for name, shape in asked.items():
            if name not in ranges or not _is_within(shape, ranges[name]):
                expected = ", ".join(f"{each}:{_written(sizes)}" for each, sizes in ranges.items())
                raise UsageError(f"{self.path}: got --shapes={text}, expected {expected}")
        return {name: asked.get(name, sizes.min) for name, sizes in ranges.items()}

    def prepare(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Take an array for each input, copied to the GPU already, and capture the graph if there is to be one."""
        self._inputs = {name: self._buffer(array.shape, array.dtype) for name, array in feeds.items()}
        for name, (array, _) in self._inputs.items():
            array[...] = feeds[name]
        self._context = self._new_context(cuda_graph=self.cuda_graph)
        self.upload()
        if self.cuda_graph:
            self._graph = self.plan.capture(self._context)

    def upload(self) -> None:
        """Start to copy the inputs to the GPU."""
        for array, memory in self._inputs.values():
            self.plan.gpu.upload(memory, array, self.plan.stream)

    def enqueue(self) -> None:
        """Start the network, as one CUDA graph where there is one."""
        if self._graph is not None:
            self.plan.gpu.launch(self._graph, self.plan.stream)
        else:
            self.plan.execute(self._context)

    def download(self) -> None:
        """Start to copy the outputs back."""
        for array, memory in self._outputs.values():
            self.plan.gpu.download(array, memory, self.plan.stream)

    @contextmanager
    def reporting_layers(self, report: Callable[[str, float], None]) -> Iterator[None]:
        """Call `report(name, time_ms)` for every layer of every query; without a CUDA graph, which has no layers."""

        class Profiler(self.plan.trt.IProfiler):  # type: ignore[misc, name-defined]  # the class is known only here
            def report_layer_time(self, name: str, time_ms: float) -> None:
                report(name, time_ms)

        usual = self._context, self._graph
        self._context, self._graph = self._new_context(cuda_graph=False), None  # a context keeps its profiler
        self._context.profiler = Profiler()
        try:
            yield
        finally:
            self._context, self._graph = usual

    def layer_info(self) -> dict[str, Any]:
        """Return the output of TensorRT's engine inspector: names only, unless the engine was built with more."""
        return self.plan.layer_info(self._context)

    def _new_context(self, *, cuda_graph: bool) -> Any:
        context = self.plan.new_context(cuda_graph=cuda_graph)
        for name, (array, memory) in self._inputs.items():
            self.plan.set_input(context, name, array.shape)
            context.set_tensor_address(name, memory)
        for tensor in self.plan.card.outputs:
            if tensor.name not in self._outputs:
                self._outputs[tensor.name] = self._buffer((self._output_bytes(context, tensor.name),), np.uint8)
            context.set_tensor_address(tensor.name, self._outputs[tensor.name][1])
        return context

    def _output_bytes(self, context: Any, name: str) -> int:
        shape: Shape = tuple(context.get_tensor_shape(name))
        if min(shape, default=0) < 0:  # it depends on the values
            return max(0, int(context.get_max_output_size(name)))
        bytes_each: float = self.plan.engine.get_tensor_dtype(name).itemsize  # half a byte for four bits
        return math.ceil(math.prod(shape) * bytes_each)

    def _buffer(self, shape: Shape, dtype: Any) -> Buffer:
        array = self.plan.gpu.pinned(shape, dtype)
        return array, self.plan.gpu.memory(array.nbytes)

    def _range(self, tensor: TensorSpec) -> ShapeRange:
        for profile in self.plan.card.profiles[:1]:  # the one that a context has
            if tensor.name in profile:
                return profile[tensor.name]
        return ShapeRange(tensor.shape, tensor.shape, tensor.shape)

    def _tensor(self, tensor: TensorSpec) -> Tensor:
        try:
            dtype = np.dtype(tensor.dtype).name
        except TypeError:
            raise UsageError(
                f"{self.path}: got an input {tensor.name} of {tensor.dtype}, expected a type that NumPy has; build it "
                "of a graph with a float32 input"
            ) from None
        return Tensor(tensor.name, dtype, tuple(None if side == -1 else side for side in tensor.shape))


def _is_within(shape: Shape, sizes: ShapeRange) -> bool:
    return len(shape) == len(sizes.min) and all(
        low <= side <= high for low, side, high in zip(sizes.min, shape, sizes.max)
    )


def _written(sizes: ShapeRange) -> str:
    low, high = ("x".join(map(str, shape)) for shape in (sizes.min, sizes.max))
    return low if low == high else f"{low} to {high}"

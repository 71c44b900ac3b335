"""A TensorRT engine on the one thread that owns it: deserialised plan, execution context, buffers, stream, graph.

`trt` is the module `tensorrt` (8.6 to 11) or `tensorrt_rtx`: named tensors and execute_async_v3 are the same in all.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends.contract import LAYOUTS, ModelInput
from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.backends.gpu_arrays import GpuArray
from taijitu_runtime.backends.trt.cuda_graphs import Captured, CudaGraphs
from taijitu_runtime.backends.trt.runtime_cache import RuntimeCache
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.errors import ArtefactError

_log = logging.getLogger(__name__)

KEPT_MESSAGES = 4


class Engine:
    """One plan, ready to run. Every method must be called on the thread that created it and the Gpu.

    The engine owns `host_images` and `host_logits`, pinned, and their counterparts on the GPU, each for the largest
    batch; the Gpu frees them. No caller gets them: `infer` copies in and out.

    `cuda_graph`: a batch is padded to the next of the usual sizes (cuda_graphs.py), each of which is one CUDA graph
    that was captured here; TensorRT-RTX makes them itself, when each size runs here for the first time.

    Raises:
        ArtefactError: The plan does not deserialise, with TensorRT's own message, or was not made by taijitu.
    """

    def __init__(
        self, gpu: Gpu, trt: Any, runtime: Any, path: Path, plan: bytes, card: EngineCard, *, cuda_graph: bool
    ) -> None:
        self._gpu, self._trt, self._path = gpu, trt, path
        self._rtx = card.library.name == "tensorrt_rtx"
        self._messages = logger_of(trt).messages
        self.engine = self._made(runtime.deserialize_cuda_engine(plan), "deserialise it")
        self.input, self.classes = self._contract()
        self.cache: RuntimeCache | None = None
        self.stream = gpu.stream()
        largest = self.input.max_batch or 1
        self.host_images = gpu.pinned(self.input.shape(largest), self.input.dtype)
        self.host_logits = gpu.pinned((largest, self.classes), np.float32)
        self._images, self._logits = gpu.memory(self.host_images.nbytes), gpu.memory(self.host_logits.nbytes)
        # One block for all contexts, of which one runs at a time; without graphs the only one has its own.
        self._shared: tuple[int, int] | None = None
        if cuda_graph and self._shares_memory:
            size_bytes = int(self.engine.device_memory_size_v2)
            self._shared = gpu.memory(size_bytes), size_bytes
        self.context = self._new_context(card, cuda_graph)
        self._shape = 0  # of the context, in pictures
        self._batch = 0
        self._run = Captured(0, None, self.context)
        self.graphs = CudaGraphs(self._capture, lambda: gpu.free_bytes)
        if cuda_graph and (self._rtx or self._shares_memory or self.input.min_batch == largest):
            self.graphs.capture_usual(self.input.min_batch, largest, path)

    def infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the logits (N, K) of checked images; the caller owns the result."""
        self.set_batch(len(images))
        self.host_images[: len(images)] = images
        self.upload()
        return self._answer()

    def infer_on_gpu(self, images: GpuArray) -> NDArray[np.float32]:
        """Do the same for an array on this GPU, which is copied there and not through the host.

        Raises InputError where its address is not in this GPU's memory.
        """
        self._gpu.check_address(images.address)
        self.set_batch(len(images))
        if images.stream is not None:
            self._gpu.wait_for(images.stream, self.stream)
        self._gpu.copy(self._images, images, self.stream)
        return self._answer()

    def set_batch(self, batch: int) -> None:
        """Set the batch size of the following calls; a graph that it fits into will run."""
        self._batch = batch
        self._run = self.graphs.fitting(batch) or Captured(batch, None, self.context)
        if self._run.graph is None:
            self._set_shape(self._run.batch)

    def upload(self) -> None:
        """Start to copy the batch to the GPU. What pads it stays as it is: no picture's answer depends on another."""
        self._gpu.upload(self._images, self.host_images[: self._batch], self.stream)

    def enqueue(self) -> None:
        """Start the network, as one CUDA graph where there is one."""
        if self._run.graph is not None:
            self._gpu.launch(self._run.graph, self.stream)
        else:
            self._execute(self.context)

    def download(self) -> None:
        """Start to copy the logits back."""
        self._gpu.download(self.host_logits[: self._batch], self._logits, self.stream)

    def _answer(self) -> NDArray[np.float32]:
        self.enqueue()
        self.download()
        self._gpu.synchronise(self.stream)
        logits: NDArray[np.float32] = self.host_logits[: self._batch].copy()
        return logits

    def _capture(self, batch: int) -> Captured:
        if self._rtx:  # compiles and captures when a shape runs for the first time
            self._set_shape(batch)
            self._execute(self.context)
            self._gpu.synchronise(self.stream)
            return Captured(batch, None, self.context)
        # A graph holds for the shapes that its context had, so each has a context of its own.
        context = self._new_context(None, True) if self._shared else self.context
        if not context.set_input_shape("images", self.input.shape(batch)):
            raise self._failed(f"take {batch} pictures")
        self._execute(context)  # once without a graph: TensorRT finishes its set-up in the first run
        self._gpu.synchronise(self.stream)
        with self._gpu.capturing(self.stream) as graphs:
            self._execute(context)
        return Captured(batch, graphs[0], context)

    def _set_shape(self, batch: int) -> None:
        if batch != self._shape:
            if not self.context.set_input_shape("images", self.input.shape(batch)):
                raise self._failed(f"take {batch} pictures")
            self._shape = batch

    def _execute(self, context: Any) -> None:
        if not context.execute_async_v3(self.stream):
            raise self._failed("run it")

    @property
    def _shares_memory(self) -> bool:
        """From TensorRT 10.1 on several contexts may have one profile and one block of memory."""
        return not self._rtx and hasattr(self._trt.IExecutionContext, "set_device_memory")

    @property
    def json_format(self) -> Any:
        """The constant for JSON of the engine's inspector."""
        return self._trt.LayerInformationFormat.JSON

    @contextmanager
    def reporting_layers(self, report: Callable[[str, float], None]) -> Iterator[None]:
        """Call `report(name, time_ms)` for every layer of every query; the context keeps the profiler it is given."""

        class Profiler(self._trt.IProfiler):  # type: ignore[misc, name-defined]  # the class is known only here
            def report_layer_time(self, name: str, time_ms: float) -> None:
                report(name, time_ms)

        self.context.profiler = Profiler()
        yield

    def _new_context(self, card: EngineCard | None, cuda_graph: bool) -> Any:
        context = self._made(self._bare_context(card, cuda_graph), "create an execution context")
        if self._shared is not None:
            context.set_device_memory(*self._shared)
        context.set_tensor_address("images", self._images)
        context.set_tensor_address("logits", self._logits)
        return context

    def _bare_context(self, card: EngineCard | None, cuda_graph: bool) -> Any:
        if self._shared is not None:
            return self.engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if not self._rtx or card is None:
            return self.engine.create_execution_context()
        config = self._made(self.engine.create_runtime_config(), "create a runtime configuration")
        strategies = self._trt.CudaGraphStrategy
        config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if cuda_graph else strategies.DISABLED
        self.cache = RuntimeCache(config, card.plan_sha256)
        return self.engine.create_execution_context(config)

    def _contract(self) -> tuple[ModelInput, int]:
        engine, trt = self.engine, self._trt
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        if modes != {"images": trt.TensorIOMode.INPUT, "logits": trt.TensorIOMode.OUTPUT}:
            raise self._not_an_artefact(f"tensors {names} instead of the input 'images' and the output 'logits'")
        shape, logits = tuple(engine.get_tensor_shape("images")), tuple(engine.get_tensor_shape("logits"))
        layout = LAYOUTS.get(np.dtype(trt.nptype(engine.get_tensor_dtype("images"))).name)
        if layout is None or len(shape) != 4:
            raise self._not_an_artefact(f"images of {engine.get_tensor_dtype('images')} {shape}")
        if engine.get_tensor_dtype("logits") != trt.float32 or len(logits) != 2:
            raise self._not_an_artefact(
                f"logits of {engine.get_tensor_dtype('logits')} {logits} instead of float32 (N, K)"
            )
        channels, (height, width) = (shape[3], shape[1:3]) if layout == "uint8 NHWC" else (shape[1], shape[2:4])
        if channels != 3 or min(height, width, logits[1]) < 1:
            raise self._not_an_artefact(
                f"images {shape} and logits {logits} instead of a fixed size, 3 channels and fixed K"
            )
        smallest, _, largest = engine.get_tensor_profile_shape("images", 0)
        return ModelInput(layout, height, width, max(1, smallest[0]), largest[0]), logits[1]

    def _made(self, thing: Any, what: str) -> Any:
        if thing is None:
            raise self._failed(what)
        return thing

    def _failed(self, what: str) -> ArtefactError:
        words = " ".join(" ".join(self._messages).split()) or "it gave no reason"
        self._messages.clear()
        return ArtefactError(f"{self._path}: TensorRT could not {what}: {words}")

    def _not_an_artefact(self, got: str) -> ArtefactError:
        return ArtefactError(
            f"{self._path}: got {got}, expected an engine of a model made by export/to_onnx.py; "
            "build it again: taijitu engine"
        )


@functools.cache
def logger_of(trt: Any) -> Any:
    """Return the logger of a TensorRT module, which keeps the first one it gets; `messages` has the latest errors."""

    class Errors(trt.ILogger):  # type: ignore[misc]  # the class is known only here
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.messages[KEPT_MESSAGES - 1 :] = [message]
            else:
                _log.debug("%s", message)

    return Errors()

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

from taijitu_runtime.backends.base import Layout, ModelInput
from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.backends.runtime_cache import RuntimeCache
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.errors import ArtefactError, DeviceError

_log = logging.getLogger(__name__)

LAYOUTS: dict[str, Layout] = {"uint8": "uint8 NHWC", "float32": "float32 NCHW"}
KEPT_MESSAGES = 4


class Engine:
    """One plan, ready to run. Every method must be called on the thread that created it and the Gpu.

    The engine owns `host_images` and `host_logits`, pinned, and their counterparts on the GPU, each for the largest
    batch; the Gpu frees them. No caller gets them: `infer` copies in and out.

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
        self.context = self._made(self._new_context(card, cuda_graph), "create an execution context")
        self.stream = gpu.stream()
        largest = self.input.max_batch or 1
        self.host_images = gpu.pinned(self.input.shape(largest), self.input.dtype)
        self.host_logits = gpu.pinned((largest, self.classes), np.float32)
        self._images, self._logits = gpu.memory(self.host_images.nbytes), gpu.memory(self.host_logits.nbytes)
        self.context.set_tensor_address("images", self._images)
        self.context.set_tensor_address("logits", self._logits)
        self._batch = 0
        self.graph: Any = None
        if cuda_graph and self.input.min_batch == largest:
            self._try_capture(largest)

    def infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the logits (N, K) of checked images; the caller owns the result."""
        self.set_batch(len(images))
        self.host_images[: len(images)] = images
        self.upload()
        self.enqueue()
        self.download()
        self._gpu.synchronise(self.stream)
        logits: NDArray[np.float32] = self.host_logits[: len(images)].copy()
        return logits

    def set_batch(self, batch: int) -> None:
        """Set the batch size of the following calls."""
        if batch != self._batch:
            if not self.context.set_input_shape("images", self.input.shape(batch)):
                raise self._failed(f"take {batch} pictures")
            self._batch = batch

    def upload(self) -> None:
        """Start to copy the batch to the GPU."""
        self._gpu.upload(self._images, self.host_images[: self._batch], self.stream)

    def enqueue(self) -> None:
        """Start the network, as one CUDA graph where there is one."""
        if self.graph is not None:
            self._gpu.launch(self.graph, self.stream)
        elif not self.context.execute_async_v3(self.stream):
            raise self._failed("run it")

    def download(self) -> None:
        """Start to copy the logits back."""
        self._gpu.download(self.host_logits[: self._batch], self._logits, self.stream)

    def capture(self, batch: int) -> None:
        """Capture a CUDA graph for a batch size, which `enqueue` then uses. Raises DeviceError where that fails."""
        if self._rtx:  # captures every shape by itself, as its runtime config says
            return
        self.graph = None
        self.set_batch(batch)
        self.enqueue()  # once without a graph: TensorRT finishes its set-up in the first run
        self._gpu.synchronise(self.stream)
        with self._gpu.capturing(self.stream) as graphs:
            self.enqueue()
        self.graph = graphs[0]

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

    def _try_capture(self, batch: int) -> None:
        try:
            self.capture(batch)
        except (DeviceError, ArtefactError) as error:
            _log.warning("%s: runs without a CUDA graph: %s", self._path, error)

    def _new_context(self, card: EngineCard, cuda_graph: bool) -> Any:
        if not self._rtx:
            return self.engine.create_execution_context()
        config = self.engine.create_runtime_config()
        strategies = self._trt.CudaGraphStrategy
        config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if cuda_graph else strategies.DISABLED
        self.cache = RuntimeCache(config, card.plan_sha256)
        return self.engine.create_execution_context(config)

    def _contract(self) -> tuple[ModelInput, int]:
        engine, trt = self.engine, self._trt
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        if modes != {"images": trt.TensorIOMode.INPUT, "logits": trt.TensorIOMode.OUTPUT}:
            raise self._not_ours(f"tensors {names} instead of the input 'images' and the output 'logits'")
        shape, logits = tuple(engine.get_tensor_shape("images")), tuple(engine.get_tensor_shape("logits"))
        layout = LAYOUTS.get(np.dtype(trt.nptype(engine.get_tensor_dtype("images"))).name)
        if layout is None or len(shape) != 4:
            raise self._not_ours(f"images of {engine.get_tensor_dtype('images')} {shape}")
        if engine.get_tensor_dtype("logits") != trt.float32 or len(logits) != 2:
            raise self._not_ours(f"logits of {engine.get_tensor_dtype('logits')} {logits} instead of float32 (N, K)")
        channels, (height, width) = (shape[3], shape[1:3]) if layout == "uint8 NHWC" else (shape[1], shape[2:4])
        if channels != 3 or min(height, width, logits[1]) < 1:
            raise self._not_ours(f"images {shape} and logits {logits} instead of a fixed size, 3 channels and fixed K")
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

    def _not_ours(self, got: str) -> ArtefactError:
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

"""A plan on the GPU: all checks before TensorRT reads it, the deserialised engine, its contexts and their runs.

`trt` is the module `tensorrt` (8.6 to 11) or `tensorrt_rtx`: named tensors and execute_async_v3 are the same in all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.backends.trt.logger import logger_of
from taijitu_runtime.backends.trt.preflight import check_gpu, check_validity, load_library, read_plan, register_plugins
from taijitu_runtime.backends.trt.rebuild import rebuild_engine
from taijitu_runtime.backends.trt.runtime_cache import RuntimeCache
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.errors import ArtefactError, DeviceError, EngineError, MissingDependencyError, one_line

Block = tuple[int, int]
"""Address and bytes of a part of the GPU's memory."""


class Plan:
    """A deserialised plan of any network, which runs here; `open_plan` makes one.

    Every method must be called on the thread that made the Gpu. `close` frees the Gpu, with all memory, streams and
    graphs that it gave; TensorRT's objects must be freed before their CUDA context, so nobody may hold one then.

    Raises:
        ArtefactError: The plan does not deserialise, with TensorRT's own message.
    """

    def __init__(self, gpu: Gpu, trt: Any, runtime: Any, path: Path, content: bytes, card: EngineCard) -> None:
        self.gpu, self.trt, self.path, self.card = gpu, trt, path, card
        self.is_rtx = card.library.is_rtx
        self._messages = logger_of(trt).messages
        self._cache: RuntimeCache | None = None
        self.engine = self._made(runtime.deserialize_cuda_engine(content), "deserialise it")
        self.stream = gpu.stream()

    def close(self) -> None:
        """Free everything. TensorRT-RTX's newly compiled kernels are saved."""
        cache, self._cache = self._cache, None
        try:
            if cache is not None:
                cache.save()
        finally:
            del cache
            self.engine = None
            self.gpu.close()

    @property
    def shares_memory(self) -> bool:
        """From TensorRT 10.1 on several contexts may have one profile and one block of memory."""
        return not self.is_rtx and hasattr(self.trt.IExecutionContext, "set_device_memory")

    def new_context(self, *, cuda_graph: bool = False, block: Block | None = None) -> Any:
        """Create an execution context.

        Args:
            cuda_graph: TensorRT-RTX makes CUDA graphs by itself.
            block: The memory for its intermediate tensors; None for its own.
        """
        if block is not None:
            strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self._made_context(strategy)
            context.set_device_memory(*block)
            return context
        if not self.is_rtx:
            return self._made_context()
        config = self._made(self.engine.create_runtime_config(), "create a runtime configuration")
        strategies = self.trt.CudaGraphStrategy
        config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if cuda_graph else strategies.DISABLED
        cache = RuntimeCache(config, self.card.plan_sha256)
        self._cache = self._cache or cache
        return self._made_context(config)

    def set_input(self, context: Any, name: str, shape: tuple[int, ...]) -> None:
        """Set the shape of an input. Raises ArtefactError where the engine does not take it."""
        if not context.set_input_shape(name, shape):
            raise self._failed(f"take {name} of {'x'.join(map(str, shape))}")

    def execute(self, context: Any) -> None:
        """Start the network. Raises ArtefactError where TensorRT does not."""
        if not context.execute_async_v3(self.stream):
            raise self._failed("run it")

    def capture(self, context: Any) -> Any:
        """Return the network as a CUDA graph for the context's present shapes; None where the library launches its own.

        It is run once without a graph: TensorRT finishes its set-up in the first run, and TensorRT-RTX compiles and
        captures then.
        """
        self.execute(context)
        self.gpu.synchronise(self.stream)
        if self.is_rtx:
            return None
        with self.gpu.capturing(self.stream) as graphs:
            self.execute(context)
        return graphs[0]

    def layer_info(self, context: Any) -> dict[str, Any]:
        """Return the output of TensorRT's engine inspector: names only, unless the engine was built with more.

        Raises ArtefactError where it has none.
        """
        inspector = self._made(self.engine.create_engine_inspector(), "inspect it")
        inspector.execution_context = context
        text = inspector.get_engine_information(self.trt.LayerInformationFormat.JSON)
        found: dict[str, Any] = json.loads(self._made(text, "list its layers"))
        return found

    def _made_context(self, *how: Any) -> Any:
        return self._made(self.engine.create_execution_context(*how), "create an execution context")

    def _made(self, thing: Any, what: str) -> Any:
        if thing is None:
            raise self._failed(what)
        return thing

    def _failed(self, what: str) -> ArtefactError:
        words = one_line(" ".join(self._messages)) or "it gave no reason"
        self._messages.clear()
        return ArtefactError(f"{self.path}: TensorRT could not {what}: {words}")


def open_plan(path: Path, card: EngineCard, *, rebuild: bool) -> Plan:
    """Open the plan of a sidecar on the first GPU, whose context becomes current on this thread.

    Args:
        path: The engine.
        card: Its sidecar.
        rebuild: Build an engine that does not run here again, once, from the ONNX file that its sidecar names.

    Raises:
        EngineError: It does not run here; the plan was not deserialised.
        ArtefactError: It does not deserialise, or cannot be built again.
        DeviceError: There is no driver or GPU.
        MissingDependencyError: TensorRT or cuda-bindings is not installed.
    """
    try:
        return _checked_plan(path, card)
    except EngineError:
        if not rebuild:
            raise
    rebuild_engine(path, card, _compute_capability())
    return _checked_plan(path, EngineCard.read(path))


def _checked_plan(path: Path, card: EngineCard) -> Plan:
    """Run the checks, first those that need no GPU."""
    content = read_plan(path, card)
    trt = load_library(path, card)
    register_plugins(path, card, trt)
    gpu = Gpu()
    try:
        check_gpu(path, card, gpu.model)
        runtime = trt.Runtime(logger_of(trt))
        if card.library.is_rtx:
            check_validity(path, card, runtime, trt, content)
        if card.built_for.dla_core is not None:
            runtime.DLA_core = card.built_for.dla_core
        if card.is_version_compatible:
            runtime.engine_host_code_allowed = True
        return Plan(gpu, trt, runtime, path, content, card)
    except BaseException:
        gpu.close()
        raise


def _compute_capability() -> str | None:
    """Return that of the GPU; None without one."""
    try:
        gpu = Gpu()
    except (DeviceError, MissingDependencyError):
        return None
    try:
        return gpu.model.compute_capability
    finally:
        gpu.close()

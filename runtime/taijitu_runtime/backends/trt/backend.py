"""The backend for TensorRT and TensorRT-RTX: a plan with its sidecar, model.engine and model.engine.json."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends.base import Backend
from taijitu_runtime.backends.contract import ModelInput
from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.backends.gpu_arrays import GpuArray
from taijitu_runtime.backends.trt.engine import Engine, logger_of
from taijitu_runtime.backends.trt.preflight import check_gpu, check_validity, load_library, read_plan, register_plugins
from taijitu_runtime.backends.trt.rebuild import rebuild_engine
from taijitu_runtime.card import ModelCard
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.errors import ArtefactError, EngineError, UsageError

Result = TypeVar("Result")


class TrtBackend(Backend):
    """An engine on the first GPU that CUDA shows.

    A separate thread makes the GPU's primary context current and does all work with CUDA and TensorRT, because a
    context belongs to the thread where it is current; `infer` passes its images to that thread and waits. So any thread
    may call it, and calls from several threads run one after the other.

    `cuda_graphs`: batches are padded to 1, 2, 4, ... up to the largest, and each of these is one CUDA graph, captured
    while the model loads; before TensorRT 10.1 only where the batch is fixed.

    `rebuild`: an engine that does not run here is built again, once, from the ONNX file that its sidecar names.

    `load` raises EngineError for an engine that does not run here, before the plan is deserialised; ArtefactError for a
    missing or wrong sidecar; DeviceError without a driver or GPU; MissingDependencyError without TensorRT or
    cuda-bindings.
    """

    name: ClassVar[str] = "tensorrt"

    def __init__(self, path: str | Path, *, cuda_graphs: bool = True, rebuild: bool = False) -> None:
        super().__init__(path)
        self._rebuild = rebuild
        self.cuda_graphs = cuda_graphs
        self._owner: ThreadPoolExecutor | None = None
        self._gpu: Gpu | None = None
        self._engine: Engine | None = None
        self.engine_card: EngineCard | None = None

    @property
    def runs_on(self) -> str:
        """TensorRT or TensorRT-RTX, and the GPU's compute capability."""
        card, gpu = self.engine_card, self._gpu
        return (
            f"{card.library.name} {gpu.model.compute_capability}" if card is not None and gpu is not None else self.name
        )

    @property
    def on_gpu(self) -> bool:
        """Always."""
        return True

    def _load(self) -> tuple[ModelCard, ModelInput, int]:
        card = EngineCard.read(self.path)
        if card.card is None:
            raise ArtefactError(
                f"{self.path}: got an engine without labels, because the ONNX file that it was built from has no "
                "contract; give it one with taijitu adopt, and build the engine again"
            )
        try:
            engine = self._open(card)
        except EngineError:
            if not self._rebuild:
                raise
            here = self._gpu.model.compute_capability if self._gpu else None
            self._free()
            rebuild_engine(self.path, card, here)
            card = EngineCard.read(self.path)
            engine = self._open(card)
        self.engine_card, self._engine = card, engine
        assert card.card is not None  # checked above, and a rebuilt engine is of the same file
        return card.card, engine.input, engine.classes

    def _infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        return self.on_owner(lambda engine, gpu: engine.infer(images))

    def _gpu_stream(self) -> int:
        engine = self._engine
        if engine is None:
            raise self._closed()
        return engine.stream

    def _infer_on_gpu(self, images: GpuArray) -> NDArray[np.float32]:
        return self.on_owner(lambda engine, gpu: engine.infer_on_gpu(images))

    def on_owner(self, work: Callable[[Engine, Gpu], Result]) -> Result:
        """Run `work(engine, gpu)` on the thread that owns them. Raises UsageError after `close`."""

        def here() -> Result:
            if self._engine is None or self._gpu is None:
                raise self._closed()
            return work(self._engine, self._gpu)

        owner = self._owner
        if owner is None:
            raise self._closed()
        try:
            waiting = owner.submit(here)
        except RuntimeError:  # closed by another thread in the meantime
            raise self._closed() from None
        return waiting.result()

    def _free(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            try:
                owner.submit(self._close_here).result()
            finally:
                owner.shutdown()

    def _closed(self) -> UsageError:
        return UsageError(
            f"{self.path}: got a call on a model that was closed in the meantime; close it after the last"
        )

    def _open(self, card: EngineCard) -> Engine:
        """Run the checks, first those that need no GPU, then create the engine on its thread."""
        plan = read_plan(self.path, card)
        trt = load_library(self.path, card)
        register_plugins(self.path, card, trt)
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="tensorrt")
        return self._owner.submit(self._open_here, trt, plan, card).result()

    def _open_here(self, trt: Any, plan: bytes, card: EngineCard) -> Engine:
        gpu = self._gpu = Gpu()
        check_gpu(self.path, card, gpu.model)
        runtime = trt.Runtime(logger_of(trt))
        if card.library.name == "tensorrt_rtx":
            check_validity(self.path, card, runtime, trt, plan)
        if card.built_for.dla_core is not None:
            runtime.DLA_core = card.built_for.dla_core
        if "VERSION_COMPATIBLE" in card.flags:
            runtime.engine_host_code_allowed = True  # such a plan contains its own runtime
        return Engine(gpu, trt, runtime, self.path, plan, card, cuda_graph=self.cuda_graphs)

    def _close_here(self) -> None:
        engine, self._engine = self._engine, None
        gpu, self._gpu = self._gpu, None
        try:
            if engine is not None and engine.cache is not None:
                engine.cache.save()
        finally:
            del engine  # TensorRT's objects must be freed before their context
            if gpu is not None:
                gpu.close()

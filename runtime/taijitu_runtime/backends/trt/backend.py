"""The backend for TensorRT and TensorRT-RTX: a plan with its sidecar, model.engine and model.engine.json."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends.base import Backend
from taijitu_runtime.backends.contract import ModelInput
from taijitu_runtime.backends.gpu_arrays import PER_THREAD_STREAM, GpuArray
from taijitu_runtime.backends.trt.engine import Engine
from taijitu_runtime.backends.trt.plan import Plan, open_plan
from taijitu_runtime.card import ModelCard
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.errors import ArtefactError

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
        self._cuda_graphs = cuda_graphs
        self._owner: ThreadPoolExecutor | None = None
        self._plan: Plan | None = None
        self._engine: Engine | None = None

    @property
    def runs_on(self) -> str:
        """TensorRT or TensorRT-RTX, and the GPU's compute capability."""
        plan = self._plan
        return self.name if plan is None else f"{plan.card.library.name} {plan.gpu.model.compute_capability}"

    @property
    def on_gpu(self) -> bool:
        """Always: an engine runs on a GPU."""
        return True

    def _load(self) -> tuple[ModelCard, ModelInput, int]:
        card = EngineCard.read(self.path)
        if card.card is None:
            raise ArtefactError(
                f"{self.path}: got an engine without labels, because the ONNX file that it was built from has no "
                "contract; give it one with taijitu adopt, and build the engine again"
            )
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="tensorrt")
        return self._owner.submit(_forgetful, self._open_here, card).result()

    def _infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        return self._on_owner(lambda engine: engine.infer(images))

    def _gpu_stream(self) -> int:
        engine = self._engine
        if engine is None:
            raise self._closed_meanwhile()
        return engine.stream

    def _infer_on_gpu(self, images: GpuArray) -> NDArray[np.float32]:
        plan = self._plan
        if images.stream == PER_THREAD_STREAM and plan is not None:
            plan.gpu.synchronise(PER_THREAD_STREAM)  # here, since the owner's stream of this number is another one
            images = dataclasses.replace(images, stream=None)
        return self._on_owner(lambda engine: engine.infer_on_gpu(images))

    def _on_owner(self, work: Callable[[Engine], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Run `work(engine)` on the thread that owns the engine. Raises UsageError after `close`."""

        def here() -> NDArray[np.float32]:
            if self._engine is None:
                raise self._closed_meanwhile()
            return work(self._engine)

        owner = self._owner
        if owner is None:
            raise self._closed_meanwhile()
        try:
            waiting = owner.submit(_forgetful, here)
        except RuntimeError:  # closed by another thread in the meantime
            raise self._closed_meanwhile() from None
        return waiting.result()

    def _free(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            try:
                owner.submit(self._close_here).result()
            finally:
                owner.shutdown()

    def _open_here(self, card: EngineCard) -> tuple[ModelCard, ModelInput, int]:
        plan = self._plan = open_plan(self.path, card, rebuild=self._rebuild)
        engine = self._engine = Engine(plan, cuda_graph=self._cuda_graphs)
        assert plan.card.card is not None, "checked before, and a rebuilt engine is of the same file"
        return plan.card.card, engine.input, engine.classes

    def _close_here(self) -> None:
        self._engine = None  # its contexts before the plan
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.close()


def _forgetful(work: Callable[..., Result], *arguments: Any) -> Result:
    """Return `work(*arguments)`; the traceback of its error keeps none of TensorRT's objects.

    They must not outlive the CUDA context, and an error is alive while the `with` that it leaves closes the model.
    """
    try:
        return work(*arguments)
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise

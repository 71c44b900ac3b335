"""A classifier's engine on the one thread that owns it: its contract, its buffers, and a graph for each usual batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends.contract import ModelInput, Tensor, input_and_classes, not_an_artefact
from taijitu_runtime.backends.gpu_arrays import GpuArray
from taijitu_runtime.backends.trt.cuda_graphs import Captured, capture_usual, fitting
from taijitu_runtime.backends.trt.plan import Block, Plan


class Engine:
    """One plan, ready to answer. Every method must be called on the plan's thread.

    The engine owns `host_images` and `host_logits`, pinned, and their counterparts on the GPU, each for the largest
    batch; the Gpu frees them. No caller gets them: `infer` copies in and out.

    `cuda_graph`: a batch is padded to the next of the usual sizes (cuda_graphs.py), each of which is one CUDA graph
    that was captured here; TensorRT-RTX makes them itself, when each size runs here for the first time.

    Raises:
        ArtefactError: The plan was not made of a model of taijitu.
    """

    def __init__(self, plan: Plan, *, cuda_graph: bool) -> None:
        self._plan, self._gpu, self.stream = plan, plan.gpu, plan.stream
        self.input, self.classes = self._contract()
        largest = self.input.max_batch or 1
        self.host_images = self._gpu.pinned(self.input.shape(largest), self.input.dtype)
        self.host_logits = self._gpu.pinned((largest, self.classes), np.float32)
        self._images, self._logits = (self._gpu.memory(array.nbytes) for array in (self.host_images, self.host_logits))
        # One block for all contexts, of which one runs at a time; without graphs the only one has its own.
        self._shared: Block | None = None
        if cuda_graph and plan.shares_memory:
            size_bytes = int(plan.engine.device_memory_size_v2)
            self._shared = self._gpu.memory(size_bytes), size_bytes
        self.context = self._new_context(cuda_graph=cuda_graph)
        self._shape = 0  # of the context, in pictures
        self._batch = 0
        self._run = Captured(0, None, self.context)
        self._captured: list[Captured] = []
        if cuda_graph and (plan.is_rtx or plan.shares_memory or self.input.min_batch == largest):
            self._captured = capture_usual(
                self._capture, lambda: plan.gpu.free_bytes, self.input.min_batch, largest, plan.path
            )

    def infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the logits (N, K) of checked images; the caller owns the result."""
        self._set_batch(len(images))
        self.host_images[: len(images)] = images
        # What pads the batch stays as it is: no picture's answer depends on another.
        self._gpu.upload(self._images, self.host_images[: len(images)], self.stream)
        return self._answer()

    def infer_on_gpu(self, images: GpuArray) -> NDArray[np.float32]:
        """Do the same for an array on this GPU, which is copied there and not through the host.

        Raises InputError where its address is not in this GPU's memory.
        """
        self._gpu.check_address(images.address)
        self._set_batch(len(images))
        if images.stream is not None:
            self._gpu.wait_for(images.stream, self.stream)
        self._gpu.copy(self._images, images, self.stream)
        return self._answer()

    def _set_batch(self, batch: int) -> None:
        """Set the batch size of the next answer; a graph that it fits into will run."""
        self._batch = batch
        self._run = fitting(self._captured, batch) or Captured(batch, None, self.context)
        if self._run.graph is None and self._run.batch != self._shape:
            self._plan.set_input(self.context, "images", self.input.shape(self._run.batch))
            self._shape = self._run.batch

    def _answer(self) -> NDArray[np.float32]:
        if self._run.graph is not None:
            self._gpu.launch(self._run.graph, self.stream)
        else:
            self._plan.execute(self.context)
        self._gpu.download(self.host_logits[: self._batch], self._logits, self.stream)
        self._gpu.synchronise(self.stream)
        logits: NDArray[np.float32] = self.host_logits[: self._batch].copy()
        return logits

    def _capture(self, batch: int) -> Captured:
        # A graph holds for the shapes that its context had, so each has a context of its own.
        context = self._new_context() if self._shared else self.context
        self._plan.set_input(context, "images", self.input.shape(batch))
        return Captured(batch, self._plan.capture(context), context)

    def _new_context(self, *, cuda_graph: bool = True) -> Any:
        context = self._plan.new_context(cuda_graph=cuda_graph, block=self._shared)
        context.set_tensor_address("images", self._images)
        context.set_tensor_address("logits", self._logits)
        return context

    def _contract(self) -> tuple[ModelInput, int]:
        engine = self._plan.engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        input_mode = self._plan.trt.TensorIOMode.INPUT
        inputs = [self._tensor(name) for name in names if engine.get_tensor_mode(name) == input_mode]
        outputs = [self._tensor(name) for name in names if engine.get_tensor_mode(name) != input_mode]
        model_input, classes = input_and_classes(self._plan.path, inputs, outputs)
        if classes is None:
            raise not_an_artefact(self._plan.path, "logits whose number is open")
        smallest, _, largest = engine.get_tensor_profile_shape("images", 0)
        return dataclasses.replace(model_input, min_batch=max(1, smallest[0]), max_batch=largest[0]), classes

    def _tensor(self, name: str) -> Tensor:
        engine, kind = self._plan.engine, self._plan.engine.get_tensor_dtype(name)
        try:
            dtype = np.dtype(self._plan.trt.nptype(kind)).name
        except TypeError:  # a type that NumPy does not have, such as bfloat16
            dtype = str(kind)
        return Tensor(name, dtype, tuple(None if side == -1 else side for side in engine.get_tensor_shape(name)))

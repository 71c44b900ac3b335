"""Read what an ONNX graph computes inside: the values of named tensors for given pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.errors import ExportError
from taijitu_export.progress import tracked
from taijitu_runtime.backends.bulk import mapped
from taijitu_runtime.backends.contract import Layout, layout_of, rows_from_pixels
from taijitu_runtime.backends.ort.backend import bulk_on_cpu
from taijitu_runtime.backends.ort.options import session_options
from taijitu_runtime.backends.ort.session import open_session, run_session
from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.errors import one_line, require
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.onnx_graph.tensor_sizes import largest_tensor_bytes


class Intermediates:
    """A model on ONNX Runtime's CPU that returns the tensors `names`; without names, its own outputs.

    ExportError where ONNX Runtime refuses the model, ArtefactError where it fails on pictures.
    """

    def __init__(self, model: onnx.ModelProto, names: Collection[str] = ()) -> None:
        self._layout, self._spec = input_of(model)
        self._batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value  # 0: any
        self._names = list(names) or [output.name for output in model.graph.output]
        onnxruntime = require("onnxruntime", "taijitu[export]")
        # `logits` runs one batch on each core.
        options = session_options(onnxruntime, threads=usable_cores() if names else 1)
        content = _returning(model, self._names).SerializeToString()
        self._bulk = bulk_on_cpu(largest_tensor_bytes(content), self._batch or None, threads=0)
        try:
            self._session = open_session(onnxruntime, content, options)
        except Exception as error:  # of many classes, none of them public
            raise ExportError(f"ONNX Runtime refused the graph: {one_line(error)}") from error

    def run(self, pictures: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        """Compute the tensors for pictures, uint8 RGB (N, H, W, 3), in the layout that the model takes."""
        images = pictures if self._spec is None else rows_from_pixels(pictures, self._layout, self._spec)
        count, batch = len(images), self._batch or len(images)
        # Copies of the last picture, no zeros: a value whose first dimension is not the batch keeps what comes from
        # padding, and what no picture gives, such as NaN, would count in scales or as an overflow.
        padded = images[np.minimum(np.arange(-(-count // batch) * batch), count - 1)]
        chunks = [self._run(padded[start : start + batch]) for start in range(0, len(padded), batch)]
        if len(chunks) == 1 and count == batch:
            return chunks[0]
        whole = {name: _joined([chunk[name] for chunk in chunks]) for name in self._names}
        return {name: array[:count] if array.shape[:1] == (len(padded),) else array for name, array in whole.items()}

    def _run(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return dict(zip(self._names, run_session(self._session, self._names, {"images": images}, "the graph")))

    def logits(self, pictures: NDArray[np.uint8], what: str = "answering") -> NDArray[np.float32]:
        """Compute its only tensor, float32 (N, K), for any number of pictures. `what`: the bar's."""
        size = self._bulk.batch
        chunks = [pictures[start : start + size] for start in range(0, len(pictures), size)]
        answers = mapped(lambda chunk: self.run(chunk)[self._names[0]], chunks, self._bulk.workers)
        return np.concatenate(list(tracked(what, answers, len(chunks))))


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Join the values of one tensor in several batches; single numbers of several make one dimension."""
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.atleast_1d(array) for array in arrays])


def input_of(model: onnx.ModelProto) -> tuple[Layout, InputSpec | None]:
    """Return the layout of a model's input, and the contract of its input if float32 is made by it."""
    if model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8:
        return "uint8 NHWC", None
    spec = ModelCard.read_onnx_metadata({entry.key: entry.value for entry in model.metadata_props}).input
    return layout_of("float32", spec), spec


def _returning(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    known = {output.name for output in model.graph.output}
    if set(names) == known:
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.output[:]
    # Without a type: ONNX Runtime infers it.
    changed.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return changed

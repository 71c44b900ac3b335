"""Open a foreign ONNX file as it came: its inputs, its outputs, and its answers on ONNX Runtime."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray

from taijitu_export.onnx.forms import LAYOUTS, Layout
from taijitu_export.onnx.onnx_file import OnnxFile, precision_of
from taijitu_export.progress import tracked
from taijitu_runtime.backends.bulk import mapped
from taijitu_runtime.backends.contract import padded
from taijitu_runtime.backends.ort.options import session_options
from taijitu_runtime.backends.ort.session import open_session, run_session
from taijitu_runtime.card import CHANNELS, InputSpec
from taijitu_runtime.errors import ArtefactError, UsageError, one_line, require
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.pictures.preprocess import normalise

CARRIERS = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast")
"""Operators that may follow the last one before the output without changing a number."""

MAX_BATCH = 1024  # that a file may fix, as of a server

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@dataclasses.dataclass(frozen=True)
class Signature:
    """A network's input and output.

    `input`, `output`: names. `dtype`: of the input. `layout`: of its four dimensions. `channels`, `height`, `width`:
    of a picture, None where the file leaves the size open. `batch`: the only batch size that it takes, None for any.
    """

    input: str
    output: str
    dtype: np.dtype[Any]
    layout: Layout
    channels: int
    height: int | None
    width: int | None
    batch: int | None

    def shape(self, batch: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Return the input's shape for a batch of pictures of `size` (height, width)."""
        return (batch, self.channels, *size) if self.layout == "nchw" else (batch, *size, self.channels)


class Original:
    """A file that another exporter wrote, opened on ONNX Runtime. ArtefactError where it is not a classifier.

    Args:
        file: The file, read.
        layout: Where the file does not say: "nchw" or "nhwc".
    """

    def __init__(self, file: OnnxFile, layout: Layout | None = None) -> None:
        self.file = file
        self._session = _opened(file.path, str(file.path))
        self.signature = _signature(file, self._session, layout)

    @property
    def precision(self) -> str:
        """The type that its layers compute in: "fp32", "fp16" or "int8"."""
        return precision_of(self.file.model)

    def network_input(self, pictures: NDArray[np.uint8], spec: InputSpec) -> NDArray[Any]:
        """Return the array that the network expects for prepared pictures, uint8 RGB (N, H, W, 3)."""
        planes = normalise(pictures, spec)
        array = planes if self.signature.layout == "nchw" else planes.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(array.astype(self.signature.dtype))

    def answers(self, pictures: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
        """Compute its output, float32 (N, K), for prepared pictures, uint8 RGB (N, H, W, 3), and their contract."""
        return self.run(self.network_input(pictures, spec))

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Compute its output (N, K) for `images` of `network_input`, one by one or in its own batch size.

        Each core runs one: small runs stay in its cache, and some networks answer a batch in another way.
        """
        step = self.signature.batch or 1
        parts = [images[start : start + step] for start in range(0, len(images), step)]
        return np.concatenate(
            list(tracked("running the original", mapped(self._run, parts, usable_cores()), len(parts)))
        )

    def before(self, operator: str) -> Original | None:
        """Return the same file cut before its last operator, in a function too; None where that is not `operator`."""
        model = with_functions_inlined(self.file.model)
        makers = {name: node for node in model.graph.node for name in node.output}
        node = makers.get(self.signature.output)
        while node is not None and node.op_type in CARRIERS:
            node = makers.get(node.input[0])
        if node is None or node.op_type != operator:
            return None
        given = onnx.helper.make_empty_tensor_value_info(node.input[0])
        del model.graph.output[:]
        model.graph.output.append(given)
        earlier = copy.copy(self)
        earlier._session = _opened(self.file.path, model.SerializeToString())
        earlier.signature = dataclasses.replace(self.signature, output=given.name)
        return earlier

    def classes(self, size: tuple[int, int]) -> int:
        """Return how many numbers it computes for a picture of `size`. ArtefactError where they are not N x K."""
        signature, batch = self.signature, self.signature.batch or 1
        raw = self._raw(np.zeros(signature.shape(batch, size), signature.dtype))
        numbers = int(np.prod(raw.shape[1:])) if isinstance(raw, np.ndarray) and raw.ndim > 1 else 0
        if numbers == 0 or raw.shape[0] != batch or sum(side > 1 for side in raw.shape[1:]) > 1:
            raise not_a_classifier(
                self.file.path, f"an output {signature.output!r} of shape {getattr(raw, 'shape', type(raw))}"
            )
        return numbers

    def _run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        raw = self._raw(padded(images, self.signature.batch or 0))
        flat: NDArray[np.float32] = raw[: len(images)].reshape(len(images), -1).astype(np.float32)
        return flat

    def _raw(self, images: NDArray[Any]) -> Any:
        return run_session(self._session, [self.signature.output], {self.signature.input: images}, self.file.path)[0]


def with_functions_inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the model in which each call of its functions is their nodes."""
    return onnx.inliner.inline_local_functions(model, convert_version=True)


def not_a_classifier(path: Path, got: str) -> ArtefactError:
    """Return the error for a network whose output is not one number per label."""
    return ArtefactError(
        f"{path}: got {got}, expected one output of N x K, a float32 or float16 number for each of K labels; export "
        "the network with that output alone"
    )


def _opened(path: Path, model: str | bytes) -> Any:
    """Open `model`, the path or the content of a file; `path`: for the error."""
    ort = require("onnxruntime", "taijitu[export]")
    try:
        return open_session(ort, model, session_options(ort, threads=1))
    except Exception as error:
        reason = one_line(error)
        raise ArtefactError(
            f"{path}: got a file that ONNX Runtime cannot load ({reason}), expected one that it runs; export it again"
        ) from None


def _signature(file: OnnxFile, session: Any, layout: Layout | None) -> Signature:
    constants = {tensor.name for tensor in file.model.graph.initializer}
    inputs = [node for node in session.get_inputs() if node.name not in constants]
    outputs = session.get_outputs()
    if len(outputs) != 1 or not outputs[0].type.startswith("tensor(float"):
        said = ", ".join(f"{node.name} {node.type} {node.shape}" for node in outputs)
        raise not_a_classifier(file.path, f"outputs {said}")
    if len(inputs) != 1 or inputs[0].type not in TYPES or not _is_of_pictures(inputs[0].shape):
        said = ", ".join(f"{node.name} {node.type} {node.shape}" for node in inputs)
        raise ArtefactError(
            f"{file.path}: got inputs {said}, expected one of pictures, N x C x H x W or N x H x W x C with C 3 or "
            "1, in float32, float16 or uint8; export the network again"
        )
    taken = inputs[0]
    batch, *rest = (side if isinstance(side, int) else None for side in taken.shape)
    layout = layout or _layout(file.path, taken.shape)
    channels, height, width = (rest[0], *rest[1:]) if layout == "nchw" else (rest[2], *rest[:2])
    if channels is None or channels not in CHANNELS.values():
        raise UsageError(
            f"{file.path}: got an input of {taken.shape} as {layout}, expected 3 channels or 1; give the other --layout"
        )
    if batch is not None and not 1 <= batch <= MAX_BATCH:
        raise ArtefactError(
            f"{file.path}: got an input of {taken.shape}, expected a batch of 1 to {MAX_BATCH}, or of any size; export "
            "the network again"
        )
    return Signature(taken.name, outputs[0].name, np.dtype(TYPES[taken.type]), layout, channels, height, width, batch)


def _is_of_pictures(shape: list[object]) -> bool:
    """Return whether an input has four sides and a place for 3 channels or 1; an open side is None or a name."""
    return len(shape) == 4 and any(not isinstance(shape[at], int) or shape[at] in CHANNELS.values() for at in (1, 3))


def _layout(path: Path, shape: list[object]) -> Layout:
    fits: list[Layout] = [name for name, axis in zip(LAYOUTS, (1, 3)) if shape[axis] in CHANNELS.values()]
    if len(fits) != 1:
        raise UsageError(
            f"{path}: got an input of {shape}, whose channels could be anywhere; give --layout nchw or nhwc"
        )
    return fits[0]

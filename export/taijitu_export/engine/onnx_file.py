"""The ONNX file that an engine is built from, as it is read."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import onnx

from taijitu_export.onnx.passes.reading import QUANTISERS
from taijitu_runtime.backends import CHECKPOINT_MAGIC
from taijitu_runtime.backends.base import check_file
from taijitu_runtime.card import METADATA_PREFIX, ModelCard
from taijitu_runtime.errors import ArtefactError

EXPORT = "taijitu onnx checkpoint.pt -o model.onnx"


@dataclasses.dataclass(frozen=True)
class Graph:
    """An ONNX model with its card and its file's path and sha256. `notes`: what was done to it, for the user."""

    path: Path
    model: onnx.ModelProto
    card: ModelCard
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """The precision of its layers, by its card."""
        return self.card.precision.name

    @property
    def is_quantised(self) -> bool:
        """Whether it has QuantizeLinear or DequantizeLinear nodes."""
        return any(node.op_type in QUANTISERS for node in self.model.graph.node)

    @property
    def has_float16_scales(self) -> bool:
        """Whether one of these has a float16 scale, as int8 files for engines have."""
        halves = {each.name for each in self.model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT16}
        return any(node.op_type in QUANTISERS and node.input[1] in halves for node in self.model.graph.node)


def read_graph(path: Path) -> Graph:
    """Read an ONNX file that `taijitu onnx` wrote. ArtefactError for any other file."""
    check_file(path)
    content = path.read_bytes()
    try:
        model = onnx.load_from_string(content)
    except Exception:  # protobuf's DecodeError, whose package has no types
        model = onnx.ModelProto()
    if not model.graph.node:
        got = "a checkpoint" if content.startswith(CHECKPOINT_MAGIC) else "a file that is not an ONNX model"
        raise ArtefactError(f"{path}: got {got}, expected a model made by: {EXPORT}")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if not any(key.startswith(METADATA_PREFIX) for key in metadata):
        raise ArtefactError(
            f"{path}: got an ONNX model without taijitu's metadata (labels, preprocessing), "
            f"expected a model made by: {EXPORT}"
        )
    try:
        card = ModelCard.read_onnx_metadata(metadata)
    except ArtefactError as error:
        raise ArtefactError(f"{path}: {error}") from None
    return Graph(path, model, card, hashlib.sha256(content).hexdigest())

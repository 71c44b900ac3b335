"""Read the graph that an engine is built from: with a contract, or a foreign one without it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx

from taijitu_export.onnx.onnx_file import OnnxFile, precision_of, read_onnx
from taijitu_export.onnx.passes.reading import QUANTISERS
from taijitu_runtime.backends.contract import Tensor, check_card, input_and_classes
from taijitu_runtime.card import ModelCard, has_card
from taijitu_runtime.errors import ArtefactError
from taijitu_runtime.proof.prove import proven_file

SEVERAL_LAYERS = frozenset({"GRU", "If", "LSTM", "Loop", "RNN", "Scan"})
"""Operators of which a library's parser may make several layers with weights."""

WITHOUT_CARD = (
    "the file has no contract: this engine knows no labels, and classify will say so (taijitu adopt gives one)"
)


@dataclasses.dataclass(frozen=True)
class Graph:
    """An ONNX model with its file's path and sha256. `notes`: changes, for the user.

    `card`: None for a file that taijitu did not write.
    """

    path: Path
    model: onnx.ModelProto
    card: ModelCard | None
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """The precision of its layers, by its card, or without one by the graph."""
        return precision_of(self.model) if self.card is None else self.card.precision.name

    @property
    def excluded_layers(self) -> int | None:
        """How many layers are not of its precision, by its card; None without one, and for SEVERAL_LAYERS."""
        if self.card is None or any(node.op_type in SEVERAL_LAYERS for node in self.model.graph.node):
            return None
        return len(self.card.precision.excluded_layers)

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
    """Read an ONNX file, with weights that are next to it.

    ArtefactError where it is something else, has a contract that classify would refuse, or does not answer as its
    passport says: a build of minutes does not begin then.
    """
    file = read_onnx(path, "a model made by taijitu onnx")
    if file.model.ir_version > onnx.IR_VERSION:
        raise ArtefactError(
            f"{path}: got IR version {file.model.ir_version}, expected at most {onnx.IR_VERSION}; update onnx, or "
            "export it again"
        )
    if not has_card(file.metadata):
        return Graph(path, file.model, None, file.sha256, (WITHOUT_CARD,))
    card = _checked_card(file)
    if card.proof is not None:
        with proven_file(path, file.sha256):
            pass
    return Graph(path, file.model, card, file.sha256)


def _checked_card(file: OnnxFile) -> ModelCard:
    card = ModelCard.read_onnx_metadata(file.metadata, file.path)
    graph = file.model.graph
    inputs, outputs = ([_tensor(value) for value in values] for values in (graph.input, graph.output))
    model_input, classes = input_and_classes(file.path, inputs, outputs)
    check_card(file.path, card, model_input, len(card.labels) if classes is None else classes)
    return card


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    described = value.type.tensor_type
    sides = tuple(side.dim_value if side.HasField("dim_value") else None for side in described.shape.dim)
    return Tensor(value.name, _type_name(described.elem_type), sides)


def _type_name(kind: int) -> str:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(kind))
    except KeyError:
        return f"type {kind}"

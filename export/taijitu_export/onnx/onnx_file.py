"""Read an ONNX file whole: with the weights that it keeps next to it, which its bytes alone do not have."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx

from taijitu_runtime.backends.base import check_file, check_weights_are_there
from taijitu_runtime.backends.opening import CHECKPOINT_MAGIC, export_command
from taijitu_runtime.errors import ArtefactError, one_line
from taijitu_runtime.onnx_graph.external_data import external_files, has_external_data, sha256_with_weights

MAX_BYTES = 2**31 - 1
"""The largest protobuf message, which an ONNX file is."""

STANDARD_DOMAINS = ("", "ai.onnx")
"""The two names of the domain of ONNX's own operators."""

INITIALIZERS_ALONE = 4
"""The IR version from which on initialisers need not be inputs of the graph too."""

INTEGER_OPERATORS = {
    "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
    "QuantizeLinear",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class OnnxFile:
    """An ONNX model with all its weights in memory, its path, and its sha256, that of weights next to it included."""

    path: Path
    model: onnx.ModelProto
    sha256: str

    @property
    def metadata(self) -> dict[str, str]:
        """The file's metadata by key."""
        return {entry.key: entry.value for entry in self.model.metadata_props}


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses."""
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), 0)


def precision_of(model: onnx.ModelProto) -> str:
    """Return the type that the layers of a graph compute in, by its operators and weights: "fp32", "fp16" or "int8"."""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    if any(node.op_type in INTEGER_OPERATORS for node in nodes):
        return "int8"
    constants = [attribute.t for node in nodes if node.op_type == "Constant" for attribute in node.attribute]
    weights = [tensor for tensor in (*model.graph.initializer, *constants) if len(tensor.dims) > 1]
    return "fp16" if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in weights) else "fp32"


def read_onnx(path: Path, expected: str = "an ONNX model") -> OnnxFile:
    """Read an ONNX file. ArtefactError where it is not one, lacks weights, or is larger than a message may be.

    Args:
        path: The file.
        expected: For the error: the kind of file to give instead.
    """
    check_file(path)
    content = path.read_bytes()
    size = len(content) + sum(file.stat().st_size for file in external_files(path, content))
    if size > MAX_BYTES:
        raise ArtefactError(
            f"{path}: got {size / 1e9:.1f} GB with its weights, expected at most {MAX_BYTES / 1e9:.1f}, the limit of "
            "one ONNX file; take a smaller network"
        )
    sha256 = sha256_with_weights(path, content)  # before the weights: proven_file finds those that are replaced
    try:
        model = onnx.load_from_string(content)
    except Exception:  # protobuf's DecodeError, whose package has no types
        model = onnx.ModelProto()
    if not model.graph.node:
        if content.startswith(CHECKPOINT_MAGIC):
            raise ArtefactError(f"{path}: got a checkpoint, expected {expected}; do: {export_command(path)}")
        raise ArtefactError(f"{path}: got a file that is not an ONNX model, expected {expected}; check the path")
    if has_external_data(content):
        check_weights_are_there(path, content)
        try:
            onnx.load_external_data_for_model(model, str(path.parent))
        except (onnx.checker.ValidationError, OSError, ValueError) as error:  # ValueError: a file that was cut
            reason = one_line(error)
            raise ArtefactError(f"{path}: got weights that cannot be read ({reason}); copy the files again") from None
    return OnnxFile(path, model, sha256)

"""Small ONNX models written as text, for tests of graph passes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

X = np.random.default_rng(0).normal(size=(2, 3, 5, 7)).astype(np.float32)


def model_of(*lines: str, initializers: dict[str, np.ndarray] | None = None, rank: int = 4) -> ir.Model:
    """Make a model of opset 18 from ONNX's text form; x has shape (2, 3, 5, 7) and the last line makes y."""
    shape = ", ".join(str(d) for d in (2, 3, 5, 7)[:rank])
    header = f'<ir_version: 10, opset_import: ["" : 18]> g (float[{shape}] x) => (float[a, b, c, d] y)'
    proto = onnx.parser.parse_model("\n".join([header, "{", *lines, "}"]))
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    for name, value in (initializers or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    """Return y."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    y: np.ndarray = session.run(None, {"x": x})[0]
    return y


def operators(model: ir.Model) -> list[str]:
    """Return the operators in their order."""
    return [node.op_type for node in model.graph]


def untyped(model: ir.Model) -> list[str | None]:
    """Return the names of values that have no type or no shape, which a later pass would need."""
    values = (value for node in model.graph for value in node.outputs)
    return [value.name for value in values if value.type is None or value.shape is None]

"""A small ONNX classifier as other exporters write them: their names, opsets, layouts, endings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def make_foreign_onnx(
    path: Path,
    *,
    classes: int = 3,
    channels: int = 3,
    size: tuple[int | str, int | str] = (12, 16),
    layout: str = "nchw",
    dtype: str = "float32",
    batch: int | str = "N",
    ending: str = "",
    opset: int = 17,
    ir_version: int = 8,
    initialisers_are_inputs: bool = False,
    flat_shape: tuple[int, ...] = (-1, 4),
    second_output: bool = False,
    noise: bool = False,
    seed: int = 0,
    metadata: dict[str, str] | None = None,
    outside: bool = False,
) -> Path:
    """Make Conv, Relu, GlobalAveragePool, Reshape, Gemm, and `ending`, an operator, after them.

    `flat_shape`: the constant shape of the Reshape. `noise`: it answers at random. `outside`: weights next to the file.
    """
    generator = np.random.default_rng(seed)
    number = np.float16 if dtype == "float16" else np.float32
    weights = {
        "w1": generator.normal(size=(4, channels, 3, 3)).astype(number),
        "b1": generator.normal(size=4).astype(number),
        "w2": (4 * generator.normal(size=(classes, 4))).astype(number),
        "b2": generator.normal(size=classes).astype(number),
        "flat": np.array(flat_shape, np.int64),
    }
    planes, nodes = "x", []
    if dtype == "uint8":
        nodes.append(helper.make_node("Cast", [planes], ["floats"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Div", ["floats", "most"], ["shares"]))
        weights["most"] = np.array(255, np.float32)
        planes = "shares"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [planes], ["planes"], perm=[0, 3, 1, 2]))
        planes = "planes"
    nodes += [
        helper.make_node("Conv", [planes, "w1", "b1"], ["logits"], pads=[1, 1, 1, 1]),  # a name that artefacts have
        helper.make_node("Relu", ["logits"], ["bent"]),
        helper.make_node("GlobalAveragePool", ["bent"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "flat"], ["features"]),
        helper.make_node("Gemm", ["features", "w2", "b2"], ["numbers"], transB=1),
    ]
    last = "numbers"
    if noise:
        nodes.append(helper.make_node("RandomUniformLike", [last], ["drawn"]))
        nodes.append(helper.make_node("Add", [last, "drawn"], ["noisy"]))
        last = "noisy"
    if ending:
        nodes.append(helper.make_node(ending, [last], ["ended"]))
        last = "ended"
    nodes.append(helper.make_node("Identity", [last], ["result"]))
    shape = [batch, channels, *size] if layout == "nchw" else [batch, *size, channels]
    kind, floats = TYPES[dtype], TensorProto.FLOAT16 if dtype == "float16" else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    if initialisers_are_inputs:
        inputs += [helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in constants]
    outputs = [helper.make_tensor_value_info("result", floats, [batch, classes])]
    if second_output:
        outputs.append(helper.make_tensor_value_info("features", floats, [batch, 4]))
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, producer_name="someone"
    )
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.save(model, path, save_as_external_data=outside, location=f"{path.name}.data", size_threshold=64)
    return path

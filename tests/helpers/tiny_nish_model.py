"""A small convolutional network with Nish at every kind of position that an optimiser treats differently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from taijitu_export.onnx.nish_node import DOMAIN, OPSET, nish_function
from taijitu_runtime.card import ModelCard
from tests.helpers.tiny_model import card_dict

SIZE = 16


def make_nish_onnx(path: Path, *, seed: int = 0, extra: str = "") -> Path:
    """Make images uint8 (N, 16, 16, 3) -> logits (N, 3): Nish after the input, convolutions, a sum, and a Gemm.

    `extra`: an operator that is put before the logits, such as "Tanh".
    """
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> NDArray[np.float32]:
        return (random.standard_normal(shape) * 2 / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {
        "scale": np.float32(60.0),
        "mean": np.float32(128.0),
        "w0": weights(6, 1, 3, 3),  # two channels per group: this convolution stays out of the layout
        "w1": weights(16, 6, 3, 3),
        "w2": weights(16, 16, 3, 3),
        "w3": weights(20, 16, 3, 3),  # not a multiple of a block: the layout pads its channels
        "w4": weights(20, 1, 3, 3),
        "w5": weights(24, 20),
        "b5": weights(24, 1)[:, 0],
        "w6": weights(3, 24),
    }

    def nish(x: str, y: str) -> onnx.NodeProto:
        return helper.make_node("Nish", [x], [y], domain=DOMAIN)

    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["normalised"]),
        helper.make_node("Transpose", ["normalised"], ["planes"], perm=[0, 3, 1, 2]),
        nish("planes", "start"),
        helper.make_node("Conv", ["start", "w0"], ["c0"], pads=[1, 1, 1, 1], group=3),
        nish("c0", "x0"),
        helper.make_node("Conv", ["x0", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        nish("c1", "x1"),
        helper.make_node("Conv", ["x1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "x1"], ["sum"]),
        nish("sum", "x2"),
        helper.make_node("MaxPool", ["x2"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        nish("pooled", "x3"),
        helper.make_node("Conv", ["x3", "w3"], ["c3"], pads=[1, 1, 1, 1]),
        nish("c3", "x4"),
        helper.make_node("Conv", ["x4", "w4"], ["c4"], pads=[1, 1, 1, 1], group=20),
        nish("c4", "x5"),
        helper.make_node("GlobalAveragePool", ["x5"], ["mean4"]),
        helper.make_node("Flatten", ["mean4"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w5", "b5"], ["g5"], transB=1),
        nish("g5", "x6"),
        helper.make_node("Gemm", ["x6", "w6"], ["g6"], transB=1),
        helper.make_node(extra or "Identity", ["g6"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, OPSET)]
    model = helper.make_model(graph, functions=[nish_function()], opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, ModelCard.from_dict(card_dict(height=SIZE, width=SIZE)).to_metadata())
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def nish_pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draw random pictures for it, uint8 (count, 16, 16, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)

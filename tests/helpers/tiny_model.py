"""A real ONNX model, small enough to work out its answers by hand: it names the strongest colour of a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from taijitu_runtime.card import ModelCard

COLOURS = ("red", "green", "blue")


def card_dict(labels: tuple[str, ...] = COLOURS, height: int = 8, width: int = 8, **changes: Any) -> dict[str, Any]:
    """Return a correct card in its plain form; `changes` replace top-level fields."""
    return {
        "format_version": 1,
        "architecture": {"name": "tiny", "options": {"num_classes": len(labels), "widths": [1, 2]}},
        "labels": list(labels),
        "input": {
            "height": height,
            "width": width,
            "colour": "RGB",
            "resize": "shorter_side",
            "resize_size": max(height, width),
            "crop": "centre",
            "interpolation": "bilinear_antialias",
            "mean": [0.5, 0.4, 0.3],
            "std": [0.25, 0.2, 0.3],
        },
        "training": {"data": "colours", "recipe": {"epochs": 3}, "metrics": {"top1": 0.5}, "date": "2026-11-20"},
        "producer": {"taijitu": "0.1.0"},
        "source_sha256": "0" * 64,
        "precision": {"name": "fp32", "excluded_layers": [], "calibration": {}},
        **changes,
    }


def make_tiny_onnx(
    path: Path,
    *,
    labels: tuple[str, ...] = COLOURS,
    size: tuple[int, int] = (8, 8),
    layout: str = "uint8",
    batch: int | str = "N",
    card: dict[str, Any] | None = None,
    classes: int | None = None,
    names: tuple[str, str] = ("images", "logits"),
    metadata: bool = True,
    scale: float = 1.0,
) -> Path:
    """Normalise and average each colour over the picture: logit i = scale * average of colour (i modulo 3) - i / 100.

    `layout` "uint8": images (N, H, W, 3), normalised inside; "float32": (N, 3, H, W); "pixels": that, normalised
    inside. `classes`: the number of logits,
    by default one for each label.
    """
    card = card_dict(labels, *size) if card is None else card
    count = len(labels) if classes is None else classes
    weights = scale * np.eye(3, dtype=np.float32)[:, np.arange(count) % 3]
    constants = {"weights": weights, "bias": -np.arange(count, dtype=np.float32) / 100}
    if layout == "uint8":
        shape, element, axes = [batch, *size, 3], TensorProto.UINT8, [1, 2]
        constants["scale"] = 255 * np.array([0.25, 0.2, 0.3], np.float32)
        constants["mean"] = 255 * np.array([0.5, 0.4, 0.3], np.float32)
        nodes = [
            helper.make_node("Cast", [names[0]], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "scale"], ["normalised"]),
        ]
    else:
        shape, element, axes = [batch, 3, *size], TensorProto.FLOAT, [2, 3]
        nodes = [helper.make_node("Identity", [names[0]], ["normalised"])]
    if layout == "pixels":
        card = {**card, "input": {**card["input"], "float_values": "pixels"}}
        constants["scale"] = 255 * np.array([0.25, 0.2, 0.3], np.float32).reshape(3, 1, 1)
        constants["mean"] = 255 * np.array([0.5, 0.4, 0.3], np.float32).reshape(3, 1, 1)
        nodes = [
            helper.make_node("Sub", [names[0], "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "scale"], ["normalised"]),
        ]
    nodes += [
        helper.make_node("ReduceMean", ["normalised"], ["average"], axes=axes, keepdims=0),
        helper.make_node("Gemm", ["average", "weights", "bias"], [names[1]]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(names[0], element, shape)],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [batch, count])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, ModelCard.from_dict(card).to_metadata())
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def plain(colour: tuple[int, int, int], height: int = 8, width: int = 8) -> NDArray[np.uint8]:
    """Return a picture of one colour, uint8 (height, width, 3)."""
    return np.full((height, width, 3), colour, np.uint8)

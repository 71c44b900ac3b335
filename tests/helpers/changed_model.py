"""Change an ONNX file as an accident might."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from taijitu_runtime.card import ModelCard


def with_card(source: Path, path: Path, **changes: Any) -> Path:
    """Write a copy whose card has other fields."""
    model = onnx.load(source)
    card = ModelCard.read_onnx_metadata({entry.key: entry.value for entry in model.metadata_props})
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dataclasses.replace(card, **changes).to_metadata())
    onnx.save(model, path)
    return path


def with_weights(source: Path, path: Path, change: Callable[[Any], Any], name_end: str = ".weight") -> Path:
    """Write a copy with `change` applied to the first constant, in the order of the nodes, with such a name."""
    model = onnx.load(source)
    constants = {constant.name: constant for constant in model.graph.initializer}
    name = next(
        name for node in model.graph.node for name in node.input if name in constants and name.endswith(name_end)
    )
    changed = numpy_helper.from_array(change(numpy_helper.to_array(constants[name]).copy()), name)
    constants[name].CopyFrom(changed)
    onnx.save(model, path)
    return path

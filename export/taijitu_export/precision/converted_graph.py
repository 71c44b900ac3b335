"""A graph in another precision, and what its conversion left out and cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import onnx

from taijitu_export.precision.accuracy_check import Check


@dataclasses.dataclass(frozen=True)
class ConvertedGraph:
    """A graph in another precision.

    `excluded_layers`: those of its `layers` that are not in it, for any reason, by layer_name. `check`: how it
    compares with the float32 graph. `noise`: the error of its logits if the weights alone are rounded. `scales`: how
    the int8 scales were found, for the card; empty for float16. `between`: the type of all else, and of excluded
    layers. `in_float32`: what stays in float32 where `between` is float16.
    """

    model: onnx.ModelProto
    layers: int
    excluded_layers: tuple[str, ...]
    check: Check
    noise: float
    scales: dict[str, Any] = dataclasses.field(default_factory=dict)
    between: str = "float32"
    in_float32: tuple[str, ...] = ()

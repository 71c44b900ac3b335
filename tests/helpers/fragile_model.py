"""A real ONNX model that names the strongest colour of a picture; for some pictures ONNX Runtime itself fails."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from taijitu_runtime.card import ModelCard
from tests.helpers.tiny_model import card_dict

RAISES, OUT_OF_MEMORY, NAN = (255, 254, 253)  # the greys of the pictures that cause it

# `length` is 1, or 2^46 numbers: 256 TiB, more than a process of 64 bits can address on any machine.
GRAPH = f"""
<ir_version: 8, opset_import: ["" : 17]>
fragile (uint8[N, 8, 8, 3] images) => (float[N, 3] logits)
<float[1] none = {{0.0}}, float raises = {{{RAISES}.0}}, float large = {{{OUT_OF_MEMORY}.0}}, float nan = {{{NAN}.0}},
 int64[1] one = {{1}}, int64[1] huge = {{70368744177664}}>
{{
    pixels = Cast<to = 1>(images)
    average = ReduceMean<axes = [1, 2], keepdims = 0>(pixels)
    least = ReduceMin<axes = [1, 2, 3], keepdims = 0>(pixels)
    lightest = ReduceMax<keepdims = 0>(least)
    is_raising = Equal(lightest, raises)
    index = Cast<to = 7>(is_raising)
    gathered = Gather(none, index)
    is_large = Equal(lightest, large)
    is_large_number = Cast<to = 7>(is_large)
    more = Mul(is_large_number, huge)
    length = Add(more, one)
    expanded = Expand(none, length)
    expanded_most = ReduceMax<keepdims = 0>(expanded)
    is_nan = Equal(lightest, nan)
    is_nan_number = Cast<to = 1>(is_nan)
    negative = Neg(is_nan_number)
    root = Sqrt(negative)
    first = Add(average, gathered)
    second = Add(first, expanded_most)
    logits = Add(second, root)
}}
"""


def make_fragile_onnx(path: Path) -> Path:
    """Write it to `path`."""
    model = onnx.parser.parse_model(GRAPH)
    helper.set_model_props(model, ModelCard.from_dict(card_dict()).to_metadata())
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path

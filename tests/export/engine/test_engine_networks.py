"""An RTX engine of every network: taijitu's with every activation, and the Nish paper's seven with Nish."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from taijitu_export.engine.engine_artefact import make_engine
from taijitu_export.engine.options import Options
from taijitu_export.engine.request import Request
from taijitu_export.engine.shapes import Shapes
from taijitu_export.onnx.onnx_from_checkpoint import card_of, onnx_from_checkpoint
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.precision.conversion import PrecisionRequest, convert
from taijitu_export.sample_pictures import sample_pictures
from taijitu_training import checkpoint
from taijitu_training.models import list_models
from taijitu_training.tables.tables import NISH_NETWORKS

pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX: no engine can be built")

Make = Callable[..., Path]

ACTIVATIONS = ("relu", "silu", "gelu", "nish")
OURS = [(name, act) for name in list_models() for act in ACTIVATIONS]
NISH_PAPER = [(name, "nish") for name in NISH_NETWORKS]
SOME = [("yynet_small_16", "nish"), ("vgnetg_1_0mp_se", "gelu")]


def onnx_files(source: Path) -> dict[str, Path]:
    """Export the network in float32 and in float16, which may cost an untrained network any accuracy."""
    loaded = checkpoint.load(source)
    card = card_of(loaded, "")
    plain = onnx_from_checkpoint(loaded)
    pictures = sample_pictures(2, card.input.height, card.input.width)
    nothing_to_lose = CalibrationData(pictures, pictures, np.zeros(2, np.int64), "2 pictures", "2 pictures")
    half = convert(plain, card, PrecisionRequest("fp16", max_drop=100.0), nothing_to_lose).model
    files = {"fp32": source.with_suffix(".onnx"), "fp16": source.with_suffix(".fp16.onnx")}
    onnx.save(plain, files["fp32"])
    onnx.save(half, files["fp16"])
    return files


def builds(source: Path) -> None:
    """Build both precisions, with a dynamic batch and a fixed one; no layer with weights has any other type."""
    for precision, file in onnx_files(source).items():
        shape = [dim.dim_value for dim in onnx.load(file).graph.input[0].type.tensor_type.shape.dim][1:]
        fixed = {"images": (4, *shape)}
        for shapes in (Shapes({}, {}, {}), Shapes(fixed, fixed, fixed)):
            made = make_engine(Request(source=file, output=file.with_suffix(".engine"), options=Options(shapes=shapes)))
            assert made.card.precision.asked == precision
            wanted = {"fp32": "float32", "fp16": "float16"}[precision]
            assert list(made.card.precision.layers) == [wanted]
            (profile,) = made.card.profiles
            assert (profile["images"].min == profile["images"].max) == bool(shapes.max)
            # Weights are in the plan in the type of the computation.
            compiled = re.findall(rb"const_payload_size=\d+ .*? type=(\w+)", made.built.plan)
            assert (b"half" in compiled) == (precision == "fp16")


@pytest.mark.parametrize(("name", "act"), SOME)
def test_some_networks_become_engines(make_checkpoint: Make, name: str, act: str) -> None:
    builds(make_checkpoint(name, act=act))


@pytest.mark.engines
@pytest.mark.parametrize(("name", "act"), [pair for pair in OURS + NISH_PAPER if pair not in SOME])
def test_every_network_becomes_an_engine(make_checkpoint: Make, name: str, act: str) -> None:
    builds(make_checkpoint(name, act=act))

"""The models of tiny_model.py and foreign_model.py as real engines with their sidecars, built on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.card import ModelCard
from taijitu_runtime.engine_card import (
    Build,
    BuiltFor,
    EngineCard,
    EnginePrecision,
    Library,
    ShapeRange,
    Source,
    TensorSpec,
    platform_here,
    save_engine,
)
from tests.helpers.foreign_model import make_foreign_onnx
from tests.helpers.tiny_model import card_dict, make_tiny_onnx

MAX_BATCH = 8


def make_tiny_engine(path: Path, *, library: str = "tensorrt_rtx", **options: Any) -> Path:
    """Build `make_tiny_onnx(..., **options)`, next to `path`, for batches of 1 to MAX_BATCH or the fixed one."""
    trt = pytest.importorskip(library, reason=f"no {library}: no engine can be built")
    onnx = make_tiny_onnx(path.with_suffix(".onnx"), **options)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse(onnx.read_bytes()), [parser.get_error(index).desc() for index in range(parser.num_errors)]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    images, logits = network.get_input(0), network.get_output(0)
    batch, *rest = tuple(images.shape)
    height, width = rest[:2] if rest[2] == 3 else rest[1:]
    low, usual, high = (1, 2, MAX_BATCH) if batch == -1 else (batch, batch, batch)
    shapes = [(size, *rest) for size in (low, usual, high)]
    profile.set_shape("images", *shapes)
    config.add_optimization_profile(profile)
    plan = bytes(builder.build_serialized_network(network, config))
    save_with_sidecar(
        path,
        plan,
        card=ModelCard.from_dict(card_dict(height=height, width=width)),
        library=Library(library, trt.__version__),
        built_for=_built_for(library),
        layers=network.num_layers,
        profile={"images": ShapeRange(*shapes)},
        inputs=(
            TensorSpec("images", "uint8" if options.get("layout", "uint8") == "uint8" else "float32", (batch, *rest)),
        ),
        outputs=(TensorSpec("logits", "float32", tuple(logits.shape)),),
        source=Source(onnx.name, hashlib.sha256(onnx.read_bytes()).hexdigest()),
        arguments=("--backend=rtx",),
    )
    return path


def save_with_sidecar(path: Path, plan: bytes, *, layers: int, profile: dict[str, ShapeRange], **fields: Any) -> None:
    """Write a float32 engine and its sidecar. `fields`: the rest of EngineCard's that the tests' engines differ in."""
    card = EngineCard(
        precision=EnginePrecision("fp32", {"float32": layers}),
        profiles=(profile,),
        flags=(),
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        built=Build("2026-11-21T13:30:00+00:00", 0.1),
        **fields,
    )
    save_engine(path, plan, card)


def make_foreign_engine(path: Path) -> Path:
    """Build an engine without a contract, of two outputs, by `taijitu engine`."""
    pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX: no engine can be built")
    cli = pytest.importorskip("taijitu_export.engine.cli", reason="no taijitu_export: no engine can be built")
    source = make_foreign_onnx(path.with_suffix(".onnx"), second_output=True)
    assert cli.main([str(source), "--backend=rtx", f"--saveEngine={path}"]) == 0
    return path


def _built_for(library: str) -> BuiltFor:
    if library == "tensorrt_rtx":
        return BuiltFor(platform=platform_here(), compute_capabilities=(), gpu=None, driver=None)
    gpu = Gpu()
    try:
        model = gpu.model
    finally:
        gpu.close()
    return BuiltFor(
        platform=platform_here(), compute_capabilities=(model.compute_capability,), gpu=model.name, driver=None
    )

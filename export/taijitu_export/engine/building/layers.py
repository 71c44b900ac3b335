"""Count the precision in which an engine computes; the flags that were set prove nothing.

TensorRT, on its GPU, opens the engine, and the engine's own layers are counted. TensorRT-RTX builds without a GPU but
opens nothing without one, and its engines are one compiled layer: there the layers with weights of the typed network
are counted after parsing, whose types the library has to keep to.
"""

from __future__ import annotations

import collections
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from taijitu_export.engine.building.failures import BuildError, not_none
from taijitu_export.engine.target import Target
from taijitu_runtime.backends.trt.logger import logger_of

WEIGHTED = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "FULLY_CONNECTED", "EINSUM")
NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "FP8": "float8"}
WANTED = {"fp32": "float32", "fp16": "float16", "int8": "int8"}

# How the inspector writes types: "Half", "Channel major FP16 format where channel % 8 == 0", from 11.0 on "HALF".
FORMATS = (
    ("int8", r"int8"),
    ("float16", r"half|fp16|float16"),
    ("bfloat16", r"bf16|bfloat16"),
    ("float8", r"fp8|float8"),
    ("float32", r"fp32|float"),
)


@dataclass(frozen=True)
class LayerCount:
    """Layers counted by the type that they compute in.

    `layers`: counts by NumPy's name of the type. `counted_in`: "network" or "engine".
    """

    layers: dict[str, int]
    counted_in: Literal["network", "engine"]

    def __str__(self) -> str:
        total = sum(self.layers.values())
        parts = ", ".join(f"{count} {name}" for name, count in sorted(self.layers.items(), key=lambda item: -item[1]))
        what = "layers with weights of the typed network" if self.counted_in == "network" else "layers of the engine"
        return f"{parts} of {total} {what}"


def count_layers(target: Target, network: Any, plan: bytes, excluded: int | None) -> LayerCount:
    """Count the layers of a plan, or of the network that it was built from.

    `excluded`: layers that the graph has in float32 on purpose, None if unknown. BuildError where the precision
    is not as asked for.
    """
    trt = target.library.trt
    if target.library.is_rtx or target.gpu is None:
        count = count_network(trt, network)
    else:
        logger = logger_of(trt)
        runtime = trt.Runtime(logger)
        runtime.engine_host_code_allowed = True  # a version-compatible plan, which was just made here
        count = count_engine(trt, not_none(runtime.deserialize_cuda_engine(plan), "open the engine", logger))
    if problem := shortfall(target.options.precision, count, excluded):
        raise BuildError(f"not kept: asked for {target.options.precision}, {problem}")
    return count


def count_network(trt: Any, network: Any) -> LayerCount:
    """Count the layers with weights of a parsed, strongly typed INetworkDefinition."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    outputs = ((layer.get_output(index), layer) for layer in layers for index in range(layer.num_outputs))
    makers = {tensor.name: layer for tensor, layer in outputs if tensor is not None}
    weighted = [layer for layer in layers if layer.type.name in WEIGHTED]
    return LayerCount(dict(collections.Counter(_computes_in(trt, layer, makers) for layer in weighted)), "network")


def count_engine(trt: Any, engine: Any) -> LayerCount:
    """Count the layers of an ICudaEngine that was built with detailed profiling verbosity, by their outputs."""
    logger = logger_of(trt)
    inspector = not_none(engine.create_engine_inspector(), "open its inspector", logger)
    listed = json.loads(
        not_none(inspector.get_engine_information(trt.LayerInformationFormat.JSON), "list the engine's layers", logger)
    )
    types = (_type_of(layer) for layer in listed["Layers"] if isinstance(layer, dict))
    return LayerCount(dict(collections.Counter(name for name in types if name)), "engine")


def shortfall(asked: str, count: LayerCount, excluded: int | None) -> str:
    """Return why an engine is not of the precision "fp32", "fp16" or "int8" that was asked for; empty where it is.

    `excluded`: layers that the graph has in float32 on purpose, None if unknown. TensorRT may choose a larger type for
    some of an engine's layers, because they are faster so, or have no other kernel.
    """
    wanted = WANTED[asked]
    got = count.layers.get(wanted, 0)
    others = sum(count.layers.values()) - got
    if not count.layers:
        return ""  # a network without weights
    if got == 0:
        return f"got no layer in {wanted} ({count})"
    if asked == "fp32" and others:
        return f"got layers in a smaller type than float32 ({count})"
    if count.counted_in == "network" and excluded is not None and others > excluded:
        return (
            f"got {others} layers that are not {wanted}, expected at most the {excluded} that the graph has in "
            f"float32 ({count})"
        )
    return ""


def type_name(data_type: str) -> str:
    """Return NumPy's name of a member of the library's DataType: "float16" of "HALF"."""
    return NAMES.get(data_type, data_type.lower())


def _computes_in(trt: Any, layer: Any, makers: dict[str, Any]) -> str:
    """Return the type of the inputs.

    Int8 where both factors come from int8, which the library then multiplies as such.
    """
    # An optional input that is left out has no tensor.
    inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
    sources = [makers.get(tensor.name) for tensor in inputs if tensor is not None]
    data: str = layer.get_input(0).dtype.name
    if sources and sources[0] is not None and sources[0].type == trt.LayerType.DEQUANTIZE:
        data = sources[0].get_input(0).dtype.name
    return type_name(data)


def _type_of(layer: dict[str, Any]) -> str:
    for output in layer.get("Outputs", []):
        text = " ".join(str(value) for key, value in output.items() if re.match(r"format|data", key, re.IGNORECASE))
        for name, pattern in FORMATS:
            if re.search(rf"(?<![a-z])(?:{pattern})(?![0-9])", text, re.IGNORECASE):
                return name
    return ""

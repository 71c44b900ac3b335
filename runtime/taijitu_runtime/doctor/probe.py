"""The questions to libraries, answered in a child process; child.py runs this file by its path.

It imports none of our modules at the top, because that would take most of the time of a short question.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

MARK = "taijitu-doctor:"
# Attributes of cuDeviceGetAttribute.
COMPUTE_CAPABILITY = (75, 76)  # major, minor
MULTIPROCESSORS = 16


def library(name: str) -> dict[str, Any]:
    """Import a module; return its version, its file and, for some, facts about its build."""
    about: dict[str, Callable[[Any], Any]] = {
        "onnxruntime": lambda module: {
            "providers": module.get_available_providers(),
            "cuda": getattr(module, "cuda_version", ""),  # from 1.21 on; "" in a build for CPUs
        },
        "cv2": lambda module: module.getBuildInformation(),
        "PIL": lambda module: importlib.import_module("PIL._imaging").jpeglib_version,  # PIL itself is Python only
    }
    module = importlib.import_module(name)
    package = importlib.import_module(name.rpartition(".")[0] or name)
    version, file = getattr(package, "__version__", None), getattr(module, "__file__", None)
    return {"version": str(version or ""), "file": file or "", "about": about[name](module) if name in about else None}


def cuda() -> dict[str, Any]:
    """Return the result of NVIDIA's cuInit, the newest CUDA that the driver supports (12060 is 12.6), and devices."""
    driver = ctypes.CDLL("libcuda.so.1")
    number, text, size = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    code = driver.cuInit(0)
    driver.cuDriverGetVersion(ctypes.byref(number))
    found: dict[str, Any] = {"code": code, "cuda": number.value, "devices": []}
    if code:
        return found
    driver.cuDeviceGetCount(ctypes.byref(number))
    for index in range(number.value):  # of the GPUs; evaluated once
        device = ctypes.c_int()
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetName(text, len(text), device)
        driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        capability = []
        for attribute in COMPUTE_CAPABILITY:
            driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
            capability.append(str(number.value))
        driver.cuDeviceGetAttribute(ctypes.byref(number), MULTIPROCESSORS, device)
        found["devices"].append(
            {
                "name": text.value.decode(),
                "capability": ".".join(capability),
                "multiprocessors": number.value,
                "memory_bytes": size.value,
            }
        )
    return found


def nish(path: str) -> None:
    """Load a library of Nish's kernels into ONNX Runtime. Raises any exception if that fails."""
    importlib.import_module("onnxruntime").SessionOptions().register_custom_ops_library(path)


def provider(name: str) -> tuple[str, str] | None:
    """Return None if a provider of ONNX Runtime computes, otherwise the reason and the cure."""
    import numpy as np

    from taijitu_runtime.backends.ort.provider import open_on_provider
    from taijitu_runtime.errors import ProviderError

    ort = importlib.import_module("onnxruntime")
    try:
        session = open_on_provider(ort, name, lambda found: ort.InferenceSession(absolute_value(), providers=found))
        session.run(None, {"x": np.ones(1, np.float32)})
    except ProviderError as error:
        return error.reason, error.cure
    return None


def prove(path: str) -> tuple[str, str]:
    """Prove a model; return the outcome, and the line about it."""
    from taijitu_runtime.errors import TaijituError
    from taijitu_runtime.proof.prove import prove as prove_model

    try:
        found = prove_model(path)
    except TaijituError as error:
        return "not tried", str(error)
    return found.outcome, str(found)


def absolute_value() -> bytes:
    """Return the smallest ONNX model: y = Abs(x) of one float32."""
    from taijitu_runtime.onnx_graph import onnx_fields as onnx
    from taijitu_runtime.onnx_graph.protobuf import VARINT, Field, message, text, write

    side = message(onnx.SHAPE_DIM, [Field(onnx.DIM_VALUE, VARINT, 1)])
    tensor = [Field(onnx.TENSOR_ELEMENT_TYPE, VARINT, onnx.FLOAT), message(onnx.TENSOR_SHAPE, [side])]
    kind = message(onnx.VALUE_TYPE, [message(onnx.TYPE_TENSOR, tensor)])
    node = [text(onnx.NODE_INPUT, "x"), text(onnx.NODE_OUTPUT, "y"), text(onnx.NODE_OP_TYPE, "Abs")]
    graph = [message(onnx.GRAPH_NODE, node), text(onnx.GRAPH_NAME, "abs")]
    for number, name in ((onnx.GRAPH_INPUT, "x"), (onnx.GRAPH_OUTPUT, "y")):
        graph.append(message(number, [text(onnx.VALUE_NAME, name), kind]))
    opset = message(onnx.MODEL_OPSET, [Field(onnx.OPSET_VERSION, VARINT, 17)])
    return write([Field(onnx.MODEL_IR_VERSION, VARINT, 8), message(onnx.MODEL_GRAPH, graph), opset])


if __name__ == "__main__":
    questions: list[Callable[..., Any]] = [library, cuda, nish, provider, prove]
    asked = {question.__name__: question for question in questions}[sys.argv[1]]
    print("\n" + MARK + json.dumps(asked(*sys.argv[2:])))

"""The table of differences between releases, compared with the releases' members.

`surfaces/` holds the members of the classes in NVIDIA's own Python bindings of four releases, which install without the
library; they were read by dir(), with empty libraries in place of those that the bindings link to.
"""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from taijitu_export.comparison.allowances import MOST_ALLOWED_ERROR, PROOF_OWN_ALLOWANCE
from taijitu_export.engine.engine_artefact import engine_contract
from taijitu_export.engine.gpu import Gpu
from taijitu_export.engine.graph import Graph
from taijitu_export.engine.graph_for_parser import graph_for_parser
from taijitu_export.engine.library import Library
from taijitu_export.engine.options import Options
from taijitu_export.engine.target import Target, check_options
from taijitu_export.engine.versions import DIFFERENCES, OLDEST, Difference
from taijitu_export.passport import with_own_answers
from taijitu_runtime import native
from taijitu_runtime.backends.ort.backend import OrtBackend
from taijitu_runtime.card import ModelCard, Precision
from taijitu_runtime.errors import DeviceError, UsageError
from tests.helpers.tiny_model import card_dict

SURFACES = {file.stem: json.loads(file.read_text()) for file in sorted((Path(__file__).parent / "surfaces").glob("*"))}

SHOWN = {feature: difference for feature, difference in DIFFERENCES.items() if difference.symbol is not None}
"""The rows that a member shows."""

# The classes of variables in the builder's code, and the functions that use them only where the table allows it.
HOLDS = {
    "config": "IBuilderConfig",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
}
ENUMS = ("BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "ProfilingVerbosity", "DeviceType",
         "LayerType", "LayerInformationFormat")  # fmt: skip


def has(surface: dict[str, Any], symbol: str | None) -> bool:
    assert symbol is not None
    name, member = symbol.split(".")
    return member in surface["members"].get(name, ())


def number(surface: dict[str, Any]) -> tuple[int, int]:
    major, minor = surface["version"].split(".")[:2]
    return int(major), int(minor)


def test_the_oldest_release_is_recorded_and_every_file_is_named_after_its_own() -> None:
    assert all(name == f"tensorrt-{surface['version']}" for name, surface in SURFACES.items())
    assert min(map(number, SURFACES.values())) == OLDEST["tensorrt"]


@pytest.mark.parametrize("name", SURFACES)
@pytest.mark.parametrize(("feature", "difference"), SHOWN.items(), ids=list(SHOWN))
def test_each_row_is_what_the_release_has(name: str, feature: str, difference: Difference) -> None:
    surface = SURFACES[name]
    assert has(surface, difference.symbol) == difference.in_tensorrt(number(surface))
    assert Library("tensorrt", None, surface["version"]).has(feature) == has(surface, difference.symbol)


@pytest.mark.parametrize(("feature", "difference"), SHOWN.items(), ids=list(SHOWN))
def test_each_row_is_what_tensorrt_rtx_has(feature: str, difference: Difference) -> None:
    assert difference.symbol is not None
    trt = pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX here")
    name, member = difference.symbol.split(".")
    assert hasattr(getattr(trt, name), member) == (difference.rtx != "absent")
    assert Library("tensorrt_rtx", trt, trt.__version__).has(feature) == (difference.rtx == "used")


def used(root: Path) -> dict[str, str]:
    """Return every "Class.member" that the builder's code uses, with its file."""
    found = {}
    package = root / "export" / "taijitu_export" / "engine"
    for file in package.rglob("*.py"):
        if file.name == "cli.py":  # whose parser is argparse's
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            holder = node.value
            if isinstance(holder, ast.Attribute) and holder.attr in ENUMS and not node.attr.startswith("_"):
                found[f"{holder.attr}.{node.attr}"] = file.name
            elif isinstance(holder, ast.Name) and holder.id in HOLDS:
                found[f"{HOLDS[holder.id]}.{node.attr}"] = file.name
    return found


def test_every_member_that_the_builder_uses_is_in_every_release_or_in_the_table(root: Path) -> None:
    names = used(root)
    assert {"IBuilderConfig.set_flag", "BuilderFlag.TF32", "ParserError.desc"} <= set(names)
    rows = {difference.symbol for difference in DIFFERENCES.values()}
    # They are covered by a row's symbol.
    rows |= {"ParserError.node_operator", "IBuilderConfig.num_compute_capabilities", "BuilderFlag.INT8"}
    missing = {
        symbol: (file, surface["version"])
        for symbol, file in names.items()
        for surface in SURFACES.values()
        if symbol not in rows and not has(surface, symbol)
    }
    assert missing == {}


def test_a_flag_for_a_feature_that_a_release_lacks_says_why() -> None:
    library = Library("tensorrt", None, "10.3.0")
    flag = "--hardwareCompatibilityLevel=sameComputeCapability"
    with pytest.raises(UsageError, match=rf"^got {flag}, .*TensorRT 10\.3\.0.*10\.9"):
        library.need("same compute capability", flag)
    library.need("hardware compatibility", "--hardwareCompatibilityLevel")


@pytest.mark.parametrize(
    ("module", "version", "dla_core", "typed"),
    [
        ("tensorrt", "8.6.2", None, False),
        ("tensorrt", "10.3.0", None, True),
        ("tensorrt", "10.3.0", 0, False),
        ("tensorrt", "11.4.1", None, True),
        ("tensorrt", "11.4.1", 0, True),
        ("tensorrt_rtx", "1.7.1", None, True),
    ],
)
def test_which_releases_build_typed_networks(module: str, version: str, dla_core: int | None, typed: bool) -> None:
    target = Target(Library(module, None, version), Options(dla_core=dla_core), None)
    assert target.is_typed == typed


@pytest.mark.parametrize(
    ("module", "gpu", "asked", "runs"),
    [
        ("tensorrt", None, (), False),
        ("tensorrt", "7.5", (), True),
        ("tensorrt", "8.7", (), True),
        ("tensorrt_rtx", None, (), False),
        ("tensorrt_rtx", "7.5", (), False),
        ("tensorrt_rtx", "7.5", ("7.5",), True),
        ("tensorrt_rtx", "8.9", (), True),
        ("tensorrt_rtx", "8.9", ("8.6",), False),
    ],
)
def test_which_engines_run_on_the_local_gpu(module: str, gpu: str | None, asked: tuple[str, ...], runs: bool) -> None:
    local = None if gpu is None else Gpu("a GPU", gpu, multiprocessors=1, memory_bytes=1)
    target = Target(Library(module, None, "10.3.0"), Options(compute_capabilities=asked), local)
    assert target.runs_here == runs


def test_a_foreign_graph_is_in_float16_wherever_its_constants_and_functions_are(tmp_path: Path) -> None:
    """Constants among the inputs, as before IR version 4, or in nodes; a function that chooses its type itself."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "f" : 1]> g (float[2, 4] x, float[4, 4] w) => (float[2, 4] y) '
        "<float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}> "
        "{ a = MatMul(x, w) b = f.widened(a) c = MatMul(b, w) most = Constant<value_float = 1e5>() y = Min(c, most) }"
        '<domain: "f", opset_import: ["" : 17]> widened (p) => (q) { r = Cast<to = 1>(p) q = Relu(r) }'
    )
    target = Target(Library("tensorrt", None, "10.3.0"), Options(precision="fp16"), None)
    made = graph_for_parser(Graph(tmp_path / "model.onnx", model, None, "0" * 64), target).model
    onnx.checker.check_model(made, full_check=True)
    assert [value.name for value in made.graph.input] == ["x"]
    halves = [each.name for each in made.graph.initializer if each.data_type == onnx.TensorProto.FLOAT16]
    assert halves == ["w"], "the largest number is not one of float16's"
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.array([[1, -2, 3, 4]] * 2, np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], np.maximum(x, 0))


def test_an_engine_that_tensorrt_made_float16_is_allowed_what_float16_needs(shipped_onnx: Path) -> None:
    with OrtBackend(shipped_onnx) as backend:  # instead of the engine, which no GPU runs here
        contract = engine_contract(backend.card, "fp16")
        proof = with_own_answers(contract, backend).proof
    assert contract.precision.name == "fp16"
    assert proof is not None
    assert proof.own is not None
    assert proof.own.allowed == PROOF_OWN_ALLOWANCE["fp16"]
    assert proof.allowed_on_gpu >= MOST_ALLOWED_ERROR["fp16"]


@pytest.mark.parametrize(("version", "takes"), [("8.6.2", False), ("10.3.0", True)])
def test_an_int8_file_with_float16_between_is_for_tensorrt_10(version: str, takes: bool, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 19]> g (float16[n] x) => (float16[n] y) '
        "{ q = QuantizeLinear(x, s) y = DequantizeLinear(q, s) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float16(0.1), "s"))
    card = dataclasses.replace(ModelCard.from_dict(card_dict()), precision=Precision(name="int8"))
    graph = Graph(tmp_path / "model.onnx", model, card, "0" * 64)
    target = Target(Library("tensorrt", None, version), Options(precision="int8"), None)
    if takes:
        assert graph_for_parser(graph, target).model.graph.node
    else:
        with pytest.raises(UsageError, match=r"TensorRT 8\.6\.2 does not parse.*--for cpu"):
            graph_for_parser(graph, target)


@pytest.mark.parametrize(
    ("module", "version", "name"),
    [
        ("tensorrt", "8.6.2", "TensorRT 8.6.2"),
        ("tensorrt", "10.6.0", "TensorRT 10.6.0"),
        ("tensorrt_rtx", "1.7.1", "TensorRT-RTX 1.7.1"),
    ],
)
def test_the_plugin_for_nish_is_refused_before_10_7_and_on_rtx(module: str, version: str, name: str) -> None:
    with pytest.raises(UsageError, match=rf"^got --nishPlugin, .*{name} .*10\.7"):
        check_options(Library(module, None, version), Options(nish_plugin=True), None)


def test_the_plugin_for_nish_takes_its_cuda_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "CUDA_LIBRARY", tmp_path / "none.so")
    with pytest.raises(DeviceError, match=r"none\.so, expected it for Nish as a plugin; .*native\.build --cuda$"):
        check_options(Library("tensorrt", None, "10.7.0"), Options(nish_plugin=True), None)

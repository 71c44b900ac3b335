"""The files that a backend takes: each wrong one is refused with what it is and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from taijitu_runtime.backends import OrtBackend, open_backend
from taijitu_runtime.backends.ort.backend import open_model
from taijitu_runtime.errors import ArtefactError
from tests.helpers.tiny_model import card_dict

Maker = Callable[..., Path]
EXPORT = r"taijitu onnx"


def test_an_onnx_file_goes_to_onnx_runtime(tiny_onnx: Path) -> None:
    backend = open_backend(str(tiny_onnx), threads=1)
    assert isinstance(backend, OrtBackend)
    with backend:
        assert backend.input.layout == "uint8 NHWC"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.onnx", None, r"gone\.onnx"),
        ("gone.pt", None, r"gone\.pt"),
        ("empty.onnx", b"", r"empty\.onnx.*empty"),
        ("random.onnx", b"random bytes " * 20, rf"random\.onnx.*\(.+\), .*{EXPORT}"),
        ("best.pt", b"PK\x03\x04" + bytes(99), rf"checkpoint.*\.onnx.*{EXPORT} .*best\.pt"),
        ("model.engine", bytes(99), r"model\.engine\.json"),
        ("model.bin", b"ftrt" + bytes(99), r"model\.bin\.json"),
        ("model.bin", b"vtrt" + bytes(99), r"model\.bin\.json"),
        ("model.tflite", b"\x1c\0\0\0TFL3", r"model\.tflite.*\.onnx"),
    ],
)
def test_files_that_are_not_models_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtefactError, match=message), open_backend(path):
        pass


def test_a_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="folder"), open_backend(tmp_path):
        pass


def test_a_path_that_is_no_text_is_named_and_not_called_a_damaged_model(tiny_onnx: Path, tmp_path: Path) -> None:
    model = tmp_path / os.fsdecode(b"caf\xe9.onnx")
    shutil.copy(tiny_onnx, model)
    with pytest.raises(ArtefactError, match=r"UTF-8.* rename"):
        OrtBackend(model).load()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
def test_a_truncated_model_is_refused(tiny_onnx: Path, tmp_path: Path, share: float) -> None:
    whole = tiny_onnx.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ArtefactError, match=EXPORT), open_backend(path):
        pass


def test_a_foreign_onnx_model_names_the_exporter(make_onnx: Maker) -> None:
    with (
        pytest.raises(ArtefactError, match=rf"metadata.*{EXPORT} checkpoint\.pt"),
        open_backend(make_onnx(metadata=False)),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ("x", "y")}, r"\['x'\].*\['y'\].*'images'.*'logits'"),
        (
            {"size": (8, 6), "labels": ("a", "b"), "card": "wide"},
            r"\(8, 6\) .* \(8, 8\)",
        ),
        ({"classes": 4}, r"4 logits.* 3"),
    ],
)
def test_a_model_at_odds_with_its_card_is_refused(
    make_onnx: Maker, card: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    if "card" in options:
        options = {**options, "card": {**card, "labels": ["a", "b"]}}
    with pytest.raises(ArtefactError, match=rf"{message}.*{EXPORT}"), open_backend(make_onnx(**options)):
        pass


def test_a_wrong_card_is_refused(make_onnx: Maker, tmp_path: Path) -> None:
    path = tmp_path / "wrong.onnx"
    path.write_bytes(make_onnx().read_bytes().replace(b'"shorter_side"', b'"longer__side"'))
    with pytest.raises(ArtefactError, match=r"wrong\.onnx: .*input\.resize: got 'longer__side'"), open_backend(path):
        pass


def test_a_failed_load_can_be_followed_by_a_good_one(tiny_onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    backend = open_backend(path)
    with pytest.raises(ArtefactError, match=r"model\.onnx"):
        backend.load()
    path.write_bytes(tiny_onnx.read_bytes())
    with backend:
        assert backend.infer(np.zeros((1, 8, 8, 3), np.uint8)).shape == (1, 3)


def test_onnx_runtimes_warnings_are_not_printed(tiny_onnx: Path, tmp_path: Path, root: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"random bytes " * 20)
    code = (
        "import sys, numpy\n"
        "from taijitu_runtime.errors import ArtefactError\n"
        "from taijitu_runtime.backends import open_backend\n"
        "with open_backend(sys.argv[1]) as backend: backend.infer(numpy.zeros((1, 8, 8, 3), 'uint8'))\n"
        "try: open_backend(sys.argv[2]).load()\n"
        "except ArtefactError: print('refused')\n"
    )
    command = [sys.executable, "-c", code, str(tiny_onnx), str(broken)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root / "runtime", check=True)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_int8_for_engines_is_refused_where_onnx_runtime_rounds_float16_wrongly(
    make_onnx: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def precision(between: str) -> dict[str, Any]:
        return {"precision": {"name": "int8", "excluded_layers": [], "calibration": {"between": between}}}

    for_engines, for_cpus = (make_onnx(card=card_dict(**precision(between))) for between in ("float16", "float32"))
    monkeypatch.setattr(onnxruntime, "__version__", "1.29.1")
    with pytest.raises(ArtefactError, match="--for cpu"), OrtBackend(for_engines):
        pass
    with OrtBackend(for_cpus) as backend:
        assert backend.card.precision.name == "int8"
    monkeypatch.setattr(onnxruntime, "__version__", "1.30.0")
    with OrtBackend(for_engines) as backend:
        assert backend.card.precision.name == "int8"


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "QLinearConv"])
def test_large_products_of_int8_add_up_on_every_processor(tmp_path: Path, kind: str) -> None:
    shape, kernel = ([4, 64], (8, 64)) if kind == "Gemm" else ([1, 64, 4, 4], (8, 64, 1, 1))
    values = {
        "weights": np.full(kernel, 127, np.int8),
        "step": np.float32(1 / 127),
        "steps": np.full(8, 1 / 127, np.float32),
        "wide": np.float32(0.6),
        "zero": np.int8(0),
        "zeros": np.zeros(8, np.int8),
    }
    if kind == "QLinearConv":  # with unsigned activations, as quantised files of others have them
        values |= {"zero": np.uint8(0), "step": np.float32(1 / 255)}
    node = onnx.helper.make_node
    nodes = [node("QuantizeLinear", ["x", "step", "zero"], ["bytes"])]
    if kind == "QLinearConv":
        scales = ["bytes", "step", "zero", "weights", "steps", "zeros", "wide", "zero"]
        nodes += [node("QLinearConv", scales, ["out"])]
    else:
        nodes += [
            node("DequantizeLinear", ["bytes", "step", "zero"], ["back"]),
            node("DequantizeLinear", ["weights", "steps", "zeros"], ["kernel"], axis=0),
            node("Conv", ["back", "kernel"], ["sum"])
            if kind == "Conv"
            else node("Gemm", ["back", "kernel"], ["sum"], transB=1),
            node("QuantizeLinear", ["sum", "wide", "zero"], ["out"]),
        ]
    nodes += [node("DequantizeLinear", ["out", "wide", "zero"], ["y"])]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    path = tmp_path / "ones.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    (answer,) = open_model(path).run(None, {"x": np.ones(shape, np.float32)})
    np.testing.assert_allclose(answer, 64, atol=0.6)

"""A file that takes pixels, as DeepStream feeds it, through everything that reads an artefact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from taijitu_export.api import export_onnx, verify
from taijitu_export.engine.api import build_engine
from taijitu_runtime.bench import cli as bench
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.classify import cli as classify
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.proof.prove import prove
from tests.helpers.nvinfer import nvinfer, written
from tests.helpers.server_process import Server


@pytest.fixture(scope="module")
def pixels_onnx(shipped_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pixels")
    return export_onnx(shipped_checkpoint, folder / "pixels.onnx", input_form="pixels").path


def test_nvinfers_arithmetic_gives_our_logits(pixels_onnx: Path, shipped_onnx: Path, tmp_path: Path) -> None:
    primary, _ = written(pixels_onnx, tmp_path / "out")
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    planes = (np.float32(primary["net-scale-factor"]) * frames).transpose(0, 3, 1, 2)
    with Classifier.from_file(shipped_onnx) as ours, Classifier.from_file(pixels_onnx) as classifier:
        expected = ours.logits(frames)
        np.testing.assert_allclose(classifier.infer(np.ascontiguousarray(planes)), expected, atol=1e-5, rtol=1e-5)
        probabilities = ours.scores(expected).probabilities
    np.testing.assert_allclose(nvinfer(primary, tmp_path / "out", frames), probabilities, atol=1e-5)


def test_every_reader_feeds_it_pixels(
    pixels_onnx: Path, shipped_onnx: Path, shipped_checkpoint: Path, photograph: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert prove(pixels_onnx).proven
    judged = verify(pixels_onnx, reference=shipped_checkpoint)
    assert judged.verdict.fine
    answers: dict[Path, Any] = {}
    for model in (pixels_onnx, shipped_onnx):
        assert classify.main([str(model), str(photograph), "--json"]) == 0
        answers[model] = json.loads(capsys.readouterr().out)["results"][0]["answers"]
    assert [a["label"] for a in answers[pixels_onnx]] == [a["label"] for a in answers[shipped_onnx]]
    np.testing.assert_allclose(
        [a["probability"] for a in answers[pixels_onnx]], [a["probability"] for a in answers[shipped_onnx]], atol=1e-5
    )
    assert bench.main([str(pixels_onnx), "--duration=0", "--iterations=5", "--warmUp=0", "--json"]) == 0
    with Server(str(pixels_onnx)) as served:
        reply = httpx.post(f"{served.url}/classify", content=photograph.read_bytes(), timeout=30).json()
        assert reply["answers"][0]["probability"] == pytest.approx(answers[shipped_onnx][0]["probability"], abs=1e-5)
        with Classifier.from_file(pixels_onnx) as classifier:
            frame = np.array(Image.fromarray(classifier.prepare(photograph)), np.float32).transpose(2, 0, 1)
        tensor = {"name": "images", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": frame.ravel().tolist()}
        name = reply["model"]
        outputs = [{"name": "probabilities"}]
        infer = httpx.post(
            f"{served.url}/v2/models/{name}/infer", json={"inputs": [tensor], "outputs": outputs}, timeout=30
        )
        assert max(infer.json()["outputs"][0]["data"]) == pytest.approx(reply["answers"][0]["probability"], abs=1e-5)


def test_nvidias_parser_takes_it_and_the_engine_says_that_it_takes_pixels(pixels_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    built = build_engine(pixels_onnx, tmp_path / "model.engine", backend="rtx", answer=False)
    card = EngineCard.read(built.path).card
    assert card is not None
    assert card.input.float_values == "pixels"
    written(pixels_onnx, tmp_path / "out")
    copy = build_engine(tmp_path / "out" / "model.onnx", tmp_path / "copy.engine", backend="rtx", answer=False)
    assert [tensor.name for tensor in EngineCard.read(copy.path).outputs] == [
        "probabilities"
    ]  # as nvinfer's parser does

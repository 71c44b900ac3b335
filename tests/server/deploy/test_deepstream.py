"""What `taijitu deepstream` writes: keys that Gst-nvinfer has, and the answers that it then gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from taijitu_export.api import adopt
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.decision.decision import Decision
from taijitu_server.deploy.deepstream import main
from tests.helpers.decision import make_decision
from tests.helpers.foreign_model import make_foreign_onnx
from tests.helpers.nvinfer import nvinfer, written
from tests.helpers.tiny_model import COLOURS, card_dict, make_tiny_onnx
from tests.helpers.tiny_nish_model import make_nish_onnx

FILTERS = "NvBufSurfTransform_Inter of nvbufsurftransform.h: 0 nearest, 1 bilinear, 2 to 5 by processor, 6 default"


def number(least: float, most: float = 2**31) -> Callable[[str], bool]:
    return lambda text: least <= float(text) <= most


def one_of(*values: str) -> Callable[[str], bool]:
    return lambda text: text in values


# By key: what it may be, and what the documentation (DOCS of helpers/nvinfer.py, read on 2026-11-28) says of it.
# The names are those of gstnvinfer_property_parser.h of DeepStream 6 to 9.
DOCUMENTED: dict[str, tuple[Callable[[str], bool], str]] = {
    "gpu-id": (number(0), "device ID of the GPU"),
    "onnx-file": (str.isprintable, "pathname of the ONNX model file"),
    "model-engine-file": (str.isprintable, "pathname of the serialized model engine file"),
    "labelfile-path": (str.isprintable, "pathname of a text file containing the labels for the model"),
    "batch-size": (number(1), "number of frames or objects to be inferred together in a batch"),
    "network-mode": (one_of("0", "1", "2"), "0: FP32, 1: INT8, 2: FP16"),
    "network-type": (one_of("0", "1", "2", "3", "100"), "0: detector, 1: classifier, 2: segmentation, 3: instances"),
    "process-mode": (one_of("1", "2"), "1: primary, 2: secondary"),
    "gie-unique-id": (number(1), "unique ID to be assigned to the GIE"),
    "net-scale-factor": (number(1e-9), "pixel normalization factor, > 0.0"),
    "model-color-format": (one_of("0", "1", "2"), "0: RGB, 1: BGR, 2: GRAY"),
    "infer-dims": (lambda text: len(text.split(";")) == 3, "binding dimensions, channel; height; width"),
    "network-input-order": (one_of("0", "1"), "0: NCHW, 1: NHWC"),
    "maintain-aspect-ratio": (one_of("0", "1"), "whether to maintain aspect ratio while scaling input"),
    "symmetric-padding": (one_of("0", "1"), "whether to pad image symmetrically, asymmetric by default"),
    "scaling-filter": (number(0, 6), FILTERS),
    "output-blob-names": (str.isprintable, "array of output layer names"),
    "classifier-threshold": (number(0, 1), "minimum threshold label probability"),
    "classifier-type": (str.isprintable, "description of what the classifier classifies"),
    "operate-on-gie-id": (number(0), "unique ID of the GIE on whose metadata this GIE is to operate"),
    "classifier-async-mode": (one_of("0", "1"), "inference on detected objects and asynchronous metadata attachments"),
}
SECONDARY_ONLY = {"operate-on-gie-id", "classifier-async-mode"}

DECISION = make_decision()


@pytest.mark.parametrize("resize", ["shorter_side", "stretch", "letterbox"])
def test_every_key_is_documented_with_such_a_value(tmp_path: Path, resize: str) -> None:
    card = card_dict()
    card["input"]["resize"] = resize
    model = make_tiny_onnx(tmp_path / "model.onnx", layout="pixels", card=card)
    primary, secondary = written(model, tmp_path / "out", "--batch-size", "4", "--gpu", "1")
    assert set(primary) == set(DOCUMENTED) - SECONDARY_ONLY
    assert set(secondary) == set(DOCUMENTED)
    for values in (primary, secondary):
        for key, value in values.items():
            assert DOCUMENTED[key][0](value), (key, value, DOCUMENTED[key][1])
    assert (primary["process-mode"], secondary["process-mode"]) == ("1", "2")
    assert secondary["operate-on-gie-id"] == primary["gie-unique-id"] != secondary["gie-unique-id"]
    assert primary["model-engine-file"] == "model.onnx_b4_gpu1_fp32.engine"
    assert primary["maintain-aspect-ratio"] == str(int(resize == "letterbox"))
    # One line for each output layer, the labels of which are parted by semicolons.
    assert (tmp_path / "out" / "labels.txt").read_text() == ";".join(COLOURS) + "\n"


@pytest.mark.parametrize("decision", [None, DECISION])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_nvinfer_gets_the_probabilities_that_taijitu_gives(
    tmp_path: Path, decision: Decision | None, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    card = card_dict(output=output)
    if decision is not None:
        card["decision"] = dataclasses.asdict(decision)
    model = make_tiny_onnx(tmp_path / "model.onnx", layout="pixels", card=card)
    primary, _ = written(model, tmp_path / "out")
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    with Classifier.from_file(model) as classifier:
        expected = classifier.scores(classifier.logits(frames)).probabilities
    np.testing.assert_allclose(nvinfer(primary, tmp_path / "out", frames), expected, atol=1e-6)
    assert float(primary["classifier-threshold"]) == (0.6 if decision else 0.0)
    assert ("set of labels" in capsys.readouterr().out) == (decision is not None), "nvinfer has none"
    copy = onnx.load(tmp_path / "out" / "model.onnx")
    onnx.checker.check_model(copy, full_check=True)
    assert [output.name for output in copy.graph.output] == ["probabilities"]


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_nvinfer_runs_an_adopted_network(tmp_path: Path, layout: str) -> None:
    source, model = make_foreign_onnx(tmp_path / "foreign.onnx", layout=layout), tmp_path / "model.onnx"
    adopt(source, model, labels=COLOURS, mean=[0.5], std=[0.2], resize="stretch", input_form="pixels")
    primary, _ = written(model, tmp_path / "out")
    frames = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3), np.uint8)
    with Classifier.from_file(model) as classifier:
        expected = classifier.scores(classifier.logits(frames)).probabilities
    np.testing.assert_allclose(nvinfer(primary, tmp_path / "out", frames), expected, atol=1e-6)


@pytest.mark.parametrize("taken", [["probabilities"], ["probabilities", "probabilities_2"], ["probabilities/0"]])
def test_a_network_with_a_tensor_of_the_outputs_name_stays_valid(tmp_path: Path, taken: list[str]) -> None:
    card = card_dict(decision=dataclasses.asdict(DECISION))  # with nodes before the output
    source = onnx.load(make_tiny_onnx(tmp_path / "source.onnx", layout="pixels", card=card))
    names = dict(zip(("average", "normalised"), taken))
    for node in source.graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(tensor, tensor) for tensor in tensors]
    onnx.save(source, tmp_path / "model.onnx")
    primary, _ = written(tmp_path / "model.onnx", tmp_path / "out")
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    with Classifier.from_file(tmp_path / "model.onnx") as classifier:
        expected = classifier.scores(classifier.logits(frames)).probabilities
    np.testing.assert_allclose(nvinfer(primary, tmp_path / "out", frames), expected, atol=1e-6)
    onnx.checker.check_model(onnx.load(tmp_path / "out" / "model.onnx"), full_check=True)


def test_what_nvinfer_cannot_use_is_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels: dict[str, Any] = {"layout": "pixels"}
    int8 = card_dict(precision={"name": "int8", "excluded_layers": [], "calibration": {}})
    models = [
        make_tiny_onnx(tmp_path / "bytes.onnx"),
        make_tiny_onnx(tmp_path / "normalised.onnx", layout="float32"),
        make_nish_onnx(tmp_path / "nish.onnx"),
        make_tiny_onnx(tmp_path / "int8.onnx", card=int8, **pixels),
        make_tiny_onnx(tmp_path / "labels.onnx", labels=("a;b", "c", "d"), **pixels),
        tmp_path / "gone.onnx",
    ]
    for model in models:
        assert main([str(model), "-o", str(tmp_path / "out")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    good = make_tiny_onnx(tmp_path / "good.onnx", batch=2, **pixels)
    for wrong in (["--batch-size", "0"], ["--batch-size", str(2**31)], ["--threshold", "2"], ["--gpu", "-1"]):
        assert main([str(good), "-o", str(tmp_path / "out"), *wrong]) == 2
    assert not (tmp_path / "out").exists()
    assert written(good, tmp_path / "out")[0]["batch-size"] == "2"
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    for name in ("out", "empty"):
        assert main([str(good), "-o", str(tmp_path / name)]) == 2
        assert f"{name}: exists already" in capsys.readouterr().err

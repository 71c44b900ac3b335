"""Class-activation maps of exported files against the same maps from PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from taijitu_export.api import adopt
from taijitu_export.onnx.onnx_from_checkpoint import onnx_from_checkpoint
from taijitu_export.onnx.passes import Float16Pass
from taijitu_export.onnx.passes.editing import applied
from taijitu_export.precision.calibration import calibrated_scales
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.precision.int8_from_float32 import quantise
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.explain.class_maps import ALLOWED_ERROR
from taijitu_runtime.pictures.generated import proof_picture
from taijitu_runtime.pictures.preprocess import normalise
from taijitu_training import checkpoint
from tests.helpers.foreign_model import make_foreign_onnx

Make = Callable[..., Path]
Places = Callable[[Any, Tensor], Tensor]


def of_yynet(model: Any, places: Tensor) -> Tensor:
    """Compute the head at each place, with the hidden layer's factors held at those of the picture."""
    hidden = model.fc1(places.mean((1, 2), keepdim=True))
    logits: Tensor = model.fc2(model.fc1(places) * model.act(hidden) / hidden)
    return logits


@pytest.mark.parametrize(
    ("name", "options", "features", "of_places"),
    [
        ("", {}, "path", of_yynet),  # the shipped one
        ("yynet_small_16", {"act": "nish"}, "path", of_yynet),
        ("vgnetg_1_0mp", {"size": 64}, "last", lambda model, places: model.classifier(places)),
    ],
)
def test_maps_are_pytorchs(
    make_checkpoint: Make, shipped_checkpoint: Path, shipped_onnx: Path, name: str, options: dict[str, Any],
    features: str, of_places: Places,
) -> None:  # fmt: skip
    loaded = checkpoint.load(make_checkpoint(name, **options) if name else shipped_checkpoint)
    path = shipped_onnx
    if name:
        path = shipped_onnx.with_name(f"{name}.onnx")
        onnx.save(onnx_from_checkpoint(loaded), path)
    model, caught = loaded.model(), []
    model.get_submodule(features).register_forward_hook(lambda *given: caught.append(given[-1]))
    with Classifier.from_file(path) as classifier, torch.no_grad():
        pixels = sample_pictures(3, classifier.card.input.height, classifier.card.input.width, seed=5)
        logits, maps = classifier.class_maps()(pixels)
        expected_logits = model(torch.from_numpy(normalise(pixels, classifier.card.input)))
        expected = of_places(model, caught[0].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert maps.shape[2:] == caught[0].shape[2:]
    span = float(np.ptp(expected_logits.numpy()))
    np.testing.assert_allclose(maps, expected.numpy(), atol=1e-4 * max(1.0, span), rtol=1e-4)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), logits, atol=1e-4 * max(1.0, span))


def quantised(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> onnx.ModelProto:
    inputs = {node.input[0] for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    return quantise(model, calibrated_scales(model, sorted(inputs), pixels))


def maps_error(smaller: onnx.ModelProto, of: Path, pixels: NDArray[np.uint8], folder: Path) -> float:
    """Return the root mean square of the maps' differences, as a share of the maps' range in float32."""
    onnx.save(smaller, folder / "smaller.onnx")
    with Classifier.from_file(of) as one, Classifier.from_file(folder / "smaller.onnx") as other:
        _, expected = one.class_maps()(pixels)
        _, maps = other.class_maps()(pixels)
    return float(np.sqrt(np.square(maps - expected).mean()) / np.ptp(expected))


def test_float16_files_have_nearly_the_same_maps(shipped_onnx: Path, tmp_path: Path) -> None:
    smaller = applied(Float16Pass(), onnx.load(shipped_onnx))
    assert maps_error(smaller, shipped_onnx, sample_pictures(8, 32, 32, seed=5), tmp_path) <= 2e-3


def test_int8_files_have_nearly_the_same_maps(shipped_onnx: Path, cifar_subset: Path, tmp_path: Path) -> None:
    # Real pictures: noise makes the logits and the maps differ several times as much.
    with Classifier.from_file(shipped_onnx) as classifier:
        real = CalibrationData.of_data(cifar_subset, classifier.card)
    smaller = quantised(onnx.load(shipped_onnx), real.calibration[:32])
    assert maps_error(smaller, shipped_onnx, real.evaluation[:64], tmp_path) <= 0.03


def test_an_int8_file_has_maps_where_noise_would_be_clipped(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = onnx_from_checkpoint(checkpoint.load(root / "checkpoints" / "yynet_small_16_nish_cifar10.pt"))
    onnx.save(model, path)
    with Classifier.from_file(path) as classifier:
        soft = np.stack([classifier.prepare(proof_picture(seed, classifier.card.input)) for seed in range(12)])
    smaller = quantised(model, soft[:8])
    assert maps_error(smaller, path, soft[8:], tmp_path) <= 0.05
    with Classifier.from_file(tmp_path / "smaller.onnx") as classifier:
        logits, maps = classifier.class_maps()(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8))
    assert np.abs(maps.mean(axis=(2, 3)) - logits).max() > ALLOWED_ERROR * np.ptp(logits), "or it proves nothing"


@pytest.mark.parametrize(
    "options",
    [
        {"outside": True, "batch": 2},
        {"dtype": "float16"},
        {"ending": "Softmax"},
        {"ending": "Sigmoid", "classes": 1},
        {"layout": "nhwc", "opset": 9, "ir_version": 3, "initialisers_are_inputs": True},
    ],
)
def test_adopted_networks_have_maps_that_add_up_to_their_logits(tmp_path: Path, options: dict[str, Any]) -> None:
    source = make_foreign_onnx(tmp_path / "source.onnx", **options)
    labels = ["a", "b"] if options.get("classes") == 1 else ["a", "b", "c"]
    path = adopt(source, tmp_path / "model.onnx", labels=labels, mean=[0.5], std=[0.5], resize="stretch").path
    with Classifier.from_file(path) as classifier:
        logits, maps = classifier.class_maps()(sample_pictures(2, 12, 16, seed=1))
    assert maps.shape == (2, len(labels), 12, 16)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), logits, atol=1e-3)

"""Existing networks: weights and preprocessing in one checkpoint, or an error that says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from taijitu_runtime.errors import TaijituError, UnknownNameError, UsageError
from taijitu_training import checkpoint
from taijitu_training.errors import CheckpointError
from taijitu_training.models import replace_activations
from taijitu_training.weights.from_model import checkpoint_from_model, preferred_input
from taijitu_training.weights.published import imagenet_labels, network_input, published_input, published_labels

LABELS = ["cat", "dog", "fish"]
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def timm_model(name: str, **arguments: Any) -> nn.Module:
    model: nn.Module = pytest.importorskip("timm").create_model(name, num_classes=3, **arguments)
    return with_statistics(model)


def torchvision_model(name: str, **arguments: Any) -> nn.Module:
    models = pytest.importorskip("torchvision").models
    return with_statistics(models.get_model(name, num_classes=3, weights=None, **arguments))


def with_statistics(model: nn.Module) -> nn.Module:
    """Set batch norms to statistics as after training: weights alone do not make the network; signals do not fade."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model(torch.randn(4, next(model.parameters()).shape[1], 64, 64))
    return model


def test_a_network_of_timm_brings_its_weights_and_its_preprocessing() -> None:
    model = timm_model("test_efficientnet")
    made = checkpoint_from_model("timm/test_efficientnet", model, LABELS)
    assert made.input == {
        "height": 160, "width": 160, "colour": "RGB", "resize": "shorter_side", "resize_size": 168, "crop": "centre",
        "interpolation": "bicubic_antialias", "fill": [0, 0, 0], "scale": 1 / 255,
        "float_values": "normalised", **IMAGENET,
    }  # fmt: skip
    assert made.architecture.options == {"num_classes": 3, "act": "own", "image_size": 160, "stem": "own"}
    assert made.labels == LABELS
    assert model.training, "the network that was given is left as it was"
    x = torch.randn(2, 3, 160, 160)
    torch.testing.assert_close(made.model()(x), model.eval()(x))


def test_a_network_of_torchvision_is_prepared_for_as_its_weights_say() -> None:
    model = torchvision_model("resnet18")
    made = checkpoint_from_model("torchvision/resnet18", model, LABELS)
    assert made.input == {
        "height": 224, "width": 224, "colour": "RGB", "resize": "shorter_side", "resize_size": 256, "crop": "centre",
        "interpolation": "bilinear_antialias", "fill": [0, 0, 0], "scale": 1 / 255,
        "float_values": "normalised", **IMAGENET,
    }  # fmt: skip
    x = torch.randn(2, 3, 224, 224)
    torch.testing.assert_close(made.model()(x), model.eval()(x))


def test_labels_are_saved_so_that_they_can_be_loaded_or_refused(tmp_path: Path) -> None:
    model = timm_model("test_efficientnet")
    made = checkpoint_from_model("timm/test_efficientnet", model, np.array(LABELS))  # as data frames give them
    checkpoint.save(made, tmp_path / "made.pt")
    assert checkpoint.load(tmp_path / "made.pt").labels == LABELS
    wrong: list[Any] = [["cat", "dog", 3], ["cat", "dog", "cat"], ["cat", "dog", "fish\n"], "abc"]
    wrong += [{*LABELS}, frozenset(LABELS), {"fish": 2, "dog": 1, "cat": 0}]  # in no order, or in another one
    for labels in wrong:
        with pytest.raises(TaijituError):
            checkpoint_from_model("timm/test_efficientnet", model, labels)


def test_weights_must_be_named_if_they_make_a_difference() -> None:
    model = nn.Identity()  # torchvision's modules have no such data, so any module serves
    sizes = {}
    for weights in ("IMAGENET1K_V1", "IMAGENET1K_V2"):
        spec = preferred_input("torchvision/efficientnet_b1", model, weights)
        sizes[weights] = (spec.height, spec.resize_size, spec.interpolation)
    assert sizes["IMAGENET1K_V1"] == (240, 256, "bicubic_antialias")
    assert sizes["IMAGENET1K_V2"] == (240, 255, "bilinear_antialias")
    with pytest.raises(TaijituError, match="IMAGENET1K_V1, IMAGENET1K_V2"):
        preferred_input("torchvision/efficientnet_b1", model)
    with pytest.raises(UnknownNameError, match=r"torchvision/resnet18.*'IMAGENET1K_V3'.*IMAGENET1K_V"):
        preferred_input("torchvision/resnet18", model, "IMAGENET1K_V3")


def test_fine_tuning_may_have_changed_preprocessing_and_activations() -> None:
    model = timm_model("test_efficientnet")
    replace_activations(model, "nish")
    changes = {"height": 96, "width": 96, "resize_size": 96, "mean": (0.4, 0.4, 0.4)}
    made = checkpoint_from_model("timm/test_efficientnet", model, LABELS, act="nish", **changes)
    assert made.architecture.options == {"num_classes": 3, "act": "nish", "image_size": 96, "stem": "own"}
    assert (made.input["resize_size"], made.input["mean"]) == (96, [0.4, 0.4, 0.4])
    with pytest.raises(UnknownNameError, match="'size'"):
        checkpoint_from_model("timm/test_efficientnet", model, LABELS, size=96)
    with pytest.raises(TaijituError, match="96x160"):
        checkpoint_from_model("timm/test_efficientnet", model, LABELS, height=96)


def test_a_network_that_a_checkpoint_cannot_rebuild_is_refused() -> None:
    silu = timm_model("test_efficientnet")
    replace_activations(silu, "nish")
    with pytest.raises(TaijituError, match="timm/test_efficientnet"):
        checkpoint_from_model("timm/test_efficientnet", silu, LABELS)
    pooled = timm_model("test_efficientnet", global_pool="max")
    with pytest.raises(TaijituError):
        checkpoint_from_model("timm/test_efficientnet", pooled, LABELS)
    with pytest.raises(TaijituError, match=r"2 .*3 "):
        checkpoint_from_model("timm/test_efficientnet", timm_model("test_efficientnet"), LABELS[:2])
    with pytest.raises(TaijituError, match="timm/test_resnet"):
        checkpoint_from_model("timm/test_resnet", timm_model("test_efficientnet"), LABELS)
    transforming = torchvision_model("googlenet", aux_logits=False, init_weights=False, transform_input=True)
    with pytest.raises(TaijituError, match="torchvision/googlenet"):
        checkpoint_from_model("torchvision/googlenet", transforming, LABELS)


class Around(nn.Module):
    """A network of the user around a network: what it does to the logits is not in a checkpoint."""

    def __init__(self, module: nn.Module, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.module, self.change = module, change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.module(x))


def test_a_network_inside_one_of_the_user_is_not_taken_in_its_place() -> None:
    model = timm_model("test_efficientnet")
    around = Around(model, lambda logits: logits.flip(1))
    around.pretrained_cfg = model.pretrained_cfg
    with pytest.raises(TaijituError, match="timm/test_efficientnet"):
        checkpoint_from_model("timm/test_efficientnet", around, LABELS)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    assert checkpoint_from_model("timm/test_efficientnet", averaged, LABELS).labels == LABELS


class WithExtraState(nn.Module):
    """A module whose state is not only tensors, as that of a quantised one."""

    def get_extra_state(self) -> Any:
        return {"scale": 1.0}


def test_what_is_no_classifier_is_one_line() -> None:
    name = "timm/test_efficientnet"
    for change in (lambda y: (y, y), lambda y: {"logits": y}, lambda y: y.sum(), lambda y: None):
        model = timm_model("test_efficientnet")
        model.forward = Around(timm_model("test_efficientnet"), change).forward
        with pytest.raises(UsageError, match="expected logits"):
            checkpoint_from_model(name, model, LABELS)
    packed = timm_model("test_efficientnet")
    packed.add_module("scale", WithExtraState())
    with pytest.raises(CheckpointError, match="_extra_state"):
        checkpoint_from_model(name, packed, LABELS)
    with pytest.raises(UsageError, match="OrderedDict"):
        checkpoint_from_model(name, timm_model("test_efficientnet").state_dict(), LABELS)  # type: ignore[arg-type]


def test_what_cannot_be_compared_is_refused_and_what_is_wrapped_is_taken() -> None:
    model = timm_model("test_efficientnet")
    wrapped = nn.DataParallel(torch.compile(model))  # not run: compiling takes a minute
    made = checkpoint_from_model("timm/test_efficientnet", wrapped, LABELS)
    assert made.architecture.name == "timm/test_efficientnet"
    with pytest.raises(TaijituError, match="3 x 160 x 160"):
        checkpoint_from_model("timm/test_efficientnet", timm_model("test_efficientnet", in_chans=1), LABELS)
    with torch.no_grad():
        model.conv_stem.weight[0] = torch.nan
    with pytest.raises(TaijituError, match="conv_stem"):
        checkpoint_from_model("timm/test_efficientnet", model, LABELS)


def test_preprocessing_that_a_checkpoint_cannot_express_is_refused() -> None:
    model = timm_model("test_efficientnet")
    model.pretrained_cfg |= {"crop_mode": "squash", "crop_pct": 1.0}
    assert preferred_input("timm/test_efficientnet", model).resize == "stretch"
    model.pretrained_cfg |= {"crop_mode": "border"}
    with pytest.raises(TaijituError, match=r"crop_mode border.*center or squash"):
        preferred_input("timm/test_efficientnet", model)
    model.pretrained_cfg |= {"crop_mode": "center", "interpolation": "lanczos"}
    with pytest.raises(TaijituError, match=r"lanczos.*bilinear.*bicubic"):
        preferred_input("timm/test_efficientnet", model)
    with pytest.raises(TaijituError, match=r"Identity.*pretrained_cfg.*timm/test_efficientnet"):
        preferred_input("timm/test_efficientnet", nn.Identity())
    with pytest.raises(TaijituError, match=r"yynet.*timm/NAME.*torchvision/NAME"):
        preferred_input("yynet", model)


def test_published_weights_have_preprocessing_and_labels_without_a_network() -> None:
    lite = published_input("timm/tf_efficientnet_lite0")
    assert (lite.height, lite.width, lite.resize_size, lite.interpolation) == (224, 224, 256, "bicubic_antialias")
    assert (lite.mean, lite.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert published_input("timm/resnet18.a1_in1k") == published_input("timm/resnet18")
    assert published_input("timm/resnet18.tv_in1k") == published_input("torchvision/resnet18.IMAGENET1K_V1")
    assert published_labels("timm/resnet18") == published_labels("torchvision/resnet18") == imagenet_labels()
    assert len(set(imagenet_labels())) == 1000
    assert [imagenet_labels()[i] for i in (134, 517, 282)] == ["crane bird", "crane", "tiger cat"]
    with pytest.raises(TaijituError, match="21843 labels"):
        published_labels("timm/vit_small_patch16_224.augreg_in21k")
    for name in ("timm/resnet18.a1_in2k", "timm/resnet81", "torchvision/resnet18.V1", "keras/resnet18"):
        with pytest.raises(UnknownNameError):
            published_input(name)


def test_torchvisions_second_normalisation_is_in_the_input_of_the_network_without_it() -> None:
    """torchvision builds GoogLeNet with transform_input=True for its published weights, create_model without."""
    torch.manual_seed(0)
    model: Any = pytest.importorskip("torchvision").models.googlenet(aux_logits=False, init_weights=False).eval()
    pixels = torch.rand(1, 3, 64, 64)

    def normalised(name: str) -> torch.Tensor:
        spec = published_input(name) if model.transform_input else network_input(name)
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (spec.mean, spec.std))
        return (pixels - mean) / std

    with torch.inference_mode():
        without = model(normalised("torchvision/googlenet"))
        model.transform_input = True
        torch.testing.assert_close(model(normalised("torchvision/googlenet")), without)

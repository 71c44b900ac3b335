"""From a network of timm or torchvision that you have, weights and all, to a checkpoint that exports like ours."""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import torch
from torch import nn

from taijitu_runtime.errors import TaijituError, UnknownNameError
from taijitu_training.checkpoint import Checkpoint, producer_versions
from taijitu_training.models import model_options

_INTERPOLATIONS = {"bilinear": "bilinear_antialias", "bicubic": "bicubic_antialias"}


def checkpoint_of(
    name: str, model: nn.Module, labels: Sequence[str], *, act: str = "own", weights: str = "", **changes: Any
) -> Checkpoint:
    """A checkpoint of `model`, for checkpoint.save and then export/to_onnx.py.

    `name` is what `create_model` calls the architecture ("timm/tinynet_c"), `labels` the K classes in the order of the
    logits, `act` the activation that replace_activations put into it, if any. Pictures are prepared as
    `preferred_input(name, model, weights)` says, with `changes` to its fields (`mean=(0.5, 0.5, 0.5)`) where
    fine-tuning made some. TaijituError where the network that `create_model` builds does not take these weights, or
    does not answer like `model` with them: then that was built with arguments which a checkpoint does not keep.
    """
    contract = preferred_input(name, model, weights)
    for field, value in changes.items():
        if field not in contract:
            raise UnknownNameError("field of the input", field, contract)
        contract[field] = list(value) if isinstance(value, tuple) else value
    if contract["height"] != contract["width"]:
        raise TaijituError(
            f"got an input of {contract['height']}x{contract['width']} pixels, expected a square; change both"
        )
    options = model_options(name, len(labels), act=act, image_size=contract["height"])
    checkpoint = Checkpoint(
        state_dict={f"network.{key}": value.detach().cpu().clone() for key, value in model.state_dict().items()},
        architecture={"name": name, "options": options},
        labels=list(labels),
        input=contract,
        training={"data": "unknown", "date": datetime.now(timezone.utc).date().isoformat()},
        producer=producer_versions(),
    )
    _check_same_answers(model, checkpoint)
    return checkpoint


def preferred_input(name: str, model: nn.Module, weights: str = "") -> dict[str, Any]:
    """How pictures have to be prepared for `model`, a network of timm or torchvision: the `input` of a checkpoint.

    timm's networks carry it (`pretrained_cfg`). torchvision's do not: `weights` says which published ones `model` has
    or was fine-tuned from ("IMAGENET1K_V1"); it may be left out where all of its architecture agree. TaijituError where
    it is not known, or is something that a checkpoint cannot express.
    """
    model_options(name)
    source, _, architecture = name.partition("/")
    if source == "timm":
        return _input_of_timm(name, model)
    if source == "torchvision":
        return _input_of_torchvision(architecture, weights)
    raise TaijituError(f"got {name}, expected timm/NAME or torchvision/NAME; ours come with checkpoints")


def _input_of_timm(name: str, model: nn.Module) -> dict[str, Any]:
    if not hasattr(model, "pretrained_cfg"):
        raise TaijituError(
            f"got a {type(model).__name__} without pretrained_cfg as {name}, expected what timm.create_model returns"
        )
    timm_data: Any = importlib.import_module("timm.data")
    config = timm_data.resolve_model_data_config(model)
    _, height, width = config["input_size"]
    mode, share = config["crop_mode"], config["crop_pct"]
    if mode not in ("center", "squash") or (mode == "squash" and share != 1.0):
        raise TaijituError(
            f"{name} wants crop_mode {mode} and crop_pct {share}, expected center, or squash with 1.0; "
            "no checkpoint can express this"
        )
    resize = "stretch" if mode == "squash" else "shorter_side"
    resize_size = math.floor(min(height, width) / share)
    return _contract((height, width), resize, resize_size, config["interpolation"], config["mean"], config["std"])


def _input_of_torchvision(architecture: str, weights: str) -> dict[str, Any]:
    from torchvision import models

    published = models.get_model_weights(architecture).__members__
    if weights and weights not in published:
        raise UnknownNameError(f"weights of torchvision/{architecture}", weights, published)
    contracts = []
    for transforms in (published[key].transforms() for key in ([weights] if weights else published)):
        (size,), (resize_size,) = transforms.crop_size, transforms.resize_size
        filter_name = transforms.interpolation.value
        contract = _contract((size, size), "shorter_side", resize_size, filter_name, transforms.mean, transforms.std)
        contracts.append(contract)
    if any(contract != contracts[0] for contract in contracts):
        raise TaijituError(
            f"got no weights for torchvision/{architecture}, whose published ones differ in how pictures are prepared; "
            f"give weights=, one of {', '.join(published)}"
        )
    return contracts[0]


def _contract(
    size: tuple[int, int],
    resize: str,
    resize_size: int,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> dict[str, Any]:
    if interpolation not in _INTERPOLATIONS:
        raise TaijituError(f"got {interpolation} interpolation, expected {' or '.join(_INTERPOLATIONS)}")
    return {
        "height": size[0],
        "width": size[1],
        "colour": "RGB",
        "resize": resize,
        "resize_size": resize_size,
        "crop": "centre",
        "interpolation": _INTERPOLATIONS[interpolation],
        "mean": list(mean),
        "std": list(std),
    }


def _check_same_answers(model: nn.Module, checkpoint: Checkpoint) -> None:
    height, width = checkpoint.input["height"], checkpoint.input["width"]
    pictures = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = copy.deepcopy(model).cpu().float().eval()(pictures)
    if (logits := expected.shape[1]) != (labels := len(checkpoint.labels)):
        raise TaijituError(
            f"got {labels} labels for a network of {logits} logits, expected one for each, in their order"
        )
    with torch.inference_mode():
        got = checkpoint.model()(pictures)
    # Rounding is a few 1e-7 of the largest logit, here as in networks whose weights are random.
    if (got - expected).abs().max() > 1e-5 * expected.abs().max():
        raise TaijituError(
            f"got a {type(model).__name__} that does not answer like {checkpoint.architecture['name']} with its "
            "weights, expected one built without other arguments; give act=, or build it so"
        )

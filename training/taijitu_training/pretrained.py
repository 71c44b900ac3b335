"""From a network of timm or torchvision that you have, weights and all, to a checkpoint that exports like ours."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import torch
from torch import nn

from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import TaijituError, UnknownNameError
from taijitu_training.checkpoint import Checkpoint, producer_versions
from taijitu_training.models import model_options
from taijitu_training.published import input_from_timm_config, torchvision_input


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
    spec = _changed(preferred_input(name, model, weights), changes)
    options = model_options(name, len(labels), act=act, image_size=spec.height)
    checkpoint = Checkpoint(
        state_dict={f"network.{key}": value.detach().cpu().clone() for key, value in model.state_dict().items()},
        architecture={"name": name, "options": options},
        labels=list(labels),
        input=plain_input(spec),
        training={"data": "unknown", "date": datetime.now(timezone.utc).date().isoformat()},
        producer=producer_versions(),
    )
    _check_same_answers(model, checkpoint)
    return checkpoint


def _changed(spec: InputSpec, changes: Mapping[str, Any]) -> InputSpec:
    known = [field.name for field in dataclasses.fields(InputSpec)]
    for field in changes:
        if field not in known:
            raise UnknownNameError("field of the input", field, known)
    spec = dataclasses.replace(spec, **changes)
    if spec.height != spec.width:
        raise TaijituError(f"got an input of {spec.height}x{spec.width} pixels, expected a square; change both")
    return spec


def plain_input(spec: InputSpec) -> dict[str, Any]:
    """The `input` of a checkpoint: `spec` in plain types."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(spec).items()}


def preferred_input(name: str, model: nn.Module, weights: str = "") -> InputSpec:
    """How pictures have to be prepared for `model`, a network of timm or torchvision.

    timm's networks carry it (`pretrained_cfg`). torchvision's do not: `weights` says which published ones `model` has
    or was fine-tuned from ("IMAGENET1K_V1"); it may be left out where all of its architecture agree. TaijituError where
    it is not known, or is something that a model card cannot express.
    """
    source, _, architecture = name.partition("/")
    if source == "torchvision":
        return torchvision_input(architecture, weights)
    model_options(name)
    if source != "timm":
        raise TaijituError(f"got {name}, expected timm/NAME or torchvision/NAME; ours come with checkpoints")
    config: Any = getattr(model, "pretrained_cfg", None)
    if config is None:
        raise TaijituError(
            f"got a {type(model).__name__} without pretrained_cfg as {name}, expected what timm.create_model returns"
        )
    return input_from_timm_config(name, config)


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
    if not (got - expected).abs().max() <= 1e-5 * expected.abs().max():
        raise TaijituError(
            f"got a {type(model).__name__} that does not answer like {checkpoint.architecture['name']} with its "
            "weights, expected one built without other arguments; give act=, or build it so"
        )

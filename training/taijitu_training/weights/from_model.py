"""Make a checkpoint, which can be exported like a trained one, from a network of timm or torchvision that you have."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from taijitu_runtime.card import Architecture, InputSpec
from taijitu_runtime.errors import UsageError, first_line
from taijitu_training.checkpoint import Checkpoint, plain_input, plain_labels, producer_versions, today
from taijitu_training.models import model_options
from taijitu_training.tensors.read import check_tensors
from taijitu_training.weights.changed_input import changed_input
from taijitu_training.weights.published import input_from_timm_config, torchvision_input


def checkpoint_from_model(
    name: str, model: nn.Module, labels: Sequence[str], *, act: str = "own", weights: str = "", **changes: Any
) -> Checkpoint:
    """Make a checkpoint of `model`, for checkpoint.save and then export/to_onnx.py.

    `name` is the architecture's name for `create_model` ("timm/tinynet_c"), `labels` the K classes in the order of the
    logits, `act` the activation that replace_activations put into it, if any. Pictures are prepared as
    `preferred_input(name, model, weights)` says, with `changes` to its fields (`mean=(0.5, 0.5, 0.5)`) where
    fine-tuning made some. ArtefactError for a label that is not possible; CheckpointError if the network that
    `create_model` builds does not take these weights; UsageError if it does not answer like `model` with them, which
    was then built with arguments that a checkpoint does not keep.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"got a {type(model).__name__}, expected a network; for a file: checkpoint_from_weights")
    model = _unwrapped(model)
    spec = changed_input(preferred_input(name, model, weights), changes)
    check_tensors(f"the {type(model).__name__}", model.state_dict())
    options = model_options(name, len(labels), act=act, image_size=spec.height)
    checkpoint = Checkpoint(
        state_dict={f"network.{key}": value.detach().cpu().clone() for key, value in model.state_dict().items()},
        architecture=Architecture(name, options),
        labels=plain_labels(labels),
        input=plain_input(spec),
        training={"data": "unknown", "date": today()},
        producer=producer_versions(),
    )
    checkpoint.card()  # refuses what no artefact can have
    _check_same_answers(model, checkpoint)
    return checkpoint


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside the wrappers of torch.compile, DataParallel and averages, which do not change answers.

    A class of the user may change them, and stays.
    """
    for wrapper in ("_orig_mod", "module", "_orig_mod"):
        inner = getattr(model, wrapper, None)
        theirs = type(model).__module__.startswith(("torch.", "timm."))
        model = inner if theirs and isinstance(inner, nn.Module) else model
    return model


def preferred_input(name: str, model: nn.Module, weights: str = "") -> InputSpec:
    """Return how pictures must be prepared for `model`, a network of timm or torchvision.

    timm's networks carry it (`pretrained_cfg`). torchvision's do not: `weights` names the published ones that `model`
    has or was fine-tuned from ("IMAGENET1K_V1"); it may be omitted if all of its architecture agree. UsageError if
    it is not known, or cannot be expressed by a model card.
    """
    source, _, architecture = name.partition("/")
    if source == "torchvision":
        return torchvision_input(architecture, weights)
    model_options(name)
    if source != "timm":
        raise UsageError(f"got {name}, expected timm/NAME or torchvision/NAME; taijitu's own come with checkpoints")
    config: Any = getattr(model, "pretrained_cfg", None)
    if config is None:
        raise UsageError(
            f"got a {type(model).__name__} without pretrained_cfg as {name}, expected what timm.create_model returns"
        )
    return input_from_timm_config(name, config)


def _check_same_answers(model: nn.Module, checkpoint: Checkpoint) -> None:
    height, width = checkpoint.input["height"], checkpoint.input["width"]
    pictures = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            expected = copy.deepcopy(model).cpu().float().eval()(pictures)
    except Exception as error:  # other libraries raise errors of nearly any class
        raise UsageError(
            f"got a {type(model).__name__} that cannot answer pictures of 3 x {height} x {width} "
            f"({first_line(error)}), expected {checkpoint.architecture.name}; give another network or size"
        ) from None
    if not isinstance(expected, Tensor) or expected.ndim != 2:
        got = tuple(expected.shape) if isinstance(expected, Tensor) else type(expected).__name__
        raise UsageError(
            f"got a {type(model).__name__} that answers 2 pictures with {got}, expected logits, a tensor of "
            f"(2, {len(checkpoint.labels)}); give the classifier without what is around it"
        )
    if (logits := expected.shape[1]) != (labels := len(checkpoint.labels)):
        raise UsageError(f"got {labels} labels for a network of {logits} logits, expected one for each, in their order")
    with torch.inference_mode():
        got = checkpoint.model()(pictures)
    # Rounding is a few 1e-7 of the largest logit, also for networks with random weights.
    if not (got - expected).abs().max() <= 1e-5 * expected.abs().max():
        raise UsageError(
            f"got a {type(model).__name__} that does not answer like {checkpoint.architecture.name} with its "
            "weights, expected one built without other arguments; give act=, or build it so"
        )

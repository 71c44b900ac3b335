"""Read what timm and torchvision publish about their weights: how pictures are prepared, and the labels."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import UnknownNameError, UsageError, require
from taijitu_training.models import model_options

_INTERPOLATIONS = {"bilinear": "bilinear_antialias", "bicubic": "bicubic_antialias"}


def published_input(name: str) -> InputSpec:
    """Return how pictures must be prepared for published weights; no network is built and nothing is downloaded.

    Args:
        name: "timm/resnet18.a1_in1k", "timm/resnet18" for its default weights, "torchvision/resnet18.IMAGENET1K_V1", or
            "torchvision/resnet18" if all weights of that architecture agree.

    Raises:
        UnknownNameError: There is no such source, network or set of weights; the text has close ones.
        UsageError: The preprocessing cannot be expressed by a model card.
    """
    source, _, rest = name.partition("/")
    architecture, _, weights = rest.partition(".")
    if source == "timm":
        return input_from_timm_config(name, timm_config(rest).to_dict())
    if source == "torchvision":
        return torchvision_input(architecture, weights)
    raise UnknownNameError("source of networks", source, ("timm", "torchvision"))


def timm_config(name: str) -> Any:
    """Return timm's PretrainedCfg of "resnet18.a1_in1k", or of "resnet18" for its default weights."""
    library = require("timm", "taijitu[train]")
    architecture, _, tag = name.partition(".")
    if architecture not in (known := library.list_models()):
        raise UnknownNameError("timm model", architecture, known)
    tags = [found.partition(".")[2] for found in library.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UnknownNameError(f"weights of timm/{architecture}", tag, tags)
    return library.get_pretrained_cfg(name)


def input_from_timm_config(name: str, config: Mapping[str, Any]) -> InputSpec:
    """Convert timm's `pretrained_cfg`, of a network or of Hugging Face's config.json, to the `input` of a model card.

    Args:
        name: The network's name for errors.
        config: The dictionary; timm's defaults are used for missing keys.
    """
    resolved = importlib.import_module("timm.data").resolve_data_config(pretrained_cfg=dict(config))
    channels, height, width = resolved["input_size"]
    mode, share = resolved["crop_mode"], resolved["crop_pct"]
    if channels != 3:
        raise UsageError(f"{name} takes pictures of {channels} channels, expected 3 (RGB); use another network")
    if mode not in ("center", "squash"):
        raise UsageError(f"{name} has crop_mode {mode}, expected center or squash; no model card can express this")
    resize = "stretch" if mode == "squash" else "shorter_side"
    resize_size = math.floor(min(height, width) / share)
    return _spec((height, width), resize, resize_size, resolved["interpolation"], resolved["mean"], resolved["std"])


def published_labels(name: str) -> tuple[str, ...]:
    """Return the labels of published weights, each once, in the order of the logits; `name` as in `published_input`.

    UsageError if they are not published: timm numbers some without names, except ImageNet's.
    """
    source, _, rest = name.partition("/")
    if source == "timm":
        config = timm_config(rest)
        if config.label_names is None and config.num_classes != len(imagenet_labels()):
            raise UsageError(
                f"got {name}, whose {config.num_classes} labels timm does not name, expected a list; give labels"
            )
        return tuple(config.label_names or imagenet_labels())
    if source == "torchvision":
        return imagenet_labels()  # for every network: torchvision publishes no others
    raise UnknownNameError("source of networks", source, ("timm", "torchvision"))


def imagenet_labels() -> tuple[str, ...]:
    """Return ImageNet's 1,000 labels in their usual order, each once: 134 is "crane bird", 517 is "crane"."""
    models = require("torchvision.models", "taijitu[train]")
    return tuple(models.get_model_weights("resnet18").DEFAULT.meta["categories"])


def torchvision_weights(architecture: str, tag: str) -> Any:
    """Return torchvision's entry of the weights `tag` ("IMAGENET1K_V2"), or of its default ones for "".

    It has `name`, `url`, `meta` and `transforms()`.
    """
    published = _torchvision_entries(architecture)
    if tag and tag not in published:
        raise UnknownNameError(f"weights of torchvision/{architecture}", tag, published)
    return published[tag or "DEFAULT"]


def torchvision_tag(architecture: str, sha256: str) -> str:
    """Return the name of torchvision's weights whose file has this hash ("IMAGENET1K_V2"); "" for another file."""
    for entry in _torchvision_entries(architecture).values():
        if sha256.startswith(digest_of(entry)):
            return str(entry.name)
    return ""


def digest_of(entry: Any) -> str:
    """Return the beginning of the sha256 of a file of torchvision's weights, in hexadecimal: its name ends with it."""
    return PurePosixPath(urlsplit(entry.url).path).stem.rpartition("-")[2]


def torchvision_input(architecture: str, weights: str) -> InputSpec:
    """Return how pictures must be prepared for `weights` of torchvision; "" if all of `architecture` agree."""
    published = _torchvision_entries(architecture)
    entries = [torchvision_weights(architecture, weights)] if weights else list(published.values())
    specs = []
    for transforms in (entry.transforms() for entry in entries):
        (size,), (resize_size,) = transforms.crop_size, transforms.resize_size
        filter_name = transforms.interpolation.value
        specs.append(_spec((size, size), "shorter_side", resize_size, filter_name, transforms.mean, transforms.std))
    if any(spec != specs[0] for spec in specs):
        raise UsageError(
            f"got no weights for torchvision/{architecture}, whose published ones differ in how pictures are prepared; "
            f"give one of {', '.join(dict.fromkeys(entry.name for entry in entries))}"
        )
    return specs[0]


def network_input(name: str) -> InputSpec:
    """Return `published_input(name)` for the network that `create_model` builds.

    Two of torchvision's networks normalise their normalised input once more when they are built with published weights,
    which is the same as a mean and a standard deviation of 0.5; `create_model` builds them without that.
    """
    spec = published_input(name)
    if name.partition(".")[0] in ("torchvision/googlenet", "torchvision/inception_v3"):
        return dataclasses.replace(spec, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return spec


def _torchvision_entries(architecture: str) -> Mapping[str, Any]:
    from torchvision import models

    model_options(f"torchvision/{architecture}")
    entries: Mapping[str, Any] = models.get_model_weights(architecture).__members__
    return entries


def _spec(
    size: tuple[int, int],
    resize: str,
    resize_size: int,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> InputSpec:
    if interpolation not in _INTERPOLATIONS:
        raise UsageError(f"got {interpolation} interpolation, expected {' or '.join(_INTERPOLATIONS)}")
    return InputSpec(
        height=size[0],
        width=size[1],
        resize=resize,
        resize_size=resize_size,
        interpolation=_INTERPOLATIONS[interpolation],
        mean=_triple(mean),
        std=_triple(std),
    )


def _triple(numbers: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, numbers)
    return red, green, blue

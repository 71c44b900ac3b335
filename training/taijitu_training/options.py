"""Parse options of a network as users write them, such as act=nish."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from taijitu_runtime.errors import UnknownNameError
from taijitu_training.models import create_model, model_options
from taijitu_training.recipes.recipe import parse_like


def network_options(
    model: str, options: Mapping[str, Any], preset: str = "paper", saved: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Return every option of `model`, those given in `options` parsed as their defaults' types.

    `saved` are those of a checkpoint's network, which replace the preset's.
    UnknownNameError or UsageError for an unknown option or an impossible value. The number of classes cannot be
    given, since it follows from the labels.
    """
    defaults = {**model_options(model, preset=preset), **saved}
    known = defaults.keys() - {"num_classes"}
    for name in options:
        if name not in known:
            raise UnknownNameError(f"option of {model}", name, known)
    asked = {name: parse_like(defaults[name], name, str(value)) for name, value in options.items()}
    if asked:
        create_model(model, **{**defaults, **asked})  # finds a value that is not possible
    return {**defaults, **asked}

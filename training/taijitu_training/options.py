"""Options of a network as users write them, such as act=nish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taijitu_runtime.errors import UnknownNameError
from taijitu_training.models import create_model, model_options
from taijitu_training.recipes.recipe import parse_like


def network_options(model: str, options: Mapping[str, Any], preset: str = "paper") -> dict[str, Any]:
    """Every option of `model`, those given in `options` parsed as their defaults' types.

    UnknownNameError or TaijituError for an option or a value that cannot be. The number of classes is not among those
    that may be given, as the labels say it.
    """
    defaults = model_options(model, preset=preset)
    known = defaults.keys() - {"num_classes"}
    for name in options:
        if name not in known:
            raise UnknownNameError(f"option of {model}", name, known)
    asked = {name: parse_like(defaults[name], name, str(value)) for name, value in options.items()}
    if asked:
        create_model(model, **{**defaults, **asked})  # a value that cannot be is found here
    return {**defaults, **asked}

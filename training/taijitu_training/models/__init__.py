"""Network definitions. One import line per architecture file: that line is its registration."""

from taijitu_training.models import external, mlp, vgnet, yynet  # noqa: F401  # registers their entry points
from taijitu_training.models.activations import (
    create_activation,
    irreplaceable_activations,
    list_activations,
    nish,
    replace_activations,
)
from taijitu_training.models.registry import create_model, list_models, model_options, register_model

__all__ = [
    "create_activation",
    "create_model",
    "irreplaceable_activations",
    "list_activations",
    "list_models",
    "model_options",
    "nish",
    "register_model",
    "replace_activations",
]

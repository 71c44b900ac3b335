"""The network, the recipe and the weights to start from, as they are asked for and as they are chosen."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from taijitu_runtime.card import Architecture
from taijitu_runtime.console import say
from taijitu_runtime.errors import UsageError
from taijitu_training.models import create_model, model_options
from taijitu_training.options import network_options
from taijitu_training.recipes.named import get_recipe, usual_recipe
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.weights.fine_tuning import from_file, from_published
from taijitu_training.weights.starting_point import StartingPoint


@dataclass(frozen=True)
class ChosenNetwork:
    """What a run trains: the network called `name` with all its `options`, by `recipe`."""

    name: str
    options: Mapping[str, Any]
    recipe: Recipe

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of its input, in pixels."""
        return create_model(self.name, **self.options).input_size

    def architecture(self, num_classes: int) -> Architecture:
        """Return name and options for so many labels."""
        return Architecture(self.name, {**self.options, "num_classes": num_classes})


@dataclass(frozen=True)
class NetworkRequest:
    """The arguments of `train` about the network, the recipe and the weights to start from."""

    model: str | None
    recipe: str | None
    changes: Mapping[str, Any]
    preset: str | None
    options: Mapping[str, Any]
    init: str | os.PathLike[str] | None = None
    pretrained: str | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        if self.init is not None and self.pretrained is not None:
            raise UsageError("got --init with --pretrained, expected one of them; remove one")
        if self.offline and self.pretrained is None:
            raise UsageError("got --offline without --pretrained, which alone downloads; remove it")

    @property
    def from_weights(self) -> bool:
        """Whether the run starts from weights that are not random."""
        return self.init is not None or self.pretrained is not None

    def chosen(self, saved: Architecture | None, saved_recipe: str = "") -> ChosenNetwork:
        """Return what is asked for, completed by the checkpoint to start or continue from, if there is one.

        `saved`: its network. `saved_recipe`: the name of its recipe, if the run continues.
        UnknownNameError or UsageError for a name or value that does not exist.
        """
        name = self._network_name(saved)
        own_options = saved.options if saved and saved.name == name and self.preset is None else {}
        self._refuse_options(name)
        usual = saved_recipe or usual_recipe(from_weights=self.from_weights)
        recipe = usual if self.recipe is None else self.recipe  # an empty name is refused
        options = network_options(name, self.options, "paper" if self.preset is None else self.preset, own_options)
        return ChosenNetwork(name, options, get_recipe(recipe, self.changes))

    def starting_point(self, network: ChosenNetwork) -> StartingPoint | None:
        """Read, or download, the weights for the chosen `network`; None for random ones."""
        if self.init is not None:
            return from_file(Path(self.init), network.name, network.options)
        if self.pretrained is not None:
            report = partial(say, stream=sys.stdout)
            return from_published(network.name, self.pretrained, network.options, self.offline, report)
        return None

    def prepared_as(self, start: StartingPoint, network: ChosenNetwork) -> ChosenNetwork:
        """Return `network` with pictures prepared as for the weights of `start`, except where the request says how."""
        options = network.options
        if "image_size" in options and "image_size" not in self.options:
            options = {**options, "image_size": start.spec.height}
        recipe = start.applied_to(network.recipe, self.changes.keys())
        return dataclasses.replace(network, options=options, recipe=recipe)

    def _network_name(self, saved: Architecture | None) -> str:
        name = (saved.name if saved else None) if self.model is None else self.model
        if name is None and self.init is not None:
            raise UsageError(
                f"got no --model for the weights in {self.init}, expected one, such as timm/resnet18; add it"
            )
        if name is None:
            raise UsageError("got no --model, expected a network, such as yynet_small_16; add it, or --init CKPT")
        return name

    def _refuse_options(self, model: str) -> None:
        """Raise UsageError if a field to change is an option of the network."""
        fields, options = Recipe.__dataclass_fields__, model_options(model)
        for name in self.changes:
            if name in options and name not in fields:
                raise UsageError(f"got --set {name}, expected --option {name}=VALUE: it belongs to the network")
            if name == "image_size":
                raise UsageError(
                    f"got --set {name} for {model}, expected its own size; only timm's and torchvision's change"
                )

"""Weights that a run starts from: as they came, and fitted to the labels of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from taijitu_runtime.card import Architecture, InputSpec
from taijitu_runtime.datasets import TrainedOn
from taijitu_training.data.pictures import cropped_side
from taijitu_training.errors import CheckpointError
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.weights.fitting import classification_layer


@dataclass(frozen=True)
class InitialWeights:
    """The weights for a network: `weights` by their names in it, and the classification layer's rows for known labels.

    `head`: that layer's tensors as they came. `rows`: (row in the network, row in `head`). `kept`, `new`: the labels
    whose rows are kept, and the others. `origin`: where the weights are from, for the card.
    """

    weights: dict[str, Tensor]
    head: dict[str, Tensor]
    rows: list[tuple[int, int]]
    kept: list[str]
    new: list[str]
    origin: dict[str, Any]

    def __str__(self) -> str:
        if not self.kept:
            return f"{self.origin['file']}; the classification layer is new"
        new = f"; new labels: {', '.join(self.new)}" if self.new else ""
        return f"{self.origin['file']}; labels that it has: {', '.join(self.kept)}{new}"

    @torch.no_grad()
    def load_into(self, model: nn.Module) -> None:
        """Put the weights into `model`; its other weights do not change.

        CheckpointError if one has another shape, as position embeddings of another image size.
        """
        own = model.state_dict()
        for name, value in self.weights.items():
            if name in own and own[name].shape != value.shape:
                raise CheckpointError(
                    f"{self.origin['file']}: got {name} {tuple(value.shape)}, expected {tuple(own[name].shape)}; "
                    "remove --option image_size"
                )
        model.load_state_dict(self.weights, strict=False)
        ours, theirs = ([pair[side] for pair in self.rows] for side in (0, 1))
        for name, value in self.head.items():
            own[name][ours] = value[theirs].to(own[name].dtype)


@dataclass(frozen=True)
class StartingPoint:
    """Weights as they came: `tensors` by the names in the network of `architecture`, for `labels` of their own.

    `labels` is empty if they are not known. `spec`: how their pictures were prepared. `trained_on`: a sample of their
    training pictures, if the checkpoint has one.
    """

    tensors: dict[str, Tensor]
    architecture: Architecture
    labels: tuple[str, ...]
    spec: InputSpec
    origin: dict[str, Any]
    trained_on: TrainedOn | None = None

    def initial(self, labels: Sequence[str]) -> InitialWeights:
        """Return the weights for a network with `labels`."""
        head_names = classification_layer(self.architecture)
        body = {name: value for name, value in self.tensors.items() if name not in head_names}
        head = {name: self.tensors[name] for name in head_names if name in self.tensors}
        known = {label: row for row, label in enumerate(self.labels)} if head.keys() == set(head_names) else {}
        return InitialWeights(
            body,
            head,
            [(row, known[label]) for row, label in enumerate(labels) if label in known],
            [label for label in labels if label in known],
            [label for label in labels if label not in known],
            self.origin,
        )

    def applied_to(self, recipe: Recipe, given: Collection[str]) -> Recipe:
        """Return `recipe` with pictures prepared as for these weights, for fields that were not `given`.

        CheckpointError if a different normalisation was given.
        """
        spec = self.spec
        fields: dict[str, Any] = {
            "mean": spec.mean,
            "std": spec.std,
            "resize": spec.resize,
            "interpolation": spec.interpolation,
            "evaluation_crop": cropped_side((spec.height, spec.width), spec.resize) / spec.resize_size,
        }
        for name in ("mean", "std"):
            if name in given and getattr(recipe, name) != fields[name]:
                theirs = ",".join(f"{number:g}" for number in fields[name])
                raise CheckpointError(
                    f"{self.origin['file']}: got --set {name} for weights trained with {name}={theirs}, expected "
                    "the same; remove it"
                )
        return dataclasses.replace(recipe, **{name: value for name, value in fields.items() if name not in given})

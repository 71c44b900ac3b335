"""Fine-tuning: the weights that a run starts from, where they are a checkpoint's and not random."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.errors import CheckpointError
from taijitu_training.fitting import layer_of_labels
from taijitu_training.models import model_options
from taijitu_training.recipe import Recipe

FREE = {"act", "dropout", "image_size", "init"}  # options that may change: no weight means another thing by them


@dataclass(frozen=True)
class Initial:
    """`weights` by their names in the network; `fresh` are the others. `origin`: the checkpoint's name and sha256."""

    weights: dict[str, Tensor]
    fresh: list[str]
    origin: dict[str, str]


def initial_weights(path: Path, architecture: dict[str, Any], labels: list[str], recipe: Recipe) -> Initial:
    """What a network of `architecture` for `labels` takes from a checkpoint: all, or all but the layer of the labels.

    That layer is taken where the checkpoint's labels are the same, in the same order. CheckpointError where its network
    is another one, or saw pictures that were normalised otherwise.
    """
    saved = checkpoint.load(path)
    _check_network(path, saved, architecture)
    _check_normalisation(path, saved, recipe)
    fresh = layer_of_labels(architecture) if saved.labels != labels else []
    weights = {name: value for name, value in saved.model().state_dict().items() if name not in fresh}
    return Initial(weights, fresh, {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})


def _check_network(path: Path, saved: Checkpoint, architecture: dict[str, Any]) -> None:
    if saved.architecture["name"] != architecture["name"]:
        got = saved.architecture["name"]
        raise CheckpointError(f"{path}: got weights of {got}, expected {architecture['name']}; give --model {got}")
    # An option that was saved before it existed has its default.
    theirs = {**model_options(architecture["name"]), **saved.architecture["options"]}
    ours = architecture["options"]
    differing = {name: value for name, value in theirs.items() if value != ours.get(name) and name != "num_classes"}
    if differing.keys() - FREE:
        flags = " ".join(f"--option '{name}={value}'" for name, value in differing.items())
        raise CheckpointError(f"{path}: got weights of a network with other options, expected the same; add {flags}")


def _check_normalisation(path: Path, saved: Checkpoint, recipe: Recipe) -> None:
    contract = {"mean": recipe.mean, "std": recipe.std}
    differing = {name: saved.input[name] for name, ours in contract.items() if saved.input[name] != list(ours)}
    if differing:
        flags = " ".join(f"--set {name}={','.join(map(str, numbers))}" for name, numbers in differing.items())
        raise CheckpointError(
            f"{path}: got weights for pictures normalised otherwise than by the recipe, expected the same; add {flags}"
        )

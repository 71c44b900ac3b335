"""Make a checkpoint, which can be exported like a trained one, from a file of weights that you have."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taijitu_runtime.card import Architecture, InputSpec
from taijitu_runtime.console import shown
from taijitu_runtime.errors import UsageError
from taijitu_training.checkpoint import (
    Checkpoint,
    is_checkpoint,
    plain_input,
    plain_labels,
    producer_versions,
    today,
)
from taijitu_training.errors import CheckpointError
from taijitu_training.models import create_model, model_options
from taijitu_training.options import network_options
from taijitu_training.tensors.read import read_weights
from taijitu_training.weights.changed_input import changed_input
from taijitu_training.weights.fitting import match_weights, require_whole
from taijitu_training.weights.published import network_input


def checkpoint_from_weights(
    weights: str | os.PathLike[str],
    model: str,
    labels: Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    by_order: bool = False,
    key: str | None = None,
    prefix: str | None = None,
    leave_out: Sequence[str] = (),
) -> Checkpoint:
    """Make a checkpoint from a file of weights: .pth, .safetensors, pytorch_model.bin. No code in it is run.

    `training["weights"]` of the result says which of a container's weights were used, and how their names were matched.

    Args:
        weights: The file. Containers (EMA, timm, Lightning, a module saved whole) are opened, prefixes removed.
        model: The network: one of `list_models`, "timm/NAME", "torchvision/NAME"; "timm/NAME.TAG" if pictures are
            prepared differently from timm's default weights.
        labels: The K labels, in the order of the logits.
        options: Options of the network, such as {"act": "nish"}.
        changes: Fields of `InputSpec`, if pictures are prepared differently from timm or torchvision. Taijitu's
            networks need "mean" and "std".
        by_order: Match tensors by their order, if as many, of the same shapes and kinds, have other names.
        key: The entry of a container to use, if it has several.
        prefix: The prefix of the names, if the file has several networks.
        leave_out: Patterns of names in the file that the network need not have ("AuxLogits.*").

    Raises:
        CheckpointError: The file cannot be read, or its weights are not those of this network; one line.
        ArtefactError: A label or a number of the input is not possible.
        UnknownNameError: A model, option or field that does not exist.
        UsageError: Labels or patterns are a single text, there is one label, or the network needs "mean" and "std".
    """
    if isinstance(leave_out, str):  # each letter would be a pattern, and a * leaves out everything
        raise UsageError(f"got the text {leave_out!r} as leave_out, expected a list of patterns; give [{leave_out!r}]")
    if len(labels) < 2:
        raise UsageError(f"got the labels {labels!r}, expected two or more: softmax makes 100 % of every single logit")
    file = read_weights(Path(weights), key)
    if is_checkpoint(weights):  # other options or another preprocessing would change its answers
        raise CheckpointError(
            f"{weights}: got a checkpoint, which has its network, labels and preprocessing, expected weights without "
            "them; use it as it is: taijitu onnx"
        )
    name = model.partition(".")[0]
    spec = _input_of(model, changes or {})
    sized = {"image_size": spec.height} if "image_size" in model_options(name) else {}
    asked = network_options(name, {**sized, **(options or {})})
    architecture = Architecture(name, {**asked, "num_classes": len(labels)})
    match = match_weights(file, architecture, by_order=by_order, prefix=prefix)
    require_whole(file, match, architecture, leave_out)
    left_out = [*match.outside, *match.unknown]
    origin = {"file": shown(file.path.name), "part": file.part, "matched": match.how, "left_out": left_out}
    made = Checkpoint(
        state_dict={name: value.detach().clone() for name, value in match.tensors.items()},
        architecture=architecture,
        labels=plain_labels(labels),
        input=plain_input(spec),
        training={"data": "unknown", "weights": origin, "date": today()},
        producer=producer_versions(),
        source_sha256=file.sha256,
    )
    made.card()  # refuses what no artefact can have
    return made


def _input_of(model: str, changes: Mapping[str, Any]) -> InputSpec:
    """Return how pictures are prepared for `model`, with `changes`."""
    if "/" in model:
        return changed_input(network_input(model), changes)
    height, width = create_model(model).input_size
    if missing := {"mean", "std"} - changes.keys():
        raise UsageError(f"got no {' and no '.join(sorted(missing))} for {model}, expected its training's; give them")
    plain = InputSpec(
        height=height,
        width=width,
        resize="shorter_side",
        resize_size=max(height, width),
        mean=(0.5, 0.5, 0.5),
        std=(1.0, 1.0, 1.0),
    )
    return changed_input(plain, changes)

"""Fit the weights of a file to a named network, or say in one line why they do not fit."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from taijitu_runtime.card import Architecture
from taijitu_runtime.errors import listed
from taijitu_training.errors import CheckpointError
from taijitu_training.models import create_model
from taijitu_training.tensors.read import WeightsFile
from taijitu_training.weights.matching import Match, match_by_name, match_by_order


def match_weights(
    file: WeightsFile, architecture: Architecture, *, by_order: bool, prefix: str | None, resized: bool = False
) -> Match:
    """Match the tensors of the file to the network's: by name, by timm's renaming, or by order if `by_order`.

    `prefix`: of the names in the file; None to find it. `resized`: also if position embeddings are for another image
    size, which changes the answers. CheckpointError where they cannot be matched at all.

    timm renames tensors that the authors of a network published ("backbone.stem.0" to "stem.conv1"), and resizes
    position embeddings; if that gives the whole network from a file with other names, it is used.
    """
    network = create_model(architecture.name, **architecture.options)
    try:
        if by_order:
            if not file.has_order:
                raise CheckpointError("got .safetensors, which keep no order, expected a file of torch.save")
            return match_by_order(file.tensors, network)
        match = match_by_name(file.tensors, network, prefix)
        other_size = any("pos" in name.rpartition(".")[2] for name in match.misfits)
        if (match.missing or match.misfits or match.unknown) and (resized or not other_size):
            renamed = _renamed_by_timm(file.tensors, architecture)
            if renamed is not None:
                return Match(renamed, f"{len(file.tensors)} tensors by timm's renaming of published tensors")
        return match
    except CheckpointError as error:
        raise CheckpointError(f"{file.path}: {error}") from None


def _renamed_by_timm(tensors: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor] | None:
    """Return the network's tensors, if timm can make all of them from `tensors`, for as many labels."""
    source, _, name = architecture.name.partition("/")
    options = architecture.options
    if source != "timm" or options["act"] != "own" or options["stem"] != "own":
        return None
    with contextlib.suppress(Exception):  # if timm raises anything, it cannot
        return loaded_by_timm(name, tensors, options, num_classes=options["num_classes"], label_offset=0)
    return None


def loaded_by_timm(
    name: str, tensors: Mapping[str, Tensor], options: Mapping[str, Any], **overlay: Any
) -> dict[str, Tensor]:
    """Return the tensors by the names in the network that `create_model` builds, as timm loads published ones.

    Args:
        name: timm's name of the network, or of its weights.
        tensors: By their names in the file; timm renames them, and resizes position embeddings.
        options: The options of the network, for create_model.
        overlay: Fields of timm's `pretrained_cfg` that differ for this file.

    Raises:
        Exception: They are not the weights of this network; timm raises errors of nearly any class.
    """
    library: Any = importlib.import_module("timm")
    size = {"img_size": options["image_size"]} if library.get_pretrained_cfg(name).fixed_input_size else {}
    network = library.create_model(
        name,
        pretrained=True,
        num_classes=options["num_classes"],
        pretrained_cfg_overlay={"state_dict": dict(tensors), "custom_load": False, **overlay},
        **size,
    )
    return {f"network.{key}": value for key, value in network.state_dict().items()}


def require_whole(file: WeightsFile, match: Match, architecture: Architecture, leave_out: Sequence[str] = ()) -> None:
    """Raise CheckpointError unless the file has the whole network, and nothing else except `leave_out` (patterns)."""
    if match.missing or match.misfits:
        raise CheckpointError(f"{file.path}: {_why_not(file, match, architecture)}")
    _require_no_more(file, match, architecture, leave_out)


def require_body(file: WeightsFile, match: Match, architecture: Architecture) -> None:
    """Raise CheckpointError unless the file has the network without its classification layer, and nothing else."""
    if not {*match.missing, *match.misfits} <= set(classification_layer(architecture)):
        raise CheckpointError(f"{file.path}: {_why_not(file, match, architecture)}")
    _require_no_more(file, match, architecture, ())


def _require_no_more(file: WeightsFile, match: Match, architecture: Architecture, leave_out: Sequence[str]) -> None:
    surplus = [name for name in match.unknown if not any(fnmatch.fnmatch(name, pattern) for pattern in leave_out)]
    if surplus:
        raise CheckpointError(
            f"{file.path}: got {len(surplus)} tensors that {architecture.name} does not have ({some(surplus)}), "
            "expected none; check --model, or leave them out: taijitu checkpoint --leave-out"
        )


def classification_layer(architecture: Architecture) -> list[str]:
    """Return the tensors whose shape depends on the number of labels."""
    two, three = (_shapes(architecture, count) for count in (2, 3))
    return [name for name, shape in two.items() if shape != three[name]]


def _shapes(architecture: Architecture, num_classes: int) -> dict[str, tuple[int, ...]]:
    model = create_model(architecture.name, **{**architecture.options, "num_classes": num_classes})
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _why_not(file: WeightsFile, match: Match, architecture: Architecture) -> str:
    """Return got, expected and what to do, for a file that lacks a part of the network."""
    name, classes = architecture.name, architecture.options["num_classes"]
    lacking = [*match.missing, *match.misfits]
    if not any(tensor.ndim for tensor in match.tensors.values()):
        hint = _order_hint(file, architecture)
        return f"got {some(file.tensors)}, expected {name}'s {some(lacking)}; check --model{hint}"
    if set(lacking) <= set(classification_layer(architecture)):
        if match.misfits:
            (rows, *_), _ = next(iter(match.misfits.values()))
            return f"got weights for {rows} labels, expected them for the {classes} that you gave; correct the labels"
        return (
            f"got no classification layer ({some(lacking)}), expected all of {name}; "
            "taijitu train --init starts from such weights"
        )
    if match.misfits:
        tensor, (got, expected) = next(iter(match.misfits.items()))
        grey = ", for grey pictures" if got[1:2] == (1,) and expected[1:2] == (3,) else ""
        return f"got {some([tensor])} of the shape {got}{grey}, expected {expected}; check --model, --size and --option"
    hint = _order_hint(file, architecture)
    return f"got no {some(lacking)}, expected all of {name}; check --model and --option{hint}"


def _order_hint(file: WeightsFile, architecture: Architecture) -> str:
    """Return what to do if the names differ, and the order would match."""
    with contextlib.suppress(CheckpointError):
        match_weights(file, architecture, by_order=True, prefix=None)
        return ", or match them by their order, which agrees: --map order"
    return ""


def some(names: Iterable[str], count: int = 3) -> str:
    """Return the first `count` names of tensors, and how many more there are."""
    return listed((name.removeprefix("network.") for name in names), count)

"""Fine-tuning: find the weights that a run starts from, in a file (--init) or among published ones (--pretrained)."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taijitu_runtime.card import Architecture, InputSpec
from taijitu_runtime.console import shown
from taijitu_runtime.datasets import TrainedOn
from taijitu_runtime.errors import TaijituError, UsageError, one_line
from taijitu_runtime.files import sha256_of
from taijitu_runtime.model_files import is_model
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data.pictures import check_arithmetic
from taijitu_training.errors import CheckpointError
from taijitu_training.models import model_options
from taijitu_training.tensors.read import WeightsFile, read_weights
from taijitu_training.weights.fitting import loaded_by_timm, match_weights, require_body, require_whole
from taijitu_training.weights.hugging_face import published_weights
from taijitu_training.weights.matching import Match
from taijitu_training.weights.published import (
    digest_of,
    network_input,
    published_input,
    published_labels,
    timm_config,
    torchvision_tag,
    torchvision_weights,
)
from taijitu_training.weights.starting_point import StartingPoint
from taijitu_training.weights.torch_hub import licence_of, torchvision_file

AUXILIARY = ("aux1.*", "aux2.*", "AuxLogits.*")
"""Classifiers inside torchvision's GoogLeNet and Inception, which serve training alone."""

FREE = {"act", "dropout", "image_size", "init"}  # options that may change: they do not change the meaning of a weight

Options = Mapping[str, Any]


def saved_network(init: str | os.PathLike[str] | None) -> Architecture | None:
    """Return the network of a checkpoint; None for a file of weights, and for no file."""
    if init is None:
        return None
    if not Path(init).is_file():  # a pipe cannot be read twice
        raise CheckpointError(f"got --init {init}, expected a file; correct the path")
    if checkpoint.is_checkpoint(init) or is_model(Path(init)):  # an exported file is refused, as that
        return checkpoint.load(init).architecture
    return None


def from_file(path: Path, model: str, options: Options) -> StartingPoint:
    """Read the file of `--init`: a checkpoint, or a file of weights of timm's or torchvision's `model`.

    CheckpointError if the weights are those of another network.
    """
    if checkpoint.is_checkpoint(path):
        return _from_checkpoint(path, model, options)
    file = read_weights(path)
    if "/" not in model:
        raise CheckpointError(
            f"{path}: got a file without taijitu's contract for {model}, expected a checkpoint; make one of it: "
            "taijitu checkpoint"
        )
    match, architecture = _fitted(file, model, options)
    origin = {"file": shown(path.name), "sha256": file.sha256, "part": file.part, "matched": match.how}
    return StartingPoint(match.tensors, architecture, (), _prepared_for(file, model), origin)


def _prepared_for(file: WeightsFile, model: str) -> InputSpec:
    """Return how pictures are prepared for weights of timm's or torchvision's `model`: for published ones as these.

    CheckpointError where those that torchvision publishes for it differ in that, and the file is not one of them.
    """
    if not model.startswith("torchvision/"):
        return network_input(model)
    tag = torchvision_tag(model.partition("/")[2], file.sha256)
    try:
        return network_input(f"{model}.{tag}" if tag else model)
    except UsageError as error:
        raise CheckpointError(
            f"{file.path}: {error}, and make a checkpoint for --init: taijitu checkpoint --model {model}.NAME"
        ) from None


def _fitted(file: WeightsFile, model: str, options: Options) -> tuple[Match, Architecture]:
    """Match a file to a network with a classification layer as large as the file's: timm renames tensors for no other.

    CheckpointError, the one of the likeliest size, if no size fits.
    """
    first: CheckpointError | None = None
    for count in _label_counts(file):
        architecture = Architecture(model, {**options, "num_classes": count})
        try:
            match = match_weights(file, architecture, by_order=False, prefix=None, resized=True)
            require_body(file, match, architecture)
        except CheckpointError as error:
            first = first or error
        else:
            return match, architecture
    assert first is not None
    raise first


def _label_counts(file: WeightsFile) -> list[int]:
    """Return the numbers of labels that a file may have, the likeliest first.

    The classification layer is the last one, where the file has an order, and its size is rarely that of another.
    """
    sizes = [int(value.shape[0]) for value in file.tensors.values() if value.ndim in (1, 2)]
    rare, last = [size for size, times in Counter(sizes).items() if times <= 2 and size], sizes[-1:]
    return [*dict.fromkeys([*last, *rare] if file.has_order else [*rare, *last])] or [1]


def _from_checkpoint(path: Path, model: str, options: Options) -> StartingPoint:
    saved = checkpoint.load(path)
    _check_network(path, saved, model, options)
    check_arithmetic(path, saved.input)
    trained_on = TrainedOn.from_card(saved.training)
    sample = {} if trained_on is None else {"train_sample": " ".join(sorted(trained_on.whole))}
    origin = {"file": shown(path.name), "sha256": sha256_of(path), **sample}
    spec = saved.card().input
    return StartingPoint(saved.model().state_dict(), saved.architecture, tuple(saved.labels), spec, origin, trained_on)


def _check_network(path: Path, saved: Checkpoint, model: str, options: Options) -> None:
    if (got := saved.architecture.name) != model:
        raise CheckpointError(f"{path}: got weights of {got}, expected {model}; give --model {got}")
    # An option that did not exist when it was saved has its default.
    theirs = {**model_options(model), **saved.architecture.options}
    differing = {name: value for name, value in theirs.items() if value != options.get(name) and name != "num_classes"}
    if differing.keys() - FREE:
        flags = " ".join(f"--option '{name}={value}'" for name, value in differing.items())
        raise CheckpointError(f"{path}: got weights of a network with other options, expected the same; add {flags}")


def from_published(
    model: str, tag: str, options: Options, offline: bool, report: Callable[[str], object]
) -> StartingPoint:
    """Find or download the weights of `--pretrained`: weights of `model` that timm or torchvision publishes.

    Args:
        model: The network, "timm/NAME" or "torchvision/NAME".
        tag: The tag of the weights; "" for the library's default.
        options: The options of the network.
        offline: Refuse to download.
        report: Gets the line that says what is downloaded, before it is.
    """
    source, _, name = model.partition("/")
    find = {"timm": _from_timm, "torchvision": _from_torchvision}.get(source)
    if find is None:
        raise UsageError(f"got --pretrained for {model}, expected timm/NAME or torchvision/NAME; give a file by --init")
    if options["stem"] != "own":
        raise UsageError(
            f"got --pretrained with stem={options['stem']}, expected its own; published weights have no other"
        )
    return find(name, tag, options, offline, report)


def _from_timm(name: str, tag: str, options: Options, offline: bool, report: Callable[[str], object]) -> StartingPoint:
    config = timm_config(f"{name}.{tag}" if tag else name)
    full_name = f"{name}.{config.tag}"
    path = published_weights(full_name, offline, report)
    file = read_weights(path)
    labels: tuple[str, ...] = ()
    with contextlib.suppress(TaijituError):  # timm numbers some labels and does not name them
        labels = published_labels(f"timm/{full_name}")
    architecture = Architecture(f"timm/{name}", {**options, "num_classes": config.num_classes})
    try:
        tensors = loaded_by_timm(full_name, file.tensors, architecture.options)
    except Exception as error:  # timm raises errors of nearly any class
        reason = one_line(error)[:200]
        raise CheckpointError(f"{path}: not the weights of timm/{full_name} ({reason}); get them again") from None
    origin = {"file": f"timm/{full_name}", "sha256": file.sha256, "licence": config.license or "not stated"}
    return StartingPoint(tensors, architecture, labels, published_input(f"timm/{full_name}"), origin)


def _from_torchvision(
    name: str, tag: str, options: Options, offline: bool, report: Callable[[str], object]
) -> StartingPoint:
    entry = torchvision_weights(name, tag)
    full_name = f"torchvision/{name}.{entry.name}"
    spec = network_input(full_name)
    path = torchvision_file(entry, offline, report)
    file = read_weights(path)
    if not file.sha256.startswith(digest_of(entry)):
        raise CheckpointError(
            f"{path}: got a file with sha256 {file.sha256[:12]}..., expected {digest_of(entry)}...: it is not what "
            "torchvision publishes; delete it, or give it with --init where it is yours"
        )
    labels = published_labels(full_name)
    sizes = {"num_classes": len(labels), "image_size": spec.height}
    architecture = Architecture(f"torchvision/{name}", {**options, **sizes})
    match = match_weights(file, architecture, by_order=False, prefix="")
    if match.missing:  # DenseNet's files have the names of an older torchvision
        match = match_weights(file, architecture, by_order=True, prefix=None)
    require_whole(file, match, architecture, leave_out=AUXILIARY)
    origin = {"file": full_name, "sha256": file.sha256, "licence": licence_of(entry)}
    return StartingPoint(match.tensors, architecture, labels, spec, origin)

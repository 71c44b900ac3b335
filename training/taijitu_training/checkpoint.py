"""Checkpoints: weights with the contract that every later artefact repeats. Reading one never runs code from it."""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from taijitu_runtime.card import Architecture, InputSpec, ModelCard
from taijitu_runtime.errors import ArtefactError, TaijituError, UsageError, first_line, one_line, path_fault
from taijitu_runtime.files import named_path, write_whole
from taijitu_runtime.installed import taijitu_version
from taijitu_runtime.labels import check_in_order
from taijitu_runtime.model_files import is_model
from taijitu_training.errors import CheckpointError
from taijitu_training.models import create_model
from taijitu_training.tensors.read import check_tensors, has_changed, is_weights, other_archive

FORMAT_VERSION = 1
OR_MAKE_ONE = "or make one from weights of timm, torchvision or yours: taijitu checkpoint"
_CONTRACT = {
    "architecture": dict,
    "labels": list,
    "input": dict,
    "training": dict,
    "producer": dict,
    "source_sha256": str,
}


@dataclass(frozen=True)
class Checkpoint:
    """Weights and contract; in its file, all of it is plain types and tensors.

    `architecture`: the network that `create_model` builds, with all options. `labels`: the K names, one for each logit.
    `input`: what data.input_contract returns. `training`: the data, recipe, metrics and date. `producer`: versions by
    package. `source_sha256`: that of the data (empty for shards). `resume`: the state to continue from.
    """

    state_dict: dict[str, Tensor]
    architecture: Architecture
    labels: list[str]
    input: dict[str, Any]
    training: dict[str, Any]
    producer: dict[str, str]
    source_sha256: str = ""
    resume: dict[str, Any] = field(default_factory=dict)

    def contract(self) -> dict[str, Any]:
        """Return all but the weights in plain types, with the format version."""
        fields = {key: getattr(self, key) for key in _CONTRACT}
        return {"format_version": FORMAT_VERSION, **fields, "architecture": asdict(self.architecture)}

    def card(self) -> ModelCard:
        """Return the contract of an artefact made from it. ArtefactError for a field that none can have."""
        return ModelCard.from_dict(self.contract())

    def model(self) -> nn.Module:
        """Build the network with these weights, in evaluation mode.

        CheckpointError where they do not fit each other.
        """
        try:
            model = create_model(self.architecture.name, **self.architecture.options)
        except (TaijituError, RuntimeError, TypeError) as error:
            raise CheckpointError(f"the checkpoint's network cannot be built: {first_line(error)}") from None
        try:
            model.load_state_dict(self.state_dict)
        except (RuntimeError, TypeError) as error:
            lines = [line.strip() for line in str(error).splitlines()]
            reason = lines[1] if len(lines) > 1 else lines[0]  # torch's first line only says that there are errors
            raise CheckpointError(f"the checkpoint's weights do not fit {self.architecture.name}: {reason}") from None
        return model.eval()


def plain_input(spec: InputSpec) -> dict[str, Any]:
    """Return the `input` of a checkpoint: `spec` in plain types."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(spec).items()}


def plain_labels(labels: Sequence[str]) -> list[str]:
    """Return the `labels` of a checkpoint in Python's own type: NumPy's texts could be saved, and not loaded.

    UsageError for a single text, whose letters would be the labels, and for labels that are in no order.
    """
    if isinstance(labels, str):
        raise UsageError(f"got the text {labels!r} as the labels, expected a list of them; read a file of labels first")
    check_in_order(labels)
    return [str(label) if isinstance(label, str) else label for label in labels]


def producer_versions() -> dict[str, str]:
    """Return the versions of the packages that write a checkpoint; of torchvision and timm if they are installed."""
    found = {"taijitu": taijitu_version(), "torch": str(torch.__version__), "python": platform.python_version()}
    for package in ("torchvision", "timm"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def today() -> str:
    """Return the date in UTC as records have it, such as "2026-11-30"."""
    return datetime.now(timezone.utc).date().isoformat()


def save(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint completely or not at all.

    Raises:
        WriteError: The file cannot be written. An existing file is unchanged.
    """
    content = checkpoint.contract() | {"state_dict": checkpoint.state_dict}
    if checkpoint.resume:
        content["resume"] = checkpoint.resume
    write_whole(Path(path), lambda stream: _put(content, stream))


def _put(content: dict[str, Any], stream: BinaryIO) -> None:
    try:
        torch.save(content, stream)
    except RuntimeError as error:
        # torch's writer fails again when it closes a file on a full disk, and hides the first error.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Return whether taijitu wrote the file at `path`, damaged or not."""
    try:
        # torch maps no file whose name is not UTF-8.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=str(path).isprintable())
    except Exception:  # a crafted file makes torch raise nearly anything
        return False
    return isinstance(content, dict) and "format_version" in content


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint without running anything in it.

    Raises:
        CheckpointError: The file was not made by taijitu, or is damaged; one line.
    """
    path = named_path(path, "checkpoint")
    do = "give a checkpoint that taijitu train wrote"
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path}: no such file; {do}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({path_fault(error)}); {do}") from None
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path}: got a folder or device; {do}")
    if not zipfile.is_zipfile(path):
        if is_weights(path):
            raise CheckpointError(f"{path}: got a file of weights without taijitu's contract; {do}, {OR_MAKE_ONE}")
        got = "truncated, or not a PyTorch file"
        if is_model(path):
            got = f"got a {path.suffix} file, expected the checkpoint that it was made from"
        raise CheckpointError(f"{path}: {got}; {do}")
    if other := other_archive(path):
        raise CheckpointError(f"{path}: got {other}; {do}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        changed = has_changed(path)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: damaged, or holds objects that are not weights (none was run); {do}, {OR_MAKE_ONE}"
        ) from None
    except Exception as error:  # a crafted file makes torch raise nearly anything
        raise CheckpointError(f"{path}: damaged PyTorch file ({first_line(error)}); {do}") from None
    if changed:
        raise CheckpointError(f"{path}: damaged, got bytes that do not match their checksum; copy it again, or {do}")
    if not isinstance(content, dict) or "state_dict" not in content or "format_version" not in content:
        raise CheckpointError(f"{path}: got a PyTorch file without taijitu's contract; {do}, {OR_MAKE_ONE}")
    if type(content["format_version"]) is not int or content["format_version"] != FORMAT_VERSION:
        got = content["format_version"]
        raise CheckpointError(
            f"{path}: got format version {got}, expected {FORMAT_VERSION}; use the version of taijitu that wrote it"
        )
    for field_name, kind in {**_CONTRACT, "state_dict": dict}.items():
        if not isinstance(content.get(field_name), kind):
            got = type(content.get(field_name)).__name__
            raise CheckpointError(f"{path}: the contract's {field_name} is a {got}, expected a {kind.__name__}; {do}")
    architecture = _architecture(path, content["architecture"])
    _check_contents(path, content)
    _check_records(path, content)
    fields = {key: content[key] for key in _CONTRACT} | {"architecture": architecture}
    return Checkpoint(state_dict=content["state_dict"], resume=content.get("resume", {}), **fields)


def _architecture(path: Path, got: dict[str, Any]) -> Architecture:
    try:
        return Architecture(**got)
    except (TypeError, ArtefactError):
        raise CheckpointError(
            f"{path}: got architecture {one_line(got)}, expected a name and options; train it again"
        ) from None


def _check_contents(path: Path, content: dict[str, Any]) -> None:
    architecture, labels = content["architecture"], content["labels"]
    if (classes := architecture["options"].get("num_classes")) != len(labels):
        raise CheckpointError(
            f"{path}: got labels for {len(labels)} of {classes} classes, expected one each; train it again"
        )
    if unusual := [label for label in labels if not isinstance(label, str)]:
        raise CheckpointError(f"{path}: got the label {unusual[0]!r}, expected text; train it again")
    for name, weights in content["state_dict"].items():
        if not isinstance(name, str) or not isinstance(weights, Tensor):
            raise CheckpointError(f"{path}: got {name!r} among the weights, expected named tensors; train it again")
    check_tensors(str(path), content["state_dict"])


def _check_records(path: Path, content: dict[str, Any]) -> None:
    """Raise CheckpointError for a record of another kind than this package writes, of those that it reads."""
    training, resume = content["training"], content.get("resume", {})
    records = {f"training.{name}": training.get(name, {}) for name in ("recipe", "teacher", "started_from", "metrics")}
    for name, value in {**records, "resume": resume}.items():
        if not isinstance(value, dict):
            raise CheckpointError(f"{path}: {name} is a {type(value).__name__}, expected a dict; train it again")

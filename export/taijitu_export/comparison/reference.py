"""Open what a candidate is compared with: a checkpoint on PyTorch, or another ONNX file."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from taijitu_export.onnx.onnx_from_checkpoint import card_of, network_of
from taijitu_runtime.card import ARITHMETIC, InputSpec, ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import UsageError
from taijitu_training import checkpoint


class LogitsModel(Protocol):
    """A classifier of either kind: taijitu_runtime's Classifier, or a checkpoint."""

    @property
    def card(self) -> ModelCard:
        """Its labels and preprocessing."""

    def logits(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits, float32 (N, K), of N prepared pictures, uint8 RGB (N, H, W, 3)."""


class CheckpointClassifier:
    """A checkpoint's own network on PyTorch. CheckpointError or ArtefactError where its file is wrong.

    Args:
        path: The checkpoint.
        threads: Cores that PyTorch uses for it, 0 for as many as it uses otherwise.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._threads = threads
        self.checkpoint = checkpoint.load(path)
        self.card = card_of(self.checkpoint, "")
        self._network, _ = network_of(self.checkpoint, self.card, "uint8")

    def logits(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits, float32 (N, K), of N prepared pictures, uint8 RGB (N, H, W, 3)."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads or before)
        try:
            with torch.inference_mode():
                logits: NDArray[np.float32] = self._network(torch.from_numpy(prepared)).numpy()
        finally:
            torch.set_num_threads(before)
        return logits

    def __enter__(self) -> CheckpointClassifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._network


def open_reference(path: Path, threads: int) -> CheckpointClassifier | Classifier:
    """Open the checkpoint or model file at `path`. Raises the errors of checkpoints and of artefacts."""
    if is_zip(path):
        return CheckpointClassifier(path, threads)
    return Classifier.from_file(path, threads=threads)


def is_zip(path: Path) -> bool:
    """Return whether the file is a zip archive by its content, as checkpoints are and model files are not."""
    return os.path.isfile(path) and zipfile.is_zipfile(path)  # noqa: PTH113 -- Path.is_file raises without permission


def class_order(candidate: ModelCard, reference: ModelCard) -> NDArray[np.int64]:
    """Return, for each label of the candidate, int64 (K,), its index among the reference's: they are matched by name.

    UsageError where one has a label that the other lacks, gives probabilities where the other gives logits, or takes
    pictures that are resized and cropped differently.
    """
    if missing := sorted(set(candidate.labels) ^ set(reference.labels)):
        side = "candidate" if missing[0] in candidate.labels else "reference"
        raise UsageError(
            f"got the label {missing[0]!r} in the {side} only, expected the same labels in both; "
            "compare models of the same classes"
        )
    if candidate.output != reference.output:
        raise UsageError(
            f"got {candidate.output} of the candidate and {reference.output} of the reference, expected the same "
            "of both; adopt both from files with the same last operator"
        )
    for field in dataclasses.fields(InputSpec):
        ours, theirs = getattr(candidate.input, field.name), getattr(reference.input, field.name)
        if ours != theirs and field.name not in (*ARITHMETIC, "float_values"):  # each model does these itself
            raise UsageError(
                f"got input.{field.name} {ours} for the candidate and {theirs} for the reference, expected the same "
                "pictures for both; compare models of the same input"
            )
    if candidate.labels == reference.labels:
        return np.arange(len(candidate.labels))
    return np.array([reference.labels.index(label) for label in candidate.labels], np.int64)

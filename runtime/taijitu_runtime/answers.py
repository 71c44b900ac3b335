"""From logits to answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import ArtefactError, InputError, UsageError


@dataclasses.dataclass(frozen=True)
class Answer:
    """One class: its label, its index among the labels, and its probability in [0, 1]."""

    label: str
    index: int
    probability: float


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities, float32 (..., K), each row summing to 1, from float32 logits (..., K).

    ArtefactError if a logit is NaN or infinite: no answer can be given, and the cause is the model.
    """
    finite = np.isfinite(logits)
    if not finite.all():
        raise ArtefactError(
            f"got {finite.size - np.count_nonzero(finite)} of {finite.size} logits that are NaN or infinite, expected "
            "finite numbers; export the model again from a good checkpoint"
        )
    with np.errstate(over="ignore"):  # a gap beyond float32 is a probability of 0
        powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=-1, keepdims=True)).astype(np.float32)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def top_k(logits: NDArray[np.float32], labels: Sequence[str], k: int = 5) -> list[list[Answer]]:
    """The k likeliest classes of each row of float32 logits (N, K), the likeliest first; of equals the lower index.

    InputError if the rows are not as long as `labels`, UsageError if k is outside 1 to K, ArtefactError for a logit
    that is NaN or infinite.
    """
    if logits.ndim != 2 or logits.shape[1] != len(labels):
        raise InputError(f"got logits of shape {logits.shape}, expected (N, {len(labels)}), one for each label")
    check_top(k, labels)
    probabilities = softmax(logits)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return [
        [Answer(labels[index], index, float(row[index])) for index in indices.tolist()]
        for row, indices in zip(probabilities, order, strict=True)
    ]


def check_top(k: int, labels: Sequence[str]) -> None:
    """UsageError unless the k likeliest of these labels can be named."""
    if not 1 <= k <= len(labels):
        raise UsageError(f"got top {k}, expected 1 to {len(labels)}: the model knows {len(labels)} labels")

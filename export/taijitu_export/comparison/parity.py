"""Does an artefact answer as its PyTorch network does? The same pictures through both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from taijitu_runtime.backends import Backend

BATCH = 16  # pictures at a time: memory, not speed
RELATIVE_TOLERANCE = 1e-4  # of the range of the reference's logits


@dataclass(frozen=True)
class Parity:
    """What a comparison found: differences are absolute, of logits; `logit_range` is the reference's max - min."""

    pictures: int
    top1_flips: int
    max_difference: float
    logit_range: float

    @property
    def holds(self) -> bool:
        """Every top-1 answer is the same, and no logit is off by more than 1e-4 of the range. False for NaN."""
        return self.top1_flips == 0 and self.max_difference <= RELATIVE_TOLERANCE * self.logit_range

    def __str__(self) -> str:
        same = self.pictures - self.top1_flips
        return (
            f"top-1 the same on {same} of {self.pictures} pictures, largest logit difference "
            f"{self.max_difference:.2g} (allowed {RELATIVE_TOLERANCE * self.logit_range:.2g}: 1e-4 of the logit range)"
        )


def parity(reference: nn.Module, candidate: Backend, images: NDArray[np.uint8] | NDArray[np.float32]) -> Parity:
    """Compare logits on `images`, an array in the form that both take (N pictures)."""
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    with torch.inference_mode():
        expected = np.concatenate([reference(torch.from_numpy(batch)).numpy() for batch in batches])
    got = np.concatenate([candidate.infer(batch) for batch in batches])
    return Parity(
        pictures=len(images),
        top1_flips=int((expected.argmax(1) != got.argmax(1)).sum()),
        max_difference=float(np.abs(expected - got).max()),
        logit_range=float(expected.max() - expected.min()),
    )

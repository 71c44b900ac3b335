"""Compare an artefact's answers with those of its PyTorch network: the same pictures through both."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from taijitu_export.comparison.allowances import FULL_PRECISION_ERROR
from taijitu_export.comparison.comparison import Comparison, compare
from taijitu_export.comparison.verdict import verdict_on_logits
from taijitu_runtime.backends import Backend

BATCH = 16  # pictures at a time: memory, not speed


@dataclass(frozen=True)
class Parity:
    """An artefact compared with its network in float32.

    `own_error`: how far the network's float32 is from its float64, the largest logit difference as a share of the
    logit range; measured where the artefact differs by more than is allowed, otherwise None.
    """

    comparison: Comparison
    own_error: float | None = None

    @property
    def holds(self) -> bool:
        """Whether every logit is within 1e-4 of the logit range; false for NaN."""
        return verdict_on_logits(self.comparison, "fp32", FULL_PRECISION_ERROR).fine

    @property
    def ill_conditioned(self) -> bool:
        """Whether PyTorch itself would not pass: float32 is too coarse for this network."""
        return self.own_error is not None and not self.own_error <= FULL_PRECISION_ERROR

    @property
    def failure(self) -> str:
        """Why parity does not hold."""
        if not self.ill_conditioned:
            return f"ONNX Runtime does not answer like PyTorch: {self}"
        return (
            f"the network is ill-conditioned: PyTorch's own float32 is {self.own_error:.2g} of the logit range from "
            f"its float64, and ONNX Runtime {self.comparison.max_error:.2g} from PyTorch's float32, allowed "
            f"{FULL_PRECISION_ERROR:g}; train it further, or normalise its activations"
        )

    def __str__(self) -> str:
        found = self.comparison
        return (
            f"top-1 the same on {found.agreeing} of {found.pictures} pictures, largest logit difference "
            f"{found.max_difference:.2g} (allowed {FULL_PRECISION_ERROR * found.logit_range:.2g}: "
            f"{FULL_PRECISION_ERROR:g} of the logit range)"
        )


def parity(reference: nn.Module, candidate: Backend, images: NDArray[np.uint8] | NDArray[np.float32]) -> Parity:
    """Compare logits on `images`, an array in the form that both take (N pictures).

    The candidate answers the first one alone: a network whose answers depend on the others of a batch fails here.
    """
    expected = logits_of_network(reference, images)
    got = np.concatenate([candidate.infer(batch) for batch in (images[:1], *_batches(images[1:]))])
    found = Parity(compare(got, expected))
    if found.holds:
        return found
    exact = logits_of_network(copy.deepcopy(reference).double(), images, torch.float64)
    return Parity(found.comparison, compare(expected, exact).max_error)


def _batches(images: NDArray[np.uint8] | NDArray[np.float32]) -> list[NDArray[np.uint8] | NDArray[np.float32]]:
    return [images[start : start + BATCH] for start in range(0, len(images), BATCH)]


def logits_of_network(
    network: nn.Module, images: NDArray[np.uint8] | NDArray[np.float32], dtype: torch.dtype = torch.float32
) -> NDArray[np.float32]:
    """Compute the logits (N, K), of `dtype`, of a network with weights of that type; bytes are not converted."""
    tensors = (torch.from_numpy(batch) for batch in _batches(images))
    with torch.inference_mode():
        parts = [network(batch.to(dtype) if batch.is_floating_point() else batch).numpy() for batch in tensors]
    return np.concatenate(parts)

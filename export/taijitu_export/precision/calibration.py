"""Compute scales for 8-bit activations, from histograms of their values on real pictures."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.comparison.intermediates import Intermediates
from taijitu_export.onnx.passes.quantise import LEAST_SCALE, LEVELS
from taijitu_export.progress import tracked

BATCH = 8
BINS = 4096
METHOD = "least squared error over histograms of magnitudes"


def calibrated_scales(model: onnx.ModelProto, names: Iterable[str], images: NDArray[np.uint8]) -> dict[str, float]:
    """Compute a scale for each tensor of a float32 graph: the clipping with the least squared error.

    `images`: uint8 RGB (N, H, W, 3).
    """
    histograms = {name: MagnitudeHistogram() for name in names}
    inside = Intermediates(model, histograms)
    for start in tracked("calibrating", range(0, len(images), BATCH)):
        for name, values in inside.run(images[start : start + BATCH]).items():
            histograms[name].add(values)
    return {name: histogram.scale() for name, histogram in histograms.items()}


class MagnitudeHistogram:
    """A count of each |value|, in 4096 bins that widen, two becoming one, whenever a larger value comes.

    NaN and infinite values are not counted: no scale holds them.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(BINS)
        self._limit = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values of any shape."""
        # In float64, where the number of bins over the smallest float32 is still finite.
        magnitudes = np.abs(values[np.isfinite(values)].astype(np.float64))
        largest = float(magnitudes.max(initial=0.0))
        if self._limit == 0.0:
            self._limit = largest
        while largest > self._limit:
            self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2)])
            self._limit *= 2
        if self._limit > 0.0:
            bins = np.minimum((magnitudes * (BINS / self._limit)).astype(np.int32), BINS - 1)
            self._counts += np.bincount(bins, minlength=BINS)

    def scale(self) -> float:
        """Return the scale whose rounding and clipping costs the least squared error.

        1 where only zeros were counted.
        """
        used = np.flatnonzero(self._counts)
        if self._limit == 0.0 or not used.size:
            return 1.0
        counts = self._counts[used]
        # The first bin holds the zeros of ReLU, which are exact.
        centres = np.where(used > 0, used + 0.5, 0.0) * (self._limit / BINS)
        top = centres[-1]
        scales = np.linspace(top / 8, top, 113) / LEVELS
        rounded = np.minimum(np.rint(centres / scales[:, None]), LEVELS) * scales[:, None]
        errors = ((rounded - centres) ** 2 * counts).sum(axis=1)
        return max(float(scales[np.argmin(errors)]), LEAST_SCALE)

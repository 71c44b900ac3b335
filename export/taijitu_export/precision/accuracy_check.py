"""Decide whether a graph in a smaller precision is still good enough: the one place for fp16 and int8."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.comparison.allowances import allowed_error
from taijitu_export.comparison.classes import calibration_error, first_answers
from taijitu_export.comparison.comparison import Comparison, compare, most_different
from taijitu_export.comparison.intermediates import Intermediates
from taijitu_export.comparison.verdict import Outcome, Verdict, verdict_on_labels, verdict_on_logits
from taijitu_export.errors import ExportError
from taijitu_export.precision.calibration_data import CalibrationData

COMPARED_IMAGES = 4
"""Images by which the layer that diverges is found: the outputs of all layers are in memory for them."""


class PrecisionError(ExportError):
    """No graph of that precision is good enough; `details`, a table, has the cost of each layer."""


@dataclasses.dataclass(frozen=True)
class Check:
    """A conversion compared with the float32 graph: whether it passes, and why.

    `calibration_errors`: the expected calibration errors of that graph and of the conversion, in percentage points;
    None without labels.
    """

    comparison: Comparison
    verdict: Verdict
    passes: bool
    calibration_errors: tuple[float, float] | None = None


class AccuracyCheck:
    """The comparison of graphs with the float32 graph that they come from, on the same images.

    `weights_rounded`: that graph with its weights alone in the smaller precision; its error is the noise.
    ExportError where the float32 graph gives NaN or infinite logits.
    """

    def __init__(
        self,
        precision: str,
        model: onnx.ModelProto,
        weights_rounded: onnx.ModelProto,
        data: CalibrationData,
        max_drop: float,
    ) -> None:
        self._precision = precision
        self._data = data
        self._max_drop = max_drop
        self._expected = Intermediates(model).logits(data.evaluation, what="answers in float32")
        if not np.isfinite(self._expected).all():
            raise ExportError(
                "got NaN or infinite logits from the float32 graph, expected finite ones; train the network again"
            )
        self.noise = self._compared(self._logits(weights_rounded)).rms_error

    def __call__(self, model: onnx.ModelProto) -> Check:
        """Judge a graph by labels, and by its logits where labels are missing or too few to show anything."""
        got = self._logits(model)
        comparison = self._compared(got)
        allowed = allowed_error(self._precision, self.noise)
        on_logits = verdict_on_logits(comparison, self._precision, allowed)
        if comparison.labelled is None:
            return Check(comparison, on_logits, on_logits.fine)
        verdict = verdict_on_labels(comparison, comparison.labelled, self._max_drop)
        if verdict.outcome is Outcome.NOT_SHOWN and not on_logits.fine:
            verdict = dataclasses.replace(on_logits, reason=f"{on_logits.reason}; by labels {verdict.reason}")
        passes = verdict.passes(require_certain=False)
        return Check(
            comparison, verdict, passes, (self._calibration_error(self._expected), self._calibration_error(got))
        )

    def most_different(self, model: onnx.ModelProto) -> NDArray[np.uint8]:
        """Return the COMPARED_IMAGES whose logits differ the most, uint8 RGB (N, H, W, 3)."""
        got = Intermediates(model).logits(self._data.evaluation)
        return self._data.evaluation[most_different(got, self._expected, COMPARED_IMAGES)]

    def _compared(self, logits: NDArray[np.float32]) -> Comparison:
        return compare(logits, self._expected, self._data.targets, self._data.output)

    def _logits(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        return Intermediates(model).logits(self._data.evaluation, what=f"answers in {self._precision}")

    def _calibration_error(self, logits: NDArray[np.float32]) -> float:
        data = self._data
        assert data.targets is not None
        return calibration_error(first_answers(logits, data.targets, data.output, data.temperature))

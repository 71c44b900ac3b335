"""The images that a conversion is calibrated with, and others that it is checked with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taijitu_export.sample_pictures import SAMPLE_PICTURES, sample_pictures
from taijitu_runtime.card import ModelCard
from taijitu_runtime.datasets import TrainedOn, calibration_and_judging
from taijitu_runtime.decision.decision import temperature_of

CALIBRATION_PICTURES = 512
EVALUATION_PICTURES = 10_000


@dataclasses.dataclass(frozen=True)
class CalibrationData:
    """Prepared images, uint8 RGB (N, H, W, 3), in memory: `calibration`, and others for `evaluation`.

    `targets`: int64 (N,), of the evaluation images, or None. The sources are named in words. `remarks`: lines about the
    labels of the evaluation images, and what was left out of both. `output`, `temperature`: the card's, of which
    probabilities are made.
    """

    calibration: NDArray[np.uint8]
    evaluation: NDArray[np.uint8]
    targets: NDArray[np.int64] | None
    calibration_source: str
    evaluation_source: str
    remarks: tuple[str, ...] = ()
    output: str = "logits"
    temperature: float = 1.0

    @classmethod
    def of_data(cls, data: Path, card: ModelCard, *, skip_unreadable: bool = False) -> CalibrationData:
        """Read 512 images to calibrate with and at most 10,000 to check with; see `calibration_and_judging`.

        PictureError and UsageError where the data cannot be used.
        """
        trained_on = TrainedOn.from_card(card.training)
        calibration, evaluation = calibration_and_judging(data, card.labels, CALIBRATION_PICTURES, trained_on)
        if skip_unreadable:
            calibration, evaluation = calibration.readable(card.input), evaluation.readable(card.input)
        remarks = tuple(evaluation.remarks)
        evaluation = evaluation.spread(EVALUATION_PICTURES)
        return cls(
            calibration.array(card.input),
            evaluation.array(card.input),
            evaluation.targets,
            str(calibration),
            str(evaluation),
            remarks,
            card.output,
            temperature_of(card.decision),
        )

    @classmethod
    def generated(cls, card: ModelCard) -> CalibrationData:
        """Generate 64 images and another 64, without labels."""
        height, width = card.input.height, card.input.width
        first, second = (sample_pictures(SAMPLE_PICTURES, height, width, seed) for seed in (1, 2))
        source = f"{SAMPLE_PICTURES} generated pictures"
        return cls(first, second, None, source, source, output=card.output)

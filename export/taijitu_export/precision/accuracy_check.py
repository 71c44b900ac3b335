"""A float32 graph in a smaller precision, with proof that the classifier is still fine."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.comparison.comparison import Comparison, compare
from taijitu_export.comparison.intermediates import Intermediates
from taijitu_export.errors import ExportError
from taijitu_export.pictures import calibration_and_judging
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.card import InputSpec, ModelCard

CALIBRATING_PICTURES = 512
JUDGING_PICTURES = 10_000
RANDOM_PICTURES = 64
ROUNDING = 1e-9


class PrecisionError(ExportError):
    """No graph of that precision is good enough; `table` says what each layer would cost."""

    def __init__(self, message: str, table: str) -> None:
        super().__init__(message)
        self.table = table


@dataclasses.dataclass(frozen=True)
class CalibrationData:
    """Prepared pictures, uint8 RGB (N, H, W, 3), in memory: `calibrating`, and others to judge with.

    `targets`: int64 (N,), of those to judge with, or None. The sources are named in words.
    """

    calibrating: NDArray[np.uint8]
    judging: NDArray[np.uint8]
    targets: NDArray[np.int64] | None
    calibrating_source: str
    judging_source: str

    @classmethod
    def of_data(cls, data: Path, card: ModelCard) -> CalibrationData:
        """512 pictures to calibrate with and at most 10,000 to judge with; see pictures.calibration_and_judging."""
        calibrating, judging = calibration_and_judging(data, card.labels, CALIBRATING_PICTURES)
        judging = judging.spread(JUDGING_PICTURES)
        return cls(
            calibrating.array(card.input), judging.array(card.input), judging.targets, str(calibrating), str(judging)
        )

    @classmethod
    def random(cls, spec: InputSpec) -> CalibrationData:
        """64 and another 64 random pictures: for want of real ones."""
        calibrating, judging = (sample_pictures(RANDOM_PICTURES, spec.height, spec.width, seed) for seed in (1, 2))
        return cls(calibrating, judging, None, "64 random pictures", "64 random pictures")


@dataclasses.dataclass(frozen=True)
class Converted:
    """A graph in another precision.

    `kept`: those of its `layers` that stayed in float32, by layer_name. `comparison`: with the float32 graph. `scales`:
    how those of int8 were found, for the card; empty for float16.
    """

    model: onnx.ModelProto
    layers: int
    kept: tuple[str, ...]
    comparison: Comparison
    scales: dict[str, Any] = dataclasses.field(default_factory=dict)


class AccuracyCheck:
    """Compares graphs with the float32 graph that they come from, on the same pictures."""

    def __init__(self, model: onnx.ModelProto, material: CalibrationData, max_drop: float) -> None:
        self.material = material
        self.max_drop = max_drop
        self._expected = Intermediates(model).logits(material.judging)

    def compare(self, model: onnx.ModelProto) -> Comparison:
        """What `model` answers beside float32."""
        return compare(Intermediates(model).logits(self.material.judging), self._expected, self.material.targets)

    def accepts(self, comparison: Comparison) -> bool:
        """The rule of verdict.verdict_beside."""
        return comparison.not_finite == 0 and comparison.counted_drop <= self.max_drop + ROUNDING

    def telling(self, model: onnx.ModelProto, count: int = 4) -> NDArray[np.uint8]:
        """The pictures whose logits differ the most."""
        got = Intermediates(model).logits(self.material.judging)
        difference = np.nan_to_num(np.abs(got.astype(np.float64) - self._expected), nan=np.inf).max(axis=1)
        return self.material.judging[np.argsort(-difference, kind="stable")[:count]]


def count_types(model: onnx.ModelProto) -> dict[str, int]:
    """How many tensors of each element type the graph's nodes compute, as ONNX's own inference has it."""
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    computed = (types[name] for node in graph.node for name in node.output if name in types)
    return dict(collections.Counter(str(onnx.helper.tensor_dtype_to_np_dtype(kind)) for kind in computed))

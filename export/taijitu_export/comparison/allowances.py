"""The error that each precision may have, and the source of each number."""

from __future__ import annotations

FULL_PRECISION_ERROR = 1e-4
"""Largest logit difference between two float32 computations, as a share of the logit range.

Sums are taken in another order, no more; the exports of 39 networks had at most 1e-5 (docs/results/proof.md)."""

ALLOWED_DROP_POINTS = {"fp32": 0.1, "fp16": 0.1, "int8": 0.5}
"""Percentage points of top-1 accuracy. 0.1 is about the least that 10,000 pictures can show (docs/verify.md)."""

ALLOWED_CALIBRATION_POINTS = 0.5
"""Percentage points that a conversion may move the expected calibration error (ECE) before it is worth a line."""

NOISE_FACTOR = 10.0
"""How many times its noise the error of a conversion may be.

The noise of a precision is measured for each network: the error of the logits when the weights alone are rounded to it.
Whole conversions of seven networks had 1.0 to 2.6 times their noise in float16, and 1.6 to 6.5 times in int8."""

LEAST_ALLOWED_ERROR = {"fp16": 2.0**-11, "int8": 1 / 254}
"""One rounding: half a step of 11 bits, or of 127 levels. Weights that need no rounding have no noise."""

MOST_ALLOWED_ERROR = {"fp32": FULL_PRECISION_ERROR, "fp16": 1e-2, "int8": 1e-1}
"""Root mean square of the logit differences as a share of the logit range, for any noise (fp32: the largest)."""

PROOF_FACTOR = 3.0
"""How many times the largest logit difference of a conversion another backend of that precision may differ.

It rounds the same numbers elsewhere: its error is another one of the same size."""

PROOF_LEAST_ALLOWED = {"fp16": 2e-2, "int8": LEAST_ALLOWED_ERROR["int8"]}
"""The least that the proof allows from the origin, however small the error of the conversion was.

A processor with float16 arithmetic also adds up in it, and x86-64 does not: there YYNet Small 16 and VGNetG 1.0MP in
float16 differ from their origin by 0.0005 of the logit range, and on aarch64 by 0.0037 and 0.0063 (ONNX Runtime 1.31,
under qemu; PROOF_FACTOR times that is allowed)."""

PROOF_OWN_ALLOWANCE = {"fp32": 3e-5, "fp16": 1e-3, "int8": 4.5e-2}
"""Largest logit difference of an artefact from itself on the same backend, as a share of the logit range.

Measured over 50 artefacts, numbers of threads, with and without the native Nish, and releases of ONNX Runtime from 1.22
on: at most 8e-6 in float32, 2e-4 in float16 and 0.039 in int8 (a random MLP with 15 layers of Nish), where a rounding
moves values by whole steps. The smallest sabotage was 0.002 in float32, and 0.053 in int8 (docs/results/proof.md)."""


def allowed_error(precision: str, noise: float) -> float:
    """Return the logit error that a conversion to "fp16" or "int8" may have, as a share of the logit range."""
    return min(max(NOISE_FACTOR * noise, LEAST_ALLOWED_ERROR[precision]), MOST_ALLOWED_ERROR[precision])

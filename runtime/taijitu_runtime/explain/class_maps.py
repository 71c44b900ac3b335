"""Class-activation maps of a loaded model, computed by ONNX Runtime from its ONNX file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends import Backend, OrtBackend
from taijitu_runtime.backends.contract import padded, rows_from_pixels
from taijitu_runtime.backends.ort.backend import open_model
from taijitu_runtime.backends.ort.session import run_session
from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import ExplanationError
from taijitu_runtime.explain.head import DO, EXPECTED, head_of
from taijitu_runtime.explain.maps_graph import MAPS, MEANS, maps_graph
from taijitu_runtime.pictures.generated import is_exact, proof_picture
from taijitu_runtime.pictures.preprocess import preprocess

SEEDS = tuple(filter(is_exact, range(8)))  # two pictures that need no resize

ALLOWED_ERROR = 0.1
"""Between the mean of a map and its logit, as a share of the logits' range.

Rounding in float32 makes it 1e-6, that of int8 some hundredths; a graph that was not understood makes it anything.
"""


def maps_added_to(backend: Backend) -> bytes:
    """Return what gives the model's file two more outputs, by `maps_graph`.

    Raises:
        ExplanationError: The model is an engine, or its network has no class-activation maps.
    """
    if not isinstance(backend, OrtBackend):
        raise ExplanationError(
            f"{backend.path}: got an engine, which has no class-activation maps, expected an ONNX file; give the one "
            "that the engine was built from"
        )
    backend.check_same_file()
    try:
        return maps_graph(head_of(backend.path.read_bytes()))
    except ExplanationError as error:
        raise ExplanationError(f"{backend.path}: {error}") from None


class ClassMaps:
    """The maps of a loaded model, from a session of its own on one core of the CPU; it may be called from many threads.

    Raises:
        ExplanationError: As for `maps_added_to`, or the maps do not add up to the logits.
    """

    def __init__(self, backend: Backend, spec: InputSpec) -> None:
        self._path, self._input = backend.path, backend.input
        self._session = open_model(backend.path, threads=1, more=maps_added_to(backend))
        self._check(spec)

    def __call__(self, rows: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and maps of prepared images.

        Args:
            rows: N images as `backend.input` says.

        Returns:
            The output `logits`, float32 (N, K), and maps, float32 (N, K, h, w). The mean of a map is the logit of its
            label, also where the output has probabilities, as far as the file's precision rounds nothing; a place
            counts for as much as it is above that mean.
        """
        return self._run(rows, "logits")

    def _run(self, rows: NDArray[Any], output: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        images = padded(rows, self._input.min_batch)
        logits, places = run_session(self._session, [output, MAPS], {"images": images}, self._path)
        return logits[: len(rows)], np.ascontiguousarray(places.transpose(2, 3, 0, 1))[: len(rows)]

    def _check(self, spec: InputSpec) -> None:
        # Not noise: its features are outside the ranges of an int8 file, whose logits are then those of clipped ones.
        seeds = SEEDS[: self._input.max_batch]
        pixels = np.stack([preprocess(proof_picture(seed, spec), spec) for seed in seeds])
        logits, maps = self._run(rows_from_pixels(pixels, self._input.layout, spec), MEANS)
        if not np.isfinite(logits).all():
            raise ExplanationError(
                f"{self._path}: got logits that are NaN or infinite, expected finite numbers; export the model again "
                "from a checkpoint that has none"
            )
        error, allowed = np.abs(maps.mean(axis=(2, 3)) - logits).max(), ALLOWED_ERROR * np.ptp(logits)
        if not error <= allowed:
            raise ExplanationError(
                f"{self._path}: got maps whose means differ from the logits by {error:.2g}, expected {EXPECTED}; {DO}"
            )

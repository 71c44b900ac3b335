"""Compute what a verdict rests on: the answers of a candidate, and of its reference, to the same pictures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taijitu_export.comparison.reference import LogitsModel, class_order, open_reference
from taijitu_export.progress import tracked
from taijitu_export.sample_pictures import SAMPLE_PICTURES, sample_pictures
from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.datasets import PictureSet
from taijitu_runtime.errors import ArtefactError

BATCH = 64


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The answers: logits, float32 (N, K), of the candidate and of the reference, if there is one.

    `pictures`: None for generated ones; then there are no labels either. `targets`: int64 (N,) or None.
    `pictures_per_s`: of "candidate" and "reference", without reading and decoding.
    """

    candidate: NDArray[np.float32]
    reference: NDArray[np.float32] | None
    pictures: PictureSet | None
    pictures_per_s: dict[str, float]

    @property
    def targets(self) -> NDArray[np.int64] | None:
        """The labels' indices, int64 (N,)."""
        return None if self.pictures is None else self.pictures.targets

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each picture."""
        if self.pictures is not None:
            return self.pictures.names
        return tuple(f"generated picture {index}" for index in range(len(self.candidate)))

    @property
    def source(self) -> str:
        """The pictures that were judged on, in words."""
        return f"{len(self.candidate)} generated pictures" if self.pictures is None else str(self.pictures)


def answered(
    classifier: Classifier, reference: Path | None, pictures: PictureSet | None, threads: int
) -> tuple[Evidence, ModelCard | None]:
    """Compute the answers of both models to the same pictures; return them with the reference's card.

    UsageError where the two cannot be compared, ArtefactError where the reference gives NaN or infinite logits.
    """
    if reference is None:
        logits, speed = _answers({"candidate": classifier}, pictures)
        return Evidence(logits["candidate"], None, pictures, speed), None
    with open_reference(reference, threads) as other:
        order = class_order(classifier.card, other.card)
        logits, speed = _answers({"candidate": classifier, "reference": other}, pictures)
        card = other.card
    expected = logits["reference"][:, order]
    if not np.isfinite(expected).all():
        raise ArtefactError(f"{reference}: got NaN or infinite logits, expected a sound reference; give another")
    return Evidence(logits["candidate"], expected, pictures, speed), card


def _answers(
    models: dict[str, LogitsModel], pictures: PictureSet | None
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """Compute the logits of each model for every picture, and pictures/s of each."""
    spec = models["candidate"].card.input
    logits: dict[str, list[NDArray[np.float32]]] = {name: [] for name in models}
    seconds = dict.fromkeys(models, 0.0)
    total = SAMPLE_PICTURES if pictures is None else len(pictures)
    for batch in tracked("answering", _batches(pictures, spec), -(-total // BATCH)):
        for name, model in models.items():
            if not logits[name]:
                model.logits(batch[:1])  # the set-up of a first call does not count as speed
            began = time.perf_counter()
            logits[name].append(model.logits(batch))
            seconds[name] += time.perf_counter() - began
    whole = {name: np.concatenate(parts) for name, parts in logits.items()}
    return whole, {name: len(whole[name]) / seconds[name] for name in models}


def _batches(pictures: PictureSet | None, spec: InputSpec) -> Iterator[NDArray[np.uint8]]:
    if pictures is None:
        return iter([sample_pictures(SAMPLE_PICTURES, spec.height, spec.width)])
    return pictures.batches(spec, BATCH)

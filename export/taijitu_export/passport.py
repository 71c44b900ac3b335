"""Make the passport of an artefact: chosen pictures, the origin's answers to them, and the artefact's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from taijitu_export.comparison.allowances import (
    FULL_PRECISION_ERROR,
    MOST_ALLOWED_ERROR,
    PROOF_FACTOR,
    PROOF_LEAST_ALLOWED,
    PROOF_OWN_ALLOWANCE,
)
from taijitu_export.comparison.comparison import compare
from taijitu_export.errors import ExportError
from taijitu_export.progress import tracked
from taijitu_runtime.backends import Backend
from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import working
from taijitu_runtime.passport import Logits, Passport, sha256_of_labels, sha256_of_pixels
from taijitu_runtime.pictures.generated import VERSION, is_exact, proof_picture
from taijitu_runtime.pictures.resizing.resize import resize_picture
from taijitu_runtime.proof.prove import prepared_pictures, proof_of, runs_on_text

MOST_SEEDS, LEAST_SEEDS = 512, 64
SEEDS_PIXELS = MOST_SEEDS * 64 * 64
"""Pixels of input that the choice may look at: a network with 224 x 224 pixels is slow for each picture."""

MOST_PICTURES, LEAST_PICTURES = 16, 4
MOST_LOGITS = 2048
"""Numbers in the origin's logits: 8 kB. With more than 512 labels there are still 4 pictures: 16 kB for 1000."""

Answers = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Logits, float32 (N, K), of prepared pictures, uint8 RGB (N, H, W, 3)."""


def with_passport(card: ModelCard, artefact: Answers, origin: Answers, source: str) -> ModelCard:
    """Return the card with a new passport, which has no logits of the artefact's own yet.

    Args:
        card: The card of the float32 artefact.
        artefact: Its answers, by which the pictures are chosen: ONNX Runtime is quicker than PyTorch.
        origin: Those of its source: the network in PyTorch, or an adopted file as it came.
        source: What computes these answers, such as "PyTorch 2.9.1".

    Raises:
        ExportError: A logit is NaN or infinite.
    """
    spec = card.input
    seeds = range(max(LEAST_SEEDS, min(MOST_SEEDS, SEEDS_PIXELS // (spec.height * spec.width))))
    drawn = tracked("drawing pictures to prove by", seeds)
    pixels = np.stack([resize_picture(proof_picture(seed, spec), spec) for seed in drawn])
    with working("choosing the pictures to prove by"):
        seeds_chosen = choose_seeds(artefact(pixels))
    logits = origin(pixels[seeds_chosen])
    if not np.isfinite(logits).all():
        raise ExportError(f"got NaN or infinite logits from {source}, expected finite ones; train the network again")
    passport = Passport(
        version=VERSION,
        seeds=tuple(seeds_chosen),
        pixels_sha256=tuple(sha256_of_pixels(pixels[seed]) for seed in seeds_chosen),
        labels_sha256=sha256_of_labels(card.labels),
        origin=Logits.of(source, FULL_PRECISION_ERROR, logits),
        # It multiplies float32 with the 11 bits of TF32, which are those of float16.
        allowed_on_gpu=MOST_ALLOWED_ERROR["fp16"],
    )
    return dataclasses.replace(card, proof=passport)


def choose_seeds(logits: NDArray[np.float32]) -> list[int]:
    """Return the seeds to take, sorted, by the logits (N, K) of the pictures of seeds 0 to N - 1.

    1. 16 of them, fewer where there are many labels.
    2. A quarter of them are pictures that are not resized.
    3. Those of the largest margin between the first and the second answer come first, since no precision flips them;
       but the best one of each label comes before any second one.
    """
    count = max(LEAST_PICTURES, min(MOST_PICTURES, MOST_LOGITS // logits.shape[1]))
    ranked = np.sort(np.nan_to_num(logits), axis=1)
    order = np.argsort(ranked[:, -2:].sum(axis=1) - 2 * ranked[:, -1], kind="stable").tolist()
    answers = logits.argmax(axis=1).tolist()
    chosen: list[int] = []
    for exact, wanted in ((False, count - count // 4), (True, count // 4)):
        candidates = [seed for seed in order if is_exact(seed) == exact]
        covered = {answers[seed] for seed in chosen}
        best = {answers[seed]: seed for seed in reversed(candidates) if answers[seed] not in covered}
        chosen += sorted(candidates, key=lambda seed: seed not in best.values())[:wanted]
    return sorted(chosen)


def card_for_precision(card: ModelCard, precision: str, answers: Answers | None = None) -> ModelCard:
    """Return the card for a conversion to another precision: the origin's logits stay, allowances and `own` do not.

    `answers`: of the converted graph, from which the allowance for other computations in that precision follows; None
    where it cannot be run yet.
    """
    passport = card.proof
    if passport is None:
        return card
    allowed = passport.origin.allowed if precision == card.precision.name else MOST_ALLOWED_ERROR[precision]
    if answers is not None:
        expected = passport.origin.array(len(passport.seeds), len(card.labels))
        error = compare(answers(pictures_of(passport, card.input)), expected, output=card.output).max_error
        allowed = max(PROOF_FACTOR * error, PROOF_LEAST_ALLOWED[precision])
    proof = dataclasses.replace(
        passport,
        origin=dataclasses.replace(passport.origin, allowed=allowed),
        allowed_on_gpu=max(allowed, passport.allowed_on_gpu if precision == "fp32" else 0.0),
        own=None,
    )
    return dataclasses.replace(card, proof=proof)


def pictures_of(passport: Passport, spec: InputSpec) -> NDArray[np.uint8]:
    """Return the pictures of a passport as the network gets them, uint8 RGB (N, H, W, 3)."""
    return np.stack([resize_picture(proof_picture(seed, spec), spec) for seed in passport.seeds])


def with_own_answers(card: ModelCard, backend: Backend) -> ModelCard:
    """Return the card with the artefact's own answers, on a loaded backend, to the pictures of its passport.

    Raises:
        ExportError: It does not answer as its origin does.
    """
    passport = card.proof
    assert passport is not None
    classifier = Classifier(backend)
    found = proof_of(classifier)
    if not found.proven:
        raise ExportError(str(found))
    logits = classifier.logits(prepared_pictures(classifier, passport).pixels)
    own = Logits.of(runs_on_text(backend), PROOF_OWN_ALLOWANCE[card.precision.name], logits)
    return dataclasses.replace(card, proof=dataclasses.replace(passport, own=own))

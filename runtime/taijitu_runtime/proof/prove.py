"""Re-run the pictures of a passport through the path that answers requests, and compare with its logits."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import logit_range
from taijitu_runtime.backends import Backend, OrtBackend
from taijitu_runtime.backends.base import check_file
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import working
from taijitu_runtime.errors import ArtefactError, ProofError
from taijitu_runtime.files import named_path
from taijitu_runtime.onnx_graph.external_data import sha256_with_weights
from taijitu_runtime.passport import Logits, Passport, sha256_of_labels, sha256_of_pixels
from taijitu_runtime.pictures.generated import VERSION, is_exact, proof_picture
from taijitu_runtime.pictures.resizing.resize import resize_by_axes
from taijitu_runtime.proof.decoder import ALLOWED_LEVELS, decoder_error
from taijitu_runtime.proof.modes import Mode
from taijitu_runtime.proof.signature import check_signature

Outcome = Literal["proven", "failed", "unproven"]

AXES: tuple[Literal["width", "height"], ...] = ("width", "height")
OTHER_CPU_FACTOR = 3.0
"""How many times its own allowance an artefact may be from itself on another kind of CPU before an answer is wrong.

Needed because the allowance of int8 from its origin may be most of the logit range, which excuses any answer."""

NO_PASSPORT = "it carries no passport; make it again with: taijitu onnx"


@dataclasses.dataclass(frozen=True)
class Difference:
    """The logits of a re-run and a reference: the largest difference and the allowed one, as shares of the range."""

    reference: str
    largest: float
    allowed: float

    @property
    def is_allowed(self) -> bool:
        """Whether it is within the allowed one; False for NaN."""
        return self.largest <= self.allowed

    def __str__(self) -> str:
        return f"{self.largest:.2g} from {self.reference} (allowed {self.allowed:.2g})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proof:
    """The result of a re-run. `faults`: why it failed; `notes`: remarks in either case.

    `pictures`: how many were answered, of which `pixels_equal` gave the same input, and `answers_equal` got the same
    answer; where two answers are so close that the precision may exchange them, either counts. `differences`: from
    the origin's logits and from the artefact's own, on the pictures whose input is the same.
    """

    outcome: Outcome
    runs_on: str = ""
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pictures: int = 0
    pixels_equal: int = 0
    answers_equal: int = 0
    differences: tuple[Difference, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether the artefact answers here as its passport says."""
        return self.outcome == "proven"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; a difference that is not finite is null."""
        found = dataclasses.asdict(self)
        for difference in found["differences"]:
            difference["largest"] = difference["largest"] if np.isfinite(difference["largest"]) else None
        return {**found, **{name: list(found[name]) for name in ("faults", "notes", "differences")}}

    def __str__(self) -> str:
        if not self.pictures:
            return f"{'unproven' if self.outcome == 'unproven' else 'not proven'}: {'; '.join(self.faults)}"
        far = ", ".join(map(str, self.differences))
        figures = [
            f"{self.pixels_equal} of {self.pictures} inputs equal",
            f"largest logit difference {far}" if far else "no logits compared",
            f"{self.answers_equal} of {self.pictures} answers the same",
            *self.notes,
        ]
        if self.outcome == "failed":
            return f"not proven on {self.runs_on}: {'; '.join(self.faults)}; {', '.join(figures)}"
        return f"proven on {self.runs_on}: {', '.join(figures)}"


def prove(model: str | Path, *, provider: str | None = None, threads: int = 0, key: str | Path | None = None) -> Proof:
    """Re-run the passport of a model file here, through the path that will answer.

    Args:
        model: An ONNX file or an engine.
        provider: ONNX Runtime's provider: "cpu", "cuda", "tensorrt" or "rtx"; None for "cpu".
        threads: Threads of one inference on the CPU; 0 for one per core.
        key: A PEM file with an Ed25519 public key, whose owner must have signed the model's files (docs/proof.md).

    Returns:
        The result; `proven` is False where it failed, where the file cannot be loaded or its contract cannot be
        read, where it carries no passport, and where `key` did not sign it.

    Raises:
        ArtefactError: The file is missing or not readable.
        DeviceError: The file is an engine, and there is no GPU or driver to run it on.
        ProviderError: The provider cannot be used here.
        UsageError: An argument is wrong, or does not fit the file.
        MissingDependencyError: A package that the file needs, or cryptography for `key`, is not installed.
    """
    path = named_path(model, "model")
    check_file(path, may_be_empty=True)  # which is damage, and no wrong path
    try:
        if key is not None:
            check_signature(path, Path(key))
        with Classifier.from_file(model, provider=provider, threads=threads) as classifier:
            found = proof_of(classifier)
    except ArtefactError as error:
        return Proof(outcome="failed", faults=(str(error),))
    return found if key is None else dataclasses.replace(found, notes=(*found.notes, f"signed by {key}"))


def proof_of(classifier: Classifier) -> Proof:
    """Re-run the passport of a loaded model; the outcome is `failed` where it gives no answer."""
    passport, runs_on = classifier.card.proof, runs_on_text(classifier.backend)
    if passport is None:
        return Proof(outcome="unproven", runs_on=runs_on, faults=(NO_PASSPORT,))
    try:
        return _proof(classifier, passport, runs_on)
    except ArtefactError as error:
        return Proof(outcome="failed", runs_on=runs_on, faults=(str(error),))


def proof_at_start(classifier: Classifier, mode: Mode) -> Proof | None:
    """Prove a model before it is used; return None for the mode "off". ProofError where it fails in the mode "on"."""
    if mode == "off":
        return None
    return check_proof(classifier) if mode == "on" else proof_of(classifier)


def check_proof(classifier: Classifier) -> Proof:
    """Prove a model before it is used or another file is made of it; ProofError where it fails.

    A model without a passport passes.
    """
    found = proof_of(classifier)
    if found.outcome == "failed":
        raise ProofError(f"{classifier.backend.path}: {found}; copy it again, or export it again")
    return found


@contextlib.contextmanager
def proven_file(path: Path, sha256: str, *, threads: int = 0) -> Iterator[Classifier]:
    """Give the model of an ONNX file, loaded and passed by `check_proof`, to what makes another file of its content.

    `sha256`: of the content that was read before, by `sha256_with_weights`. ArtefactError at the end where the file, or
    its weights, are others by then: the proof may be of another model. `threads`: as for OrtBackend.
    """
    with Classifier(OrtBackend(path, threads=threads)) as classifier:
        with working("proving the model"):
            check_proof(classifier)
        yield classifier
    with contextlib.suppress(OSError):  # it was removed
        if sha256_with_weights(path) == sha256:
            return
    raise ArtefactError(f"{path}: got another file than the one that was read, expected the same; start again")


def runs_on_text(backend: Backend) -> str:
    """Say where a loaded model computes, for `Logits.source`: runs with the same text should agree closely."""
    return f"{backend.runs_on} on {platform.machine()}"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The pictures of a passport as the network gets them.

    `pixels`: uint8 RGB (N, H, W, 3). `equal`: whether each is the passport's, bool (N,). `other_order`: how
    many became equal only with the two passes of the resize in the order that Pillow does not use here.
    """

    pixels: NDArray[np.uint8]
    equal: NDArray[np.bool_]
    other_order: int


def prepared_pictures(classifier: Classifier, passport: Passport) -> Prepared:
    """Draw the pictures and prepare them as the classifier does.

    Releases of Pillow differ in the axis that they resize first, which changes some pixels by one level. Where the
    other order gives the passport's pixels, those are taken: the arithmetic is then compared on the same input.
    """
    spec = classifier.card.input
    prepared, equal, other_order = [], [], 0
    for seed, expected in zip(passport.seeds, passport.pixels_sha256):
        picture = proof_picture(seed, spec)
        pixels = classifier.prepare(picture)
        same = sha256_of_pixels(pixels) == expected
        if not same:
            turned = [resize_by_axes(picture, spec, axis) for axis in AXES]
            match = [each for each in turned if sha256_of_pixels(each) == expected]
            if match:
                pixels, same, other_order = match[0], True, other_order + 1
        prepared.append(pixels)
        equal.append(same)
    return Prepared(np.stack(prepared), np.array(equal), other_order)


def _proof(classifier: Classifier, passport: Passport, runs_on: str) -> Proof:
    if passport.version > VERSION:
        raise ArtefactError(
            f"got a passport of version {passport.version}, expected at most {VERSION}: the file was made by a newer "
            "taijitu; install that"
        )
    pictures, on_gpu, own = len(passport.seeds), classifier.backend.on_gpu, passport.own
    origin = dataclasses.replace(passport.origin, allowed=passport.allowed_on_gpu) if on_gpu else passport.origin
    expected = origin.array(pictures, len(classifier.labels))
    own_logits = None if own is None else own.array(pictures, len(classifier.labels))
    prepared = prepared_pictures(classifier, passport)
    logits = classifier.logits(prepared.pixels)
    references = [origin, own] if own is not None and own.source == runs_on else [origin]
    equal = prepared.equal
    span = logit_range(expected, classifier.card.output)
    differences = [_difference(logits, each, equal, span) for each in references] if equal.any() else []
    differ = _changed_answers(logits, expected, origin.allowed * span)
    if own is not None and own_logits is not None and not on_gpu:
        allowed = min(origin.allowed, OTHER_CPU_FACTOR * own.allowed)
        differ |= _changed_answers(logits, own_logits, allowed * span)
    changed = int(differ.sum())
    faults = [*_decoder_faults(), *_label_faults(classifier, passport), *_pixel_faults(prepared, passport)]
    far = [str(difference) for difference in differences if not difference.is_allowed]
    faults += [f"arithmetic differs: {' and '.join(far)} of the logit range"] if far else []
    faults += [f"{changed} of {pictures} answers differ"] if changed else []
    turned = prepared.other_order
    notes = (f"{turned} of them with Pillow's passes in the other order",) if turned else ()
    return Proof(
        outcome="failed" if faults else "proven",
        runs_on=runs_on,
        faults=tuple(faults),
        notes=notes,
        pictures=pictures,
        pixels_equal=int(equal.sum()),
        answers_equal=pictures - changed,
        differences=tuple(differences),
    )


def _difference(logits: NDArray[np.float32], reference: Logits, equal: NDArray[np.bool_], span: float) -> Difference:
    expected = reference.array(*logits.shape).astype(np.float64)
    with np.errstate(invalid="ignore"):  # is_allowed then refuses a re-run that is not finite
        largest = float(np.abs(logits[equal] - expected[equal]).max())
    share = largest / span if span else (0.0 if largest == 0.0 else np.inf)
    return Difference(reference.source, share, reference.allowed)


def _changed_answers(logits: NDArray[np.float32], reference: NDArray[np.float32], allowed: float) -> NDArray[np.bool_]:
    """Return which first answers differ, bool (N,), except those that differences up to `allowed` may exchange."""
    rows = np.arange(len(reference))
    was, now = reference.argmax(axis=1), logits.argmax(axis=1)
    lead = reference[rows, was].astype(np.float64) - reference[rows, now]
    return np.asarray(~np.isfinite(logits).all(axis=1) | ~(lead <= 2 * allowed))


def _decoder_faults() -> list[str]:
    error = decoder_error()
    return [f"the JPEG decoder is {error} levels off (allowed {ALLOWED_LEVELS})"] if error > ALLOWED_LEVELS else []


def _label_faults(classifier: Classifier, passport: Passport) -> list[str]:
    same = sha256_of_labels(classifier.labels) == passport.labels_sha256
    return [] if same else ["the labels, or their order, are not those of the passport"]


def _pixel_faults(prepared: Prepared, passport: Passport) -> list[str]:
    """Say whether all inputs differ or only the resized ones, which distinguishes a resize from a crop or a colour."""
    equal = prepared.equal
    if equal.all():
        return []
    exact = [same for same, seed in zip(equal, passport.seeds) if is_exact(seed)]
    kind = "resize" if exact and all(exact) else "resize, crop or colour"
    return [f"pixels differ in {int((~equal).sum())} of {len(equal)} inputs: {kind}"]

"""Judge a candidate on real pictures: against a reference, against labels, or both."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx

from taijitu_export.comparison.allowances import ALLOWED_DROP_POINTS, LEAST_ALLOWED_ERROR, MOST_ALLOWED_ERROR
from taijitu_export.comparison.classes import absent_labels, calibration_error, first_answers
from taijitu_export.comparison.comparison import Accuracy, Comparison, accuracy, chance_share, compare, most_different
from taijitu_export.comparison.divergence import Divergence, divergence
from taijitu_export.comparison.evidence import Evidence, answered
from taijitu_export.comparison.intermediates import input_of
from taijitu_export.comparison.reference import is_zip
from taijitu_export.comparison.verdict import (
    Verdict,
    verdict_on_accuracy,
    verdict_on_finiteness,
    verdict_on_labels,
    verdict_on_logits,
    verdict_without_promise,
)
from taijitu_export.errors import ExportError
from taijitu_export.onnx.forms import FORM_OF_LAYOUT
from taijitu_export.onnx.onnx_from_checkpoint import onnx_from_checkpoint
from taijitu_export.percentages import check_percentage
from taijitu_export.sample_pictures import SAMPLE_PICTURES, sample_pictures
from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import working
from taijitu_runtime.datasets import PictureSet, TrainedOn, check_skipping, evaluation_pictures
from taijitu_runtime.datasets.names import role_of
from taijitu_runtime.decision.decision import temperature_of
from taijitu_runtime.errors import ArtefactError, UsageError
from taijitu_runtime.machine import at_most_cores
from taijitu_runtime.model_files import is_onnx
from taijitu_training import checkpoint

EXPLAINED_PICTURES = 8


@dataclasses.dataclass(frozen=True)
class Verification:
    """A verdict and its evidence.

    `max_drop`: the percentage points that were allowed. `comparison`: None without a reference. `accuracy`: the
    candidate's, None without labels. `calibration_errors`: the expected calibration error in percentage points of
    "candidate" and "reference", each after its card's temperature; those that labels tell. `divergence`: if an
    explanation was asked for, or why there is none.
    """

    verdict: Verdict
    card: ModelCard
    evidence: Evidence
    max_drop: float
    comparison: Comparison | None
    accuracy: Accuracy | None
    calibration_errors: dict[str, float]
    not_finite: int
    divergence: Divergence | str | None = None


def verify_file(
    candidate: Path,
    data: Path | None = None,
    reference: Path | None = None,
    *,
    max_drop: float | None = None,
    expect: float | None = None,
    explain: bool = False,
    threads: int = 0,
    skip_unreadable: bool = False,
) -> Verification:
    """Judge a model file.

    `data`: a folder or tar of pictures (see `evaluation_pictures`); without it, generated pictures are used.
    `reference`: a checkpoint or a model file with the same labels. `max_drop`: percentage points of top-1 accuracy that
    it may cost on pictures with labels, None for its precision's own allowance. `expect`: top-1 accuracy in percent
    that it should reach without a reference, None for the one in its card. `explain`: if it is not fine, compare the
    graphs layer by layer. `threads`: cores that it uses, 0 for all. `skip_unreadable`: leave out
    pictures that cannot be decoded, which are an error otherwise. Raises the errors of artefacts, checkpoints, pictures
    and usage; what is wrong with the candidate's answers is in the verdict.
    """
    if explain and reference is None:
        raise UsageError("got --explain alone, expected a graph to compare with; give --reference")
    check_skipping(skip_unreadable, data)
    max_drop = check_percentage("--max-drop", max_drop)
    expect = check_percentage("--expect", expect)
    with at_most_cores(threads), Classifier.from_file(candidate, threads=threads) as classifier:
        card = classifier.card
        pictures = None if data is None else evaluation_pictures(data, card.labels, TrainedOn.from_card(card.training))
        if expect is not None and (pictures is None or pictures.targets is None or reference is not None):
            raise UsageError(
                f"got {expect:g} % expected, which judges labelled pictures without a reference; give --data alone"
            )
        if max_drop is not None:
            _check_max_drop(max_drop, card, expect, pictures, has_reference=reference is not None)
        if skip_unreadable and pictures is not None:
            pictures = pictures.readable(card.input)
        evidence, other = answered(classifier, reference, pictures, threads)
        on_gpu = classifier.backend.on_gpu
    max_drop = ALLOWED_DROP_POINTS[card.precision.name] if max_drop is None else max_drop
    found = _judged(card, other, evidence, max_drop, expect, on_gpu=on_gpu)
    if explain and reference is not None and not found.verdict.fine:
        with at_most_cores(threads), working("comparing the layers"):
            return dataclasses.replace(found, divergence=_explained(candidate, reference, card.input, evidence))
    return found


def _check_max_drop(
    max_drop: float, card: ModelCard, expect: float | None, pictures: PictureSet | None, *, has_reference: bool
) -> None:
    """Raise UsageError where no accuracy drop is judged."""
    if pictures is None or pictures.targets is None:
        why = "which judges labelled pictures; give --data with labels, or remove it"
    elif has_reference and len(card.labels) == 1:
        why = "which judges answers, and a network with one label, which is judged by its logits; remove it"
    elif not has_reference and _promise(card, expect, pictures) is None:
        why = "and nothing that the accuracy may drop from; give --reference or --expect PERCENT, or remove it"
    else:
        return
    raise UsageError(f"got --max-drop {max_drop:g}, {why}")


def _judged(
    card: ModelCard,
    reference: ModelCard | None,
    evidence: Evidence,
    max_drop: float,
    expect: float | None,
    *,
    on_gpu: bool,
) -> Verification:
    got, targets = evidence.candidate, evidence.targets
    measured = None if targets is None else accuracy(got, targets)
    not_finite = int((~np.isfinite(got)).any(axis=1).sum())
    comparison = None if evidence.reference is None else compare(got, evidence.reference, targets, card.output)
    if comparison is not None and reference is not None:
        if comparison.labelled is not None:
            verdict = verdict_on_labels(comparison, comparison.labelled, max_drop)
        else:
            verdict = verdict_on_logits(comparison, *_coarser(card, reference, on_gpu=on_gpu))
    elif measured is None or targets is None or not_finite:
        verdict = verdict_on_finiteness(not_finite, len(got))
    elif (promise := _promise(card, expect, evidence.pictures)) is not None:
        verdict = verdict_on_accuracy(measured, len(got), len(card.labels), *promise, max_drop, chance_share(targets))
    else:
        split = "" if evidence.pictures is None else role_of(evidence.pictures.split)
        verdict = verdict_without_promise(measured, chance_share(targets), split)
    return Verification(
        verdict.with_not_judged(_not_judged(card, evidence, on_gpu=on_gpu)),
        card,
        evidence,
        max_drop,
        comparison,
        measured,
        _calibration_errors(card, reference, evidence),
        not_finite,
    )


def _calibration_errors(card: ModelCard, reference: ModelCard | None, evidence: Evidence) -> dict[str, float]:
    models = [("candidate", evidence.candidate, card), ("reference", evidence.reference, reference)]
    return {
        name: calibration_error(first_answers(logits, evidence.targets, own.output, temperature_of(own.decision)))
        for name, logits, own in models
        if evidence.targets is not None and logits is not None and own is not None
    }


def _coarser(card: ModelCard, reference: ModelCard, *, on_gpu: bool) -> tuple[str, float]:
    """Return the precision by which the logits of both are judged, the coarser one, and the error that it may have."""
    return max((_allowed(card, on_gpu=on_gpu), _allowed(reference, on_gpu=False)), key=lambda pair: pair[1])


def _allowed(card: ModelCard, *, on_gpu: bool) -> tuple[str, float]:
    name, recorded = card.precision.name, card.precision.allowed_logit_error
    if name == "fp32" and on_gpu:
        name = "fp16"  # TensorRT multiplies float32 with the 11 bits of TF32
    most = MOST_ALLOWED_ERROR[name]
    if recorded is not None and name in LEAST_ALLOWED_ERROR:
        return name, min(max(recorded, LEAST_ALLOWED_ERROR[name]), most)
    return name, most


def _promise(card: ModelCard, expect: float | None, judged: PictureSet | None) -> tuple[float, str] | None:
    """Return the expected top-1 accuracy in percent, from the user or from training, and its source.

    That of val says nothing certain about test: it chose the epoch.
    """
    if expect is not None:
        return expect, "expected are"
    metrics = card.training.get("metrics")
    if not isinstance(metrics, dict):
        return None
    split = "" if judged is None else role_of(judged.split)
    evaluated = role_of(str(card.training.get("evaluation", "")).partition(" (")[0])
    name = "test_top1" if split == "test" and "test_top1" in metrics else "eval_top1"
    if name == "eval_top1" and {split, evaluated} == {"test", "val"}:
        return None
    recorded = metrics.get(name)
    if isinstance(recorded, (int, float)) and 0 <= recorded <= 100:
        return float(recorded), "its card records"
    return None


def _not_judged(card: ModelCard, evidence: Evidence, *, on_gpu: bool) -> list[str]:
    """Return what these pictures, and this processor, cannot show."""
    targets, left = evidence.targets, []
    if evidence.pictures is None:
        left.append("real pictures: without --data, generated ones were used")
    if targets is None:
        left.append("accuracy: the pictures have no labels")
    elif len(card.labels) == 1:
        left.append("accuracy: with one label alone every answer is right")
    elif (absent := absent_labels(card.labels, targets)) is not None:
        left.append(absent)
    if evidence.reference is None:
        left.append("what its conversion changed: no --reference was given")
    if card.precision.name == "fp16" and not on_gpu:
        left.append("float16's own rounding: ONNX Runtime's CPU computes most of it in float32 (export did judge it)")
    return left


def _explained(candidate: Path, reference: Path, spec: InputSpec, evidence: Evidence) -> Divergence | str:
    if not is_onnx(candidate) or not (is_onnx(reference) or is_zip(reference)):
        return "the layers of an engine cannot be seen; explain the .onnx that it was built from"
    assert evidence.reference is not None
    chosen = np.sort(most_different(evidence.candidate, evidence.reference, EXPLAINED_PICTURES))
    if evidence.pictures is None:
        images = sample_pictures(SAMPLE_PICTURES, spec.height, spec.width)[chosen]
    else:
        images = evidence.pictures.subset(chosen).array(spec)
    ours = onnx.load(candidate)
    theirs = _reference_graph(reference, ours)
    try:
        found = divergence(ours, theirs, images)
    except (ArtefactError, ExportError) as error:
        return str(error)
    return "every layer gives the same numbers in both" if found.is_none else found


def _reference_graph(reference: Path, candidate: onnx.ModelProto) -> onnx.ModelProto:
    """Return the reference as a float32 graph; a checkpoint is exported in the candidate's form."""
    if is_onnx(reference):
        return onnx.load(reference)
    return onnx_from_checkpoint(
        checkpoint.load(reference),
        input_form=FORM_OF_LAYOUT[input_of(candidate)[0]],
        nish="op" if candidate.functions else "decomposed",
    )

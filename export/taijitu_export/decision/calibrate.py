"""Calibrate an ONNX file's answers on pictures with labels: half of them choose, the other half measure."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.comparison.classes import absent_labels
from taijitu_export.decision.choosing import FEWEST_OTHERS, LabelledLogits, accepted_others, decision_of, halves
from taijitu_export.decision.conformal import is_covered
from taijitu_export.decision.temperature import HIGHEST, LOWEST
from taijitu_export.decision.threshold import ThresholdRequest, coverage_row
from taijitu_export.errors import ExportError
from taijitu_export.onnx.onnx_file import OnnxFile, read_onnx
from taijitu_export.progress import tracked
from taijitu_runtime.answers import scores_from_logits
from taijitu_runtime.card import METADATA_PREFIX, ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import shown
from taijitu_runtime.datasets import PictureSet, TrainedOn, evaluation_and_other_pictures, fingerprints, scan_folder
from taijitu_runtime.decision.decision import CoverageRow, Decision
from taijitu_runtime.decision.rule import DecisionRule
from taijitu_runtime.errors import UsageError, check_number, listed
from taijitu_runtime.files import write_whole
from taijitu_runtime.labels import composed
from taijitu_runtime.machine import at_most_cores
from taijitu_runtime.model_files import is_onnx
from taijitu_runtime.output_path import check_output_path
from taijitu_runtime.proof.prove import proven_file

BATCH = 64


@dataclasses.dataclass(frozen=True)
class CalibrateResult:
    """The choices, and their values measured on the half that did not choose.

    `row`: of the threshold, None without one. `others_by_score`: percent of pictures of none of the labels that each
    score would call known, of those that meet the request; empty without such pictures. `set_coverage`: percent of
    pictures whose label is in its set, `by_label` the same for each label that has pictures, `set_size` how many labels
    a set has on average; None, empty and None without sets. `remarks`: lines about the pictures.
    """

    output: Path
    labels: tuple[str, ...]
    decision: Decision
    row: CoverageRow | None
    others_by_score: dict[str, float]
    set_coverage: float | None
    by_label: dict[str, float]
    set_size: float | None
    remarks: tuple[str, ...]


def calibrate_file(
    model: Path,
    data: Path,
    output: Path,
    *,
    threshold: ThresholdRequest,
    guarantee: float | None = None,
    other: str | None = None,
    threads: int = 0,
    skip_unreadable: bool = False,
) -> CalibrateResult:
    """Write `output`, the ONNX file `model` with a decision in its card.

    `data`: a folder or tar of pictures with labels that the network was not trained on. `guarantee`: percent, for label
    sets. `other`: what shows none of these: a label of the model, a label of `data`, or a folder of pictures, whichever
    exists first. `skip_unreadable`: leave out pictures that cannot be decoded. ExportError where pictures are too few
    or no threshold meets the request, and the errors of artefacts, pictures and usage.
    """
    if not is_onnx(output):
        raise UsageError(f"got {output} as the output, expected a name in .onnx; give -o calibrated.onnx")
    check_output_path(output)
    if other == "":  # a variable of the shell that is not set; as a path, it would be the working directory
        raise _no_other(other)
    if guarantee is not None:
        expected = "a number of percent from 0 to less than 100, which no number of pictures shows"
        check_number("--guarantee", guarantee, 0, 100, expected, below=True)
        guarantee = float(guarantee)
    file = read_onnx(model, "a model made by taijitu onnx or taijitu adopt")
    card = ModelCard.read_onnx_metadata(file.metadata, file.path)
    if card.output != "logits":
        raise UsageError(
            f"{model}: got a network whose output holds {card.output}, expected logits; adopt it with them"
        )
    other = next((label for label in card.labels if other is not None and composed(label) == composed(other)), other)
    with at_most_cores(threads):
        pictures, targets, others = _pictures(data, card, other, skip_unreadable=skip_unreadable)
        with proven_file(model, file.sha256, threads=threads) as classifier:
            logits = _logits(classifier, pictures)
            logits_of_others = None if others is None else _logits(classifier, others)
    other_label = other if other in card.labels else None
    other_index = None if other_label is None else card.labels.index(other_label)
    choosing, measuring = halves(logits, targets, logits_of_others, other_index)
    decision = decision_of(
        choosing,
        measuring,
        threshold,
        guarantee,
        other=other_label,
        pictures=len(pictures),
        data_sha256=hashlib.sha256("\n".join(sorted(pictures.prints or ())).encode()).hexdigest(),
    )
    remarks = _remarks(pictures, others, decision.temperature)
    result = _result(output, card.labels, decision, threshold, choosing, measuring, remarks)
    write_whole(output, with_decision(file, card, decision))
    return result


def _pictures(
    data: Path, card: ModelCard, other: str | None, *, skip_unreadable: bool
) -> tuple[PictureSet, NDArray[np.int64], PictureSet | None]:
    """Return the pictures with labels, their targets, and the pictures of none of the labels.

    None where these are not asked for, or have a label of the model.
    """
    pictures, found = evaluation_and_other_pictures(data, card.labels, TrainedOn.from_card(card.training), other)
    others = None if other is None or other in card.labels else _others(found, other, card.labels)
    if skip_unreadable:
        pictures = pictures.readable(card.input)
        others = None if others is None else others.readable(card.input)
    if others is not None and len(others) < FEWEST_OTHERS:
        raise ExportError(f"got {others}, expected at least {FEWEST_OTHERS} that show none of the labels; give more")
    if pictures.targets is None:
        raise UsageError(f"{data}: got pictures without labels, expected a folder for each label; sort them")
    return pictures, pictures.targets, others


def _remarks(pictures: PictureSet, others: PictureSet | None, temperature: float) -> tuple[str, ...]:
    """Return lines about the pictures with labels, those of none of the labels, and both."""
    remarks = [str(pictures), *pictures.remarks]
    if others is not None:
        remarks += [f"others: {others}", *others.remarks]
        labelled = set(pictures.prints or ())
        both = [name for name, one in zip(others.names, others.prints or ()) if one in labelled]
        if both:
            remarks.append(
                f"warning: {len(both)} of the others have a label in the data too ({shown(listed(both, 1))}); the "
                "score and its figures mislead: take them out of either"
            )
    if temperature in (LOWEST, HIGHEST):
        remarks.append(
            f"warning: temperature {temperature:g} is the {'lowest' if temperature == LOWEST else 'highest'} that is "
            "tried, so the answers are all right or hardly related to the labels; look at the accuracy and the data"
        )
    if pictures.targets is not None and (absent := absent_labels(pictures.labels, pictures.targets)) is not None:
        remarks.append(f"not calibrated on {absent}")
    return tuple(remarks)


def with_decision(file: OnnxFile, card: ModelCard, decision: Decision) -> bytes:
    """Return the content of the file with a decision in its card; everything else stays as it is."""
    key = f"{METADATA_PREFIX}decision"
    written = dataclasses.replace(card, decision=decision).to_metadata()[key]
    onnx.helper.set_model_props(file.model, {**file.metadata, key: written})
    content: bytes = file.model.SerializeToString()
    return content


def _others(of_data: PictureSet, other: str, labels: tuple[str, ...]) -> PictureSet:
    """Return the pictures of none of the labels: those with the label `other` in the data, or of a folder."""
    folder = Path(other)
    if len(of_data):
        others = of_data
    elif os.path.isdir(folder):  # noqa: PTH112 -- Path.is_dir raises for a name that is too long
        found = scan_folder(folder)
        contents = list(found.pictures.values())
        others = PictureSet(folder, "", contents, None, labels, found.left_out, prints=tuple(fingerprints(contents)))
    else:
        raise _no_other(other)
    return others


def _no_other(got: str) -> UsageError:
    return UsageError(
        f"got --other {shown(got) or 'an empty name'}, expected a label of the model, a label of the data, or a folder "
        "of pictures; check the name"
    )


def _logits(classifier: Classifier, pictures: PictureSet) -> NDArray[np.float32]:
    batches = pictures.batches(classifier.card.input, BATCH)
    found = [classifier.logits(batch) for batch in tracked("answering", batches, -(-len(pictures) // BATCH))]
    logits = np.concatenate(found)
    classifier.scores(logits)  # refuses what is not finite
    return logits


def _result(
    output: Path,
    labels: tuple[str, ...],
    decision: Decision,
    request: ThresholdRequest,
    choosing: LabelledLogits,
    measuring: LabelledLogits,
    remarks: tuple[str, ...],
) -> CalibrateResult:
    """Return the decision with its values measured on the half that did not choose."""
    row = None
    if decision.threshold is not None:
        scores, others = measuring.scores(decision.score, decision.temperature)
        row = coverage_row(decision.threshold, scores, measuring.right, others)
    by_score = accepted_others(choosing, measuring, request, decision.temperature)
    result = CalibrateResult(output, labels, decision, row, by_score, None, {}, None, remarks)
    if decision.guarantee is None:
        return result
    members = scores_from_logits(measuring.logits, decision.temperature).members(DecisionRule(labels, decision))
    inside = is_covered(members, measuring.targets)
    by_label = {labels[i]: 100 * float(inside[measuring.targets == i].mean()) for i in np.unique(measuring.targets)}
    return dataclasses.replace(
        result,
        set_coverage=100 * float(inside.mean()),
        by_label=by_label,
        set_size=float(members.sum(axis=1).mean()),
    )

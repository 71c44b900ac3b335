"""Calibrate an ONNX file's answers on pictures with labels: half of them choose, the other half measure."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.comparison.classes import absent_labels, calibration_error, first_answers
from taijitu_export.decision.conformal import is_covered, set_probability
from taijitu_export.decision.temperature import HIGHEST, LOWEST, best_temperature
from taijitu_export.decision.threshold import ThresholdRequest, coverage_row, coverage_table
from taijitu_export.errors import ExportError
from taijitu_export.onnx.onnx_file import OnnxFile, read_onnx
from taijitu_export.progress import tracked
from taijitu_runtime.answers import scores_from_logits
from taijitu_runtime.card import METADATA_PREFIX, ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import shown
from taijitu_runtime.datasets import PictureSet, TrainedOn, evaluation_and_other_pictures, fingerprints, scan_folder
from taijitu_runtime.decision.decision import SCORES, CoverageRow, Decision
from taijitu_runtime.decision.rule import DecisionRule, energies
from taijitu_runtime.errors import UsageError, listed
from taijitu_runtime.files import write_whole
from taijitu_runtime.model_files import is_onnx
from taijitu_runtime.output_path import check_output_path

FEWEST_PICTURES = 100
FEWEST_OTHERS = 20
BATCH = 64
USUAL_COVERAGE = 90.0
"""In percent; scores are compared at this coverage where the user asks for no threshold."""


@dataclasses.dataclass(frozen=True)
class LabelledLogits:
    """Logits, float32 (N, K), targets, int64 (N,), and logits of pictures of none of the labels, if there are any."""

    logits: NDArray[np.float32]
    targets: NDArray[np.int64]
    others: NDArray[np.float32] | None

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each first answer is right, bool (N,)."""
        return np.asarray(self.logits.argmax(axis=1) == self.targets)

    def scores(self, score: str, temperature: float) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return the scores of the pictures with labels, float64 (N,), and of the others."""
        found = [_scores(logits, score, temperature) for logits in (self.logits, self.others) if logits is not None]
        return found[0], found[1] if len(found) > 1 else None


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
    if guarantee is not None and not 0 <= guarantee < 100:
        raise UsageError(
            f"got --guarantee {guarantee:g}, expected a number of percent from 0 to less than 100, which no number of "
            "pictures shows"
        )
    file = read_onnx(model, "a model made by taijitu onnx or taijitu adopt")
    card = ModelCard.read_onnx_metadata(file.metadata, file.path)
    if card.output != "logits":
        raise UsageError(
            f"{model}: got a network whose output holds {card.output}, expected logits; adopt it with them"
        )
    labels = card.labels
    other_label = other if other in labels else None
    pictures, found = evaluation_and_other_pictures(data, labels, TrainedOn.from_card(card.training), other)
    others = None if other is None or other_label is not None else _others(found, other, labels)
    if skip_unreadable:
        pictures = pictures.readable(card.input)
        others = None if others is None else others.readable(card.input)
    if others is not None and len(others) < FEWEST_OTHERS:
        raise ExportError(f"got {others}, expected at least {FEWEST_OTHERS} that show none of the labels; give more")
    if pictures.targets is None:
        raise UsageError(f"{data}: got pictures without labels, expected a folder for each label; sort them")
    with Classifier.from_file(model, threads=threads) as classifier:
        logits = _logits(classifier, pictures)
        logits_of_others = None if others is None else _logits(classifier, others)
    other_index = None if other_label is None else labels.index(other_label)
    prints = fingerprints(pictures.contents)
    choosing, reporting = _halves(logits, pictures.targets, logits_of_others, other_index)
    decision = dataclasses.replace(
        _chosen(choosing, threshold, guarantee),
        other=other_label,
        pictures=len(pictures),
        data_sha256=hashlib.sha256("\n".join(sorted(prints)).encode()).hexdigest(),
    )
    result = _reported(decision, threshold, choosing, reporting, card, output)
    write_whole(output, with_decision(file, card, result.decision))
    return dataclasses.replace(result, remarks=_remarks(pictures, prints, others, decision.temperature))


def _remarks(
    pictures: PictureSet, prints: Sequence[str], others: PictureSet | None, temperature: float
) -> tuple[str, ...]:
    """Return lines about the pictures with labels, whose hashes are `prints`, those of none of the labels, and both."""
    remarks = [str(pictures), *pictures.remarks]
    if others is not None:
        remarks += [f"others: {others}", *others.remarks]
        labelled = set(prints)
        both = [name for name, one in zip(others.names, fingerprints(others.contents)) if one in labelled]
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
    elif folder.is_dir():
        found = scan_folder(folder)
        others = PictureSet(folder, "", list(found.pictures.values()), None, labels, found.left_out)
    else:
        raise UsageError(
            f"got --other {other}, expected a label of the model, a label of the data, or a folder of pictures; check "
            "the name"
        )
    return others


def _logits(classifier: Classifier, pictures: PictureSet) -> NDArray[np.float32]:
    batches = pictures.batches(classifier.card.input, BATCH)
    found = [classifier.logits(batch) for batch in tracked("answering", batches, -(-len(pictures) // BATCH))]
    logits = np.concatenate(found)
    scores_from_logits(logits)  # refuses what is not finite
    return logits


def _halves(
    logits: NDArray[np.float32], targets: NDArray[np.int64], others: NDArray[np.float32] | None, other: int | None
) -> tuple[LabelledLogits, LabelledLogits]:
    """Divide every label's pictures into two halves; those of the label `other` show none of the labels."""
    if other is not None:
        logits, targets, others = logits[targets != other], targets[targets != other], logits[targets == other]
        if len(others) < FEWEST_OTHERS:
            raise ExportError(f"got {len(others)} pictures of --other, expected at least {FEWEST_OTHERS}; give more")
    if len(logits) < FEWEST_PICTURES:
        raise ExportError(
            f"got {len(logits)} pictures with labels, expected at least {FEWEST_PICTURES}: half of them choose, the "
            "other half measure; give more"
        )
    generator = np.random.default_rng(0)
    mixed = generator.permutation(len(logits))
    mixed = mixed[np.argsort(targets[mixed], kind="stable")]
    mixed_others = None if others is None else others[generator.permutation(len(others))]
    first, second = (
        LabelledLogits(
            logits[mixed[at::2]], targets[mixed[at::2]], None if mixed_others is None else mixed_others[at::2]
        )
        for at in (0, 1)
    )
    return first, second


def _scores(logits: NDArray[np.float32], score: str, temperature: float) -> NDArray[np.float64]:
    if score == "energy":
        return energies(logits, temperature)
    largest: NDArray[np.float64] = scores_from_logits(logits, temperature).probabilities.max(axis=1).astype(np.float64)
    return largest


def _chosen(half: LabelledLogits, request: ThresholdRequest, guarantee: float | None) -> Decision:
    """Return the choices of this half; the fields with their measured values are filled in later."""
    temperature = best_temperature(half.logits, half.targets)
    score = _best_score(half, request, temperature)
    threshold = request.threshold(half.scores(score, temperature)[0], half.right)
    least: float | None = None
    if guarantee is not None:
        probabilities = scores_from_logits(half.logits, temperature).probabilities.astype(np.float64)
        least = set_probability(probabilities[np.arange(len(half.targets)), half.targets], guarantee)
    return Decision(
        temperature=temperature,
        score=score,
        threshold=threshold,
        guarantee=guarantee,
        set_probability=least,
        chosen=str(request),
        pictures=1,
        data_sha256="0" * 64,
        calibration_error_before=0.0,
        calibration_error=0.0,
        table=(),
    )


def _best_score(half: LabelledLogits, request: ThresholdRequest, temperature: float) -> str:
    """Return the score that accepts fewer pictures of none of the labels; without such pictures the probability."""
    accepted = _accepted_others(half, half, request, temperature)
    return min(accepted, key=lambda score: accepted[score]) if accepted else "probability"


def _accepted_others(
    choosing: LabelledLogits, measuring: LabelledLogits, request: ThresholdRequest, temperature: float
) -> dict[str, float]:
    """Return by score how many percent of `measuring`'s pictures of none of the labels its threshold accepts.

    Thresholds come from `choosing`; a score by which none meets the request is left out. Empty without such pictures,
    and where the request is of the probability.
    """
    if request.reject is not None or measuring.others is None:
        return {}
    compared = request if request.asks else ThresholdRequest(coverage=USUAL_COVERAGE)
    accepted = {}
    for score in SCORES:
        with contextlib.suppress(ExportError):  # the other score may reach an accuracy that this one does not
            threshold = compared.threshold(choosing.scores(score, temperature)[0], choosing.right)
            _, others = measuring.scores(score, temperature)
            if others is not None and threshold is not None:
                accepted[score] = round(100 * float((others >= threshold).mean()), 2)
    return accepted


def _reported(
    decision: Decision,
    request: ThresholdRequest,
    choosing: LabelledLogits,
    half: LabelledLogits,
    card: ModelCard,
    output: Path,
) -> CalibrateResult:
    """Return the decision with its values measured on the half that did not choose."""
    temperature = decision.temperature
    scores, others = half.scores(decision.score, temperature)
    table = coverage_table(choosing.scores(decision.score, temperature)[0], scores, half.right, others)
    row = None
    if decision.threshold is not None:
        row = coverage_row(decision.threshold, scores, half.right, others)
    errors = [
        round(calibration_error(first_answers(half.logits, half.targets, temperature=each)), 2)
        for each in (1.0, temperature)
    ]
    decision = dataclasses.replace(
        decision, table=table, calibration_error_before=errors[0], calibration_error=errors[1]
    )
    by_score = _accepted_others(choosing, half, request, temperature)
    found = CalibrateResult(output, card.labels, decision, row, by_score, None, {}, None, ())
    if decision.guarantee is None:
        return found
    members = scores_from_logits(half.logits, temperature).members(DecisionRule(card.labels, decision))
    inside = is_covered(members, half.targets)
    by_label = {card.labels[i]: 100 * float(inside[half.targets == i].mean()) for i in np.unique(half.targets)}
    return dataclasses.replace(
        found,
        set_coverage=100 * float(inside.mean()),
        by_label=by_label,
        set_size=float(members.sum(axis=1).mean()),
    )

"""Is the classifier fine? A candidate on real pictures, against a reference, against labels, or both."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.comparison.comparison import Accuracy, Comparison, accuracy, compare
from taijitu_export.comparison.divergence import Divergence, divergence
from taijitu_export.comparison.reference import BATCH, Answering, class_order, is_checkpoint, open_reference
from taijitu_export.comparison.verdict import Verdict, verdict_alone, verdict_beside
from taijitu_export.errors import ExportError
from taijitu_export.onnx.onnx_from_checkpoint import onnx_from_checkpoint
from taijitu_export.pictures import PictureSet, evaluation_pictures
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import ArtefactError
from taijitu_runtime.console import Progress
from taijitu_training import checkpoint

RANDOM_PICTURES = 64
EXPLAINED_PICTURES = 8


@dataclasses.dataclass(frozen=True)
class Verification:
    """A verdict and what it rests on.

    `pictures`: what was judged with, in words; `names`, `labels`: of the pictures and classes that flips point to.
    `comparison`: None without a reference. `accuracy`: the candidate's, None without labels. `pictures_per_s`: of
    "candidate" and "reference", reading and decoding left out. `divergence`: where --explain was asked for, or why
    there is none.
    """

    verdict: Verdict
    pictures: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    comparison: Comparison | None
    accuracy: Accuracy | None
    not_finite: int
    pictures_per_s: dict[str, float]
    divergence: Divergence | str | None = None


def verify(
    candidate: Path,
    data: Path | None = None,
    reference: Path | None = None,
    *,
    max_drop: float = 0.5,
    explain: bool = False,
) -> Verification:
    """Judge a model file.

    `data`: a folder or tar of pictures (see pictures.find_pictures); without it random pictures stand in.
    `reference`: a checkpoint or a model file with the same labels. `max_drop`: points of top-1 accuracy that it may
    cost. `explain`: where it is not fine, compare the graphs layer by layer. The errors of artefacts, checkpoints,
    pictures and usage; whatever is wrong with the candidate's answers is in the verdict.
    """
    with Classifier.from_file(candidate, batch_size=BATCH) as classifier:
        card = classifier.card
        pictures = None if data is None else evaluation_pictures(data, card.labels)
        if reference is None:
            logits, speed = _answers({"candidate": classifier}, pictures)
            expected = None
        else:
            with open_reference(reference) as other:
                order = class_order(card, other.card)
                logits, speed = _answers({"candidate": classifier, "reference": other}, pictures)
            expected = logits["reference"][:, order]
            if not np.isfinite(expected).all():
                raise ArtefactError(
                    f"{reference}: got NaN or infinite logits, expected a sound reference; give another"
                )
    unseen = _unseen(pictures, rounding=classifier.backend.name != "onnxruntime" or card.precision.name != "fp16")
    found = _judged(card, pictures, logits["candidate"], expected, speed, max_drop, unseen)
    if explain and reference is not None and expected is not None and not found.verdict.fine:
        telling = _telling(logits["candidate"], expected)
        return dataclasses.replace(found, divergence=_explained(candidate, reference, card.input, pictures, telling))
    return found


def _answers(
    models: dict[str, Answering], pictures: PictureSet | None
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """Logits of each model for every picture, and pictures/s of each."""
    spec = models["candidate"].card.input
    logits: dict[str, list[NDArray[np.float32]]] = {name: [] for name in models}
    seconds = dict.fromkeys(models, 0.0)
    with Progress(RANDOM_PICTURES if pictures is None else len(pictures)) as progress:
        for batch in _batches(pictures, spec):
            for name, model in models.items():
                if not logits[name]:
                    model.logits(batch[:1])  # what a first call sets up is no part of the speed
                began = time.perf_counter()
                logits[name].append(model.logits(batch))
                seconds[name] += time.perf_counter() - began
            progress.advance(len(batch))
    whole = {name: np.concatenate(parts) for name, parts in logits.items()}
    return whole, {name: len(whole[name]) / seconds[name] for name in models}


def _batches(pictures: PictureSet | None, spec: InputSpec) -> Iterator[NDArray[np.uint8]]:
    if pictures is None:
        return iter([sample_pictures(RANDOM_PICTURES, spec.height, spec.width)])
    return pictures.batches(spec, BATCH)


def _judged(
    card: ModelCard,
    pictures: PictureSet | None,
    got: NDArray[np.float32],
    expected: NDArray[np.float32] | None,
    speed: dict[str, float],
    max_drop: float,
    unseen: Sequence[str],
) -> Verification:
    targets = None if pictures is None else pictures.targets
    measured = None if targets is None else accuracy(got, targets)
    not_finite = int((~np.isfinite(got)).any(axis=1).sum())
    comparison = None if expected is None else compare(got, expected, targets)
    if comparison is None:
        verdict = verdict_alone(card, measured, not_finite, len(got), max_drop, unseen)
    else:
        verdict = verdict_beside(comparison, max_drop, unseen)
    return Verification(
        verdict=verdict,
        pictures=f"{len(got)} random pictures" if pictures is None else str(pictures),
        names=tuple(f"random picture {i}" for i in range(len(got))) if pictures is None else pictures.names,
        labels=card.labels,
        comparison=comparison,
        accuracy=measured,
        not_finite=not_finite,
        pictures_per_s=speed,
    )


def _unseen(pictures: PictureSet | None, *, rounding: bool) -> list[str]:
    """What these pictures cannot show, and a processor whose float16 is not rounded as a GPU's is."""
    unseen = ["real pictures, for lack of --data: random ones stood in"] if pictures is None else []
    if not rounding:
        unseen.append("float16's own rounding: ONNX Runtime's CPU computes most of it in float32 (export did judge it)")
    return unseen


def _telling(got: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.int64]:
    """Up to eight pictures whose logits differ the most, in ascending order."""
    difference = np.nan_to_num(np.abs(got.astype(np.float64) - expected), nan=np.inf).max(axis=1)
    return np.sort(np.argsort(-difference, kind="stable")[:EXPLAINED_PICTURES])


def _explained(
    candidate: Path, reference: Path, spec: InputSpec, pictures: PictureSet | None, telling: NDArray[np.int64]
) -> Divergence | str:
    if not is_onnx(candidate):
        return "the layers of an engine cannot be seen; explain the .onnx that it was built from"
    if pictures is None:
        chosen = sample_pictures(RANDOM_PICTURES, spec.height, spec.width)[telling]
    else:
        chosen = pictures.subset(telling).array(spec)
    ours = onnx.load(candidate)
    try:
        return divergence(ours, _reference_graph(reference, ours), chosen)
    except ExportError as error:
        return str(error)


def _reference_graph(reference: Path, candidate: onnx.ModelProto) -> onnx.ModelProto:
    """The reference as a float32 graph; a checkpoint is exported in the candidate's form."""
    if not is_checkpoint(reference):
        return onnx.load(reference)
    uint8 = candidate.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    return onnx_from_checkpoint(
        checkpoint.load(reference),
        input_form="uint8" if uint8 else "float32",
        nish="op" if candidate.functions else "decomposed",
    )

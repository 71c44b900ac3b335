"""Make an artefact from a foreign ONNX file and prove that it answers like it; no other file appears."""

from __future__ import annotations

import dataclasses
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.adopt.agreement import Agreement, agreement, logits_of_original
from taijitu_export.adopt.finding.find import FoundContract, find_contract
from taijitu_export.adopt.like import preprocessing_of_metadata
from taijitu_export.adopt.onnx_from_foreign import Ending, Standard, ends_in, onnx_from_foreign, standard_graph
from taijitu_export.adopt.original import Original
from taijitu_export.adopt.preprocessing import Preprocessing
from taijitu_export.errors import ExportError
from taijitu_export.onnx.forms import ADOPTED_FORMS, LAYOUTS, Layout
from taijitu_export.onnx.onnx_file import opset_of, read_onnx
from taijitu_export.onnx.onnx_from_checkpoint import finished
from taijitu_export.onnx.passes.lower_to_opset_17 import OPSET
from taijitu_export.onnx_artefact import check_output, checked_file, sealed
from taijitu_export.passport import card_for_precision, with_passport
from taijitu_export.sample_pictures import SAMPLE_PICTURES, sample_pictures
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.card import Architecture, InputSpec, ModelCard, Precision, has_card
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import shown, working
from taijitu_runtime.errors import ArtefactError, TaijituError, UsageError, check_name, one_line, require
from taijitu_runtime.fields import is_one_line
from taijitu_runtime.files import write_whole
from taijitu_runtime.installed import taijitu_version
from taijitu_runtime.labels import checked_labels


@dataclasses.dataclass(frozen=True)
class AdoptResult:
    """The written file. `batch`: the only batch size that it takes, None for any. `notes`: what was not possible.

    `found`: the evidence for its contract, where that was found by pictures.
    """

    path: Path
    card: ModelCard
    ending: Ending
    batch: int | None
    opset: int
    size_bytes: int
    agreement: Agreement
    source: str
    notes: tuple[str, ...]
    found: FoundContract | None = None

    def report(self) -> list[str]:
        """Return lines for a terminal."""
        spec, count = self.card.input, len(self.card.labels)
        batch = "any batch" if self.batch is None else f"batches of {self.batch}"
        form = "pixels" if spec.float_values == "pixels" else "uint8"
        lines = [
            f"{self.path}: {self.size_bytes / 1e3:.0f} kB, opset {self.opset}, input {form}, {batch}, {count} labels",
            f"input, from {self.source}: {describe(spec)}",
        ]
        if self.ending != "logits":
            lines.append(f"output: {ENDINGS[self.ending]}")
        found = [] if self.found is None else self.found.report()
        return [*lines, f"checked against the original: {self.agreement}", *self.notes, *found]


ENDINGS = {
    "softmax": "its softmax is undone, so that logits are left",
    "probabilities": "independent probabilities, as they are; the card says so",
    "logit": "one logit, for the second label",
    "probability": "one probability, for the second label; its sigmoid is undone",
}


def adopt_file(
    source: Path,
    output: Path,
    known: Preprocessing,
    *,
    layout: Layout | None = None,
    name: str | None = None,
    find: Path | None = None,
    input_form: str = "uint8",
) -> AdoptResult:
    """Write `output`, an artefact made of the ONNX file `source`.

    Args:
        source: An image classifier of any exporter; weights may be in files next to it.
        output: The artefact.
        known: How its pictures are prepared, and its labels; missing parts are taken from the file's own
            metadata.
        layout: "nchw" or "nhwc", where the file does not say.
        name: Name of the network; by default that of the file.
        find: Pictures in a folder of each label; parts that nothing else gives are found by how well the network
            answers them.
        input_form: One of ADOPTED_FORMS, as for `export_onnx`.

    Raises:
        ExportError: The artefact would not answer like the original. An existing file at `output` is unchanged.
        ArtefactError: The file cannot be read, or is not a classifier.
        UsageError: A part of the contract is missing, or does not fit the network.
        UndecidedError: The pictures of `find` do not decide for one contract.
    """
    check_output(output, source)
    check_name("input form", input_form, ADOPTED_FORMS)
    if layout is not None:
        check_name("layout", layout, LAYOUTS)
    name = checked_name(name, source)
    file = read_onnx(source)
    if has_card(file.metadata):
        raise UsageError(f"{source}: got an artefact of taijitu, expected a file of another exporter; use it as it is")
    original = Original(file, layout)
    known = known.over(preprocessing_of_metadata(file.metadata))
    with working("rewriting the graph"):
        standard = standard_graph(file.model)
    found = None if find is None else find_contract(original, standard.model, known, find)
    if found is not None:
        known = dataclasses.replace(found.preprocessing, flags=known.flags)
    float_values = "pixels" if input_form == "pixels" else "normalised"
    spec = dataclasses.replace(known.spec(original.signature), float_values=float_values)
    pictures = sample_pictures(SAMPLE_PICTURES, spec.height, spec.width)
    classes = original.classes((spec.height, spec.width))
    labels = _labels(known, classes, source)
    answers = original.answers(pictures, spec)
    ending = _ending(standard, answers, labels, source)
    card = _card(original, spec, labels, name, ending)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.onnx"
        try:
            agreeing = _agreeing(original, standard, ending, card, (pictures, answers), trial)
        except ExportError as error:
            raise ExportError(f"{output}: not written: {error}") from error
        card = _with_passport(original, card, trial, ending)
        content = sealed(agreeing.model, card, trial)
    write_whole(output, content)
    return AdoptResult(
        path=output,
        card=card,
        ending=ending,
        batch=agreeing.batch,
        opset=opset_of(agreeing.model),
        size_bytes=len(content),
        agreement=agreeing.agreement,
        source=known.described_source,
        notes=(*standard.notes, *agreeing.notes, *_doubts(ending, answers)),
        found=found,
    )


def describe(spec: InputSpec) -> str:
    """Return the contract of an input in one line."""
    stretched = f"stretched to {spec.height}x{spec.width}"
    if spec.resize_size > min(spec.height, spec.width):
        stretched = f"stretched, shorter side {spec.resize_size}, centre {spec.height}x{spec.width}"
    sides = {
        "shorter_side": f"shorter side {spec.resize_size}, centre {spec.height}x{spec.width}",
        "stretch": stretched,
        "letterbox": f"letterbox {spec.height}x{spec.width} on {','.join(map(str, spec.fill))}",
    }
    mean, std = (" ".join(f"{number:g}" for number in numbers) for numbers in (spec.mean, spec.std))
    scale = "1/255" if spec.scale == 1 / 255 else f"{spec.scale:g}"
    return (
        f"{sides[spec.resize]}, {spec.interpolation.replace('_', ' ')}, {spec.colour}, times {scale}, mean {mean}, "
        f"std {std}"
    )


def checked_name(name: str | None, source: Path) -> str:
    """Return the network's name, by default the file's. UsageError for one with a slash or a control character."""
    if not source.name:
        raise UsageError(f"{source}: got a folder, expected an ONNX file; check the path")
    text = source.stem if name is None else name
    if not text or "/" in text or not is_one_line(text):
        raise UsageError(f"got the name {text!r}, expected one line of text without a slash; give --name")
    return text


@dataclasses.dataclass(frozen=True)
class _Agreeing:
    """A graph that answers like the original. `batch`: the only batch size that it takes, None for any."""

    model: onnx.ModelProto
    batch: int | None
    agreement: Agreement
    notes: tuple[str, ...]


def _agreeing(
    original: Original,
    standard: Standard,
    ending: Ending,
    card: ModelCard,
    sample: tuple[NDArray[np.uint8], NDArray[np.float32]],
    trial: Path,
) -> _Agreeing:
    """Return the first graph that answers like the original: for any batch, or for the file's own batch size.

    `sample`: prepared pictures, uint8 RGB (N, H, W, 3), and the original's answers to them. `trial`: a path; the graph
    is in this file afterwards. ExportError where no graph does.
    """
    failure: TaijituError
    reason = ""
    for batch in (None, original.signature.batch or 1):
        try:
            model = _made(original, card, standard, ending, batch)
            found = agreement(checked_file(model, trial), *sample, ending, original.precision)
        except (TaijituError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            failure = error if isinstance(error, TaijituError) else ExportError(one_line(error))
        else:
            if found.holds:
                return _Agreeing(model, batch, found, _notes(model, batch, reason))
            failure = ExportError(f"it would not answer like {original.file.path}: {found}")
        reason = reason or one_line(failure).removeprefix(f"{trial}: ").partition("; ")[0]
    raise ExportError(str(failure)) from failure


def _notes(model: onnx.ModelProto, batch: int | None, reason: str) -> tuple[str, ...]:
    """Say what was not possible. `reason`: why the graph does not take any batch."""
    notes: tuple[str, ...] = () if batch is None else (f"batches of {batch} only; with others: {reason}",)
    if (opset := opset_of(model)) > OPSET:
        notes += (f"opset {opset} stays: TensorRT 8.6 reads {OPSET} at most, later ones read it",)
    return notes


def _doubts(ending: Ending, answers: NDArray[np.float32]) -> tuple[str, ...]:
    """Say that numbers which are taken for logits look like probabilities, such as those of a sigmoid written out."""
    if ending not in ("logits", "logit") or not ((answers >= 0) & (answers <= 1)).all():
        return ()
    return (
        "every number is from 0 to 1 and taken for a logit; if they are probabilities, export the network with its "
        "sigmoid last",
    )


def _with_passport(original: Original, card: ModelCard, adopted: Path, ending: Ending) -> ModelCard:
    """Return the card with the original's answers to the pictures that the artefact can prove itself with."""
    with OrtBackend(adopted) as backend:
        logits = Classifier(backend).logits

        def origin(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
            return logits_of_original(original, pictures, card.input, ending)

        version = require("onnxruntime", "taijitu[export]").__version__
        card = with_passport(card, logits, origin, f"{shown(original.file.path.name)} on ONNX Runtime {version}")
        if card.precision.name != "fp32":
            card = card_for_precision(card, card.precision.name, logits)
        return card


def _made(
    original: Original, card: ModelCard, standard: Standard, ending: Ending, batch: int | None
) -> onnx.ModelProto:
    classes = 1 if ending in ("logit", "probability") else len(card.labels)
    graph = onnx_from_foreign(standard.model, original.signature, card.input, ending, classes, batch=batch)
    return finished(graph, card)


def _card(original: Original, spec: InputSpec, labels: tuple[str, ...], name: str, ending: Ending) -> ModelCard:
    file = original.file
    made_by = " ".join((file.model.producer_name, file.model.producer_version)).strip()
    adopted = {
        "file": shown(file.path.name),
        "producer": made_by if is_one_line(made_by) else "",
        "opset": opset_of(file.model),
        "ending": ending,
    }
    return ModelCard(
        architecture=Architecture(name, {"num_classes": len(labels)}),
        labels=labels,
        input=spec,
        training={"data": "unknown", "adopted": adopted, "date": f"{datetime.now(timezone.utc):%Y-%m-%d}"},
        producer={"taijitu": taijitu_version(), "onnx": onnx.__version__},
        source_sha256=file.sha256,
        precision=Precision(name=original.precision),
        output="probabilities" if ending == "probabilities" else "logits",
    )


def _ending(standard: Standard, answers: NDArray[np.float32], labels: tuple[str, ...], source: Path) -> Ending:
    """Return the network's last step, by its answers, float32 (N, K), that fits the labels."""
    if not np.isfinite(answers).all():
        raise ArtefactError(
            f"{source}: got NaN or infinite numbers for some pictures, expected a sound network; train it again"
        )
    ending = ends_in(standard.model, answers, len(labels))
    if len(labels) == 1 and ending != "probabilities":
        raise UsageError(
            f"{source}: got one label for one number without a sigmoid, of which softmax makes 100 % always, "
            "expected two labels, that of low numbers first; correct the labels"
        )
    return ending


def _labels(known: Preprocessing, classes: int, source: Path) -> tuple[str, ...]:
    if known.labels is None:
        raise UsageError(f"{source}: got no labels, expected {classes}, one in each line of a file; give --labels FILE")
    count = len(known.labels)
    if count != classes and (classes, count) != (1, 2):
        raise UsageError(f"{source}: got {count} labels for a network of {classes} numbers, expected one for each")
    return checked_labels(known.labels, "labels")

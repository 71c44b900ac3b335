"""Convert a checkpoint to an ONNX file that is proven to answer like it; no other file appears."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from taijitu_export.comparison.parity import Parity, logits_of_network, parity
from taijitu_export.errors import ExportError
from taijitu_export.onnx.forms import FORM_OF_LAYOUT, INPUT_FORMS, NISH_FORMS
from taijitu_export.onnx.onnx_file import opset_of, read_onnx
from taijitu_export.onnx.onnx_from_checkpoint import card_of, network_of, onnx_from_checkpoint
from taijitu_export.onnx_artefact import check_output, checked_file, sealed
from taijitu_export.passport import with_passport
from taijitu_export.precision.conversion import PrecisionRequest, convert
from taijitu_export.sample_pictures import SAMPLE_PICTURES, sample_pictures
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.backends.contract import layout_of, rows_from_pixels
from taijitu_runtime.card import ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import working
from taijitu_runtime.errors import ArtefactError, UsageError, check_name
from taijitu_runtime.files import sha256_of, write_whole
from taijitu_runtime.model_files import is_onnx
from taijitu_runtime.output_path import output_next_to
from taijitu_runtime.proof.prove import proven_file
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True)
class OnnxResult:
    """The file that was written.

    `input_form`: as for `export_file`. `parity`: with PyTorch; None for a file that was made of an ONNX file.
    `conversion`: lines about a smaller precision; none for float32.
    """

    path: Path
    input_form: str
    size_bytes: int
    nodes: int
    opset: int
    parity: Parity | None
    conversion: tuple[str, ...]

    def report(self) -> list[str]:
        """Return lines for a terminal."""
        size_kb = self.size_bytes / 1e3
        written = f"{self.path}: {size_kb:.0f} kB, {self.nodes} nodes, opset {self.opset}, input {self.input_form}"
        parity = [] if self.parity is None else [f"checked against PyTorch: {self.parity}"]
        return [written, *parity, *self.conversion]


def export_file(
    source: Path,
    output: Path | None = None,
    *,
    input_form: str = "uint8",
    nish: str = "op",
    smaller: PrecisionRequest | None = None,
) -> OnnxResult:
    """Write `output` from the checkpoint `source`, or in a smaller precision from a float32 ONNX file with a contract.

    Without `output` the file is next to the checkpoint, with the suffix .onnx, .fp16.onnx or .int8.onnx.
    `input_form`, `nish`: as for `onnx_from_checkpoint`. `smaller`: a precision below float32.

    The file appears after onnx.checker, ONNX Runtime and the comparison with PyTorch, and with float32 for a smaller
    precision, have accepted it; otherwise ExportError, and an existing file is unchanged. Also raises the errors of
    checkpoints, and UsageError for an output that cannot be written.
    """
    check_name("input form", input_form, INPUT_FORMS)
    check_name("form of Nish", nish, NISH_FORMS)
    if is_onnx(source) and (smaller is None or (input_form, nish) != ("uint8", "op")):
        got = "no --precision" if smaller is None else "--input or --nish"
        raise UsageError(
            f"{source}: got an ONNX file and {got}, expected --precision fp16 or int8 alone, which is all that can "
            "be changed in one"
        )
    output = output or output_next_to(source, f".{smaller.precision}.onnx" if smaller else ".onnx")
    check_output(output, source)
    if smaller is not None and is_onnx(source):
        return _converted_onnx(source, output, smaller)
    return _exported_checkpoint(source, output, input_form, nish, smaller)


def _exported_checkpoint(
    source: Path, output: Path, input_form: str, nish: str, smaller: PrecisionRequest | None
) -> OnnxResult:
    loaded = checkpoint.load(source)
    card = card_of(loaded, sha256_of(source), input_form)
    data = smaller.read_data(card) if smaller else None
    model = onnx_from_checkpoint(loaded, card.source_sha256, input_form=input_form, nish=nish)
    conversion: tuple[str, ...] = ()
    with _naming_output(output), tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.onnx"
        found, card = _compared_with_checkpoint(loaded, card, checked_file(model, trial), input_form)
        if smaller is not None and data is not None:
            converted = convert(model, card, smaller, data)
            model, card, conversion = converted.model, converted.card, converted.report
        content = sealed(model, card, trial)
    write_whole(output, content)
    return OnnxResult(output, input_form, len(content), len(model.graph.node), opset_of(model), found, conversion)


def _converted_onnx(source: Path, output: Path, smaller: PrecisionRequest) -> OnnxResult:
    file = read_onnx(source)
    with proven_file(source, file.sha256) as classifier:  # refuses what classify refuses
        card, input_form = classifier.card, FORM_OF_LAYOUT[classifier.backend.input.layout]
    if card.precision.name != "fp32":
        raise UsageError(f"{source}: got a file in {card.precision.name}, expected float32; give the one it is made of")
    data = smaller.read_data(card)
    with _naming_output(output), tempfile.TemporaryDirectory() as folder:
        converted = convert(file.model, card, smaller, data)
        content = sealed(converted.model, converted.card, Path(folder) / "model.onnx")
    write_whole(output, content)
    nodes, opset = len(converted.model.graph.node), opset_of(converted.model)
    return OnnxResult(output, input_form, len(content), nodes, opset, None, converted.report)


def _compared_with_checkpoint(
    loaded: Checkpoint, card: ModelCard, artefact: Path, input_form: str
) -> tuple[Parity, ModelCard]:
    """Compare the file on ONNX Runtime with the checkpoint's network; return the result, and the card with a passport.

    ExportError where it does not agree.
    """
    network, _ = network_of(loaded, card, input_form)

    layout = layout_of("uint8" if input_form == "uint8" else "float32", card.input)

    def in_form(pictures: NDArray[np.uint8]) -> NDArray[np.uint8] | NDArray[np.float32]:
        return rows_from_pixels(pictures, layout, card.input)

    # Nish by its definition in the file, as every other program has it.
    with OrtBackend(artefact, native=False) as backend:
        pictures = sample_pictures(SAMPLE_PICTURES, card.input.height, card.input.width)
        with working("comparing with PyTorch"):
            found = parity(network, backend, in_form(pictures))
        if not found.holds:
            raise ExportError(found.failure)
        card = with_passport(
            card,
            Classifier(backend).logits,
            lambda pictures: logits_of_network(network, in_form(pictures)),
            f"PyTorch {torch.__version__}",
        )
    return found, card


@contextlib.contextmanager
def _naming_output(output: Path) -> Iterator[None]:
    """Say in every failure which file was not written."""
    try:
        yield
    except ExportError as error:
        error.args = (f"{output}: not written, {error}",)
        raise
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{output}: not written, onnx.checker found: {error}") from None
    except ArtefactError as error:
        raise ExportError(f"{output}: not written, ONNX Runtime refused it: {error}") from None

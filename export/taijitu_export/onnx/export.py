"""From a checkpoint file to an ONNX file that is proven to answer like it; no other file appears."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from taijitu_export.comparison.parity import Parity, parity
from taijitu_export.errors import ExportError
from taijitu_export.onnx.onnx_from_checkpoint import card_of, network_of, onnx_from_checkpoint
from taijitu_export.precision.conversion import PrecisionRequest, convert
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.card import ModelCard
from taijitu_runtime.errors import ArtefactError, UsageError
from taijitu_runtime.files import write_whole
from taijitu_runtime.pictures.preprocess import normalise
from taijitu_runtime.target import check_target
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint

PICTURES = 64


@dataclasses.dataclass(frozen=True)
class OnnxResult:
    """What was written. `conversion`: lines about a smaller precision; none for float32."""

    path: Path
    input_form: str
    size_bytes: int
    nodes: int
    opset: int
    parity: Parity
    conversion: tuple[str, ...]

    def report(self) -> list[str]:
        """Lines for a terminal."""
        size_kb = self.size_bytes / 1e3
        written = f"{self.path}: {size_kb:.0f} kB, {self.nodes} nodes, opset {self.opset}, input {self.input_form}"
        return [written, f"checked against PyTorch: {self.parity}", *self.conversion]


def export_onnx(
    source: Path,
    output: Path | None = None,
    *,
    input_form: str = "uint8",
    nish: str = "op",
    smaller: PrecisionRequest | None = None,
) -> OnnxResult:
    """Write `output` from the checkpoint `source`.

    Without `output` the file stands beside the checkpoint, with .onnx for its suffix, or .fp16.onnx or .int8.onnx.
    `input_form`, `nish`: as for `onnx_from_checkpoint`. `smaller`: a precision below float32.

    The file appears after onnx.checker, ONNX Runtime and the comparison with PyTorch, and with float32 for a smaller
    precision, have accepted it; otherwise ExportError, and whatever stood there before is untouched. The errors of
    checkpoints, and UsageError for what cannot be written.
    """
    output = output or source.with_suffix(f".{smaller.precision}.onnx" if smaller else ".onnx")
    _check_output(output, source)
    loaded = checkpoint.load(source)
    card = card_of(loaded, hashlib.sha256(source.read_bytes()).hexdigest())
    data = smaller.read_data(card) if smaller else None
    model = onnx_from_checkpoint(loaded, card.source_sha256, input_form=input_form, nish=nish)
    conversion: tuple[str, ...] = ()
    with _telling(output), tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.onnx"
        found = _agreeing(loaded, card, checked_file(model, trial), input_form)
        if smaller:
            converted = convert(model, card, smaller, data)
            model, conversion = converted.model, converted.report
            check_answers(checked_file(model, trial))
        content = trial.read_bytes()
    write_whole(output, content)
    opset = next(opset.version for opset in model.opset_import if not opset.domain)
    return OnnxResult(output, input_form, len(content), len(model.graph.node), opset, found, conversion)


def checked_file(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model that onnx.checker accepts; types that constants have themselves are not written twice."""
    constants = {constant.name for constant in model.graph.initializer}
    needed = [value for value in model.graph.value_info if value.name not in constants]
    del model.graph.value_info[:]
    model.graph.value_info.extend(needed)
    onnx.checker.check_model(model, full_check=True)
    write_whole(path, model.SerializeToString())
    return path


def check_answers(artefact: Path) -> None:
    """ExportError unless the file as it is answers on ONNX Runtime, with finite logits."""
    with OrtBackend(artefact) as backend:
        spec = backend.card.input
        pictures = sample_pictures(2, spec.height, spec.width)
        images = pictures if backend.input.layout == "uint8 NHWC" else normalise(pictures, spec)
        if not np.isfinite(backend.infer(images)).all():
            raise ExportError("ONNX Runtime answers with NaN or infinite logits")


def _check_output(output: Path, source: Path) -> None:
    if output.is_dir() or output.resolve() == source.resolve():
        raise UsageError(f"got {output} as the output, expected a file other than the checkpoint; give -o model.onnx")
    check_target(output)
    if output.suffix.lower() != ".onnx":
        raise UsageError(
            f"got {output} as the output, expected a name in .onnx; engines are built of it: taijitu engine"
        )


def _agreeing(loaded: Checkpoint, card: ModelCard, artefact: Path, input_form: str) -> Parity:
    """How the file on ONNX Runtime agrees with the checkpoint's own network. ExportError where it does not."""
    network, _ = network_of(loaded, card, input_form)
    pictures = sample_pictures(PICTURES, card.input.height, card.input.width)
    # Nish by its definition in the file: that is what every other program has.
    with OrtBackend(artefact, native=False) as backend:
        found = parity(network, backend, pictures if input_form == "uint8" else normalise(pictures, card.input))
    if not found.holds:
        raise ExportError(found.failure)
    return found


@contextlib.contextmanager
def _telling(output: Path) -> Iterator[None]:
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

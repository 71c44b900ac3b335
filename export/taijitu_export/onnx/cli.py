"""Export a checkpoint to ONNX, check it against PyTorch, and keep it only if both agree.

python export/to_onnx.py ckpt.pt [-o model.onnx] [--input uint8|float32] [--nish op|decomposed]
                         [--precision fp32|fp16|int8] [--calibration DIR] [--max-drop POINTS]
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import onnx

from taijitu_export.comparison.cli import points
from taijitu_export.comparison.parity import Parity, parity
from taijitu_export.errors import ExportError
from taijitu_export.onnx.onnx_from_checkpoint import INPUT_FORMS, NISH_FORMS, card_of, network_of, onnx_from_checkpoint
from taijitu_export.precision.accuracy_check import PrecisionError
from taijitu_export.precision.conversion import PrecisionRequest, calibration_data_for, convert
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.card import PRECISIONS
from taijitu_runtime.console import Parser, run
from taijitu_runtime.errors import ArtefactError, UsageError
from taijitu_runtime.model_files import is_onnx
from taijitu_runtime.pictures.preprocess import normalise
from taijitu_runtime.target import check_target
from taijitu_runtime.errors import TaijituError
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint

PICTURES = 64


def build_parser() -> Parser:
    """The command line of export/to_onnx.py and `taijitu onnx`."""
    parser = Parser(prog="taijitu onnx", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="a checkpoint that training/train.py wrote")
    parser.add_argument("-o", "--output", type=Path, help="the ONNX file (default: beside the checkpoint, as .onnx, "
                        ".fp16.onnx or .int8.onnx)")  # fmt: skip
    parser.add_argument("--input", choices=INPUT_FORMS, default="uint8", help="uint8: NHWC, normalised inside; "
                        "float32: NCHW, normalised by the caller (default: %(default)s)")  # fmt: skip
    parser.add_argument("--nish", choices=NISH_FORMS, default="op", help="op: one node with its function body; "
                        "decomposed: standard operators only (default: %(default)s)")  # fmt: skip
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the layers; those that would cost "
                        "accuracy stay fp32 (default: %(default)s)")  # fmt: skip
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="folder or tar of pictures: train/<label>/* to "
                        "calibrate int8 with, val/ or test/ to judge fp16 and int8 with")  # fmt: skip
    parser.add_argument("--max-drop", type=points, metavar="POINTS", help="of top-1 accuracy, in percent, that a "
                        "smaller precision may cost (default: 0.05 for fp16, 0.5 for int8)")  # fmt: skip
    return parser


@run("taijitu onnx")
def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 exported and checked, 1 made but wrong (no file is left), 2 wrong usage or input."""
    args = build_parser().parse_args(argv)
    smaller = PrecisionRequest.asked_for(args.precision, args.calibration, args.max_drop)
    try:
        export(args.checkpoint, args.output, args.input, args.nish, smaller)
    except PrecisionError as error:
        print(error.table)
        raise
    return 0


def export(
    source: Path,
    output: Path | None = None,
    input_form: str = "uint8",
    nish: str = "op",
    smaller: PrecisionRequest | None = None,
) -> Parity:
    """Write `output` from the checkpoint `source`, print what was made, and return how well it agrees.

    Without `output` the file stands beside the checkpoint, with .onnx for its suffix, or .fp16.onnx or .int8.onnx.

    The file appears under its name only after onnx.checker, ONNX Runtime and the comparison with PyTorch, and with
    float32 for a smaller precision, are content; otherwise ExportError, and whatever stood there before is untouched.
    """
    loaded = checkpoint.load(source)
    output = output or source.with_suffix(f".{smaller.precision}.onnx" if smaller else ".onnx")
    if output.is_dir() or output.resolve() == source.resolve():
        raise UsageError(f"got {output} as the output, expected a file other than the checkpoint; give -o model.onnx")
    check_target(output)
    if not is_onnx(output):
        raise UsageError(
            f"got {output} as the output, expected a name in .onnx; engines are built of it: taijitu engine"
        )
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    card = card_of(loaded, sha256)
    material = calibration_data_for(smaller, card) if smaller else None
    proto = onnx_from_checkpoint(loaded, sha256, input_form=input_form, nish=nish)
    temporary = output.with_name(f".{output.stem}.{os.getpid()}.tmp.onnx")
    try:
        write(proto, temporary)
        result = check(loaded, temporary, input_form)
        if not result.holds:
            raise ExportError(f"{output}: not written, ONNX Runtime does not answer like PyTorch: {result}")
        lines = [f"checked against PyTorch: {result}"]
        if smaller and material:
            proto, report = convert(proto, card, smaller, material)
            write(proto, temporary)
            check_answers(temporary)
            lines += report
        temporary.replace(output)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{output}: not written, onnx.checker found: {error}") from None
    except ArtefactError as error:
        raise ExportError(f"{output}: not written, ONNX Runtime refused it: {error}") from None
    except OSError as error:
        raise UsageError(f"{output}: could not be written ({error})") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    opset = next(o.version for o in proto.opset_import if not o.domain)
    size_kb = output.stat().st_size / 1e3
    print(f"{output}: {size_kb:.0f} kB, {len(proto.graph.node)} nodes, opset {opset}, input {input_form}")
    print("\n".join(lines))
    return result


def write(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model that onnx.checker accepts; types that constants have themselves are not written twice."""
    constants = {constant.name for constant in proto.graph.initializer}
    needed = [value for value in proto.graph.value_info if value.name not in constants]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(needed)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def check(source: Checkpoint, artefact: Path, input_form: str) -> Parity:
    """Compare `artefact` on ONNX Runtime with the checkpoint's own network on 64 sample pictures."""
    card = card_of(source, "")
    network, _ = network_of(source, card, input_form)
    pictures = sample_pictures(PICTURES, card.input.height, card.input.width)
    # Nish by its definition in the file: that is what every other program has.
    with OrtBackend(artefact, native=False) as backend:
        return parity(network, backend, pictures if input_form == "uint8" else normalise(pictures, card.input))


def check_answers(artefact: Path) -> None:
    """ExportError unless the file as it is answers on ONNX Runtime, with finite logits."""
    with OrtBackend(artefact) as backend:
        spec = backend.card.input
        pictures = sample_pictures(2, spec.height, spec.width)
        images = pictures if backend.input.layout == "uint8 NHWC" else normalise(pictures, spec)
        if not np.isfinite(backend.infer(images)).all():
            raise ExportError(f"{artefact.name}: not kept, ONNX Runtime answers with NaN or infinite logits")

"""Export a checkpoint to ONNX, check it against PyTorch, and keep it only if both agree.

python export/to_onnx.py ckpt.pt [-o model.onnx] [--input uint8|float32] [--nish op|decomposed]
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import onnx

from taijitu_export.errors import ExportError
from taijitu_export.onnx_from_checkpoint import INPUT_FORMS, NISH_FORMS, card_of, network_of, onnx_from_checkpoint
from taijitu_export.parity import Parity, parity, sample_pictures
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.console import Parser, run
from taijitu_runtime.errors import ArtefactError, UsageError
from taijitu_runtime.preprocess import normalise
from taijitu_training import TaijituError as TrainingPackageError
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint

PICTURES = 64


def build_parser() -> Parser:
    """The command line of export/to_onnx.py and `taijitu onnx`."""
    parser = Parser(prog="taijitu onnx", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="a checkpoint that training/train.py wrote")
    parser.add_argument("-o", "--output", type=Path, help="the ONNX file (default: beside the checkpoint, as .onnx)")
    parser.add_argument("--input", choices=INPUT_FORMS, default="uint8", help="uint8: NHWC, normalised inside; "
                        "float32: NCHW, normalised by the caller (default: %(default)s)")  # fmt: skip
    parser.add_argument("--nish", choices=NISH_FORMS, default="op", help="op: one node with its function body; "
                        "decomposed: standard operators only (default: %(default)s)")  # fmt: skip
    return parser


@run("taijitu onnx")
def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 exported and checked, 1 made but wrong (no file is left), 2 wrong usage or input."""
    args = build_parser().parse_args(argv)
    try:
        export(args.checkpoint, args.output, args.input, args.nish)
    except TrainingPackageError as error:
        raise UsageError(str(error)) from error
    except ExportError as error:
        print(f"taijitu onnx: {error}", file=sys.stderr)
        return 1
    return 0


def export(source: Path, output: Path | None = None, input_form: str = "uint8", nish: str = "op") -> Parity:
    """Write `output` from the checkpoint `source`, print what was made, and return how well it agrees.

    Without `output` the file stands beside the checkpoint, with .onnx for its suffix.

    The file appears under its name only after onnx.checker, ONNX Runtime and the comparison with PyTorch are content;
    otherwise ExportError, and whatever stood there before is untouched.
    """
    loaded = checkpoint.load(source)
    output = output or source.with_suffix(".onnx")
    if output.is_dir() or output.resolve() == source.resolve():
        raise UsageError(f"got {output} as the output, expected a file other than the checkpoint; give -o model.onnx")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: no folder {output.parent}; make it first")
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    proto = onnx_from_checkpoint(loaded, sha256, input_form=input_form, nish=nish)
    temporary = output.with_name(f".{output.stem}.{os.getpid()}.tmp.onnx")
    try:
        onnx.checker.check_model(proto, full_check=True)
        temporary.write_bytes(proto.SerializeToString())
        result = check(loaded, temporary, input_form)
        if not result.holds:
            raise ExportError(f"{output}: not written, ONNX Runtime does not answer like PyTorch: {result}")
        temporary.replace(output)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{output}: not written, onnx.checker found: {error}") from None
    except ArtefactError as error:
        raise ExportError(f"{output}: not written, ONNX Runtime refused it: {error}") from None
    except OSError as error:
        raise UsageError(f"{output}: could not be written ({error})") from None
    finally:
        temporary.unlink(missing_ok=True)
    opset = next(o.version for o in proto.opset_import if not o.domain)
    size_kb = output.stat().st_size / 1e3
    print(f"{output}: {size_kb:.0f} kB, {len(proto.graph.node)} nodes, opset {opset}, input {input_form}")
    print(f"checked against PyTorch: {result}")
    return result


def check(source: Checkpoint, artefact: Path, input_form: str) -> Parity:
    """Compare `artefact` on ONNX Runtime with the checkpoint's own network on 64 sample pictures."""
    card = card_of(source, "")
    network, _ = network_of(source, card, input_form)
    pictures = sample_pictures(PICTURES, card.input.height, card.input.width)
    # Nish by its definition in the file: that is what every other program has.
    with OrtBackend(artefact, native=False) as backend:
        return parity(network, backend, pictures if input_form == "uint8" else normalise(pictures, card.input))

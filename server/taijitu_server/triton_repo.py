"""Write a model as a Triton model repository.

taijitu triton-repo model.onnx --out models
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from taijitu_runtime import Classifier, native
from taijitu_runtime.backends import ModelInput
from taijitu_runtime.backends.nish_graph import count_nish
from taijitu_runtime.console import Parser, run
from taijitu_runtime.errors import UsageError

CONFIG, LABELS, MODEL = "config.pbtxt", "labels.txt", "model.onnx"


def build_parser() -> Parser:
    """The command line of `taijitu triton-repo`."""
    parser = Parser(prog="taijitu triton-repo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a model.onnx")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the repository; made if it is missing")
    parser.add_argument("--name", default="", help="the model's name there (default: the network's)")
    parser.add_argument("--model-version", type=int, default=1, metavar="N", help="its folder (default: %(default)s)")
    parser.add_argument("--max-batch", type=int, default=32, metavar="N",
                        help="of pictures, where the model takes any number (default: %(default)s)")  # fmt: skip
    parser.add_argument("--mounted-at", type=Path, metavar="PATH",
                        help="where Triton will see DIR, for the native Nish (default: where it is now)")  # fmt: skip
    parser.add_argument("--gpu", action="store_true", help="run it on Triton's GPUs instead of its CPU")
    return parser


@run("taijitu triton-repo")
def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 written, 2 wrong usage or input."""
    args = build_parser().parse_args(argv)
    written = triton_repository_from_onnx(
        args.model,
        args.out,
        name=args.name,
        version=args.model_version,
        max_batch=args.max_batch,
        mounted_at=args.mounted_at,
        gpu=args.gpu,
    )
    print(f"{written}: start Triton with: tritonserver --model-repository={args.out}")
    return 0


def triton_repository_from_onnx(
    model: Path,
    out: Path,
    *,
    name: str = "",
    version: int = 1,
    max_batch: int = 32,
    mounted_at: Path | None = None,
    gpu: bool = False,
) -> Path:
    """`out`/NAME/ with config.pbtxt, labels.txt and VERSION/model.onnx for Triton's onnxruntime backend; its path.

    The model is loaded first, so that what is written is known to run. Where it has Nish, the native kernel goes beside
    it and is named in the configuration, by its path under `mounted_at`. A version is added to a model that is there
    already if both configurations are the same. ArtefactError for the model, UsageError for the rest.
    """
    if version < 1 or max_batch < 1:
        raise UsageError(f"got --model-version {version} --max-batch {max_batch}, expected both to be at least 1")
    with Classifier.from_file(model) as classifier:
        card, taken = classifier.card, classifier.backend.input
    name = name or card.architecture.name.replace("/", "_")
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise UsageError(f"got the name {name!r}, expected letters, digits, dots, dashes and underscores; give --name")
    target = out / name
    library = native.CUDA_LIBRARY if gpu else native.LIBRARY
    has_kernel = count_nish(model.read_bytes()) > 0 and library.is_file()
    seen_library = (mounted_at or out.resolve()) / name / library.name if has_kernel else None
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=out) as folder:
        made = Path(folder, name)
        (made / str(version)).mkdir(parents=True)
        shutil.copyfile(model, made / str(version) / MODEL)
        if has_kernel:
            shutil.copyfile(library, made / library.name)
        (made / LABELS).write_text("".join(f"{label}\n" for label in card.labels))
        (made / CONFIG).write_text(configuration(name, taken, len(card.labels), max_batch, gpu, seen_library))
        _publish(made, target, version)
    return target


def _publish(made: Path, target: Path, version: int) -> None:
    """Rename the finished folder to its place, or its version into a model that is there and configured alike."""
    if not target.exists():
        made.rename(target)
        return
    if (target / str(version)).exists():
        raise UsageError(f"{target}: version {version} is there already; give another --model-version, or remove it")
    for file in (CONFIG, LABELS):
        if not (target / file).is_file() or (target / file).read_bytes() != (made / file).read_bytes():
            raise UsageError(f"{target / file}: not what this model needs; give another --name, or remove {target}")
    (made / str(version)).rename(target / str(version))


def configuration(name: str, taken: ModelInput, classes: int, max_batch: int, gpu: bool, library: Path | None) -> str:
    """A ModelConfig in protobuf's text form, as Triton's model_config.proto (field by field) defines it.

    A batch of any number is Triton's to fill; one of a fixed number is part of the shape.
    """
    batched = taken.max_batch is None or taken.max_batch > taken.min_batch
    limit = min(max_batch, taken.max_batch or max_batch) if batched else 0
    lead = [] if batched else [taken.min_batch]
    image = [*lead, *taken.shape(1)[1:]]
    kind = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}[taken.dtype.name]
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {limit}",
        f'input [{{ name: "images" data_type: {kind} dims: {image} }}]',
        f'output [{{ name: "logits" data_type: TYPE_FP32 dims: {[*lead, classes]} label_filename: "{LABELS}" }}]',
        f"instance_group [{{ kind: {'KIND_GPU' if gpu else 'KIND_CPU'} count: 1 }}]",
        # The first request is not to pay for what ONNX Runtime sets up on its first run.
        f'model_warmup [{{ name: "blank" batch_size: {1 if batched else 0} '
        f'inputs {{ key: "images" value {{ data_type: {kind} dims: {image} zero_data: true }} }} }}]',
    ]
    if batched:
        lines.append("dynamic_batching { }")
    if library is not None:
        lines.append(f'model_operations {{ op_library_filename: "{library}" }}')
    return "\n".join(lines) + "\n"

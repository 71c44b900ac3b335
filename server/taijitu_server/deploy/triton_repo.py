"""Write a model as a Triton model repository.

taijitu triton-repo model.onnx|model.engine --out models
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import tempfile
from pathlib import Path

from taijitu_runtime import native
from taijitu_runtime.backends import ModelInput
from taijitu_runtime.backends.contract import LAYOUTS
from taijitu_runtime.backends.nish_graph import count_nish
from taijitu_runtime.backends.preflight import read_plan
from taijitu_runtime.card import ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import Parser, run
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.errors import UsageError
from taijitu_runtime.model_files import is_engine
from taijitu_server.deploy.onnx_file import check_onnx_file
from taijitu_server.models.names import name_from_card

CONFIG, LABELS = "config.pbtxt", "labels.txt"


def build_parser() -> Parser:
    """The command line of `taijitu triton-repo`."""
    parser = Parser(prog="taijitu triton-repo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a model.onnx or model.engine")
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
    written = triton_repository(
        args.model,
        args.out,
        name=args.name,
        version=args.model_version,
        max_batch=args.max_batch,
        mounted_at=args.mounted_at,
        gpu=args.gpu,
    )
    print(f"{written}: start Triton with: tritonserver --model-repository={shlex.quote(str(args.out))}")
    return 0


@dataclasses.dataclass(frozen=True)
class Artefact:
    """What a repository is made of: the model's file and card, what it takes, and what Triton runs it with."""

    path: Path
    card: ModelCard
    taken: ModelInput
    backend: str  # Triton's name for it
    file: str  # the name that this backend expects
    library: Path | None = None  # of custom operators


def triton_repository(
    model: Path,
    out: Path,
    *,
    name: str = "",
    version: int = 1,
    max_batch: int = 32,
    mounted_at: Path | None = None,
    gpu: bool = False,
) -> Path:
    """`out`/NAME/ with config.pbtxt, labels.txt and VERSION/model.onnx or model.plan for Triton; its path.

    An ONNX file is loaded first, so that what is written is known to run; of an engine, which may be for another GPU,
    the sidecar and the plan's hash are checked. Where an ONNX file has Nish, the native kernel goes beside it and is
    named in the configuration, by its path under `mounted_at`. A version is added to a model that is there already if
    both configurations are the same. ArtefactError for the model, UsageError for the rest.
    """
    if version < 1 or max_batch < 1:
        raise UsageError(f"got --model-version {version} --max-batch {max_batch}, expected both to be at least 1")
    artefact = _engine(model) if is_engine(model) else _onnx(model, gpu)
    name = name or name_from_card(artefact.card)
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise UsageError(
            f"got the name {name!r}, expected letters, digits, dots, dashes and underscores, but no dot or dash at its "
            "start; give --name"
        )
    target = out / name
    seen = (mounted_at or out.resolve()) / name
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=out) as folder:
        made = Path(folder, name)
        (made / str(version)).mkdir(parents=True)
        shutil.copyfile(model, made / str(version) / artefact.file)
        if artefact.library is not None:
            shutil.copyfile(artefact.library, made / artefact.library.name)
        (made / LABELS).write_text("".join(f"{label}\n" for label in artefact.card.labels), encoding="utf-8")
        (made / CONFIG).write_text(configuration(name, artefact, max_batch, gpu, seen), encoding="utf-8")
        _publish(made, target, version)
    return target


def _onnx(model: Path, gpu: bool) -> Artefact:
    check_onnx_file(model)
    with Classifier.from_file(model) as classifier:
        card, taken = classifier.card, classifier.backend.input
    library = native.CUDA_LIBRARY if gpu else native.LIBRARY
    has_kernel = count_nish(model.read_bytes()) > 0 and library.is_file()
    return Artefact(model, card, taken, "onnxruntime", "model.onnx", library if has_kernel else None)


def _engine(model: Path) -> Artefact:
    engine = EngineCard.read(model)
    if engine.card is None:
        raise UsageError(f"{model}: got an engine without labels, expected one of a file with a contract; see adopt")
    read_plan(model, engine)
    if engine.library.name != "tensorrt":
        raise UsageError(f"{model}: got an engine of TensorRT-RTX, expected one of TensorRT, which is what Triton runs")
    images, shapes = engine.inputs[0], engine.profiles[0]["images"]
    if 1 < shapes.min[0] < shapes.max[0]:
        raise UsageError(
            f"{model}: got an engine for {shapes.min[0]} to {shapes.max[0]} pictures, expected one from 1 on or of a "
            "fixed number, because Triton sends single ones; build it again with --minShapes for 1"
        )
    layout = LAYOUTS[images.dtype]
    spec = engine.card.input
    taken = ModelInput(layout, spec.height, spec.width, shapes.min[0], shapes.max[0])
    return Artefact(model, engine.card, taken, "tensorrt", "model.plan")


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


def configuration(name: str, artefact: Artefact, max_batch: int, gpu: bool, seen: Path) -> str:
    """A ModelConfig in protobuf's text form, as Triton's model_config.proto (field by field) defines it.

    A batch of any number is Triton's to fill; one of a fixed number is part of the shape. `seen`: the model's folder as
    Triton sees it.
    """
    taken = artefact.taken
    batched = taken.max_batch is None or taken.max_batch > taken.min_batch
    limit = min(max_batch, taken.max_batch or max_batch) if batched else 0
    lead = [] if batched else [taken.min_batch]
    image = [*lead, *taken.shape(1)[1:]]
    logits = [*lead, len(artefact.card.labels)]
    kind = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}[taken.dtype.name]
    processor = "KIND_GPU" if gpu or artefact.backend == "tensorrt" else "KIND_CPU"
    lines = [
        f'name: "{name}"',
        f'backend: "{artefact.backend}"',
        f"max_batch_size: {limit}",
        f'input [{{ name: "images" data_type: {kind} dims: {image} }}]',
        f'output [{{ name: "logits" data_type: TYPE_FP32 dims: {logits} label_filename: "{LABELS}" }}]',
        f"instance_group [{{ kind: {processor} count: 1 }}]",
        # The first request is not to pay for what a backend sets up on its first run.
        f'model_warmup [{{ name: "blank" batch_size: {1 if batched else 0} '
        f'inputs {{ key: "images" value {{ data_type: {kind} dims: {image} zero_data: true }} }} }}]',
    ]
    if batched:
        lines.append("dynamic_batching { }")
    if artefact.library is not None:
        library = json.dumps(str(seen / artefact.library.name), ensure_ascii=False)
        lines.append(f"model_operations {{ op_library_filename: {library} }}")
    return "\n".join(lines) + "\n"

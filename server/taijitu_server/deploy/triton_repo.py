"""Write a model as a Triton model repository.

taijitu triton-repo model.onnx|model.engine --out models
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

from taijitu_runtime import native
from taijitu_runtime.backends import ModelInput, OrtBackend
from taijitu_runtime.backends.contract import layout_of
from taijitu_runtime.backends.trt import nish_plugin
from taijitu_runtime.backends.trt.preflight import read_plan
from taijitu_runtime.card import ARITHMETIC, ModelCard
from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, shown
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.errors import UsageError
from taijitu_runtime.files import new_folder
from taijitu_runtime.model_files import is_engine
from taijitu_runtime.onnx_graph.nish import count_nish
from taijitu_server.deploy.onnx_file import check_mounted_at, path_in_text, read_onnx_file
from taijitu_server.models.names import name_from_card

CONFIG, LABELS = "config.pbtxt", "labels.txt"
WITHOUT_DECISION = (
    "Triton gives the output as it is; the temperature, the threshold and the label sets of the card are left to the "
    "client"
)
MOST_VERSION, MOST_BATCH = 2**63 - 1, 2**31 - 1  # an int64, and an int32 of config.pbtxt


def build_parser() -> Parser:
    """Return the command line of `taijitu triton-repo`."""
    parser = Parser(prog="taijitu triton-repo", description=__doc__)
    parser.add_argument("model", type=Path, help="an ONNX file or an engine")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="the repository; created if missing"
    )
    parser.add_argument("--name", help="name of the model (default: name of the network)")
    parser.add_argument("--model-version", type=int, default=1, metavar="N",
                        help="version of the model (default: %(default)s)")  # fmt: skip
    parser.add_argument("--max-batch", type=int, default=32, metavar="N",
                        help="largest batch, where the model takes any (default: %(default)s)")  # fmt: skip
    parser.add_argument("--mounted-at", type=Path, metavar="PATH",
                        help="path of DIR for Triton, to find the native Nish (default: its path here)")  # fmt: skip
    parser.add_argument("--gpu", action="store_true", help="run it on Triton's GPUs instead of its CPU")
    return parser


@run("taijitu triton-repo")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: written, 1: the model fails its proof, 2: wrong usage or input."""
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
    command = f"tritonserver --model-repository={shlex.quote(str(args.mounted_at or args.out))}"
    say(shown(f"{written.folder}: start Triton with: {' '.join([command, *written.flags])}"), sys.stdout)
    for note in written.notes:
        say(f"note: {shown(note)}", sys.stdout)
    return 0


@dataclasses.dataclass(frozen=True)
class Artefact:
    """The model of a repository: its content, its card, its input, and the backend of Triton that runs it."""

    content: bytes
    card: ModelCard
    input: ModelInput
    backend: str  # in Triton's terms
    file: str  # the file name that the backend expects
    library: Path | None = None  # of custom operators
    dla_core: int | None = None
    flags: tuple[str, ...] = ()  # that Triton needs for it
    note: str = ""  # what is slow


@dataclasses.dataclass(frozen=True)
class Written:
    """The folder of a model, the flags of Triton that it needs, and what is slow or missing there."""

    folder: Path
    flags: tuple[str, ...]
    notes: tuple[str, ...]


def triton_repository(
    model: Path, out: Path, *, name: str | None, version: int, max_batch: int, mounted_at: Path | None, gpu: bool
) -> Written:
    """Write `out`/NAME/ with config.pbtxt, labels.txt and VERSION/model.onnx or model.plan for Triton.

    An ONNX file is loaded and proven first. For an engine, which may be for another GPU, the sidecar
    and the hash of the plan are checked. With an ONNX file that has Nish, the native kernel is copied next to it and
    named in the configuration, by its path under `mounted_at`. An existing model gets a further version if both
    configurations are equal.

    Raises:
        ArtefactError: The model cannot be served.
        UsageError: An argument is wrong, or the version exists already.
    """
    if not 1 <= version <= MOST_VERSION or not 1 <= max_batch <= MOST_BATCH:
        raise UsageError(
            f"got --model-version {version} --max-batch {max_batch}, expected 1 to {MOST_VERSION} and 1 to {MOST_BATCH}"
        )
    artefact = _engine(model) if is_engine(model) else _onnx(model, gpu)
    name = name_from_card(artefact.card) if name is None else name
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise UsageError(
            f"got the name {name!r}, expected letters, digits, dots, dashes and underscores, but no dot or dash at its "
            "start; give --name"
        )
    check_mounted_at(mounted_at)
    target, library = out / name, artefact.library
    seen = None if library is None else path_in_text(out, mounted_at) / name / library.name
    texts = {
        CONFIG: configuration(name, artefact, max_batch, gpu, seen),
        LABELS: "".join(f"{label}\n" for label in artefact.card.labels),
    }
    if target.exists():
        _check_existing(target, version, texts)
        _check_pictures(target, artefact)
        with new_folder(target / str(version)) as folder:
            (folder / artefact.file).write_bytes(artefact.content)
    else:
        with new_folder(target) as folder:
            _write_model(folder, version, artefact, texts)
    notes = (artefact.note, WITHOUT_DECISION if artefact.card.decision is not None else "")
    return Written(target, artefact.flags, tuple(filter(None, notes)))


def _write_model(folder: Path, version: int, artefact: Artefact, texts: dict[str, str]) -> None:
    (folder / str(version)).mkdir()
    (folder / str(version) / artefact.file).write_bytes(artefact.content)
    if artefact.library is not None:
        shutil.copyfile(artefact.library, folder / artefact.library.name)
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")


def _onnx(model: Path, gpu: bool) -> Artefact:
    card, model_input, content = read_onnx_file(model)
    library = native.CUDA_LIBRARY if gpu else native.LIBRARY
    has_nish, is_there = count_nish(content) > 0, library.is_file()
    kernel = library if has_nish and is_there else None
    # Loading the model warns where the CPU's is missing.
    lacks = gpu and has_nish and not is_there
    note = f"{native.LOST}: got no {library}; do: {native.BUILD} --cuda, and write it again" if lacks else ""
    return Artefact(content, card, model_input, "onnxruntime", "model.onnx", kernel, note=note)


def _engine(model: Path) -> Artefact:
    engine = EngineCard.read(model)
    if engine.card is None:
        raise UsageError(f"{model}: got an engine without labels, expected one of a file with a contract; see adopt")
    plan = read_plan(model, engine)
    if engine.library.is_rtx:
        raise UsageError(
            f"{model}: got an engine of TensorRT-RTX, expected one of TensorRT, as Triton runs no others; build it "
            "with --backend tensorrt"
        )
    if nish_plugin.FLAG in engine.flags:
        raise UsageError(
            f"{model}: got an engine with Nish as taijitu's plugin, which Triton does not know, expected one of "
            "standard operators; build it without --nishPlugin"
        )
    images, shapes = engine.inputs[0], engine.profiles[0]["images"]
    if 1 < shapes.min[0] < shapes.max[0]:
        raise UsageError(
            f"{model}: got an engine for batches of {shapes.min[0]} to {shapes.max[0]}, expected a minimum of 1 or a "
            "fixed size, because Triton sends single images; build it again with --minShapes for 1"
        )
    spec = engine.card.input
    model_input = ModelInput(layout_of(images.dtype, spec), spec.height, spec.width, shapes.min[0], shapes.max[0])
    flags = ("--backend-config=tensorrt,version-compatible=true",) if engine.is_version_compatible else ()
    dla_core = engine.built_for.dla_core
    return Artefact(plan, engine.card, model_input, "tensorrt", "model.plan", dla_core=dla_core, flags=flags)


def _check_existing(target: Path, version: int, texts: dict[str, str]) -> None:
    """Raise UsageError unless the model in `target` has these files of text and lacks the version."""
    if (target / str(version)).exists():
        raise UsageError(f"{target}: version {version} exists already; give another --model-version, or remove it")
    for file, text in texts.items():
        if not (target / file).is_file() or (target / file).read_bytes() != text.encode():
            raise UsageError(
                f"{target / file}: got one of another model or of other flags, expected what these arguments write, "
                "because all versions share it; give --max-batch, --mounted-at and --gpu as before, or another --name"
            )


def _check_pictures(target: Path, artefact: Artefact) -> None:
    """Raise UsageError unless the versions in `target` take pictures that are prepared in the same way: clients do it.

    What is computed inside the model may differ. An engine in the repository has no sidecar: only ONNX files are read.
    """
    ours = artefact.card.input
    inside = () if artefact.input.layout == "float32 NCHW" else ARITHMETIC
    for other in sorted(target.glob("*/model.onnx")):
        with OrtBackend(other) as backend:
            theirs = backend.card.input
        for name in (field.name for field in dataclasses.fields(ours)):
            got, expected = getattr(ours, name), getattr(theirs, name)
            if got != expected and name not in inside:
                raise UsageError(
                    f"{other}: got another version with input.{name} {got}, expected {expected}, because clients "
                    "prepare pictures for all versions alike; give another --name"
                )


def configuration(name: str, artefact: Artefact, max_batch: int, gpu: bool, library: Path | None) -> str:
    """Return a ModelConfig in protobuf's text form; the fields are those of Triton's model_config.proto.

    A dynamic batch is left to Triton; a fixed one is part of the shape. `library`: the path, for Triton, of the
    library of custom operators.
    """
    spec = artefact.input
    batched = spec.max_batch is None or spec.max_batch > spec.min_batch
    limit = min(max_batch, spec.max_batch or max_batch) if batched else 0
    lead = [] if batched else [spec.min_batch]
    image = [*lead, *spec.shape(1)[1:]]
    logits = [*lead, len(artefact.card.labels)]
    kind = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}[spec.dtype.name]
    processor = "KIND_GPU" if gpu or artefact.backend == "tensorrt" else "KIND_CPU"
    lines = [
        f'name: "{name}"',
        f'backend: "{artefact.backend}"',
        f"max_batch_size: {limit}",
        f'input [{{ name: "images" data_type: {kind} dims: {image} }}]',
        f'output [{{ name: "logits" data_type: TYPE_FP32 dims: {logits} label_filename: "{LABELS}" }}]',
        f"instance_group [{{ kind: {processor} count: 1{_dla(artefact.dla_core)} }}]",
        # The set-up of a backend at its first run must not delay the first request.
        f'model_warmup [{{ name: "blank" batch_size: {1 if batched else 0} '
        f'inputs {{ key: "images" value {{ data_type: {kind} dims: {image} zero_data: true }} }} }}]',
    ]
    if batched:
        lines.append("dynamic_batching { }")
    if artefact.card.precision.name == "int8" and processor == "KIND_CPU":
        # Basic optimisation, which computes int8 in float32: without VNNI, ONNX Runtime's fused kernels add products in
        # 16 bits, and Triton sets none of the entries that would change that (docs/results/precision.md).
        lines.append("optimization { graph { level: -1 } }")
    if library is not None:
        quoted = json.dumps(str(library), ensure_ascii=False)
        lines.append(f"model_operations {{ op_library_filename: {quoted} }}")
    return "\n".join(lines) + "\n"


def _dla(core: int | None) -> str:
    return "" if core is None else f" secondary_devices [{{ kind: KIND_NVDLA device_id: {core} }}]"

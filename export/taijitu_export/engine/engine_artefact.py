"""From a request to model.engine and model.engine.json: only a good engine takes the place of another."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from taijitu_export.engine.engine_from_onnx import Built, Options, check_options, engine_from_onnx, is_typed
from taijitu_export.engine.gpu import Gpu, gpu_here
from taijitu_export.engine.graph import Graph, check_precision, float16_graph, parser_graph, read_graph
from taijitu_export.engine.library import Library, open_library
from taijitu_export.errors import ExportError
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.backends import open_backend
from taijitu_runtime.console import shown
from taijitu_runtime.engine_card import (
    Build,
    BuiltFor,
    EngineCard,
    EnginePrecision,
    Source,
    platform_here,
    save_engine,
    sidecar_of,
)
from taijitu_runtime.engine_card import Library as LibraryName
from taijitu_runtime.errors import ArtefactError, UsageError
from taijitu_runtime.pictures.preprocess import normalise
from taijitu_runtime.target import check_target


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """An engine that somebody wants.

    `source`: the ONNX file; `output`: the plan's. `precision`: "fp16", "int8", or None for the graph's own. `answer`:
    whether the engine must answer before it is kept, where there is a GPU that it runs on. `arguments`: those of
    export/to_engine.py that say the same, but for the files and the backend.
    """

    source: Path
    output: Path
    backend: str = "auto"
    precision: str | None = None
    options: Options = dataclasses.field(default_factory=Options)
    answer: bool = True
    arguments: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class EngineResult:
    """What was written. `answered`: whether the engine gave an answer here; `notes`: what was done to the graph."""

    path: Path
    card: EngineCard
    library: Library
    built: Built
    answered: bool
    notes: tuple[str, ...]


def make_engine(request: Request) -> EngineResult:
    """Build, prove and write an engine with its sidecar.

    ExportError where the engine is not good, and then whatever stood there before is untouched. UsageError and
    ArtefactError for what the user can put right; MissingDependencyError without the library.
    """
    check_output(request)
    graph = read_graph(request.source)
    asked = request.precision or graph.card.precision.name
    options = dataclasses.replace(request.options, precision=asked)
    gpu = gpu_here()
    library = open_library(request.backend, gpu, for_rtx=bool(options.compute_capabilities))
    check_options(library, options, gpu)
    check_precision(graph, request.source, asked)
    if asked == "fp16" and graph.card.precision.name == "fp32" and is_typed(library, options):
        graph = float16_graph(graph)
    try:
        model = parser_graph(graph, plugin=options.nish_plugin)
    except ArtefactError as error:
        raise ArtefactError(f"{request.source}: {error}") from None
    built = engine_from_onnx(model, library, options, gpu, len(graph.card.precision.kept))
    card = engine_card(request, graph, asked, library, options, gpu, built)
    answered = request.answer and gpu is not None and runs_on(card, gpu)
    if answered:
        check_answers(request.output, built.plan, card)
    save_engine(request.output, built.plan, card)
    return EngineResult(request.output, card, library, built, answered, graph.notes)


def check_output(request: Request) -> None:
    """UsageError where no engine can be written, before minutes are spent on one."""
    output = request.output
    if output.is_dir() or output.resolve() == request.source.resolve() or is_onnx(output):
        raise UsageError(f"got {output} for the engine, expected a file of its own; give --saveEngine=model.engine")
    for file in (output, sidecar_of(output)):
        check_target(file)
    try:
        os.fsencode(source_beside(request)).decode()
    except UnicodeDecodeError:
        raise UsageError(
            f"got {shown(request.source)}, whose path is not UTF-8, which the sidecar is; rename it"
        ) from None


def source_beside(request: Request) -> str:
    """The path of the ONNX file as the sidecar has it: from the plan's folder."""
    return Path(os.path.relpath(request.source, request.output.parent)).as_posix()


def engine_card(
    request: Request, graph: Graph, asked: str, library: Library, options: Options, gpu: Gpu | None, built: Built
) -> EngineCard:
    """The sidecar's content."""
    now = datetime.datetime.now(datetime.timezone.utc)
    # TensorRT builds for the GPU it runs on; TensorRT-RTX for those it was told, and by default for none in particular.
    own = (gpu.compute_capability,) if gpu is not None and not library.is_rtx else ()
    return EngineCard(
        card=graph.card,
        library=LibraryName(library.module, library.version),
        built_for=BuiltFor(
            platform=platform_here(),
            compute_capabilities=options.compute_capabilities or own,
            gpu=gpu.name if gpu else None,
            driver=gpu.driver if gpu else None,
            hardware_compatibility=options.hardware_compatibility,
            dla_core=options.dla_core,
        ),
        precision=EnginePrecision(asked, built.count.layers, built.count.counted_in),
        profiles=(built.profile,),
        inputs=built.inputs,
        outputs=built.outputs,
        flags=built.flags,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        source=Source(source_beside(request), graph.sha256),
        arguments=(f"--backend={library.backend}", *request.arguments),
        built=Build(now.isoformat(timespec="seconds"), round(built.seconds, 3)),
    )


def runs_on(card: EngineCard, gpu: Gpu) -> bool:
    """Whether an engine that was just built here is for the GPU that is here."""
    wanted = card.built_for.compute_capabilities
    return gpu.compute_capability in wanted if wanted else float(gpu.compute_capability) >= 8.0


def check_answers(output: Path, plan: bytes, card: EngineCard) -> None:
    """ExportError unless the plan, loaded as the runtime loads it, answers a random picture with finite logits."""
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".") as scratch:
        trial = Path(scratch) / output.name
        save_engine(trial, plan, card)
        with open_backend(trial) as backend:
            spec = backend.card.input
            pictures = sample_pictures(backend.input.min_batch, spec.height, spec.width)
            images = pictures if backend.input.layout == "uint8 NHWC" else normalise(pictures, spec)
            if not np.isfinite(backend.infer(images)).all():
                raise ExportError(f"{output}: not written, the engine answers with NaN or infinite logits")


def report(made: EngineResult) -> list[str]:
    """What there is to say of an engine that was written."""
    card, built, library = made.card, made.built, made.library
    capabilities = ", ".join(card.built_for.compute_capabilities) or "8.0 and later"
    where = f"compute capability {capabilities}" + (f" ({card.built_for.gpu})" if card.built_for.gpu else "")
    size_mb = len(built.plan) / 1e6
    lines = [f"{made.path}: {size_mb:.2f} MB, {library}, for {where}, built in {built.seconds:.1f} s"]
    lines += [f"backend: {card.library.name}, because {library.reason}"] if library.reason else []
    lines += made.notes
    lines.append(f"{card.precision.asked}: {built.count}")
    for name, shapes in built.profile.items():
        low, usual, high = ("x".join(map(str, shape)) for shape in (shapes.min, shapes.opt, shapes.max))
        lines.append(f"profile: {name} {low}" if low == high else f"profile: {name} {low} to {high}, tuned for {usual}")
    if card.built_for.gpu:
        lines.append(f"workspace: at most {built.workspace_bytes / 2**20:.0f} MiB")
    answered = "it answers here with finite logits" if made.answered else "it has not been run"
    lines.append(f"{sidecar_of(made.path)}: its sidecar; {answered}")
    return lines

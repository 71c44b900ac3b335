"""Make model.engine and model.engine.json as requested; only a good engine replaces an existing one."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import tempfile
from pathlib import Path

import numpy as np

from taijitu_export.engine.building.engine_from_onnx import Built, engine_from_onnx
from taijitu_export.engine.graph import Graph, read_graph
from taijitu_export.engine.graph_for_parser import graph_for_parser
from taijitu_export.engine.library import BACKENDS, Library
from taijitu_export.engine.request import Request, check_output
from taijitu_export.engine.target import Target, open_target
from taijitu_export.errors import ExportError
from taijitu_export.passport import card_for_precision, with_own_answers
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.backends import Backend, open_backend
from taijitu_runtime.backends.contract import rows_from_pixels
from taijitu_runtime.card import PRECISIONS, ModelCard, Precision
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
from taijitu_runtime.errors import check_name


@dataclasses.dataclass(frozen=True)
class EngineResult:
    """The files that were written. `answered`: whether the engine ran here; `notes`: what was changed in the graph."""

    path: Path
    card: EngineCard
    library: Library
    built: Built
    answered: bool
    notes: tuple[str, ...]

    def report(self) -> list[str]:
        """Return lines for a terminal."""
        card, built, library = self.card, self.built, self.library
        capabilities = ", ".join(card.built_for.compute_capabilities) or "8.0 and later"
        where = f"compute capability {capabilities}" + (f" ({card.built_for.gpu})" if card.built_for.gpu else "")
        size_mb = len(built.plan) / 1e6
        lines = [f"{self.path}: {size_mb:.2f} MB, {library}, for {where}, built in {built.seconds:.1f} s"]
        lines += [f"backend: {card.library.name}, because {library.reason}"] if library.reason else []
        lines += self.notes
        lines.append(f"{card.precision.asked}: {built.count}")
        for name, shapes in built.profile.items():
            low, usual, high = ("x".join(map(str, shape)) for shape in (shapes.min, shapes.opt, shapes.max))
            span = low if low == high else f"{low} to {high}, tuned for {usual}"
            lines.append(f"profile: {name} {span}")
        if card.built_for.gpu:
            lines.append(f"workspace: at most {built.workspace_bytes / 2**20:.0f} MiB")
        answered = "it has not been run"
        if self.answered:
            has_proof = card.card is not None and card.card.proof is not None
            answered = "it answers here as its origin" if has_proof else "it answers here with finite logits"
        lines.append(f"{sidecar_of(self.path)}: its sidecar; {answered}")
        return lines


def make_engine(request: Request) -> EngineResult:
    """Read the graph, convert it, build and count the engine, run it, and write it with its sidecar.

    ExportError where the engine is not good; an existing file is unchanged then. UsageError and
    ArtefactError for what the user can correct; MissingDependencyError without the library.
    """
    check_name("backend", request.backend, ("auto", *BACKENDS))
    if request.precision is not None:
        check_name("precision", request.precision, PRECISIONS[1:])
    check_output(request)
    graph = read_graph(request.source)
    options = dataclasses.replace(request.options, precision=request.precision or graph.precision)
    target = open_target(request.backend, options)
    graph = graph_for_parser(graph, target)
    built = engine_from_onnx(graph, target)
    card = engine_card(request, graph, target, built)
    answered = request.answer and target.runs_here and graph.card is not None
    if answered:
        card = with_answers(request.output, built.plan, card)
    save_engine(request.output, built.plan, card)
    return EngineResult(request.output, card, target.library, built, answered, graph.notes)


def engine_card(request: Request, graph: Graph, target: Target, built: Built) -> EngineCard:
    """Return the sidecar's content."""
    now = datetime.datetime.now(datetime.timezone.utc)
    gpu, library, options = target.gpu, target.library, target.options
    # TensorRT builds for the GPU it runs on; TensorRT-RTX for the GPUs that are named, by default for none in
    # particular.
    own = (gpu.compute_capability,) if gpu is not None and not library.is_rtx else ()
    return EngineCard(
        card=None if graph.card is None else engine_contract(graph.card, options.precision),
        library=LibraryName(library.module, library.version),
        built_for=BuiltFor(
            platform=platform_here(),
            compute_capabilities=options.compute_capabilities or own,
            gpu=gpu.name if gpu else None,
            driver=gpu.driver if gpu else None,
            multiprocessors=gpu.multiprocessors if gpu else None,
            memory_bytes=gpu.memory_bytes if gpu else None,
            board=(gpu.board or None) if gpu else None,
            hardware_compatibility=options.hardware_compatibility,
            dla_core=options.dla_core,
        ),
        precision=EnginePrecision(options.precision, built.count.layers, built.count.counted_in),
        profiles=(built.profile,),
        inputs=built.inputs,
        outputs=built.outputs,
        flags=built.flags,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        source=Source(request.relative_source, graph.sha256),
        arguments=(f"--backend={library.backend}", *request.arguments),
        built=Build(now.isoformat(timespec="seconds"), round(built.seconds, 3)),
    )


def engine_contract(card: ModelCard, precision: str) -> ModelCard:
    """Return the contract of an engine in `precision`, made from a graph with `card`.

    TensorRT 8.6, and later ones for a DLA core, make float16 layers of a float32 graph themselves: it is then the
    engine that is in float16, with the allowances of that.
    """
    card = card_for_precision(card, precision)
    if card.precision.name == precision:
        return card
    return dataclasses.replace(card, precision=Precision(name=precision))


def with_answers(output: Path, plan: bytes, card: EngineCard) -> EngineCard:
    """Return the card with the engine's own answers in its passport, from the plan as the runtime loads it.

    ExportError where it does not answer as its origin does, or, without a passport, where its logits are not finite.
    """
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".") as scratch:
        trial = Path(scratch) / output.name
        save_engine(trial, plan, card)
        with open_backend(trial) as backend:
            try:
                if card.card is not None and card.card.proof is not None:
                    return dataclasses.replace(card, card=with_own_answers(card.card, backend))
                check_finite(backend)
            except ExportError as error:
                raise ExportError(f"{output}: not written, {error}") from None
    return card


def check_finite(backend: Backend) -> None:
    """Raise ExportError unless a loaded engine answers a random picture with finite logits."""
    spec = backend.card.input
    pictures = sample_pictures(backend.input.min_batch, spec.height, spec.width)
    images = rows_from_pixels(pictures, backend.input.layout, spec)
    if not np.isfinite(backend.infer(images)).all():
        raise ExportError("got NaN or infinite logits from the engine, expected finite ones; build it in float32")

"""Batches of an engine as CUDA graphs: which are captured, which one runs, and that the answers are right.

tests/contract/ runs it on a real GPU; here TensorRT and the GPU are simulated (tests/helpers/pretend_tensorrt.py).
"""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from taijitu_runtime.backends import open_backend
from taijitu_runtime.backends.gpu_arrays import GpuArray
from taijitu_runtime.backends.trt.cuda_graphs import usual_sizes
from taijitu_runtime.backends.trt.engine import Engine
from taijitu_runtime.backends.trt.plan import Plan
from taijitu_runtime.bench.trt_network import TrtNetwork
from taijitu_runtime.card import ModelCard
from taijitu_runtime.classify.cli import main as classify
from taijitu_runtime.engine_card import Library
from taijitu_runtime.errors import ArtefactError
from taijitu_runtime.live.cli import main as camera
from tests.helpers.pretend_tensorrt import (
    COLOURS,
    SCALED,
    SIDE,
    Context,
    Module,
    PlainContext,
    PretendEngine,
    PretendGpu,
    pretend,
)
from tests.helpers.tiny_model import card_dict


def sidecar(library: str = "tensorrt") -> Any:
    return SimpleNamespace(library=Library(name=library, version="10.3.0"), plan_sha256="0" * 64)


def opened(
    gpu: PretendGpu, smallest: int = 1, largest: int = 8, *, graphs: bool = True, library: str = "tensorrt",
    context: type[Context] = Context,
) -> tuple[Engine, PretendEngine]:  # fmt: skip
    engine = PretendEngine(gpu, smallest, largest, context)
    plan = Plan(cast(Any, gpu), Module(context), engine, Path("e"), b"", sidecar(library))
    return Engine(plan, cuda_graph=graphs), engine


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def check(engine: Engine, count: int) -> None:
    images = pictures(count, seed=count)
    np.testing.assert_allclose(engine.infer(images), images.mean(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("images", "logits"),
    [
        ((np.uint8, (-1, SIDE, SIDE)), (np.float32, (-1, 3))),
        ((np.int32, (-1, SIDE, SIDE, 3)), (np.float32, (-1, 3))),
        ((np.uint8, (-1, SIDE, SIDE, 4)), (np.float32, (-1, 3))),
        ((np.uint8, (-1, -1, SIDE, 3)), (np.float32, (-1, 3))),
        ((np.uint8, (-1, SIDE, SIDE, 3)), (np.float16, (-1, 3))),
        ((np.uint8, (-1, SIDE, SIDE, 3)), (np.float32, (-1, -1))),
    ],
)
def test_a_plan_of_another_network_is_refused(images: Any, logits: Any) -> None:
    gpu = PretendGpu()
    network = dataclasses.replace(COLOURS, inputs={"images": images}, outputs={"logits": logits})
    plan = PretendEngine(gpu, 1, 8, network=network)
    with pytest.raises(ArtefactError):
        Engine(Plan(cast(Any, gpu), Module(), plan, Path("e"), b"", sidecar()), cuda_graph=False)


@pytest.mark.parametrize(
    ("smallest", "largest", "sizes"),
    [(1, 1, [1]), (1, 16, [1, 2, 4, 8, 16]), (1, 6, [1, 2, 4, 6]), (3, 8, [4, 8]), (5, 5, [5]), (3, 3, [3])],
)
def test_the_usual_sizes(smallest: int, largest: int, sizes: list[int]) -> None:
    assert usual_sizes(smallest, largest) == sizes


def test_every_batch_is_one_graph_that_was_captured_while_the_model_loaded() -> None:
    gpu = PretendGpu()
    engine, plan = opened(gpu)
    runs = [context.runs for context in plan.contexts]
    for count in (3, 1, 8, 2, 5, 4, 7, 6, 3):
        check(engine, count)
    assert gpu.launched == [4, 1, 8, 2, 8, 4, 8, 8, 4]
    assert [context.runs for context in plan.contexts] == runs, "nothing was set up at a request"
    assert sum(len(memory) == PretendEngine.device_memory_size_v2 for memory in gpu.memories) == 1, "one block for all"


def test_without_graphs_a_batch_is_as_large_as_it_is() -> None:
    gpu = PretendGpu()
    engine, plan = opened(gpu, graphs=False)
    for count in (3, 1, 8):
        check(engine, count)
    assert gpu.launched == []
    assert len(plan.contexts) == 1


@pytest.mark.parametrize("command", [classify, camera], ids=["classify", "camera"])
@pytest.mark.parametrize(("flags", "launched"), [([], True), (["--no-cuda-graphs"], False)])
def test_the_commands_answer_with_and_without_graphs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[list[str]], int],
    flags: list[str],
    launched: bool,
) -> None:
    card = ModelCard.from_dict(card_dict(height=SIDE, width=SIDE))
    gpu, _ = pretend(tmp_path / "model.engine", COLOURS, monkeypatch, card=card)
    Image.new("RGB", (SIDE, SIDE), (0, 9, 0)).save(picture := tmp_path / "green.png")
    source = ["--source"] if command is camera else []
    assert command([str(tmp_path / "model.engine"), *source, str(picture), *flags]) == 0
    assert "green" in capsys.readouterr().out
    assert bool(gpu.launched) is launched


def test_graphs_take_a_bounded_share_of_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    gpu = PretendGpu(bytes_a_graph=40 << 20)
    engine, _ = opened(gpu, largest=32)
    for count in (1, 2, 3, 30):
        check(engine, count)
    assert gpu.launched == [1, 2]
    assert len(caplog.records) == 1
    assert "80 MiB" in caplog.records[0].getMessage()


def test_a_size_that_cannot_be_captured_runs_without(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(Context):
        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            return super().set_input_shape(name, shape) and shape[0] != 4

    gpu = PretendGpu()
    engine, _ = opened(gpu, context=Refusing)
    check(engine, 2)
    check(engine, 7)
    assert gpu.launched == [2]
    assert "batches of 4 and more" in caplog.records[0].getMessage()


@pytest.mark.parametrize(("smallest", "launched"), [(1, []), (8, [8])])
def test_before_tensorrt_10_only_a_fixed_batch_is_a_graph(smallest: int, launched: list[int]) -> None:
    gpu = PretendGpu()
    engine, plan = opened(gpu, smallest, context=PlainContext)
    check(engine, 8)
    assert gpu.launched == launched
    assert len(plan.contexts) == 1


def test_tensorrt_rtx_has_run_every_usual_size_when_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine, plan = opened(PretendGpu(), library="tensorrt_rtx")
    (context,) = plan.contexts
    assert context.runs == 4  # 1, 2, 4, 8
    check(engine, 3)
    assert context.shapes["images"][0] == 4, "padded to a shape whose kernels are compiled"


def test_arrays_on_the_gpu_are_read_there_with_their_padding_and_after_their_stream() -> None:
    gpu = PretendGpu()
    engine, _ = opened(gpu)
    images = pictures(3)
    padded = np.zeros((3, SIDE, SIDE * 3 + 40), np.uint8)
    padded[..., : SIDE * 3] = images.reshape(3, SIDE, SIDE * 3)
    for array in (
        GpuArray(images.ctypes.data, images.shape, stream=2),
        GpuArray(padded.ctypes.data, images.shape, row_bytes=SIDE * 3 + 40),
    ):
        np.testing.assert_allclose(engine.infer_on_gpu(array), images.mean(axis=(1, 2)), rtol=1e-5)
    assert gpu.launched == [4, 4]
    assert gpu.waits == [2]


def test_the_engine_is_freed_before_its_gpu() -> None:
    """TensorRT's objects must not outlive their CUDA context, so nothing may wait for the garbage collector."""
    engine, _ = opened(PretendGpu())
    freed: list[bool] = []
    weakref.finalize(engine, freed.append, True)
    gc.disable()
    try:
        del engine
        assert freed == [True]
    finally:
        gc.enable()


@pytest.mark.parametrize("is_measured", [False, True])
def test_an_error_on_its_way_keeps_nothing_of_tensorrt_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_measured: bool
) -> None:
    path = tmp_path / "model.engine"
    gpu, engine = pretend(path, COLOURS, monkeypatch, card=ModelCard.from_dict(card_dict(height=SIDE, width=SIDE)))
    alive = weakref.WeakSet[Context]()
    left: list[int] = []

    def create_execution_context(strategy: object = None) -> Context:
        context = Context(gpu, has_memory=True)
        alive.add(context)
        return context

    monkeypatch.setattr(engine, "create_execution_context", create_execution_context)
    monkeypatch.setattr(gpu, "close", lambda: left.append(len(alive)))
    feeds = {"images": pictures(1)}
    gc.disable()
    try:
        if is_measured:
            with pytest.raises(ArtefactError, match="could not run it"), TrtNetwork(path) as network:  # noqa: PT012
                network.prepare(feeds)
                monkeypatch.setattr(Context, "execute_async_v3", lambda self, stream: False)
                network.enqueue()
        else:
            backend = open_backend(path, cuda_graphs=False)
            with pytest.raises(ArtefactError, match="could not run it"), backend:  # noqa: PT012
                monkeypatch.setattr(Context, "execute_async_v3", lambda self, stream: False)
                backend.infer(feeds["images"])
    finally:
        gc.enable()
    assert left == [0]


def test_a_backend_opens_answers_and_frees_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = ModelCard.from_dict(card_dict(height=SIDE, width=SIDE))
    gpu, _ = pretend(tmp_path / "model.engine", COLOURS, monkeypatch, card=card)
    with open_backend(tmp_path / "model.engine") as backend:
        assert (backend.card, backend.input.max_batch, backend.runs_on) == (card, 4, "tensorrt 8.7")
        np.testing.assert_allclose(backend.infer(pictures(3)), pictures(3).mean(axis=(1, 2)), rtol=1e-5)
        assert not gpu.is_closed
    assert gpu.is_closed
    assert gpu.launched == [4]


def test_the_stream_of_the_callers_thread_is_waited_for_on_that_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CUDA's stream 2 is another one on each thread: on the engine's it has no work.
    gpu, _ = pretend(
        tmp_path / "model.engine", COLOURS, monkeypatch, card=ModelCard.from_dict(card_dict(height=SIDE, width=SIDE))
    )
    images = pictures(3)
    with open_backend(tmp_path / "model.engine") as backend:
        for stream in (2, 1):
            logits = backend.infer(GpuArray(images.ctypes.data, images.shape, stream=stream))
            np.testing.assert_allclose(logits, images.mean(axis=(1, 2)), rtol=1e-5)
    assert (2, threading.get_ident()) in gpu.synchronised
    assert gpu.waits == [1]


def test_an_engine_without_labels_answers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path / "model.engine", COLOURS, monkeypatch)
    with pytest.raises(ArtefactError, match="without labels"):
        open_backend(tmp_path / "model.engine").load()


def test_a_foreign_engine_with_labels_frees_its_gpu_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = ModelCard.from_dict(card_dict(height=SIDE, width=SIDE))
    gpu, _ = pretend(tmp_path / "model.engine", SCALED, monkeypatch, card=card)
    with pytest.raises(ArtefactError, match=r"'x', 'scale'"):
        open_backend(tmp_path / "model.engine").load()
    assert gpu.is_closed

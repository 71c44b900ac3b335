"""The promises of every backend. A new backend is one line in BACKENDS; those on a GPU run where there is one."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taijitu_runtime.backends import Backend, ModelInput, OrtBackend, TrtBackend
from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.backends.gpu_arrays import GpuArray
from taijitu_runtime.errors import InputError, UsageError
from tests.helpers.tiny_engine import MAX_BATCH, make_tiny_engine
from tests.helpers.tiny_model import make_tiny_onnx

# a backend, and the function that makes a file for it from make_tiny_onnx's options (tests/helpers/tiny_model.py)
BACKENDS: dict[str, Callable[..., Backend]] = {
    "onnxruntime": lambda folder, **options: OrtBackend(make_tiny_onnx(folder / "model.onnx", **options), threads=2),
    "tensorrt": lambda folder, **options: TrtBackend(
        make_tiny_engine(folder / "model.engine", library="tensorrt", **options)
    ),
    "tensorrt_rtx": lambda folder, **options: TrtBackend(make_tiny_engine(folder / "model.engine", **options)),
}
NEED_A_GPU = {"tensorrt", "tensorrt_rtx"}
LAYOUTS = ["uint8", "float32", "pixels"]

Opener = Callable[..., Backend]


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.gpu if name in NEED_A_GPU else ()) for name in BACKENDS])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Return a function that makes a model with the given options and a backend for it, not yet loaded."""
    return lambda **options: BACKENDS[request.param](tmp_path, **options)


def images_for(backend: Backend, count: int, seed: int = 0) -> NDArray[Any]:
    shape = backend.input.shape(count)
    if backend.input.dtype == np.uint8:
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    scale, shift = (60, 128) if backend.input.layout == "float32 NCHW pixels" else (1, 0)
    return np.random.default_rng(seed).normal(shift, scale, shape).astype(np.float32)


def expected_logits(images: NDArray[Any], layout: str = "uint8") -> NDArray[Any]:
    """Compute the colour model in NumPy and double precision: (N, 3)."""
    average = images.astype(np.float64).mean(axis=(1, 2) if layout == "uint8" else (2, 3))
    if layout != "float32":
        average = (average / 255 - [0.5, 0.4, 0.3]) / [0.25, 0.2, 0.3]
    logits: NDArray[Any] = average - np.arange(3) / 100
    return logits


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_logits_are_the_models(opener: Opener, layout: str, count: int) -> None:
    with opener(layout=layout) as backend:
        images = images_for(backend, count)
        logits = backend.infer(images)
        assert (logits.dtype, logits.shape) == (np.dtype(np.float32), (count, 3))
        np.testing.assert_allclose(logits, expected_logits(images, layout), atol=1e-4)


def test_the_channel_order_is_rgb(opener: Opener) -> None:
    with opener() as backend:
        images = np.zeros(backend.input.shape(3), np.uint8)
        for channel in range(3):
            images[channel, ..., channel] = 255
        assert backend.infer(images).argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": (6, 10)}, ModelInput("uint8 NHWC", 6, 10)),
        ({"layout": "float32"}, ModelInput("float32 NCHW", 8, 8)),
        ({"layout": "pixels"}, ModelInput("float32 NCHW pixels", 8, 8)),
        ({"batch": 4}, ModelInput("uint8 NHWC", 8, 8, min_batch=4, max_batch=4)),
    ],
)
def test_it_says_what_it_takes(opener: Opener, options: dict[str, Any], expected: ModelInput) -> None:
    with opener(**options) as backend:
        limited = expected if expected.max_batch else dataclasses.replace(expected, max_batch=MAX_BATCH)
        assert backend.input in (expected, limited)  # an engine has a largest batch
        assert backend.card.labels == ("red", "green", "blue")
        assert (backend.card.input.height, backend.card.input.width) == (expected.height, expected.width)
        assert backend.infer(images_for(backend, expected.min_batch)).shape == (expected.min_batch, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_picture_gets_the_same_logits_alone_and_in_a_batch(opener: Opener, layout: str) -> None:
    with opener(layout=layout) as backend:
        images = images_for(backend, 5)
        alone = np.concatenate([backend.infer(images[index : index + 1]) for index in range(5)])
        np.testing.assert_allclose(backend.infer(images), alone, atol=1e-5)


def test_the_output_is_fresh_and_the_callers_own(opener: Opener) -> None:
    with opener() as backend:
        images = images_for(backend, 2)
        first = backend.infer(images)
        kept = first.copy()
        second = backend.infer(images_for(backend, 2, seed=1))
        assert not np.shares_memory(first, second)
        np.testing.assert_array_equal(first, kept)
        first[:] = 0
        np.testing.assert_array_equal(backend.infer(images), kept)
    second[:] = 0  # it outlives the backend too


def test_the_images_are_only_read(opener: Opener) -> None:
    with opener() as backend:
        images = images_for(backend, 2)
        before = images.copy()
        images.flags.writeable = False
        backend.infer(images)
        np.testing.assert_array_equal(images, before)


UINT8, FLOAT32 = r"uint8 \(N, 8, 8, 3\)", r"float32 \(N, 3, 8, 8\)"
PREPARE = r"; prepare pictures with Classifier\.prepare$"


@pytest.mark.parametrize(
    ("layout", "images", "message"),
    [
        ("uint8", np.zeros((1, 8, 8, 3), np.float32), rf"got a float32 array of shape .*, expected {UINT8}{PREPARE}"),
        ("uint8", np.zeros((8, 8, 3), np.uint8), rf"got a uint8 array of shape \(8, 8, 3\), expected {UINT8}{PREPARE}"),
        (
            "uint8",
            np.zeros((1, 3, 8, 8), np.uint8),
            rf"got a uint8 array of .*\(1, 3, 8, 8\), expected {UINT8}{PREPARE}",
        ),
        ("uint8", np.zeros((1, 9, 8, 3), np.uint8), rf"got a uint8 array .*, expected {UINT8}{PREPARE}"),
        ("uint8", np.uint8(3), rf"got a uint8, expected {UINT8}{PREPARE}"),
        ("uint8", [[0]], rf"got a list, expected {UINT8}{PREPARE}"),
        ("float32", np.zeros((1, 8, 8, 3), np.float32), rf"got a float32 array .*, expected {FLOAT32}{PREPARE}"),
        ("float32", np.zeros((1, 3, 8, 8), np.float64), rf"got a float64 array .*, expected {FLOAT32}{PREPARE}"),
        ("uint8", np.zeros((2, 8, 16, 3), np.uint8)[:, :, ::2], r"not C-contiguous, .* use numpy\.ascontiguousarray$"),
        ("uint8", np.zeros((0, 8, 8, 3), np.uint8), r"got a batch of 0, expected (at least 1|1 to 8); split or"),
    ],
)
def test_wrong_images_are_input_errors(opener: Opener, layout: str, images: Any, message: str) -> None:
    with opener(layout=layout) as backend, pytest.raises(InputError, match=message):
        backend.infer(images)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_static_batch_takes_that_many_only(opener: Opener, count: int) -> None:
    message = f"got a batch of {count}, expected exactly 4; split or pad it"
    with opener(batch=4) as backend, pytest.raises(InputError, match=message):
        backend.infer(images_for(backend, count))


def test_an_error_leaves_it_usable(opener: Opener) -> None:
    with opener() as backend:
        with pytest.raises(InputError):
            backend.infer(np.zeros((1, 1, 1, 3), np.uint8))
        images = images_for(backend, 2)
        np.testing.assert_allclose(backend.infer(images), expected_logits(images), atol=1e-4)


@pytest.mark.parametrize(
    "use", [lambda b: b.infer(np.zeros((1, 8, 8, 3), np.uint8)), lambda b: b.card, lambda b: b.input]
)
def test_before_enter_and_after_exit_every_use_is_a_clear_error(opener: Opener, use: Callable[[Backend], Any]) -> None:
    backend = opener()
    message = r"model\.\w+: got a call on a model that is not loaded or was closed; use it inside `with`"
    with pytest.raises(UsageError, match=message):
        use(backend)
    with backend:
        use(backend)
    with pytest.raises(UsageError, match=message):
        use(backend)


def test_it_can_be_entered_again_and_closed_twice(opener: Opener) -> None:
    backend = opener()
    for _ in range(2):
        with backend:
            backend.load()
            assert backend.infer(images_for(backend, 1)).shape == (1, 3)
        backend.close()


def test_it_is_freed_when_the_body_raises(opener: Opener) -> None:
    backend = opener()
    with pytest.raises(ZeroDivisionError), backend:
        raise ZeroDivisionError
    with pytest.raises(UsageError):
        backend.infer(np.zeros((1, 8, 8, 3), np.uint8))


def test_many_threads_get_their_own_answers(opener: Opener) -> None:
    wrong: list[int] = []
    with opener() as backend:

        def work(seed: int) -> None:
            images = images_for(backend, 1 + seed % 3, seed)
            for _ in range(50):
                if not np.allclose(backend.infer(images), expected_logits(images), atol=1e-4):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.gpu
@pytest.mark.parametrize("library", sorted(NEED_A_GPU))
def test_an_array_on_the_gpu_is_answered_as_the_same_one_on_the_host(library: str, tmp_path: Path) -> None:
    with BACKENDS[library](tmp_path) as backend:
        images, gpu = images_for(backend, 3), Gpu()
        try:
            pinned, stream, address = gpu.pinned(images.shape, images.dtype), gpu.stream(), gpu.memory(images.nbytes)
            pinned[:] = images
            gpu.upload(address, pinned, stream)
            on_gpu = GpuArray(address, images.shape, images.dtype, stream=stream)
            np.testing.assert_allclose(backend.infer(on_gpu), backend.infer(images), atol=1e-5)
            with pytest.raises(InputError, match="in no GPU's memory"):
                backend.infer(GpuArray(images.ctypes.data, images.shape))
        finally:
            gpu.close()

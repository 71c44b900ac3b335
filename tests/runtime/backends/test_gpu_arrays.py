"""Arrays in a GPU's memory, by their two protocols.

Those in this file are in the host's memory and claim otherwise; tests/contract/ tests them on a real GPU.
"""

from __future__ import annotations

import ctypes
import sys
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taijitu_runtime.backends import Backend, ModelInput, OrtBackend
from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.backends.gpu_arrays import GpuArray, is_on_gpu, read_gpu_array
from taijitu_runtime.card import ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import InputError
from tests.helpers.tiny_model import card_dict


class ByInterface:
    """An array with the interface of CuPy, pycuda and Numba."""

    def __init__(self, array: NDArray[Any], **changes: Any) -> None:
        self._array = array
        told = {"shape": array.shape, "typestr": array.dtype.str, "data": (array.ctypes.data, False), "version": 3}
        strides = None if array.flags.c_contiguous else array.strides
        self.__cuda_array_interface__ = {**told, "strides": strides, "stream": None, **changes}


class ByDlpack:
    """An array with the interface of PyTorch and CuPy; the capsule is NumPy's."""

    def __init__(self, array: NDArray[Any], device: tuple[int, int] = (2, 0)) -> None:
        self._array, self._device = array, device
        self.streams: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, stream: int | None = None) -> Any:
        self.streams.append(stream or 0)
        return self._array.__dlpack__()

    @property
    def __cuda_array_interface__(self) -> Any:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad")


class HostBackend(Backend):
    """A backend that computes the colours' average of the array at an address; stream 7."""

    name = "pretended"

    def _load(self) -> tuple[ModelCard, ModelInput, int]:
        return ModelCard.from_dict(card_dict()), ModelInput("uint8 NHWC", 8, 8, max_batch=4), 3

    def _infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        raise AssertionError("nothing of this goes through the host")

    def _gpu_stream(self) -> int:
        return 7

    def _infer_on_gpu(self, images: GpuArray) -> NDArray[np.float32]:
        return self_read(images).mean(axis=(1, 2)).astype(np.float32)

    def _free(self) -> None:
        pass


def self_read(array: GpuArray) -> NDArray[Any]:
    raw = (ctypes.c_uint8 * array.nbytes).from_address(array.address)
    return np.frombuffer(raw, array.dtype).reshape(array.shape)


def pictures(count: int, side: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def classifier(tmp_path: Path) -> Classifier:
    (tmp_path / "model.engine").write_bytes(b"plan")
    return Classifier(HostBackend(tmp_path / "model.engine"))


@pytest.mark.parametrize("form", [ByInterface, ByDlpack])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_it_is_read_at_its_address(form: Any, dtype: Any) -> None:
    array = pictures(3).astype(dtype)
    found = read_gpu_array(form(array), stream=7)
    assert (found.address, found.shape, found.dtype) == (array.ctypes.data, array.shape, array.dtype)
    np.testing.assert_array_equal(self_read(found), array)


@pytest.mark.parametrize("form", [ByInterface, ByDlpack])
def test_a_backend_takes_what_is_an_array_by_its_protocol_alone(classifier: Classifier, form: Any) -> None:
    batch = pictures(3)
    np.testing.assert_allclose(classifier.backend.infer(form(batch)), batch.mean(axis=(1, 2)), rtol=1e-6)


def test_dlpack_is_told_the_stream_that_reads_it_and_its_tensor_may_have_gradients() -> None:
    tensor = ByDlpack(pictures(1))
    assert is_on_gpu(tensor)
    read_gpu_array(tensor, stream=7)
    assert tensor.streams == [7]


def test_the_interfaces_stream_is_kept_to_be_waited_for() -> None:
    assert read_gpu_array(ByInterface(pictures(1), stream=2), stream=7).stream == 2


def test_an_array_in_the_hosts_memory_is_not_one_on_a_gpu() -> None:
    for thing in (pictures(1), ByDlpack(pictures(1), device=(1, 0)), "cat.png", b"", [pictures(1)], None):
        assert not is_on_gpu(thing)


def test_a_thing_that_cannot_say_where_it_is_is_not_one_on_a_gpu(classifier: Classifier) -> None:
    class Meta:
        def __dlpack_device__(self) -> tuple[int, int]:
            raise ValueError("Unknown device type meta for Dlpack")  # PyTorch's words

    class Lost:
        @property
        def __cuda_array_interface__(self) -> Any:
            raise RuntimeError("no driver")

    for thing in (Meta(), Lost()):
        with pytest.raises(InputError, match=type(thing).__name__):
            classifier.predict(thing)


@pytest.mark.parametrize("dtype", [np.uint8, "uint8", "|u1"])
def test_an_address_has_its_type_as_numpy_takes_it(dtype: Any, classifier: Classifier) -> None:
    array = pictures(1)
    shape: Any = list(array.shape)
    (alone,) = classifier.predict(GpuArray(array.ctypes.data, shape, dtype))
    (expected,) = classifier.predict(ByInterface(array))
    assert alone.best == expected.best


@pytest.mark.parametrize(("shape", "row_bytes"), [((1, -8, 8, 3), None), ((1, 8, 8, 3), 23), ((8, 8, 3), 8)])
def test_an_address_with_an_impossible_layout_is_refused(shape: tuple[int, ...], row_bytes: int | None) -> None:
    with pytest.raises(InputError):
        GpuArray(4096, shape, row_bytes=row_bytes)


@pytest.mark.parametrize("version", [1, 3])
def test_older_interfaces_and_arrays_that_may_only_be_read_are_taken(version: int) -> None:
    array = pictures(1)
    found = ByInterface(array, version=version, data=(array.ctypes.data, True))
    del found.__cuda_array_interface__["stream"], found.__cuda_array_interface__["strides"]
    assert read_gpu_array(found, stream=7).address == array.ctypes.data


@pytest.mark.parametrize("shape", [(2, 8, 12, 3), (8, 12, 3)])
def test_rows_may_end_in_padding(shape: tuple[int, ...]) -> None:
    wide = np.zeros(shape, np.uint8)
    found = read_gpu_array(ByInterface(wide[..., :8, :]), stream=7)
    assert (found.shape[-3:], found.row_bytes, found.row_size) == ((8, 8, 3), 36, 24)


@pytest.mark.parametrize(
    ("thing", "facts"),
    [
        (ByInterface(pictures(2).transpose(0, 2, 1, 3)), ["ByInterface", "strides"]),
        (ByInterface(np.flip(pictures(2), 1)), ["strides"]),
        (ByInterface(pictures(2)[:, :, ::2]), ["strides"]),
        (ByInterface(np.broadcast_to(pictures(1), (2, 8, 8, 3))), ["strides"]),
        (ByInterface(np.flip(pictures(2), 2)), ["strides", "-3"]),
        (ByInterface(pictures(1), stream=0), ["stream 0"]),
        (ByInterface(pictures(1), stream="main"), ["main"]),
        (ByInterface(pictures(1), mask=pictures(1)), ["mask"]),
        (ByDlpack(pictures(1), device=(2, 1)), ["GPU 1", "GPU 0"]),
        (ByDlpack(pictures(2).transpose(0, 2, 1, 3)), ["strides"]),
        (ByDlpack(pictures(1).astype(np.complex64)), ["type"]),
        (ByInterface(pictures(1), shape=(-1, 8, 8, 3)), ["-1"]),
    ],
)
def test_arrays_that_are_not_in_c_order_or_on_the_gpu_are_refused(thing: Any, facts: list[str]) -> None:
    with pytest.raises(InputError) as error:
        read_gpu_array(thing, stream=7)
    assert all(fact in str(error.value) for fact in facts)


@pytest.mark.parametrize("form", [ByInterface, ByDlpack])
def test_a_classifier_answers_for_pictures_on_the_gpu(form: Any, classifier: Classifier) -> None:
    array = pictures(7)
    predictions = classifier.predict(form(array))
    assert [each.best.index for each in predictions] == array.mean(axis=(1, 2)).argmax(axis=1).tolist()
    alone = classifier.predict(form(array[2]), top=1)
    assert alone.best == predictions[2].best
    assert len(alone.answers) == 1


@pytest.mark.parametrize(
    ("array", "facts"),
    [
        (pictures(1, side=9), ["(1, 9, 9, 3)", "(N, 8, 8, 3)"]),
        (pictures(1).astype(np.float32), ["float32", "uint8"]),
        (pictures(1)[0, 0], ["(8, 3)"]),
        (pictures(0), ["batch of 0"]),
    ],
)
def test_pictures_on_the_gpu_have_the_models_size_and_type(
    array: Any, facts: list[str], classifier: Classifier
) -> None:
    with pytest.raises(InputError) as error:
        classifier.predict(ByInterface(array))
    assert all(fact in str(error.value) for fact in facts)


def test_a_model_in_the_hosts_memory_takes_no_array_on_a_gpu(tiny_onnx: Path) -> None:
    with OrtBackend(tiny_onnx) as backend, pytest.raises(InputError, match="taijitu engine"):
        backend.infer(ByInterface(pictures(1)))


def test_the_driver_is_told_where_padded_rows_go() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    calls: list[tuple[Any, ...]] = []
    gpu = object.__new__(Gpu)
    gpu._driver = driver
    gpu._call = lambda *arguments: calls.append(arguments)  # type: ignore[method-assign]
    gpu.copy(512, GpuArray(4096, (2, 8, 8, 3), row_bytes=64), stream=7)
    ((name, copy, stream),) = calls
    assert (name, stream) == ("cuMemcpy2DAsync", 7)
    assert (int(copy.srcDevice), copy.srcPitch, int(copy.dstDevice), copy.dstPitch) == (4096, 64, 512, 24)
    assert (copy.WidthInBytes, copy.Height) == (24, 16)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="typing.get_overloads is new in Python 3.11")
def test_type_checkers_know_that_predict_takes_arrays_on_a_gpu() -> None:
    known = {each.__annotations__["pictures"]: each for each in typing.get_overloads(Classifier.predict)}
    (kinds,) = [kinds for kinds in known if "GpuArray" in kinds]
    assert {"DlpackArray", "CudaArray"} <= set(kinds.split(" | "))
    assert known[kinds].__annotations__["return"] == "Prediction | list[Prediction]"

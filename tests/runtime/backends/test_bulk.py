"""Many images: what runs at the same time, in which order, and how far ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from taijitu_runtime.backends.bulk import WINDOW, batch_for_cache, chunked, mapped
from taijitu_runtime.backends.ort.backend import OrtBackend
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import PictureError
from taijitu_runtime.onnx_graph.tensor_sizes import largest_tensor_bytes


def test_results_are_in_order_from_several_threads_and_few_items_are_read_ahead() -> None:
    both = threading.Barrier(2, timeout=30)
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    def work(number: int) -> int:
        both.wait()  # passes only if two run at the same time
        return number * number

    for index, result in enumerate(mapped(work, items(), 2)):
        assert result == index * index
        assert taken <= index + 1 + 2 * WINDOW
    assert taken == 20


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_is_raised_in_its_place_and_ends_the_work(workers: int) -> None:
    def work(number: int) -> int:
        if number == 4:
            raise ValueError("four")
        return number

    results = []
    with pytest.raises(ValueError, match="four"):
        results.extend(mapped(work, iter(range(1000)), workers))
    assert results == [0, 1, 2, 3]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bulk")]


def test_chunks_hold_every_item() -> None:
    assert list(chunked(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(chunked([], 3)) == []


def test_a_run_is_as_large_as_the_cache_allows() -> None:
    mebibyte = 1024 * 1024
    assert batch_for_cache(mebibyte // 4, 2 * mebibyte) == 4
    assert batch_for_cache(100 * mebibyte, mebibyte) == 1
    assert batch_for_cache(10, mebibyte) == 16


def test_the_largest_tensor_is_read_from_the_file(shipped_onnx: Path) -> None:
    graph = onnx.load(shipped_onnx).graph
    sizes = [
        4 * int(np.prod([dim.dim_value or 1 for dim in info.type.tensor_type.shape.dim[1:]]))
        for info in graph.value_info
    ]
    assert largest_tensor_bytes(shipped_onnx.read_bytes()) == max(sizes) > 0
    assert largest_tensor_bytes(b"no model") is None


def test_a_picture_has_the_same_answer_alone_in_a_list_and_among_damaged_ones(
    shipped_onnx: Path, photograph: Path
) -> None:
    with Classifier.from_file(shipped_onnx) as classifier:
        assert isinstance(classifier.backend, OrtBackend)
        alone = classifier.predict(photograph)
        outcomes = list(classifier.predict_each([photograph, b"damaged", photograph] * 5))
        prepared = np.stack([classifier.prepare(photograph)] * 11)
        together = classifier.logits(prepared)
    assert [isinstance(outcome, PictureError) for outcome in outcomes] == [False, True, False] * 5
    for outcome in outcomes:
        if not isinstance(outcome, PictureError):
            assert outcome.best.label == alone.best.label
            np.testing.assert_allclose(outcome.logits, alone.logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(together, np.tile(alone.logits, (11, 1)), rtol=0, atol=1e-4)

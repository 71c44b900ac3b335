"""Many images: what runs at the same time, in which order, and how far ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from taijitu_runtime.backends import bulk
from taijitu_runtime.backends.bulk import MOST_IN_TASK, TASK_S, WINDOW, Pace, batch_for_cache, mapped, tasks
from taijitu_runtime.backends.ort.backend import OrtBackend
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import ArtefactError, PictureError
from taijitu_runtime.onnx_graph.tensor_sizes import largest_tensor_bytes
from tests.helpers.tiny_model import make_tiny_onnx, plain


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


@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_an_error_of_the_iterable_comes_behind_the_answers_to_what_it_gave(count: int, tmp_path: Path) -> None:
    def unplugged() -> Iterator[NDArray[np.uint8]]:
        yield from np.zeros((count, 8, 8, 3), np.uint8)
        raise ConnectionError("the camera is gone")

    answers: list[object] = []
    model = Classifier.from_file(make_tiny_onnx(tmp_path / "tiny.onnx"), threads=2)
    with model as classifier, pytest.raises(ConnectionError):
        answers.extend(classifier.predict_each(unplugged()))
    assert len(answers) == count


def pace_of(images: int) -> Pace:
    pace = Pace(4)
    pace.images = images
    return pace


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9, 40, 1000, 1003])
@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("most", [4, 64])
def test_tasks_hold_every_item_in_whole_batches(count: int, workers: int, most: int) -> None:
    made = list(tasks(range(count), pace_of(most), workers))
    assert [item for task in made for item in task] == list(range(count))
    assert all(len(task) % 4 == 0 for task in made[:-1])
    assert max(map(len, made), default=0) <= most
    busy_until = [0] * workers
    for task in made:
        busy_until.sort()
        busy_until[0] += len(task)
    assert max(busy_until) <= count / workers + 4, "or the others would wait for the last worker"


def test_tasks_become_as_long_as_they_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PATIENCE_S", 60.0)  # a busy machine may stop this test for longer than usual
    pace = Pace(4)
    made = tasks(iter(range(10_000)), pace, 1)
    assert len(next(made)) == 4
    pace.note(4, TASK_S / 16)
    assert len(next(made)) == 64
    pace.note(64, 16 * TASK_S)
    next(made)
    assert len(next(made)) == 4, "a slow network answers a batch at a time"
    pace.note(4, 0.0)
    assert pace.images == MOST_IN_TASK


def test_large_images_are_not_read_far_ahead() -> None:
    taken, held = 0, bulk.AHEAD_BYTES // 8

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 1000:
            taken += 1
            yield taken

    first = next(tasks(items(), pace_of(64), 2, lambda _: held))
    assert (len(first), taken) == (4, 8)


def test_images_that_come_slowly_are_begun_with_and_share_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PATIENCE_S", -1.0)
    assert list(tasks(range(10), pace_of(64), 2)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_result_that_is_ready_does_not_wait_for_later_items() -> None:
    answered = threading.Event()

    def items() -> Iterator[int]:
        yield from (0, 1)
        assert done.wait(30)
        yield 2
        assert answered.wait(30), "the first result is there, and 2 * WINDOW more items would not have come"
        yield 3

    def work(number: int) -> int:
        done.set()
        return number

    done = threading.Event()
    for result in mapped(work, items(), 2):
        assert result in range(4)
        answered.set()


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


def replace_model(model: Path) -> None:
    make_tiny_onnx(model.with_name("new.onnx"), scale=-1).replace(model)


def replace_weights(model: Path) -> None:
    weights = model.with_name("weights.bin")
    new = weights.with_suffix(".new")
    (-np.fromfile(weights, np.float32)).tofile(new)
    new.replace(weights)


@pytest.mark.parametrize("replace", [replace_model, replace_weights])
def test_a_file_that_is_replaced_answers_no_picture_of_a_loaded_model(
    tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    onnx.save(onnx.load(model), model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    blue = plain((0, 0, 255))
    with Classifier.from_file(model, threads=2, batch_size=1) as classifier:
        alone = classifier.predict(blue)
        replace(model)
        for one in classifier.predict([blue] * 4):
            assert one == alone
            np.testing.assert_array_equal(one.logits, alone.logits)
        with pytest.raises(ArtefactError):
            classifier.class_maps()


def test_a_session_that_is_opened_during_close_does_not_answer_for_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    backend = OrtBackend(model, threads=2)
    backend.load()
    images, open_session = plain((0, 0, 255))[None], backend._new_session
    opens, may_open = threading.Event(), threading.Event()

    def open_slowly(threads: int) -> object:
        opens.set()
        assert may_open.wait(30)
        return open_session(threads)

    monkeypatch.setattr(backend, "_new_session", open_slowly)
    asks = threading.Thread(target=lambda: backend.infer(images, alongside=True))
    closes = threading.Thread(target=backend.close)
    asks.start()
    assert opens.wait(30)
    closes.start()
    closes.join(0.2)
    may_open.set()
    asks.join()
    closes.join()
    replace_model(model)
    with backend:
        np.testing.assert_allclose(backend.infer(images, alongside=True), backend.infer(images))

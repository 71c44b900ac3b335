"""Frames become answers: colours, regions, smoothing, rates and percentiles."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from taijitu_runtime.answers import Answer, scores_from_logits
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.decision.rule import DecisionRule
from taijitu_runtime.errors import SourceError, UsageError
from taijitu_runtime.live import Frame, Reader, Region, Result, View, Watcher, watch
from taijitu_runtime.live.overlay import draw
from taijitu_runtime.live.smoothing import SmoothedAnswers, Smoother
from taijitu_runtime.live.summary import Percentiles, Rate
from taijitu_runtime.live.watch import image_from_bgr
from tests.helpers.late_reader import LateReader

RED, BLUE = (0, 0, 230), (230, 0, 0)  # BGR


@pytest.fixture
def halves() -> Frame:
    """Draw 80 x 40 pixels: the left half red, the right blue."""
    pixels = np.full((40, 80, 3), RED, np.uint8)
    pixels[:, 40:] = BLUE
    return Frame(1, pixels, captured_s=0.0)


def test_opencvs_colours_reach_the_network_in_its_own_order(tiny_onnx: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        watcher = Watcher(classifier)
        for colour, label in ((RED, "red"), ((0, 230, 0), "green"), (BLUE, "blue")):
            frame = Frame(1, np.full((48, 64, 3), colour, np.uint8), captured_s=0.0)
            assert watcher.classify(frame).answers[0].label == label


def test_a_frame_is_prepared_to_the_very_pixels_of_a_picture(tiny_onnx: Path, photograph: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        frame = cv2.imread(str(photograph))
        assert frame is not None
        prepared = classifier.prepare(image_from_bgr(np.asarray(frame, np.uint8)))
        np.testing.assert_array_equal(prepared, classifier.prepare(photograph))


def test_the_region_is_what_is_classified(tiny_onnx: Path, halves: Frame) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        for text, label, box in (("0,0,40,40", "red", (0, 0, 40, 40)), ("50%,0%,50%,100%", "blue", (40, 0, 80, 40))):
            result = Watcher(classifier, View(region=Region.from_text(text))).classify(halves)
            assert (result.answers[0].label, result.box) == (label, box)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,2,3", "got the region '1,2,3', expected x,y,width,height"),
        ("1,2,3%,4", "expected x,y,width,height in pixels"),
        ("-1,0,3,4", "expected x,y,width,height in pixels"),
        ("0,0,0,4", "expected a width and a height above 0"),
        ("70,0,20,20", r"got a region from \(70, 0\) to \(90, 20\), expected .* inside the frame of 80 x 40"),
        ("60%,0%,50%,100%", "at least a pixel"),
        ((0, 0, 10, 10), r"got the region \(0, 0, 10, 10\), expected a text: x,y"),
    ],
)
def test_a_region_that_makes_no_sense_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Region.from_text(text).box(80, 40)


def test_a_picture_that_is_too_small_for_the_region_is_named(tiny_onnx: Path, halves: Frame) -> None:
    frame = dataclasses.replace(halves, name="small\n.png")
    with Classifier.from_file(tiny_onnx) as classifier:
        watcher = Watcher(classifier, View(region=Region.from_text("0,0,81,40")))
        with pytest.raises(UsageError, match=r"80 x 40, small\\n\.png"):
            watcher.classify(frame)


@pytest.mark.parametrize(
    "numbers", [(-60, 0, 100, 40), (0, -1, 10, 10), (0, 0, math.nan, 1), (0, 0, math.inf, 1), ("0", "0", "9", "9")]
)
def test_a_region_of_impossible_numbers_is_refused_and_not_another_part_classified(
    numbers: tuple[float, float, float, float],
) -> None:
    with pytest.raises(UsageError, match=r"got .* expected"):
        Region(*numbers, percent=False).box(80, 40)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("cat.png",), "got a str as reader, expected a Reader; do: Reader"),
        ((Path("cat.png"),), "as reader, expected a Reader; do: Reader"),
        ((Reader("cat.png"), {"top": 1}), "got a dict as view, expected a View; do: View"),
    ],
)
def test_what_is_no_reader_or_view_is_told_what_to_write(
    tiny_onnx: Path, arguments: tuple[Any, ...], told: str
) -> None:
    with Classifier.from_file(tiny_onnx) as classifier, pytest.raises(UsageError, match=told):
        watch(classifier, arguments[0], print, view=arguments[1] if arguments[1:] else None)


def test_results_can_be_compared_and_found_in_a_list(tiny_onnx: Path, halves: Frame) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        result = Watcher(classifier).classify(halves)
    again = dataclasses.replace(result, frame=dataclasses.replace(halves, pixels=halves.pixels.copy()))
    assert again == result
    assert [result].index(again) == 0
    assert len({halves, again.frame}) == 1


def test_smoothing_worked_out_by_hand() -> None:
    smoother = Smoother(2.0)
    first, second = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    np.testing.assert_allclose(smoother.add(first, 10.0), [1, 0])
    past = math.exp(-0.5)  # one second later, of two
    np.testing.assert_allclose(smoother.add(second, 11.0), np.array([past, 1]) / (past + 1))
    weights = np.exp([-1.5, -1, 0])  # 3, 2 and 0 seconds old
    np.testing.assert_allclose(smoother.add(second, 13.0), np.array([weights[0], weights[1:].sum()]) / weights.sum())
    np.testing.assert_array_equal(smoother.add(first, 1.0), first)  # a recording begins after another
    off = Smoother(0.0)
    off.add(first, 0.0)
    np.testing.assert_array_equal(off.add(second, 0.0), second)


@pytest.mark.parametrize("smoothing_s", [0.0, 2.0])
def test_probabilities_that_round_to_the_same_have_the_order_of_the_logits(smoothing_s: float) -> None:
    labels = ("ant", "bee", "cat", "dog")
    scores = scores_from_logits(np.array([[-200, -199, 0, -198]], np.float32))
    smoothed = SmoothedAnswers(DecisionRule(labels, None), smoothing_s)
    for time_s in (0.0, 1.0):
        answers, _ = smoothed.add(scores, time_s, 4)
        assert [answer.label for answer in answers] == ["cat", "dog", "bee", "ant"]


def test_smoothed_answers_change_later_than_the_picture(tiny_onnx: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        watcher = Watcher(classifier, View(smoothing_s=1.0))
        frames = [Frame(i, np.full((8, 8, 3), RED if i < 100 else BLUE, np.uint8), i / 10) for i in range(130)]
        labels = [watcher.classify(frame).answers[0].label for frame in frames]
    assert labels[100] == "red"
    assert labels[-1] == "blue"
    # Equal weights after the time constant times ln 2: 7 frames of 0.1 s.
    assert labels.index("blue") == 99 + 7


def test_the_first_frame_weighs_no_more_than_another_in_smoothed_answers(tiny_onnx: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        watcher = Watcher(classifier, View(smoothing_s=1.0))
        frames = [Frame(i, np.full((8, 8, 3), BLUE if i else RED, np.uint8), i / 30) for i in range(3)]
        assert [watcher.classify(frame).answers[0].label for frame in frames] == ["red", "blue", "blue"]


def test_every_third_frame_is_classified_and_the_others_carry_its_answers(tiny_onnx: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        watcher = Watcher(classifier, View(every=3, top=1))
        colours = [RED, BLUE, BLUE, BLUE]
        results = [watcher.classify(Frame(i, np.full((8, 8, 3), c, np.uint8), 0.0)) for i, c in enumerate(colours)]
    assert [result.classified for result in results] == [True, False, False, True]
    assert [result.answers[0].label for result in results] == ["red", "red", "red", "blue"]
    assert len(results[0].answers) == 1


def test_an_answer_below_the_threshold_is_unknown(tiny_onnx: Path, halves: Frame) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        found = Watcher(classifier).classify(halves)
        assert (len(found.answers), found.certainty.known) == (3, None)
        best = found.answers[0].probability
        assert Watcher(classifier, View(threshold=best)).classify(halves).certainty.known is True
        unknown = Watcher(classifier, View(threshold=1.0)).classify(halves)
        assert (unknown.answers, unknown.certainty.known) == (found.answers, False)
        assert [(result.known, result.set) for result in (found, unknown)] == [(None, None), (False, None)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.5},
        {"every": 0},
        {"every": math.nan},
        {"every": math.inf},
        {"every": 1.5},
        {"every": "2"},
        {"smoothing_s": -1.0},
        {"smoothing_s": math.nan},
        {"smoothing_s": math.inf},
        {"top": 4},
        {"top": 0},
        {"region": "25%,0%,50%,100%"},
    ],
)
def test_a_view_out_of_range_is_refused(tiny_onnx: Path, wrong: dict[str, Any]) -> None:
    with Classifier.from_file(tiny_onnx) as classifier, pytest.raises(UsageError, match=r"got .* expected"):
        Watcher(classifier, View(**wrong))


def test_the_picture_shows_bar_and_region_and_the_frame_stays_as_it_was(tiny_onnx: Path) -> None:
    frame = Frame(1, np.full((240, 320, 3), (200, 200, 200), np.uint8), captured_s=0.0)
    with Classifier.from_file(tiny_onnx) as classifier:
        result = Watcher(classifier, View(region=Region.from_text("100,100,50,60"))).classify(frame)
    drawn = result.annotated
    assert drawn is result.annotated
    assert (frame.pixels == 200).all()
    assert drawn.shape == (480, 640, 3)  # enlarged, for the text to be read
    changed = (drawn != 200).any(axis=2)
    assert changed[200, 200:300].all()  # the region's upper edge
    assert changed[:20, :100].all()  # the first answer's panel
    bar = (drawn[:20] == (60, 150, 60)).all(axis=2).any(axis=0)
    assert bar.sum() == pytest.approx(280 * result.answers[0].probability, abs=3)


@pytest.mark.parametrize(
    ("size", "drawn_size"),
    [((48, 64), (480, 640)), ((240, 320), (480, 640)), ((224, 224), (672, 672)), ((480, 640), (480, 640)),
     ((1080, 1920), (1080, 1920)), ((20, 1000), (20, 1000)), ((2000, 40), (2000, 40)), ((1, 1), (480, 480))],
)  # fmt: skip
def test_text_leaves_most_of_any_picture_free(size: tuple[int, int], drawn_size: tuple[int, int]) -> None:
    answers = [Answer("label", index, 0.2) for index in range(5)]
    drawn = draw(np.full((*size, 3), 200, np.uint8), answers, None, "25.0 frames/s  age 12 ms")
    assert drawn.shape[:2] == drawn_size
    assert (drawn != 200).any(axis=2).mean() < 0.31
    assert (drawn != 200).any() == (size != (20, 1000))  # too flat for a line


def test_a_callback_sees_every_frame_of_a_file_and_may_stop(tiny_onnx: Path, tmp_path: Path) -> None:
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((20, 20, 3), RED, np.uint8))
    seen: list[Result] = []
    stop = threading.Event()
    with Classifier.from_file(tiny_onnx) as classifier:
        summary = watch(classifier, Reader(f"{tmp_path}/*.png"), seen.append)
        assert [Path(result.frame.name).stem for result in seen] == ["0", "1", "2", "3", "4"]
        assert (summary.counters.read, summary.classified, summary.error) == (5, 5, None)
        assert summary.age.percentile(50) >= summary.latency.percentile(50) > 0
        summary = watch(classifier, Reader(f"{tmp_path}/*.png"), lambda _: stop.set(), stop=stop)
        assert summary.classified == 1
        summary = watch(classifier, Reader(f"{tmp_path}/*.png"), seen.append, stop=stop)
        assert (summary.classified, len(seen)) == (0, 5)


def test_a_last_frame_that_comes_right_after_a_wait_is_classified(tiny_onnx: Path, photograph: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        summary = watch(classifier, LateReader(str(photograph)), lambda _: None)
    assert (summary.classified, summary.counters.dropped) == (1, 0)


def test_a_source_that_never_opened_is_an_error(tiny_onnx: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier, pytest.raises(SourceError, match="got no such file"):
        watch(classifier, Reader("absent.mp4"), print)


def test_percentiles_are_those_of_numpy_within_half_a_percent() -> None:
    values = np.random.default_rng(0).lognormal(3, 1, 1000)
    percentiles = Percentiles()
    assert math.isnan(percentiles.percentile(50))
    for value in values:
        percentiles.add(value)
    for percent in (50, 95, 99):
        exact = np.percentile(values, percent, method="inverted_cdf")
        assert percentiles.percentile(percent) == pytest.approx(exact, rel=0.006)


def test_the_rate_is_that_of_the_last_two_seconds() -> None:
    rate = Rate()
    assert rate.add(0.0) == 0
    assert [rate.add(index / 10) for index in range(1, 31)][-1] == pytest.approx(10)
    assert [rate.add(3 + index / 4) for index in range(1, 13)][-1] == pytest.approx(4)
    assert [rate.add(6 + 5 * index) for index in range(1, 4)] == pytest.approx([0.2] * 3)  # one frame in five seconds


def test_opening_does_not_count_for_the_rates(tiny_onnx: Path, photograph: Path) -> None:
    captured_s: list[float] = []
    with Classifier.from_file(tiny_onnx) as classifier:
        summary = watch(classifier, Reader(str(photograph)), lambda result: captured_s.append(result.frame.captured_s))
    assert summary.counters.read == 1
    assert 0 < summary.seconds < time.monotonic() - captured_s[0]


def test_a_run_without_a_good_frame_has_no_rates(tiny_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with Classifier.from_file(tiny_onnx) as classifier:
        summary = watch(classifier, Reader(f"{tmp_path}/broken.jpg"), lambda _: None)
    assert summary.counters.failed == 1
    assert "frames/s" not in str(summary)

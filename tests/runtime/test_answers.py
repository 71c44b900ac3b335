"""Logits become answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from taijitu_runtime.answers import Answer, check_logits, check_top, scores_from_logits, softmax
from taijitu_runtime.errors import ArtefactError, InputError, UsageError

LABELS = ("ant", "bee", "cat", "dog")


def float32(rows: list[list[float]]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def test_softmax_is_float32_and_agrees_with_the_definition_in_double_precision() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (6, 50)).astype(np.float32)
    powers = np.exp(logits.astype(np.float64))
    got = softmax(logits)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)


def test_softmax_of_huge_logits_does_not_overflow() -> None:
    assert softmax(float32([[3e38, 3e38, -3e38]])).tolist() == [[0.5, 0.5, 0.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_logits_are_an_error_of_the_model(bad: float) -> None:
    with pytest.raises(ArtefactError, match=r"^got 1 of 4 logits .*NaN"):
        scores_from_logits(float32([[1, bad, 0, 0]]))


def test_answers_are_ordered_and_carry_label_index_and_probability() -> None:
    logits = float32(np.log([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.15, 0.05]]).tolist())
    first, second = scores_from_logits(logits).answers(LABELS, 2)
    assert [(a.label, a.index) for a in first] == [("dog", 3), ("cat", 2)]
    assert [(a.label, a.index) for a in second] == [("ant", 0), ("cat", 2)]
    assert [a.probability for a in first + second] == pytest.approx([0.4, 0.3, 0.7, 0.15])
    assert type(first[0].probability) is float
    assert type(first[0].index) is int


def test_an_answer_is_the_same_json_in_every_program() -> None:
    answer = Answer("ant", 0, 0.7)
    assert answer.as_json() == {"label": "ant", "index": 0, "probability": 0.7}
    assert orjson.dumps(answer) == orjson.dumps(answer.as_json()), "the server gives orjson the answers themselves"


def test_for_equal_logits_the_lower_index_comes_first() -> None:
    logits = float32([[0, 1, 1, 1], [2, 2, 2, 2]])
    rows = scores_from_logits(logits).answers(LABELS, 4)
    assert [[a.index for a in row] for row in rows] == [
        [1, 2, 3, 0],
        [0, 1, 2, 3],
    ]


def test_the_order_is_that_of_the_logits_even_where_probabilities_round_to_the_same() -> None:
    logits = float32([[-200, -199, 0, -198]])
    assert [a.index for a in scores_from_logits(logits).answers(LABELS, 4)[0]] == [2, 3, 1, 0]


@pytest.mark.parametrize("k", [0, -1, 5, 2.0, "3"])
def test_k_outside_the_labels_is_a_usage_error(k: Any) -> None:
    with pytest.raises(UsageError, match=rf"got top {k!r}, expected 1 to 4"):
        check_top(k, LABELS)


@pytest.mark.parametrize("shape", [(4,), (1, 3), (1, 1, 4)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\(N, 4\)"):
        check_logits(np.zeros(shape, np.float32), LABELS)


@pytest.mark.parametrize("logits", [None, [[1.0, 2.0, 3.0, 4.0]], np.full((1, 4), "a"), np.zeros((1, 4), complex)])
def test_logits_of_another_kind_are_refused(logits: Any) -> None:
    with pytest.raises(InputError, match=r"\(N, 4\)"):
        check_logits(logits, LABELS)


def test_an_answer_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Answer("ant", 0, 1.0).label = "bee"  # type: ignore[misc]

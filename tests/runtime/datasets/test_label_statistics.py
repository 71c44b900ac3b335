"""Counts of labels: which ones are named, and which counts are a warning."""

from __future__ import annotations

import numpy as np
import pytest

from taijitu_runtime.datasets.label_statistics import counts_in_words, label_counts, warnings_of

ADVICE = "weigh them"


def test_labels_without_pictures_are_counted_and_pictures_of_none_are_not() -> None:
    assert label_counts(np.array([1, 1, 3, 0, 7]), ("a", "b", "c")) == {"a": 1, "b": 2, "c": 0}


def test_of_many_labels_the_four_largest_and_the_four_smallest_are_named() -> None:
    counts = {f"label{number:02}": 1000 + number for number in range(13)}
    text = counts_in_words(counts)
    named = [*range(12, 8, -1), *range(3, -1, -1)]
    assert [word for word in text.replace(",", " ").split() if word.startswith("label")][1:] == [
        f"label{number:02}" for number in named
    ]
    assert text.startswith("13 labels")
    del counts["label12"]
    assert all(label in counts_in_words(counts) for label in counts)


@pytest.mark.parametrize(
    ("counts", "warnings"),
    [
        ({"a": 20, "b": 200}, 0),
        ({"a": 20, "b": 201}, 1),  # more than 10 times as many
        ({"a": 19, "b": 20}, 1),  # few
        ({"a": 19, "b": 191}, 2),
        ({"a": 0, "b": 500}, 0),  # a label without pictures is not looked at
        ({"a": 0}, 0),
        ({}, 0),
        ({"Red": 30, "red": 30, "r ed": 30, "blue": 30}, 1),
        ({"Red": 30, "red": 0}, 0),
    ],
)
def test_few_pictures_uneven_counts_and_labels_that_look_alike_are_a_warning_each(
    counts: dict[str, int], warnings: int
) -> None:
    assert len(warnings_of(counts, ADVICE)) == warnings


def test_the_labels_of_a_warning_are_named_with_their_counts_and_what_to_do() -> None:
    (uneven,) = warnings_of({"rare": 20, "usual": 90, "common": 1234}, ADVICE)
    assert "1,234 pictures of common" in uneven
    assert "20 of rare" in uneven
    assert "usual" not in uneven
    assert uneven.endswith(ADVICE)
    (few,) = warnings_of({f"label{number:02}": 5 for number in range(15)}, ADVICE)
    assert ("label11 5" in few, "label12" in few, "3 more labels" in few) == (True, False, True)

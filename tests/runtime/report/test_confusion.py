"""The confusion matrix of a page: its numbers, its most confused pairs, recall and precision."""

from __future__ import annotations

import re

import numpy as np

from taijitu_runtime.report.confusion import Confusion, classes_html, matrix_html


def test_the_matrix_has_numbers_up_to_twenty_labels() -> None:
    def numbers(count: int) -> list[str]:
        targets = np.arange(count).repeat(3)  # of three pictures, the first is taken for the next label
        answered = np.where(np.arange(3 * count) % 3, targets, (targets + 1) % count)
        confusion = Confusion.of(targets, answered, count)
        return re.findall(r"<td[^>]*>(\d+)</td>", matrix_html(confusion, [""] * count))

    assert sorted(numbers(20)) == ["1"] * 20 + ["2"] * 20
    assert numbers(21) == []


def test_the_most_confused_pair_comes_first() -> None:
    right = np.arange(40).repeat(10)
    targets, answered = np.concatenate([right, [7] * 5, [3] * 8]), np.concatenate([right, [9] * 5, [4] * 8])
    html = matrix_html(Confusion.of(targets, answered, 40), [f"label {index}" for index in range(40)])
    pairs = re.findall(r'<th scope="row">label (\d+)</th><td class="words">label (\d+)</td><td>(\d+)</td>', html)
    assert pairs == [("3", "4", "8"), ("7", "9", "5")]
    assert "44.4&nbsp;%" in html
    assert "No label was taken for another." in matrix_html(Confusion.of(right, right, 40), [""] * 40)


def test_recall_and_precision_by_hand() -> None:
    # 4 cats, of which 1 is answered dog; 1 dog, right; no owl at all, but one cat is answered owl.
    confusion = Confusion.of(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 2, 1]), 4)
    html = classes_html(confusion, ["cat", "dog", "owl", "yak"])
    table = re.findall(r"<th scope=\"row\">(\w+)</th><td>(\d+)</td><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>", html)
    assert table == [
        ("cat", "4", "50.0&nbsp;%", "100.0&nbsp;%"),
        ("dog", "1", "100.0&nbsp;%", "50.0&nbsp;%"),
        ("owl", "0", "-", "0.0&nbsp;%"),
        ("yak", "0", "-", "-"),
    ]
    assert re.findall(r'<td class="words">([^<]*)</td>', html) == ["dog 25.0&nbsp;%, owl 25.0&nbsp;%", "", "", ""]


def test_pictures_without_an_answer_count_for_the_recall_of_their_label() -> None:
    found = Confusion.of(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, -1, -1]), 2)
    assert found.matrix.tolist() == [[2, 1], [0, 0]]
    assert (found.recall.tolist(), found.precision.tolist()) == ([0.5, 0.0], [1.0, 0.0])

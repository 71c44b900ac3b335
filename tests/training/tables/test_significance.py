"""Tests of differences against numbers worked out by hand or printed in textbooks."""

from __future__ import annotations

import math

import pytest

from taijitu_training.tables.significance import Summary, holm, paired_differences, standard_error, welch_differences


def test_the_standard_error_is_the_deviation_over_the_root_of_n() -> None:
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(1 / math.sqrt(3))
    assert standard_error([1.0]) is None


def test_holm_multiplies_the_smallest_by_the_number_of_tests_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []


def test_rows_are_paired_by_their_seeds() -> None:
    rows = {"a": {0: 80.0, 1: 70.0, 2: 75.0}, "b": {2: 74.0, 1: 69.1, 0: 78.9}}
    (found,) = paired_differences(rows)
    assert (found.first, found.second) == ("a", "b")
    assert found.mean == pytest.approx(1.0)
    # differences 1.1, 0.9, 1.0: t = 1 / (0.1 / sqrt(3)) = 17.32 with two degrees of freedom
    assert found.p == pytest.approx(0.00332, abs=1e-5)
    assert "different" in found.verdict
    assert "not" not in found.verdict


def test_two_runs_are_not_tested_and_equal_ones_are_not_different() -> None:
    (few,) = paired_differences({"a": {0: 80.0, 1: 81.0}, "b": {0: 70.0, 1: 71.0}})
    assert few.p is None
    (equal,) = paired_differences({"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {0: 1.0, 1: 2.0, 2: 3.0}})
    assert equal.p == 1.0
    assert paired_differences({"a": {0: 1.0}, "b": {1: 1.0}}) == []


def test_what_yynets_table_1_shows() -> None:
    """Test its best and its worst fusion, three runs each: 88.21 +- 0.46 and 87.61 +- 0.09."""
    (found,) = welch_differences({"a+i": Summary(88.21, 0.46, 3), "a*(1-i)": Summary(87.61, 0.09, 3)})
    # t = 0.60 / sqrt((0.46^2 + 0.09^2) / 3) = 2.217, 2.15 degrees of freedom
    assert found.mean == pytest.approx(0.60)
    assert found.p == pytest.approx(0.147, abs=0.005)
    assert "not shown" in found.verdict

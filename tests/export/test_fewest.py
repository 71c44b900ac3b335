"""The search for the smallest count that suffices."""

from __future__ import annotations

import pytest

from taijitu_export.fewest import fewest


@pytest.mark.parametrize(
    ("enough", "most", "expected"), [(1, 9, 1), (2, 9, 2), (3, 9, 3), (7, 9, 7), (9, 9, 9), (10, 9, None), (1, 0, None)]
)
def test_the_fewest_that_suffice_are_found(enough: int, most: int, expected: int | None) -> None:
    tried: list[int] = []

    def suffices(count: int) -> bool:
        tried.append(count)
        return count >= enough

    assert fewest(suffices, most) == expected
    assert len(tried) == len(set(tried)) <= 7
    assert all(1 <= count <= most for count in tried)

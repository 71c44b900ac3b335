"""The search for the smallest count that suffices, in few trials."""

from __future__ import annotations

from collections.abc import Callable


def fewest(suffices: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest count from 1 to `most` that suffices, if more suffice wherever fewer do; None if none does.

    Doubles until one does and then halves the gap: a count near the front is found in few trials.
    """
    failed, count = 0, 1
    while count <= most and not suffices(count):
        failed, count = count, 2 * count
        if failed < most < count:
            count = most
    if count > most:
        return None
    while count - failed > 1:
        middle = (failed + count) // 2
        failed, count = (failed, middle) if suffices(middle) else (middle, count)
    return count

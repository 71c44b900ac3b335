"""Numbers of percent, 0 to 100, as flags of commands and as arguments of functions."""

from __future__ import annotations

import argparse
import math

from taijitu_runtime.errors import check_number

PERCENT = "a number of percent from 0 to 100"


def percentage(text: str) -> float:
    """Parse a number of percent or of percentage points, 0 to 100, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected {PERCENT}")
    return value


def check_percentage(name: str, value: float | None) -> float | None:
    """Return a number of any kind, such as NumPy's, as a float; None for None.

    Raises:
        UsageError: It is not a number from 0 to 100; functions run without a command line too.
    """
    if value is None:
        return None
    check_number(name, value, 0, 100, PERCENT)
    return float(value)

"""Arguments that several command lines of this package share."""

from __future__ import annotations

import argparse
import math

SKIP_UNREADABLE = "leave out pictures that cannot be decoded, and list them (default: they are an error)"


def percentage(text: str) -> float:
    """Parse a number of percent or of percentage points, 0 to 100, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of percent from 0 to 100")
    return value

"""Arguments that several command lines and functions of this package share."""

from __future__ import annotations

import argparse
import math

from taijitu_runtime.errors import UsageError

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


def check_percentage(name: str, value: float | None) -> None:
    """Raise UsageError unless it is a number from 0 to 100, or None; functions run without a command line too."""
    if value is not None and not 0 <= value <= 100:
        raise UsageError(f"got {name} {value:g}, expected a number of percent from 0 to 100")

"""The part of a frame that is classified."""

from __future__ import annotations

import dataclasses
import math
import re

from taijitu_runtime.console import shown
from taijitu_runtime.errors import UsageError, check_number

EXPECTED = "x,y,width,height in pixels (100,50,640,480) or in percent of the frame (25%,0%,50%,100%)"


@dataclasses.dataclass(frozen=True)
class Region:
    """A rectangle, in pixels, or in percent of the frame's width and height. UsageError for a number below 0 or NaN."""

    left: float
    top: float
    width: float
    height: float
    percent: bool

    def __post_init__(self) -> None:
        for name in ("left", "top", "width", "height"):
            check_number(f"a region with {name}", getattr(self, name), 0, math.inf, f"from 0: {EXPECTED}", below=True)

    @classmethod
    def from_text(cls, text: str) -> Region:
        """Parse "x,y,width,height". Raises UsageError for anything else."""
        if not isinstance(text, str):
            raise UsageError(f"got the region {text!r}, expected a text: {EXPECTED}")
        parts = [part.strip() for part in text.split(",")]
        percent = all(re.fullmatch(r"\d{1,3}(\.\d+)?%", part) for part in parts)
        if len(parts) != 4 or not (percent or all(re.fullmatch(r"\d{1,9}", part) for part in parts)):
            raise UsageError(f"got the region {text!r}, expected {EXPECTED}")
        left, top, width, height = (float(part.rstrip("%")) for part in parts)
        region = cls(left, top, width, height, percent)
        if not (region.width and region.height):
            raise UsageError(f"got the region {text!r}, expected a width and a height above 0: {EXPECTED}")
        return region

    def box(self, width: int, height: int, name: str = "") -> tuple[int, int, int, int]:
        """Return left, top, right and bottom in pixels of a frame of this size; `name`: of its file, if it has one.

        Raises:
            UsageError: The region is not inside the frame.
        """
        scale_x, scale_y = (width / 100, height / 100) if self.percent else (1.0, 1.0)
        left, top = round(self.left * scale_x), round(self.top * scale_y)
        right, bottom = round((self.left + self.width) * scale_x), round((self.top + self.height) * scale_y)
        if right > width or bottom > height or right <= left or bottom <= top:
            raise UsageError(
                f"got a region from ({left}, {top}) to ({right}, {bottom}), expected one of at least a pixel, "
                f"completely inside the frame of {width} x {height}{f', {shown(name)}' if name else ''}"
            )
        return left, top, right, bottom

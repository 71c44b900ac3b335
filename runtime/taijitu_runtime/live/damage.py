"""Frames that a decoder filled in: it gives them like whole ones, and only what it prints tells them apart.

OpenCV hands FFmpeg's `err_detect` to the container's reader and not to the decoder, and drops the flags that FFmpeg
puts on such frames. The lines that FFmpeg prints are left. The capturing process writes a mark among them behind each
frame, so that a line belongs to the frame whose mark comes next.
"""

from __future__ import annotations

import re
from collections import deque

import numpy as np
from numpy.typing import NDArray

MARK = b"\0"
COMPLAINTS = re.compile(
    r"Packet corrupt|corrupt input packet|RTP: missed|max delay reached|"  # of what was lost on the way
    r"error while decoding|concealing|cabac decode|block unavailable|Invalid level prefix|"  # H.264
    r"Could not find ref with POC|CABAC_MAX_BIN|"  # H.265
    r"ac-tex damaged|slice mismatch|Error at MB|"  # MPEG-4, MPEG-2
    r"overread|EOI missing|mjpeg_decode|[Pp]remature end of"  # MJPEG; the last is libjpeg's, of a USB camera's frames
)
CUT = re.compile(r"partial file|File ended prematurely|Stream ends prematurely")
LONGEST_HOLD = 250  # frames; the usual distance of key frames at most, for streams that have none
GREYS = slice(126, 132)  # what decoders put where they have nothing: 128 of luma and chroma, in both ranges
GREY_SHARE = 0.5
SAMPLE = 4


def open_mark(threads: int) -> bytes:
    """A source is open; what was said before was of probing. The decoder reads up to `threads` - 1 frames ahead."""
    return MARK + b"open %d\n" % threads


def frame_mark(number: int) -> bytes:
    """Frame `number` is decoded."""
    return MARK + b"frame %d\n" % number


class Damage:
    """Which frames are damaged: those that FFmpeg complained about, and those after them up to a key frame."""

    def __init__(self) -> None:
        self._complaint: str | None = None  # about the frame whose mark comes next
        self._complaints: deque[tuple[int, str]] = deque()
        self._ahead = 0
        self._cut: str | None = None

    def mark(self, line: bytes) -> None:
        """Take a line that begins with MARK."""
        kind, number = line[len(MARK) :].split()
        if kind == b"open":
            self._complaint, self._cut, self._ahead = None, None, int(number) - 1
            self._complaints.clear()
        elif self._complaint:
            self._complaints.append((int(number), self._complaint))
            self._complaint = None

    def hear(self, line: str) -> None:
        """Take a line that a library printed."""
        if CUT.search(line):
            self._cut = line
        elif COMPLAINTS.search(line):
            self._complaint = line

    def of(self, number: int, key: int) -> str | None:
        """What was said of frame `number` or of one that it is decoded from; `key`: the last key frame up to it.

        To be asked for each frame once, in their order.
        """
        complaints = self._complaints
        while complaints and (key > complaints[0][0] + self._ahead or number > complaints[0][0] + LONGEST_HOLD):
            complaints.popleft()
        return complaints[0][1] if complaints and complaints[0][0] <= number else None

    @property
    def cut(self) -> str | None:
        """What tells that a file ended before its end: said so, or of data that gave no frame any more."""
        return self._cut or self._complaint


def is_mostly_grey(picture: NDArray[np.uint8]) -> bool:
    """Whether more than half of uint8 (H, W, 3) is the very grey that stands for nothing; no sensor is so even."""
    sample = picture[::SAMPLE, ::SAMPLE]
    first = sample[..., 0]
    even = (first == sample[..., 1]) & (first == sample[..., 2])
    counts = np.bincount(first[even], minlength=256)
    return bool(counts[GREYS].max() > GREY_SHARE * even.size)

"""Find frames whose missing parts a decoder filled in: only the lines that it prints tell them from intact ones.

OpenCV passes FFmpeg's `err_detect` to the container's reader and not to the decoder, and drops the flags that FFmpeg
sets on such frames. What is left are the lines that FFmpeg prints. The capturing process writes a mark among them after
each frame, so that a line belongs to the frame whose mark follows.
"""

from __future__ import annotations

import re
from collections import deque

import numpy as np
from numpy.typing import NDArray

MARK = b"\0"
COMPLAINTS = re.compile(
    r"Packet corrupt|corrupt input packet|RTP: missed|max delay reached|"  # lost on the network
    r"error while decoding|concealing|cabac decode|block unavailable|Invalid level prefix|"  # H.264
    r"Could not find ref with POC|CABAC_MAX_BIN|"  # H.265
    r"ac-tex damaged|slice mismatch|Error at MB|"  # MPEG-4, MPEG-2
    r"overread|EOI missing|mjpeg_decode|[Pp]remature end of"  # MJPEG; the last is libjpeg's, of a USB camera's frames
)
CUT = re.compile(r"partial file|File ended prematurely|Stream ends prematurely")
LONGEST_HOLD = 250  # frames; the usual largest distance of key frames, for streams without them
GREYS = slice(126, 132)  # decoders fill missing parts with luma and chroma of 128, in both ranges
GREY_SHARE = 0.5
SAMPLE = 4


def open_mark(threads: int) -> bytes:
    """Return the mark of an opened source: earlier lines were about probing.

    The decoder reads up to `threads` - 1 frames ahead.
    """
    return MARK + b"open %d\n" % threads


def frame_mark(number: int) -> bytes:
    """Return the mark of frame `number`, which is decoded."""
    return MARK + b"frame %d\n" % number


class Damage:
    """The damaged frames: those that FFmpeg complained about, and the following ones up to a key frame."""

    def __init__(self) -> None:
        self._complaint: str | None = None  # about the frame whose mark follows
        self._complaints: deque[tuple[int, str]] = deque()
        self._ahead = 0
        self._cut: str | None = None

    def mark(self, line: bytes) -> None:
        """Process a line that begins with MARK."""
        kind, number = line[len(MARK) :].split()
        if kind == b"open":
            self._complaint, self._cut, self._ahead = None, None, int(number) - 1
            self._complaints.clear()
        elif self._complaint:
            self._complaints.append((int(number), self._complaint))
            self._complaint = None

    def hear(self, line: str) -> None:
        """Process a line that a library printed."""
        if CUT.search(line):
            self._cut = line
        elif COMPLAINTS.search(line):
            self._complaint = line

    def of(self, number: int, key: int) -> str | None:
        """Return the complaint about frame `number` or one that it is decoded from; None for an intact frame.

        Call it once for each frame, in their order. `key` is the number of the last key frame up to it.
        """
        complaints = self._complaints
        while complaints and (key > complaints[0][0] + self._ahead or number > complaints[0][0] + LONGEST_HOLD):
            complaints.popleft()
        return complaints[0][1] if complaints and complaints[0][0] <= number else None

    @property
    def cut(self) -> str | None:
        """The line that says that a file is truncated, or a complaint after the last frame."""
        return self._cut or self._complaint


def is_mostly_grey(picture: NDArray[np.uint8]) -> bool:
    """Return whether more than half of uint8 (H, W, 3) is the grey of missing data; no sensor is that uniform."""
    sample = picture[::SAMPLE, ::SAMPLE]
    first = sample[..., 0]
    even = (first == sample[..., 1]) & (first == sample[..., 2])
    counts = np.bincount(first[even], minlength=256)
    return bool(np.max(counts[GREYS]) > GREY_SHARE * even.size)

"""Stopping a run between two steps."""

from __future__ import annotations

import os
import signal
from types import FrameType


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a request to stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> StopRequest:
        self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # torchrun passes a terminal's Ctrl-C on as a second signal: there only a third one, SIGKILL, stops at once.
        if self.asked and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt
        if not self.asked:
            # Not print: the bar may be in the middle of a write to the same stream.
            os.write(2, b"\nstopping after this step; once more to stop at once\n")
        self.asked = True

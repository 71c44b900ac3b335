"""Stopping a run between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Turns the first Ctrl-C, SIGTERM or SIGHUP into a request to stop after the current step; a second stops at once.

    A signal that the parent had ignored, as nohup does with SIGHUP, stays ignored.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> StopRequest:
        self._before = {
            number: signal.signal(number, self._ask)
            for number in SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
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
            with contextlib.suppress(OSError):  # of a terminal that was closed, which is what SIGHUP says
                os.write(2, b"\nstopping after this step; once more to stop at once\n")
        self.asked = True

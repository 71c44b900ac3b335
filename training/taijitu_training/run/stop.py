"""Stop a run between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """A handler that turns the first Ctrl-C, SIGTERM or SIGHUP into a request to stop after the current step.

    A second signal stops at once.

    A signal that the parent had ignored, as nohup does with SIGHUP, stays ignored, and so is left one with a handler
    that is not Python's. In another thread than the main one nothing is handled: Python allows it there only.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> StopRequest:
        is_main = threading.current_thread() is threading.main_thread()
        self._before = {
            number: signal.signal(number, self._ask)
            for number in (SIGNALS if is_main else ())
            if signal.getsignal(number) not in (signal.SIG_IGN, None)
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
            with contextlib.suppress(OSError):  # the terminal may be closed, which SIGHUP means
                os.write(2, b"\nstopping after this step; press again to stop at once\n")
        self.asked = True

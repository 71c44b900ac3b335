"""A reader whose last frame comes right after a wait for it."""

from __future__ import annotations

from taijitu_runtime.live import Frame, Reader, State
from tests.helpers.waiting import eventually


class LateReader(Reader):
    """Takes nothing at first, and returns when all is over, as where other programs have the cores."""

    def take(self, timeout_s: float | None = None) -> Frame | None:
        if self.state is State.ENDED:
            return super().take(timeout_s)
        eventually(lambda: self.state is State.ENDED)
        return None

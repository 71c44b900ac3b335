"""Show a bar while an engine is built: the current phase, its steps, and the time; and end the build by Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from taijitu_runtime.console import Progress

FORM = "{desc} {bar} {n_fmt}/{total_fmt} [{elapsed}]"
DESCRIPTION_WIDTH = 40


class BuildProgress:
    """The bar of nested phases: it shows the innermost.

    `stopped`: Ctrl-C was pressed, and the build was told to end.
    """

    def __init__(self, *, shown: bool) -> None:
        self.stopped = False
        self._phases: list[tuple[str, int, int]] = []  # name, steps, steps done
        self._shown = shown
        self._bar: Progress | None = None  # until the first phase begins

    def start(self, name: str, steps: int) -> None:
        """Begin a phase of so many steps inside the one that is shown."""
        if self._bar is None:
            self._bar = Progress(0, "step", form=FORM, hidden=not self._shown)
        self._phases.append((name, steps, 0))
        self._show()

    def step(self, name: str, step: int) -> bool:
        """Record that step number `step` of a phase is done; return whether to continue."""
        for index, (known, steps, _) in enumerate(self._phases):
            if known == name:
                self._phases[index] = (known, steps, step + 1)
        self._show()
        return not self.stopped

    def finish(self, name: str) -> None:
        """End a phase, and those inside it that were cut short."""
        names = [known for known, _, _ in self._phases]
        if name in names:
            del self._phases[names.index(name) :]
        self._show()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        if self._bar is not None and self._phases:
            name, steps, done = self._phases[-1]
            self._bar.show(done, steps, f"{name:{DESCRIPTION_WIDTH}.{DESCRIPTION_WIDTH}}")


@contextlib.contextmanager
def ended_by_ctrl_c(phases: BuildProgress) -> Iterator[None]:
    """Stop `phases` at Ctrl-C, and raise KeyboardInterrupt at the end of the body.

    Python's own handler would raise it inside a callback, such as the library's logger, where the library prints it and
    builds on. Another handler than Python's own is left in place.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        phases.stopped = True

    is_main = threading.current_thread() is threading.main_thread()
    replaced = is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if replaced:
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        if replaced:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if phases.stopped:
            raise KeyboardInterrupt


def progress_monitor(trt: Any, phases: BuildProgress) -> Any:
    """Return an IProgressMonitor of the module `trt` that drives `phases`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the class is known only here
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                return phases.step(phase_name, step)
            except KeyboardInterrupt:
                # No exception may pass through the library; False asks it to end the build.
                phases.stopped = True
                return False

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()

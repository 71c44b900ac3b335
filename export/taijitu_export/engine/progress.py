"""A bar while an engine is built: the phase that is under way, its steps, and the time."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

BAR = "{desc} {bar} {n_fmt}/{total_fmt} [{elapsed}]"
DESCRIPTION_WIDTH = 40


class Progress:
    """The bar of nested phases: it shows the innermost. `stopped`: Ctrl-C was pressed, and the build told to end."""

    def __init__(self, *, shown: bool) -> None:
        self.stopped = False
        self._phases: list[tuple[str, int, int]] = []  # name, steps, steps done
        # On stderr, and only where that is a terminal.
        self._bar = tqdm(bar_format=BAR, leave=False, disable=None if shown else True)

    def start(self, name: str, steps: int) -> None:
        """A phase of so many steps begins inside the one that is shown."""
        self._phases.append((name, steps, 0))
        self._show()

    def step(self, name: str, step: int) -> bool:
        """Step number `step` of a phase is done; whether to go on."""
        for index, (known, steps, _) in enumerate(self._phases):
            if known == name:
                self._phases[index] = (known, steps, step + 1)
        self._show()
        return not self.stopped

    def finish(self, name: str) -> None:
        """A phase is over, and with it those inside that were cut short."""
        names = [known for known, _, _ in self._phases]
        if name in names:
            del self._phases[names.index(name) :]
        self._show()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def _show(self) -> None:
        if self._bar.disable or not self._phases:
            return
        name, steps, done = self._phases[-1]
        self._bar.set_description_str(f"{name:{DESCRIPTION_WIDTH}.{DESCRIPTION_WIDTH}}", refresh=False)
        self._bar.total, self._bar.n = steps, done
        self._bar.refresh()


def progress_monitor(trt: Any, progress: Progress) -> Any:
    """An IProgressMonitor of the module `trt` that drives `progress`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the class is known only here
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                return progress.step(phase_name, step)
            except KeyboardInterrupt:
                # No exception may pass through the library; False asks it to end the build.
                progress.stopped = True
                return False

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()

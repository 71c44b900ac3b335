"""Several server processes behind one port: for machines whose CPU does the inference."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from taijitu_runtime.errors import TaijituError
from taijitu_server import logs
from taijitu_server.metrics import share_metrics
from taijitu_server.settings import Settings

log = logging.getLogger("taijitu.server")

QUICK_DEATH_S = 5.0
MAX_QUICK_DEATHS = 5
RETRY_S = 1.0
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve_in_workers(work: Callable[[], None], settings: Settings) -> int:
    """Run `work` in `settings.workers` processes until SIGTERM, SIGINT or SIGHUP, replacing those that die.

    Where this process itself is killed, they notice, end in order, and remove what it left.

    0 at an orderly end. While others serve, one that cannot start is tried again and again; where none does, the end is
    1 if they die faster than they can be replaced, and 2 if one cannot start.
    """
    folder = tempfile.mkdtemp(prefix="taijitu-metrics-")
    try:
        share_metrics(folder)
        with logs.set_up():
            return _Workers(work, settings, folder).watch()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Workers:
    def __init__(self, work: Callable[[], None], settings: Settings, folder: str) -> None:
        self._work = work
        self._folder = folder
        self._settings = settings
        self._started_at: dict[int, float] = {}
        self._is_stopping = False
        self._life = os.pipe()  # nothing is written: its reading end ends once no process has the writing end

    def watch(self) -> int:
        """Keep the workers alive until a signal; their exit code."""
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves SIGHUP
                signal.signal(number, self._stop)
        for _ in range(self._settings.workers):
            self._start()
        worst, quick_deaths = 0, 0
        while self._started_at:
            process, status = os.wait()
            code = os.waitstatus_to_exitcode(status)
            lived_s = time.monotonic() - self._started_at.pop(process)
            mark_process_dead(process, self._folder)  # type: ignore[no-untyped-call]  # prometheus_client leaves it open
            if self._is_stopping:
                if code != -signal.SIGTERM:  # else it had not begun to serve
                    worst = max(worst, abs(code))
                continue
            log.error("worker %d ended with code %d after %.1f s", process, code, lived_s)
            quick_deaths = quick_deaths + 1 if lived_s < QUICK_DEATH_S else 0
            if not self._any_serves() and (code == 2 or quick_deaths >= MAX_QUICK_DEATHS):
                worst = code if code == 2 else 1
                self._stop(signal.SIGTERM, None)
                continue
            if quick_deaths:
                time.sleep(RETRY_S)
            self._start()
        return 1 if worst not in (0, 2) else worst

    def _any_serves(self) -> bool:
        now = time.monotonic()
        return any(now - started_at >= QUICK_DEATH_S for started_at in self._started_at.values())

    def _start(self) -> None:
        with _held(STOPPING):  # a signal between the fork and the note of it would miss the new process
            if self._is_stopping:
                return
            process = os.fork()
            if process:
                self._started_at[process] = time.monotonic()
                return
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal sends it to all: the parent tells what to do
            os.close(self._life[1])
            threading.Thread(target=self._end_with_parent, name="parent", daemon=True).start()
        self._work_and_exit()

    def _work_and_exit(self) -> None:
        code = 1
        try:
            self._work()
            code = 0
        except TaijituError as error:
            print(f"taijitu serve: {' '.join(str(error).split())}", file=sys.stderr)
            code = error.exit_code
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _end_with_parent(self) -> None:
        """In a worker: once the parent is gone, however it went, end as it would have asked to."""
        os.read(self._life[0], 1)
        log.error("the parent process is gone: this worker ends")
        shutil.rmtree(self._folder, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGTERM)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True
        for process in self._started_at:
            with contextlib.suppress(ProcessLookupError):  # it ended, and is about to be noted
                os.kill(process, signal.SIGTERM)


@contextmanager
def _held(signals: Iterable[signal.Signals]) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

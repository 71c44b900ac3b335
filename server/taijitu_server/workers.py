"""Several server processes that share one port, for inference on the CPU."""

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
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from taijitu_runtime.console import complain
from taijitu_runtime.errors import TaijituError
from taijitu_server.logs import Log
from taijitu_server.metrics import share_metrics
from taijitu_server.settings import Settings

log = logging.getLogger("taijitu.server")

QUICK_DEATH_S = 5.0
MAX_QUICK_DEATHS = 5
RETRY_S = 1.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A terminal sends them to all processes: a worker would take the parent's SIGTERM for a second one.
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)


def serve_in_workers(work: Callable[[], None], settings: Settings) -> int:
    """Run `work` in `settings.workers` processes until SIGTERM, SIGINT or SIGHUP, and replace those that die.

    If this process is killed, the workers notice it, shut down and remove its files. While another worker serves, one
    that cannot start is started again and again.

    Returns:
        The exit code: 0 after a graceful shutdown; where no worker serves, 1 if they die faster than they can be
        replaced, and 2 if they cannot start.
    """
    folder = tempfile.mkdtemp(prefix="taijitu-metrics-")
    try:
        share_metrics(folder)
        with Log():
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
        self._life = os.pipe()  # never written to: the reading end gets its end of file when this process has ended

    def watch(self) -> int:
        """Replace workers that end until a signal comes; return the exit code of the command."""
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self._stop)
        for _ in range(self._settings.workers):
            self._start()
        worst, quick_deaths = 0, 0
        while self._started_at:
            process, status = os.wait()
            # Another child: one from before an exec, or an orphan that a container's first process is given.
            if (started_at := self._started_at.pop(process, None)) is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            lived_s = time.monotonic() - started_at
            mark_process_dead(process, self._folder)  # type: ignore[no-untyped-call]  # prometheus_client has no types
            if self._is_stopping:
                if code != -signal.SIGTERM:  # with that code it ended before it served
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
            self._start_again()
        return 1 if worst not in (0, 2) else worst

    def _any_serves(self) -> bool:
        now = time.monotonic()
        return any(now - started_at >= QUICK_DEATH_S for started_at in self._started_at.values())

    def _start_again(self) -> None:
        """Start a worker in place of one that ended. While the system has no process for it, the others serve."""
        while True:
            try:
                self._start()
            except OSError as error:
                if not self._any_serves():
                    raise
                log.error("no worker can be started: %s", error.strerror)
                time.sleep(RETRY_S)
            else:
                return

    def _start(self) -> None:
        """Start a worker; return in this process only. OSError where the system has no process for it."""
        with _blocked(STOP_SIGNALS):  # a signal between the fork and the next line would miss the new process
            if self._is_stopping:
                return
            process = os.fork()
            if process:
                self._started_at[process] = time.monotonic()
                return
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for number in TERMINAL_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
        self._work_and_exit()

    def _work_and_exit(self) -> None:
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)  # also where uvicorn installs a handler
            os.close(self._life[1])
            threading.Thread(target=self._end_with_parent, name="parent", daemon=True).start()
            self._work()
            code = 0
        except TaijituError as error:
            complain("taijitu serve", error)
            code = error.exit_code
        except Exception:
            traceback.print_exc()  # os._exit below drops it
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _end_with_parent(self) -> None:
        """Wait in a worker until the parent is gone, then shut down as at its signal."""
        os.read(self._life[0], 1)
        log.error("the parent process is gone; this worker shuts down")
        shutil.rmtree(self._folder, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGTERM)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True
        for process in self._started_at:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and `watch` will notice
                os.kill(process, signal.SIGTERM)


@contextmanager
def _blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

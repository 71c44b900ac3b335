"""Several server processes behind one port: for machines whose CPU does the inference."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from taijitu_runtime.errors import TaijituError
from taijitu_server import logs
from taijitu_server.metrics import WORKERS_FOLDER
from taijitu_server.settings import Settings

log = logging.getLogger("taijitu.server")

QUICK_DEATH_S = 5.0
MAX_QUICK_DEATHS = 5


def serve_in_workers(work: Callable[[], None], settings: Settings) -> int:
    """Run `work` in `settings.workers` processes until SIGTERM or SIGINT, replacing those that die.

    0 at an orderly end; 1 where workers die faster than they can be replaced; 2 where the first of them cannot start.
    """
    logs.set_up()
    folder = tempfile.mkdtemp(prefix="taijitu-metrics-")
    os.environ[WORKERS_FOLDER] = folder
    try:
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

    def watch(self) -> int:
        """Keep the workers alive until a signal; their exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
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
            if code == 2 or quick_deaths >= MAX_QUICK_DEATHS:
                worst = code if code == 2 else 1
                self._stop(signal.SIGTERM, None)
            else:
                self._start()
        return 1 if worst not in (0, 2) else worst

    def _start(self) -> None:
        process = os.fork()
        if process:
            self._started_at[process] = time.monotonic()
            return
        code = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            self._work()
            code = 0
        except TaijituError as error:
            print(f"taijitu serve: {' '.join(str(error).split())}", file=sys.stderr)
            code = 2
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True
        for process in self._started_at:
            os.kill(process, signal.SIGTERM)

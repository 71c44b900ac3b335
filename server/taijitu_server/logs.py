"""Structured logs on stderr: one JSON object a line, one line a request, and no picture's content ever."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from datetime import datetime, timezone
from typing import Any

import orjson

from taijitu_runtime.console import shown

STDERR = 2
FLUSH_S = 0.1
MAX_WAITING = 10_000
CLOSES_WITHIN_S = 1.0


class LineWriter:
    """Writes lines to stderr from a thread of its own, together a few times a second.

    A write for each request would cost more than the request, and a reader that stalls must not stall the server: what
    does not fit is counted, not waited for.
    """

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._lost = 0
        self._is_open = True
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue one line, which ends with a newline; from any thread."""
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            return
        self._waiting.append(line)
        if not self._news.is_set():
            self._news.set()

    def close(self) -> None:
        """Write what is queued, unless nobody reads."""
        self._is_open = False
        self._news.set()
        self._thread.join(CLOSES_WITHIN_S)

    def _work(self) -> None:
        while self._is_open:
            self._news.wait()
            if self._is_open:
                time.sleep(FLUSH_S)
            self._news.clear()
            lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
            lost, self._lost = self._lost, 0
            if lost:
                lines.append(json_line({"time": now(), "level": "warning", "event": f"{lost} lines lost"}))
            _write(b"".join(lines))


class JsonHandler(logging.Handler):
    """Records as lines of JSON; a traceback is text within its line."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        line = {"time": now(), "level": record.levelname.lower(), "event": shown(record.getMessage())}
        if record.exc_info and record.exc_info[0] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            line["traceback"] = "\n".join(map(shown, trace.splitlines()))
        self._writer.put(json_line(line))


def set_up() -> LineWriter:
    """Send our log, and uvicorn's errors, to stderr as JSON; what uvicorn warns of, our own lines say better.

    The writer is to be closed at the end.
    """
    writer = LineWriter()
    handler = JsonHandler(writer)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it would warn of each malformed form
    for name, level in (("taijitu", logging.INFO), ("taijitu_runtime", logging.WARNING), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    # Of WebSockets uvicorn tells as errors what their clients do wrong, and what the gate has told already.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.module != "websockets_sansio_impl")
    return writer


def json_line(content: dict[str, Any]) -> bytes:
    """One line of JSON."""
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


def now() -> str:
    """The time in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _write(text: bytes) -> None:
    try:
        while text:
            text = text[os.write(STDERR, text) :]
    except OSError:  # a reader that went away is no reason to stop serving
        return

"""Structured logs on stderr: one JSON object a line, one line a request, and no picture's content ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from datetime import datetime, timezone
from typing import Any

import orjson

FLUSH_S = 0.1
MAX_WAITING = 10_000


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; a traceback is text within it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": now(), "level": record.levelname.lower(), "event": record.getMessage()}
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


class AccessLog:
    """The lines of requests, written together a few times a second: a write for each would cost more than its request.

    What a full pipe does not take is counted, not waited for.
    """

    def __init__(self, is_on: bool) -> None:
        self._is_on = is_on
        self._waiting: list[bytes] = []
        self._lost = 0
        self._flusher: asyncio.TimerHandle | None = None

    def add(self, line: dict[str, Any]) -> None:
        """Queue one line; in the event loop."""
        if not self._is_on:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            return
        self._waiting.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what is queued."""
        self._flusher = None
        if self._lost:
            self._waiting.append(orjson.dumps({"time": now(), "level": "warning", "event": f"{self._lost} lines lost"}))
            self._lost = 0
        text, self._waiting = b"".join(self._waiting), []
        with contextlib.suppress(OSError, ValueError):  # a reader that went away is no reason to stop serving
            sys.stderr.buffer.write(text)
            sys.stderr.flush()


def set_up() -> None:
    """Send our log, and uvicorn's errors, to stderr as JSON; what uvicorn warns of, our own lines say better."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it would warn of each malformed form
    for name, level in (("taijitu", logging.INFO), ("taijitu_runtime", logging.WARNING), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def now() -> str:
    """The time in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")

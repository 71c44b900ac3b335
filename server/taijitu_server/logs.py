"""Structured logs on stderr: one JSON object per line, one line per request, never the content of an image.

All output of the process on stderr takes this form: records of all loggers, warnings, exceptions of threads and
callbacks, and lines that C libraries print. No writer waits for the reader of stderr.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from datetime import datetime, timezone
from typing import Any

import orjson

from taijitu_runtime.console import shown, without_surrogates

STDERR = 2
FLUSH_S = 0.1
MAX_WAITING = 10_000
CLOSE_TIMEOUT_S = 1.0
ATOMIC_BYTES = select.PIPE_BUF  # a larger write may be interleaved with another process's on the same pipe
MAX_CAPTURED_LINE_BYTES = 4096

_stderr = STDERR  # the descriptor that leads out of the process; another one while `CapturedStderr` has stderr


class LineWriter:
    """Writes queued lines to stderr in a separate thread, a few times per second.

    A write per request would take longer than the request, and a reader of stderr that stalls must not stall the
    server: lines beyond MAX_WAITING are dropped and counted.
    """

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._lost = 0
        self._is_open = True
        self._has_lines = threading.Event()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue one line, which ends with a newline. Any thread may call this."""
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            return
        self._waiting.append(line)
        if not self._has_lines.is_set():
            self._has_lines.set()

    def close(self) -> None:
        """Write the queued lines; give up after a second without a reader."""
        self._is_open = False
        self._has_lines.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _work(self) -> None:
        while self._is_open:
            self._has_lines.wait()
            if self._is_open:
                time.sleep(FLUSH_S)
            self._write_waiting()
        self._write_waiting()  # what was put while the last lines were written

    def _write_waiting(self) -> None:
        self._has_lines.clear()
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        lost, self._lost = self._lost, 0
        if lost:
            lines.append(json_line({"time": now(), "level": "warning", "event": f"{lost} lines lost"}))
        _write(lines)


class JsonHandler(logging.Handler):
    """Writes records as lines of JSON; a traceback is a text field of its line."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        try:
            event = record.getMessage()
        except Exception:  # a library's record whose arguments do not match its format
            event = str(record.msg)
        line = {"time": now(), "level": record.levelname.lower(), "event": shown(event)}
        if record.exc_info and record.exc_info[0] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            line["traceback"] = "\n".join(map(shown, trace.splitlines()))
        self._writer.put(json_line(line))


class Log:
    """The log of the process: while it is open, loggers, warnings, uncaught exceptions and stderr become JSON lines."""

    def __init__(self) -> None:
        self.writer = LineWriter()
        self._captured = CapturedStderr(self.writer) if _stderr == STDERR else None
        _log_everything(JsonHandler(self.writer))

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Restore stderr and write the queued lines."""
        if self._captured is not None:
            self._captured.close()
        self.writer.close()


class CapturedStderr:
    """Replaces stderr by a pipe: text that C libraries and forked processes print becomes lines of the log.

    Python's report of a crash (faulthandler) is written directly, as no thread is left to forward it.
    """

    def __init__(self, writer: LineWriter) -> None:
        global _stderr
        self._writer = writer
        sys.stderr.flush()
        _stderr = os.dup(STDERR)
        faulthandler.enable(_stderr)
        self._reading, writing = os.pipe()
        os.dup2(writing, STDERR)
        os.close(writing)
        self._thread = threading.Thread(target=self._work, name="stderr", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Restore stderr; text that was printed before is queued."""
        global _stderr
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        faulthandler.disable()
        os.dup2(_stderr, STDERR)  # closes the last writing end of the pipe, except those of forked processes
        self._thread.join(CLOSE_TIMEOUT_S)
        _stderr = STDERR

    def _work(self) -> None:
        unfinished = b""
        while chunk := os.read(self._reading, 65536):
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            for line in lines:
                self._put(line)
            if len(unfinished) > MAX_CAPTURED_LINE_BYTES:
                self._put(unfinished)
                unfinished = b""
        self._put(unfinished)

    def _put(self, line: bytes) -> None:
        text = line[:MAX_CAPTURED_LINE_BYTES].decode("utf-8", "backslashreplace").strip()
        if text:
            self._writer.put(json_line({"time": now(), "level": "warning", "event": text}))


def _log_everything(handler: logging.Handler) -> None:
    """Attach the handler to the root logger, and log warnings and uncaught exceptions too."""
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("taijitu").setLevel(logging.INFO)
    # Our own lines report what uvicorn warns of, with more detail.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    for name in ("python_multipart", "PIL"):  # they would report each malformed form and picture
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # uvicorn logs mistakes of a WebSocket's client as errors, and errors that the middleware has already logged.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.module != "websockets_sansio_impl")
    logging.captureWarnings(True)
    log = logging.getLogger("taijitu.server")

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        name = args.thread.name if args.thread else "a thread"
        log.error("%s ended: %s", name, args.exc_value, exc_info=args.exc_value)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        log.error("%s: %r", args.err_msg or "exception ignored", args.object, exc_info=args.exc_value)

    threading.excepthook = in_thread
    sys.unraisablehook = unraisable


def json_line(content: dict[str, Any]) -> bytes:
    """Return one line of JSON. Text that is not valid Unicode, such as some file names, is escaped."""
    try:
        return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return orjson.dumps(without_surrogates(content), option=orjson.OPT_APPEND_NEWLINE)


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _write(lines: list[bytes]) -> None:
    try:
        for text in _pieces(lines):
            while text:
                text = text[os.write(_stderr, text) :]
    except OSError:  # the server continues without a reader of its log, or with a full disk
        return


def _pieces(lines: list[bytes]) -> list[bytes]:
    """Join lines into writes that a pipe takes as a whole."""
    pieces: list[bytes] = []
    for line in lines:
        if pieces and len(pieces[-1]) + len(line) <= ATOMIC_BYTES:
            pieces[-1] += line
        else:
            pieces.append(line)
    return pieces

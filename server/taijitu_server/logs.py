"""Structured logs on stderr: one JSON object a line, one line a request, and no image's content ever.

Everything that the process writes to stderr goes this way: records of all loggers, warnings, exceptions of threads and
callbacks, and the lines that C libraries print. None of it waits for a reader.
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

from taijitu_runtime.console import shown

STDERR = 2
FLUSH_S = 0.1
MAX_WAITING = 10_000
CLOSES_WITHIN_S = 1.0
ATOMIC_BYTES = select.PIPE_BUF  # more in one write may be torn by what another process writes to the same pipe
LONGEST_FOREIGN_LINE = 4096

_stderr = STDERR  # the descriptor that leads out of the process; another one once stderr is `Foreign`'s


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
            _write(lines)


class JsonHandler(logging.Handler):
    """Records as lines of JSON; a traceback is text within its line."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        try:
            event = record.getMessage()
        except Exception:  # a library's record whose arguments do not fit
            event = str(record.msg)
        line = {"time": now(), "level": record.levelname.lower(), "event": shown(event)}
        if record.exc_info and record.exc_info[0] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            line["traceback"] = "\n".join(map(shown, trace.splitlines()))
        self._writer.put(json_line(line))


class Log:
    """The process's log, from `set_up` to `close`: loggers, warnings, exceptions that nobody caught, and stderr."""

    def __init__(self) -> None:
        self.writer = LineWriter()
        self._foreign = ForeignLines(self.writer) if _stderr == STDERR else None
        _log_everything(JsonHandler(self.writer))

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give stderr back and write what is queued, unless nobody reads."""
        if self._foreign is not None:
            self._foreign.close()
        self.writer.close()


class ForeignLines:
    """Stderr as a pipe: what C libraries and forked processes print there becomes lines of the log.

    Python's own report of a crash (faulthandler) goes out directly, as nobody would be left to pass it on.
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
        """Give stderr back; what was printed until now is queued."""
        global _stderr
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        faulthandler.disable()
        os.dup2(_stderr, STDERR)  # the pipe's last writing end, except those of processes that were forked
        self._thread.join(CLOSES_WITHIN_S)
        _stderr = STDERR

    def _work(self) -> None:
        unfinished = b""
        while chunk := os.read(self._reading, 65536):
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            for line in lines:
                self._put(line)
            if len(unfinished) > LONGEST_FOREIGN_LINE:
                self._put(unfinished)
                unfinished = b""
        self._put(unfinished)

    def _put(self, line: bytes) -> None:
        text = line[:LONGEST_FOREIGN_LINE].decode("utf-8", "backslashreplace").strip()
        if text:
            self._writer.put(json_line({"time": now(), "level": "warning", "event": text}))


def set_up() -> Log:
    """Send all that this process logs, warns of or prints to stderr there as JSON; to be closed at the end."""
    return Log()


def _log_everything(handler: logging.Handler) -> None:
    """Attach the handler to the root logger, and send there what would not go through a logger."""
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("taijitu").setLevel(logging.INFO)
    # What uvicorn warns of, our own lines say better.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it would warn of each malformed form
    # Of WebSockets uvicorn tells as errors what their clients do wrong, and what the middleware has told already.
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
    """One line of JSON; text that is not Unicode, such as the name of a file may be, is escaped."""
    try:
        return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return orjson.dumps(
            {name: _escaped(value) for name, value in content.items()}, option=orjson.OPT_APPEND_NEWLINE
        )


def now() -> str:
    """The time in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _escaped(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _write(lines: list[bytes]) -> None:
    try:
        for text in _pieces(lines):
            while text:
                text = text[os.write(_stderr, text) :]
    except OSError:  # a reader that went away, or a full disk, is no reason to stop serving
        return


def _pieces(lines: list[bytes]) -> list[bytes]:
    """Join lines, as many as a pipe takes without another writer's in between."""
    pieces: list[bytes] = []
    for line in lines:
        if pieces and len(pieces[-1]) + len(line) <= ATOMIC_BYTES:
            pieces[-1] += line
        else:
            pieces.append(line)
    return pieces

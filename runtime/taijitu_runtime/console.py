"""What a terminal shows: lines, JSON, progress bars, and foreign text that is safe to print."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, TextIO

from taijitu_runtime.errors import one_line

DELAY_S = 3.0
"""Work that takes longer says on a terminal what is being done."""

USUAL_SIZE = os.terminal_size((80, 24))  # of a terminal that does not tell its own, such as a serial console


def complain(prog: str, text: object) -> None:
    """Print what is wrong to stderr, in one line after the name `prog`; do nothing if stderr is closed."""
    with contextlib.suppress(OSError):
        say(f"{prog}: {shown(one_line(text))}", sys.stderr)


def say(text: str, stream: TextIO) -> None:
    """Print a line at once; characters that the stream's encoding lacks are escaped."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def say_json(content: Any, stream: IO[str], indent: int | None = None) -> None:
    """Print `content` as JSON that every parser accepts; with its line end by one write, however long it is."""
    print(f"{json_text(content, stream, indent)}\n", end="", file=stream)


def json_text(content: Any, stream: IO[str], indent: int | None = None) -> str:
    """Return `content` as JSON that `stream` and every parser accept.

    Letters are kept where the stream's encoding has them. Control characters of terminals are escaped as in JSON, so
    that a parser gets them back; lone surrogates, which parsers refuse, are escaped as in `shown`. Raises ValueError
    for NaN.
    """
    is_unicode = "utf" in (getattr(stream, "encoding", None) or "").lower()
    text = json.dumps(without_surrogates(content), indent=indent, ensure_ascii=not is_unicode, allow_nan=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def shown(name: object) -> str:
    """Return foreign text, such as a file's name or a label, as one line that is safe for terminals, logs and JSON.

    Control characters, and the surrogates that stand for bytes which are not UTF-8, are escaped as in Python.
    """
    text = str(name)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def without_surrogates(content: Any) -> Any:
    """Return `content`, of dicts, lists and plain values, with the lone surrogates in its texts escaped."""
    if isinstance(content, str):
        return content.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(content, Mapping):
        return {without_surrogates(key): without_surrogates(value) for key, value in content.items()}
    return [without_surrogates(value) for value in content] if isinstance(content, (list, tuple)) else content


class Progress:
    """A progress bar on stderr for long work, only on a terminal and if tqdm is installed.

    Work continues if the terminal is closed. Only the first of the processes that torchrun starts shows bars.

    Args:
        total: The amount of work in `unit`, None if unknown.
        what: The text before the bar.
        unit: The unit of `total`.
        form: tqdm's bar_format.
        delay_s: The time before the bar appears.
        hidden: Show no bar.
    """

    def __init__(
        self,
        total: int | None,
        unit: str = "pictures",
        *,
        what: str = "",
        form: str | None = None,
        delay_s: float = 0.0,
        hidden: bool = False,
    ) -> None:
        self._bar: Any = None
        if hidden or not _shows_work():
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        size = _size_of_stderr()
        self._bar = tqdm(
            desc=what or None,
            total=total,
            unit=f" {unit}",
            unit_scale=(total or 0) > 10**5,
            bar_format=form,
            delay=delay_s,
            file=sys.stderr,
            leave=False,
            ncols=size.columns,
            nrows=size.lines,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, count: int = 1) -> None:
        """Add `count` to the finished work."""
        if self._bar is not None:
            self._drawn(lambda bar: bar.update(count))

    def show(self, done: int, total: int, what: str, more: str = "") -> None:
        """Show that `done` of `total` is finished, with `what` before the bar and `more` after it."""

        def draw(bar: Any) -> None:
            is_first = bar.n == 0
            if is_first:
                bar.initial = bar.n = done  # for resumed work
            bar.total = total
            bar.set_description_str(what, refresh=False)
            bar.set_postfix_str(more, refresh=False)
            if done > bar.n:
                bar.update(done - bar.n)
            elif is_first or done < bar.n:
                bar.n = done
                bar.refresh()

        if self._bar is not None:
            self._drawn(draw)

    def say(self, text: str, stream: TextIO) -> None:
        """Print a line at once, without breaking the bar."""
        with contextlib.nullcontext() if self._bar is None else self._bar.external_write_mode(file=stream):
            say(text, stream)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._drawn(lambda bar: bar.close())
            self._bar = None

    def _drawn(self, draw: Callable[[Any], object]) -> None:
        try:
            draw(self._bar)
        except OSError:  # the terminal was closed
            self._bar.disable, self._bar = True, None


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Say on a terminal `what` is being done, and for how long, once it takes longer than DELAY_S.

    For a single step, which has no bar. The line is removed at the end.
    """
    if not _shows_work():
        yield
        return
    began, done, stream = time.monotonic(), threading.Event(), sys.stderr
    width = _size_of_stderr().columns - 1

    def write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal was closed
            stream.write(f"\r{text[:width]:{width}}\r")
            stream.flush()

    def show() -> None:
        if done.wait(DELAY_S):
            return
        while True:
            write(f"{shown(what)}: {time.monotonic() - began:.0f} s")
            if done.wait(1.0):
                write("")
                return

    thread = threading.Thread(target=show, name="working", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _shows_work() -> bool:
    """Return whether stderr is a terminal, and this process the one that speaks for all of torchrun's."""
    return sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"


def _size_of_stderr() -> os.terminal_size:
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return USUAL_SIZE
    return os.terminal_size(own or usual for own, usual in zip(size, USUAL_SIZE))

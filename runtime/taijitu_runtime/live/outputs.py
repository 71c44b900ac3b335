"""Outputs for results: lines of text, lines of JSON, a window, a video file. Each is called with every result."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import UNKNOWN
from taijitu_runtime.child_python import python_command
from taijitu_runtime.console import say, say_json, shown
from taijitu_runtime.errors import UsageError, require
from taijitu_runtime.files import put_in_place
from taijitu_runtime.live.overlay import draw_banner
from taijitu_runtime.live.states import State
from taijitu_runtime.live.watch import Result

logger = logging.getLogger(__name__)

TITLE = "taijitu camera"
QUIT_KEYS = (ord("q"), 27)  # 27: Escape
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}
TRY_WINDOW = """
import cv2
try:
    cv2.namedWindow("taijitu")
except cv2.error as error:
    sys.exit(error.err)
"""
TRY_S = 20.0
LIVE_RATE_HZ, PICTURES_RATE_HZ = 25.0, 1.0
MAX_STILL_S = 2.0
TEXT_EVERY_S = 1.0


class TextLines:
    """Prints lines to stdout: for a file every result, for a live source changes of the answer and one per second."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._said: tuple[str | None, float] = (None, 0.0)

    def __call__(self, result: Result) -> None:
        """Print the result."""
        is_unknown = result.certainty.known is False
        best = UNKNOWN if is_unknown else result.answers[0].label
        now_s = time.monotonic()
        if not result.classified or (self._live and best == self._said[0] and now_s - self._said[1] < TEXT_EVERY_S):
            return
        self._said = best, now_s
        answers = "  ".join(f"{answer.probability:6.1%} {shown(answer.label)}" for answer in result.answers)
        answers += f"  {UNKNOWN}" if is_unknown else ""
        place = shown(result.frame.name) or f"frame {result.frame.number}"
        say(f"{place}: {answers}  ({result.rate_hz:.1f} frames/s, {result.freshness})", sys.stdout)
        sys.stdout.flush()


class JsonLines:
    """Writes one JSON object per line for every classified frame, each line by one write.

    `replaces`: the stream appends to a file, whose earlier lines are removed by `begin`.
    """

    def __init__(self, stream: IO[str], *, replaces: bool = False) -> None:
        self._stream = stream
        self._replaces = replaces

    def begin(self) -> None:
        """Remove the earlier lines, once; with the first result, as a source that never opens should lose none."""
        if self._replaces and stat.S_ISREG(os.fstat(self._stream.fileno()).st_mode):
            self._stream.truncate(0)
        self._replaces = False

    def __call__(self, result: Result) -> None:
        """Write the result."""
        if not result.classified:
            return
        self.begin()
        frame = result.frame
        captured = datetime.fromtimestamp(time.time() - frame.age_ms / 1000, timezone.utc)
        line = {
            "frame": frame.number,
            "captured": captured.isoformat(timespec="milliseconds"),
            "position_s": None if frame.position_s is None else round(frame.position_s, 3),
            "file": frame.name or None,
            "answers": [answer.as_json() for answer in result.answers],
            **result.certainty.as_json(),
            "latency_ms": round(result.latency_ms, 3),
            "age_ms": round(result.age_ms, 3),
            "frozen": frame.is_frozen,
        }
        say_json(line, self._stream)
        self._stream.flush()


class Window:
    """A window with the annotated frames; q, Escape or closing it sets `stop`. Raises UsageError without a screen."""

    def __init__(self, stop: threading.Event) -> None:
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise UsageError(
                "got --display without a screen (no DISPLAY or WAYLAND_DISPLAY), expected one; leave it out"
            )
        self._cv2 = require("cv2", "taijitu[camera]")
        self._stop = stop
        self._last: NDArray[np.uint8] | None = None
        # Qt warns about fonts that its wheel lacks and that no text here needs.
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
        if reason := _why_no_window():
            raise UsageError(
                f"got no window ({reason}), expected a screen, and an OpenCV with windows (opencv-python, not "
                "opencv-python-headless); leave out --display"
            )
        self._cv2.namedWindow(TITLE, self._cv2.WINDOW_NORMAL)

    def __call__(self, result: Result) -> None:
        """Show the result."""
        self._last = result.annotated
        self._cv2.imshow(TITLE, self._last)
        self._handle_keys()

    def idle(self, state: State) -> None:
        """Keep the window responsive while no frames come, and show the state."""
        if self._last is not None and state is not State.RUNNING:
            self._cv2.imshow(TITLE, draw_banner(self._last, state.value))
        self._handle_keys()

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self._cv2.destroyAllWindows()

    def _handle_keys(self) -> None:
        if self._cv2.waitKey(1) & 0xFF in QUIT_KEYS or not self._is_open():
            self._stop.set()

    def _is_open(self) -> bool:
        try:
            return bool(self._cv2.getWindowProperty(TITLE, self._cv2.WND_PROP_VISIBLE) >= 1)
        except self._cv2.error:  # with its last window, Qt is gone too
            return False


class VideoFile:
    """Writes the annotated frames to a video file, which appears under its name when it is complete.

    From a file, every frame is written at `rate_hz`, the rate of that file. From a live source, frames are repeated or
    dropped so that the video takes as long as the recording did. All frames have the size of the first one. If another
    error ends the run, the video until then is kept.

    Raises:
        UsageError: The suffix is unknown, the file cannot be written, or at the end, the video is incomplete.
    """

    def __init__(self, path: Path, *, live: bool, rate_hz: Callable[[], float | None]) -> None:
        if path.suffix.lower() not in CODECS:
            raise UsageError(f"got --save {path}, expected a name that ends in {', '.join(CODECS)}")
        self._cv2 = require("cv2", "taijitu[camera]")
        self._path, self._live, self._rate_of_source = path, live, rate_hz
        self._rate_hz = LIVE_RATE_HZ
        self._writer: Any = None
        self._written = 0  # frames
        self._last: Any = None  # uint8 (H, W, 3) once there was one
        self._due_s = 0.0
        try:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(path.stat().st_mode):  # unlike is_dir(), it raises an error of a name that cannot be
                    expected = f"which is a folder, expected a file's name; write {path}/out.mp4"
                    raise UsageError(f"got --save {path}, {expected}")
            handle, name = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.resolve().parent)
        except OSError as error:
            raise UsageError(
                f"got --save {path}, expected a folder and a name that can be written ({error.strerror})"
            ) from error
        os.close(handle)
        self._temporary = Path(name)

    def __call__(self, result: Result) -> None:
        """Write the frame of the result, repeated or dropped to match its time."""
        picture = result.annotated
        if self._writer is None:
            self._open(picture, result.frame.captured_s)
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = self._cv2.resize(picture, self._size, interpolation=self._cv2.INTER_AREA)
        if not self._live:
            self._write(picture)
            return
        self._due_s = max(self._due_s, result.frame.captured_s - MAX_STILL_S)
        while self._due_s + 1 / self._rate_hz <= result.frame.captured_s:
            self._write(self._last)  # until this frame was captured
        if self._due_s <= result.frame.captured_s:
            self._write(picture)
        self._last = picture

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
        if not self._written:
            self._temporary.unlink()
            return
        try:
            self._put_in_place()
        except UsageError as found:
            if error is None:
                raise
            logger.warning("%s", found)  # the error that is being raised is more important

    def _write(self, picture: NDArray[np.uint8]) -> None:
        self._writer.write(picture)
        self._written += 1
        self._due_s += 1 / self._rate_hz

    def _put_in_place(self) -> None:
        kept = f"the incomplete video was kept as {self._temporary}"
        if not self._is_whole():
            raise UsageError(
                f"got a damaged video for --save {self._path}, expected {self._written} frames in it; is the disk "
                f"full? {kept}"
            )
        try:
            self._temporary.chmod(0o666 & ~_umask())
            put_in_place(self._temporary, self._path)
        except OSError as error:
            raise UsageError(
                f"got --save {self._path}, expected a file that can be written ({error.strerror}); {kept}"
            ) from error

    def _is_whole(self) -> bool:
        """Return whether the file has all frames: OpenCV's writer does not report a full disk."""
        if not self._cv2.videoio_registry.hasBackend(self._cv2.CAP_FFMPEG):
            return True  # nothing else counts frames reliably
        video = self._cv2.VideoCapture(str(self._temporary), self._cv2.CAP_FFMPEG)
        try:
            count = video.get(self._cv2.CAP_PROP_FRAME_COUNT) if video.isOpened() else 0
            # Some containers hold a length in time, from which the count is worked out.
            if abs(count - self._written) > 1 + self._written // 100:
                return False
            video.set(self._cv2.CAP_PROP_POS_FRAMES, min(count, self._written) - 1)
            return bool(video.grab())
        finally:
            video.release()

    def _open(self, picture: NDArray[np.uint8], time_s: float) -> None:
        if not self._live:
            self._rate_hz = self._rate_of_source() or PICTURES_RATE_HZ
        self._size = (picture.shape[1], picture.shape[0])
        self._due_s = time_s
        codec = self._cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        self._writer = self._cv2.VideoWriter(str(self._temporary), codec, self._rate_hz, self._size)
        if not self._writer.isOpened():
            raise UsageError(
                f"got an OpenCV that cannot write {self._path.suffix} of {self._size[0]} x {self._size[1]}, expected "
                f"one that can; try another of {', '.join(CODECS)}"
            )


def _why_no_window() -> str | None:
    """Try to open a window in another process, because Qt and GTK end a process that cannot reach the screen."""
    try:
        tried = subprocess.run(python_command(TRY_WINDOW), capture_output=True, text=True, timeout=TRY_S, check=False)
    except subprocess.TimeoutExpired:
        return f"the screen did not answer in {TRY_S:g} s"
    lines = [line.strip() for line in tried.stderr.splitlines() if line.strip()]
    return (lines or ["no reason given"])[0] if tried.returncode else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

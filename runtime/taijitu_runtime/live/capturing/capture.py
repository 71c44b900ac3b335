"""Capture frames from OpenCV or from picture files, one by one. Runs in the capturing process only."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import SourceError
from taijitu_runtime.live.capturing.pipelines import SINK, Plan
from taijitu_runtime.pictures.preprocess import decode_picture

KEY_FRAMES = (0, ord("?"), ord("I"))  # among OpenCV's frame types; 0 and ? are unknown
LONGEST_S = 1e6  # OpenCV counts milliseconds in 32 bits
MODE = {"FOURCC": "codec", "FRAME_WIDTH": "width", "FRAME_HEIGHT": "height", "FPS": "rate"}
RAW_FORMAT = re.compile(r"\bformat\s*=\s*(?:\(string\)\s*)?\"?(\w+)")


class Capture(Protocol):
    """An open source. `grab` waits for the next frame, `retrieve` decodes it; between the two is its time of capture.

    Attributes:
        name: The file of a picture; "" for any other source.
        position_s: The frame's position in a video file, in seconds; None where the source has none.
        rate_hz: Frames per second as the source declares them; None if it does not.
        mode_fault: How a camera's mode differs from the requested one: got, expected and what to do; "" if it does not.
        is_key: The frame is a key frame, decoded without others, so that earlier damage ends there.
        threads: The number of frames that the decoder may be ahead, plus one.
    """

    name: str
    position_s: float | None
    rate_hz: float | None
    mode_fault: str
    is_key: bool
    threads: int

    def grab(self) -> bool:
        """Wait for the next frame, and set `name` and `position_s`; return False if the source has ended or is lost."""

    def retrieve(self, into: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """Decode the frame, uint8 BGR (H, W, 3), into `into` if that has its shape.

        Returns:
            The frame; None if it is damaged.

        Raises:
            PictureError: The frame is damaged.
            SourceError: The source gives frames of another kind.
        """

    def close(self) -> None:
        """Release the source."""


def open_capture(cv2: Any, plan: Plan, open_s: float, stall_s: float, *, live: bool) -> Capture | None:
    """Open as planned; return None if that fails. FFmpeg itself keeps the limits, for opening and for each frame."""
    if plan.opener == "pictures":
        # Not Path.glob, which does not accept absolute patterns.
        found = sorted(glob.glob(plan.target, recursive=True))  # noqa: PTH207
        found = [name for name in found if not os.path.isdir(name)]  # noqa: PTH112  # as here, it raises for no name
        names = [plan.target] if os.path.isfile(plan.target) else found  # noqa: PTH113
        return PictureCapture(iter(names)) if names else None
    if plan.opener == "ffmpeg":
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1000 * min(open_s, LONGEST_S))]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1000 * min(stall_s, LONGEST_S))]
        video = cv2.VideoCapture(_name_for_ffmpeg(plan.target), cv2.CAP_FFMPEG, limits)
    else:
        video = cv2.VideoCapture(plan.target, cv2.CAP_GSTREAMER if plan.opener == "gstreamer" else cv2.CAP_V4L2)
    if not video.isOpened():
        video.release()
        return None
    for name, value in plan.properties:
        number = cv2.VideoWriter.fourcc(*value) if isinstance(value, str) else value
        video.set(getattr(cv2, f"CAP_PROP_{name}"), number)
    # Not for files, whose frames may be two fields with a JPEG each.
    if plan.opener == "ffmpeg" and live and gives_jpegs(cv2, video):
        return JpegCapture(cv2, video)
    capture = VideoCapture(cv2, video, has_positions=plan.opener == "ffmpeg", gives_grey=gives_grey(plan))
    capture.mode_fault = mode_fault(cv2, video, plan)
    return capture


def _name_for_ffmpeg(target: str) -> str | bytes:
    if "://" in target:
        return target
    name = str(Path(target).absolute())  # FFmpeg takes the part of a relative path before a colon as a protocol
    return name if name.isprintable() else os.fsencode(name)  # as text, a name that is not UTF-8 crashes OpenCV


def mode_fault(cv2: Any, video: Any, plan: Plan) -> str:
    """Return in which mode a device gives frames, and in which it should, where the two differ; "" otherwise.

    V4L2 takes the nearest mode and reports no error, and OpenCV sets a width only together with a height.
    """
    got, expected = [], []
    for name, value in plan.properties:
        if name in MODE:
            given = video.get(getattr(cv2, f"CAP_PROP_{name}"))
            wanted = cv2.VideoWriter.fourcc(*value) if isinstance(value, str) else value
            if given > 0 and abs(given - wanted) >= 1:  # 0, below it and NaN: the driver does not say
                text = int(given).to_bytes(4, "little").decode("latin-1") if isinstance(value, str) else f"{given:g}"
                got.append(f"{MODE[name]} {text}")
                expected.append(f"{MODE[name]} {value}")
    if not got:
        return ""
    return (
        f"got {', '.join(got)} from the camera, expected {', '.join(expected)}; give width and height together, and "
        f"a mode that it has: v4l2-ctl -d {plan.target} --list-formats-ext"
    )


def gives_jpegs(cv2: Any, video: Any) -> bool:
    """Return whether this is MJPEG and OpenCV agreed to pass on its JPEGs undecoded."""
    return bool(
        video.get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"MJPG") and video.set(cv2.CAP_PROP_FORMAT, -1)
    )


def gives_grey(plan: Plan) -> bool:
    """Return whether the pipeline states that it ends in 8-bit grey."""
    return plan.opener == "gstreamer" and RAW_FORMAT.findall(plan.target)[-1:] == ["GRAY8"]


class VideoCapture:
    """A camera, stream or video file, through cv2.VideoCapture."""

    name = ""

    def __init__(self, cv2: Any, video: Any, *, has_positions: bool, gives_grey: bool) -> None:
        self._cv2, self._video, self._has_positions, self._gives_grey = cv2, video, has_positions, gives_grey
        self.rate_hz: float | None = video.get(cv2.CAP_PROP_FPS) or None
        self.position_s: float | None = None
        self.mode_fault = ""
        self.is_key = True
        self.threads = max(1, int(video.get(cv2.CAP_PROP_N_THREADS))) if has_positions else 1
        self._frame_type = getattr(cv2, "CAP_PROP_FRAME_TYPE", None) if has_positions else None  # from OpenCV 4.6 on
        self._has_times = False

    def grab(self) -> bool:
        """See Capture."""
        grabbed = bool(self._video.grab())
        if self._has_positions:  # GStreamer warns about its own for every frame
            self.position_s = self._video.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
            self._has_times = self._has_times or self.position_s > 0
            if not self._has_times and self.rate_hz:  # a raw H.264 stream, whose frames are counted
                self.position_s = (self._video.get(self._cv2.CAP_PROP_POS_FRAMES) - 1) / self.rate_hz
        if self._frame_type is not None:
            self.is_key = self._video.get(self._frame_type) in KEY_FRAMES
        return grabbed

    def retrieve(self, into: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """See Capture."""
        good, picture = self._video.retrieve(into)
        if not good:
            return None
        channels = 1 if picture.ndim == 2 else picture.shape[2]
        if picture.dtype == np.uint8 and channels == 3:
            return np.asarray(picture)
        if picture.dtype == np.uint8 and channels == 1 and self._gives_grey:
            return np.asarray(self._cv2.cvtColor(picture, self._cv2.COLOR_GRAY2BGR))
        # RGBA looks like BGRx, and I420 like grey: appsink does not tell what the bytes mean.
        raise SourceError(
            f"got frames of {picture.dtype} {picture.shape}, expected uint8 (height, width, 3) in BGR; end the "
            f"pipeline in '{SINK}'"
        )

    def close(self) -> None:
        """See Capture."""
        self._video.release()


class JpegCapture:
    """An MJPEG stream whose JPEGs this package decodes itself, because FFmpeg fills in missing data."""

    name = mode_fault = ""
    position_s: float | None = None
    is_key = True
    threads = 1

    def __init__(self, cv2: Any, video: Any) -> None:
        self._cv2, self._video = cv2, video
        self.rate_hz: float | None = video.get(cv2.CAP_PROP_FPS) or None

    def grab(self) -> bool:
        """See Capture."""
        return bool(self._video.grab())

    def retrieve(self, into: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """See Capture."""
        good, data = self._video.retrieve()
        if not good or data is None:  # the part of the stream is empty
            return None
        return np.asarray(self._cv2.cvtColor(decode_picture(data.tobytes()), self._cv2.COLOR_RGB2BGR, into))

    def close(self) -> None:
        """See Capture."""
        self._video.release()


class PictureCapture:
    """Picture files, decoded as everywhere in this package (EXIF rotation, transparency, 16 bits)."""

    position_s: float | None = None
    rate_hz: float | None = None
    mode_fault = ""
    is_key = True
    threads = 1

    def __init__(self, names: Iterator[str]) -> None:
        self._names = names
        self.name = ""

    def grab(self) -> bool:
        """See Capture."""
        self.name = next(self._names, "")
        return bool(self.name)

    def retrieve(self, into: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """See Capture."""
        return decode_picture(self.name)[..., ::-1]

    def close(self) -> None:
        """See Capture."""

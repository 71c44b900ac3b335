"""Texts of --source, the pipelines for them, and the errors when no frame comes."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from taijitu_runtime.errors import SourceError, UsageError
from taijitu_runtime.live import Mode, Source, source_from_text
from taijitu_runtime.live.capturing.capture import VideoCapture, gives_grey, open_capture
from taijitu_runtime.live.capturing.diagnosis import cure, holders
from taijitu_runtime.live.capturing.pipelines import Platform, plan_from_source
from taijitu_runtime.live.sources import without_password

JETSON = Platform(jetson=True, gstreamer=True)
LAPTOP = Platform(jetson=False, gstreamer=False)
SINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
LONG = f"v4l2src ! videocrop top=10 {'! identity ' * 30}! appsink"  # longer than the name of a file may be


@pytest.mark.parametrize(
    ("text", "kind", "address", "live"),
    [
        ("0", "device", "/dev/video0", True),
        ("/dev/video2", "device", "/dev/video2", True),
        ("csi://1", "csi", "1", True),
        ("rtsp://10.0.0.2/a?b=c", "rtsp", "rtsp://10.0.0.2/a?b=c", True),
        ("https://host/stream.mjpg", "http", "https://host/stream.mjpg", True),
        ("http://host/film.mp4?key=1", "video", "http://host/film.mp4?key=1", False),
        ("video.mp4", "video", "video.mp4", False),
        ("pictures/*.jpg", "pictures", "pictures/*.jpg", False),
        ("cat.PNG", "pictures", "cat.PNG", False),
        ("videotestsrc ! appsink", "pipeline", "videotestsrc ! appsink", True),
        ("filesrc ! decodebin ! appsink", "pipeline", "filesrc ! decodebin ! appsink", False),
        (LONG, "pipeline", LONG, True),
        ("a" * 300 + "*", "pictures", "a" * 300 + "*", False),
    ],
)
def test_a_source_is_understood(text: str, kind: str, address: str, live: bool) -> None:
    source = source_from_text(text)
    assert (source.kind, source.address, source.live) == (kind, address, live)


def test_a_query_and_options_ask_for_the_same() -> None:
    query = source_from_text("csi://0?width=640&height=480&rate=60&flip=2")
    options = source_from_text("csi://0", Mode(width=640, height=480, rate=60, flip=2))
    assert query.mode == options.mode == Mode(640, 480, 60, 2)
    assert source_from_text("0?codec=mjpg", Mode(rate=30)).mode == Mode(rate=30, codec="mjpg")


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("", Mode(), "got an empty source, expected 0, /dev/video0"),
        ("rstp://host/a", Mode(), "got the unknown scheme rstp:// in 'rstp://host/a'; did you mean rtsp"),
        ("csi://front", Mode(), "got the CSI camera 'front', expected a sensor's number such as csi://0"),
        ("csi://0?widht=3", Mode(), "got the unknown option 'widht' in 'csi://0?widht=3'; did you mean width"),
        ("csi://0?width=wide", Mode(), "got width='wide' in 'csi://0?width=wide', expected a whole number"),
        ("csi://0?flip=8", Mode(), "got flip=8, expected 0 to 7"),
        ("csi://0?flip=2", Mode(flip=2), "got flip twice"),
        ("0", Mode(flip=2), "got flip=2 for a source of kind device, expected it for csi only"),
        ("video.mp4", Mode(width=3), "got width=3 for a source of kind video, expected it for csi, device only"),
        ("0", Mode(codec="h264"), "got codec=h264 for device, expected raw or mjpg"),
        ("0?width=0", Mode(), "got width=0, expected at least 1"),
    ],
)
def test_texts_that_are_not_sources_are_refused_with_the_cure(text: str, mode: Mode, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        source_from_text(text, mode)
    assert str(caught.value).startswith(told)


def test_a_folder_is_refused_with_a_pattern_to_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"got a folder.*'{tmp_path}/\*\.jpg'"):
        source_from_text(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        (
            "csi://1?width=1920&height=1080&flip=2",
            "gstreamer: nvarguscamerasrc sensor-id=1 ! "
            "video/x-raw(memory:NVMM),width=1920,height=1080,format=NV12,framerate=30/1 ! "
            f"nvvidconv flip-method=2 ! video/x-raw,format=BGRx ! {SINK}",
        ),
        ("0", f"gstreamer: v4l2src device=/dev/video0 io-mode=2 do-timestamp=true ! {SINK}"),
        (
            "0?width=640&rate=15&codec=mjpg",
            "gstreamer: v4l2src device=/dev/video0 io-mode=2 do-timestamp=true ! "
            f"image/jpeg,width=640,framerate=15/1 ! jpegdec ! {SINK}",
        ),
        (
            "rtsp://host/a",
            'gstreamer: rtspsrc location="rtsp://host/a" latency=0 drop-on-latency=true ! rtph264depay ! h264parse ! '
            f"nvv4l2decoder ! nvvidconv ! video/x-raw,format=BGRx ! {SINK}",
        ),
        ("http://host/a.mjpg", "ffmpeg: http://host/a.mjpg"),
        ("a.mp4", "ffmpeg: a.mp4"),
    ],
)
def test_a_jetson_uses_its_own_pipelines(text: str, plan: str) -> None:
    assert str(plan_from_source(source_from_text(text), JETSON)) == plan


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("0", "v4l2: /dev/video0 BUFFERSIZE=1"),
        ("0?width=640&codec=mjpg", "v4l2: /dev/video0 FOURCC=MJPG FRAME_WIDTH=640 BUFFERSIZE=1"),
        ("rtsp://host/a", "ffmpeg: rtsp://host/a"),
        ("p/*.jpg", "pictures: p/*.jpg"),
    ],
)
@pytest.mark.parametrize("platform", [LAPTOP, Platform(jetson=True, gstreamer=False), Platform(False, True)])
def test_elsewhere_opencv_opens_it_directly(text: str, plan: str, platform: Platform) -> None:
    assert str(plan_from_source(source_from_text(text), platform)) == plan


@pytest.mark.parametrize(
    ("text", "platform", "told"),
    [
        ("csi://0", LAPTOP, "expected a Jetson"),
        ("csi://0", Platform(jetson=True, gstreamer=False), "sudo apt install python3-opencv"),
        ("videotestsrc ! appsink", LAPTOP, "got an OpenCV without GStreamer"),
        ("videotestsrc ! fakesink", JETSON, "got a pipeline without appsink"),
    ],
)
def test_a_source_that_a_platform_cannot_open_is_named_with_the_cure(text: str, platform: Platform, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        plan_from_source(source_from_text(text), platform)


class Appsink:
    """A stand-in for a cv2.VideoCapture with GStreamer, which no wheel of OpenCV has: it gives one frame."""

    def __init__(self, frame: NDArray[Any]) -> None:
        self._frame = frame

    def get(self, _: int) -> float:
        return 30.0

    def retrieve(self, _: object) -> tuple[bool, NDArray[Any]]:
        return True, self._frame


@pytest.mark.parametrize(
    ("what", "shape", "dtype"),
    [
        ("BGRx", (24, 32, 4), np.uint8),
        ("I420", (36, 32), np.uint8),
        ("UYVY", (24, 32, 2), np.uint8),
        ("GRAY16_LE", (24, 32), np.uint16),
    ],
)
def test_frames_that_are_not_bgr_are_refused_with_the_cure(what: str, shape: tuple[int, ...], dtype: type) -> None:
    plan = plan_from_source(source_from_text(f"v4l2src ! video/x-raw,format={what} ! appsink"), JETSON)
    capture = VideoCapture(cv2, Appsink(np.zeros(shape, dtype)), has_positions=False, gives_grey=gives_grey(plan))
    with pytest.raises(SourceError, match=re.escape(f"got frames of {np.dtype(dtype)} {shape}, expected")) as caught:
        capture.retrieve(None)
    assert f"'{SINK}'" in str(caught.value)


@pytest.mark.parametrize("caps", ["format=GRAY8", "format=(string)GRAY8,width=32", 'width=32, format = "GRAY8"'])
def test_grey_is_taken_where_the_pipeline_says_so(caps: str) -> None:
    plan = plan_from_source(source_from_text(f"src ! x,format=NV12 ! convert ! video/x-raw,{caps} ! appsink"), JETSON)
    frame = Appsink(np.full((24, 32), 7, np.uint8))
    capture = VideoCapture(cv2, frame, has_positions=False, gives_grey=gives_grey(plan))
    picture = capture.retrieve(None)
    assert picture is not None
    assert picture.shape == (24, 32, 3)
    assert (picture == 7).all()


class Webcam:
    """A stand-in for a cv2.VideoCapture with V4L2: 640 x 480, 30 frames/s, YUYV; OpenCV sets no width alone."""

    def __init__(self, *_: object) -> None:
        self._mode = {"FRAME_WIDTH": 640.0, "FRAME_HEIGHT": 480.0, "FPS": 30.0, "FOURCC": fourcc("YUYV")}
        self._asked: dict[str, float] = {}

    def isOpened(self) -> bool:  # noqa: N802 -- OpenCV's name
        return True

    def set(self, number: int, value: float) -> bool:
        self._asked[NAMES.get(number, "")] = value
        if {"FRAME_WIDTH", "FRAME_HEIGHT"} <= self._asked.keys():
            self._mode |= {"FRAME_WIDTH": 1280.0, "FRAME_HEIGHT": 720.0}
        if self._asked.get("FOURCC") == fourcc("MJPG"):
            self._mode["FOURCC"] = fourcc("MJPG")
        if self._asked.get("FPS") == 7:
            self._mode["FPS"] = math.nan
        return True

    def get(self, number: int) -> float:
        return self._mode.get(NAMES.get(number, ""), -1.0)


def fourcc(text: str) -> float:
    return float(cv2.VideoWriter.fourcc(*text))


NAMES = {getattr(cv2, f"CAP_PROP_{name}"): name for name in ("FRAME_WIDTH", "FRAME_HEIGHT", "FPS", "FOURCC")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0", ""),
        ("0?width=1280&height=720&rate=30&codec=mjpg", ""),
        ("0?codec=raw&rate=7", ""),  # this driver does not say its rate
        ("0?width=1280", "got width 640 from the camera, expected width 1280; give width and height together"),
        ("0?width=1920&height=1080", "got width 1280, height 720 from the camera, expected width 1920, height 1080; "),
        ("0?rate=60", "got rate 30 from the camera, expected rate 60; "),
    ],
)
def test_a_camera_that_gives_another_mode_than_was_asked_for_is_reported(
    text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    capture = open_capture(cv2, plan_from_source(source_from_text(text), LAPTOP), 10, 10, live=True)
    assert capture is not None
    assert capture.mode_fault.startswith(told)
    assert bool(capture.mode_fault) == bool(told)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('GStreamer warning: Error opening bin: no element "nvarguscamerasrc"', "nvidia-l4t-gstreamer"),
        ('no element "x264enc"', "gst-inspect-1.0 x264enc"),
        ("gstnvarguscamerasrc.cpp, execute:751 Failed to create CaptureSession", "systemctl restart nvargus-daemon"),
        ("libgomp.so.1: cannot allocate memory in static TLS block", "LD_PRELOAD"),
        ("VIDIOC_REQBUFS: errno=16 (Device or resource busy)", "got a busy camera"),
        ("[OPENCV:FFMPEG:24] HTTP error 404 Not Found", "check the URL's path"),
        ("[OPENCV:FFMPEG:16] method DESCRIBE failed: 404 (Not Found)", "check the URL's path"),
        ("[OPENCV:FFMPEG:24] HTTP error 401 Unauthorized", "check user and password"),
        ("[OPENCV:FFMPEG:16] method DESCRIBE failed: 401 (Unauthorized)", "check user and password"),
        ("OpenCV | GStreamer warning: ...; module rtspsrc0 reported: Unauthorized", "check user and password"),
        ("OpenCV | GStreamer warning: ...; module rtspsrc0 reported: Not found", "check the URL's path"),
        ("[OPENCV:FFMPEG:16] Connection to tcp://a:1 failed: Connection refused", "check that it runs"),
    ],
)
def test_messages_of_libraries_become_cures(said: str, told: str) -> None:
    text = cure(source_from_text("rtsp://user:secret@host/a"), ["noise before", said, "noise after"])
    assert text.startswith("rtsp://user:***@host/a: got ")
    assert ", expected " in text
    assert told in text
    assert "secret" not in text


def test_a_missing_camera_is_distinguished_from_a_forbidden_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "got no such camera" in cure(source_from_text("/dev/video99"), [])
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may open everything
    device = tmp_path / "video0"
    device.touch()
    assert "sudo usermod -aG video" in cure(Source(str(device), "device", str(device), live=True), [])


def test_a_device_that_is_no_camera_is_not_called_busy() -> None:
    assert "got a device that is not a camera" in cure(
        source_from_text("/dev/null"), []
    )  # which every process has open


def test_an_unreachable_file_is_reported() -> None:
    name = "a" * 300 + ".mp4"
    assert "got a file that cannot be reached (File name too long)" in cure(Source(name, "video", name, live=False), [])
    assert "got no picture of that name" in cure(Source(name, "pictures", name, live=False), [])


def test_the_process_that_holds_a_camera_is_named(tmp_path: Path) -> None:
    import subprocess
    import sys

    device = tmp_path / "video0"
    device.touch()
    code = f"import sys; f = open({str(device)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert [name.rsplit(" ", 1)[1] for name in holders(str(device))] == [f"({holder.pid})"]
        holder.communicate()


def test_a_process_that_ends_meanwhile_is_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "video0"
    scandir, gone = os.scandir, f"/proc/{os.getppid()}/fd"

    def scan(path: Any = ".") -> Any:
        if str(path) == gone:  # what the kernel says of a process that ended after it was listed
            raise FileNotFoundError(2, "No such file or directory", gone)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert holders(str(device)) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:sec:ret@host/a", "rtsp://user:***@host/a"),
        ("rtsp://host:554/user=admin&password=secret&channel=1", "rtsp://host:554/user=admin&password=***&channel=1"),
        ("http://host/a.mjpg?usr=a&PWD=secret", "http://host/a.mjpg?usr=a&PWD=***"),
        ('rtspsrc user-id=u user-pw="my secret" ! decodebin', "rtspsrc user-id=u user-pw=*** ! decodebin"),
        ("rtsp://host:8554/bypass=1@b", "rtsp://host:8554/bypass=1@b"),
        ("rtsp://host/user=admin_password=secret_channel=1.sdp?a=1", "rtsp://host/user=admin_password=***"),
        ("https://host/a.mjpg?access_token=secret&x=1", "https://host/a.mjpg?access_token=***&x=1"),
        ("rtspsrc proxy-pw=secret user-pw = 'my secret' ! x", "rtspsrc proxy-pw=*** user-pw = *** ! x"),
        ("rtsp://user:sec/ret@host/a", "rtsp://user:***@host/a"),
        ("rtsp://user:secret@host/a@b", "rtsp://user:***@host/a@b"),
        ("rtsp://[fe80::1]:554/a@b", "rtsp://[fe80::1]:554/a@b"),
    ],
)
def test_no_password_is_shown(text: str, shown: str) -> None:
    assert without_password(text) == shown

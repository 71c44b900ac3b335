"""Plan how to open a source on this platform: OpenCV's backend and its argument, as plain text."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from taijitu_runtime.errors import SourceError
from taijitu_runtime.live.sources import Mode, Source
from taijitu_runtime.machine import is_jetson

Opener = Literal["gstreamer", "v4l2", "ffmpeg", "pictures"]

CSI = Mode(width=1280, height=720, rate=30, flip=0)
# One buffer, the newest: a frame that waits in a queue is old when it is classified.
SINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
NVIDIA_TO_BGR = f"video/x-raw,format=BGRx ! {SINK}"
NO_GSTREAMER = (
    "got an OpenCV without GStreamer, expected one with it; pip's opencv-python has none: use the system's "
    "(on a Jetson: sudo apt install python3-opencv, a virtual environment with --system-site-packages, and no "
    "opencv-python in it)"
)


@dataclasses.dataclass(frozen=True)
class Platform:
    """The facts that decide between pipelines: whether this is a Jetson, and whether this OpenCV has GStreamer."""

    jetson: bool
    gstreamer: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """OpenCV's backend, its argument, and the properties to set (names without CAP_PROP_)."""

    opener: Opener
    target: str
    properties: tuple[tuple[str, float | str], ...] = ()

    def __str__(self) -> str:
        asked = "".join(f" {name}={value}" for name, value in self.properties)
        return f"{self.opener}: {self.target}{asked}"


def detect_platform(cv2: Any) -> Platform:
    """Return the platform with this OpenCV module."""
    return Platform(is_jetson(), bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)))


def plan_from_source(source: Source, platform: Platform) -> Plan:
    """Return the plan to open the source. Raises SourceError if this platform cannot open it."""
    if source.kind == "pictures":
        return Plan("pictures", source.address)
    if source.kind == "pipeline":
        return Plan("gstreamer", _whole_pipeline(source.address, platform))
    if source.kind == "csi":
        return Plan("gstreamer", csi_pipeline(source.address, source.mode, platform))
    if platform.jetson and platform.gstreamer and source.kind == "device":
        return Plan("gstreamer", device_pipeline(source.address, source.mode))
    if platform.jetson and platform.gstreamer and source.kind == "rtsp":
        return Plan("gstreamer", rtsp_pipeline(source.address, source.mode))
    if source.kind == "device":
        return Plan("v4l2", source.address, _v4l2_properties(source.mode))
    return Plan("ffmpeg", source.address)


def csi_pipeline(sensor: str, mode: Mode, platform: Platform) -> str:
    """Return the pipeline for a camera on a Jetson's CSI connector, through its image processor.

    Raises SourceError on another board, and without GStreamer.
    """
    if not platform.jetson:
        raise SourceError(
            f"got csi://{sensor}, expected a Jetson, whose cameras are read by nvarguscamerasrc; on another board "
            f"write the whole pipeline, such as 'libcamerasrc ! {SINK}'"
        )
    if not platform.gstreamer:
        raise SourceError(NO_GSTREAMER)
    width, height, rate = mode.width or CSI.width, mode.height or CSI.height, mode.rate or CSI.rate
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},format=NV12,framerate={rate}/1 ! "
        f"nvvidconv flip-method={mode.flip or CSI.flip} ! {NVIDIA_TO_BGR}"
    )


def device_pipeline(path: str, mode: Mode) -> str:
    """Return the pipeline for a USB camera."""
    media = "image/jpeg" if mode.codec == "mjpg" else "video/x-raw"
    caps = [f"{name}={value}" for name, value in (("width", mode.width), ("height", mode.height)) if value]
    caps += [f"framerate={mode.rate}/1"] if mode.rate else []
    wanted = f"{','.join([media, *caps])} ! " if caps or mode.codec else ""
    decoder = "jpegdec ! " if mode.codec == "mjpg" else ""
    return f"v4l2src device={path} io-mode=2 do-timestamp=true ! {wanted}{decoder}{SINK}"


def rtsp_pipeline(url: str, mode: Mode) -> str:
    """Return the pipeline for a network camera, through a Jetson's hardware decoder."""
    codec, location = mode.codec or "h264", url.replace('"', "%22")
    return (
        f'rtspsrc location="{location}" latency=0 drop-on-latency=true ! rtp{codec}depay ! {codec}parse ! '
        f"nvv4l2decoder ! nvvidconv ! {NVIDIA_TO_BGR}"
    )


def _whole_pipeline(pipeline: str, platform: Platform) -> str:
    if "appsink" not in pipeline:
        raise SourceError(f"got a pipeline without appsink, expected it at the end; append '! {SINK}'")
    if not platform.gstreamer:
        raise SourceError(NO_GSTREAMER)
    return pipeline


def _v4l2_properties(mode: Mode) -> tuple[tuple[str, float | str], ...]:
    # The codec comes first, as it decides which sizes and rates the camera offers.
    codec = {"mjpg": "MJPG", "raw": "YUYV"}.get(mode.codec or "")
    asked = (("FOURCC", codec), ("FRAME_WIDTH", mode.width), ("FRAME_HEIGHT", mode.height), ("FPS", mode.rate))
    return (*((name, value) for name, value in asked if value), ("BUFFERSIZE", 1))

"""Explain in one line why a source gives no frames, and what to do about it."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from taijitu_runtime.live.sources import EXPECTED, Source

VIDEO_MAJOR = 81
"""Number of Linux's driver for cameras (Documentation/admin-guide/devices.txt)."""

# Messages of libraries and their meaning; the first match counts.
MESSAGES = (
    (
        r"cannot allocate memory in static TLS block",
        "got no room for a library's thread memory, expected OpenCV to load; start with LD_PRELOAD set to the library "
        "that is named in: {line}",
    ),
    (
        r'no element "nvarguscamerasrc"',
        "got a GStreamer without nvarguscamerasrc, expected NVIDIA's plug-ins; sudo apt install nvidia-l4t-gstreamer, "
        "and in a container mount them (--runtime nvidia) and /tmp/argus_socket",
    ),
    (
        r'no element "(?P<name>[\w-]+)"',
        "got a GStreamer without {name}, expected its plug-in; find the package with: gst-inspect-1.0 {name}",
    ),
    (
        r"(Failed to create CaptureSession|No cameras available|Invalid camera device|Argus.*(Error|Timeout))",
        "got no session from NVIDIA's camera service, expected a free camera; end what else uses it, check the "
        "ribbon cable and the sensor's number, then: sudo systemctl restart nvargus-daemon",
    ),
    (
        r"(Device or resource busy|VIDIOC_(REQBUFS|STREAMON|S_FMT).*errno=16)",
        "got a busy camera, expected it free; end the program that uses it (fuser -v /dev/video*)",
    ),
    # FFmpeg prints "404 Not Found" for HTTP and "404 (Not Found)" for RTSP; OpenCV prints what GStreamer "reported".
    (
        r"(40[13] \(?|reported: )(Unauthorized|Forbidden)",
        "got a refusal ({line}), expected access; check user and password in the URL",
    ),
    (r"404 \(?Not Found|reported: Not found", "got no such stream (404), expected one; check the URL's path"),
    (r"Connection refused", "got a refused connection, expected a server; check that it runs, host and port"),
    (
        r"(Failed to resolve hostname|Name or service not known|Temporary failure in name resolution)",
        "got a host without an address, expected a known one; check the URL's host and the network",
    ),
    (
        r"(No route to host|Network is unreachable)",
        "got no way to the host, expected a network; check cable and address",
    ),
    (
        r"Video: mjpeg, none.*unspecified size|Expected boundary '--' not found",
        "got MJPEG in parts whose end FFmpeg does not find (line ends without CR, no Content-Length or a wrong one), "
        "expected CRLF and lengths; try OPENCV_FFMPEG_CAPTURE_OPTIONS='input_format;mjpeg', which looks for the JPEGs "
        "themselves",
    ),
    (r"moov atom not found", "got a video whose index is missing, expected a finished one; copy it again"),
)
NOISE = (
    r"backend is generally available but can't be used|pipeline have not been created|deprecated pixel format|"
    r"Stream timeout triggered|Immediate exit requested|unable to start pipeline"
)


def cure(source: Source, said: Iterable[str], event: str = "") -> str:
    """Return why `source` gave no frame, as got, expected and what to do.

    Args:
        source: The source, whose file or device is examined.
        said: The lines that libraries printed.
        event: What happened, where that is known.
    """
    lines = list(said)
    found = _on_this_machine(source) or _in_messages(lines)
    if not found:
        telling = [line for line in lines if not re.search(NOISE, line)]
        last = f" ({telling[-1]})" if telling else ""
        found = f"got {event or 'no frame'}{last}, expected frames; {_advice(source)}"
    return f"{source.shown}: {found}"


def holders(device: str) -> list[str]:
    """Return the processes that have the device open, as "name (pid)", as far as this user may see them."""
    names = set()
    for pid in os.listdir("/proc"):
        if pid.isdigit() and pid != str(os.getpid()) and _has_open(pid, device):
            with contextlib.suppress(OSError):
                names.add(f"{Path('/proc', pid, 'comm').read_text().strip()} ({pid})")
    return sorted(names)


def _has_open(pid: str, device: str) -> bool:
    # Not Path.glob: on Python 3.10 and 3.11 it raises if a process ends in the meantime.
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as links:
        for link in links:
            with contextlib.suppress(OSError):
                if str(Path(link).readlink()) == device:
                    return True
    return False


def _on_this_machine(source: Source) -> str | None:
    if source.kind == "device":
        return _about_device(source.address)
    if source.kind == "video" and "://" not in source.address:
        return _about_file(source.address)
    if source.kind == "pictures" and not os.path.exists(source.address):  # noqa: PTH110  # as here, it raises for some
        return "got no picture of that name, expected at least one; check the path, quote the pattern, write [ as [[]"
    return None


def _about_file(path: str) -> str | None:
    try:
        size = Path(path).stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return f"got no such file, expected {EXPECTED}; check the path"
    except OSError as error:
        return f"got a file that cannot be reached ({error.strerror}), expected another; check its path and folders"
    if not os.access(path, os.R_OK):
        return "got a file that may not be read, expected the permission; chmod a+r it"
    if size == 0 and Path(path).is_file():
        return "got an empty file, expected a video; copy it again"
    return None


def _about_device(device: str) -> str | None:
    there = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
    try:
        status = Path(device).stat()
    except OSError:
        return f"got no such camera, expected one that is here: {there}; plug it in; containers need --device {device}"
    if stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) != VIDEO_MAJOR:
        return f"got a device that is not a camera, expected one that is here: {there}; check the name"
    if not os.access(device, os.R_OK | os.W_OK):
        return "got a camera that may not be used, expected the permission; sudo usermod -aG video $USER, log in again"
    if users := holders(os.path.realpath(device)):
        return f"got a busy camera, expected it free; end what uses it: {', '.join(users)}"
    return None


def _in_messages(lines: list[str]) -> str | None:
    for pattern, text in MESSAGES:
        for line in reversed(lines):
            if match := re.search(pattern, line):
                return text.format(line=line, **match.groupdict())
    return None


def _advice(source: Source) -> str:
    if source.kind in ("rtsp", "http"):
        only = "" if source.kind == "rtsp" else "; of one picture, give the downloaded file"
        return f"check that the stream plays elsewhere (ffplay, VLC){only}"
    if source.kind in ("video", "pictures"):
        return "check that it is a video or picture that plays elsewhere"
    if source.kind == "pipeline":
        return "try it with gst-launch-1.0, with autovideosink for appsink"
    return "unplug the camera and plug it in again, try another port; --verbose shows the messages of libraries"

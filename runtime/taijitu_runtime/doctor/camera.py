"""Check cameras: the devices, their permissions, and the build of OpenCV."""

from __future__ import annotations

import os
import re
from pathlib import Path

from taijitu_runtime.doctor.finding import Finding, ok, problem, warning
from taijitu_runtime.machine import is_container


def check_video_devices(root: Path) -> list[Finding]:
    """Check that this user may open every /dev/video*."""
    devices = sorted((root / "dev").glob("video[0-9]*"), key=lambda path: int(re.sub(r"\D", "", path.name)))
    if not devices:
        hint = "; a container takes --device /dev/video0" if is_container(root) else ""
        return [ok("cameras", f"no /dev/video*; videos and rtsp:// need none{hint}")]
    return [_check_device(root, device) for device in devices]


def check_opencv_build(information: str) -> list[Finding]:
    """Check the video backends in `information`, the text of cv2.getBuildInformation()."""
    built = {name: built_with(information, name) for name in ("GStreamer", "FFMPEG", "v4l/v4l2")}
    text = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in built.items())
    if not built["FFMPEG"] and not built["GStreamer"]:
        return [warning("OpenCV's videos", f"{text}: no rtsp:// and no video files", "pip install opencv-python")]
    return [ok("OpenCV's videos", text)]


def check_argus(root: Path, is_jetson: bool) -> list[Finding]:
    """Check the daemon nvargus and the plugin of GStreamer that read a Jetson's CSI cameras."""
    if not is_jetson:
        return []
    if not list(root.glob("usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvarguscamerasrc.so")):
        cure = "sudo apt-get install nvidia-l4t-gstreamer; a container takes --runtime nvidia"
        return [warning("CSI cameras", "GStreamer has no nvarguscamerasrc", cure)]
    if not (root / "tmp/argus_socket").exists():
        cure = "sudo systemctl restart nvargus-daemon; a container takes -v /tmp/argus_socket:/tmp/argus_socket"
        return [warning("CSI cameras", "nvargus-daemon cannot be reached at /tmp/argus_socket", cure)]
    return [ok("CSI cameras", "nvarguscamerasrc and its daemon are present")]


def built_with(information: str, name: str) -> bool:
    """Return whether OpenCV's build information has a line such as "    GStreamer:    YES (1.20.3)"."""
    return re.search(rf"^\s*{re.escape(name)}:\s+YES", information, re.MULTILINE) is not None


def _check_device(root: Path, device: Path) -> Finding:
    name = root / "sys/class/video4linux" / device.name / "name"
    label = name.read_text(errors="replace").strip() if name.is_file() else "unnamed"
    shown = f"/dev/{device.name}"
    if os.access(device, os.R_OK | os.W_OK, effective_ids=True):
        return ok(shown, label)
    return problem(shown, f"{label}: no permission", "log in again after: sudo usermod -aG video $USER")

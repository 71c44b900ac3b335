"""Parse the argument of --source: a camera, stream, video, pictures or a pipeline."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from taijitu_runtime.console import shown
from taijitu_runtime.datasets.names import has_picture_suffix
from taijitu_runtime.errors import UsageError, name_hint

Kind = Literal["device", "csi", "rtsp", "http", "video", "pictures", "pipeline"]
Codec = Literal["raw", "mjpg", "h264", "h265"]

SCHEMES: dict[str, Kind] = {"csi": "csi", "rtsp": "rtsp", "rtsps": "rtsp", "http": "http", "https": "http"}
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
EXPECTED = "0, /dev/video0, csi://0, rtsp://..., http://..., video.mp4, 'pictures/*.jpg' or a GStreamer pipeline"
# A name may end in one of these words: access_token, user_pwd, GStreamer's user-pw and proxy-pw.
SECRET = re.compile(
    r"""(?<![a-z0-9])((?:password|passwd|pwd|pass|pw|token)\s*=\s*)("[^"]*"|'[^']*'|[^&\s"']+)""", re.IGNORECASE
)
# The second kind of password has a slash, which ends the host in a correct URL: a number before it is a port.
LOGIN = re.compile(r"(\w+://[^/\s:@\[]*):(?:[^/\s]*|(?!\d*(?:[/?#\s]|$))\S*)@")
CODECS: dict[Kind, tuple[Codec, ...]] = {"device": ("raw", "mjpg"), "rtsp": ("h264", "h265")}
MODES: dict[Kind, tuple[str, ...]] = {
    "csi": ("width", "height", "rate", "flip"),
    "device": ("width", "height", "rate", "codec"),
    "rtsp": ("codec",),
}


@dataclasses.dataclass(frozen=True)
class Mode:
    """The requested mode of a camera; None leaves a value to the camera.

    Attributes:
        width: In pixels, as `height`.
        rate: In frames/s.
        flip: 0 to 7, as nvvidconv's flip-method (2 rotates by 180 degrees).
        codec: The encoding of a USB camera ("raw", "mjpg") or an RTSP stream ("h264", "h265").
    """

    width: int | None = None
    height: int | None = None
    rate: int | None = None
    flip: int | None = None
    codec: Codec | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of frames.

    Attributes:
        address: The path of a device, the number of a CSI sensor, a URL, a path, a glob or a pipeline.
        live: The source does not wait, so frames that are not taken in time are dropped.
    """

    text: str
    kind: Kind
    address: str
    live: bool
    mode: Mode = Mode()

    @property
    def shown(self) -> str:
        """The source without passwords, in one line, to be printed or sent (see `without_password`)."""
        return shown(without_password(self.text))


def source_from_text(text: str, mode: Mode | None = None) -> Source:
    """Parse the text of a source; nothing is opened.

    The query of a camera (`csi://0?width=1280&height=720`) sets the same values as `mode`; a value in both is an error.

    Raises:
        UsageError: The text is not a source, its scheme is unknown, or this kind of source does not have such a mode.
    """
    kind, address, query = _split(text)
    asked = _mode_from_query(text, kind, query)
    for name, value in vars(mode or Mode()).items():
        if value is not None and getattr(asked, name) is not None:
            raise UsageError(f"got {name} twice, as an option and in {text!r}, expected it once; leave one out")
        asked = dataclasses.replace(asked, **{name: value}) if value is not None else asked
    _check_mode(kind, asked)
    return Source(text, kind, address, _is_live(kind, address), asked)


def without_password(text: str) -> str:
    """Replace the passwords in a text by stars: in URLs, their queries, and properties of GStreamer elements."""
    return SECRET.sub(r"\1***", LOGIN.sub(r"\1:***@", text))


def _split(text: str) -> tuple[Kind, str, str]:
    path, _, query = text.partition("?")
    if re.fullmatch(r"\d+", path):
        return "device", f"/dev/video{path}", query
    if path.startswith("/dev/"):
        return "device", path, query
    if re.search(r"(^|\s)!\s", text) and not _exists(text):
        return "pipeline", text, ""
    if match := re.match(r"([A-Za-z][\w+.-]*)://", text):
        return _split_url(text, match[1].lower())
    if not text.strip():
        raise UsageError(f"got an empty source, expected {EXPECTED}")
    if os.path.isdir(text):  # noqa: PTH112 -- Path.is_dir raises without permission
        raise UsageError(f"{text}: got a folder, expected {EXPECTED}; write '{text.rstrip('/')}/*.jpg', in quotes")
    if has_picture_suffix(text) or (re.search(r"[*?\[]", text) and not _exists(text)):
        return "pictures", text, ""
    return "video", text, ""


def _exists(text: str) -> bool:
    return os.path.exists(text)  # noqa: PTH110 -- Path.exists raises for a longer name than files have, as of a pipeline


def _split_url(text: str, scheme: str) -> tuple[Kind, str, str]:
    if scheme not in SCHEMES:
        hint = name_hint(scheme, SCHEMES)
        raise UsageError(f"got the unknown scheme {scheme}:// in {without_password(text)!r}; {hint}")
    kind = SCHEMES[scheme]
    if kind == "csi":
        sensor, _, query = text.partition("://")[2].partition("?")
        if not re.fullmatch(r"\d+", sensor):
            raise UsageError(f"got the CSI camera {sensor!r}, expected a sensor's number such as csi://0")
        return kind, sensor, query
    path = re.split(r"[?#]", text)[0]
    if kind == "http" and Path(path).suffix.lower() in VIDEO_SUFFIXES:
        return "video", text, ""
    return kind, text, ""


def _is_live(kind: Kind, address: str) -> bool:
    if kind == "pipeline":
        return "filesrc" not in address
    return kind not in ("video", "pictures")


def _mode_from_query(text: str, kind: Kind, query: str) -> Mode:
    values: dict[str, int | str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        known = MODES[kind]
        if name not in known:
            raise UsageError(f"got the unknown option {name!r} in {text!r}; {name_hint(name, known)}")
        if name != "codec" and not re.fullmatch(r"\d+", value):
            raise UsageError(f"got {name}={value!r} in {text!r}, expected a whole number")
        values[name] = value if name == "codec" else int(value)
    return Mode(**values)  # type: ignore[arg-type]  # the names and types are those of MODES, checked above


def _check_mode(kind: Kind, mode: Mode) -> None:
    for name, value in vars(mode).items():
        if value is None:
            continue
        if name not in MODES.get(kind, ()):
            homes = [home for home, names in MODES.items() if name in names]
            raise UsageError(f"got {name}={value} for a source of kind {kind}, expected it for {', '.join(homes)} only")
        if name == "codec" and value not in CODECS[kind]:
            raise UsageError(f"got codec={value} for {kind}, expected {' or '.join(CODECS[kind])}")
        if name == "flip" and not 0 <= value <= 7:
            raise UsageError(f"got flip={value}, expected 0 to 7 (0 none, 2 by 180 degrees, 4 mirrored, 6 upside down)")
        if name in ("width", "height", "rate") and value < 1:
            raise UsageError(f"got {name}={value}, expected at least 1")

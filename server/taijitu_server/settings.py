"""The settings: from flags, then environment variables TAIJITU_*, then a TOML file, then the defaults here."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from taijitu_runtime.errors import UsageError, close_names
from taijitu_runtime.machine import MOST_THREADS, usable_cores
from taijitu_runtime.pictures.limits import LIMITS, Limits
from taijitu_runtime.proof.modes import Mode
from taijitu_runtime.providers import Provider

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "TAIJITU_"
OTHER_VARIABLES = {"TAIJITU_DATA"}  # the folder of the tests' pictures
# Kubernetes sets variables for services; those of a service called taijitu or taijitu-camera begin with our prefix.
SERVICE_LINK = re.compile(r".*_SERVICE_(HOST|PORT(_.+)?)|.*_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
PORT_LINK = re.compile(r"(tcp|udp|sctp)://.+")
LONGEST_S = 1e6  # of a time limit: timers take no infinite one, and a drain of that length would never end
# As browsers send it, in lower case and without a path; a name in Host, without a port.
ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/\sA-Z]+")
HOST_NAME = re.compile(r"\*|(\*\.)?[^\[\]:/?#@*\s]+|\[[0-9a-fA-F:.%]+\]")
API_KEY = re.compile(r"[ -~]{16,}")  # what each client can send in a header; the page expects the same
CAMERA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Settings(BaseModel):
    """The settings of one server. The description of each field is the help of its flag."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, description="port to listen on; 0 for a free one")
    workers: int = Field(1, ge=1, le=256, description="server processes that share the port")

    models: Path | None = Field(None, description="folder of models: NAME.onnx, or NAME/VERSION/*.onnx")
    reload_s: float = Field(0.0, ge=0, description="seconds between checks for changed model files; 0 for none")
    reload_by_post: bool = Field(False, description="let clients load and unload models of the folder by POST")

    prove: Mode = Field("on", description="a model that does not answer as its passport says: on refuses it, warn, off")
    provider: Provider | None = Field(None, description="where ONNX Runtime computes: cpu, cuda, tensorrt or rtx")
    cuda_graphs: bool = Field(True, description="engines: batches are CUDA graphs, captured when the model loads")
    inference_threads: int = Field(
        1, ge=0, le=MOST_THREADS, description="threads that compute one batch; 0 for one per core"
    )
    instances: int = Field(0, ge=0, le=64, description="batches of one model that run at once; 0 for one per core")
    decode_threads: int = Field(1, ge=1, le=64, description="threads that decode pictures, for all models together")
    max_batch: int = Field(4, ge=1, le=1024, description="largest number of pictures in one batch")
    max_delay_ms: float = Field(0.0, ge=0, le=1000, description="milliseconds that a batch waits for more pictures")
    queue_size: int = Field(128, ge=1, description="requests waiting or running for one model; the next one gets 503")
    queue_timeout_ms: float = Field(5000.0, gt=0, description="a request that waited longer gets 504 and is not run")
    run_timeout_s: float = Field(60.0, gt=0, description="seconds for the run of a batch; then 504, and not ready")
    retry_after_s: int = Field(1, ge=0, description="seconds after which a client that got 503 may try again")

    max_body_bytes: int = Field(16 * 2**20, ge=1, description="bytes of one body, decompressed; a larger one gets 413")
    max_buffered_bytes: int = Field(256 * 2**20, ge=1, description="bytes of all bodies held at once; more get 503")
    max_pictures: int = Field(32, ge=1, description="pictures in one request; more get 413")
    max_rows: int = Field(1024, ge=1, description="decoded images in one tensor of KServe v2; more get 413")
    max_pixels: int = Field(
        LIMITS.max_pixels, ge=1, description="width times height of one picture; a larger one gets 413"
    )
    max_request_pixels: int = Field(400_000_000, ge=1, description="pixels of all pictures of a request; more get 413")
    max_jpeg_scans: int = Field(LIMITS.max_jpeg_scans, ge=1, description="scans of one JPEG; more get 413")
    formats: str = Field("JPEG,PNG,WEBP,BMP,GIF", description="picture formats that are decoded; others get 422")
    max_header_bytes: int = Field(65_536, ge=256, description="bytes of request line and headers; more get 431")
    max_connections: int = Field(1024, ge=1, description="open connections; a further one gets 503 and is closed")

    header_timeout_s: float = Field(10.0, gt=0, description="seconds for headers or a WebSocket's handshake; then 408")
    body_timeout_s: float = Field(30.0, gt=0, description="seconds for a body (then 408), or to read a response")
    keep_alive_s: float = Field(75.0, gt=0, description="seconds after which an idle connection is closed")
    drain_s: float = Field(0.0, ge=0, description="seconds of 'not ready' after SIGTERM before the port closes")
    shutdown_s: int = Field(10, ge=1, description="seconds after that for requests in progress")

    allowed_hosts: str = Field(
        "", description="host names that requests may be for, comma-separated, such as a.example,*.b.example; * for all"
    )
    api_keys: Path | None = Field(None, description="file with one key per line; a request without one gets 401")
    camera: dict[str, str] = Field({}, description="a camera to classify and show, as NAME=SOURCE; may be repeated")
    camera_model: str = Field("", description="model for the cameras, if several are served")
    camera_smoothing_s: float = Field(0.5, ge=0, description="seconds over which a camera's answers are averaged")
    camera_frozen_s: float = Field(
        10.0, ge=0, description="seconds of identical frames after which a camera is frozen; 0 for never"
    )
    camera_width: int = Field(960, ge=64, description="largest width of streamed images, in pixels")
    camera_control: bool = Field(False, description="let clients start and stop cameras")

    cors_origins: str = Field("", description="origins that browsers may call from, comma-separated; * for all")
    access_log: bool = Field(True, description="write one JSON line to stderr for each request")

    @field_validator("host", "models", "api_keys", mode="before")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        if value == "":  # a variable that is not set; no host would be every address, and no path this folder
            raise ValueError("expected a name; leave the setting out for its default")
        return value

    @field_validator("camera", mode="before")
    @classmethod
    def _cameras(cls, given: Any) -> Any:
        return cameras_from(given)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        if type(value) is bool and type(cls.model_fields[str(info.field_name)].default) in (int, float):
            raise ValueError("expected a number")  # true would be 1
        return value

    @field_validator("*")
    @classmethod
    def _time_limits(cls, value: Any, info: ValidationInfo) -> Any:
        longest = {"s": LONGEST_S, "ms": 1e3 * LONGEST_S}.get(str(info.field_name).rpartition("_")[2])
        if longest is not None and value > longest:
            raise ValueError(f"expected at most {longest:.0f}")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        return _checked(value, ORIGIN, "an origin such as https://a.example:8443, without a path, or *")

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: str) -> str:
        return _checked(value, HOST_NAME, "a host name such as a.example or *.b.example, without a port, or *")

    @model_validator(mode="after")
    def _together(self) -> Settings:
        fields = {name: field.default for name, field in type(self).model_fields.items() if name.startswith("camera_")}
        unused = [name for name, default in fields.items() if getattr(self, name) != default]
        if unused and not self.camera:
            raise UsageError(
                f"got --{unused[0].replace('_', '-')}, expected it with a camera; add --camera NAME=SOURCE"
            )
        if self.max_body_bytes > self.max_buffered_bytes and "max_body_bytes" in self.model_fields_set:
            raise UsageError(
                f"got --max-body-bytes {self.max_body_bytes}, expected at most --max-buffered-bytes, "
                f"{self.max_buffered_bytes}: such a body would never be accepted; raise that too"
            )
        return self

    def allowed_origins(self) -> list[str]:
        """Return `cors_origins` as a list."""
        return _listed(self.cors_origins)

    def allowed_host_names(self) -> list[str]:
        """Return `allowed_hosts` as a list."""
        return _listed(self.allowed_hosts)

    def known_keys(self) -> list[str]:
        """Return the keys in the file `api_keys`, one per line. Raises UsageError if it has no good ones."""
        return [] if self.api_keys is None else _keys_in(self.api_keys)

    def batches_at_once(self) -> int:
        """Return `instances`; for 0, the cores of this process divided by the number of workers."""
        return self.instances or max(1, usable_cores() // self.workers)

    def picture_limits(self) -> Limits:
        """Return the limits of one picture. Raises UsageError for an unknown format."""
        formats = tuple(name.strip().upper() for name in self.formats.split(","))
        return Limits(self.max_body_bytes, self.max_pixels, self.max_jpeg_scans, formats)


def settings_in(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings among environment variables, by name."""
    return {
        name: environment[variable]
        for variable, name in _variables().items()
        if variable in environment and not _is_service_link(variable, environment[variable])
    }


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return one warning for each environment variable TAIJITU_* that is not a setting."""
    known = _variables().keys() | OTHER_VARIABLES
    texts = []
    for variable, value in sorted(environment.items()):
        if variable.startswith(PREFIX) and variable not in known and not _is_service_link(variable, value):
            close = close_names(variable, known, 1)
            hint = f"; did you mean {close[0]}?" if close else "; see taijitu serve --help"
            texts.append(f"the environment variable {variable} is not a setting and is ignored{hint}")
    return texts


def _variables() -> dict[str, str]:
    return {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}


def _is_service_link(variable: str, value: str) -> bool:
    return bool(SERVICE_LINK.fullmatch(variable) or PORT_LINK.fullmatch(value))


def _keys_in(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file}: got a file of keys that cannot be read ({error}), expected one key per line; check --api-keys"
        ) from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or not all(map(API_KEY.fullmatch, keys)):
        raise UsageError(
            f"{file}: got a key of fewer or other characters, or none, expected 16 or more of printable ASCII; "
            "write one key per line"
        )
    return keys


def _checked(listed: str, pattern: re.Pattern[str], expected: str) -> str:
    for item in _listed(listed):
        if not pattern.fullmatch(item):
            raise ValueError(f"{item[:100]!r} matches no request; expected {expected}")
    return listed


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def cameras_from(given: Any) -> Any:
    """Return sources by name, from a list of flags, the lines of an environment variable, or a table of a TOML file.

    Raises:
        UsageError: A name or a source is not valid, or a name is repeated.
    """
    if isinstance(given, str):
        given = [line.strip() for line in given.splitlines() if line.strip()]
    if isinstance(given, list):
        pairs = [str(item).partition("=") for item in given]
        names = [name for name, _, _ in pairs]
        if len(set(names)) < len(names):
            raise UsageError(f"camera: got a name twice in {', '.join(names)}, expected each name once")
        given = {name: source for name, _, source in pairs}
    if isinstance(given, dict) and given:
        from taijitu_runtime.live.sources import source_from_text

        given = {name: str(source) if type(source) is int else source for name, source in given.items()}
        for name, source in given.items():
            if not CAMERA_NAME.fullmatch(name) or not source:
                raise UsageError(
                    f"camera: got {_without_password(f'{name}={source}')}, expected NAME=SOURCE such as "
                    "door=rtsp://camera/stream, where NAME is letters, digits, . _ and -"
                )
            source_from_text(str(source))
    return given


def _without_password(given: Any) -> str:
    from taijitu_runtime.live.sources import without_password  # only servers with cameras need it

    return without_password(str(given))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting; its value is None where it is not given."""
    for name, field in Settings.model_fields.items():
        default = "none" if field.default in (None, "", {}) else field.default
        text = f"{field.description} (default: {default})".replace("%", "%%")
        flag = f"--{name.replace('_', '-')}"
        if isinstance(field.default, dict):
            parser.add_argument(flag, metavar="NAME=SOURCE", action="append", default=None, help=text)
        elif isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            parser.add_argument(flag, metavar=name.rpartition("_")[2].upper(), help=text)


def settings_from(flags: dict[str, Any], file: Path | None) -> Settings:
    """Return the settings for parsed flags (None: not given) and a TOML file.

    Raises:
        UsageError: A setting is wrong; the text names the flag, variable or line of the file.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        written = {} if file is None else tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file}: got no such file, expected settings in TOML; check the path") from None
    except OSError as error:
        raise UsageError(
            f"{file}: got what cannot be read ({error.strerror}), expected a file of settings in TOML; check the path"
        ) from None
    except (ValueError, RecursionError) as error:  # tomllib.TOMLDecodeError is a ValueError
        raise UsageError(f"{file}: got what is not TOML ({error}), expected settings in it; correct it") from None
    try:
        settings = Settings(**{**written, **settings_in(os.environ), **given})
        settings.picture_limits()
        settings.known_keys()
        return settings
    except ValidationError as error:
        first = error.errors()[0]
        got = f"got {_without_password(first['input'])[:100]!r}: {_reason(first['msg'])}"
        raise UsageError(f"{_where(first['loc'], given, file)}: {got}") from None


def _reason(message: str) -> str:
    own = message.removeprefix("Value error, ")  # pydantic's words before ours
    return own if own != message else message.lower()


def _where(path: tuple[int | str, ...], flags: dict[str, Any], file: Path | None) -> str:
    """Return where the user wrote a setting: a flag, a variable or a line of the file."""
    name = str(path[0]) if path else "settings"
    if name in flags:
        return f"--{'.'.join(map(str, path)).replace('_', '-')}"
    if name in settings_in(os.environ):
        return f"{PREFIX}{name.upper()}"
    close = close_names(name, Settings.model_fields, 1)
    hint = f" (did you mean {close[0]}?)" if name not in Settings.model_fields and close else ""
    return f"{file}: {'.'.join(map(str, path))}{hint}"


def shown_settings(settings: Settings) -> str:
    """Return the settings that differ from the defaults, as one line without passwords."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    changed = {name: value for name, value in settings if value != defaults[name]}
    if settings.camera:
        changed["camera"] = {name: _without_password(source) for name, source in settings.camera.items()}
    return ", ".join(f"{name}={value}" for name, value in changed.items()) or "all at their defaults"

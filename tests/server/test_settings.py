"""Settings from flags, environment and file; keys; and the server's messages about them."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from taijitu_runtime.errors import UsageError
from taijitu_server.settings import Settings, settings_from, unknown_variables
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx


def test_a_flag_takes_precedence_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text("port = 1\nmax_batch = 2\nqueue_size = 3\n")
    monkeypatch.setenv("TAIJITU_PORT", "4")
    monkeypatch.setenv("TAIJITU_MAX_BATCH", "5")
    found = settings_from({"port": "6", "host": None}, file)
    assert (found.port, found.max_batch, found.queue_size, found.host) == (6, 5, 3, "127.0.0.1")


@pytest.mark.parametrize(
    ("flags", "toml", "text"),
    [
        ({"port": "x"}, "", "--port: got 'x'"),
        ({"port": "-1"}, "", "--port: got '-1'"),
        ({"max_batch": "0"}, "", "--max-batch: got '0'"),
        ({}, "prot = 1", "server.toml: prot .did you mean port.*got '1'"),
        ({}, "port = 'x'", "server.toml: port: got 'x'"),
        ({}, "port =", "server.toml"),
        ({}, "a = " + 9999 * "[", "server.toml"),
        ({"formats": "JPEG,EXE"}, "", "'EXE'"),
        ({"drain_s": "inf"}, "", "--drain-s: got 'inf'"),  # SIGTERM would not end such a server
        ({"queue_timeout_ms": "1e300"}, "", "--queue-timeout-ms: got '1e300'"),
        ({"inference_threads": "100000"}, "", "--inference-threads: got '100000'"),
        ({"cors_origins": "https://a.example/"}, "", "--cors-origins: .*'https://a.example/'"),
        ({"cors_origins": "*, a.example"}, "", "--cors-origins: .*'a.example'"),
        ({"allowed_hosts": "a.example:8000"}, "", "--allowed-hosts: .*'a.example:8000'"),
        ({"allowed_hosts": "https://a.example"}, "", "--allowed-hosts: .*'https://a.example'"),
        ({}, "camera_model = 'a'", "--camera-model"),
        ({"camera_control": True}, "", "--camera-control"),
        ({"camera_width": "640"}, "", "--camera-width"),
        ({}, "camera_smoothing_s = 0", "--camera-smoothing-s"),
        ({"max_body_bytes": "300000000"}, "", "--max-body-bytes 300000000"),
        ({"host": ""}, "", "--host: got ''"),  # every address
        ({"models": ""}, "", "--models: got ''"),  # the working directory
        ({}, "api_keys = ''", "server.toml: api_keys: got ''"),
        ({}, "port = true", "server.toml: port: got 'True'"),  # 1
        ({}, "drain_s = false", "server.toml: drain_s: got 'False'"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, flags: dict[str, Any], toml: str, text: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(toml)
    with pytest.raises(UsageError, match=text):
        settings_from(flags, file)
    with pytest.raises(UsageError, match="no such file"):
        settings_from({}, tmp_path / "missing.toml")
    with pytest.raises(UsageError, match="directory"):
        settings_from({}, tmp_path)


@pytest.mark.parametrize("variable", ["TAIJITU_PORT", "TAIJITU_MAX_BATCH"])
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(UsageError, match=f"^{variable}: got 'x'"):
        settings_from({}, None)


# The variables that Kubernetes gives every pod about services called taijitu and taijitu-camera.
SERVICE_LINKS = {
    "TAIJITU_SERVICE_HOST": "10.0.0.1",
    "TAIJITU_SERVICE_PORT": "8000",
    "TAIJITU_SERVICE_PORT_HTTP": "8000",
    "TAIJITU_PORT": "tcp://10.0.0.1:8000",
    "TAIJITU_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "TAIJITU_PORT_8000_TCP_PROTO": "tcp",
    "TAIJITU_PORT_8000_TCP_PORT": "8000",
    "TAIJITU_PORT_8000_TCP_ADDR": "10.0.0.1",
    "TAIJITU_CAMERA_SERVICE_HOST": "10.0.0.2",
    "TAIJITU_CAMERA_PORT": "udp://10.0.0.2:9",
    "TAIJITU_CAMERA_PORT_9_UDP_ADDR": "10.0.0.2",
}


def test_the_variables_of_kubernetes_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICE_LINKS.items():
        monkeypatch.setenv(variable, value)
    assert settings_from({}, None).port == 8000
    assert unknown_variables(SERVICE_LINKS) == []


def test_a_mistyped_variable_is_a_warning_with_the_close_one(
    start_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAIJITU_MAX_BTCH", "16")
    monkeypatch.setenv("TAIJITU_MAX_ROWS", "16")
    monkeypatch.setenv("TAIJITU_PORT", "tcp://10.0.0.1:8000")
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), "--no-access-log")
    code, log = running.stop()
    (line,) = map(json.loads, log.splitlines())
    assert (code, line["level"]) == (0, "warning")
    assert "TAIJITU_MAX_BTCH" in line["event"]
    assert "TAIJITU_MAX_BATCH" in line["event"]


def test_every_setting_is_documented(root: Path) -> None:
    text = (root / "docs" / "serving.md").read_text()
    missing = [name for name in Settings.model_fields if f"`--{name.replace('_', '-')}`" not in text]
    assert missing == []


def test_keys_open_the_server_and_origins_are_told_to_browsers(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# one a line\n0123456789abcdef\nfedcba9876543210\n", "utf-8-sig")  # as Windows writes it
    model = make_tiny_onnx(tmp_path / "tiny.onnx")
    running = start_server(
        *(str(model), "--api-keys", str(keys), "--cors-origins", "https://a.example", "--no-access-log")
    )
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), (0, 255, 0)).save(picture, "PNG")
    with httpx.Client(base_url=running.url) as client:
        for headers, status in [
            ({}, 401),
            ({"X-API-Key": "0123456789abcdeX"}, 401),
            ({"X-API-Key": "0123456789abcdef"}, 200),
            ({"Authorization": "Bearer fedcba9876543210"}, 200),
            ({"Authorization": "Basic fedcba9876543210"}, 401),
        ]:
            for reply in (client.post("/classify", content=picture.getvalue(), headers=headers),
                          client.get("/models", headers=headers)):  # fmt: skip
                assert reply.status_code == status, headers
        assert client.get("/health/ready").status_code == 200
        assert client.get("/metrics").headers["WWW-Authenticate"] == "Bearer"
        allowed = client.post("/classify", content=picture.getvalue(), headers={"Origin": "https://a.example"})
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://a.example"
        readable = {name.strip().lower() for name in allowed.headers["Access-Control-Expose-Headers"].split(",")}
        assert {"inference-header-content-length", "retry-after", "server-timing", "x-request-id"} <= readable
        other = client.get("/health/live", headers={"Origin": "https://b.example"})
        assert "Access-Control-Allow-Origin" not in other.headers
    assert running.stop() == (0, "")


def test_a_browser_that_asks_first_is_answered_counted_and_logged(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), "--cors-origins", "https://a.example")
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    with httpx.Client(base_url=running.url) as client:
        good = client.options("/classify", headers=asks | {"Origin": "https://a.example"})
        bad = client.options("/classify", headers=asks | {"Origin": "https://b.example"})
        elsewhere = client.options("/classify", headers=asks | {"Origin": "https://a.example", "Host": "b.example"})
        counted = client.get("/metrics").text
    assert (good.status_code, good.headers["Access-Control-Allow-Origin"]) == (200, "https://a.example")
    assert good.headers["Access-Control-Allow-Headers"] == "x-api-key"
    assert (bad.status_code, list(bad.json())) == (403, ["error"])
    assert "Access-Control-Allow-Origin" not in bad.headers
    assert elsewhere.status_code == 421
    for status in (200, 403, 421):
        assert f'taijitu_requests_total{{path="/classify",status="{status}"}} 1.0' in counted
    lines = {line["id"]: line for line in map(json.loads, running.stop()[1].splitlines())}
    assert lines[bad.headers["X-Request-Id"]]["reason"] == "origin"
    assert lines[good.headers["X-Request-Id"]]["method"] == "OPTIONS"


def test_one_line_a_request(start_server: Callable[..., Server], tmp_path: Path) -> None:
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")))
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), (0, 255, 0)).save(picture, "PNG")
    good = httpx.post(f"{running.url}/classify", content=picture.getvalue(), headers={"X-Request-Id": "mine-1"})
    bad = httpx.post(f"{running.url}/classify", content=b"no picture")
    code, log = running.stop()
    lines = {line["id"]: line for line in map(json.loads, log.splitlines()) if line.get("path") == "/classify"}
    assert code == 0
    assert good.headers["X-Request-Id"] == "mine-1"
    assert lines["mine-1"]["status"] == 200
    assert lines["mine-1"]["body_bytes"] == len(picture.getvalue())
    assert list(lines["mine-1"]["stages_ms"]) == ["read", "decode", "queue", "infer"]
    line = lines[bad.headers["X-Request-Id"]]
    assert (line["status"], line["reason"], line["level"]) == (422, "picture_format", "info")
    assert "no picture" not in log


@pytest.mark.parametrize("content", [None, b"short\n", b"# no key\n", "schl\u00fcssel".encode() * 2, b"\xff\xfe" * 20])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_wrong_file_of_keys_is_one_line_before_the_server_says_that_it_serves(
    tmp_path: Path, content: bytes | None, workers: str
) -> None:
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_bytes(content)
    server = Server(str(tmp_path / "never_read.onnx"), "--api-keys", str(keys), "--workers", workers)
    code, error = server.ended()
    assert (code, server.url, error.count("\n")) == (2, "", 1)
    assert str(keys) in error


def test_a_body_beyond_what_may_be_held_is_too_large_and_not_a_matter_of_time(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), "--max-buffered-bytes", "1000")
    assert httpx.post(f"{running.url}/classify", content=b"a" * 1001).status_code == 413
    for content, status in ((bytes(1001), 413), (os.urandom(900), 422)):  # the larger when unpacked, and when packed
        packed = {"content": gzip.compress(content), "headers": {"Content-Encoding": "gzip"}}
        assert httpx.post(f"{running.url}/classify", **packed).status_code == status

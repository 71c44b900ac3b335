"""A Ray Serve application, on a real local Ray if it is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from PIL import Image
from pydantic import ValidationError

from taijitu_server.deploy.ray_app import main
from taijitu_server.deploy.ray_replica import NO_USE, replica_settings, unused_variables
from taijitu_server.settings import Settings
from tests.helpers.tiny_model import make_tiny_onnx, plain

CLIENTS = 8


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def replicas() -> list[int]:
    """Return process ids of all replicas on this machine."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if command.read_bytes().startswith(b"ray::ServeReplica:"):
                found.append(int(command.parent.name))
        except OSError:  # it ended just now
            continue
    return found


@pytest.fixture
def application(tmp_path: Path, root: Path) -> Iterator[str]:
    """Start an application of two replicas; return its address."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[serve]'")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("two replicas reserve two processors; this machine has one")
    port = free_port()
    model = make_tiny_onnx(tmp_path / "model.onnx")
    command = [str(model), "--out", str(tmp_path / "app"), "--min-replicas", "2", "--max-replicas", "2"]
    assert main([*command, "--port", str(port)]) == 0
    # Ray's sockets are below its folder, and a socket's path has at most 107 characters.
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    packages = os.pathsep.join(str(root / folder) for folder in ("runtime", "server"))
    environment = {"PYTHONPATH": packages, "RAY_TMPDIR": scratch, "RAY_USAGE_STATS_ENABLED": "0"}
    with (tmp_path / "log").open("w") as log:
        serve = Path(sys.executable).with_name("serve")
        process = subprocess.Popen(
            [serve, "run", str(tmp_path / "app" / "serve.yaml")],
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: len(replicas()) == 2 and is_ready(address), tmp_path / "log")
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        shutil.rmtree(scratch, ignore_errors=True)


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], bool], log: Path | None = None, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text() if log else "it did not come true in time"
        time.sleep(0.2)


@pytest.mark.ray
def test_a_killed_replica_costs_only_its_current_requests(application: str, tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    Image.fromarray(plain((255, 0, 0))).save(picture)
    body, stop = picture.read_bytes(), threading.Event()
    answers: list[tuple[float, int, str]] = []

    def load() -> None:
        with httpx.Client(base_url=application, timeout=30) as client:
            while not stop.is_set():
                began = time.monotonic()
                response = client.post("/classify", content=body, headers={"Content-Type": "image/png"})
                label = response.json()["answers"][0]["label"] if response.status_code == 200 else response.text
                answers.append((began, response.status_code, label))

    clients = [threading.Thread(target=load) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    wait_for(lambda: len(answers) > 200)
    before = replicas()
    killed_at = time.monotonic()
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(set(replicas()) - {before[0]}) == 2)  # Ray starts another one
    wait_for(lambda: sum(began > killed_at for began, _, _ in answers) > 200)
    stop.set()
    for client in clients:
        client.join()
    lost = [answer for answer in answers if answer[1] != 200]
    assert len(lost) <= CLIENTS, lost
    assert {label for _, status, label in answers if status == 200} == {"red"}
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    traced = httpx.post(f"{application}/classify", content=body, headers={"Content-Type": "image/png", **trace})
    assert traced.headers.get("traceparent") == trace["traceparent"], "Ray's proxy passes it on"


def test_the_configuration_says_how_many_and_where(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    command = [str(model), "--out", str(tmp_path / "app"), "--max-replicas", "3", "--threads", "2", "--port", "8123"]
    assert main([*command, "--mounted-at", "/srv/app"]) == 0
    assert (tmp_path / "app" / "model.onnx").read_bytes() == model.read_bytes()
    config = json.loads((tmp_path / "app" / "serve.yaml").read_text())
    (application,) = config["applications"]
    (deployment,) = application["deployments"]
    assert application["args"] == {"model": "/srv/app/model.onnx", "threads": 2}
    assert deployment["autoscaling_config"]["max_replicas"] == 3
    assert deployment["ray_actor_options"] == {"num_cpus": 2}
    assert config["http_options"]["port"] == 8123
    schema = pytest.importorskip("ray.serve.schema", reason="Ray is not installed: pip install 'ray[serve]'")
    assert schema.ServeDeploySchema(**config).applications[0].deployments[0].max_queued_requests == 256


def test_a_replica_computes_with_the_processors_that_it_reserves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAIJITU_INSTANCES", raising=False)
    settings = replica_settings(2, os.environ)
    assert (settings.inference_threads, settings.batches_at_once(), settings.decode_threads) == (2, 1, 1)
    monkeypatch.setenv("TAIJITU_INSTANCES", "3")
    monkeypatch.setenv("TAIJITU_MAX_BATCH", "16")
    settings = replica_settings(1, os.environ)
    assert (settings.batches_at_once(), settings.max_batch) == (3, 16)


def test_a_variable_that_has_no_use_in_a_replica_is_named() -> None:
    (warning,) = unused_variables({"TAIJITU_MAX_CONNECTIONS": "9", "TAIJITU_MAX_BATCH": "16", "HOME": "/"})
    assert "TAIJITU_MAX_CONNECTIONS" in warning


def test_an_argument_in_serve_yaml_that_is_misspelt_or_out_of_range_is_refused() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[serve]'")
    from taijitu_server.deploy.ray_application import Arguments

    assert Arguments.model_validate({"model": "model.onnx", "threads": 2}).threads == 2
    for wrong in ({"thread": 2}, {"threads": 0}):
        with pytest.raises(ValidationError):
            Arguments.model_validate({"model": "model.onnx", **wrong})


def test_every_other_setting_is_read_by_what_a_replica_runs(root: Path) -> None:
    server = root / "server" / "taijitu_server"
    replaced = {"http/connection.py", "run.py", "workers.py", "cli.py", "settings.py"}
    texts = [path.read_text() for path in server.rglob("*.py") if str(path.relative_to(server)) not in replaced]
    through = {
        "instances": "batches_at_once",
        "api_keys": "known_keys",
        "cors_origins": "allowed_origins",
        "allowed_hosts": "allowed_host_names",
        **dict.fromkeys(("max_pixels", "max_jpeg_scans", "formats"), "picture_limits"),
    }
    for name in Settings.model_fields.keys() - NO_USE.keys():
        assert any(re.search(rf"settings\.{through.get(name, name)}\b", text) for text in texts), name


def test_a_path_reaches_ray_as_it_is(tmp_path: Path) -> None:
    model, folder = make_tiny_onnx(tmp_path / "model.onnx"), tmp_path / """\U0001f600 \xe9\x85\u2028 # a: 'b' "c" \\d"""
    assert main([str(model), "--out", str(folder)]) == 0
    text = (folder / "serve.yaml").read_text(encoding="utf-8")
    for config in (yaml.safe_load(text), json.loads(text)):  # Ray reads YAML
        assert config["applications"][0]["args"]["model"] == str(folder / "model.onnx")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--min-replicas", "3", "--max-replicas", "2"], "expected 1 <= min <= max"),
        (["--threads", "0"], "1 to 1024 threads"),
        (["--threads", "1025"], "1 to 1024 threads"),
        (["--max-replicas", str(2**31)], "<= max <= 2147483647"),
        (["--port", "99999"], "got --port 99999, expected 1 to 65535"),
        (["--out", "."], "exists already; give another --out"),
        (["--mounted-at", "models"], "absolute"),
        (["--mounted-at", "/mod\udcffels"], "UTF-8"),
    ],
)
def test_wrong_usage_is_one_line(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    assert main([str(model), "--out", str(tmp_path / "app"), *flags]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"taijitu ray-app: .*\n", error)
    assert words in error
    assert not (tmp_path / "app").exists()


def test_an_engine_is_refused_before_it_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"ftrt")
    assert main([str(engine), "--out", str(tmp_path / "app")]) == 2
    assert "model.engine: got an engine, expected a .onnx file" in capsys.readouterr().err


def test_a_checkpoint_is_told_the_command_that_exports_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = tmp_path / "the model.pt"
    checkpoint.write_bytes(b"PK\x03\x04")
    assert main([str(checkpoint), "--out", str(tmp_path / "app")]) == 2
    assert f"taijitu onnx '{checkpoint}'" in capsys.readouterr().err

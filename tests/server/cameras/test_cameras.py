"""Cameras of a real server: a real MJPEG camera on a real socket, which is unplugged and stalls; real viewers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from taijitu_runtime.errors import UsageError
from taijitu_runtime.live import Timeouts, source_from_text
from taijitu_server.cameras.camera import Camera
from taijitu_server.cameras.mjpeg import banner, part_from_image
from taijitu_server.errors import CAMERA_OFF, HttpError
from taijitu_server.models.served_model import ServedModel
from taijitu_server.settings import Settings, settings_from, shown_settings
from tests.helpers.late_reader import LateReader
from tests.helpers.mjpeg_server import MjpegServer, age_ms, stamped
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx
from tests.helpers.waiting import eventually

KEY = "0123456789klmnop"
PATIENCE_S = 30.0
PART = re.compile(rb"--frame\r\n.*?Content-Length: (\d+)\r\n\r\n", re.DOTALL)


@pytest.fixture(scope="module")
def door() -> Iterator[MjpegServer]:
    with MjpegServer(rate_hz=20) as camera:  # red
        yield camera


@pytest.fixture(scope="module")
def yard() -> Iterator[MjpegServer]:
    """Send frames that JPEG cannot make small, so that the buffer of a client that does not read is soon full."""
    noise = np.random.default_rng(0).integers(-60, 60, (480, 640, 3), np.int16)

    def make(time_s: float) -> NDArray[np.uint8]:
        frame = np.clip(stamped(time_s, 640, 480, (190, 60, 60)) + noise, 0, 255).astype(np.uint8)
        frame[:16] = stamped(time_s, 640, 16, (0, 0, 0))
        return frame

    with MjpegServer(rate_hz=10) as camera:
        camera._make = make  # type: ignore[assignment]
        yield camera


@pytest.fixture(scope="module")
def gate() -> Iterator[MjpegServer]:
    with MjpegServer(rate_hz=0.8) as camera:
        yield camera


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx")


@pytest.fixture(scope="module")
def live(tiny: Path, door: MjpegServer, yard: MjpegServer, gate: MjpegServer) -> Iterator[Server]:
    cameras = {"door": door, "yard": yard, "gate": gate}
    flags = [flag for name, camera in cameras.items() for flag in ("--camera", f"{name}={camera.url}")]
    with Server(str(tiny), *flags, "--no-access-log") as running:
        yield running


def status(server: Server, name: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/cameras/{name}").json()
    return found


def when_running(server: Server, name: str) -> dict[str, Any]:
    def running() -> dict[str, Any] | None:
        found = status(server, name)
        return found if found["state"] == "running" and found["latest"] else None

    found: dict[str, Any] = eventually(running)
    return found


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def frames(server: Server, name: str) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of a camera's stream, as an MJPEG client sees them."""
    with httpx.stream("GET", f"{server.url}/cameras/{name}/stream", timeout=PATIENCE_S) as reply:
        assert reply.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
        yield from pictures(reply.iter_raw())


def pictures(chunks: Iterator[bytes]) -> Iterator[NDArray[np.uint8]]:
    kept = b""
    for chunk in chunks:
        kept += chunk
        while (head := PART.search(kept)) and len(kept) >= (end := head.end() + int(head[1])):
            yield cv2.imdecode(np.frombuffer(kept[head.end() : end], np.uint8), cv2.IMREAD_COLOR)
            kept = kept[end:]


def red_is_red(server: Server) -> bool:
    picture = cv2.imencode(".png", np.full((8, 8, 3), (0, 0, 255), np.uint8))[1].tobytes()
    reply = httpx.post(f"{server.url}/classify", content=picture)
    return reply.status_code == 200 and reply.json()["answers"][0]["label"] == "red"


def test_each_camera_is_classified_while_requests_are_served(live: Server) -> None:
    answers = {name: when_running(live, name)["latest"]["answers"][0]["label"] for name in ("door", "yard")}
    assert answers == {"door": "red", "yard": "blue"}
    assert red_is_red(live)
    assert [camera["name"] for camera in httpx.get(f"{live.url}/cameras").json()] == ["door", "yard", "gate"]
    unknown = httpx.get(f"{live.url}/cameras/dor")
    assert unknown.status_code == 404
    assert "door" in unknown.json()["error"]
    assert metric(live, 'taijitu_camera_frames_total{camera="door",outcome="classified"}') > 0


@pytest.mark.parametrize("trouble", ["stall", "unplug"])
def test_a_lost_camera_is_reported_everywhere_and_recovers(live: Server, door: MjpegServer, trouble: str) -> None:
    when_running(live, "door")
    reconnects = status(live, "door")["reconnects"]
    seen, told = [], []
    is_back = threading.Event()

    def look() -> None:
        for frame in frames(live, "door"):
            seen.append(float(frame[100:200].mean()))
            if is_back.is_set():
                return

    def listen() -> None:
        with connect(live.url.replace("http", "ws") + "/cameras/door/results") as results:
            while not is_back.is_set():
                told.append(json.loads(results.recv())["state"])

    viewers = [threading.Thread(target=look), threading.Thread(target=listen)]
    for viewer in viewers:
        viewer.start()
    eventually(lambda: seen and told)
    getattr(door, trouble)()
    eventually(lambda: metric(live, 'taijitu_camera_state{camera="door",state="reconnecting"}') == 1)
    age_s = metric(live, 'taijitu_camera_frame_age_seconds{camera="door"}')
    eventually(lambda: metric(live, 'taijitu_camera_frame_age_seconds{camera="door"}') > age_s + 0.5)
    assert httpx.get(f"{live.url}/health/live").status_code == 200
    assert red_is_red(live)
    assert status(live, "yard")["state"] == "running"
    eventually(lambda: seen[-1] < 0.6 * seen[0])  # the darkened one
    door.restore()
    eventually(lambda: status(live, "door")["reconnects"] == reconnects + 1)
    eventually(lambda: seen[-1] > 0.9 * seen[0])
    is_back.set()
    for viewer in viewers:
        viewer.join()
    assert {"running", "reconnecting"} <= set(told)
    assert metric(live, 'taijitu_camera_frame_age_seconds{camera="door"}') < age_s


def test_a_camera_that_repeats_one_frame_is_reported_frozen_everywhere(
    start_server: Callable[..., Server], tiny: Path
) -> None:
    with MjpegServer(rate_hz=20) as desk:
        flags = ["--camera", f"desk={desk.url}", "--camera-frozen-s", "0.5", "--camera-width", "320"]
        running = start_server(str(tiny), *flags, "--no-access-log")
        assert when_running(running, "desk")["frames"]["repeated"] == 0
        desk.is_frozen = True
        found = eventually(lambda: (told := status(running, "desk"))["state"] == "frozen" and told)
        assert "--camera-frozen-s" in found["error"]
        assert found["frames"]["repeated"] > 5
        assert found["age_ms"] < 1000  # which tells nothing of it
        assert metric(running, 'taijitu_camera_state{camera="desk",state="frozen"}') == 1
        assert metric(running, 'taijitu_camera_frames_repeated_total{camera="desk"}') > 5
        shown = list(itertools.islice(frames(running, "desk"), 2))
        assert {frame.shape for frame in shown} == {(240, 320, 3)}
        assert max(float(frame[100:200].mean()) for frame in shown) < 30  # darkened, of 67
        desk.is_frozen = False
        assert when_running(running, "desk")["error"] is None
        code, log = running.stop()
    assert code == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(line["level"] == "warning" and "camera desk is frozen: " in line["event"] for line in lines)


def test_a_camera_is_frozen_after_the_same_time_in_server_and_command() -> None:
    assert settings_from({}, None).camera_frozen_s == Timeouts().frozen_s


def test_a_client_that_floods_a_websocket_is_closed_and_slows_no_other(live: Server) -> None:
    results = live.url.replace("http", "ws") + "/cameras/door/results"
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as flood:
        flood.sendall(
            b"GET /cameras/door/results HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"101" in flood.recv(64)
        with contextlib.suppress(ConnectionError):  # it is closed while the test sends
            for _ in range(50):
                flood.sendall(b"\x89\x80\0\0\0\0" * 100_000)  # empty pings
            pytest.fail("30 MB of pings were taken")
    with connect(results) as listener:
        listener.send("x" * 900)
        assert json.loads(listener.recv())["name"] == "door"
        with contextlib.suppress(ConnectionClosed):
            for _ in range(50):
                listener.send("x" * 900)
                listener.recv()
        assert listener.close_code == 1008
    with connect(results) as listener:
        listener.send(b"\xff", text=True)  # no UTF-8
        with contextlib.suppress(ConnectionClosed):
            while True:
                listener.recv()
        assert listener.close_code == 1007
    with pytest.raises(InvalidStatus) as refused, connect(live.url.replace("http", "ws") + "/nowhere"):
        pass
    assert (refused.value.response.status_code, refused.value.response.body) == (
        404,
        b'{"error":"no such path; see /docs"}',
    )  # and the log has no errors: see `live`
    assert metric(live, 'taijitu_requests_total{path="other",status="404"}') == 1


def test_of_starts_and_stops_at_once_the_last_one_decides() -> None:
    def no_model() -> ServedModel:
        raise AssertionError("no frame comes")

    class Slow(Camera):
        """A camera whose source takes a while to be released."""

        def _watch(self) -> None:
            quit_ = self._quit
            assert quit_.wait(PATIENCE_S)
            time.sleep(0.3)

    async def command() -> list[str]:
        camera, states = Slow("a", source_from_text("http://127.0.0.1:9/none"), no_model, Settings()), []
        await camera.start()
        for commands in ("start", "stop"), ("start",), ("stop", "start", "stop"), ("start", "stop", "start"):
            await asyncio.gather(*(getattr(camera, each)() for each in commands))
            states.append(camera.state)
        await camera.stop()
        return states

    assert asyncio.run(command()) == ["stopped", "opening", "stopped", "opening"]


def test_the_last_frame_of_a_video_is_not_lost_where_it_comes_right_after_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_model() -> ServedModel:
        raise HttpError(CAMERA_OFF, "no model, but a frame that was taken")

    async def watched() -> str | None:
        camera = Camera("a", source_from_text(str(tmp_path / "a.png")), no_model, Settings())
        await camera.start()
        while camera.is_running:
            await asyncio.sleep(0.02)
        return camera.error

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr("taijitu_server.cameras.camera.Reader", LateReader)
    assert asyncio.run(watched()) == "no model, but a frame that was taken"


def test_the_state_of_a_camera_whose_name_is_not_unicode_can_be_sent() -> None:
    def no_model() -> ServedModel:
        raise AssertionError("no frame comes")

    async def watched() -> dict[str, Any]:
        camera = Camera("a", source_from_text(os.fsdecode(b"caf\xe9\n.avi")), no_model, Settings())
        await camera.start()
        while camera.is_running:
            await asyncio.sleep(0.02)
        return camera.status()

    sent = orjson.loads(orjson.dumps(asyncio.run(watched())))
    assert sent["source"] == r"caf\udce9\n.avi"
    assert sent["error"].startswith(r"caf\udce9\n.avi: got no such file")


@pytest.mark.parametrize("size", [(640, 480), (720, 1280), (320, 240)])
def test_the_text_about_a_lost_camera_fits_its_picture(size: tuple[int, int]) -> None:
    said = np.asarray(banner(Image.new("RGB", size), f"{'camera' * 10}\nreconnecting, no frame for 3600 s"))
    columns = np.flatnonzero(said.max(axis=(0, 2)))
    assert 0 < columns[0] < 0.15 * size[0]
    assert 0.85 * size[0] < columns[-1] < size[0] - 1


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (1, 70_000)])
def test_a_frame_of_any_size_can_be_shown_and_covered_with_text(size: tuple[int, int]) -> None:
    part = part_from_image(banner(Image.new("RGB", size), "door\nreconnecting, no frame for 3 s"), 960)
    shown = Image.open(io.BytesIO(part.partition(b"\r\n\r\n")[2]))
    assert shown.size == (size[0], min(size[1], 65_500))


def test_a_slow_viewer_loses_frames_and_slows_no_other(live: Server) -> None:
    when_running(live, "yard")
    host, port = live.url.removeprefix("http://").split(":")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        slow.settimeout(PATIENCE_S)
        slow.connect((host, int(port)))
        slow.sendall(b"GET /cameras/yard/stream HTTP/1.0\r\n\r\n")
        until = time.monotonic() + 4.5  # megabytes more than the system keeps for the slow one
        ages = []
        for frame in frames(live, "yard"):
            ages.append(age_ms(frame))
            if time.monotonic() > until:
                break
        assert len(ages) > 15
        assert ages[-1] < 1000
        made = [time.monotonic() - age_ms(frame) / 1e3 for frame in until_fresh(slow)]
    assert max(later - earlier for earlier, later in itertools.pairwise(made)) > 1


def until_fresh(viewer: socket.socket) -> Iterator[NDArray[np.uint8]]:
    """Return the pictures that waited for it, and the first that did not."""
    for frame in pictures(iter(lambda: viewer.recv(1 << 16), b"")):
        yield frame
        if age_ms(frame) < 500:
            return


def test_a_camera_with_few_frames_a_second_is_not_taken_for_lost(live: Server) -> None:
    when_running(live, "gate")
    eventually(lambda: status(live, "gate")["frames"]["classified"] > 1)
    shown = [float(frame[100:200].mean()) for frame in itertools.islice(frames(live, "gate"), 3)]
    assert min(shown) > 0.9 * max(shown)  # none is darkened


def test_opencv_stays_out_of_the_server(live: Server) -> None:
    when_running(live, "door")
    assert "cv2" not in Path(f"/proc/{live.process.pid}/maps").read_text()


def test_which_clients_may_watch_and_stop(
    start_server: Callable[..., Server], tiny: Path, door: MjpegServer, live: Server, tmp_path: Path
) -> None:
    assert httpx.post(f"{live.url}/cameras/door/stop").status_code == 403
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    camera = ["--camera", f"door={door.url}", "--camera-control", "--api-keys", str(keys)]
    running = start_server(str(tiny), *camera, "--header-timeout-s", "1")
    results = running.url.replace("http", "ws") + "/cameras/door/results"
    headers = {"X-API-Key": KEY}
    with pytest.raises(InvalidStatus) as refused, connect(results):
        pass
    assert refused.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as refused, connect(results, origin="http://elsewhere.example",  # type: ignore[arg-type]
                                                          additional_headers=headers):  # fmt: skip
        pass
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refused, connect(results.replace("door", "dor"), additional_headers=headers):
        pass
    assert refused.value.response.status_code == 404
    with connect(results, subprotocols=["taijitu", f"key.{KEY.encode().hex().upper()}"]) as socket_:  # type: ignore[list-item]
        assert socket_.subprotocol == "taijitu"
        until = time.monotonic() + 2  # longer than a request may take to arrive
        while time.monotonic() < until:
            assert json.loads(socket_.recv())["name"] == "door"
        with httpx.Client(base_url=running.url, headers=headers) as client:
            for origin in ("http://elsewhere.example", "http://["):
                assert client.post("/cameras/door/stop", headers={"Origin": origin}).status_code == 403
            assert client.post("/cameras/door/stop").json()["state"] == "stopped"
            stream = client.get("/cameras/door/stream")
            assert (stream.status_code, stream.json()) == (503, {"error": "door is stopped"})
            stopped = client.get("/cameras/door").json()
            assert (stopped["read_hz"], stopped["classified_hz"]) == (0, 0)
            read = stopped["frames"]["read"]
            assert read > 0
            assert client.post("/cameras/door/start").status_code == 200
            eventually(lambda: client.get("/cameras/door").json()["frames"]["read"] > read)
        code, log = running.stop()
        assert code == 0
        assert "Traceback" not in log
        with contextlib.suppress(ConnectionClosed):
            while True:
                socket_.recv()
        assert socket_.close_code == 1012  # viewers are told that the server goes


def test_a_full_queue_drops_frames_not_requests(
    start_server: Callable[..., Server], door: MjpegServer, tmp_path: Path
) -> None:
    slow = make_tiny_onnx(tmp_path / "slow.onnx", size=(1024, 1024))
    limits = ["--queue-size", "1", "--instances", "1", "--camera", f"door={door.url}"]
    running = start_server(str(slow), *limits, "--no-access-log")
    when_running(running, "door")
    until, statuses = time.monotonic() + 3, set()
    dropped = status(running, "door")["frames"]["dropped"]
    picture = cv2.imencode(".png", np.full((8, 8, 3), (0, 0, 255), np.uint8))[1].tobytes()

    def ask() -> None:
        with httpx.Client(base_url=running.url, timeout=PATIENCE_S) as client:
            while time.monotonic() < until:
                statuses.add(client.post("/classify", content=picture).status_code)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert statuses == {200, 503}
    assert status(running, "door")["frames"]["dropped"] > dropped
    classified = status(running, "door")["frames"]["classified"]
    eventually(lambda: status(running, "door")["frames"]["classified"] > classified)


def test_a_camera_keeps_its_model_and_the_pictures_of_a_folder_are_answered_one_by_one(
    start_server: Callable[..., Server], door: MjpegServer, tmp_path: Path
) -> None:
    make_tiny_onnx(tmp_path / "one.onnx")
    for number, colour in enumerate([(0, 0, 255), (0, 255, 0), (255, 0, 0)]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), colour, np.uint8))
    film = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
    for number in range(20):
        film.write(np.full((48, 64, 3), (0, 0, 230) if number < 14 else (230, 0, 0), np.uint8))
    film.release()
    cameras = ["--camera", f"door={door.url}", "--camera", f"folder={tmp_path}/*.png"]
    cameras += ["--camera", f"film={tmp_path}/film.avi", "--camera-smoothing-s", "3600"]
    running = start_server("--models", str(tmp_path), "--reload-by-post", *cameras, "--no-access-log")
    eventually(lambda: status(running, "film")["state"] == "ended")
    ended = status(running, "film")
    assert ended["frames"]["classified"] == 20
    assert ended["latest"]["answers"][0]["label"] == "red"  # the 0.3 s of blue at the end weigh less than 0.7 of red
    eventually(lambda: status(running, "folder")["state"] == "ended")
    best = status(running, "folder")["latest"]["answers"][0]
    assert (best["label"], best["probability"] > 0.8) == ("blue", True)  # nothing of those before it
    when_running(running, "door")
    make_tiny_onnx(tmp_path / "two.onnx")
    repository = f"{running.url}/v2/repository/models"
    assert httpx.post(f"{repository}/two/load").status_code == 200
    frame = when_running(running, "door")["latest"]["frame"]
    eventually(lambda: status(running, "door")["latest"]["frame"] > frame)
    assert status(running, "door")["latest"]["model"] == "one"
    assert httpx.post(f"{repository}/one/unload").status_code == 200
    eventually(lambda: "'one'" in (status(running, "door")["error"] or ""))
    assert httpx.post(f"{repository}/two/unload").status_code == 200
    eventually(lambda: status(running, "door")["error"] == "no model is loaded")
    assert httpx.post(f"{running.url}/classify", content=b"").status_code == 404


def test_cameras_from_flags_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "server.toml"
    file.write_text('[camera]\ndoor = 0\nyard = "rtsp://user:secret@camera/stream"\n')
    found = settings_from({}, file)
    assert found.camera == {"door": "0", "yard": "rtsp://user:secret@camera/stream"}
    assert "secret" not in shown_settings(found)
    monkeypatch.setenv("TAIJITU_CAMERA", "gate=csi://0?width=640\nhall=v4l2src ! appsink")
    assert settings_from({}, file).camera == {"gate": "csi://0?width=640", "hall": "v4l2src ! appsink"}
    assert settings_from({"camera": ["one=1"]}, file).camera == {"one": "1"}


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["0"], "expected NAME=SOURCE"),
        (["a b=rtsp://user:secret@camera"], "got a b=rtsp://user:.*expected NAME=SOURCE"),
        (["rtsp://user:secret@camera/?a=b"], "expected NAME=SOURCE"),
        (["a=rtsp://user:secret@camera", "a=1"], "a name twice in a, a"),
        ({"a": ["rtsp://user:secret@camera"]}, "camera.a: got"),
        (["a=ftp://x/y"], "ftp"),
        (["a=csi://0?widht=3"], "did you mean width"),
    ],
)
def test_a_wrong_camera_is_named_without_its_password(flags: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text) as refused:
        settings_from({"camera": flags}, None)
    assert "secret" not in str(refused.value)

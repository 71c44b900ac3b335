"""Frames from real sockets and files: the newest first, for every failure of the source, and nothing is leaked."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import logging
import math
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from taijitu_runtime.errors import UsageError
from taijitu_runtime.live import Reader, State, Timeouts
from taijitu_runtime.live.capturing.damage import LONGEST_HOLD, Damage, is_mostly_grey
from taijitu_runtime.live.capturing.link import Message
from taijitu_runtime.live.capturing.process import CaptureProcess
from taijitu_runtime.live.states import FrozenDetector, TimeLimits
from tests.helpers.full_disk import full_disk
from tests.helpers.mjpeg_server import MjpegServer, age_ms
from tests.helpers.waiting import eventually

QUICK = Timeouts(open_s=2.0, stall_s=0.5)
# 12 grey frames of x264, 64 x 48 pixels, without a container.
BARE_H264 = (
    "AAAAAWdkAAqsTCIj2AiAAAADAIAAABQHiRMIwAAAAAFo6EMPLIsAAAFliIIG//728P4DQlCXEc3ofP0ABVdr2uHkmQAAAAFBmh2Ib//+p+5A"
    "AAAAAUGaK/BBkymEN//+p+5BAAAAAUGaOTwQeTKYEN/+p+5AAAAAAUGaSXwQfkymAQ3//qfuQQAAAAFBmlm8EH+TKYAQ3/6n7kEAAAABQZpp"
    "/BB/5MpgAQ3//qfuQQAAAAFBmniPBB/+TKYABDf//qfuQQAAAAFBmoifBB//kymAAEM//p78gAAAAAFBmpivBB//5MpgAAQz//6e/IAAAAAB"
    "QZqovwQf//kymAAAQz/+nvyBAAAAAUGauM8EH//+TKYAAAQr//46Ug=="
)


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    with MjpegServer() as running:
        yield running


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Write 12 frames at 20 frames/s of 64 x 48 pixels, each with its own grey: 10, 30, 50, ..."""
    path = tmp_path / "grey.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
    for index in range(12):
        writer.write(np.full((48, 64, 3), 10 + 20 * index, np.uint8))
    writer.release()
    return path


def children() -> set[int]:
    """Return the child processes of this process that still run."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(child) for found in lists for child in found.read_text().split()}


def held() -> tuple[int, int, set[int]]:
    """Return the descriptors, the reader's threads and the child processes of this process."""
    threads = sum(thread.name == "camera" for thread in threading.enumerate())
    return len(os.listdir("/proc/self/fd")), threads, children()


def wait_until(true: Callable[[], bool]) -> None:
    eventually(true, every_s=0.02)


@pytest.mark.parametrize("source", [0, Path("video.mp4"), None])
def test_a_source_that_is_not_a_text_is_refused(source: Any) -> None:
    with pytest.raises(UsageError, match="source"):
        Reader(source)


@pytest.mark.parametrize("timeouts", [5, {"open_s": 5}])
def test_timeouts_that_are_none_are_refused(timeouts: Any) -> None:
    with pytest.raises(UsageError, match="as timeouts, expected Timeouts"):
        Reader("video.mp4", timeouts=timeouts)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, None, "5"])
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Timeouts)])
def test_a_timeout_that_would_never_be_over_is_refused(name: str, seconds: Any) -> None:
    with pytest.raises(UsageError, match=name):
        Timeouts(**{name: seconds})


def test_a_slow_reader_gets_the_newest_frame_of_a_live_source(server: MjpegServer) -> None:
    with Reader(server.url) as reader:
        assert reader.take(20) is not None
        for taken in range(2, 10):
            time.sleep(0.3)  # nine frames at 30 a second
            frame = reader.take(5)
            assert frame is not None
            counters = reader.counters
            assert counters.taken == taken
            assert counters.read - frame.number < 5
            assert age_ms(frame.pixels) < 1000
        assert counters.dropped > 20
        assert counters.read - counters.taken - counters.dropped in (0, 1)  # the one that waits now


def test_every_frame_of_a_video_comes_in_order_for_a_slow_reader(video: Path) -> None:
    with Reader(str(video)) as reader:
        greys, positions = [], []
        while (frame := reader.take(20)) is not None:
            greys.append(int(frame.pixels.mean()))
            positions.append(frame.position_s)
            time.sleep(0.02)
        assert reader.state is State.ENDED
        assert reader.error is None
        assert reader.counters.read == reader.counters.taken == 12
        assert reader.rate_hz == 20
    assert greys == pytest.approx([10 + 20 * index for index in range(12)], abs=2)
    assert positions == pytest.approx([index / 20 for index in range(12)])


def test_a_pause_of_the_reader_is_not_a_stall_of_the_file(video: Path) -> None:
    with Reader(str(video), timeouts=Timeouts(open_s=0.3)) as reader:
        assert reader.take(20) is not None
        time.sleep(1.5)
        assert sum(1 for _ in iter(lambda: reader.take(20), None)) == 11
        assert reader.state is State.ENDED


def test_realtime_is_as_slow_as_the_video(video: Path) -> None:
    with Reader(str(video), realtime=True) as reader:
        assert reader.take(20) is not None
        began = time.monotonic()
        while reader.take(20) is not None:
            pass
        assert 0.45 < time.monotonic() - began < 2  # 11 frames at 20 frames/s


def test_a_stream_without_times_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "bare.h264"
    path.write_bytes(base64.b64decode(BARE_H264))
    with Reader(str(path)) as reader:
        positions = [frame.position_s for frame in iter(lambda: reader.take(20), None)]
    assert positions == pytest.approx([index / 25 for index in range(12)])


def test_realtime_goes_on_where_a_recording_is_joined_to_another(tmp_path: Path) -> None:
    path = tmp_path / "joined.ts"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20, (64, 48))
    for index in range(12):
        writer.write(np.full((48, 64, 3), 10 + 20 * index, np.uint8))
    writer.release()
    path.write_bytes(2 * path.read_bytes())
    with Reader(str(path), realtime=True) as reader:
        times = [frame.captured_s for frame in iter(lambda: reader.take(20), None)]
    assert len(times) >= 20  # where the packets' count jumps, as at a loss, frames are not trusted
    assert times[-1] - times[-11] > 0.4  # ten pauses at 20 frames/s


@pytest.mark.parametrize("name", [b"2026-11-21T15:04.avi", b"caf\xe9.avi", b"-.avi"])
def test_a_file_may_have_any_name(video: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(video.parent)
    text = os.fsdecode(name)
    video.rename(text)
    with Reader(text) as reader:
        assert sum(1 for _ in iter(lambda: reader.take(20), None)) == 12


def test_no_time_limit_is_too_long(video: Path) -> None:
    with Reader(str(video), timeouts=Timeouts(open_s=math.inf)) as reader:
        assert reader.take(20) is not None


def test_pictures_of_any_size_come_by_name_and_broken_ones_are_counted(tmp_path: Path) -> None:
    for index, size in enumerate([(20, 10), (40, 30), (8, 8)]):
        Image.new("RGB", size, (200, 100, index)).save(tmp_path / f"{index}.png")
    (tmp_path / "1broken.png").write_bytes(b"no picture")
    (tmp_path / "folder.png").mkdir()
    with Reader(f"{tmp_path}/*.png") as reader:
        frames = list(iter(lambda: reader.take(20), None))
        counters = reader.counters
        assert reader.state is State.ENDED
    assert [Path(frame.name).name for frame in frames] == ["0.png", "1.png", "2.png"]
    assert [frame.pixels.shape for frame in frames] == [(10, 20, 3), (30, 40, 3), (8, 8, 3)]
    assert [frame.pixels[0, 0].tolist() for frame in frames] == [[index, 100, 200] for index in range(3)]  # BGR
    assert (counters.read, counters.taken, counters.failed) == (4, 3, 1)


def test_a_broken_picture_is_reported_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "two\nlines\x1b[31m.png").write_bytes(b"no picture")
    with Reader(f"{tmp_path}/*.png") as reader:
        assert reader.take(20) is None
    assert r"two\nlines\x1b[31m.png: got no picture" in caplog.messages[0]


def test_a_picture_may_be_at_the_largest_depth_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.fsdecode(b"\xe9" * 250)
    monkeypatch.chdir(tmp_path)
    for _ in range(14):
        Path(folder).mkdir()
        os.chdir(folder)  # monkeypatch returns from here
    Image.new("RGB", (8, 8)).save("deep.png")
    os.chdir(tmp_path)
    with Reader("*/" * 14 + "*.png") as reader:
        frame = reader.take(20)
    assert frame is not None
    assert frame.name == f"{folder}/" * 14 + "deep.png"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "got a refusal ([OPENCV:FFMPEG:24] HTTP error 401 Unauthorized), expected access; check user"),
        (403, "HTTP error 403 Forbidden"),
        (404, "got no such stream (404), expected one"),
        (500, r"500 Out of \x1b[31mcoffee"),
    ],
)
def test_a_servers_refusal_is_reported(status: int, told: str) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status, "Out of \x1b[31mcoffee" if status == 500 else None)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Reader(f"http://127.0.0.1:{server.server_port}/stream.mjpg") as reader:
            assert reader.take(20) is None
        server.shutdown()
    assert told in (reader.error or "")


def test_messages_of_an_earlier_attempt_do_not_explain_a_later_one(server: MjpegServer) -> None:
    server.unplug()
    with Reader(server.url, timeouts=dataclasses.replace(QUICK, wait_s=30)) as reader:
        wait_until(lambda: "got a refused connection" in (reader.error or ""))
        server.restore()
        assert reader.take(20) is not None
        server.stall()
        wait_until(lambda: reader.state is State.RECONNECTING)
        assert "got no frame" in (reader.error or "")


def test_a_source_that_disconnects_and_returns_is_read_again(server: MjpegServer) -> None:
    with Reader(server.url) as reader:
        for reconnects in (1, 2):
            assert reader.take(20) is not None
            server.unplug()
            wait_until(lambda: reader.state is State.RECONNECTING)
            assert "Connection refused" not in (reader.error or "")
            server.restore()
            wait_until(lambda expected=reconnects: reader.counters.reconnects >= expected)  # type: ignore[misc]
            assert reader.state is State.RUNNING
        frame = reader.take(5)
        assert frame is not None
        assert age_ms(frame.pixels) < 1000
        assert frame.number == reader.counters.taken + reader.counters.dropped


def test_a_source_that_stalls_silently_is_closed_and_tried_again(server: MjpegServer) -> None:
    with Reader(server.url, timeouts=QUICK) as reader:
        assert reader.take(20) is not None
        server.stall()
        wait_until(lambda: reader.state is State.RECONNECTING)
        connections = server.connections
        wait_until(lambda: server.connections > connections)
        server.restore()
        wait_until(lambda: reader.counters.reconnects >= 1)


def test_a_camera_that_repeats_one_frame_is_frozen_until_it_gives_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with MjpegServer() as server, Reader(server.url, timeouts=Timeouts(frozen_s=0.5)) as reader:
        frame = reader.take(20)
        assert frame is not None
        assert not frame.is_frozen
        assert reader.counters.repeated == 0
        server.is_frozen = True
        wait_until(lambda: reader.state is State.FROZEN)
        assert "--frozen" in (reader.error or "")
        assert reader.unchanged_s >= 0.5
        frame = reader.take(5)
        assert frame is not None
        assert frame.is_frozen
        wait_until(lambda: reader.counters.repeated >= 20)
        server.is_frozen = False
        wait_until(lambda: reader.state is State.RUNNING)
        reader.take(5)
        frame = reader.take(5)
        assert frame is not None
        assert not frame.is_frozen
        assert reader.counters.reconnects == 0
        server.is_frozen = True
        wait_until(lambda: reader.state is State.FROZEN)
        server.unplug()
        wait_until(lambda: reader.state is State.RECONNECTING)
    told = [record.levelname for record in caplog.records if record.name == "taijitu_runtime.live.reader"]
    assert told == ["INFO"] * 4  # frozen, new frames, frozen, lost


def test_a_frozen_camera_that_is_lost_and_returns_frozen_was_reconnected() -> None:
    with MjpegServer() as server, Reader(server.url, timeouts=Timeouts(frozen_s=0.3)) as reader:
        assert reader.take(20) is not None
        server.is_frozen = True
        wait_until(lambda: reader.state is State.FROZEN)
        server.unplug()
        wait_until(lambda: reader.state is State.RECONNECTING)
        server.restore()
        wait_until(lambda: reader.state is State.FROZEN)
        assert reader.counters.reconnects == 1


def test_only_a_live_source_can_be_frozen_and_only_after_some_frames(tmp_path: Path) -> None:
    path = tmp_path / "still.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
    for _ in range(12):
        writer.write(np.full((48, 64, 3), 90, np.uint8))
    writer.release()
    with Reader(str(path), timeouts=Timeouts(frozen_s=0.001), realtime=True) as reader:
        assert not any(frame.is_frozen for frame in iter(lambda: reader.take(20), None))
        assert reader.counters.repeated == 0
    rare, never = FrozenDetector(Timeouts(frozen_s=1)), FrozenDetector(Timeouts(frozen_s=0))
    for second in range(4):
        assert not rare.is_frozen
        for stillness in (rare, never):
            stillness.frame(5.0 * second, is_repeated=True)
    assert rare.is_frozen
    assert not never.is_frozen
    rare.frame(20, is_repeated=False)
    assert not rare.is_frozen


@pytest.mark.parametrize(("share", "told"), [(0.5, "damaged"), (0, "cannot be decoded")])
def test_a_part_of_a_jpeg_of_a_stream_is_not_a_frame(share: float, told: str, caplog: pytest.LogCaptureFixture) -> None:
    with MjpegServer(cut_every=3, cut_share=share) as server, Reader(server.url) as reader:
        numbers = []
        while len(numbers) < 20:
            frame = reader.take(20)
            assert frame is not None
            assert age_ms(frame.pixels) < 1000
            assert np.abs(frame.pixels[-1].astype(int) - (0, 0, 200)).max() < 8  # the half that would be missing
            numbers.append(frame.number)
        counters = reader.counters
    assert counters.failed == pytest.approx(counters.read / 3, abs=1.5)
    assert len([message for message in caplog.messages if told in message]) == 1  # and not one for each


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 200 frames of x264 at 25 frames/s, 320 x 240, a key frame every 50, in a fragmented MP4."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg (Debian: apt install ffmpeg): H.264 is not tested here")
    path = tmp_path_factory.mktemp("recording") / "fragmented.mp4"
    pattern = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=8"]
    codec = ["-c:v", "libx264", "-g", "50", "-bf", "0", "-pix_fmt", "yuv420p", "-movflags", "frag_keyframe+empty_moov"]
    subprocess.run(["ffmpeg", "-v", "error", *pattern, *codec, str(path)], check=True)
    return path


def copied(recording: Path, path: Path, *flags: str) -> Path:
    """Copy the same frames into another container."""
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(recording), "-c", "copy", *flags, str(path)], check=True)
    return path


def without_some_packets(stream: bytes) -> bytes:
    """Write an MPEG transport stream without a packet in its first, second and third quarter."""
    packets = [stream[start : start + 188] for start in range(0, len(stream), 188)]
    lost = {len(packets) * share // 100 for share in (3, 30, 61)}
    return b"".join(packet for index, packet in enumerate(packets) if index not in lost)


def test_a_live_stream_with_lost_packets_counts_what_they_cost(recording: Path, tmp_path: Path) -> None:
    stream = without_some_packets(copied(recording, tmp_path / "stream.ts").read_bytes())

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            for start in range(0, len(stream), 188 * 40):
                self.wfile.write(stream[start : start + 188 * 40])
                time.sleep(0.03)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = f"http://127.0.0.1:{server.server_port}/stream"
        with Reader(source, timeouts=Timeouts(give_up_s=0.0)) as reader:
            numbers = [frame.number for frame in iter(lambda: reader.take(20), None)]
            counters = reader.counters
        server.shutdown()
    assert counters.taken == len(numbers) > 20
    assert counters.failed > 20
    assert counters.read == counters.taken + counters.dropped + counters.failed


def test_frames_with_lost_packets_are_not_given_up_to_the_next_key_frame(recording: Path, tmp_path: Path) -> None:
    path = copied(recording, tmp_path / "stream.ts")
    with Reader(str(path)) as reader:
        whole = {frame.number: frame.pixels for frame in iter(lambda: reader.take(20), None)}
        assert (len(whole), reader.counters.failed, reader.state) == (200, 0, State.ENDED)
    path.write_bytes(without_some_packets(path.read_bytes()))
    with Reader(str(path)) as reader:
        given = {frame.number: frame.pixels for frame in iter(lambda: reader.take(20), None)}
        counters = reader.counters
    assert counters.read == 200
    assert counters.failed == 200 - len(given)
    assert 50 < counters.failed < 150
    assert max(np.abs(pixels.astype(int) - whole[number]).mean() for number, pixels in given.items()) < 1


@pytest.mark.parametrize(
    ("name", "flags"), [("a.mp4", ["-movflags", "frag_keyframe+empty_moov"]), ("a.mp4", ["-movflags", "+faststart"]),
                        ("a.mkv", [])],
)  # fmt: skip
def test_a_file_that_was_cut_off_is_a_failure_that_says_so(
    recording: Path, tmp_path: Path, name: str, flags: list[str]
) -> None:
    path = copied(recording, tmp_path / name, *flags)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with Reader(str(path)) as reader:
        given = sum(1 for _ in iter(lambda: reader.take(20), None))
        assert 100 < given < 140
        assert reader.state is State.FAILED
        assert str(path) in (reader.error or "")


def test_a_video_of_jpegs_that_was_cut_off_has_a_failed_frame(tmp_path: Path) -> None:
    path = tmp_path / "noise.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (320, 240))
    for index in range(12):
        writer.write(np.random.default_rng(index).integers(0, 256, (240, 320, 3), dtype=np.uint8))
    writer.release()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with Reader(str(path)) as reader:
        given = sum(1 for _ in iter(lambda: reader.take(20), None))
        assert reader.counters.failed >= 1
        assert given + reader.counters.failed == reader.counters.read


def test_parts_without_carriage_returns_and_lengths_are_reported_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    with MjpegServer(line_end=b"\n", has_lengths=False) as server:
        with Reader(server.url, timeouts=Timeouts(open_s=1.5)) as reader:
            assert reader.take(20) is None
            assert reader.state is State.FAILED
            assert "OPENCV_FFMPEG_CAPTURE_OPTIONS='input_format;mjpeg'" in (reader.error or "")
        monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "input_format;mjpeg")
        with Reader(server.url) as reader:
            frame = reader.take(20)
            assert frame is not None
            assert np.abs(frame.pixels[-1].astype(int) - (0, 0, 200)).max() < 8


@pytest.mark.parametrize("is_live", [True, False])
def test_a_picture_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_live: bool) -> None:
    monkeypatch.setattr("taijitu_runtime.live.reader.MAX_GROWTH_BYTES", 2**26)
    begin = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()[:-2]

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
            part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 2000000000\r\n\r\n"
            with contextlib.suppress(OSError):
                self.wfile.write(head + part + begin)
                while True:
                    self.wfile.write(b"\1" * 2**16)

        def log_message(self, *_: object) -> None:
            pass

    path = tmp_path / "endless.mp4"
    path.write_bytes(begin)
    os.truncate(path, 2**33)
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Reader(f"http://127.0.0.1:{server.server_port}/stream.mjpg" if is_live else str(path)) as reader:
            assert reader.take(20) is None
            assert reader.state is State.FAILED
            assert "MB without the end of a frame" in (reader.error or "")
        server.shutdown()


@pytest.mark.parametrize("free_bytes", [0, 20_000_000])  # 0: the kernel does not say
def test_the_libraries_of_a_process_are_not_taken_for_a_picture_that_never_ends(
    video: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int
) -> None:
    monkeypatch.setattr("taijitu_runtime.live.reader.available_bytes", lambda: free_bytes)
    monkeypatch.setattr("taijitu_runtime.live.reader.POLL_S", 0.01)  # as on a board that takes seconds to load them
    with Reader(str(video)) as reader:
        assert reader.take(20) is not None, reader.error


def test_damage_of_one_frame_holds_up_to_the_next_key_frame() -> None:
    damage = Damage()
    damage.hear("Packet corrupt (stream = 0, dts = 1).")  # of probing
    damage.mark(b"\0open 2")
    for number in range(1, 12):
        if number in (3, 9):
            damage.hear("error while decoding MB 19 11, bytestream -5")
        damage.mark(b"\0frame %d" % number)  # a reader is behind with its messages
    keys = [1, 1, 1, 4, 4, 6, 6, 6, 6, 6, 6]  # 4 may be the frame that was meant: the decoder is one ahead
    damaged = [number for number, key in enumerate(keys, 1) if damage.of(number, key)]
    assert damaged == [3, 4, 5, 9, 10, 11]
    assert damage.of(9 + LONGEST_HOLD, 6)
    assert not damage.of(10 + LONGEST_HOLD, 6)
    assert damage.cut is None


def test_complaints_about_a_stream_that_gives_nothing_else_do_not_pile_up() -> None:
    process: Any = SimpleNamespace(damage=Damage())
    reader = Reader("0")
    for number in range(1, 3 * LONGEST_HOLD):
        process.damage.hear("error while decoding MB 19 11, bytestream -5")
        process.damage.mark(b"\0frame %d" % number)
        reader._accept(process, {"is": "skipped", "read": number, "key": 1, "text": "got a frame of one grey"})
    assert len(process.damage._complaints) <= LONGEST_HOLD + 1
    assert reader.counters.failed == 3 * LONGEST_HOLD - 1


def test_a_frame_that_is_mostly_the_decoders_grey_is_recognised() -> None:
    noise = np.random.default_rng(0).normal(128, 4, (480, 640, 3)).round().clip(0, 255).astype(np.uint8)
    assert not is_mostly_grey(noise)  # a grey wall
    smeared = noise.copy()
    smeared[200:] = 130
    assert is_mostly_grey(smeared)
    smeared[200:] = (130, 130, 150)
    assert not is_mostly_grey(smeared)


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGSEGV])  # a driver hangs, and keeps no limit; or crashes
def test_a_process_that_hangs_or_crashes_is_replaced(server: MjpegServer, fault: signal.Signals) -> None:
    before = children()
    with Reader(server.url, timeouts=QUICK) as reader:
        assert reader.take(20) is not None
        (child,) = children() - before
        os.kill(child, fault)
        wait_until(lambda: reader.counters.reconnects >= 1)
        assert not Path(f"/proc/{child}").exists()


def test_a_file_whose_process_hangs_is_lost_and_not_over(video: Path) -> None:
    before = children()
    with Reader(str(video), timeouts=Timeouts(open_s=0.5)) as reader:
        assert reader.take(20) is not None
        (child,) = children() - before
        os.kill(child, signal.SIGSTOP)
        assert sum(1 for _ in iter(lambda: reader.take(20), None)) < 11
        assert reader.state is State.FAILED
        assert "got no frame for" in (reader.error or "")


def test_a_process_without_memory_for_frames_says_so(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (640, 480)).save(path)
    with full_disk(1_000_000), Reader(str(path)) as reader:  # less than three frames
        assert reader.take(20) is None
        assert reader.state is State.FAILED
        assert "ended with exit code 1 (OSError: [Errno 27] File too large)" in (reader.error or "")


def test_a_moment_without_descriptors_ends_no_reader(server: MjpegServer) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # no more than there are
    try:
        with Reader(server.url, timeouts=Timeouts(wait_s=30)) as reader:
            wait_until(lambda: "Too many open files" in (reader.error or ""))
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert reader.take(20) is not None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_another_mode_than_was_asked_for_is_told_once(
    server: MjpegServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Webcam(CaptureProcess):
        def receive(self, timeout_s: float) -> Message | None:
            message = super().receive(timeout_s)
            return message | {"mode_fault": "got width 640"} if message and message["is"] == "opened" else message

    monkeypatch.setattr("taijitu_runtime.live.reader.CaptureProcess", Webcam)
    with Reader(server.url, timeouts=QUICK) as reader:
        assert reader.take(20) is not None
        server.unplug()
        wait_until(lambda: reader.state is State.RECONNECTING)
        server.restore()
        wait_until(lambda: reader.counters.reconnects >= 1)
    assert [text for text in caplog.messages if "width" in text] == [f"{server.url}: got width 640"]


def test_a_password_is_not_an_argument_of_a_process() -> None:
    before = children()
    with MjpegServer() as server, Reader(server.url.replace("//", "//user:secret@")) as reader:
        assert reader.take(20) is not None
        (child,) = children() - before
        assert b"secret" not in Path(f"/proc/{child}/cmdline").read_bytes()


def test_a_reader_is_used_inside_of_with_and_once(video: Path) -> None:
    reader = Reader(str(video))
    with pytest.raises(UsageError, match="with"):
        reader.take()
    with reader:
        assert reader.take(20) is not None
    with pytest.raises(UsageError, match="expected a new one"), reader:
        pass


def test_one_that_never_answers_fails_in_time(server: MjpegServer) -> None:
    server.stall()
    with Reader(server.url, timeouts=Timeouts(open_s=0.5)) as reader:
        began = time.monotonic()
        assert reader.take(30) is None
        assert time.monotonic() - began < 15  # and not after the 30 s of FFmpeg
        assert reader.state is State.FAILED
        assert "expected frames; check that the stream plays elsewhere" in (reader.error or "")


def test_the_address_of_one_picture_is_refused_as_that(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "snapshot.jpg")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Reader(f"http://127.0.0.1:{server.server_port}/snapshot.jpg") as reader:
            assert reader.take(20) is None
            assert (reader.state, "one picture" in (reader.error or "")) == (State.FAILED, True)
        server.shutdown()


def test_a_diagnosis_that_fails_ends_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise FileNotFoundError("a process that is gone")

    monkeypatch.setattr("taijitu_runtime.live.reader.cure", fail)
    with Reader("/dev/null", timeouts=Timeouts(wait_s=60)) as reader:  # a device, and no camera
        wait_until(lambda: reader.error is not None)
        assert reader.state is State.OPENING
        assert reader.error == "/dev/null: got no frame, expected frames"


def test_patience_decides_when_a_lost_source_is_given_up(server: MjpegServer) -> None:
    with Reader(server.url, timeouts=Timeouts(give_up_s=0.5)) as reader:
        assert reader.take(20) is not None
        server.unplug()
        wait_until(lambda: reader.state is State.FAILED)
        assert "got a refused connection" in (reader.error or "")


def test_a_source_may_come_later_where_it_is_waited_for(server: MjpegServer) -> None:
    server.unplug()
    with Reader(server.url, timeouts=Timeouts(wait_s=30)) as reader:
        wait_until(lambda: reader.error is not None)
        assert reader.state is State.OPENING
        server.restore()
        assert reader.take(20) is not None


def test_closing_leaves_nothing_even_while_the_source_hangs(server: MjpegServer) -> None:
    before = held()
    with Reader(server.url) as reader:
        assert reader.take(20) is not None
        server.stall()
        time.sleep(0.2)
    assert reader.state is State.ENDED
    assert held()[1:] == before[1:]
    server.unplug()  # its own sockets
    wait_until(lambda: held()[0] <= before[0])


def test_closing_between_two_attempts_makes_no_further_one(server: MjpegServer) -> None:
    with Reader(server.url, timeouts=Timeouts(first_retry_s=30, last_retry_s=30)) as reader:
        assert reader.take(20) is not None
        server.unplug()
        wait_until(lambda: reader.state is State.RECONNECTING)
        server.restore()
        time.sleep(0.1)
        assert server.connections == 1
    time.sleep(0.1)
    assert server.connections == 1


def test_closing_while_another_thread_takes_a_frame_is_no_error_there(server: MjpegServer) -> None:
    class Slow(deque[Any]):
        def popleft(self) -> Any:
            taking.set()
            time.sleep(0.3)
            return super().popleft()

    taking = threading.Event()
    found: list[object] = []
    with Reader(server.url) as reader:
        wait_until(lambda: reader.state is State.RUNNING)
        reader._quit.set()
        reader._thread.join()  # close() is this far
        reader._waiting = Slow(reader._waiting)
        other = threading.Thread(target=lambda: found.append(reader.take(20)))
        other.start()
        assert taking.wait(20)
    other.join()
    assert len(found) == 1


def test_a_text_that_is_not_a_source_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="unknown scheme"):
        Reader("gopher://x")


def test_time_limits_are_learned_from_the_source() -> None:
    limits = TimeLimits(Timeouts(open_s=10, stall_s=2), live=True)
    assert (limits.open_s, limits.stall_s) == (10, 10)  # nothing is known of it
    limits.opened(0.7)
    limits.frame(0.0)
    assert limits.open_s == pytest.approx(2.1)
    assert limits.stall_s == pytest.approx(2.1)
    limits.frame(0.9)
    assert limits.stall_s == pytest.approx(4.5)  # five intervals
    for index in range(30):
        limits.frame(1 + index / 30)
    assert limits.stall_s == 2
    limits.opened(0.1)
    assert limits.open_s == pytest.approx(2.1)  # the slowest opening counts
    limits.opened(9.0)
    assert limits.open_s == 10
    assert TimeLimits(Timeouts(open_s=10), live=False).stall_s == 10  # a file on a slow disk

"""`camera` as its users run it: exit codes, lines, files, signals."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from taijitu_runtime.errors import UsageError
from taijitu_runtime.live import Frame, Result
from taijitu_runtime.live.cli import _until_signal, build_parser, main
from taijitu_runtime.live.outputs import VideoFile
from tests.helpers.changed_model import with_weights
from tests.helpers.full_disk import full_disk
from tests.helpers.mjpeg_server import MjpegServer

RED, BLUE = (0, 0, 230), (230, 0, 0)  # BGR


@pytest.fixture(autouse=True)
def _without_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 6 red frames, then 6 blue ones, at 20 frames/s, 320 x 240 pixels."""
    path = tmp_path_factory.mktemp("video") / "colours.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (320, 240))
    for index in range(12):
        writer.write(np.full((240, 320, 3), RED if index < 6 else BLUE, np.uint8))
    writer.release()
    return path


def start(root: Path, *arguments: str | Path, own_group: bool = False) -> subprocess.Popen[str]:
    command = list(map(str, [sys.executable, "-W", "error", root / "runtime" / "camera.py", *arguments]))
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=own_group)


def test_json_lines_and_an_annotated_video_of_a_file(
    tiny_onnx: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "out.mp4"
    assert main([str(tiny_onnx), "--source", str(video), "--jsonl", "-", "--save", str(saved), "--top", "1"]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["answers"][0]["label"] for line in lines] == ["red"] * 6 + ["blue"] * 6
    assert [line["frame"] for line in lines] == list(range(1, 13))
    assert lines[2]["position_s"] == 0.1
    assert not any(line["frozen"] for line in lines)
    assert all(line["age_ms"] >= line["latency_ms"] > 0 for line in lines)
    assert "12 read, 12 classified, 0 dropped, 0 failed; 0 reconnects" in printed.err
    assert os.listdir(tmp_path) == ["out.mp4"]
    capture = cv2.VideoCapture(str(saved))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert capture.get(cv2.CAP_PROP_FPS) == 20
    assert len(frames) == 12
    assert np.abs(frames[0][120, 160].astype(int) - RED).max() < 25  # the picture
    assert np.abs(frames[0][5, 5].astype(int) - RED).max() > 50  # and something drawn on it


def test_a_line_of_text_for_every_picture_and_1_where_one_was_skipped(
    tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 20, 3), RED, np.uint8))
    (tmp_path / "b.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "c.png"), np.full((30, 50, 3), BLUE, np.uint8))
    assert main([str(tiny_onnx), "--source", f"{tmp_path}/*.png", "--top", "1"]) == 1
    printed = capsys.readouterr()
    (first, second) = printed.out.splitlines()
    assert first.startswith(f"{tmp_path}/a.png: ")
    assert " red " in first
    assert second.startswith(f"{tmp_path}/c.png: ")
    assert " blue " in second
    assert f"{tmp_path}/b.png: got no picture" in printed.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--source", "absent.mp4"], "taijitu camera: absent.mp4: got no such file, expected "),
        (["--source", "http://127.0.0.1:1/a.mjpg"], "got a refused connection, expected a server"),
        (["--source", "csi://0"], "got csi://0, expected a Jetson"),
        (["--source", "VIDEO", "--roi", "0,0,321,1"], "320 x 240"),
        (["--source", "VIDEO", "--display"], "got --display without a screen"),
        (["--source", "VIDEO", "--save", "out.gif"], "expected a name that ends in .mp4, .avi, .mkv"),
        (["--source", "VIDEO", "--save", "FOLDER.mp4"], "which is a folder, expected a file's name"),
        (["--source", "VIDEO", "--save", f"{'a' * 300}.mp4"], "a name that can be written (File name too long"),
        (["--source", "VIDEO", "--save", "no/such/folder/out.mp4"], "expected a folder and a name that can be written"),
        (["--source", "VIDEO", "--save", "VIDEO"], "as source and as --save, expected two files"),
        (["--source", "VIDEO", "--jsonl", "VIDEO"], "as source and as --jsonl, expected two files"),
        (["--source", "VIDEO", "--jsonl", "MODEL"], "as model and as --jsonl, expected two files"),
        (["--source", "VIDEO", "--save", "out.mp4", "--jsonl", "./out.mp4"], "as --save and as --jsonl"),
        (["--source", "VIDEO", "--jsonl", ""], "--jsonl: got an empty path, expected a name"),
        (["--source", "VIDEO", "--roi", ""], "got the region ''"),
        (["--source", "VIDEO", "--top", "4"], "got top 4, expected 1 to 3"),
        (["--source", "0", "--realtime"], "got --realtime, expected a video file with it"),
        (["--source", "filesrc ! appsink", "--realtime"], "got --realtime, expected a video file with it"),
        (["--source", "*.none", "--smoothing", "1"], "got smoothing over pictures"),
        (["--source", "*.none", "--every", "2"], "got every 2 over pictures"),
        (["--source", "0", "--stall-timeout", "0"], "got --stall-timeout 0.0, expected"),
        (["--source", "0", "--frozen", "-1"], "got --frozen -1.0, expected"),
        (["--source", "a.mp4", "--stall-timeout", "5"], "for a file"),
        (["--source", "*.jpg", "--wait", "5"], "for a file"),
        (["--source", "a.mp4", "--give-up", "5"], "for a file"),
        (["--source", "a.mp4", "--frozen", "5"], "for a file"),
    ],
)
def test_wrong_use_is_one_line_and_2(
    tiny_onnx: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    (folder := tmp_path / "folder.mp4").mkdir()
    places = {"VIDEO": str(video), "FOLDER.mp4": str(folder), "MODEL": str(tiny_onnx)}
    assert main([str(tiny_onnx), *(places.get(word, word) for word in arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert told in printed.err
    assert video.stat().st_size > 0 < tiny_onnx.stat().st_size


def test_a_picture_that_is_too_large_is_refused_without_naming_a_flag_of_other_commands(
    tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (7000, 7000)).save(tmp_path / "large.jpg")
    assert main([str(tiny_onnx), "--source", str(tmp_path / "large.jpg")]) == 1
    told = capsys.readouterr().err
    assert "7000 x 7000" in told
    assert set(re.findall(r"--[a-z][a-z-]*", told)) <= set(build_parser()._option_string_actions)


def test_json_lines_of_an_earlier_run_are_there_until_the_source_has_opened(
    tiny_onnx: Path, video: Path, tmp_path: Path
) -> None:
    (empty := tmp_path / "empty.avi").touch()
    (lines := tmp_path / "lines.jsonl").write_text("of an earlier run\n" * 1000)
    for source in ("absent.avi", str(empty)):
        assert main([str(tiny_onnx), "--source", source, "--jsonl", str(lines)]) == 2
        assert lines.read_text() == "of an earlier run\n" * 1000
    assert main([str(tiny_onnx), "--source", str(video), "--jsonl", str(lines)]) == 0
    assert [json.loads(line)["frame"] for line in lines.read_text().splitlines()] == list(range(1, 13))
    assert main([str(tiny_onnx), "--source", str(video), "--every", "99", "--jsonl", str(lines)]) == 0
    assert len(lines.read_text().splitlines()) <= 1
    assert main([str(tiny_onnx), "--source", str(video), "--jsonl", os.devnull]) == 0


def test_json_lines_of_an_earlier_run_stay_where_the_run_is_stopped_before_the_source_has_opened(
    root: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    (lines := tmp_path / "lines.jsonl").write_text("of an earlier run\n")
    with MjpegServer() as server:
        server.unplug()
        flags = ("--source", server.url, "--wait", "60", "--verbose", "--jsonl", lines)
        with start(root, tiny_onnx, *flags) as running:
            assert running.stderr is not None
            assert any("refused" in line for line in running.stderr)  # it was asked, and is asked again
            running.send_signal(signal.SIGINT)
            _, told = running.communicate(timeout=30)
    assert running.returncode == 0, told
    assert lines.read_text() == "of an earlier run\n"


def test_a_refused_run_leaves_no_video(tiny_onnx: Path, video: Path, tmp_path: Path) -> None:
    arguments = ["--source", str(video), "--roi", "0,0,999,9", "--save", str(tmp_path / "out.mp4")]
    assert main([str(tiny_onnx), *arguments]) == 2
    assert os.listdir(tmp_path) == []


def record(path: Path, count: int, then: type[Exception] | None = None) -> None:
    """Save frames of noise, 320 x 240, and raise `then` before the file is closed."""
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    with VideoFile(path, live=False, rate_hz=lambda: 29.97) as video:
        for number in range(count):
            video(Result(Frame(number, pixels, time.monotonic()), (), True, 0.0, 0.0, 0.0, None))
        if then:
            raise then


def test_a_recording_shows_a_frame_from_its_capture_to_the_next(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "out.avi", live=True, rate_hz=lambda: None) as video:
        for captured_s, grey in ((100.0, 0), (101.0, 120), (130.0, 240)):  # the source was lost for 29 s
            pixels = np.full((480, 640, 3), grey, np.uint8)
            video(Result(Frame(1, pixels, captured_s), (), True, 0.0, 0.0, 0.0, None))
    recording = cv2.VideoCapture(str(tmp_path / "out.avi"))
    shown = [round(pixels[300, 500].mean() / 120) for _, pixels in iter(recording.read, (False, None))]
    recording.release()
    assert shown == sorted(shown)
    assert [shown.count(number) for number in range(3)] == pytest.approx([25, 50, 1], abs=1)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
@pytest.mark.parametrize("count", [2, 40])
def test_a_full_disk_is_reported_and_leaves_the_earlier_video_unchanged(
    tmp_path: Path, suffix: str, count: int
) -> None:
    saved = tmp_path / f"out{suffix}"
    record(saved, count)
    before = saved.read_bytes()
    with full_disk(int(0.4 * len(before))), pytest.raises(UsageError, match="is the disk full") as caught:
        record(saved, count)
    assert saved.read_bytes() == before
    (kept,) = (name for name in os.listdir(tmp_path) if name != saved.name)
    assert f"expected {count} frames in it" in str(caught.value)
    assert str(caught.value).endswith(str(tmp_path / kept))


def test_an_error_of_another_output_leaves_the_video_up_to_it(tmp_path: Path) -> None:
    saved = tmp_path / "out.avi"
    with pytest.raises(BrokenPipeError):
        record(saved, 5, then=BrokenPipeError)
    assert os.listdir(tmp_path) == ["out.avi"]
    assert cv2.VideoCapture(str(saved)).get(cv2.CAP_PROP_FRAME_COUNT) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_live_run_with_a_summary_and_a_whole_video(
    root: Path, tiny_onnx: Path, tmp_path: Path, number: signal.Signals
) -> None:
    saved = tmp_path / "out.avi"
    with MjpegServer(colour=RED) as server, start(
        root, tiny_onnx, "--source", server.url, "--jsonl", "-", "--save", saved
    ) as running:  # fmt: skip
        assert running.stdout is not None
        for _ in range(3):
            assert json.loads(running.stdout.readline())["answers"][0]["label"] == "red"
        assert not saved.exists()
        running.send_signal(number)
        if number == signal.SIGHUP:  # of a closed terminal, the shell tells what the kernel has told
            time.sleep(0.02)
            running.send_signal(number)
        _, told = running.communicate(timeout=30)
    assert running.returncode == 0
    for row in (server.url, "  frames ", "  rates ", "  latency     p50 ", "  frame age   p50 "):
        assert row in told
    assert cv2.VideoCapture(str(saved)).read()[0]


def test_a_signal_that_was_ignored_before_stays_so() -> None:
    before, stop = signal.signal(signal.SIGHUP, signal.SIG_IGN), threading.Event()  # as nohup does
    try:
        with _until_signal(stop):
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_while_the_capturing_process_starts_is_not_an_error(root: Path, tiny_onnx: Path) -> None:
    with MjpegServer() as server, start(root, tiny_onnx, "--source", server.url, own_group=True) as running:
        lists = Path(f"/proc/{running.pid}/task/")
        deadline = time.monotonic() + 30
        while not any(found.read_text() for found in lists.glob("*/children")):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)  # to all that a terminal would send it to
        _, told = running.communicate(timeout=30)
    assert running.returncode == 0, told


def test_lines_of_text_come_at_once_through_a_pipe(
    root: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with MjpegServer(colour=RED) as server, start(root, tiny_onnx, "--source", server.url) as running:
        assert running.stdout is not None
        came = select.select([running.stdout], [], [], 10)[0]
        running.send_signal(signal.SIGINT)
        assert came
        assert "red" in running.stdout.readline()


def test_an_unreachable_screen_counts_as_none(
    root: Path, tiny_onnx: Path, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISPLAY", ":12345")
    with start(root, tiny_onnx, "--source", video) as running:
        printed, told = running.communicate(timeout=60)
    assert running.returncode == 0, told
    assert len(printed.splitlines()) == 12
    assert main([str(tiny_onnx), "--source", str(video), "--display"]) == 2
    assert "got no window (" in capsys.readouterr().err


@pytest.fixture
def screen() -> Iterator[str]:
    """Start a real X server without a monitor; return the value of DISPLAY for it."""
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb (Debian: apt install xvfb): the window is not tested here")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x600x24", "-noreset", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with os.fdopen(reading) as line:
            yield f":{line.readline().strip()}"
        server.terminate()


def test_a_window_is_the_output_where_there_is_a_screen(
    root: Path, tiny_onnx: Path, video: Path, screen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", screen)
    with start(root, tiny_onnx, "--source", video) as running:
        printed, told = running.communicate(timeout=60)
    assert running.returncode == 0, told
    assert printed == ""  # no lines of text
    assert told.startswith(f"{video}: ")  # the summary, and nothing of Qt's before it
    with start(root, tiny_onnx, "--source", video, "--no-display", "--top", "1") as running:
        printed, _ = running.communicate(timeout=60)
    assert len(printed.splitlines()) == 12


@pytest.mark.parametrize("end", ["cv2.destroyWindow('taijitu camera')", "press('q')", "press('Escape')"])
def test_a_window_ends_the_run_while_no_frames_come(screen: str, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    if "press" in end and shutil.which("xdotool") is None:
        pytest.skip("no xdotool (Debian: apt install xdotool): keys are not tested here")
    code = f"""
import subprocess, threading, cv2
from taijitu_runtime.live import State
from taijitu_runtime.live.outputs import Window

def press(key):
    window = ["search", "--sync", "--onlyvisible", "--name", "taijitu camera"]
    subprocess.run(["xdotool", *window, "windowfocus", "mousemove", "--window", "%1", "9", "9", "key", key], check=True)

stop = threading.Event()
with Window(stop) as window:
    window.idle(State.OPENING)
    assert not stop.is_set()
    {end}
    for _ in range(500):
        window.idle(State.OPENING)
        if stop.wait(0.02):
            break
print(stop.is_set())
"""
    monkeypatch.setenv("DISPLAY", screen)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "True\n", ran.stderr


def test_a_source_that_is_lost_for_good_is_1_and_says_why(root: Path, tiny_onnx: Path) -> None:
    with MjpegServer(colour=BLUE) as server, start(
        root, tiny_onnx, "--source", server.url, "--jsonl", "-", "--give-up", "0.3", "--verbose"
    ) as running:  # fmt: skip
        assert running.stdout is not None
        running.stdout.readline()
        server.unplug()
        _, told = running.communicate(timeout=30)
    assert running.returncode == 1
    assert f"opening ffmpeg: {server.url}" in told
    assert "lost, trying to get it back" in told
    assert "got a refused connection" in told.splitlines()[-1]


def test_a_file_that_stalls_halfway_is_1(tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film, over = tmp_path / "film.mkv", threading.Event()
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 240))
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    for _ in range(30):
        writer.write(noise)
    writer.release()

    class Halfway(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            whole = film.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole[: len(whole) // 2])
            over.wait(20)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Halfway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/film.mkv"
        assert main([str(tiny_onnx), "--source", url, "--open-timeout", "0.7"]) == 1
        over.set()
        server.shutdown()
    printed = capsys.readouterr()
    assert 5 < len(printed.out.splitlines()) < 20
    assert f"{url}: got no frame for " in printed.err.splitlines()[-1]


def test_a_frozen_camera_is_reported_on_stderr_and_in_every_line(root: Path, tiny_onnx: Path) -> None:
    with MjpegServer() as server, start(
        root, tiny_onnx, "--source", server.url, "--jsonl", "-", "--frozen", "0.5"
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["frozen"] is False
        server.is_frozen = True
        while not json.loads(running.stdout.readline())["frozen"]:
            pass
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=30)
    assert running.returncode == 0
    assert "--frozen" in told.splitlines()[0]
    assert " repeated" in told


def test_a_video_that_was_cut_off_is_1(tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = tmp_path / "film.mkv"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 240))
    for index in range(30):
        writer.write(np.random.default_rng(index).integers(0, 256, (240, 320, 3), dtype=np.uint8))
    writer.release()
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 2 // 3])
    assert main([str(tiny_onnx), "--source", str(film)]) == 1
    printed = capsys.readouterr()
    assert 10 < len(printed.out.splitlines()) < 25
    assert f"{film}: " in printed.err.splitlines()[-1]


def test_the_capturing_process_goes_with_its_reader_even_if_that_is_killed(root: Path, tiny_onnx: Path) -> None:
    with MjpegServer() as server, start(root, tiny_onnx, "--source", server.url, "--jsonl", "-") as running:
        assert running.stdout is not None
        running.stdout.readline()
        lists = Path(f"/proc/{running.pid}/task").glob("*/children")
        (child,) = [int(number) for found in lists for number in found.read_text().split()]
        running.kill()
        running.communicate()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{child}").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_model_that_fails_its_proof_classifies_nothing(
    shipped_onnx: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = with_weights(shipped_onnx, tmp_path / "broken.onnx", np.negative)
    assert main([str(broken), "--source", str(video), "--jsonl", "-"]) == 1
    assert capsys.readouterr().out == ""
    assert main([str(broken), "--source", str(video), "--jsonl", "-", "--prove", "warn"]) == 0
    printed = capsys.readouterr()
    assert printed.out
    assert "not proven" in printed.err

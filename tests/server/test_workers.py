"""Several server processes behind one port."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.server_process import WITH_ERRORS, Server
from tests.helpers.tiny_model import make_tiny_onnx
from tests.helpers.waiting import eventually

SCRIPT = "tests/helpers/quick_workers.py"


def children(server: Server) -> set[str]:
    process = server.process.pid
    return set(Path(f"/proc/{process}/task/{process}/children").read_text().split())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_onnx(tmp_path / "tiny.onnx")


@pytest.fixture
def pair(model: Path) -> Iterator[Server]:
    with Server(str(model), "--workers", "2", script=SCRIPT, levels=WITH_ERRORS) as running:
        yield running


def test_every_scrape_has_the_sum_of_all_workers(pair: Server, photograph: Path) -> None:
    for _ in range(12):  # each on a connection of its own, so that both workers get some
        assert httpx.post(f"{pair.url}/classify", content=photograph.read_bytes()).status_code == 200
    wanted = re.compile(r'^taijitu_requests_total\{path="/classify",status="200"\} 12\.0$', re.MULTILINE)
    for _ in range(6):
        text = httpx.get(f"{pair.url}/metrics").text
        assert wanted.search(text), text


def test_a_worker_that_cannot_start_again_does_not_stop_others(pair: Server, model: Path, photograph: Path) -> None:
    def answers() -> bool:
        return httpx.post(f"{pair.url}/classify", content=photograph.read_bytes()).status_code == 200

    time.sleep(0.5)  # both are trusted now
    good = model.with_suffix(".good")
    shutil.copy(model, good)
    model.with_suffix(".bad").write_bytes(b"no model")
    model.with_suffix(".bad").replace(model)
    killed, other = sorted(children(pair))
    os.kill(int(killed), signal.SIGKILL)
    eventually(lambda: killed not in children(pair))
    tried: set[str] = set()

    def tried_twice() -> bool:
        tried.update(children(pair) - {other})
        return len(tried) > 1

    eventually(tried_twice)
    assert answers()
    good.replace(model)

    def is_whole_again() -> bool:
        before = children(pair)
        time.sleep(0.5)
        return len(before) == 2 and before == children(pair)

    eventually(is_whole_again)
    assert answers()


def test_a_model_that_no_worker_can_load_is_exit_code_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    code, log = Server(str(bad), "--workers", "2", script=SCRIPT).ended()
    assert code == 2
    assert "bad.onnx" in log


def test_a_child_that_is_no_worker_may_end(
    start_server: Callable[..., Server], model: Path, tmp_path: Path, photograph: Path
) -> None:
    script = tmp_path / "with_a_child.py"  # as a shell that starts something and then `exec`s the server
    started = "import subprocess; other = subprocess.Popen(['sleep', '1000'])"
    script.write_text(f"{started}\nfrom taijitu_server.cli import main\nraise SystemExit(main())\n")
    running = start_server(str(model), "--workers", "2", script=str(script))
    (other,) = (one for one in children(running) if Path(f"/proc/{one}/comm").read_text() == "sleep\n")
    os.kill(int(other), signal.SIGKILL)
    eventually(lambda: other not in children(running))
    assert len(children(running)) == 2
    assert httpx.post(f"{running.url}/classify", content=photograph.read_bytes()).status_code == 200


def test_while_the_system_has_no_process_the_other_worker_serves(
    start_server: Callable[..., Server], model: Path, tmp_path: Path, photograph: Path
) -> None:
    script = tmp_path / "few_processes.py"
    script.write_text(
        "import errno, os\n"
        "forks = iter([os.fork, os.fork, None, None, os.fork])\n"
        "def fork():\n"
        "    made = next(forks)\n"
        "    if made is None:\n"
        "        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))\n"
        "    return made()\n"
        "os.fork = fork\n" + Path(SCRIPT).read_text()
    )
    running = start_server(str(model), "--workers", "2", script=str(script), levels=WITH_ERRORS)
    time.sleep(0.5)  # both are trusted now
    killed, other = sorted(children(running))
    os.kill(int(killed), signal.SIGKILL)
    eventually(lambda: len(children(running) - {killed}) == 2)
    assert other in children(running)
    assert httpx.post(f"{running.url}/classify", content=photograph.read_bytes(), timeout=30).status_code == 200


def test_a_worker_that_fails_says_where(model: Path, tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    failure = "def fails(*_):\n    raise RuntimeError('as of a bug')\ncli._load_and_serve = fails\n"
    script.write_text(f"from taijitu_server import cli\n{failure}{Path(SCRIPT).read_text()}")
    code, log = Server(str(model), "--workers", "2", script=str(script)).ended()
    assert code == 1
    assert "RuntimeError: as of a bug" in log
    assert all(map(json.loads, log.splitlines()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_nothing_outlives_the_parent(
    start_server: Callable[..., Server],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    running = start_server(str(model), "--workers", "2", script=SCRIPT)
    workers = children(running)
    assert len(workers) == 2
    port = int(running.url.rpartition(":")[2])
    os.kill(running.process.pid, number)
    code, log = running.ended()
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    eventually(lambda: not any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers))
    socket.create_server(("127.0.0.1", port)).close()
    assert list(folder.glob("taijitu-*")) == []
    assert all(map(json.loads, log.splitlines()))


def press_ctrl_c(server: Server) -> None:
    """Send SIGINT as a terminal does: to the parent and to all workers."""
    for process in (server.process.pid, *map(int, children(server))):
        os.kill(process, signal.SIGINT)


def test_ctrl_c_is_one_signal_after_which_the_drain_answers(
    start_server: Callable[..., Server], model: Path, photograph: Path
) -> None:
    running = start_server(str(model), "--workers", "2", "--drain-s", "600", script=SCRIPT)
    time.sleep(0.5)  # both serve now
    press_ctrl_c(running)
    eventually(lambda: httpx.get(f"{running.url}/health/ready").status_code == 503)
    time.sleep(0.5)
    for _ in range(6):  # each on a connection of its own, so that both workers get some
        assert httpx.post(f"{running.url}/classify", content=photograph.read_bytes()).status_code == 200


def test_ctrl_c_while_the_workers_load_their_models_is_exit_code_0(model: Path, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    slow = "def slow(*_):\n    print('loading', flush=True)\n    time.sleep(60)\ncli._load_and_serve = slow\n"
    script.write_text(f"import time\nfrom taijitu_server import cli\n{slow}{Path(SCRIPT).read_text()}")
    loading = Server(str(model), "--workers", "2", script=str(script))
    eventually(lambda: len(children(loading)) == 2)
    press_ctrl_c(loading)
    code, log = loading.ended()
    assert code == 0, log

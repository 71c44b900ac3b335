"""The page at /, in a real browser, on a real server."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from mjpeg_server import MjpegServer
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tiny_model import make_tiny_onnx

if TYPE_CHECKING:
    from server_process import Server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
SLOW_MS = 30_000
KEY = "0123456789abcdef"

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no {', '.join(BROWSERS)} on PATH; apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", *FAKE_CAMERA])
        yield running
        running.close()


@pytest.fixture(scope="module")
def camera() -> Iterator[MjpegServer]:
    with MjpegServer(rate_hz=10) as made:
        yield made


@pytest.fixture(scope="module")
def slow_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_onnx(tmp_path_factory.mktemp("slow") / "slow.onnx", size=(1024, 1024))


@pytest.fixture(scope="module")
def shown(start_server: Callable[..., Server], slow_onnx: Path, camera: MjpegServer) -> Iterator[Server]:
    limits = ["--queue-size", "2", "--instances", "1", "--max-body-bytes", "100000"]
    running = start_server(str(slow_onnx), "--port", "0", "--camera", f"door={camera.url}", *limits, "--no-access-log")
    running.wait_until_ready()
    yield running
    assert running.stop()[0] == 0


@pytest.fixture
def page(browser: Browser, shown: Server) -> Iterator[Page]:
    """The page, which asks nobody but its server, and whose script and policy agree."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    opened = context.new_page()
    opened.set_default_timeout(SLOW_MS)
    asked: list[str] = []
    faults: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
    opened.goto(shown.url)
    yield opened
    context.close()
    assert {url for url in asked if not url.startswith((shown.url, "blob:", "data:"))} == set()
    assert faults == []


def png(colour: tuple[int, int, int], side: int = 64) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, "PNG")
    return out.getvalue()


def upload(page: Page, content: bytes, name: str = "picture.png", kind: str = "image/png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})


def until(page: Page, check: Callable[[], object]) -> None:
    """Wait for what the page's policy lets no script of ours wait for."""
    for _ in range(SLOW_MS // 50):
        if check():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come true")


def red_in_the_middle(page: Page) -> int:
    script = """canvas => canvas.getContext("2d").getImageData(canvas.width / 4, canvas.height / 4, 1, 1).data[0]"""
    found: int = page.locator(".camera canvas").evaluate(script)
    return found


def test_a_picture_is_answered_with_bars_and_times(page: Page) -> None:
    upload(page, png((0, 0, 255)))
    best = page.locator("#answers li").first
    expect(best.locator("b")).to_have_text("blue", timeout=SLOW_MS)
    expect(best.locator("span")).to_contain_text("%")
    width = page.locator("#answers li .bar i").first.evaluate("bar => bar.getBoundingClientRect().width")
    assert width > page.locator("#answers li .bar i").nth(1).evaluate("bar => bar.getBoundingClientRect().width")
    expect(page.locator("#times")).to_contain_text("ms in the server")
    expect(page.locator("#heard")).to_contain_text("blue")  # for who cannot see it
    expect(page.locator("#cards")).to_contain_text("1024 \N{MULTIPLICATION SIGN} 1024 pixels")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out on a phone


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"this is no picture", "cannot read this file as a picture"),
        (png((0, 0, 255))[:60], "cannot read this file as a picture"),
        (np.random.default_rng(0).bytes(400_000), "too large for the server"),
    ],
)
def test_a_wrong_file_is_refused_in_plain_words_and_the_next_one_answered(
    page: Page, content: bytes, words: str
) -> None:
    upload(page, content)
    expect(page.get_by_role("alert")).to_contain_text(words, timeout=SLOW_MS)
    upload(page, png((255, 0, 0)))
    expect(page.locator("#answers li b").first).to_have_text("red", timeout=SLOW_MS)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_an_overloaded_server_is_asked_again_until_it_answers(page: Page, shown: Server) -> None:
    is_over = threading.Event()

    def flood() -> None:
        with httpx.Client(base_url=shown.url, timeout=30) as client:
            while not is_over.is_set():
                client.post("/classify", content=png((255, 0, 0)))

    threads = [threading.Thread(target=flood) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):  # one may slip through
            upload(page, png((0, 255, 0)))
            until(page, lambda: page.locator("#problem").is_visible() or page.locator("#answers li").count())
            if page.locator("#problem").is_visible():
                break
        expect(page.get_by_role("alert")).to_contain_text("The server is busy.")
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    if page.locator("#again").is_visible():
        page.locator("#again").click()
    expect(page.locator("#answers li b").first).to_have_text("green", timeout=SLOW_MS)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_camera_that_stalls_is_shown_as_lost_and_comes_back(page: Page, camera: MjpegServer) -> None:
    tile = page.locator(".camera")
    tile.scroll_into_view_if_needed()
    expect(tile.locator(".state")).to_have_text("Live", timeout=SLOW_MS)
    expect(tile.locator("li b").first).to_have_text("red", timeout=SLOW_MS)
    until(page, lambda: red_in_the_middle(page) > 150)
    camera.stall()
    expect(tile.locator(".state")).to_have_text("Lost, reconnecting", timeout=SLOW_MS)
    expect(tile.locator(".numbers")).to_contain_text("last picture")
    until(page, lambda: red_in_the_middle(page) < 100)
    camera.restore()
    expect(tile.locator(".state")).to_have_text("Live", timeout=SLOW_MS)
    until(page, lambda: red_in_the_middle(page) > 150)


def test_the_camera_of_the_device_is_answered_until_it_is_stopped(page: Page) -> None:
    page.get_by_role("button", name="Use this device").click()
    expect(page.locator("#answers li").first).to_be_visible(timeout=SLOW_MS)
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.locator("#video")).to_be_hidden()
    expect(page.locator("#answers li")).to_have_count(0)


def test_the_keyboard_reaches_everything_in_order(page: Page) -> None:
    expect(page.locator("#to-cameras")).to_be_visible(timeout=SLOW_MS)
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached == ["Skip to the picture", "to-cameras", "Model", "API", "file", "eye", "openapi.json"]


def test_docs_are_a_list_of_every_path_without_the_internet(page: Page, shown: Server) -> None:
    page.goto(f"{shown.url}/docs")
    expect(page.locator("#paths")).to_contain_text("/v2/models/{model}/infer", timeout=SLOW_MS)
    expect(page.locator("#paths li").first).to_be_visible()


def test_a_key_is_asked_for_and_opens_everything(
    browser: Browser, start_server: Callable[..., Server], camera: MjpegServer, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    model = make_tiny_onnx(tmp_path / "tiny.onnx")
    running = start_server(str(model), "--port", "0", "--api-keys", str(keys), "--camera", f"door={camera.url}")
    running.wait_until_ready()
    opened = browser.new_page()
    opened.goto(running.url)
    opened.get_by_label("Key", exact=True).fill(KEY)
    opened.keyboard.press("Enter")
    expect(opened.locator("#cards")).to_contain_text("tiny", timeout=SLOW_MS)
    expect(opened.locator(".camera .state")).to_have_text("Live", timeout=SLOW_MS)
    upload(opened, png((0, 0, 255)))
    expect(opened.locator("#answers li b").first).to_have_text("blue", timeout=SLOW_MS)
    opened.close()
    assert running.stop()[0] == 0

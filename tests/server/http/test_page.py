"""The page at /, in a real browser, on a real server."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.helpers.image_file import image_file
from tests.helpers.mjpeg_server import MjpegServer
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import card_dict, make_tiny_onnx

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FAKE_CAMERA = "--use-fake-device-for-media-stream"
SLOW_MS = 30_000
expect.set_options(timeout=SLOW_MS)
KEY = "0123456789abcdef"

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no {', '.join(BROWSERS)} on PATH; apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", FAKE_CAMERA])
        yield running
        running.close()


@pytest.fixture(scope="module")
def camera() -> Iterator[MjpegServer]:
    with MjpegServer(rate_hz=10) as made:
        yield made


@pytest.fixture(scope="module")
def slow_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = card_dict(height=1024, width=1024)
    card["training"] |= {"metrics": {"eval_top1": 91.23456789012345}, "evaluation": "test"}
    return make_tiny_onnx(tmp_path_factory.mktemp("slow") / "slow.onnx", size=(1024, 1024), card=card)


@pytest.fixture(scope="module")
def shown(slow_onnx: Path, camera: MjpegServer) -> Iterator[Server]:
    limits = ["--queue-size", "2", "--instances", "1", "--max-body-bytes", "100000"]
    with Server(str(slow_onnx), "--camera", f"door={camera.url}", *limits, "--no-access-log") as running:
        yield running


@pytest.fixture
def page(browser: Browser, shown: Server) -> Iterator[Page]:
    """Open the page; check that it calls only its server, and that its script and policy agree."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, permissions=["camera"])
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
    return image_file(Image.new("RGB", (side, side), colour))


def upload(page: Page, content: bytes, name: str = "picture.png", kind: str = "image/png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})


def until(page: Page, check: Callable[[], object]) -> None:
    """Wait for a state for which the page's policy does not let scripts wait."""
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
    expect(best.locator("b")).to_have_text("blue")
    expect(best.locator("span")).to_contain_text("%")
    width = page.locator("#answers li .bar i").first.evaluate("bar => bar.getBoundingClientRect().width")
    assert width > page.locator("#answers li .bar i").nth(1).evaluate("bar => bar.getBoundingClientRect().width")
    expect(page.locator("#times")).to_contain_text("ms in the server")
    expect(page.locator("#heard")).to_contain_text("blue")  # for who cannot see it
    expect(page.locator("#cards")).to_contain_text("1024 \N{MULTIPLICATION SIGN} 1024 pixels")
    expect(page.locator("#cards")).to_contain_text("91.23 %")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out on a phone


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"this is not a picture", "cannot read this file as a picture"),
        (png((0, 0, 255))[:60], "cannot read this file as a picture"),
        (np.random.default_rng(0).bytes(400_000), "too large for the server"),
    ],
)
def test_a_wrong_file_is_refused_in_plain_words_and_the_next_one_answered(
    page: Page, content: bytes, words: str
) -> None:
    upload(page, content)
    expect(page.get_by_role("alert")).to_contain_text(words)
    upload(page, png((255, 0, 0)))
    expect(page.locator("#answers li b").first).to_have_text("red")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_where_the_model_looks_is_drawn_over_the_picture(
    browser: Browser, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), "--no-access-log")
    opened = browser.new_page()
    opened.goto(running.url)
    half = Image.new("RGB", (64, 64), (0, 0, 255))
    half.paste((255, 0, 0), (0, 0, 32, 64))
    out = io.BytesIO()
    half.save(out, "PNG")
    opened.locator("#where").click(timeout=SLOW_MS)
    upload(opened, out.getvalue())
    expect(opened.locator("#answers li.looked b")).to_have_text("blue")
    opacity = """(canvas, share) => canvas.getContext("2d").getImageData(share * canvas.width, 32, 1, 1).data[3]"""
    heat = opened.locator("#heat")
    until(opened, lambda: heat.evaluate(opacity, 0.75) > 100)
    assert heat.evaluate(opacity, 0.25) == 0
    opened.locator("#answers li", has_text="red").click()
    until(opened, lambda: heat.evaluate(opacity, 0.25) > 100)
    expect(heat).to_have_attribute("aria-label", "What speaks for red")
    opened.locator("#where").click()
    expect(heat).to_be_hidden()
    opened.close()


def test_the_pages_own_example_is_answered(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (0, 0, 255)).save(tmp_path / "picture.jpg")
    expect(page.locator("#example")).to_contain_text("curl")
    line = page.locator("#example").inner_text()
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["answers"][0]["label"] == "blue"


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
    expect(page.locator("#answers li b").first).to_have_text("green")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_camera_that_stalls_is_shown_as_lost_and_comes_back(page: Page, camera: MjpegServer) -> None:
    tile = page.locator(".camera")
    tile.scroll_into_view_if_needed()
    expect(tile.locator(".state")).to_have_text("Live")
    expect(tile.locator("li b").first).to_have_text("red")
    until(page, lambda: red_in_the_middle(page) > 150)
    camera.stall()
    expect(tile.locator(".state")).to_have_text("Lost, reconnecting")
    expect(tile.locator(".numbers")).to_contain_text("last picture")
    until(page, lambda: red_in_the_middle(page) < 100)
    camera.restore()
    expect(tile.locator(".state")).to_have_text("Live")
    until(page, lambda: red_in_the_middle(page) > 150)


def test_the_camera_of_the_device_is_answered_until_it_is_stopped(page: Page) -> None:
    page.get_by_role("button", name="Use this device").click()
    expect(page.locator("#answers li").first).to_be_visible()
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.locator("#video")).to_be_hidden()
    expect(page.locator("#answers li")).to_have_count(0)


def test_a_picture_that_is_chosen_while_the_camera_asks_is_answered(page: Page, shown: Server) -> None:
    page.add_init_script("""
        const media = navigator.mediaDevices, ask = media.getUserMedia.bind(media);
        media.getUserMedia = async wish => {
            await new Promise(done => setTimeout(done, 500));  // the time of a click on "Allow"
            const stream = await ask(wish);
            (window.streams ??= []).push(stream);
            return stream;
        };
    """)
    page.goto(shown.url)
    live = "(window.streams ?? []).filter(stream => stream.active).length"
    page.locator("#eye").dblclick()
    expect(page.locator("#answers li").first).to_be_visible()
    assert page.evaluate(live) == 1
    page.locator("#eye").click()
    assert page.evaluate(live) == 0
    page.locator("#eye").click()
    upload(page, png((0, 0, 255)))
    expect(page.locator("#answers li b").first).to_have_text("blue")
    until(page, lambda: page.evaluate("window.streams.length") == 3)
    expect(page.locator("#shown")).to_be_visible()
    assert page.evaluate(live) == 0
    page.locator("#eye").click()
    expect(page.locator("#video")).to_be_visible()
    expect(page.locator("#answers li").first).to_be_visible()
    page.evaluate("""() => {  // as when it is unplugged
        const [track] = document.getElementById("video").srcObject.getTracks();
        track.stop();
        track.dispatchEvent(new Event("ended"));
    }""")
    expect(page.get_by_role("alert")).to_contain_text("The camera was taken away.")
    expect(page.locator("#empty")).to_be_visible()


def test_a_refused_camera_permission_says_where_to_grant_it(page: Page) -> None:
    page.context.clear_permissions()
    page.locator("#eye").click()
    expect(page.get_by_role("alert")).to_contain_text("Allow it in the browser")
    expect(page.locator("#eye")).to_contain_text("Use this device")


def test_a_refused_camera_does_not_cost_the_picture_its_answer(page: Page) -> None:
    held: list[Route] = []
    page.route("**/classify*", lambda route: held.append(route))
    page.context.clear_permissions()
    upload(page, png((0, 0, 255)))
    until(page, lambda: held)
    page.locator("#eye").click()
    expect(page.get_by_role("alert")).to_contain_text("Allow it in the browser")
    held[0].continue_()
    expect(page.locator("#answers li b").first).to_have_text("blue")


def test_the_keyboard_reaches_everything_in_order(page: Page) -> None:
    expect(page.locator("#to-cameras")).to_be_visible()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached == ["Skip to the picture", "to-cameras", "Model", "API", "file", "eye", "where", "openapi.json"]


def test_anything_but_a_single_picture_file_is_refused(page: Page) -> None:
    with page.expect_file_chooser(timeout=SLOW_MS) as chooser:
        page.locator("#stage").click()
    assert not chooser.value.is_multiple()
    upload(page, b"")
    expect(page.get_by_role("alert")).to_contain_text("The file is empty.")
    expect(page.locator("#empty")).to_be_visible()
    drop = """files => {
        const transfer = new DataTransfer();
        for (const bytes of files) transfer.items.add(new File([new Uint8Array(bytes)], "picture.png"));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }"""
    page.evaluate(drop, [list(png((0, 0, 255))), list(png((255, 0, 0)))])
    expect(page.locator("#answers li b").first).to_have_text("blue")
    expect(page.get_by_role("alert")).to_contain_text("the first of 2 files")
    page.evaluate(drop, [])
    expect(page.get_by_role("alert")).to_contain_text("file")


def test_another_model_is_asked_at_once_and_one_that_went_is_not_taken_for_live(
    browser: Browser, start_server: Callable[..., Server], camera: MjpegServer, tmp_path: Path
) -> None:
    hostile = ("<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "blue" * 40)
    make_tiny_onnx(tmp_path / "one.onnx", labels=hostile, card=card_dict(hostile, training={"data": hostile[0]}))
    make_tiny_onnx(tmp_path / "two.onnx", labels=("rot", "grün", "blau"))
    arguments = ["--models", str(tmp_path), "--reload-by-post", "--camera-model", "one", "--camera-control"]
    running = start_server(*arguments, "--camera", f"door={camera.url}", "--no-access-log")
    opened = browser.new_page(viewport={"width": 320, "height": 600})
    dialogs: list[str] = []
    opened.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    opened.goto(running.url)
    expect(opened.locator("#example")).to_contain_text("model=one")
    expect(opened.locator("#cards")).to_contain_text(f"Trained on{hostile[0]}")
    upload(opened, png((255, 0, 0)), name=hostile[0])
    expect(opened.locator("#answers li b").first).to_have_text(hostile[0])
    opened.locator("#which").select_option("two")
    expect(opened.locator("#answers li b").first).to_have_text("rot")
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.locator("nav").evaluate("nav => nav.getBoundingClientRect().right <= innerWidth - 20")
    tile = opened.locator(".camera")
    tile.scroll_into_view_if_needed()
    expect(tile.locator("li b").first).to_have_text(hostile[0])
    expect(tile.locator(".answers")).to_have_css("opacity", "1")
    for model in ("one", "two"):
        assert httpx.post(f"{running.url}/v2/repository/models/{model}/unload").status_code == 200
    expect(tile.locator(".reason")).to_have_text("no model is loaded")
    expect(tile.locator(".answers")).to_have_css("opacity", "0.45")
    until(opened, lambda: red_in_the_middle(opened) > 150)
    httpx.post(f"{running.url}/cameras/door/stop", timeout=SLOW_MS / 1e3)
    expect(tile.locator(".state")).to_have_text("Stopped")
    expect(tile.locator("canvas")).to_have_css("opacity", "0.35")
    opened.reload()
    expect(opened.locator("#lead")).to_contain_text("No model is loaded")
    assert dialogs == []
    opened.close()


def test_more_cameras_than_a_browser_has_connections_are_all_seen(
    browser: Browser, start_server: Callable[..., Server], camera: MjpegServer, tmp_path: Path
) -> None:
    cameras = [argument for n in range(6) for argument in ("--camera", f"camera-{n}={camera.url}")]
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), *cameras, "--no-access-log")
    opened = browser.new_page(viewport={"width": 1280, "height": 1600})
    opened.goto(running.url)
    reds = """tiles => tiles.map(tile => tile.getContext("2d").getImageData(160, 120, 1, 1).data[0])"""
    until(opened, lambda: min(opened.locator(".camera canvas").evaluate_all(reds) or [0]) > 150)
    upload(opened, png((0, 0, 255)))  # there is a connection left for it
    expect(opened.locator("#answers li b").first).to_have_text("blue")

    def viewers() -> int:
        return sum(camera["viewers"] for camera in httpx.get(f"{running.url}/cameras").json())

    turn = """isHidden => {  // as when another tab is opened, or this one again
        Object.defineProperty(document, "hidden", {value: isHidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    assert viewers()
    opened.evaluate(turn, True)
    until(opened, lambda: viewers() == 0)
    opened.evaluate(turn, False)
    until(opened, viewers)
    opened.close()


def test_docs_are_a_list_of_every_path_without_the_internet(page: Page, shown: Server) -> None:
    page.goto(f"{shown.url}/docs")
    expect(page.locator("#paths")).to_contain_text("/v2/models/{model}/infer")
    expect(page.locator("#paths li").first).to_be_visible()


def test_a_key_is_asked_for_and_opens_everything(
    browser: Browser, start_server: Callable[..., Server], camera: MjpegServer, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    model = make_tiny_onnx(tmp_path / "tiny.onnx")
    running = start_server(str(model), "--api-keys", str(keys), "--camera", f"door={camera.url}")
    opened = browser.new_page(viewport={"width": 320, "height": 600})
    opened.goto(running.url)
    expect(opened.locator("#ask-key")).to_be_visible()
    assert opened.locator("#ask-key").evaluate("dialog => dialog.getBoundingClientRect().left") >= 16
    opened.get_by_label("Key", exact=True).fill(KEY)
    opened.keyboard.press("Enter")
    expect(opened.locator("#cards")).to_contain_text("tiny")
    expect(opened.locator(".camera .state")).to_have_text("Live")
    upload(opened, png((0, 0, 255)))
    expect(opened.locator("#answers li b").first).to_have_text("blue")
    opened.close()

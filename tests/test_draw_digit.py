"""The sketch pad, as people use it: digits drawn with the mouse in Chromium, the answer read."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from conftest import slow_if
from drawing import STROKES

pytest.importorskip("gradio", reason="the app extra is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--use-angle=swiftshader",  # the pad draws by WebGL, here without a GPU
    "--enable-unsafe-swiftshader",
]
DESKTOP, PHONE = {"width": 1000, "height": 640}, {"width": 390, "height": 844}
SECONDS = 60
EMPTY = "The pad must show a digit; it is empty"

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def answers(address):
    try:
        return urlopen(address, timeout=5).status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The app, run as the README says, at a port of its own."""
    folder, port = tmp_path_factory.mktemp("app"), free_port()
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, str(ROOT / "examples" / "draw_digit.py")]
    with (folder / "log").open("w+") as log:
        app = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            address, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
            while not answers(address):
                if app.poll() is not None or time.monotonic() > end:
                    pytest.fail((folder / "log").read_text())
                time.sleep(0.2)
            yield address
        finally:
            app.terminate()
            app.wait(SECONDS)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=False
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens the app in a window of that size, and waits until the pad is ready."""
    pages = []

    def visit(**options):
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(1000 * SECONDS)
        page.goto(address)
        playwright.expect(page.get_by_role("button", name="Undo").first).to_be_enabled(
            timeout=1000 * SECONDS
        )
        return page

    yield visit
    for page in pages:
        page.close()


def stroke(page, line):
    """Moves the mouse, its button down, through points on a square of side 1 inside the pad."""
    box = page.locator("canvas").first.bounding_box()
    side = 0.7 * min(box["width"], box["height"])
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    (x, y), *rest = [(left + x * side, top + y * side) for x, y in line]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(x, y, steps=2)
    page.mouse.up()


def draw(page, digit):
    plain = {1: [[(0.55, 0.1), (0.45, 0.9)]]}  # a 1 with a long flag is taken for a 7
    for line in (STROKES | plain)[digit]:
        stroke(page, line)


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def expect_answer(page, text):
    """Asks what the drawing is, and waits for that answer."""
    press(page, "Recognise")
    answer = page.get_by_test_id("label-output-value")
    playwright.expect(answer).to_have_text(text, timeout=1000 * SECONDS)


# the tests below draw 2, 3 and 7
@pytest.mark.parametrize("digit", [slow_if(digit != 4, digit) for digit in range(10)])
def test_a_drawn_digit_is_recognised(visit, digit):
    page = visit(viewport=DESKTOP)
    draw(page, digit)
    expect_answer(page, str(digit))


def test_an_empty_pad_is_reported(visit):
    expect_answer(visit(viewport=DESKTOP), EMPTY)


@pytest.mark.parametrize("button", ["Clear", slow_if(True, "Clear canvas")])
def test_a_pad_is_cleared_and_drawn_on_again(visit, button):
    page = visit(viewport=DESKTOP)
    draw(page, 7)
    expect_answer(page, "7")
    press(page, button)
    playwright.expect(page.get_by_test_id("label-output-value")).to_have_count(0)
    answer = page.get_by_test_id("label-output-value")
    for _ in range(10):  # the pad's new page may come after the answer is gone, over the drawing
        page.wait_for_timeout(1000)
        draw(page, 2)
        press(page, "Recognise")
        page.wait_for_timeout(2000)
        if answer.inner_text() != EMPTY:
            break
    playwright.expect(answer).to_have_text("2", timeout=1000 * SECONDS)


def test_a_scribble_is_reported(visit):
    page = visit(viewport=DESKTOP)
    stroke(page, [(x / 10, 0.1 + 0.8 * (x % 2)) for x in range(11)])
    expect_answer(page, "The pad shows no digit that the network knows")


def test_two_digits_are_reported(visit):
    page = visit(viewport=DESKTOP)
    for x in (0.1, 0.9):
        stroke(page, [(x, 0.2), (x, 0.8)])
    expect_answer(page, "The pad must show one digit; it shows several")


def test_the_page_sends_no_request_to_another_host(browser, address):
    page = browser.new_page()
    asked = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.goto(address, wait_until="networkidle", timeout=1000 * SECONDS)
    page.close()
    assert asked <= {urlsplit(address).netloc, ""}  # nothing stands before blob: and data:
    assert asked


@pytest.mark.slow
def test_the_page_fits_desktop_and_phone(visit, request, tmp_path):
    """Also takes the pictures to be looked at, with --screenshots."""
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    for name, options in (
        ("draw_digit.png", {"viewport": DESKTOP}),
        ("draw_digit_phone.png", {"viewport": PHONE}),
    ):
        page = visit(**options)
        draw(page, 3)
        expect_answer(page, "3")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= options["viewport"]["width"]
        page.screenshot(path=folder / name)

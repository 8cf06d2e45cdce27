"""Pages in a real Chromium; importing this skips the tests where there is none."""

import base64
import shutil

import numpy as np
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]
DESKTOP, PHONE = {"width": 1000, "height": 760}, {"width": 390, "height": 844}

if not CHROMIUM:
    pytest.skip("there is no Chromium", allow_module_level=True)


def place(page, line, left=0.25, side=0.5):
    """Points on a square of side 1 as points of the window, inside the pad.

    `left` and `side` are parts of the pad's width.
    """
    box = page.locator("#pad").bounding_box()
    size = side * box["width"]
    x0, y0 = box["x"] + left * box["width"], box["y"] + (box["height"] - size) / 2
    return [(x0 + x * size, y0 + y * size) for x, y in line]


def stroke(page, line, **where):
    """Moves the mouse, its button down."""
    (x, y), *rest = place(page, line, **where)
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(x, y, steps=2)
    page.mouse.up()


def draw(page, lines, **where):
    for line in lines:
        stroke(page, line, **where)


def reading(page):
    return page.locator("#reading").inner_text()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def logits(page, images):
    """What the page's network gives for uint8 images (N, 1, 28, 28): an array (N, classes)."""
    sent = base64.b64encode(images.numpy().tobytes()).decode()
    found = page.evaluate(
        """sent => {
            const images = Uint8Array.from(atob(sent), c => c.charCodeAt(0)), found = [];
            for (let at = 0; at < images.length; at += 784)
                found.push(logits(images.subarray(at, at + 784)));
            return found;
        }""",
        sent,
    )
    return np.array(found)

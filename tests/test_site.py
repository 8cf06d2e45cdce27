"""The built documentation: MNIST_ZOO_SITE names its folder."""

import os
import re
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

FOLDER = os.environ.get("MNIST_ZOO_SITE")

pytestmark = pytest.mark.skipif(not FOLDER, reason="MNIST_ZOO_SITE names no folder of a build")

WIDTHS = (390, 1440, 1920)  # a phone, a laptop, a desk
# What is wider than the window, and where its text column ends, without a scroll bar of its own.
TOO_WIDE = """() => {
    const article = document.querySelector("article") || document.body, found = [];
    const scrolls = element => {
        for (let e = element; e && e !== article; e = e.parentElement)
            if (["auto", "scroll"].includes(getComputedStyle(e).overflowX)) return true;
        return false;
    };
    const edge = article.getBoundingClientRect().right + 16;  // headings have so wide a margin
    if (document.documentElement.scrollWidth > innerWidth + 1) found.push("the page");
    for (const e of article.querySelectorAll("table, pre, img, iframe, dt, h1, h2, p, li"))
        if (e.getBoundingClientRect().right > edge && !scrolls(e))
            found.push(`${e.tagName} ${e.textContent.slice(0, 40)}`);
    return found;
}"""


def pages():
    """Every page but the source code."""
    root = Path(FOLDER)
    return [page for page in sorted(root.rglob("*.html")) if "_modules" not in page.parts]


@cache
def anchors(page):
    """The places of a page that links may name."""
    return {unescape(name) for name in re.findall(r'\bid="([^"]+)"', page.read_text("utf-8"))}


def test_internal_links_and_images_exist():
    broken = set()
    for page in pages():
        for link in re.findall(r'\b(?:href|src)="([^"]+)"', page.read_text("utf-8")):
            parts = urlsplit(unescape(link))
            if parts.scheme or parts.netloc or page.name == "digits.html":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            fragment = unquote(parts.fragment)
            if not target.exists() or (
                fragment and target.suffix == ".html" and fragment not in anchors(target)
            ):
                broken.add(f"{page.relative_to(FOLDER)}: {link}")
    assert not broken


def test_every_image_is_described():
    for page in pages():
        for image in re.findall(r"<img [^>]*>", page.read_text("utf-8")):
            assert re.search(r'alt="[^"]', image) or 'alt=""' in image, f"{page}: {image}"
            assert not re.search(r'alt="(\.\./|[\w/]+\.(png|svg))', image), f"{page}: {image}"


@pytest.fixture(scope="module")
def browser():
    browsing = pytest.importorskip("browsing")
    with browsing.playwright.sync_playwright() as driver:
        options = {"args": browsing.FLAGS, "chromium_sandbox": False}
        chromium = driver.chromium.launch(executable_path=browsing.CHROMIUM, **options)
        yield chromium
        chromium.close()


def test_nothing_is_wider_than_the_window(browser):
    """It opens every page, but only some of the networks and of the reference: they are alike."""
    root, wide = Path(FOLDER), []
    some = [page for page in pages() if page.parent.name not in ("reference", "models")]
    some += [root / "models" / f"{name}.html" for name in ("index", "mini_resnet", "resnet152")]
    names = ("index", "networks", "mnist_zoo.predict", "mnist_zoo.Recipe", "mnist_zoo.Classifier")
    some += [root / "reference" / f"{name}.html" for name in names]
    tab = browser.new_page()
    for page in some:
        tab.goto(page.as_uri(), wait_until="load")
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 900})
            wide += [f"{page.name} at {width}: {what}" for what in tab.evaluate(TOO_WIDE)]
    assert not wide

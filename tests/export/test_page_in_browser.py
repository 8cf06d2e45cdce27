"""The page in Chromium: drawn on as people do, and its functions against those of Python."""

import base64
from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import CHROMIUM, DESKTOP, FLAGS, PHONE, draw, logits, place, playwright, press
from browsing import reading as reading_of
from conftest import slow_if
from drawing import STROKES
from export_cases import SMALL, STRANGERS
from kit import images_and_logits

from mnist_zoo import (
    PictureError,
    as_mnist,
    get_model,
    list_models,
    load_mnist,
    predict,
)
from mnist_zoo.export import export

SHAPE = (1, 28, 28)
PRETRAINED = list_models(pretrained=True, max_params=1_000_000)
STYLES = {
    "plain": lambda lines: lines,
    "slanted": lambda lines: [[(x + 0.25 * (0.5 - y), y) for x, y in line] for line in lines],
    "narrow": lambda lines: [[(0.3 + 0.6 * x, y) for x, y in line] for line in lines],
    "small": lambda lines: [[(0.3 + 0.25 * x, 0.1 + 0.25 * y) for x, y in line] for line in lines],
}
BARRED = [*STROKES[7], [(0.35, 0.5), (0.7, 0.5)]]
TWO_STROKES = {
    4: [[(0.35, 0.1), (0.2, 0.55), (0.8, 0.55)], [(0.65, 0.1), (0.62, 0.95)]],
    5: [[(0.3, 0.12), *STROKES[5][0][2:]], [(0.3, 0.12), (0.75, 0.1)]],
}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=False
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, html):
    """Opens a page in a window of that size; at the end, no script may have failed."""
    pages, problems = [], []

    def visit(path=html, viewport=DESKTOP, **options):
        page = browser.new_page(viewport=viewport, **options)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield visit
    for page in pages:
        page.close()
    assert not problems


# --- drawn on ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("viewport", "style"),
    [
        slow_if((size, style) != ("desktop", "plain"), viewport, style)
        for size, viewport in (("desktop", DESKTOP), ("phone", PHONE))
        for style in STYLES
    ],
)
def test_a_drawn_digit_is_read(visit, viewport, style, request, tmp_path):
    """Also takes the pictures to be looked at, with --screenshots."""
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    page = visit(viewport=viewport)
    for digit, lines in STROKES.items():
        draw(page, STYLES[style](lines))
        page.screenshot(path=folder / f"drawn_{digit}_{style}_{viewport['width']}.png")
        assert reading_of(page) == str(digit)
        press(page, "Clear")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "digit"), [(BARRED, "7"), *((v, str(k)) for k, v in TWO_STROKES.items())]
)
def test_strokes_of_one_digit_are_read_together(visit, lines, digit):
    page = visit()
    draw(page, lines)
    assert reading_of(page) == digit


@pytest.mark.parametrize("order", [slow_if(True, (0, 1, 2, 3)), (2, 0, 3, 1)])
def test_several_digits_are_read_from_left_to_right(visit, order):
    page = visit()
    for at in order:
        draw(page, STROKES[(2, 0, 2, 6)[at]], left=0.02 + 0.24 * at, side=0.22)
    assert reading_of(page) == "2026"
    assert page.locator("#found > li").count() == 4
    draw(page, [[(0, 0)]], left=0.99)  # a slip of the pen
    assert reading_of(page) == "2026"


@pytest.mark.slow
def test_two_drawings_in_a_row_after_clear_are_never_lost(visit):
    page = visit()
    for time in range(5):
        for digit in (time, (time + 3) % 10):
            draw(page, STROKES[digit])
            assert reading_of(page) == str(digit)
            press(page, "Clear")
            assert reading_of(page) == ""
            assert page.locator("#found > li").count() == 0


def test_undo_takes_back_strokes_and_clear(visit):
    page = visit()
    draw(page, STROKES[7])
    draw(page, STROKES[1], left=0.7)
    assert reading_of(page) == "71"
    press(page, "Undo")
    assert reading_of(page) == "7"
    press(page, "Clear")
    press(page, "Undo")
    assert reading_of(page) == "7"
    press(page, "Undo")
    assert reading_of(page) == ""
    undo = page.get_by_role("button", name="Undo")
    playwright.expect(undo).to_be_disabled()
    playwright.expect(page.get_by_role("button", name="Clear")).to_be_disabled()
    page.keyboard.press("Control+z")
    assert reading_of(page) == ""


@pytest.mark.slow
def test_keys_undo_and_clear(visit):
    page = visit()
    draw(page, STROKES[3])
    page.keyboard.press("Escape")
    assert reading_of(page) == ""
    page.keyboard.press("Control+z")
    assert reading_of(page) == "3"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the second button
    assert reading_of(page) == ""


@pytest.mark.slow
def test_a_finger_draws_and_a_second_one_does_not_disturb_it(browser, html):
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(html.as_uri())
    touch = context.new_cdp_session(page)

    def send(kind, *points):
        touched = [{"x": x, "y": y, "id": at} for at, (x, y) in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})

    (first, *rest) = place(page, STROKES[2][0])
    palm = place(page, [(0.9, 0.9)])[0]
    send("touchStart", (0, first))
    for at, point in enumerate(rest):
        send("touchMove", (0, point))
        if at == 1:
            send("touchStart", (0, point), (1, palm))
        if at == 3:
            send("touchMove", (0, point), (1, (palm[0] - 40, palm[1])))
            send("touchEnd", (0, point))
    send("touchEnd")
    assert reading_of(page) == "2"
    assert page.evaluate("scrollY") == 0  # the page did not move under the finger
    context.close()


@pytest.mark.slow
def test_top_three_are_shown_with_the_image_that_the_network_sees(visit, model):
    page = visit()
    draw(page, STROKES[9])
    (image,) = page.evaluate("recognise().map(({image}) => Array.from(image))")
    wanted = predict(model, torch.tensor(image, dtype=torch.uint8).view(1, 28, 28))
    rows = page.locator("#found ol li")
    assert rows.count() == 3
    for at, (digit, probability) in enumerate(wanted.top):
        name, percent = rows.nth(at).inner_text().split("\n")[0], rows.nth(at).inner_text()
        assert name.strip().startswith(str(digit))
        assert f"{100 * probability:.1f} %" in percent
    seen = page.evaluate(
        "Array.from(document.querySelector('#found canvas').getContext('2d')"
        ".getImageData(0, 0, 28, 28).data).filter((_, i) => i % 4 == 0)"
    )
    assert seen == image


SCRIBBLES = {
    "star": [[(0.5, 0.05), (0.76, 0.86), (0.07, 0.36), (0.93, 0.36), (0.24, 0.86), (0.5, 0.05)]],
    "cross": [[(0.1, 0.1), (0.9, 0.9)], [(0.9, 0.1), (0.1, 0.9)]],
    "hash": [
        *([(x, 0.1), (x, 0.9)] for x in (0.3, 0.7)),
        *([(0.1, y), (0.9, y)] for y in (0.3, 0.7)),
    ],
    "zigzag": [[(0.1 + 0.8 * (at % 2), 0.05 + 0.1 * at) for at in range(10)]],
}


@pytest.mark.slow
def test_scribbles_are_told_as_no_digits(visit, request, tmp_path):
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    page, told = visit(), 0
    for name, lines in SCRIBBLES.items():
        draw(page, lines)
        page.screenshot(path=folder / f"scribble_{name}.png")
        if reading_of(page) == "Not a digit?":
            told += 1
            assert page.locator("#found > li").inner_text().startswith("Not a digit?")
        press(page, "Clear")
    assert told >= len(SCRIBBLES) - 1


@pytest.mark.slow
def test_what_is_no_digit_is_a_question_mark_among_digits(visit):
    page = visit()
    assert page.evaluate("strange([-0.1])") == [True]
    assert page.evaluate("strange([0.9, -0.2, -0.4, 0.8])") == [False, False, True, False]
    assert page.evaluate("strange([null, null])") == [False, False]
    page.evaluate("void (strange = values => values.map((_, i) => i === 1))")
    for at, digit in enumerate((2, 8, 0)):
        draw(page, STROKES[digit], left=0.05 + 0.31 * at, side=0.28)
    assert reading_of(page) == "2?0"
    assert page.get_by_text("Not a digit?").count() == 1


def test_the_page_tells_the_familiarity_that_the_network_does(visit, model, digits):
    images = torch.cat([digits.images[:40], 255 - digits.images[:10]])
    with torch.no_grad():
        _, wanted = model.with_familiarity(model.preprocessing(images))
    script = "images => images.map(image => familiarity(computed(image)))"
    found = torch.tensor(visit().evaluate(script, images.flatten(1).tolist()))
    assert (found - wanted)[:40].abs().max() < 0.05  # a page holds six bits of each feature
    assert found[:40].median() > 0.5
    assert found[40:].max() < 0


# --- the page ------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing_but_itself(browser, html):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(html.as_uri(), wait_until="networkidle")
    draw(page, STROKES[5])
    page.close()
    assert asked == [html.as_uri()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("viewport", "scheme"),
    [
        (DESKTOP, "light"),
        ({"width": 320, "height": 568}, "dark"),
        slow_if(True, DESKTOP, "dark"),
        slow_if(True, PHONE, "light"),
        slow_if(True, PHONE, "dark"),
    ],
)
def test_the_page_fits_and_follows_the_scheme(visit, viewport, scheme, request, tmp_path):
    """Also takes the pictures to be looked at, with --screenshots."""
    page = visit(viewport=viewport, color_scheme=scheme)
    for at in range(3):
        draw(page, STROKES[(2, 0, 6)[at]], left=0.05 + 0.3 * at, side=0.28)
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    page.screenshot(path=folder / f"page_{viewport['width']}_{scheme}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    background, ink = page.evaluate(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    lightness = [sum(map(int, c[4:-1].split(","))) / 765 for c in (background, ink)]
    assert (lightness[0] > lightness[1]) == (scheme == "light")
    assert abs(lightness[0] - lightness[1]) > 0.6
    pad = page.evaluate(
        "Array.from(pen.getImageData(0, 0, 1200, 800).data).filter((v, i, all) => "
        "i % 4 == 0 && all[i + 3] == 255).slice(0, 1)"
    )
    assert (pad[0] < 128) == (scheme == "light")


@pytest.mark.slow
def test_a_screen_reader_finds_names_and_hears_the_reading(visit):
    page = visit()
    draw(page, STROKES[4])
    tree = page.locator("main").aria_snapshot()
    for line in (
        'heading "Draw digits"',
        'img "Draw digits"',
        'button "Undo"',
        'button "Clear"',
        "What the drawing shows",
        "What the network sees",
    ):
        assert line in tree, tree
    assert page.locator("#reading").get_attribute("aria-live") == "polite"
    assert page.evaluate("document.documentElement.lang") == "en"


# --- against Python ------------------------------------------------------------------------------


def some_strokes(random, digit):
    """A digit as strokes on the pad, of any size, bent and shaken."""
    bend = np.eye(2) + random.normal(0, 0.12, (2, 2))
    size, at = random.uniform(20, 380), random.uniform(0, 100, 2)

    def changed(line):
        points = (np.array(line) - 0.5) @ bend + 0.5 + random.normal(0, 0.01, (len(line), 2))
        return (points * size + at).tolist()

    return [changed(line) for line in STROKES[digit]]


@pytest.mark.slow
@pytest.mark.parametrize("count", [50, 2000])
def test_drawings_become_the_images_that_as_mnist_makes(visit, count):
    page, random = visit(), np.random.default_rng(count)
    drawings = [some_strokes(random, at % 10) for at in range(count)]
    found = page.evaluate(
        """drawings => drawings.map(strokes => {
            const raster = inkOf(strokes), {ink, width, height} = raster;
            const sent = btoa(Array.from(ink, value => String.fromCharCode(value)).join(""));
            return [width, height, sent, Array.from(prepare(raster))];
        })""",
        drawings,
    )
    refused, gaps = 0, []
    for width, height, sent, image in found:
        ink = np.frombuffer(base64.b64decode(sent), np.uint8).reshape(height, width)
        assert max(ink.shape) <= 256
        try:
            wanted = as_mnist(255 - ink)
        except PictureError:
            refused += 1
            continue
        gaps.append(wanted.flatten().int() - torch.tensor(image))
    off = torch.stack(gaps).abs()
    alike = off.amax(1) <= 1  # a sum in another order may be rounded otherwise
    assert (~alike).sum() <= 0.002 * count  # what as_mnist sees as a photo, the page does not
    assert (off[alike] > 0).float().mean() <= 1e-4
    assert refused <= 0.01 * count


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SMALL if name not in PRETRAINED])
def test_the_network_in_the_page_computes_what_pytorch_does(visit, name, tmp_path, digits):
    model = get_model(name).eval()
    export(model, tmp_path / "a.html", "page")
    compare(visit(tmp_path / "a.html"), model, digits.images[:30])


def test_the_page_passes_the_conformance_kit(visit, tmp_path):
    images, wanted = images_and_logits(tmp_path, "mini_resnet")
    assert np.abs(logits(visit(), torch.from_numpy(images)) - wanted).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_networks_compute_the_same_in_the_page(visit, name, tmp_path, digits):
    model = STRANGERS[name]().eval()
    export(model, tmp_path / "a.html", "page", input_size=(1, 28, 28), classes=list("abcdefghij"))
    page = visit(tmp_path / "a.html")
    compare(page, model, digits.images[:30])
    draw(page, STROKES[0])
    assert reading_of(page) in "abcdefghij"


def compare(page, model, images):
    from mnist_zoo.pictures.preprocessing import preprocessing_of

    with torch.no_grad():
        wanted = model(preprocessing_of(model)(images)).numpy()
    assert np.abs(logits(page, images) - wanted).max() <= 1e-3 * max(1, np.abs(wanted).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETRAINED)
def test_test_digits_are_the_same_in_the_page(visit, name, tmp_path):
    """On some of them; examples/formats.py counts on all."""
    model = get_model(name, weights="mnist").eval()
    images = load_mnist("test").images[:1000]
    export(model, tmp_path / "a.html", "page")
    found = torch.from_numpy(logits(visit(tmp_path / "a.html"), images))
    with torch.inference_mode():
        wanted = model(model.preprocessing(images))
    assert torch.equal(found.argmax(1), wanted.argmax(1))

"""Photos of single digits on papers of many kinds: what is read, and what is told."""

import io
import os
from contextlib import suppress

import numpy as np
import paper_cases
import pytest
import torch.nn.functional as F
from conftest import slow_if
from PIL import Image, ImageDraw

from mnist_zoo import PictureError, as_mnist, load_mnist, mini_resnet, predict
from mnist_zoo.pictures.explanation import explain
from mnist_zoo.pictures.lines import without_lines
from mnist_zoo.pictures.paper import contrast, light_of
from mnist_zoo.pictures.photos import find_on_photo

pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
FULL = os.environ.get("MNIST_ZOO_DATA")
BAR = 0.98  # of the photos of each kind


@pytest.fixture(scope="module")
def model():
    return mini_resnet(weights="mnist")


def wrong(model, kind, seeds, source):
    """What is read wrongly: seed, digit and answer of each photo."""
    mistakes = []
    for seed in seeds:
        picture, digit = paper_cases.photo(kind, seed, source)
        try:
            answer = str(predict(model, picture).digit)
        except PictureError as error:
            answer = str(error)
        is_right = "several" in answer if kind == "several" else answer == str(digit)
        if not is_right:
            mistakes.append((seed, digit, answer))
    return mistakes


@pytest.mark.parametrize("kind", paper_cases.KINDS)
def test_some_photos_of_each_kind_are_read(model, kind):
    assert len(wrong(model, kind, range(3), "sample")) <= 1


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="needs all of MNIST: MNIST_ZOO_DATA")
@pytest.mark.parametrize("kind", paper_cases.KINDS)
def test_photos_of_each_kind_are_read(model, kind):
    count = 50
    mistakes = wrong(model, kind, range(1000, 1000 + count), "mnist")
    assert len(mistakes) <= (1 - BAR) * count, mistakes


@pytest.fixture(scope="module")
def digits():
    return load_mnist("test", source="sample")


def resized(images, side):
    return F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)


@pytest.mark.parametrize(
    ("change", "share"),
    [
        (lambda x: 255 - x.roll((2, -1), (2, 3)), 0.02),
        (lambda x: F.pad(resized(x, 22), (3, 3, 3, 3)), 0.03),
        (lambda x: 200 - resized(x, 56) / 2, 0.02),
    ],
    ids=["moved", "smaller", "larger"],
)
def test_few_small_images_on_even_paper_are_looked_at_as_photos(monkeypatch, digits, change, share):
    looked = []

    def look(image, small):
        looked.append(image)
        return find_on_photo(image, small)

    monkeypatch.setattr("mnist_zoo.pictures.mnist_form.find_on_photo", look)
    with suppress(PictureError):  # some digits are of two parts
        as_mnist(change(digits.images))
    assert len(looked) <= share * len(digits)


def on_sheet(image, mark, contrast):
    """A large faint digit on even paper, 600×640, with a small dark mark beside it."""
    page = Image.new("L", (600, 640), 240)
    ink = Image.fromarray(image.numpy()).resize((420, 420), Image.Resampling.BICUBIC)
    page.paste(240 - contrast, (60, 90), ink)
    draw = ImageDraw.Draw(page)
    draw.rectangle(mark, fill=30)
    return page


@pytest.mark.parametrize(
    ("mark", "contrast"),
    [((30, 30, 60, 60), 70), ((560, 0, 600, 640), 20), ((570, 10, 580, 16), 40)],
    ids=["dot", "edge of a table", "speck"],
)
def test_a_small_dark_mark_beside_a_large_faint_digit_is_not_read(model, digits, mark, contrast):
    chosen = digits[::50]
    found = predict(model, [on_sheet(image[0], mark, contrast) for image in chosen.images])
    assert sum(one.digit == label for one, label in zip(found, chosen.labels, strict=True)) >= 19


def in_half_shadow(image, ink):
    """A page with a digit of this grey value on the rim of a shadow that is almost as dark."""
    page = Image.new("L", (400, 400), 220)
    page.paste(ink, (70, 90), Image.fromarray(image.numpy()).resize((240, 240)))
    rim = np.arange(400) * 0.1 + 130 - np.arange(400)[:, None] * 0.1
    dim = 1 - 0.6 / (1 + np.exp((np.arange(400) - rim) / 10))
    return Image.fromarray((np.asarray(page) * dim).astype(np.uint8))


@pytest.mark.parametrize("ink", [60, slow_if(True, 80)])
def test_digits_on_the_rim_of_a_shadow_are_read(model, digits, ink):
    chosen = digits[::50]
    found = predict(model, [in_half_shadow(image[0], ink) for image in chosen.images])
    assert sum(one.digit == label for one, label in zip(found, chosen.labels, strict=True)) >= 19


def with_bar(image, tilt):
    """A page with a digit and a longer bar below it, as an underline or a phone's home bar."""
    page = Image.new("L", (320, 400), 255)
    page.paste(0, (90, 100), Image.fromarray(image.numpy()).resize((140, 140)))
    ImageDraw.Draw(page).line((60, 300, 260, 300 + tilt), fill=0, width=6)
    return page


@pytest.mark.parametrize("tilt", [0, 9])
def test_a_bar_below_a_digit_is_left_out(model, digits, tilt):
    chosen = digits[::50]
    found = predict(model, [with_bar(image[0], tilt) for image in chosen.images])
    assert sum(one.digit == label for one, label in zip(found, chosen.labels, strict=True)) >= 19


def with_border(image, size):
    """A light page of this size with a digit and a dark rim along its edges."""
    page = Image.new("L", size, 255)
    side = min(size) // 2
    place = ((size[0] - side) // 2, (size[1] - side) // 2)
    page.paste(0, place, Image.fromarray(image.numpy()).resize((side, side)))
    ImageDraw.Draw(page).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=0, width=3)
    return page


@pytest.mark.parametrize("size", [(300, 300), (500, 200), (200, 500), (600, 100)])
def test_a_page_with_a_rim_is_no_digit(model, digits, size):
    chosen = digits[::50]
    found = predict(model, [with_border(image[0], size) for image in chosen.images])
    assert sum(one.digit == label for one, label in zip(found, chosen.labels, strict=True)) >= 19


@pytest.mark.parametrize("ground", [0, slow_if(True, 255)])
def test_digits_on_small_cards_are_read(model, digits, ground):
    chosen = digits[::20]
    cards = F.pad((ground - 255 + chosen.images.int()).abs(), (6, 6, 6, 6), value=ground)
    right = 0
    for card, label in zip(cards, chosen.labels, strict=True):
        with suppress(PictureError):
            right += predict(model, card).digit == label
    assert right > 0.85 * len(chosen)


def test_what_reaches_in_opposite_a_digit_that_is_cut_off_is_left_out():
    page = np.zeros((28, 28), np.uint8)
    page[9:, 13:16] = 255
    with_rest = page.copy()
    with_rest[:2, 11:18] = 255
    assert as_mnist(with_rest).equal(as_mnist(page))


def ruled(strength):
    page = np.full((200, 240), 0.0, np.float32)
    for row in range(15, 200, 30):
        page[row : row + 2] = strength
    return page


@pytest.mark.parametrize("strength", [0.3, 0.6, 0.9])
def test_lines_are_taken_out_and_strokes_that_cross_them_stay(strength):
    stroke = np.zeros((200, 240), np.float32)
    stroke[40:160, 100:108] = 0.9
    left, count = without_lines(np.maximum(ruled(strength), stroke), 0.1)
    assert count == 7
    assert (left[:, :90] < 0.1).all()
    assert (left[42:158, 102:106] > 0.29).all()


def test_a_map_without_lines_is_unchanged():
    stroke = np.zeros((200, 240), np.float32)
    stroke[10:190, 100:108] = 0.9
    left, count = without_lines(stroke, 0.1)
    assert count == 0
    assert (left == stroke).all()


@pytest.mark.parametrize("is_light", [False, True])
@pytest.mark.parametrize("angle", [0, 3, 20])
def test_the_straight_edge_of_a_sheet_is_no_ink(angle, is_light):
    y, x = np.mgrid[:200, :200].astype(np.float32)
    slope = np.tan(np.deg2rad(angle))
    page = np.where(x + slope * y > 90 + 100 * slope, 220, 40).astype(np.float32)
    assert contrast(light_of(page), is_light, 0.2)[30:170, 30:170].max() < 0.05


def test_light_multiplies():
    page = np.full((128, 128), 200, np.float32)
    page[40:80, 60:66] = 60
    found = contrast(light_of(page), False, 0.2)
    ramp = np.linspace(0.6, 1, 128, dtype=np.float32)[None]
    assert np.abs(contrast(light_of(page * ramp), False, 0.2) - found).max() < 0.06


def drawn_seven(side=200):
    page = Image.new("L", (side, side), 230)
    draw = ImageDraw.Draw(page)
    draw.line([(60, 50), (140, 50), (90, 150)], fill=30, width=10, joint="curve")
    return page


def test_a_clear_image_is_told():
    seen = explain(drawn_seven())
    assert seen.steps == ("even paper with nothing else on it",)
    assert seen.digit.equal(as_mnist(drawn_seven())[0, 0])
    assert seen.place == (0, 199, 0, 199)
    assert not seen.problem


def test_a_small_light_digit_in_a_corner_is_told():
    page = Image.new("L", (800, 800), 30)
    page.paste(drawn_seven().point(lambda value: 255 - value).resize((120, 120)), (600, 40))
    seen = explain(page)
    assert any("light ink" in step for step in seen.steps)
    assert any("from nearer" in step for step in seen.steps)
    top, bottom, left, right = seen.place
    assert top < 70 < 130 < bottom < 260
    assert 500 < left < 636 < 684 < right
    assert seen.digit.equal(as_mnist(page)[0, 0])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_error_tells_how_many_digits_were_seen(count):
    page = Image.new("L", (200 * count, 200), 230)
    for place in range(count):
        page.paste(drawn_seven(), (200 * place, 0))
    with pytest.raises(PictureError, match=rf"several \({count} seen\), which read_digits reads"):
        as_mnist(page)


def test_small_digits_on_a_sheet_are_not_taken_for_one():
    photo = Image.new("L", (400, 300), 60)
    photo.paste(230, (60, 40, 340, 260))
    for place in range(3):
        photo.paste(drawn_seven().resize((50, 50)), (90 + 80 * place, 120))
    with pytest.raises(PictureError, match=r"several \(3 seen\)"):
        as_mnist(photo)


def test_an_upright_bar_is_a_sharp_stroke():
    bars = np.zeros((80, 120), np.float32)
    bars[20:61, 40:45] = bars[20:61, 80:85] = 255
    with pytest.raises(PictureError, match=r"several \(2 seen\)"):
        as_mnist(bars)


def test_what_is_refused_is_told():
    page = Image.new("L", (400, 200), 230)
    page.paste(drawn_seven(), (0, 0))
    page.paste(drawn_seven(), (200, 0))
    assert "several" in explain(page).problem
    assert "empty" in explain(Image.new("L", (50, 50), 200)).problem


def test_mnist_images_are_told_and_several_are_refused():
    digits = load_mnist("test", source="sample").images[:1]
    seen = explain(digits[0])
    assert seen.steps == ("in MNIST's format already",)
    assert seen.digit.equal(digits[0, 0])
    assert explain(255 - digits[0]).digit.equal(digits[0, 0])
    with pytest.raises(ValueError, match="`picture` must be one image"):
        explain([drawn_seven(), drawn_seven()])
    with pytest.raises(PictureError, match="holds NaN"):
        explain(np.full((30, 30), np.nan))


def test_large_jpeg_files_are_decoded_no_larger_than_needed(monkeypatch):
    page = drawn_seven().resize((3000, 3000))
    content = io.BytesIO()
    page.save(content, "JPEG", quality=90)
    sizes = []
    convert = Image.Image.load

    def load(image):
        sizes.append(image.size)
        return convert(image)

    monkeypatch.setattr(Image.Image, "load", load)
    small = as_mnist(content.getvalue())
    assert max(map(max, sizes)) <= 1500
    assert (small.float() - as_mnist(page).float()).abs().mean() < 3

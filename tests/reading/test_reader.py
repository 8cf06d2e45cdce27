"""Tests of `read_digits`: arguments, boxes, marks, rows and gaps."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from reading_cases import INK, Writer, sample_writers

from mnist_zoo import (
    PictureError,
    Preprocessing,
    lenet5,
    load_mnist,
    mini_resnet,
    predict,
    read_digits,
)


@pytest.fixture(scope="module")
def model():
    return mini_resnet(weights="mnist")


@pytest.fixture(scope="module")
def known():
    """One clear image (28, 28) of each digit."""
    digits = load_mnist(source="sample")
    found, best = {}, mini_resnet(weights="mnist")
    for digit in range(10):
        images = digits.images[digits.labels == digit][:50]
        sure = [result.probabilities[digit] for result in predict(best, images)]
        found[digit] = images[int(np.argmax(sure)), 0].numpy()
    return found


def page(known, *lines, pitch=28, scale=1, light=False):
    """Lines of digits on white paper, or light on black; "." is nothing."""
    width = max(map(len, lines))
    ink = np.zeros((32 * len(lines) + 8, pitch * width + 8), np.uint8)
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            if character.isdigit():
                y, x = 4 + 32 * row, 4 + pitch * column
                window = ink[y : y + 28, x : x + 28]
                np.maximum(window, known[int(character)], out=window)
    picture = Image.fromarray(ink if light else 255 - ink)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC)


def test_rows_become_lines(model, known):
    assert str(read_digits(model, page(known, "2017", "35", "9408"))) == "2017\n35\n9408"


def test_light_ink_on_dark_paper(model, known):
    assert read_digits(model, page(known, "640", light=True)).text == "640"


@pytest.mark.parametrize("ground", [255, 0])
def test_rows_in_pens_of_several_colours(model, known, ground):
    """Each of them is as light as the paper in one colour, or as dark as a black one."""
    lines = ("2017", "3591", "9408")
    pens = [(230, 120, 10), (20, 60, 200), (10, 140, 40)]
    ink = np.asarray(page(known, *lines, scale=2, light=True))[..., None] / 255
    bands = np.arange(len(ink)) * len(pens) // len(ink)
    pen = np.array(pens)[bands][:, None] if ground else 255 - np.array(pens)[bands][:, None]
    picture = (ground * (1 - ink) + pen * ink).round().astype(np.uint8)
    assert read_digits(model, picture).text == "2017\n3591\n9408"


def test_wide_gaps_become_spaces(model, known):
    reading = read_digits(model, page(known, "21...70", "358...6"))
    assert reading.text == "21 70\n358 6"
    assert [number.text for number in reading.numbers] == ["21", "70", "358", "6"]


def test_even_cells_are_one_number(model, known):
    assert read_digits(model, page(known, "2604", "7153", pitch=44)).text == "2604\n7153"


@pytest.mark.parametrize("scale", [1, 3])
def test_boxes_lie_around_the_digits_in_the_pictures_own_pixels(model, known, scale):
    reading = read_digits(model, page(known, "38", scale=scale))
    for digit, place in zip(reading.digits, (0, 1), strict=True):
        seen = np.argwhere(known[int(digit.label)] >= INK)
        top, left = (seen.min(0) + np.array((4, 4 + 28 * place))) * scale
        bottom, right = (seen.max(0) + 1 + (4, 4 + 28 * place)) * scale
        assert digit.box == pytest.approx((left, top, right, bottom), abs=1.5 * scale)


def test_boxes_of_a_very_large_picture_are_in_its_pixels(model, known):
    small = page(known, "38")
    large = small.resize((small.width * 40, small.height * 40), Image.Resampling.BICUBIC)
    ours, theirs = read_digits(model, large), read_digits(model, small)
    assert ours.text == theirs.text == "38"
    for one, other in zip(ours.digits, theirs.digits, strict=True):
        assert one.box == pytest.approx([40 * end for end in other.box], abs=60)


def test_boxes_of_a_large_array_are_in_its_pixels(model, known):
    array = np.asarray(page(known, "38", scale=40))
    boxes = [
        [digit.box for digit in read_digits(model, it).digits] for it in (array, array[..., None])
    ]
    assert boxes[0] == boxes[1]
    assert boxes[0][1][0] > 1000


def test_boxes_of_a_large_jpeg_file_are_in_its_pixels(model, known, tmp_path):
    large = page(known, "274", scale=30)  # such files may be decoded in a smaller size
    large.save(tmp_path / "large.jpg", quality=90)
    of_file, of_image = (read_digits(model, it) for it in (tmp_path / "large.jpg", large))
    assert of_file.text == of_image.text == "274"
    boxes = [[digit.box for digit in reading.digits] for reading in (of_file, of_image)]
    assert np.abs(np.subtract(*boxes)).max() <= 30  # a pixel of the original digits


@pytest.mark.parametrize("length", [3900, 12000, 30000])
def test_long_strips_keep_their_detail(model, length):
    strip, text = Image.new("L", (length, 60), 255), "4821903756" * 3
    ImageDraw.Draw(strip).text((length - 800, 5), text, fill=0, font=ImageFont.load_default(40))
    file = io.BytesIO()
    strip.save(file, "jpeg", quality=95)
    for picture in (strip, file.getvalue()):
        reading = read_digits(model, picture)
        assert reading.text == text
        assert reading.digits[0].box[0] == pytest.approx(length - 798, abs=4)


def test_tall_strips_keep_their_detail(model):
    strip = Image.new("L", (60, 6000), 255)
    for y in range(20, 5900, 200):
        ImageDraw.Draw(strip).text((18, y), "4", fill=0, font=ImageFont.load_default(40))
    assert read_digits(model, strip, length=1, rows=30).text == "\n".join("4" * 30)


@st.composite
def small_pictures(draw):
    """Blank, noisy and dotted pictures of which one side may be very short."""
    short, long = draw(st.integers(1, 40)), draw(st.integers(1, 3000))
    shape = draw(st.permutations((short, long)))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    share = draw(st.sampled_from((0, 0.02, 0.3, 1)))
    picture = np.where(random.random(shape) < share, random.integers(0, 256, shape), 255)
    return picture.astype(np.uint8)[..., None]


@settings(deadline=None, max_examples=40)
@given(small_pictures(), st.sampled_from(({}, {"length": 2}, {"rows": 2})))
def test_pictures_of_any_shape_are_read_or_refused(model, picture, known_counts):
    try:
        reading = read_digits(model, picture, **known_counts)
    except PictureError:
        return
    assert all(0 <= mark.box[0] < mark.box[2] <= picture.shape[1] for mark in reading.rejected)


def test_more_digits_than_are_looked_at_are_refused(model):
    page = np.full((820, 620), 255, np.uint8)
    page.reshape(41, 20, 31, 20)[1:, 4:16, 1:, 8:12] = 0
    with pytest.raises(PictureError, match="more than 1000"):
        read_digits(model, page)


def test_a_file_is_opened_once(model, known, tmp_path, monkeypatch):
    page(known, "274", scale=30).save(tmp_path / "large.jpg")
    opened, open_image = [], Image.open
    monkeypatch.setattr(
        Image, "open", lambda *args, **kw: opened.append(1) or open_image(*args, **kw)
    )
    found = read_digits(model, tmp_path / "large.jpg")
    assert found.text == "274"
    assert len(opened) == 1
    with (tmp_path / "large.jpg").open("rb") as file:
        assert read_digits(model, file).numbers == found.numbers


def test_probabilities_are_those_of_predict_for_a_digit_alone(model, known):
    for digit, image in known.items():
        (read,) = read_digits(model, image).digits
        alone = predict(model, image)
        assert read.digit == alone.digit == digit
        assert read.probability == pytest.approx(alone.probability, abs=0.05)
        assert len(read.probabilities) == 10
        assert read.top[0] == (read.digit, read.probability)


def test_a_number_s_probability_is_the_product(model, known):
    (number,) = read_digits(model, page(known, "528")).numbers
    assert number.probability == pytest.approx(np.prod([d.probability for d in number.digits]))
    assert number.box[0] == number.digits[0].box[0]
    assert number.box[2] == number.digits[-1].box[2]


def test_an_empty_page_has_no_text(model):
    reading = read_digits(model, np.full((60, 200), 255, np.uint8))
    assert (reading.text, reading.numbers, reading.rejected) == ("", (), ())


def test_a_decimal_point_and_a_minus_sign_are_rejected_marks(model, known):
    picture = page(known, ".31.5")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((12, 17, 24, 19), fill=0)
    pen.ellipse((98, 24, 101, 27), fill=0)
    reading = read_digits(model, picture)
    assert reading.text.replace(" ", "") == "315"
    marks = {mark.why: mark.box for mark in reading.rejected}
    assert marks["minus sign or dash"] == pytest.approx((12, 17, 25, 20), abs=1)
    assert marks["decimal point or comma"] == pytest.approx((98, 24, 102, 28), abs=1)


def test_form_boxes_are_rejected_marks(model, known):
    picture = page(known, "7204", pitch=36)
    pen = ImageDraw.Draw(picture)
    for column in range(4):
        pen.rectangle((2 + 36 * column, 2, 34 + 36 * column, 34), outline=90)
    reading = read_digits(model, picture)
    assert reading.text == "7204"
    assert [mark.why for mark in reading.rejected] == ["box or grid"] * 4


def test_rules_through_the_digits_are_taken_off(model, known):
    picture = page(known, "6952", scale=3)
    pen = ImageDraw.Draw(picture)
    for y in range(10, picture.height, 22):
        pen.line((0, y, picture.width, y), fill=150, width=2)
    assert read_digits(model, picture).text == "6952"


@pytest.mark.parametrize("digit", [5, 4, 1])
def test_strokes_of_one_digit_are_not_parted(model, known, digit):
    """A gap across a digit, such as a 5 whose bar is off its body."""
    image = known[digit].copy()
    image[9] = 0
    picture = page({**known, digit: image}, f"2{digit}7", scale=2)
    assert read_digits(model, picture).text == f"2{digit}7"


def test_length_is_kept(model, known):
    picture = page(known, "21...70")
    assert read_digits(model, picture, length=4).text == "2170"
    for length in (1, 2, 4, 9):
        with pytest.raises(PictureError, match=rf"`length` \(={length}\); row 1"):
            read_digits(model, page(known, "384"), length=length)


@pytest.mark.parametrize("length", [3, 5, 6])
def test_a_row_of_another_length_is_refused(model, length):
    picture = Image.new("L", (200, 100), "white")
    ImageDraw.Draw(picture).text((20, 20), "2048", font=ImageFont.load_default(60))
    with pytest.raises(PictureError, match=rf"`length` \(={length}\); row 1 shows 4"):
        read_digits(model, picture, length=length)


def test_an_empty_page_shows_no_digits_of_any_length(model):
    with pytest.raises(PictureError, match=r"`length` \(=5\); it shows no digits"):
        read_digits(model, np.full((60, 200), 255, np.uint8), length=5)


def test_rows_are_kept(model, known):
    picture = page(known, "21", "70")
    assert read_digits(model, picture, rows=2).text == "21\n70"
    for wrong in (1, 3, 4, 7):
        with pytest.raises(PictureError, match=rf"`rows` \(={wrong}\); it shows 2"):
            read_digits(model, picture, rows=wrong)


def test_errors_name_the_image(model, known, tmp_path):
    picture = page(known, "21", "70")
    picture.save(tmp_path / "page.png")
    with pytest.raises(PictureError, match=r"^the image: `rows`"):
        read_digits(model, picture, rows=3)
    with pytest.raises(PictureError, match=r"^the image '.*page.png': `length` .* row 1 shows 2"):
        read_digits(model, tmp_path / "page.png", length=3)


def test_slanted_rows_keep_their_order(model, known):
    flat = page(known, "20173", "94608", "58213", scale=2)
    for angle in (-4, 4):
        turned = flat.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
        assert read_digits(model, turned).text == "20173\n94608\n58213"


def test_labels_are_the_names_of_the_classes(model, known):
    named = mini_resnet(weights="mnist")
    named.classes = tuple("abcdefghij")
    assert read_digits(named, page(known, "203")).text == "cad"


def test_a_network_of_dark_digits_gets_dark_digits(known):
    class Inverting(torch.nn.Module):
        preprocessing = Preprocessing(mean=0, std=1, dark_on_light=True)
        input_size = (1, 28, 28)

        def __init__(self):
            super().__init__()
            self.inside = mini_resnet(weights="mnist")

        def forward(self, x):
            return self.inside((1 - x - 0.1307) / 0.3081)

    assert read_digits(Inverting(), page(known, "4829")).text == "4829"


def test_images_as_they_are_are_refused():
    with pytest.raises(ValueError, match="redraw=False"):
        read_digits(lenet5(), np.zeros((50, 50)), preprocessing=Preprocessing(redraw=False))


def test_a_session_serves_as_model(known, tmp_path):
    pytest.importorskip("onnxruntime")
    from mnist_zoo.export import export, load_session

    export(mini_resnet(weights="mnist"), tmp_path / "session.onnx")
    assert read_digits(load_session(tmp_path / "session.onnx"), page(known, "8153")).text == "8153"


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [({"length": 0}, "`length`"), ({"rows": -1}, "`rows`"), ({"top": 0}, "`top`")],
)
def test_counts_must_be_positive(model, arguments, rule):
    with pytest.raises(ValueError, match=rule):
        read_digits(model, np.zeros((50, 50)), **arguments)


def test_no_network_is_refused():
    with pytest.raises(TypeError, match="`model`"):
        read_digits("mini_resnet", np.zeros((50, 50)))


@pytest.mark.parametrize(
    ("last", "rule"),
    [(torch.nn.Softmax(1), "leave its softmax out"), (torch.nn.Threshold(99, np.nan), "finite")],
)
def test_a_network_must_give_logits(model, known, last, rule):
    with pytest.raises(ValueError, match=f"`model` .* must give .*{rule}"):
        read_digits(torch.nn.Sequential(model, last), page(known, "35"))


def test_a_network_without_values_is_refused():
    lazy = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10))
    with pytest.raises(ValueError, match="must be initialised"):
        read_digits(lazy, np.zeros((50, 50)))
    with pytest.raises(ValueError, match="on device meta"):
        read_digits(lenet5().to("meta"), np.zeros((50, 50)))


def test_the_preprocessing_must_be_one(model):
    with pytest.raises(TypeError, match="`preprocessing`"):
        read_digits(model, np.zeros((50, 50)), preprocessing="mnist")


@pytest.mark.parametrize("several", [np.zeros((3, 28, 28, 1)), [np.zeros((28, 28))] * 2])
def test_several_pictures_are_refused(model, several):
    with pytest.raises(PictureError, match="one image"):
        read_digits(model, several)


def test_nan_is_refused(model):
    with pytest.raises(PictureError, match="NaN"):
        read_digits(model, np.full((40, 90), np.nan))


def test_the_network_and_the_picture_stay_as_they_were(known):
    model = mini_resnet(weights="mnist").train()
    picture = np.array(page(known, "204"))
    before = picture.copy()
    state = {name: values.clone() for name, values in model.state_dict().items()}
    read_digits(model, picture)
    assert model.training
    assert (picture == before).all()
    assert all((values == state[name]).all() for name, values in model.state_dict().items())


def test_draw_marks_digits_and_marks(model, known):
    picture = page(known, ".31", scale=3)
    ImageDraw.Draw(picture).rectangle((30, 51, 70, 57), fill=0)
    drawn = np.asarray(read_digits(model, picture).draw()).astype(int)
    assert drawn.shape == (picture.height, picture.width, 3)
    red, blue = drawn[..., 0] - drawn[..., 2], drawn[..., 2] - drawn[..., 0]
    assert (red > 100).sum() > 50
    assert (blue > 100).sum() > 200


def test_labels_are_drawn_whole_at_the_top_edge(model, known):
    ink = page(known, "35", scale=3)
    top = ink.point(lambda value: 255 - value).getbbox()[1]
    blue = []
    for picture in (ink, ink.crop((0, top - 2, *ink.size))):
        reading = read_digits(model, picture)
        assert reading.text == "35"
        drawn = np.asarray(reading.draw()).astype(int)
        blue.append((drawn[..., 2] - drawn[..., 0] > 100).sum())
    assert blue[1] == pytest.approx(blue[0], rel=0.1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("pen", [0, 255])
def test_a_transparent_picture_is_drawn_on_paper(model, known, mode, pen):
    ink = page(known, "35", light=True, scale=3)
    picture = Image.new("L", ink.size, pen).convert(mode)
    picture.putalpha(ink)
    reading = read_digits(model, picture)
    assert reading.text == "35"
    drawn = np.asarray(reading.draw().convert("L")).astype(int)
    assert drawn[0, 0] == 255 - pen
    assert (abs(drawn - pen) < 20).sum() > 200


def letters(text):
    picture = Image.new("L", (60 * len(text) + 40, 90), 255)
    for place, letter in enumerate(text):
        at = (20 + 60 * place, 12)
        ImageDraw.Draw(picture).text(at, letter, fill=0, font=ImageFont.load_default(48))
    return picture


def test_what_is_unlike_digits_is_rejected(model):
    page = letters("EHFE")
    reading = read_digits(model, page)
    marks = [mark for mark in reading.rejected if mark.why == "unlike any digit"]
    assert len(marks) >= 2
    assert all(0 <= mark.box[0] < mark.box[2] <= page.width for mark in marks)
    unaware = mini_resnet(weights="mnist")
    unaware.familiarity = None  # such a network cannot tell
    read = read_digits(unaware, page)
    assert len(read.digits) > len(reading.digits)
    assert read.digits[0].familiarity is None
    assert "unlike any digit" not in [mark.why for mark in read.rejected]


def test_a_row_that_is_not_read_keeps_its_place_where_rows_are_counted(model, known):
    picture = Image.new("L", (200, 230), 255)
    for y, row in ((0, page(known, "204", scale=2)), (160, page(known, "137", scale=2))):
        picture.paste(row, (0, y))
    ImageDraw.Draw(picture).text((20, 82), "EE", fill=0, font=ImageFont.load_default(60))
    reading = read_digits(model, picture, rows=3)
    assert reading.text == "204\n\n137"
    assert [len(row) for row in reading.rows] == [1, 0, 1]
    assert read_digits(model, picture).text == "204\n137"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_type_changes_nothing(model, known, dtype):
    usual = read_digits(model, page(known, "2048"))
    torch.set_default_dtype(dtype)
    try:
        again = read_digits(model, page(known, "2048"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert again.digits == usual.digits


def test_digits_know_how_familiar_they_are(model, known):
    assert all(digit.is_digit for digit in read_digits(model, page(known, "2048")).digits)


def test_noise_is_no_digit(model):
    random = np.random.default_rng(0)
    picture = random.normal(200, 6, (120, 300)).clip(0, 255).astype(np.uint8)
    assert read_digits(model, picture).text == ""


def test_more_than_the_mean_of_a_writer_s_digits_is_right_alone(model):
    """One digit alone is a string, too."""
    writer = sample_writers()[0]
    assert isinstance(writer, Writer)
    read = [read_digits(model, image).text for image in writer.images]
    assert np.mean([a == str(b) for a, b in zip(read, writer.labels, strict=True)]) >= 0.96

